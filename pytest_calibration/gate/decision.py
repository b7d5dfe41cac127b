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
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail

TOLERANCE: Final = 0.02
ALPHA: Final = 0.05
MAX_UNDETECTED: Final = 0.05
MIN_UNITS: Final = 50


class State(StrEnum):
    """What a comparison came to."""

    PASSED = "passed"
    REGRESSED = "regressed"
    ABOVE_LIMIT = "above_limit"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not_comparable"
    NO_BASELINE = "no_baseline"
    RECORDED = "recorded"

    @property
    def fails(self) -> bool:
        """Whether an assertion fails on it."""
        return self in _FAILING

    @property
    def decides(self) -> bool:
        """Whether something was really compared or stored, so that a green run means something."""
        return self is not State.INCONCLUSIVE


_FAILING: Final = frozenset(
    {State.REGRESSED, State.ABOVE_LIMIT, State.NOT_COMPARABLE, State.NO_BASELINE}
)


@dataclass(frozen=True)
class Decision:
    """What the components of a comparison come to; see ``verdict.Verdict`` for the attributes."""

    state: State
    components: tuple[Component, ...]
    level: float
    smallest_visible: float = math.nan
    false_alarm_rate: float = math.nan
    n_needed: int = 0
    improved: bool = False
    reason: str = ""


def decide(
    pair: Paired,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    accuracy_tolerance: float | None = TOLERANCE,
    max_undetected: float = MAX_UNDETECTED,
) -> Decision:
    """Decide a comparison: ``regressed``, ``inconclusive`` or ``passed``.

    What ``verdict.compare`` does once both sides are paired; nothing is measured or printed here.
    """
    units, n = pair.units, len(pair.gap0)
    asked, z = alpha, upper_quantile(alpha, units)
    components = calibration_components(pair, tolerance, z)
    if accuracy_tolerance is not None:
        components = (*components, accuracy_component(pair, accuracy_tolerance, alpha))
    stricter = bound_quantile(components, alpha, units)
    if stricter > z:
        z, alpha = stricter, upper_tail(stricter, units)
        components = tuple(replace(c, bound=c.worsening - z * c.standard_error) for c in components)
        if accuracy_tolerance is not None:
            guard = accuracy_component(pair, accuracy_tolerance, alpha)
            components = (*components[:-1], guard)
    decision = Decision(State.INCONCLUSIVE, components, level=1 - alpha)
    if units < MIN_UNITS:
        what = ("item" if pair.clusters is None else "group") + "s" * (units != 1)
        return replace(
            decision,
            n_needed=math.ceil(n * MIN_UNITS / units),
            reason=(
                f"{units} {what} {'is' if units == 1 else 'are'} too few to compare; at least "
                f"{MIN_UNITS} are."
            ),
        )
    visible = smallest_visible(components, tolerance, z)
    decision = replace(
        decision,
        smallest_visible=visible,
        false_alarm_rate=false_alarm_rate(components, z, units),
    )
    if any(c.fired for c in components):
        return replace(decision, state=State.REGRESSED)
    # What is certain to be better may be accepted, whether or not a worsening could be seen.
    better = any(c.fired for c in calibration_components(pair.reversed(), tolerance, z))
    decision = replace(decision, improved=better)
    # Written so that a NaN on the left can only be inconclusive.
    if visible <= tolerance + max_undetected:
        return replace(decision, state=State.PASSED)
    # With nothing allowed to stay invisible, no number of items is enough.
    needed = units_to_decide(components, tolerance, asked, units, max_undetected, MIN_UNITS)
    return replace(
        decision,
        n_needed=math.ceil(n * needed / units),
        reason=(
            f"a worsening of up to {visible:.3f} could have been missed (80 % power), more "
            f"than the {tolerance + max_undetected:.3f} that may be."
        ),
    )
