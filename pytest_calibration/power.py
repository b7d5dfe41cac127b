"""What a comparison could see, and how often it cries wolf, said after it was made or before.

The rates are closed form. Those of the whole rule, simulated, stand in ``docs/statistics.md``;
``benchmarks/gate.py`` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_calibration.components import BINS_FROM, Component
from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile, upper_tail
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

POWER: Final = 0.8
# What a worsening of all confidences, or a tilt, is measured by. The other components are there for
# what these miss, and take nothing from what these see.
FIXED: Final = frozenset({"signed gap", "slope"})
# The direction in which a worsening counts is taken from the data.
TWO_SIDED: Final = FIXED | {"shape"}


# The standard errors of the other components over that of the signed gap, when nothing changed
# (design scenario of benchmarks/gate.py).
RELATIVE_ERRORS: Final = {"slope": 0.95, "shape": 0.75, "cross-fitted ECE": 1.65}
# How often a comparison may fail although nothing changed, in units of alpha: on up to 375 units
# (2 % by default), and beyond that this over their number (1.5 % on 500, 0.75 % on 1,000).
UNCHANGED_FEW: Final = 0.4
UNCHANGED_MANY: Final = 150


def _visible(tolerance: float, z: float, error: float) -> float:
    """Smallest worsening whose bound lies beyond the tolerance with 80 % power."""
    return tolerance + (z + NORMAL.inv_cdf(POWER)) * error


def smallest_visible(components: Iterable[Component], tolerance: float, z: float) -> float:
    """Return the smallest shift or tilt of the confidences that would be seen at 80 % power.

    Tolerance plus (z + z_0.8) standard errors, the larger of the two components'.
    """
    errors = [c.standard_error for c in components if c.name in FIXED and not c.unavailable]
    return _visible(tolerance, z, max(errors, default=math.nan))


def unpaired_visible(
    predictions: Predictions, tolerance: float = 0.02, alpha: float = 0.05
) -> float:
    """Return the smallest worsening visible at 80 % power before any candidate is known.

    As if the candidate's errors were independent of the baseline's: pairing only makes it smaller.
    """
    clusters = cluster_codes(predictions)
    errors = [standard_error(predictions.gap, clusters)]
    away = predictions.confidence - predictions.confidence.mean()
    if float(away @ away) > 1e-12 * len(away):
        k = float(np.abs(away).mean() / np.mean(away**2))
        errors.append(standard_error(k * away * predictions.gap, clusters))
    if math.isnan(errors[0]):
        return 1.0
    z = upper_quantile(alpha, predictions.n_clusters)
    return min(1.0, _visible(tolerance, z, math.sqrt(2) * max(errors)))


def false_alarm_rate(components: Iterable[Component], z: float, units: int) -> float:
    """Bound the probability that a comparison fails although nothing changed.

    The sum over all components of P(worsening - z·SE > tolerance) when the true worsening is 0, at
    the standard errors seen here; a component whose direction comes from the data counts twice. An
    upper bound, since components overlap.
    """
    rate = 0.0
    for c in components:
        if c.unavailable or not c.standard_error > 0:
            continue
        sides = 2 if c.name in TWO_SIDED else 1
        rate += sides * upper_tail(z + c.tolerance / c.standard_error, units)
    return min(1.0, rate)


def bound_quantile(components: Iterable[Component], alpha: float, units: int) -> float:
    """Return how many standard errors below a worsening its bound lies.

    That of level alpha, or as many more as keep the false alarms of an unchanged model at
    min(0.4, 150 / units)·alpha: on few items, or where many answers change, the components
    together would cry wolf more often than any of them; and with more items there is less excuse.
    """
    components = list(components)
    low = upper_quantile(alpha, units)
    allowed = min(UNCHANGED_FEW, UNCHANGED_MANY / units) * alpha
    if false_alarm_rate(components, low, units) <= allowed:
        return low
    high = 2 * low + 1
    while false_alarm_rate(components, high, units) > allowed:
        high *= 2
    for _ in range(24):
        middle = (low + high) / 2
        too_many = false_alarm_rate(components, middle, units) > allowed
        low, high = (middle, high) if too_many else (low, middle)
    return high


def units_to_decide(
    components: Iterable[Component],
    tolerance: float,
    alpha: float,
    units: int,
    max_undetected: float,
    least: int,
) -> int:
    """Return from how many units on such a comparison would decide; 0 where no number does.

    The standard errors are those seen on ``units`` units, and fall with the root of their number.
    """
    components = list(components)
    if not max_undetected or math.isnan(smallest_visible(components, tolerance, 0.0)):
        return 0

    def decides(many: int) -> bool:
        scaled = _scaled(components, units, many)
        z = bound_quantile(scaled, alpha, many)
        return smallest_visible(scaled, tolerance, z) <= tolerance + max_undetected

    return _least(decides, least)


def _scaled(components: Iterable[Component], units: int, many: int) -> list[Component]:
    """Return the components as ``many`` units of the same kind would show them."""
    factor = math.sqrt(units / many)
    out = []
    for c in components:
        error = c.standard_error
        if c.name == "cross-fitted ECE" and c.unavailable and many >= BINS_FROM:
            gaps = [other.standard_error for other in components if other.name == "signed gap"]
            error = RELATIVE_ERRORS[c.name] * max(gaps, default=math.nan)
            c = replace(c, unavailable="")  # noqa: PLW2901  the same component, now applicable
        out.append(replace(c, standard_error=factor * error))
    return out


def _least(holds: Callable[[int], bool], low: int) -> int:
    """Return the smallest whole number from ``low`` on from which a property holds."""
    if holds(low):
        return low
    high = 2 * low
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# --- before any model is run ---------------------------------------------------------------------

# ECE of a perfectly calibrated model of four-way questions over 15 bins, times the root of n.
TYPICAL_FLOOR: Final = 1.12
# What such a model stays below 95 % of the time, over what it shows on average.
HIGH_OVER_FLOOR: Final = 1.41


@dataclass(frozen=True)
class Plan:
    """What a comparison on so many items will be able to say.

    Attributes:
        n: number of items.
        units: number of independent units (items, or groups).
        tolerance: allowed worsening in ECE units.
        alpha: one-sided error level of each bound.
        max_undetected: how much beyond the tolerance may stay invisible.
        changed: share of the items that only one of the two models answers rightly.
        standard_error: of the shift of the signed gap.
        smallest_visible: smallest worsening seen with 80 % power.
        decides: whether such a comparison decides, instead of being inconclusive.
        n_needed: items from which on it decides.
        false_alarm_rate: at most how often an unchanged model fails.
        noise_floor: ECE that a perfectly calibrated model would show, about.
    """

    n: int
    units: int
    tolerance: float
    alpha: float
    max_undetected: float
    changed: float
    standard_error: float
    smallest_visible: float
    decides: bool
    n_needed: int
    false_alarm_rate: float
    noise_floor: float

    def power(self, worsening: float) -> float:
        """Return the probability that a true worsening of this size fails the test."""
        spare = worsening - self.smallest_visible
        return NORMAL.cdf(spare / self.standard_error + NORMAL.inv_cdf(POWER))


def plan(
    n: int,
    *,
    groups: int | None = None,
    tolerance: float = 0.02,
    alpha: float = 0.05,
    max_undetected: float = 0.05,
    changed: float = 0.15,
    min_units: int = 50,
) -> Plan:
    """Say what a comparison on n items will see, before any model is run.

    A model whose fine-tuning changes the outcome of a share q of the items has a shift of the
    signed gap with a standard error of about sqrt(q / n): its confidences move little beside that.

    Args:
        n: number of items, at least 2.
        groups: number of groups the items come in; counted as if all items of a group were alike,
            which is the worst case.
        tolerance: allowed worsening in ECE units, in [0, 1).
        alpha: one-sided error level of each bound, in (0, 0.5).
        max_undetected: how much beyond the tolerance may stay invisible, in (0, 1).
        changed: share of the items that only one of the two models answers rightly, in (0, 1].
        min_units: independent units below which no comparison decides.

    Raises:
        MetricError: a value outside these ranges.
    """
    units = n if groups is None else groups
    checks = (
        ("n", n, n >= 2, "at least 2"),
        ("groups", units, 2 <= units <= n, f"between 2 and n = {n}"),
        ("tolerance", tolerance, 0 <= tolerance < 1, "at least 0 and below 1"),
        ("alpha", alpha, 0 < alpha < 0.5, "between 0 and 0.5"),
        ("max_undetected", max_undetected, 0 < max_undetected < 1, "between 0 and 1"),
        ("changed", changed, 0 < changed <= 1, "above 0 and at most 1"),
    )
    for name, value, good, range_ in checks:
        if not good:
            raise MetricError(f"{name} must be {range_}, got {value}.")
    one = [_expected("signed gap", math.sqrt(changed), tolerance)]
    one += [_expected(k, r * math.sqrt(changed), tolerance) for k, r in RELATIVE_ERRORS.items()]
    # The guard's tolerance is its own.
    one.append(_expected("accuracy", math.sqrt(changed), 0.02))
    components = _scaled(one, 1, units)
    z = bound_quantile(components, alpha, units)
    visible = smallest_visible(components, tolerance, z)
    needed = units_to_decide(one, tolerance, alpha, 1, max_undetected, min_units)
    return Plan(
        n=n,
        units=units,
        tolerance=tolerance,
        alpha=alpha,
        max_undetected=max_undetected,
        changed=changed,
        standard_error=components[0].standard_error,
        smallest_visible=min(1.0, visible),
        decides=units >= min_units and visible <= tolerance + max_undetected,
        n_needed=math.ceil(needed * n / units),
        false_alarm_rate=false_alarm_rate(components, z, units),
        noise_floor=min(1.0, TYPICAL_FLOOR / math.sqrt(units)),
    )


def _expected(name: str, error: float, tolerance: float) -> Component:
    """Return a component of an unchanged model, of which only the standard error counts."""
    few = "few units" if name == "cross-fitted ECE" else ""
    return Component(name, 0.0, 0.0, 0.0, error, -error, tolerance, unavailable=few)
