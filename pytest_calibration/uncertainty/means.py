"""Intervals of means and of shares."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from pytest_calibration.predictions import BoolArray, FloatArray
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.standard_errors import standard_error

RARE = (0.05129329, 0.35536151, 0.81769145)
Ends: TypeAlias = tuple[float, float]


def mean_interval(
    values: FloatArray, evidence: Evidence, lowest: float = 0.0, highest: float = 1.0
) -> Ends:
    """Mean ± z standard errors, and room for what was not seen.

    A share of the population that may have escaped the sample could lie at an end of the range;
    the interval is never narrower than that allows, so that items which all agree do not give
    an interval without width (the rule of three).

    Args:
        values: (n,) what is averaged.
        evidence: the items.
        lowest: smallest value an item can have.
        highest: largest value an item can have; may be infinite.
    """
    if evidence.units < 2:
        return lowest, highest
    mean = float(values.mean())
    error = standard_error(values, evidence.clusters)
    margin = evidence.z * error
    per_unit = unit_means(values, evidence)
    down = evidence.unseen * (float(per_unit.min()) - lowest)
    up = evidence.unseen * (float(per_unit.max()) - highest)
    if math.isinf(highest):
        up = -math.inf if error == 0 else 0.0
    return max(lowest, mean - max(margin, down)), min(highest, mean + max(margin, -up))


def unit_means(values: FloatArray, evidence: Evidence) -> FloatArray:
    """(units,) mean of each independent unit."""
    if evidence.clusters is None:
        return values
    return np.asarray(
        np.bincount(evidence.clusters, weights=values) / np.bincount(evidence.clusters)
    )


def share_interval(which: BoolArray, evidence: Evidence) -> Ends:
    """Wilson's interval of a share; with groups the interval of a mean."""
    values = which.astype(np.float64)
    if evidence.clusters is not None:
        return mean_interval(values, evidence)
    n, count = evidence.predictions.n, int(which.sum())
    low, high = wilson(count / n, n, evidence.z)
    if 0 < count <= len(RARE):
        low = min(low, RARE[count - 1] / n)
    if 0 < n - count <= len(RARE):
        high = max(high, 1 - RARE[n - count - 1] / n)
    return low, high


def wilson(share: float, n: float, z: float) -> Ends:
    """Wilson's interval: the p with (share − p)² ≤ z²·p(1 − p)/n."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
