"""The answers that users act on: those of at least a confidence.

*Coverage* is their share, *precision* their accuracy. Both are compared with the baseline, paired:
precision where it fell, coverage where it fell. A coverage that rises is no regression by itself;
what it may cost shows in precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from pytest_calibration.gate.components import Component, Paired, loss_component, unavailable
from pytest_calibration.gate.decision import MIN_UNITS, Decision, State, p_value_of
from pytest_calibration.gate.power import (
    bound_quantile,
    false_alarm_rate,
    units_to_decide,
    worsening_at_power,
)
from pytest_calibration.gate.strictness import DEFAULT, OperatingPoint, Strictness
from pytest_calibration.metrics.selective import answered
from pytest_calibration.predictions import BoolArray
from pytest_calibration.text.numbers import counted
from pytest_calibration.uncertainty.conditional import ConditionalMean, design_effect_of
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail
from pytest_calibration.uncertainty.standard_errors import standard_error

PRECISION: Final = "precision"
COVERAGE: Final = "coverage"


def decide_at(
    pair: Paired, point: OperatingPoint, strictness: Strictness = DEFAULT, points: int = 1
) -> Decision:
    """Decide the comparison at an operating point: ``regressed``, ``inconclusive`` or ``passed``.

    Args:
        pair: both sides.
        point: the threshold, and what may get worse there.
        strictness: its ``alpha`` and ``max_undetected`` count.
        points: number of points that share the error level, each a part of it (Bonferroni).
    """
    units, n = pair.units, len(pair.gap0)
    alpha, equal = strictness.alpha / points, pair.equal_units
    # The stricter of both quantiles: of the level, and of the false alarms that are allowed.
    usual = _components(pair, point, alpha, upper_quantile(alpha, equal))
    z = bound_quantile(usual, alpha, equal)
    components = tuple(_components(pair, point, upper_tail(z, equal), z))
    decision = Decision(State.INCONCLUSIVE, components)
    if units < MIN_UNITS:
        few = counted(units, "item" if pair.clusters is None else "group")
        reason = f"{few} {'is' if units == 1 else 'are'} too few to compare; {MIN_UNITS} are not."
        return replace(decision, n_needed=math.ceil(n * MIN_UNITS / units), reason=reason)
    decision = replace(
        decision,
        smallest_visible=components[0].smallest_visible,
        false_alarm_rate=false_alarm_rate(components, z, equal),
        p_value=p_value_of((components, 1.0), units=equal),
    )
    if any(c.fired for c in components):
        return replace(decision, state=State.REGRESSED)
    missing = next((c for c in components if c.unavailable), None)
    # Written so that a NaN can only be inconclusive.
    if all(c.smallest_visible <= c.tolerance + strictness.max_undetected for c in components):
        decision = replace(decision, state=State.PASSED)
    elif missing is not None:
        decision = replace(decision, reason=f"{missing.unavailable}.")
    else:
        decision = _undecided(decision, pair, strictness, alpha)
    # More answers are better where they are known to be as precise.
    rose = {c.name for c in _components(pair.reversed(), point, upper_tail(z, equal), z) if c.fired}
    held = decision.state is State.PASSED
    return replace(decision, improved=PRECISION in rose or (held and COVERAGE in rose))


def _undecided(decision: Decision, pair: Paired, strictness: Strictness, alpha: float) -> Decision:
    """A fall that is too large to be left unseen could have been."""
    allowed, equal = strictness.max_undetected, pair.equal_units
    unseen = max(decision.components, key=lambda c: c.smallest_visible - c.tolerance)
    least = math.ceil(MIN_UNITS * equal / pair.units)
    n = len(pair.gap0)
    needed = units_to_decide(
        decision.components, 0.0, alpha, equal, allowed, least, per_unit=n / equal,
        visible=beyond_tolerance,
    )  # fmt: skip
    size = f"a fall of {unseen.name} by up to {unseen.smallest_visible:.3f}"
    if unseen.smallest_visible >= unseen.before:
        size = f"any fall of {unseen.name}"
    reason = (
        f"{size} could have been missed (80 % power), more than the "
        f"{unseen.tolerance + allowed:.3f} that may be."
    )
    return replace(decision, n_needed=math.ceil(n * needed / equal), reason=reason)


def beyond_tolerance(components: Iterable[Component], tolerance: float, z: float) -> float:
    """Return the largest excess over its tolerance that is seen with 80 % power."""
    return max(worsening_at_power(tolerance, z, c.standard_error) for c in components)


def _components(pair: Paired, point: OperatingPoint, alpha: float, z: float) -> Iterator[Component]:
    """Yield precision, and coverage where it is compared, with bounds of level 1 - alpha."""
    before = answered(pair.confidence0, point.threshold)
    after = answered(pair.confidence1, point.threshold)
    found = [_precision(pair, before, after, point, z)]
    if point.coverage_tolerance is not None:
        # Up to three of n answers may cross the threshold where none did (rule of three).
        least = math.sqrt(3) / len(before)
        found.append(
            loss_component(
                COVERAGE,
                before.astype(np.float64),
                after.astype(np.float64),
                pair,
                point.coverage_tolerance,
                alpha,
                least,
            )
        )
    for c in found:
        visible = worsening_at_power(c.tolerance, z, c.standard_error)
        yield replace(c, level=1 - alpha, smallest_visible=visible)


def _precision(
    pair: Paired, before: BoolArray, after: BoolArray, point: OperatingPoint, z: float
) -> Component:
    """Fall of the accuracy of the answers that are acted on, those of each side its own.

    The standard error is that of a score test: of a precision that fell by exactly the tolerance.
    """
    old = ConditionalMean.of(pair.correct0, before, pair.clusters)
    new = ConditionalMean.of(pair.correct1, after, pair.clusters)
    if not (old.n and new.n):
        side = "the candidate" if old.n else "the baseline" if new.n else "either side"
        reason = f"no answer of {side} has a confidence of at least {point.name}"
        found = unavailable(PRECISION, reason, point.tolerance)
        return replace(found, above=point.threshold, n=new.n)
    effects = (
        design_effect_of(pair.correct0, before, pair.clusters),
        design_effect_of(pair.correct1, after, pair.clusters),
    )
    error = precision_error(old, new, pair, point.tolerance, max(effects))
    fall = old.value - new.value
    return Component(
        PRECISION, old.value, new.value, fall, error, fall - z * error, point.tolerance,
        above=point.threshold, n=new.n,
    )  # fmt: skip


def precision_error(
    old: ConditionalMean, new: ConditionalMean, pair: Paired, tolerance: float, effect: float
) -> float:
    """Return the standard error of a fall of precision that is exactly the tolerance.

    Near 1 the variance of a precision depends on it so much that the measured one tells little:
    no wrong answer among fifty has none. A score test takes the variance at the error rates that
    are most likely where the precision fell by the tolerance (Farrington & Manning 1990). Pairing
    and groups change it by as much as they change the measured variance: that of the difference,
    over that of two independent samples, each at least that of three answers. The result is never
    smaller than three changed answers would make it; where answers of a group err together, than
    three of those independent ones that they amount to.

    Args:
        old: precision of the baseline.
        new: precision of the candidate.
        pair: both sides.
        tolerance: allowed fall.
        effect: design effect of the groups on a precision; 1 without.
    """
    wrong0, wrong1 = old.n * (1 - old.value), new.n * (1 - new.value)
    rate = _restricted_rate(wrong0, old.n, wrong1, new.n, tolerance)
    expected = _variance(rate, old.n) + _variance(rate + tolerance, new.n)
    independent = _variance(1 - old.value, old.n) + _variance(1 - new.value, new.n)
    few = 3 / min(old.n, new.n) ** 2
    least = few * effect**2
    measured = standard_error(new.influence - old.influence, pair.clusters) ** 2
    together = max(measured, least) / max(independent, few * effect)
    return math.sqrt(max(together * expected, least))


def _variance(rate: float, n: int) -> float:
    return rate * (1 - rate) / n


def _restricted_rate(k0: float, n0: int, k1: float, n1: int, growth: float) -> float:
    """Return the most likely first error rate where the second is larger by ``growth``.

    The derivative of the likelihood of k0 wrong of n0 and k1 wrong of n1 falls in the rate.
    """

    def derivative(q: float) -> float:
        p = q + growth
        return k0 / q - (n0 - k0) / (1 - q) + k1 / p - (n1 - k1) / (1 - p)

    low, high = 1e-12, 1 - growth - 1e-12
    if derivative(low) <= 0:
        return 0.0
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(middle) > 0 else (low, middle)
    return (low + high) / 2
