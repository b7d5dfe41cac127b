"""Intervals of the errors that add up over bins: ECE, its parts, its mean over the options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_calibration.metrics.binning import bin_index
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray
from pytest_calibration.uncertainty.cross_fitting import debiased_size
from pytest_calibration.uncertainty.evidence import NORMAL_TAIL, TAIL, Evidence
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.standard_errors import standard_error


@dataclass(frozen=True)
class BinTotals:
    """Σ gap of each bin and how uncertain it is, over groups where there are any.

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

    @cached_property
    def total(self) -> FloatArray:
        """(b,) Σ gap."""
        return np.bincount(self.index, weights=self.gap, minlength=self.size)

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
        return sums.reshape(-1, self.size)

    @cached_property
    def units(self) -> IntArray:
        """(b,) number of independent units in each bin."""
        if self.clusters is None:
            return self.count
        present = np.unique(self.clusters * self.size + self.index) % self.size
        return np.bincount(present, minlength=self.size)

    @cached_property
    def seen_variance(self) -> FloatArray:
        """(b,) variance of Σ gap as the residuals show it, unbiased.

        A bin of one unit shows none; the square of its total stands for it.
        """
        if self.unit_totals is None:
            squares = np.bincount(self.index, weights=self.residual**2, minlength=self.size)
        else:
            squares = (self.unit_totals**2).sum(axis=0)
        seen = squares * self.units / np.maximum(self.units - 1, 1)
        return np.where(self.units == 1, self.total**2, seen)

    @cached_property
    def variance(self) -> FloatArray:
        """(b,) variance of Σ gap.

        Where all answers of a bin agree, the residuals say too little: the share of other answers
        may be up to 1 − 0.025^(1/units), about 3.7/units (the rule of three).
        """
        right = np.bincount(self.index, weights=self.correct, minlength=self.size)
        agree = (self.count > 0) & ((right == 0) | (right == self.count))
        room = self.count * (1 - TAIL ** (1 / np.maximum(self.units, 1))) / NORMAL_TAIL
        return np.where(agree, np.maximum(self.seen_variance, room**2), self.seen_variance)

    @cached_property
    def sign(self) -> FloatArray:
        """(b,) 1 or -1. A bin in balance is as uncertain as its neighbours: it takes a sign too."""
        return np.where(self.total < 0, -1.0, 1.0)

    def error(self, weight: FloatArray) -> float:
        """Standard error of Σ_b weight_b·Σ gap / n."""
        n = len(self.gap)
        seen = standard_error(weight[self.index] * self.gap, self.clusters)
        extra = float(weight**2 @ np.maximum(self.variance - self.seen_variance, 0)) / n**2
        return math.sqrt(seen**2 + extra)

    @property
    def plug_in(self) -> float:
        """ECE."""
        return float(np.abs(self.total).sum()) / len(self.gap)

    @property
    def debiased(self) -> float:
        """Cross-fitted ECE."""
        return float(debiased_size(self.total, np.sqrt(self.variance)).sum()) / len(self.gap)


def totals_of(evidence: Evidence) -> BinTotals:
    """Sum the gaps of the predictions in their bins."""
    p = evidence.predictions
    return BinTotals(p.gap, p.correct, evidence.index, evidence.clusters)


def ece_interval(evidence: Evidence) -> Ends:
    """From the cross-fitted ECE − z·SE to the plug-in ECE + z·SE.

    The plug-in ECE is too high near calibration, so its own lower end would exclude the truth; the
    cross-fitted one may be too low elsewhere. SE is that of the mean of sign(bin)·gap.
    """
    if evidence.units < 2:
        return 0.0, 1.0
    totals = totals_of(evidence)
    margin = evidence.z * totals.error(totals.sign)
    return max(0.0, totals.debiased - margin), min(1.0, totals.plug_in + margin)


# A bin this many standard errors on one side of 0 has no part in the error of the other side.
CLEAR: float = 2.0


def overconfidence_interval(evidence: Evidence, side: float = 1.0) -> Ends:
    """Ends of Σ_b max(0, side·Σ gap) / n, with side 1 for over- and -1 for underconfidence.

    It is half of ECE plus (minus) the signed gap: the lower end takes the cross-fitted ECE, the
    upper the plug-in one. The true sign of a bin near balance is unknown, so the upper end counts
    the noise of all bins that are not clearly of the other side.
    """
    if evidence.units < 2:
        return 0.0, 1.0
    totals = totals_of(evidence)
    gap = side * float(totals.total.sum()) / len(totals.gap)
    own = side * totals.total
    low = (totals.debiased + gap) / 2 - evidence.z * totals.error((own > 0) * 1.0)
    open_ = own > -CLEAR * np.sqrt(totals.variance)
    error = totals.error(open_ * 1.0)
    value = (totals.plug_in + gap) / 2
    high = value + max(evidence.z * error, evidence.unseen * (1 - value))
    return max(0.0, low), min(1.0, high)


def underconfidence_interval(evidence: Evidence) -> Ends:
    """Ends of the share of ECE from bins that are not sure enough."""
    return overconfidence_interval(evidence, -1.0)


def classwise_interval(evidence: Evidence) -> Ends:
    """The interval of ECE, with what an item adds to each of the k options summed first."""
    p = evidence.predictions
    assert p.probabilities is not None
    assert p.labels is not None
    if evidence.units < 2:
        return 0.0, 1.0
    influence = np.zeros(p.n)
    debiased = plug_in = extra = 0.0
    options = p.probabilities.shape[1]
    for option in range(options):
        confidence = np.ascontiguousarray(p.probabilities[:, option])
        correct = p.labels == option
        index = bin_index(confidence, evidence.bins)
        totals = BinTotals(confidence - correct, correct, index, evidence.clusters)
        influence += totals.sign[index] * totals.gap
        debiased += totals.debiased
        plug_in += totals.plug_in
        extra += float(np.maximum(totals.variance - totals.seen_variance, 0).sum()) / p.n**2
    error = math.sqrt(standard_error(influence, evidence.clusters) ** 2 + extra)
    margin = evidence.z * error
    return max(0.0, (debiased - margin) / options), min(1.0, (plug_in + margin) / options)
