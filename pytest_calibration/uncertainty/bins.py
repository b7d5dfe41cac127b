"""Intervals of errors that are sums over bins: ECE, over- and under-confidence, class-wise ECE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from pytest_calibration.metrics.binning import bin_index
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.sample import NORMAL_TAIL, TAIL, Sample
from pytest_calibration.uncertainty.standard_errors import standard_error

# A bin whose total is this many standard errors below 0 is not over-confident, and vice versa.
CLEAR: Final = 2.0
# Rounding error of a total that is 0, which depends on the order of the items.
ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class BinTotals:
    """The total gap of each bin with its variance, over groups where there are any.

    Attributes:
        gap: (n,) confidence minus correct.
        correct: (n,) whether the event happened.
        index: (n,) bin of each item.
        clusters: (n,) group codes from 0, or None.
    """

    gap: FloatArray
    correct: BoolArray
    index: IntArray
    clusters: IntArray | None

    @cached_property
    def size(self) -> int:
        """Number of bins, up to the last that holds an item."""
        return int(self.index.max()) + 1

    @cached_property
    def count(self) -> IntArray:
        """(b,) number of items."""
        return np.bincount(self.index, minlength=self.size)

    def _sum(self, values: FloatArray) -> FloatArray:
        return np.bincount(self.index, weights=values, minlength=self.size).astype(np.float64)

    @cached_property
    def right(self) -> FloatArray:
        """(b,) number of items for which the event happened."""
        return self._sum(self.correct.astype(np.float64))

    @cached_property
    def total(self) -> FloatArray:
        """(b,) Σ gap."""
        return self._sum(self.gap)

    @cached_property
    def residual(self) -> FloatArray:
        """(n,) gap minus the mean gap of its bin."""
        mean = self.total / np.maximum(self.count, 1)
        return np.asarray(self.gap - mean[self.index])

    @cached_property
    def unit_totals(self) -> FloatArray | None:
        """(groups, b) Σ residual of each group in each bin, or None without groups."""
        if self.clusters is None:
            return None
        cells = (int(self.clusters.max()) + 1) * self.size
        cell = self.clusters * self.size + self.index
        sums = np.bincount(cell, weights=self.residual, minlength=cells)
        return sums.reshape(-1, self.size).astype(np.float64)

    @cached_property
    def units(self) -> IntArray:
        """(b,) number of independent units with an item in the bin."""
        if self.clusters is None:
            return self.count
        cells = (int(self.clusters.max()) + 1) * self.size
        cell = self.clusters * self.size + self.index
        has_items = np.bincount(cell, minlength=cells).reshape(-1, self.size) > 0
        return np.asarray(has_items.sum(axis=0), dtype=np.int64)

    @cached_property
    def seen_variance(self) -> FloatArray:
        """(b,) unbiased variance of Σ gap from the residuals.

        A bin of one unit has no residual; its squared total is used instead.
        """
        if self.unit_totals is None:
            squares = self._sum(self.residual**2)
        else:
            squares = (self.unit_totals**2).sum(axis=0)
        unbiased = squares * self.units / np.maximum(self.units - 1, 1)
        return np.where(self.units == 1, self.total**2, unbiased)

    @cached_property
    def variance(self) -> FloatArray:
        """(b,) variance of Σ gap.

        Where all answers of a bin agree, the residuals underestimate it: the other answer may have
        as large a share as this many units can miss (the rule of three).
        """
        agree = (self.right == 0) | (self.right == self.count)
        unseen = 1 - TAIL ** (1 / np.maximum(self.units, 1))
        room = (self.count * unseen / NORMAL_TAIL) ** 2
        return np.where(agree, np.maximum(self.seen_variance, room), self.seen_variance)

    @cached_property
    def sign(self) -> FloatArray:
        """(b,) 1 or −1. A bin with total 0 is as uncertain as others: it gets a sign too."""
        return np.where(self.total < -ROUNDING, -1.0, 1.0)

    @property
    def plug_in(self) -> float:
        """Σ_b |Σ gap| / n."""
        return float(np.abs(self.total).sum()) / len(self.gap)

    @property
    def debiased(self) -> float:
        """Cross-fitted Σ_b |Σ gap| / n: without the bias from noise."""
        return float(debiased_size(self.total, np.sqrt(self.variance)).sum()) / len(self.gap)

    @property
    def room(self) -> FloatArray:
        """(b,) variance beyond that of the residuals."""
        return np.maximum(self.variance - self.seen_variance, 0.0)

    def error(self, weight: FloatArray) -> float:
        """Standard error of Σ_b weight·Σ gap / n for a (b,) weight."""
        seen = standard_error(weight[self.index] * self.gap, self.clusters)
        return math.sqrt(seen**2 + float(weight**2 @ self.room) / len(self.gap) ** 2)


# Many metrics read the same totals.
_TOTALS: WeakKeyDictionary[Sample, BinTotals] = WeakKeyDictionary()


def totals_of(sample: Sample) -> BinTotals:
    """Sum the gaps of the predictions in their bins."""
    if sample not in _TOTALS:
        p = sample.predictions
        _TOTALS[sample] = BinTotals(p.gap, p.correct, sample.index, sample.clusters)
    return _TOTALS[sample]


def ece_interval(sample: Sample) -> Ends:
    """From the cross-fitted ECE − z standard errors to the plug-in ECE + z standard errors.

    Near calibration the plug-in ECE is too high, so a lower end computed from it would exclude the
    truth; a little further away the cross-fitted one is too low. The standard error is that of the
    mean of sign(bin)·gap.
    """
    totals = totals_of(sample)
    margin = sample.z * totals.error(totals.sign)
    return totals.debiased - margin, totals.plug_in + margin


def one_sided_interval(sample: Sample, side: float) -> Ends:
    """Ends of Σ_b max(0, side·Σ gap) / n = (ECE + side · signed gap) / 2.

    The lower end uses the cross-fitted ECE, the upper one the plug-in ECE. The true sign of a bin
    with a total near 0 is unknown, so the standard error of the upper end is that of all bins that
    are not clearly on the other side.

    Args:
        sample: the predictions.
        side: 1 for over-confidence, −1 for under-confidence.
    """
    totals = totals_of(sample)
    own = side * totals.total
    gap = float(own.sum()) / len(totals.gap)
    value = (totals.plug_in + gap) / 2
    on_side = np.where(own > ROUNDING, 1.0, 0.0)
    low = (totals.debiased + gap) / 2 - sample.z * totals.error(on_side)
    maybe = np.where(own > -CLEAR * np.sqrt(totals.variance), 1.0, 0.0)
    margin = sample.z * totals.error(maybe)
    return low, value + max(margin, sample.unseen * (1 - value))


def classwise_interval(sample: Sample) -> Ends:
    """As :func:`ece_interval`; the terms of an item are summed over its k options first."""
    p = sample.predictions
    table, labels = probabilities_of(p, "classwise_ece"), labels_of(p, "classwise_ece")
    options = table.shape[1]
    influence = np.zeros(p.n)
    debiased = plug_in = room = 0.0
    for option in range(options):
        confidence = np.ascontiguousarray(table[:, option])
        correct = labels == option
        index = bin_index(confidence, sample.bins)
        totals = BinTotals(confidence - correct, correct, index, sample.clusters)
        influence += totals.sign[index] * totals.gap
        debiased += totals.debiased
        plug_in += totals.plug_in
        # Unseen outcomes of different options may be fully dependent: standard errors add up.
        room += math.sqrt(float(totals.room.sum())) / p.n
    error = math.hypot(standard_error(influence, sample.clusters), room)
    margin = sample.z * error
    return (debiased - margin) / options, (plug_in + margin) / options
