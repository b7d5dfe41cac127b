"""What a comparison could see, and how often it cries wolf, from its standard errors.

The rates are closed form. Those of the whole rule, simulated, stand in ``docs/statistics.md``;
``benchmarks/gate.py`` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from pytest_calibration.gate.components import BINS_FROM, Component
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile, upper_tail

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


def visible(tolerance: float, z: float, error: float) -> float:
    """Smallest worsening whose bound lies beyond the tolerance with 80 % power."""
    return tolerance + (z + NORMAL.inv_cdf(POWER)) * error


def smallest_visible(components: Iterable[Component], tolerance: float, z: float) -> float:
    """Return the smallest shift or tilt of the confidences that would be seen at 80 % power.

    Tolerance plus (z + z_0.8) standard errors, the larger of the two components'.
    """
    errors = [c.standard_error for c in components if c.name in FIXED and not c.unavailable]
    return visible(tolerance, z, max(errors, default=math.nan))


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
        grown = scaled(components, units, many)
        z = bound_quantile(grown, alpha, many)
        return smallest_visible(grown, tolerance, z) <= tolerance + max_undetected

    return _least(decides, least)


def scaled(components: Sequence[Component], units: int, many: int) -> list[Component]:
    """Return the components as ``many`` units of the same kind would show them."""
    gap = next((c.standard_error for c in components if c.name == "signed gap"), math.nan)

    def at_hand(c: Component) -> Component:
        """Return the cross-fitted ECE as it will be once there are units enough for its bins."""
        if c.name != "cross-fitted ECE" or not c.unavailable or many < BINS_FROM:
            return c
        return replace(c, standard_error=RELATIVE_ERRORS[c.name] * gap, unavailable="")

    factor = math.sqrt(units / many)
    ready = map(at_hand, components)
    return [replace(c, standard_error=factor * c.standard_error) for c in ready]


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
