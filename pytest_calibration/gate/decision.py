"""The rule of the gate: what the components of a comparison come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pytest_calibration.gate.components import (
    ESTABLISHED,
    Component,
    Paired,
    accuracy_component,
    calibration_components,
    confident_component,
)
from pytest_calibration.gate.looks import AtLook, Level
from pytest_calibration.gate.power import (
    CONFIDENT_SHARE,
    allowed_false_alarms,
    bound_quantile,
    false_alarm_rate,
    smallest_visible,
    units_to_decide,
)
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.text.numbers import counted
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail

MIN_UNITS: Final = 50


class State(StrEnum):
    """The result of a comparison."""

    PASSED = "passed"
    REGRESSED = "regressed"
    ABOVE_LIMIT = "above_limit"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not_comparable"
    NO_BASELINE = "no_baseline"
    RECORDED = "recorded"
    NOT_RECORDED = "not_recorded"

    @property
    def fails(self) -> bool:
        """Whether an assertion fails on it."""
        return self in _FAILING

    @property
    def decides(self) -> bool:
        """Whether something was compared or stored, so that a green run means something."""
        return self not in (State.INCONCLUSIVE, State.NOT_RECORDED)


_FAILING: Final = frozenset(
    {State.REGRESSED, State.ABOVE_LIMIT, State.NOT_COMPARABLE, State.NO_BASELINE}
)


@dataclass(frozen=True)
class Decision:
    """What the components of a comparison come to; ``verdict.Verdict`` explains the attributes."""

    state: State
    components: tuple[Component, ...]
    smallest_visible: float = math.nan
    false_alarm_rate: float = math.nan
    p_value: float = math.nan
    n_needed: int = 0
    improved: bool = False
    reason: str = ""
    look: AtLook | None = None


@dataclass(frozen=True)
class Bounds:
    """The components of a comparison with their bounds.

    Attributes:
        components: those in ECE's own units, then the confident answers, then accuracy.
        z: standard errors from a worsening to its bound, in ECE's own units.
        confident_z: the same of the confident answers, which have units of their own.
        false_alarm_rate: upper bound of how often an unchanged model fails.
        p_value: upper bound of how often an unchanged model gets worse as clearly.
    """

    components: tuple[Component, ...]
    z: float
    confident_z: float
    false_alarm_rate: float
    p_value: float


def decide(pair: Paired, strictness: Strictness = DEFAULT, level: Level | None = None) -> Decision:
    """Decide a comparison: ``regressed``, ``inconclusive`` or ``passed``.

    The part of ``verdict.compare`` after pairing: nothing is measured or printed here.

    Args:
        pair: both sides.
        strictness: how strict.
        level: the error level of one of several looks at the same comparison; by default there is
            one look, at that of ``strictness``.
    """
    units, n = pair.units, len(pair.gap0)
    if level is None:
        allowed = allowed_false_alarms(strictness.alpha, pair.equal_units)
        level = Level(strictness.alpha, allowed, before=0.0)
    bounds = _bounds(pair, strictness, level)
    decision = Decision(State.INCONCLUSIVE, bounds.components)
    if units < MIN_UNITS:
        few = counted(units, "item" if pair.clusters is None else "group")
        verb = "is" if units == 1 else "are"
        reason = f"{few} {verb} too few to compare; at least {MIN_UNITS} are."
        return replace(decision, n_needed=math.ceil(n * MIN_UNITS / units), reason=reason)
    tolerance, max_undetected = strictness.tolerance, strictness.max_undetected
    visible = smallest_visible(bounds.components, tolerance, bounds.z)
    decision = replace(
        decision,
        smallest_visible=visible,
        false_alarm_rate=bounds.false_alarm_rate,
        p_value=bounds.p_value,
    )
    if any(c.fired for c in bounds.components):
        return replace(decision, state=State.REGRESSED)
    # An improvement that is certain may be accepted, even where a worsening could stay undetected.
    decision = replace(decision, improved=_improved(pair, strictness, bounds))
    undecided = [c for c in bounds.components if c.undecided]
    if undecided:
        return through_zero(decision, undecided, n)
    # Written so that a NaN on the left can only be inconclusive.
    if visible <= tolerance + max_undetected:
        return replace(decision, state=State.PASSED)
    # With max_undetected = 0 no number of items is enough.
    equal = pair.equal_units
    least = math.ceil(MIN_UNITS * equal / units)
    others = [c for c in bounds.components if math.isnan(c.above)]
    share = 1 - CONFIDENT_SHARE * any(not math.isnan(c.above) for c in bounds.components)
    needed = units_to_decide(
        others, tolerance, level.alpha, equal, max_undetected, least, share, n / equal
    )
    reason = (
        f"a shift of up to {visible:.3f} could have been missed (80 % power), more "
        f"than the {tolerance + max_undetected:.3f} that may be."
    )
    return replace(decision, n_needed=math.ceil(n * needed / equal), reason=reason)


def through_zero(decision: Decision, components: Sequence[Component], n: int) -> Decision:
    """A component moved through zero to where the candidate is not established to err."""
    moved = max(components, key=lambda c: c.bound - c.tolerance)
    needed = max((ESTABLISHED * c.error_of_after / c.after) ** 2 for c in components)
    reason = (
        f"{moved.name} moved from {moved.before:+.3f} to {moved.after:+.3f}, through zero; so few "
        f"{moved.among or 'items'} do not show that it errs by more than before."
    )
    return replace(decision, n_needed=math.ceil(n * needed), reason=reason)


def _improved(pair: Paired, strictness: Strictness, bounds: Bounds) -> bool:
    back, tolerance, tail = pair.reversed(), strictness.tolerance, strictness.tail
    better = calibration_components(back, tolerance, bounds.z)
    if tail < 1:
        better += (confident_component(back, tolerance, bounds.confident_z, tail),)
    return any(c.fired for c in better)


def _bounds(pair: Paired, strictness: Strictness, level: Level) -> Bounds:
    """Bound every component.

    The confident answers have a quantile of their own. A quarter of the false alarms that an
    unchanged model may raise is kept for them, and what the others leave.
    """
    alpha, guard, units = level.alpha, strictness.accuracy_tolerance, pair.equal_units
    tolerance, tail = strictness.tolerance, strictness.tail
    usual = upper_quantile(alpha, units)
    calibration = calibration_components(pair, tolerance, usual)
    accuracy = () if guard is None else (accuracy_component(pair, guard, alpha),)
    confident = (confident_component(pair, tolerance, usual, tail),) if tail < 1 else ()
    allowed = level.allowed
    share = 1 - CONFIDENT_SHARE * any(not c.unavailable for c in confident)
    z = bound_quantile((*calibration, *accuracy), alpha, units, share, allowed)
    if guard is not None and z > usual:
        accuracy = (accuracy_component(pair, guard, upper_tail(z, units)),)
    rate = false_alarm_rate((*calibration, *accuracy), z, units)
    confident_z = bound_quantile(confident, alpha, units, max(0.0, 1 - rate / allowed), allowed)
    components = (
        *(_bounded(c, z, units) for c in calibration),
        *(_bounded(c, confident_z, units) for c in confident),
        *(replace(c, level=1 - upper_tail(z, units)) for c in accuracy),
    )
    rate += false_alarm_rate(confident, confident_z, units)
    p_value = p_value_of(((*calibration, *accuracy), share), (confident, 1 - share), units=units)
    return Bounds(components, z, confident_z, rate, min(1.0, level.before + p_value))


def p_value_of(*parts: tuple[tuple[Component, ...], float], units: int) -> float:
    """Bound how often an unchanged model shows so clear a worsening.

    Args:
        parts: components, with the share of the false alarms that they may raise.
        units: number of units of equal size.
    """
    found = [1.0]
    for components, share in parts:
        clearest = max(
            (
                (c.worsening - c.tolerance) / c.standard_error
                for c in components
                if not c.unavailable and c.grew and c.standard_error > 0
            ),
            default=-math.inf,
        )
        if share and math.isfinite(clearest):
            found.append(false_alarm_rate(components, clearest, units) / share)
    return min(found)


def _bounded(component: Component, z: float, units: int) -> Component:
    bound = component.worsening - z * component.standard_error
    return replace(component, bound=bound, level=1 - upper_tail(z, units))
