"""Intervals of errors that are the largest of many: over bins (MCE), over thresholds (KS)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import ks_ce
from pytest_calibration.metrics.binned import mce
from pytest_calibration.uncertainty.bins import totals_of
from pytest_calibration.uncertainty.evidence import CONFIDENCE_LEVEL, Evidence
from pytest_calibration.uncertainty.means import Ends, wilson
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound
from pytest_calibration.uncertainty.standard_errors import design_effects

EXACT_UP_TO: Final = 30
# P(max |B| <= 2.2414) = 0.95 for Brownian motion B on [0, 1].
BROWNIAN: Final = 2.2414027276049454


def mce_interval(evidence: Evidence) -> Ends:
    """Bounds that hold for all non-empty bins at once (Bonferroni), from each bin's accuracy.

    A bin's accuracy lies within Wilson's interval, or with few items within the exact one: there a
    single wrong answer at confidence 0.95 must not count as proof.
    """
    totals = totals_of(evidence)
    full = np.flatnonzero(totals.count)
    z = NORMAL.inv_cdf(1 - (1 - CONFIDENCE_LEVEL) / 2 / len(full))
    alpha = 1 - NORMAL.cdf(z)
    effects = design_effects(totals.residual, totals.index, totals.size, totals.clusters)
    right = np.bincount(totals.index, weights=totals.correct, minlength=totals.size)
    low = high = 0.0
    for b in full.tolist():
        count, share = int(totals.count[b]), float(right[b] / totals.count[b])
        confidence = float(totals.total[b] / count) + share
        effective = max(1.0, count / float(effects[b]))
        if effective <= EXACT_UP_TO:
            n = int(effective + 1e-9)
            least = binomial_lower_bound(math.floor(share * n + 1e-9), n, alpha)
            most = 1 - binomial_lower_bound(math.floor((1 - share) * n + 1e-9), n, alpha)
        else:
            if 0 < share < 1:
                alone = float(np.var(totals.gap[totals.index == b])) / (share * (1 - share))
                effective /= max(1.0, alone)
            least, most = wilson(share, effective, z)
        low = max(low, confidence - most, least - confidence)
        high = max(high, confidence - least, most - confidence)
    return low, min(1.0, max(high, mce(evidence.predictions, evidence.bins, evidence.strategy)))


def ks_interval(evidence: Evidence) -> Ends:
    """KS error less the 95 % point of the largest noise, and plus that of the noise at one place.
    """
    p = evidence.predictions
    if evidence.units < 2:
        return 0.0, 1.0
    value = ks_ce(p)
    if evidence.clusters is None:
        error = math.sqrt(float(p.gap @ p.gap)) / p.n
    else:
        # largest over thresholds of the deviation of the cumulated gaps
        size = 32
        edges = np.quantile(p.confidence, np.arange(1, size) / size)
        cell = np.searchsorted(edges, p.confidence)
        groups = evidence.units
        sums = np.bincount(evidence.clusters * size + cell, weights=p.gap, minlength=groups * size)
        running = sums.reshape(groups, size).cumsum(axis=1)
        error = math.sqrt(float((running**2).sum(axis=0).max()) * groups / (groups - 1)) / p.n
    z = evidence.z
    ratio = z / 1.959963984540054
    down = max(BROWNIAN * ratio * error, evidence.unseen)
    up = max(z * error, evidence.unseen * (1 - value))
    return max(0.0, value - down), min(1.0, value + up)
