"""The bin of each confidence, and the sums per bin from which every binned metric is computed.

The binning is part of the number. Equal-width bins are ``(a, b]`` with 0 in the first bin and 1 in
the last. Edges are snapped by 1e-6: a confidence printed as 0.3 lies in the bin that ends at 0.3,
as float32 and as float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    PredictionsLike,
    as_predictions,
)

Strategy: TypeAlias = Literal["equal_width", "equal_mass"]

DEFAULT_BINS: Final = 15
# More bins than this are a mistake, and would fill the memory.
MOST_BINS: Final = 2**25
EDGE_SNAP: Final = 1e-6
# Spacing of float32 below 1: storing a confidence as float32 moves it by half of this at most.
FLOAT32_STEP: Final = 2.0**-24
# Items summed at a time: 256 KiB of float64, which stays in the processor's cache.
BLOCK: Final = 32768


@dataclass(frozen=True)
class BinTable:
    """Sums per bin, from which every binned metric can be computed. Empty bins are kept.

    Attributes:
        strategy: ``equal_width`` or ``equal_mass``.
        lower: (b,) left edges, open (the first bin holds 0).
        upper: (b,) right edges, closed.
        count: (b,) number of items.
        sum_confidence: (b,) total confidence.
        sum_correct: (b,) number of correct answers.
        sum_squared_gap: (b,) total of (confidence − correct)².
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

    Equal-mass edges are the quantiles at 1/b … (b-1)/b of the confidences (linear interpolation, as
    in ``numpy.quantile``) without repetitions, so there may be fewer than b bins.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    if strategy == "equal_width":
        return np.arange(bins + 1, dtype=np.float64) / bins
    return _mass_edges(np.sort(confidence), bins)


def _mass_edges(ordered: FloatArray, bins: int) -> FloatArray:
    """Edges at the quantiles of sorted confidences, bit for bit those of ``numpy.quantile``."""
    position = np.arange(1, bins) / bins * (len(ordered) - 1)
    below = position.astype(np.int64)
    step = position - below
    left, right = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)]
    near = np.where(step < 0.5, left + (right - left) * step, right - (right - left) * (1 - step))
    inner = np.unique(near)
    inner = inner[inner < 1]  # an edge at 1 would only add an empty bin
    return np.concatenate([[0.0], inner, [1.0]])


