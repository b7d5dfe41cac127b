"""Intervals of the errors that add up over bins: ECE, its parts, its mean over the options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import bin_index
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray
from pytest_calibration.uncertainty.evidence import NORMAL_TAIL, TAIL, Evidence
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.standard_errors import standard_error

# A bin so many standard errors to one side of 0 has no part in the error of the other side.
CLEAR: Final = 2.0
# The total of a bin in balance may come out as this much, by the order of its items.
ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class BinTotals:
    """The total gap of each bin and how uncertain it is, over groups where there are any.

    Attributes:
        gap: (n,) confidence minus correct.
        correct: (n,) whether the event came about.
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
        """(b,) number of items for which the event came about."""
        return self._sum(self.correct.astype(np.float64))

    @cached_property
    def total(self) -> FloatArray:
        """(b,) Σ gap."""
        return self._sum(self.gap)

    @cached_property
    def residual(self) -> FloatArray:
        """(n,) gap less the mean gap of its bin."""
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
        held = np.bincount(cell, minlength=cells).reshape(-1, self.size) > 0
        return np.asarray(held.sum(axis=0), dtype=np.int64)

    @cached_property
    def seen_variance(self) -> FloatArray:
        """(b,) variance of Σ gap, unbiased, as the residuals show it.

        A bin of one unit shows none; the square of its total stands for it.
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

        Where all answers of a bin agree, the residuals say too little: the share of other answers
        may be as large as what goes unseen in so many units (the rule of three).
        """
        agree = (self.right == 0) | (self.right == self.count)
        unseen = 1 - TAIL ** (1 / np.maximum(self.units, 1))
        room = (self.count * unseen / NORMAL_TAIL) ** 2
        return np.where(agree, np.maximum(self.seen_variance, room), self.seen_variance)

    @cached_property
    def sign(self) -> FloatArray:
        """(b,) 1 or -1. A bin in balance is as uncertain as its neighbours: it takes a sign too."""
        return np.where(self.total < -ROUNDING, -1.0, 1.0)

    @property
    def plug_in(self) -> float:
        """Σ_b |Σ gap| / n."""
        return float(np.abs(self.total).sum()) / len(self.gap)

    @property
    def debiased(self) -> float:
        """The same, cross-fitted."""
        return float(debiased_size(self.total, np.sqrt(self.variance)).sum()) / len(self.gap)

    @property
    def room(self) -> FloatArray:
        """(b,) what the variance holds beyond the residuals."""
        return np.maximum(self.variance - self.seen_variance, 0.0)

    def error(self, weight: FloatArray) -> float:
        """Standard error of Σ_b weight·Σ gap / n for a (b,) weight."""
        seen = standard_error(weight[self.index] * self.gap, self.clusters)
        return math.sqrt(seen**2 + float(weight**2 @ self.room) / len(self.gap) ** 2)


def totals_of(evidence: Evidence) -> BinTotals:
    """Sum the gaps of the predictions in their bins."""
    p = evidence.predictions
    return BinTotals(p.gap, p.correct, evidence.index, evidence.clusters)


def ece_interval(evidence: Evidence) -> Ends:
    """From the cross-fitted ECE − z standard errors to the plug-in ECE + z standard errors.

    The plug-in ECE is too high near calibration, so that its own lower end would exclude the truth;
    the cross-fitted one is too low a little further away. The error is that of the mean of
    sign(bin)·gap.
    """
    totals = totals_of(evidence)
    margin = evidence.z * totals.error(totals.sign)
    return totals.debiased - margin, totals.plug_in + margin


def overconfidence_interval(evidence: Evidence) -> Ends:
    """Ends of the share of ECE from bins that are too sure."""
    return _one_sided(evidence, 1.0)


def underconfidence_interval(evidence: Evidence) -> Ends:
    """Ends of the share of ECE from bins that are not sure enough."""
    return _one_sided(evidence, -1.0)


def _one_sided(evidence: Evidence, side: float) -> Ends:
    """Ends of Σ_b max(0, side·Σ gap) / n, half of ECE and side times the signed gap.

    The lower end takes the cross-fitted ECE, the upper one the plug-in ECE. On which side a bin
    near balance truly lies is unknown, so the error of the upper end is that of all bins that are
    not clearly on the other side.
    """
    totals = totals_of(evidence)
    own = side * totals.total
    gap = float(own.sum()) / len(totals.gap)
    value = (totals.plug_in + gap) / 2
    on_side = np.where(own > ROUNDING, 1.0, 0.0)
    low = (totals.debiased + gap) / 2 - evidence.z * totals.error(on_side)
    maybe = np.where(own > -CLEAR * np.sqrt(totals.variance), 1.0, 0.0)
    margin = evidence.z * totals.error(maybe)
    return low, value + max(margin, evidence.unseen * (1 - value))


def classwise_interval(evidence: Evidence) -> Ends:
    """The interval of ECE, with what an item adds over all k options summed before its error."""
    p = evidence.predictions
    table, labels = probabilities_of(p, "classwise_ece"), labels_of(p, "classwise_ece")
    options = table.shape[1]
    influence = np.zeros(p.n)
    debiased = plug_in = room = 0.0
    for option in range(options):
        confidence = np.ascontiguousarray(table[:, option])
        correct = labels == option
        index = bin_index(confidence, evidence.bins)
        totals = BinTotals(confidence - correct, correct, index, evidence.clusters)
        influence += totals.sign[index] * totals.gap
        debiased += totals.debiased
        plug_in += totals.plug_in
        # What is not seen of one option may hang together with what is not seen of another.
        room += math.sqrt(float(totals.room.sum())) / p.n
    error = math.hypot(standard_error(influence, evidence.clusters), room)
    margin = evidence.z * error
    return (debiased - margin) / options, (plug_in + margin) / options
