"""Calibration metrics: predictions in, a float or a bin table out, nothing else.

A pair (probabilities, labels) counts as predictions, as it does for the assertions.

Binning is part of the number. The equal-width rule is ``(a, b]`` with 0 in the first bin and 1 in
the last, and edges snapped by 1e-6, so that a confidence printed as 0.3 lies in the bin that ends
at 0.3 whether it came as float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import (
    FloatArray,
    IntArray,
    PredictionsLike,
    as_predictions,
)

Strategy: TypeAlias = Literal["equal_width", "equal_mass"]

DEFAULT_BINS: Final = 15
EDGE_SNAP: Final = 1e-6
# Half the spacing of float32 below 1, doubled: what storing a confidence can move it by.
FLOAT32_STEP: Final = 2.0**-24


@dataclass(frozen=True)
class BinTable:
    """Per-bin sums, from which every binned metric derives. Empty bins are kept.

    Attributes:
        strategy: ``equal_width`` or ``equal_mass``.
        lower: (b,) left edges, open (the first bin holds 0).
        upper: (b,) right edges, closed.
        count: (b,) number of items.
        sum_confidence: (b,) total confidence.
        sum_correct: (b,) number of correct answers.
        sum_squared_gap: (b,) total of (confidence - correct)².
    """

    strategy: Strategy
    lower: FloatArray
    upper: FloatArray
    count: IntArray
    sum_confidence: FloatArray
    sum_correct: FloatArray
    sum_squared_gap: FloatArray

    def __len__(self) -> int:
        return len(self.count)

    @property
    def n(self) -> int:
        """Number of items in all bins."""
        return int(self.count.sum())

    @property
    def confidence(self) -> FloatArray:
        """(b,) mean confidence; NaN in an empty bin."""
        return _ratio(self.sum_confidence, self.count)

    @property
    def accuracy(self) -> FloatArray:
        """(b,) share of correct answers; NaN in an empty bin."""
        return _ratio(self.sum_correct, self.count)

    @property
    def gap(self) -> FloatArray:
        """(b,) mean confidence minus accuracy; 0 in an empty bin."""
        return np.nan_to_num(_ratio(self.sum_confidence - self.sum_correct, self.count))


def _ratio(total: FloatArray, count: IntArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count, dtype=np.float64)


def bin_edges(confidence: FloatArray, bins: int, strategy: Strategy) -> FloatArray:
    """Return the edges of the bins, from 0 to 1.

    Equal mass takes the quantiles at 1/b … (b-1)/b of the confidences (linear interpolation, as
    ``numpy.quantile``) and drops repeated ones, so there may be fewer than b bins.
    """
    if strategy == "equal_width":
        return np.arange(bins + 1, dtype=np.float64) / bins
    inner = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
    inner = inner[inner < 1]  # an edge at 1 would only add an empty bin
    return np.concatenate([[0.0], inner, [1.0]])


def bin_index(confidence: FloatArray, bins: int, strategy: Strategy = "equal_width") -> IntArray:
    """Return the bin of each confidence, counted from 0.

    Equal values always share a bin, so the result does not depend on the order of the items.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    if strategy == "equal_width":
        snap = max(EDGE_SNAP, bins * FLOAT32_STEP)
        index = np.ceil(confidence * bins - snap).astype(np.int64) - 1
        return np.clip(index, 0, bins - 1)
    inner = bin_edges(confidence, bins, strategy)[1:-1]
    return np.searchsorted(inner, confidence, side="left").astype(np.int64)


def bin_table(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> BinTable:
    """Sum confidence and correctness per bin.

    Args:
        predictions: n items, or a pair (probabilities, labels).
        bins: number of bins, at least 1.
        strategy: ``equal_width`` over [0, 1], or ``equal_mass`` over the quantiles.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    predictions = as_predictions(predictions)
    index = bin_index(predictions.confidence, bins, strategy)
    edges = bin_edges(predictions.confidence, bins, strategy)
    size = len(edges) - 1
    gap = predictions.gap

    def total(weights: FloatArray) -> FloatArray:
        return np.bincount(index, weights=weights, minlength=size).astype(np.float64)

    return BinTable(
        strategy=strategy,
        lower=edges[:-1],
        upper=edges[1:],
        count=np.bincount(index, minlength=size).astype(np.int64),
        sum_confidence=total(predictions.confidence),
        sum_correct=total(predictions.correct.astype(np.float64)),
        sum_squared_gap=total(gap * gap),
    )


def ece(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Expected calibration error: Σ_b (n_b / n) · |acc_b − conf_b|, in [0, 1].

    Source: Naeini et al. 2015; Guo et al. 2017. Empty bins count nothing.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    table = bin_table(predictions, bins, strategy)
    return float(np.abs(table.sum_confidence - table.sum_correct).sum() / table.n)


def equal_mass_ece(predictions: PredictionsLike, bins: int = DEFAULT_BINS) -> float:
    """ECE over quantile bins, also called adaptive ECE (Nguyen & O'Connor 2015). In [0, 1]."""
    return ece(predictions, bins, "equal_mass")


def mce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Maximum calibration error: max_b |acc_b − conf_b| over the non-empty bins, in [0, 1]."""
    return float(np.abs(bin_table(predictions, bins, strategy).gap).max())


def accuracy(predictions: PredictionsLike) -> float:
    """Share of correct answers, in [0, 1]."""
    return float(as_predictions(predictions).correct.mean())


def mean_confidence(predictions: PredictionsLike) -> float:
    """Mean confidence, in [0, 1]."""
    return float(as_predictions(predictions).confidence.mean())


def signed_gap(predictions: PredictionsLike) -> float:
    """Mean confidence minus accuracy, in [-1, 1]; positive means over-confident."""
    return float(as_predictions(predictions).gap.mean())


def brier(predictions: PredictionsLike) -> float:
    """Top-label Brier score: mean of (confidence − correct)², in [0, 1] (Brier 1950)."""
    return float(np.mean(as_predictions(predictions).gap ** 2))


def nll(predictions: PredictionsLike) -> float:
    """Negative log-likelihood of the right answer: mean of −log P(label), in nats, ≥ 0.

    Raises:
        MetricError: the predictions carry no probability of the right answer (confidence and
            correctness alone do not determine it).
    """
    predictions = as_predictions(predictions)
    if predictions.label_logprobs is None:
        raise MetricError(
            f"nll needs the probability of the right answer, and the predictions of probe "
            f"{predictions.probe!r} carry confidence and correctness only; use brier instead."
        )
    return float(-predictions.label_logprobs.mean())


Metric: TypeAlias = Callable[[PredictionsLike], float]

METRICS: Final[dict[str, Metric]] = {
    "ece": ece,
    "equal_mass_ece": equal_mass_ece,
    "mce": mce,
    "brier": brier,
    "nll": nll,
    "accuracy": accuracy,
    "mean_confidence": mean_confidence,
    "signed_gap": signed_gap,
}


def metric_named(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        MetricError: an unknown name; the message suggests the nearest one and lists all.
    """
    try:
        return METRICS[name]
    except KeyError:
        near = get_close_matches(name, METRICS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(METRICS)
        raise MetricError(f"unknown metric {name!r}{hint}; known metrics: {known}.") from None


def _check_binning(bins: int, strategy: Strategy) -> None:
    if bins < 1:
        raise MetricError(f"bins must be at least 1, got {bins}.")
    if strategy not in ("equal_width", "equal_mass"):
        raise MetricError(
            f"unknown binning strategy {strategy!r}; use 'equal_width' or 'equal_mass'."
        )
