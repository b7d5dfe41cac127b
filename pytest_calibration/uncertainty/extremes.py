"""Intervals of errors that are the largest of many: over bins (MCE), over thresholds (KS)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import ks_ce
from pytest_calibration.metrics.binning import DEFAULT_BINS, bin_index
from pytest_calibration.uncertainty.bins import BinTotals, totals_of
from pytest_calibration.uncertainty.evidence import CONFIDENCE_LEVEL, NORMAL_TAIL, Evidence
from pytest_calibration.uncertainty.means import Ends, wilson
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound
from pytest_calibration.uncertainty.standard_errors import design_effects

EXACT_UP_TO: Final = 30
# 95 % point of the largest absolute value of Brownian motion on [0, 1], and its mean sqrt(π/2).
BROWNIAN: Final = 2.2414027


def mce_interval(evidence: Evidence) -> Ends:
    """Bounds that hold for all bins at once that hold items (Bonferroni).

    Of bins without items, nothing is said.
    """
    totals = totals_of(evidence)
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

    Wilson's, or with few items the exact ones: a single wrong answer at confidence 0.95 must not
    count as proof. Grouped items count as ``count / effect`` independent ones.
    """
    z = NORMAL.inv_cdf(1 - (1 - CONFIDENCE_LEVEL) / 2 / bins)
    n = max(1.0, count / effect)
    if n > EXACT_UP_TO:
        return wilson(right / count, n, z)
    alpha, whole = 1 - NORMAL.cdf(z), int(n + 1e-9)
    # Rounded towards the wider interval.
    least = binomial_lower_bound(int(right / count * whole + 1e-9), whole, alpha)
    most = 1 - binomial_lower_bound(int((1 - right / count) * whole + 1e-9), whole, alpha)
    return least, most


def ks_interval(evidence: Evidence) -> Ends:
    """The error less the 95 % point of the largest noise, and plus z times the largest noise.

    The noise of the cumulated gaps stays within that of Brownian motion with their variance. The
    upper end needs it at one threshold only, where the true error is largest.
    """
    p = evidence.predictions
    value = ks_ce(p)
    if evidence.clusters is None:
        error = math.sqrt(float(p.gap @ p.gap)) / p.n
    else:
        # Gaps of a group may balance in the end and not half-way: the largest of some thresholds.
        cell = evidence.clusters * DEFAULT_BINS + bin_index(
            p.confidence, DEFAULT_BINS, "equal_mass"
        )
        sums = np.bincount(cell, weights=p.gap, minlength=evidence.units * DEFAULT_BINS)
        cumulated = sums.reshape(-1, DEFAULT_BINS).cumsum(axis=1)
        factor = evidence.units / (evidence.units - 1)
        error = math.sqrt(factor * float((cumulated**2).sum(axis=0).max())) / p.n
    down = evidence.z / NORMAL_TAIL * BROWNIAN * error
    up = evidence.z * error
    return value - max(down, evidence.unseen), value + max(up, evidence.unseen * (1 - value))
