"""Intervals of errors that are a maximum: over bins (MCE) and over thresholds (KS)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import ks_ce
from pytest_calibration.metrics.binning import DEFAULT_BINS, bin_index
from pytest_calibration.uncertainty.bins import BinTotals, totals_of
from pytest_calibration.uncertainty.means import Ends, wilson
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound
from pytest_calibration.uncertainty.sample import CONFIDENCE_LEVEL, NORMAL_TAIL, Sample
from pytest_calibration.uncertainty.standard_errors import design_effects

EXACT_UP_TO: Final = 30
# 95 % point of the largest absolute value of Brownian motion on [0, 1], and its mean sqrt(π/2).
BROWNIAN: Final = 2.2414027


def mce_interval(sample: Sample) -> Ends:
    """Simultaneous bounds for all bins with items (Bonferroni); empty bins have no bound."""
    totals = totals_of(sample)
    full = np.flatnonzero(totals.count).tolist()
    effects = design_effects(totals.residual, totals.index, totals.size, totals.clusters)
    low = high = 0.0
    for b in full:
        right, count = int(totals.right[b]), int(totals.count[b])
        confidence = (float(totals.total[b]) + right) / count
        effect = max(float(effects[b]), _spread_ratio(totals, b))
        least, most = _accuracy_ends(right, count, effect, len(full))
        low = max(low, confidence - most, least - confidence)
        high = max(high, confidence - least, most - confidence)
    return low, high


def _spread_ratio(totals: BinTotals, b: int) -> float:
    """Variance of a bin's gaps over that of its correctness; 1 where all answers agree."""
    share = float(totals.right[b] / totals.count[b])
    if not 0 < share < 1:
        return 1.0
    gap = totals.gap[totals.index == b]
    return float(gap.var()) / (share * (1 - share))


def _accuracy_ends(right: int, count: int, effect: float, bins: int) -> Ends:
    """Ends of the accuracy of one of several bins.

    Wilson's, or with few items the exact ones: a single wrong answer at confidence 0.95 proves
    nothing. Grouped items count as ``count / effect`` independent ones.
    """
    z = NORMAL.inv_cdf(1 - (1 - CONFIDENCE_LEVEL) / 2 / bins)
    n = max(1.0, count / effect)
    if n > EXACT_UP_TO:
        return wilson(right / count, n, z)
    alpha, whole = 1 - NORMAL.cdf(z), int(n + 1e-9)
    # Counts are rounded towards the wider interval.
    least = binomial_lower_bound(int(right / count * whole + 1e-9), whole, alpha)
    most = 1 - binomial_lower_bound(int((1 - right / count) * whole + 1e-9), whole, alpha)
    return least, most


def ks_interval(sample: Sample) -> Ends:
    """The error minus 2.24 standard errors, and plus z standard errors.

    The noise of the cumulative gaps is at most that of Brownian motion with their variance, whose
    maximum has the 95 % point 2.24. The upper end needs a bound at one threshold only: where the
    true error is largest.
    """
    p = sample.predictions
    value = ks_ce(p)
    if sample.clusters is None:
        error = math.sqrt(float(p.gap @ p.gap)) / p.n
    else:
        # The gaps of a group may cancel in total but not half-way: take the largest of 15 sums.
        cell = sample.clusters * DEFAULT_BINS + bin_index(p.confidence, DEFAULT_BINS, "equal_mass")
        sums = np.bincount(cell, weights=p.gap, minlength=sample.units * DEFAULT_BINS)
        cumulative = sums.reshape(-1, DEFAULT_BINS).cumsum(axis=1)
        factor = sample.units / (sample.units - 1)
        error = math.sqrt(factor * float((cumulative**2).sum(axis=0).max())) / p.n
    down = sample.z / NORMAL_TAIL * BROWNIAN * error
    up = sample.z * error
    return value - max(down, sample.unseen), value + max(up, sample.unseen * (1 - value))
