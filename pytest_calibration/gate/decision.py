"""The rule of the gate: what the components of a comparison come to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pytest_calibration.gate.components import (
    Component,
    Paired,
    accuracy_component,
    calibration_components,
)
from pytest_calibration.gate.power import (
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
    level: float
    smallest_visible: float = math.nan
    false_alarm_rate: float = math.nan
    n_needed: int = 0
    improved: bool = False
    reason: str = ""


def decide(pair: Paired, strictness: Strictness = DEFAULT) -> Decision:
    """Decide a comparison: ``regressed``, ``inconclusive`` or ``passed``.

    The part of ``verdict.compare`` after pairing: nothing is measured or printed here.
    """
    units, n = pair.units, len(pair.gap0)
    components, z, alpha = _bounded(pair, strictness)
    decision = Decision(State.INCONCLUSIVE, components, level=1 - alpha)
    if units < MIN_UNITS:
        few = counted(units, "item" if pair.clusters is None else "group")
        verb = "is" if units == 1 else "are"
        reason = f"{few} {verb} too few to compare; at least {MIN_UNITS} are."
        return replace(decision, n_needed=math.ceil(n * MIN_UNITS / units), reason=reason)
    tolerance, max_undetected = strictness.tolerance, strictness.max_undetected
    visible = smallest_visible(components, tolerance, z)
    rate = false_alarm_rate(components, z, units)
    decision = replace(decision, smallest_visible=visible, false_alarm_rate=rate)
    if any(c.fired for c in components):
        return replace(decision, state=State.REGRESSED)
    # An improvement that is certain may be accepted, even where a worsening could stay undetected.
    better = any(c.fired for c in calibration_components(pair.reversed(), tolerance, z))
    decision = replace(decision, improved=better)
    # Written so that a NaN on the left can only be inconclusive.
    if visible <= tolerance + max_undetected:
        return replace(decision, state=State.PASSED)
    # With max_undetected = 0 no number of items is enough.
    needed = units_to_decide(
        components, tolerance, strictness.alpha, units, max_undetected, MIN_UNITS
    )
    reason = (
        f"a worsening of up to {visible:.3f} could have been missed (80 % power), more "
        f"than the {tolerance + max_undetected:.3f} that may be."
    )
    return replace(decision, n_needed=math.ceil(n * needed / units), reason=reason)


def _bounded(pair: Paired, strictness: Strictness) -> tuple[tuple[Component, ...], float, float]:
    """Return the components, the quantile of their bounds, and the error level it stands for."""
    alpha, guard = strictness.alpha, strictness.accuracy_tolerance
    z = upper_quantile(alpha, pair.units)
    calibration = calibration_components(pair, strictness.tolerance, z)
    accuracy = () if guard is None else (accuracy_component(pair, guard, alpha),)
    stricter = bound_quantile((*calibration, *accuracy), alpha, pair.units)
    if stricter > z:
        z, alpha = stricter, upper_tail(stricter, pair.units)
        calibration = tuple(
            replace(c, bound=c.worsening - z * c.standard_error) for c in calibration
        )
        if guard is not None:
            accuracy = (accuracy_component(pair, guard, alpha),)
    return (*calibration, *accuracy), z, alpha
