"""Comparisons that may be decided before all items are asked: the rule at each look.

A comparison stops as failed where a component crosses the bound of the look, and as passed where a
full run would hardly fail any more. The second stop is not binding: it only ever lowers the number
of failures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_calibration.gate.components import CONFIDENT_FROM, Component, Paired
from pytest_calibration.gate.decision import MIN_UNITS, Decision, State, decide
from pytest_calibration.gate.looks import (
    LEAST_POWER,
    Level,
    Look,
    conditional_power,
    level_at,
)
from pytest_calibration.gate.power import (
    CONFIDENT_SHARE,
    allowed_false_alarms,
    bound_quantile,
    false_alarm_rate,
    scaled,
    smallest_visible,
    worsening_at_power,
)
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.uncertainty.quantiles import upper_quantile

ANY: Final = 0.999


@dataclass(frozen=True)
class _FullRun:
    """What a run of all items is expected to show.

    Attributes:
        components: with the standard errors that are expected.
        z: standard errors from a worsening to its bound.
        confident_z: the same of the confident answers.
        units: number of units of equal size.
    """

    components: tuple[Component, ...]
    z: float
    confident_z: float
    units: int

    def z_of(self, component: Component) -> float:
        """Return the standard errors from the worsening of a component to its bound."""
        return self.confident_z if component.name == "confident answers" else self.z


def decide_at_look(pair: Paired, look: Look, strictness: Strictness = DEFAULT) -> Decision:
    """Decide a comparison at a look, or leave it open: ``look.stopped`` of the decision says which.

    The smallest visible shift, and the rate of false alarms, are those of all looks together.

    Args:
        pair: both sides, on the items that are known.
        look: which look it is.
        strictness: how strict.
    """
    fractions, place = look.fractions(MIN_UNITS)
    units = max(1, round(pair.equal_units / look.fraction))
    allowed = allowed_false_alarms(strictness.alpha, units)
    levels = [level_at(strictness.alpha, fractions, k, allowed) for k in range(len(fractions))]
    # What a part could have missed is no question: that is one of the full run.
    asked = strictness if look.is_last else replace(strictness, max_undetected=ANY)
    decision = decide(pair, asked, levels[place])
    at = replace(look.left_open(), stopped=look.is_last)
    decision = replace(decision, look=at)
    if pair.units < MIN_UNITS:
        return decision
    rate = _false_alarms(decision.components, pair, fractions, place, levels)
    decision = replace(decision, false_alarm_rate=rate)
    if look.is_last:
        return decision
    full = _full_run(decision.components, pair, units, levels[-1])
    tolerance = strictness.tolerance
    visible = smallest_visible(full.components, tolerance, full.z)
    decision = replace(decision, smallest_visible=visible)
    if decision.state is State.REGRESSED:
        chance = _largest_power(
            [c for c in decision.components if c.fired], full, look.fraction, as_measured=True
        )
        return replace(decision, look=replace(at, stopped=True, chance=chance))
    decision = replace(decision, state=State.INCONCLUSIVE)
    decidable = units >= MIN_UNITS and visible <= tolerance + strictness.max_undetected
    if not decidable or any(c.undecided or _comes(c, full, look) for c in decision.components):
        return decision
    known = [c for c in decision.components if not c.unavailable]
    chance = _largest_power(known, full, look.fraction, as_measured=False)
    # Written so that a NaN leaves it open.
    if not chance < LEAST_POWER:
        return decision
    stopped = replace(at, stopped=True, chance=chance)
    return replace(decision, state=State.PASSED, reason="", n_needed=0, look=stopped)


def _full_run(components: Sequence[Component], pair: Paired, units: int, level: Level) -> _FullRun:
    """Return what a full run is expected to show, from the components of a part."""
    per_unit = len(pair.gap0) / pair.equal_units
    expected = scaled(components, pair.equal_units, units, per_unit)
    others = [c for c in expected if c.name != "confident answers"]
    confident = [c for c in expected if c.name == "confident answers"]
    share = 1 - CONFIDENT_SHARE * any(not c.unavailable for c in confident)
    z = bound_quantile(others, level.alpha, units, share, level.allowed)
    left = max(0.0, 1 - false_alarm_rate(others, z, units) / level.allowed)
    confident_z = bound_quantile(confident, level.alpha, units, left, level.allowed)
    return _FullRun(tuple(expected), z, confident_z, units)


def _largest_power(
    components: Iterable[Component], full: _FullRun, fraction: float, *, as_measured: bool
) -> float:
    """Return the largest probability that a full run fails by one of these components.

    Args:
        components: as measured.
        full: the full run.
        fraction: share of the items that is known.
        as_measured: whether what is not known yet is as much worse as what is; else by the smallest
            worsening that a full run sees.
    """
    chances = [0.0]
    errors = {c.name: c.standard_error for c in full.components}
    for c in components:
        error, z = errors[c.name], full.z_of(c)
        truth = c.worsening if as_measured else worsening_at_power(c.tolerance, z, error)
        chances.append(conditional_power(c.worsening, error, fraction, c.tolerance, z, truth))
    return math.nan if any(map(math.isnan, chances)) else max(chances)


def _comes(component: Component, full: _FullRun, look: Look) -> bool:
    """Whether a component does not apply to the items that are known, and will to all of them."""
    if not component.unavailable:
        return False
    if component.name == "confident answers":
        return component.n / look.fraction >= CONFIDENT_FROM
    return any(c.name == component.name and not c.unavailable for c in full.components)


def _false_alarms(
    components: Sequence[Component],
    pair: Paired,
    fractions: Sequence[float],
    place: int,
    levels: Sequence[Level],
) -> float:
    """Return an upper bound of how often an unchanged model fails at any look."""
    known, per_unit = pair.equal_units, len(pair.gap0) / pair.equal_units
    total = 0.0
    for fraction, level in zip(fractions, levels, strict=True):
        units = max(1, round(known * fraction / fractions[place]))
        expected = scaled(components, known, units, per_unit)
        rate = false_alarm_rate(expected, upper_quantile(level.alpha, units), units)
        total += min(rate, level.allowed)
    return min(1.0, total)
