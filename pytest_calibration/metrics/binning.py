"""Which bin a confidence lies in, and the sums per bin that every binned metric derives from.

Binning is part of the number. The equal-width rule is ``(a, b]`` with 0 in the first bin and 1 in
the last, and edges snapped by 1e-6, so that a confidence printed as 0.3 lies in the bin that ends
at 0.3 whether it came as float32 or float64.
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
# More than this many are a slip of the pen, and would fill the memory.
MOST_BINS: Final = 2**25
EDGE_SNAP: Final = 1e-6
# Half the spacing of float32 below 1, doubled: what storing a confidence can move it by.
FLOAT32_STEP: Final = 2.0**-24
# Items that are summed at a time: 256 KiB of float64.
BLOCK: Final = 32768


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

    Equal values always share a bin, so the result does not depend on the order of the items.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    if strategy == "equal_width":
        # Truncation is the right-closed rule, since the snap moves what lies on an edge below it;
        # and it leaves 0, which is snapped below 0, in the first bin.
        scaled = confidence * bins
        scaled -= min(max(EDGE_SNAP, bins * FLOAT32_STEP), 0.5)
        return scaled.astype(np.int64)
    inner = bin_edges(confidence, bins, strategy)[1:-1]
    return np.searchsorted(inner, confidence, side="left").astype(np.int64)


Sum: TypeAlias = Literal["count", "correct", "gap", "squared_gap"]
ALL_SUMS: Final[tuple[Sum, ...]] = ("count", "correct", "gap", "squared_gap")


@dataclass(frozen=True)
class BinSums:
    """Sums over the items of each bin. Only those that were asked for are there.

    Attributes:
        edges: (b + 1,) edges of the bins.
        n: number of items.
        totals: (b,) sums by name.
    """

    edges: FloatArray
    n: int
    totals: Mapping[Sum, FloatArray]

    @property
    def count(self) -> FloatArray:
        """(b,) number of items."""
        return self.totals["count"]

    @property
    def correct(self) -> FloatArray:
        """(b,) number of correct answers."""
        return self.totals["correct"]

    @property
    def gap(self) -> FloatArray:
        """(b,) total of confidence minus correct."""
        return self.totals["gap"]

    @property
    def squared_gap(self) -> FloatArray:
        """(b,) total of (confidence - correct)²."""
        return self.totals["squared_gap"]

    @property
    def mean_gap(self) -> FloatArray:
        """(b,) mean confidence minus accuracy; 0 in an empty bin. Reads count and gap."""
        return np.asarray(self.gap / np.maximum(self.count, 1))


_WEIGHTS: Final[dict[Sum, Callable[[FloatArray, BoolArray], FloatArray | None]]] = {
    "count": lambda *_: None,
    "correct": lambda _, correct: correct.astype(np.float64),
    "gap": lambda confidence, correct: confidence - correct,
    "squared_gap": lambda confidence, correct: (confidence - correct) ** 2,
}


def _by_width(
    confidence: FloatArray, correct: BoolArray, bins: int, read: tuple[Sum, ...]
) -> BinSums:
    """Count each item into its bin, block by block.

    What a block computes on the way stays in the processor's cache, and takes no memory to speak
    of.
    """
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
    """Cut the sorted confidences at the edges: each bin is one stretch."""
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
        totals["gap"] = _stretches(ordered, ends) - hits
    if "squared_gap" in read:
        # A right answer counts (c - 1)² instead of c².
        wrong = _stretches(ordered**2, ends)
        totals["squared_gap"] = wrong + _stretches(1 - 2 * right, right_ends)
    return BinSums(edges, len(confidence), totals)


def _stretches(values: FloatArray, ends: IntArray) -> FloatArray:
    """Sum the values up to each end from the end before; 0 where there are none."""
    starts = np.concatenate([[0], ends[:-1]])
    full = ends > starts
    out = np.zeros(len(ends))
    if full.any():
        out[full] = np.add.reduceat(values, starts[full])
    return out


def bin_sums(predictions: PredictionsLike, bins: int, strategy: Strategy, *read: Sum) -> BinSums:
    """Sum over the items of each bin what is to be read of them.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    predictions = as_predictions(predictions)
    return bin_sums_of_pairs(predictions.confidence, predictions.correct, bins, strategy, *read)


def bin_sums_of_pairs(
    confidence: FloatArray, correct: BoolArray, bins: int, strategy: Strategy, *read: Sum
) -> BinSums:
    """Sum over pairs: (n,) values in [0, 1], and whether the event came about.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    _check_binning(bins, strategy)
    by = _by_width if strategy == "equal_width" else _by_mass
    return by(confidence, correct, bins, read)


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
    sums = bin_sums(predictions, bins, strategy, *ALL_SUMS)
    return BinTable(
        strategy=strategy,
        lower=sums.edges[:-1],
        upper=sums.edges[1:],
        count=sums.count.astype(np.int64),
        sum_confidence=sums.gap + sums.correct,
        sum_correct=sums.correct,
        sum_squared_gap=sums.squared_gap,
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
