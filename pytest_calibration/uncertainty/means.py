"""Intervals of means and of shares."""

from __future__ import annotations

import math
from typing import Final, TypeAlias, TypeVar

import numpy as np

from pytest_calibration.predictions import BoolArray, FloatArray
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.standard_errors import standard_error

# Lower and upper end of an interval.
Ends: TypeAlias = tuple[float, float]
# One share, or an array of them.
Shares = TypeVar("Shares", float, FloatArray)

# Poisson means at which at least 1, 2 and 3 events occur in 5 % of samples.
RARE: Final = (0.0512933, 0.3553615, 0.8176914)


def mean_interval(
    values: FloatArray,
    sample: Sample,
    lowest: float = 0.0,
    highest: float = 1.0,
    *,
    of_outcomes: bool = False,
) -> Ends:
    """Mean ± z standard errors, at least as wide as unseen items may require.

    The part of the population that the sample may have missed could lie at either end of the range.
    So the interval has a width also where all items agree.

    Args:
        values: (n,) whose mean is estimated.
        sample: the n items.
        lowest: smallest value that an item may have.
        highest: largest value that an item may have.
        of_outcomes: whether a few wrong (or right) answers may determine the value, which makes
            its standard error uncertain too.
    """
    mean = float(values.mean())
    z = sample.outcome_z if of_outcomes else sample.z
    margin = z * standard_error(values, sample.clusters)
    down = sample.unseen * (float(values.min()) - lowest)
    up = sample.unseen * (highest - float(values.max()))
    return mean - max(margin, down), mean + max(margin, up)


def share_interval(which: BoolArray, sample: Sample) -> Ends:
    """Wilson's interval of the share of items for which ``which`` (n,) holds.

    With groups, n is the number of independent items with the same standard error, at most the
    number of items; and the interval allows for unseen groups.
    """
    values = which.astype(np.float64)
    share = float(values.mean())
    if sample.clusters is None:
        return wilson(share, sample.predictions.n, sample.z)
    error = standard_error(values, sample.clusters)
    low, high = wilson(share, effective_number(share, error, sample, 1.0), sample.z)
    of_group = np.bincount(sample.clusters, weights=values) / np.bincount(sample.clusters)
    down = sample.unseen * float(of_group.min())
    up = sample.unseen * (1 - float(of_group.max()))
    return min(low, share - down), max(high, share + up)


def effective_number(share: float, error: float, sample: Sample, used: float) -> float:
    """Return the number of independent items of which a share has this standard error.

    At most the part ``used`` of the items; where items do not vary, that part of the units.
    """
    spread = share * (1 - share)
    if spread <= 0 or error <= 0:
        return used * sample.units
    return min(spread / error**2, used * sample.predictions.n)


def score_interval(share: Shares, n: Shares, z: Shares) -> tuple[Shares, Shares]:
    """Return the ends of {p: (share − p)² ≤ z²·p(1 − p)/n} in [0, 1] (Wilson 1927).

    Args:
        share: observed shares, a number or (k,).
        n: number of items of each share, of the same shape.
        z: normal quantile, of the same shape.
    """
    shrink = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    # A share of 0 or 1 is itself an end, which rounding could miss.
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def wilson(share: float, n: float, z: float) -> Ends:
    """Wilson's interval, see :func:`score_interval`, corrected for rare events.

    With at most three right (or wrong) items Wilson's nearer end is too close to the share;
    Poisson's is used instead (Brown, Cai & DasGupta 2001).
    """
    low, high = map(float, score_interval(share, n, z))
    if share <= 0.5:
        return min(low, _poisson_end(share * n) / n), high
    return low, max(high, 1 - _poisson_end((1 - share) * n) / n)


def _poisson_end(events: float) -> float:
    """Return the lower end of a Poisson mean for up to 3 events; infinity for more."""
    whole = math.ceil(events - 1e-9)
    if whole > len(RARE):
        return math.inf
    return RARE[whole - 1] if whole > 0 else 0.0
