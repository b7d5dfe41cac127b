"""A line of a history compared with the first of its series: on their items, else on the numbers.

With the items of both it is the comparison that tests make, paired. Without, the two measurements
count as independent, with the standard errors of their intervals: that sees less, and never more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pytest_calibration.gate.components import ESTABLISHED, Component, Paired
from pytest_calibration.gate.decision import MIN_UNITS, State, decide
from pytest_calibration.gate.power import bound_quantile, false_alarm_rate, smallest_visible
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import align
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile

# Standard errors from a value to the end of its 95 % interval.
TWO_SIDED: Final = NORMAL.inv_cdf(0.975)
# What a comparison of stored numbers judges: name of the component, and of the metric.
JUDGED: Final = (
    ("signed gap", "signed_gap"),
    ("cross-fitted ECE", "cross_fitted_ece"),
    ("accuracy", "accuracy"),
)


@dataclass(frozen=True)
class Comparison:
    """One line against the first of its series.

    Attributes:
        state: what it comes to by itself: passed, regressed, inconclusive or not comparable.
        paired: whether it is made item by item.
        components: the ways of getting worse that were compared.
        p_value: upper bound of how often an unchanged model gets worse as clearly; NaN where
            nothing is decided.
        reason: why it is not comparable; else empty.
        remains: whether it is worse beyond doubt: regressed, also after the correction for the
            number of comparisons.
    """

    state: State
    paired: bool
    components: tuple[Component, ...] = ()
    p_value: float = math.nan
    reason: str = ""
    remains: bool = False

    @property
    def alone(self) -> bool:
        """Whether it regressed by itself, but not after the correction."""
        return self.state is State.REGRESSED and not self.remains

    @property
    def clearest(self) -> Component | None:
        """The component that fails by most; None where none does."""
        failing = [c for c in self.components if c.fired] * (self.state is State.REGRESSED)
        return max(failing, key=lambda c: c.bound - c.tolerance, default=None)


def compare_items(
    candidate: Predictions, first: Predictions, reference: str, strictness: Strictness
) -> Comparison:
    """Compare the items of two lines, as ``gate.verdict.compare`` does.

    Args:
        candidate: items of the later line.
        first: items of the first line.
        reference: what that is called in a reason.
        strictness: tolerance and error levels.
    """
    ours, theirs, problem = align(candidate, first, reference, strictness.min_share)
    if ours is None or theirs is None:
        return Comparison(State.NOT_COMPARABLE, paired=True, reason=problem)
    found = decide(Paired.of(first.take(theirs), candidate.take(ours)), strictness)
    return Comparison(found.state, True, found.components, found.p_value)


def compare_numbers(candidate: Line, first: Line, strictness: Strictness) -> Comparison:
    """Compare the stored numbers of two lines, as those of independent measurements."""
    units = min(candidate.units, first.units)
    shifts = _shifts(candidate, first, strictness)
    if units < MIN_UNITS or not shifts:
        return Comparison(State.INCONCLUSIVE, paired=False)
    errors = tuple(math.hypot(*shift.errors) for shift in shifts)
    kinds = tuple((shift.name, shift.tolerance) for shift in shifts)
    z = _quantile(kinds, errors, strictness.alpha, units)
    bounded = tuple(_component(shift, z) for shift in shifts)
    worst = max(
        ((c.worsening - c.tolerance) / c.standard_error for c in bounded if c.grew),
        default=-math.inf,
    )
    p_value = false_alarm_rate(bounded, worst, units) if math.isfinite(worst) else 1.0
    state = State.INCONCLUSIVE
    if any(c.fired for c in bounded):
        state = State.REGRESSED
    elif smallest_visible(bounded, strictness.tolerance, z) <= (
        strictness.tolerance + strictness.max_undetected
    ):
        state = State.PASSED
    return Comparison(state, False, bounded, p_value)


def error_of(metric: str, line: Line) -> float:
    """Return the standard error behind a stored interval; NaN where there is none.

    The interval of the cross-fitted ECE ends below at 0, and above at the plug-in value plus as
    many standard errors as others; so its upper half is read.
    """
    number = line.metrics[metric]
    if number.low is None or number.high is None:
        return math.nan
    if metric != "cross_fitted_ece":
        return (number.high - number.low) / 2 / TWO_SIDED
    plug_in = line.metrics.get("ece")
    return math.nan if plug_in is None else max(number.high - plug_in.value, 0.0) / TWO_SIDED


class _Shift(NamedTuple):
    """A number of two lines.

    Attributes:
        name: of its component.
        before: value of the first line.
        after: value of the later line.
        errors: standard error of either.
        tolerance: allowed worsening.
    """

    name: str
    before: float
    after: float
    errors: tuple[float, float]
    tolerance: float


def _shifts(candidate: Line, first: Line, strictness: Strictness) -> list[_Shift]:
    """Return what can be judged: numbers that both lines have, with intervals."""
    found = []
    for name, metric in JUDGED:
        before, after = first.metrics.get(metric), candidate.metrics.get(metric)
        guard = metric == "accuracy"
        tolerance = strictness.accuracy_tolerance if guard else strictness.tolerance
        if before is None or after is None or tolerance is None:
            continue
        errors = error_of(metric, first), error_of(metric, candidate)
        if math.hypot(*errors) > 0:
            found.append(_Shift(name, before.value, after.value, errors, tolerance))
    return found


def _component(shift: _Shift, z: float) -> Component:
    name, before, after, errors, tolerance = shift
    grew, sign = True, 1.0
    if name == "signed gap":
        sign = 1.0 if after >= 0 else -1.0
        grew = abs(after) > abs(before)
        if grew and sign * before < 0:
            # As in a paired comparison: through zero, the new error must be established.
            grew = sign * after > ESTABLISHED * errors[1]
            if -sign * before > ESTABLISHED * errors[0]:
                grew = grew and abs(after) - abs(before) > tolerance
    elif name == "accuracy":
        sign = -1.0
    worsening, error = sign * (after - before), math.hypot(*errors)
    bound = worsening - z * error
    return Component(name, before, after, worsening, error, bound, tolerance, grew=grew)


@lru_cache(maxsize=1024)
def _quantile(
    kinds: tuple[tuple[str, float], ...], errors: tuple[float, ...], alpha: float, units: int
) -> float:
    components = [
        Component(name, 0.0, 0.0, 0.0, error, math.nan, tolerance)
        for (name, tolerance), error in zip(kinds, errors, strict=True)
    ]
    return max(upper_quantile(alpha, units), bound_quantile(components, alpha, units))
