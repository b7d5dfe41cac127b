"""What a comparison can detect and how often it raises a false alarm, from its standard errors.

These rates are closed form. Simulated rates of the whole rule, made by ``benchmarks/gate.py``, are
in ``docs/explanation/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from pytest_calibration.gate.components import BINS_FROM, Component
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile, upper_tail

POWER: Final = 0.8
# The components that measure a shift or a tilt of all confidences. The others detect what these
# miss, so that the smallest visible worsening depends on these alone.
FIXED: Final = frozenset({"signed gap", "slope"})
# The components whose direction is taken from the data.
TWO_SIDED: Final = FIXED | {"shape", "confident answers"}
# The standard errors of the other components over that of the signed gap, when nothing changed: the
# middle of those of the sources of benchmarks/generators.py, on 1,000 items. They range from 0.66
# to 0.88, from 0.35 to 1.0 and from 1.0 to 2.4.
RELATIVE_ERRORS: Final = {"slope": 0.75, "shape": 0.55, "cross-fitted ECE": 1.6}
# How often a comparison may fail although nothing changed, in units of alpha: UNCHANGED_FEW on up
# to 375 units (2 % by default), UNCHANGED_MANY / units on more (1.5 % on 500, 0.75 % on 1,000).
UNCHANGED_FEW: Final = 0.4
UNCHANGED_MANY: Final = 150
# How much of that is kept for the component of the confident answers, where it applies.
CONFIDENT_SHARE: Final = 0.25


def worsening_at_power(tolerance: float, z: float, error: float) -> float:
    """Return the worsening whose bound lies beyond the tolerance in 80 % of all comparisons."""
    return tolerance + (z + NORMAL.inv_cdf(POWER)) * error


def smallest_visible(components: Iterable[Component], tolerance: float, z: float) -> float:
    """Return the smallest shift or scaling of the confidences that is seen with 80 % power.

    The tolerance plus (z + z_0.8) of the larger standard error of signed gap and slope. Such a
    comparison fails, or is undecided where the shift leads through zero. Other damages (a tilt at
    an unchanged mean, a bow, a part of the items alone) move ECE by more than any one component,
    so that they must be larger to be seen.
    """
    errors = [c.standard_error for c in components if c.name in FIXED and not c.unavailable]
    return worsening_at_power(tolerance, z, max(errors, default=math.nan))


def false_alarm_rate(components: Iterable[Component], z: float, units: int) -> float:
    """Return an upper bound of the probability that a comparison fails although nothing changed.

    The sum over all components of P(worsening - z·SE > tolerance) at a true worsening of 0 and the
    measured standard errors. A component whose direction comes from the data counts twice.
    """
    rate = 0.0
    for c in components:
        if c.unavailable or not c.standard_error > 0:
            continue
        sides = 2 if c.name in TWO_SIDED else 1
        rate += sides * upper_tail(z + c.tolerance / c.standard_error, units)
    return min(1.0, rate)


def allowed_false_alarms(alpha: float, units: int) -> float:
    """Return how often an unchanged model may fail: min(0.4, 150 / units)·alpha."""
    return min(UNCHANGED_FEW, UNCHANGED_MANY / units) * alpha


def bound_quantile(
    components: Iterable[Component],
    alpha: float,
    units: int,
    share: float = 1.0,
    allowed: float | None = None,
) -> float:
    """Return how many standard errors below a worsening its bound lies.

    The quantile of level alpha, or as many more as keep the false alarms of an unchanged model at a
    share of those allowed, by default :func:`allowed_false_alarms`. On few items, or where many
    answers change, all components together would raise false alarms more often than each of them.
    """
    components = list(components)
    low = upper_quantile(alpha, units)
    allowed = share * (allowed_false_alarms(alpha, units) if allowed is None else allowed)
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
    share: float = 1.0,
    per_unit: float = 1.0,
    visible: Callable[[Iterable[Component], float, float], float] = smallest_visible,
) -> int:
    """Return from how many units on such a comparison would decide; 0 where no number does.

    The standard errors are those of ``units`` units; they fall with the root of the number.
    ``share`` is that of :func:`bound_quantile`, ``per_unit`` the number of items of a unit, and
    ``visible`` says which worsening must be seen.
    """
    components = list(components)
    if not max_undetected or math.isnan(visible(components, tolerance, 0.0)):
        return 0

    def decides(number: int) -> bool:
        expected = scaled(components, units, number, per_unit)
        z = bound_quantile(expected, alpha, number, share)
        return visible(expected, tolerance, z) <= tolerance + max_undetected

    return _smallest(decides, least)


def scaled(
    components: Sequence[Component], units: int, number: int, per_unit: float = 1.0
) -> list[Component]:
    """Return the components that ``number`` units are expected to show, from those of ``units``.

    A standard error is at least that of three changed answers among their items.
    """
    least = math.sqrt(3) / (per_unit * number)
    gap = next((c.standard_error for c in components if c.name == "signed gap"), math.nan)
    factor = math.sqrt(units / number)
    out = []
    for c in components:
        # The bins of the cross-fitted ECE apply from BINS_FROM units on.
        newly = c.name == "cross-fitted ECE" and c.unavailable and number >= BINS_FROM
        error = RELATIVE_ERRORS[c.name] * gap if newly else c.standard_error
        unavailable = "" if newly else c.unavailable
        out.append(replace(c, standard_error=max(factor * error, least), unavailable=unavailable))
    return out


def _smallest(holds: Callable[[int], bool], low: int) -> int:
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
