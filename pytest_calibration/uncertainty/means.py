"""Intervals of means and of shares."""

from __future__ import annotations

import math
from typing import Final, TypeAlias, TypeVar

import numpy as np

from pytest_calibration.predictions import BoolArray, FloatArray
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.standard_errors import standard_error

# Lower and upper end of an interval.
Ends: TypeAlias = tuple[float, float]
# One share, or many.
Shares = TypeVar("Shares", float, FloatArray)

# The smallest Poisson means with which 1, 2 and 3 events, or more, are seen in 5 % of samples.
RARE: Final = (0.0512933, 0.3553615, 0.8176914)


def mean_interval(
    values: FloatArray,
    evidence: Evidence,
    lowest: float = 0.0,
    highest: float = 1.0,
    *,
    of_outcomes: bool = False,
) -> Ends:
    """Mean ± z standard errors, and room for what was not seen.

    The share of the population that may have escaped the sample could lie at an end of the range.
    The interval leaves at least that room beyond the outermost items, so that items which all agree
    do not give an interval without width.

    Args:
        values: (n,) what is averaged.
        evidence: the n items.
        lowest: smallest value that an item may have.
        highest: largest value that an item may have.
        of_outcomes: whether wrong (or right) answers decide the value, so that few of them make
            even its error uncertain.
    """
    mean = float(values.mean())
    z = evidence.outcome_z if of_outcomes else evidence.z
    margin = z * standard_error(values, evidence.clusters)
    down = evidence.unseen * (float(values.min()) - lowest)
    up = evidence.unseen * (highest - float(values.max()))
    return mean - max(margin, down), mean + max(margin, up)


def share_interval(which: BoolArray, evidence: Evidence) -> Ends:
    """Wilson's interval of the share of items for which ``which`` (n,) holds.

    With groups, n is the number of independent items that would give the cluster-robust standard
    error, n itself at most; and there is room for groups of a kind that was not seen.
    """
    values = which.astype(np.float64)
    share = float(values.mean())
    if evidence.clusters is None:
        return wilson(share, evidence.predictions.n, evidence.z)
    error = standard_error(values, evidence.clusters)
    low, high = wilson(share, effective_number(share, error, evidence, 1.0), evidence.z)
    of_group = np.bincount(evidence.clusters, weights=values) / np.bincount(evidence.clusters)
    down = evidence.unseen * float(of_group.min())
    up = evidence.unseen * (1 - float(of_group.max()))
    return min(low, share - down), max(high, share + up)


def effective_number(share: float, error: float, evidence: Evidence, used: float) -> float:
    """Return the number of independent items of which a share has this standard error.

    At most the part ``used`` of the items. Where the items show no spread at all, that part of the
    units.
    """
    spread = share * (1 - share)
    if spread <= 0 or error <= 0:
        return used * evidence.units
    return min(spread / error**2, used * evidence.predictions.n)


def score_interval(share: Shares, n: Shares, z: Shares) -> tuple[Shares, Shares]:
    """Return the ends of the p with (share − p)² ≤ z²·p(1 − p)/n (Wilson 1927).

    They lie in [0, 1], the share between them.

    Args:
        share: observed shares, a number or (k,).
        n: how many each is a share of, as many.
        z: normal quantile, as many.
    """
    shrink = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    # Where the share is 0 or 1 it is an end itself, which rounding may miss on either side.
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def wilson(share: float, n: float, z: float) -> Ends:
    """Wilson's interval, see :func:`score_interval`, mended for rare events.

    Up to three events from an end of [0, 1] its near end lies too close, and Poisson's is taken
    (Brown, Cai & DasGupta 2001).
    """
    low, high = map(float, score_interval(share, n, z))
    if share <= 0.5:
        return min(low, _fewest(share * n) / n), high
    return low, max(high, 1 - _fewest((1 - share) * n) / n)


def _fewest(events: float) -> float:
    """Return the smallest mean number that goes with so few events; else infinity."""
    seen = math.ceil(events - 1e-9)
    if seen > len(RARE):
        return math.inf
    return RARE[seen - 1] if seen > 0 else 0.0