def bin_index(confidence: FloatArray, bins: int, strategy: Strategy = "equal_width") -> IntArray:
    """Return the bin of each confidence in [0, 1], counted from 0.

    Equal values share a bin: the result does not depend on the order of the items.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    if strategy == "equal_width":
        # The snap moves a value on an edge below it, so that truncation closes bins on the right;
        # 0 is snapped to just below 0, which truncation puts in the first bin.
        scaled = confidence * bins
        scaled -= min(max(EDGE_SNAP, bins * FLOAT32_STEP), 0.5)
        return scaled.astype(np.int64)
    inner = bin_edges(confidence, bins, strategy)[1:-1]
    return np.searchsorted(inner, confidence, side="left").astype(np.int64)


Sum: TypeAlias = Literal["count", "correct", "gap", "squared_gap"]
ALL_SUMS: Final[tuple[Sum, ...]] = ("count", "correct", "gap", "squared_gap")


@dataclass(frozen=True)
class BinSums:
    """Sums over the items of each bin; only the requested ones are there.

    Attributes:
        edges: (b + 1,) edges of the bins.
        n: number of items.
        totals: (b,) number of items (``count``) and of correct answers (``correct``), total of
            confidence − correct (``gap``) and of its square (``squared_gap``).
    """

    edges: FloatArray
    n: int
    totals: Mapping[Sum, FloatArray]

    def __getitem__(self, name: Sum) -> FloatArray:
        """(b,) sum of this name."""
        return self.totals[name]

    @property
    def mean_gap(self) -> FloatArray:
        """(b,) mean confidence minus accuracy; 0 in an empty bin; needs count and gap."""
        return np.asarray(self["gap"] / np.maximum(self["count"], 1))


_WEIGHTS: Final[dict[Sum, Callable[[FloatArray, BoolArray], FloatArray | None]]] = {
    "count": lambda *_: None,
    "correct": lambda _, correct: correct.astype(np.float64),
    "gap": lambda confidence, correct: confidence - correct,
    "squared_gap": lambda confidence, correct: (confidence - correct) ** 2,
}


def _by_width(
    confidence: FloatArray, correct: BoolArray, bins: int, read: tuple[Sum, ...]
) -> BinSums:
    """Sum over equal-width bins, block by block, which takes little memory."""
    totals = {name: np.zeros(bins) for name in read}
    for start in range(0, len(confidence), BLOCK):
        block = confidence[start : start + BLOCK], correct[start : start + BLOCK]
        index = bin_index(block[0], bins)
        for name in read:
            weights = _WEIGHTS[name](*block)
            totals[name] += np.bincount(index, weights=weights, minlength=bins)
    return BinSums(bin_edges(confidence, bins, "equal_width"), len(confidence), totals)


def _by_mass(
    confidence: FloatArray, correct: BoolArray, bins: int, read: tuple[Sum, ...]
) -> BinSums:
    """Sum over equal-mass bins: each is one range of the sorted confidences."""
    ordered, right = np.sort(confidence), np.sort(confidence[correct])
    edges = _mass_edges(ordered, bins)
    ends = np.searchsorted(ordered, edges[1:], side="right")
    right_ends = np.searchsorted(right, edges[1:], side="right")
    hits = np.diff(right_ends, prepend=0).astype(np.float64)
    totals: dict[Sum, FloatArray] = {
        "count": np.diff(ends, prepend=0).astype(np.float64),
        "correct": hits,
    }
    if "gap" in read:
        totals["gap"] = _range_sums(ordered, ends) - hits
    if "squared_gap" in read:
        # Right answers add (c − 1)² instead of c².
        wrong = _range_sums(ordered**2, ends)
        totals["squared_gap"] = wrong + _range_sums(1 - 2 * right, right_ends)
    return BinSums(edges, len(confidence), totals)


def _range_sums(values: FloatArray, ends: IntArray) -> FloatArray:
    """Sum the values between consecutive ends; 0 where there are none."""
    starts = np.concatenate([[0], ends[:-1]])
    full = ends > starts
    out = np.zeros(len(ends))
    if full.any():
        out[full] = np.add.reduceat(values, starts[full])
    return out


def bin_sums(predictions: PredictionsLike, bins: int, strategy: Strategy, *read: Sum) -> BinSums:
    """Return the requested sums over the items of each bin.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    predictions = as_predictions(predictions)
    return bin_sums_of_pairs(predictions.confidence, predictions.correct, bins, strategy, *read)


def bin_sums_of_pairs(
    confidence: FloatArray, correct: BoolArray, bins: int, strategy: Strategy, *read: Sum
) -> BinSums:
    """Return the sums over pairs of a probability (n,) and whether the event happened (n,).

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    by = _by_width if strategy == "equal_width" else _by_mass
    return by(confidence, correct, bins, read)


def bin_table(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> BinTable:
    """Return the reliability diagram as sums: confidence and correctness per bin.

    Args:
        predictions: n items, or a pair (probabilities, labels).
        bins: number of bins, at least 1.
        strategy: ``equal_width`` over [0, 1], or ``equal_mass`` over the quantiles.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, *ALL_SUMS)
    return BinTable(
        strategy=strategy,
        lower=sums.edges[:-1],
        upper=sums.edges[1:],
        count=sums["count"].astype(np.int64),
        sum_confidence=sums["gap"] + sums["correct"],
        sum_correct=sums["correct"],
        sum_squared_gap=sums["squared_gap"],
    )


def _check_binning(bins: int, strategy: Strategy) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer):
        raise MetricError(f"bins must be a whole number, got {bins!r}.")
    if bins < 1:
        raise MetricError(f"bins must be at least 1, got {bins}.")
    if bins > MOST_BINS:
        raise MetricError(f"bins must be at most {MOST_BINS:,}, got {bins}.")
    if strategy not in ("equal_width", "equal_mass"):
        raise MetricError(
            f"unknown binning strategy {strategy!r}; use 'equal_width' or 'equal_mass'."
        )
