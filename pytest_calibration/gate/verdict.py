"""Verdicts: a limit or a baseline held against a measurement, as a value that explains itself.

Nothing here raises because calibration is bad; an assertion does that. One predicate decides
(:attr:`Component.fired`, or ``value >= limit``), and the text prints the digits that show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component, Paired
from pytest_calibration.gate.decision import (
    ALPHA,
    MAX_UNDETECTED,
    MIN_UNITS,
    TOLERANCE,
    State,
    decide,
)
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.metrics import DEFAULT_BINS, metric_named
from pytest_calibration.metrics.sharpness import Sharpness
from pytest_calibration.predictions import (
    IntArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.text.numbers import counted, distinct
from pytest_calibration.text.visible import visible

Against: TypeAlias = Literal["baseline", "parent", "other"]
MIN_OVERLAP: Final = 0.95
# Below it the items that would make a limit testable are more than anybody has.
SMALLEST_TESTABLE: Final = 0.001


@dataclass(frozen=True)
class Past:
    """What was stored before under the same key.

    Attributes:
        model: name of the model that was measured; empty where it is not known.
        n: number of items.
        ece: ECE as stored.
        accuracy: accuracy as stored.
        signed_gap: mean confidence minus accuracy, as stored.
        replaced: the reason with which it was replaced; empty for what counts now.
    """

    model: str
    n: int
    ece: float
    accuracy: float
    signed_gap: float
    replaced: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison.

    Attributes:
        state: what it came to.
        measurement: the measured side.
        baseline: the stored side (or the parent's), where there is one.
        against: what kind of thing the baseline is: a stored ``baseline``, the ``parent`` model,
            or ``other`` predictions.
        reference: what the baseline is called in a sentence (``baseline``, ``parent base``).
        components: every way of getting worse that was looked at, in ECE's own units.
        n: number of items compared (the intersection of both sides).
        units: number of independent units among them.
        tolerance: what worsening is allowed.
        limit: the fixed limit, for ``judge``; NaN otherwise.
        held: what ``judge`` held against it: the value, or the lower end of its interval.
        alpha: one-sided error level of each component's bound, as asked.
        level: one-sided confidence of the bounds; above 1 - alpha where more is needed to keep
            the false alarms of an unchanged model low (``power.bound_quantile``).
        smallest_visible: smallest worsening that would be seen at 80 % power; NaN for ``judge``.
        false_alarm_rate: at most how often an unchanged model would fail; NaN for ``judge``.
        n_needed: items at which an inconclusive comparison would decide; 0 otherwise.
        improved: whether the candidate is better than the baseline beyond the tolerance.
        reason: one sentence on why, where the state is not a matter of numbers.
        notes: further sentences a reader must see.
        above: for ``judge``, whether the limit is a floor (accuracy) instead of a ceiling.
        candidate: the items that were measured; None for ``judge``, which sees one number.
        stored: the items they were held against, in the same order; None where there are none.
        sharpness_before: how sure the baseline was, where only a summary of it is stored.
        past: what was stored before, the oldest first; the last is what counts now.
    """

    state: State
    measurement: Measurement
    baseline: Measurement | None = None
    against: Against = "other"
    reference: str = "baseline"
    components: tuple[Component, ...] = ()
    n: int = 0
    units: int = 0
    tolerance: float = TOLERANCE
    limit: float = math.nan
    held: float = math.nan
    alpha: float = ALPHA
    level: float = 1 - ALPHA
    smallest_visible: float = math.nan
    false_alarm_rate: float = math.nan
    n_needed: int = 0
    improved: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    above: bool = False
    candidate: Predictions | None = field(default=None, repr=False, compare=False)
    stored: Predictions | None = field(default=None, repr=False, compare=False)
    sharpness_before: Sharpness | None = field(default=None, repr=False)
    past: tuple[Past, ...] = field(default=(), repr=False)

    @property
    def deciding(self) -> Component | None:
        """The component that fired with the largest excess, else the one nearest to firing."""
        usable = [c for c in self.components if not c.unavailable and not math.isnan(c.bound)]
        return max(
            usable,
            key=lambda c: (c.fired, not c.changed_sides, c.bound - c.tolerance),
            default=None,
        )

    @property
    def difference(self) -> float:
        """Worsening of the deciding component (or value minus limit); NaN without a comparison."""
        if not math.isnan(self.limit):
            return self.held - self.limit
        return self.deciding.worsening if self.deciding else math.nan

    @property
    def bound(self) -> float:
        """Lower bound of that worsening (or the value held against the limit)."""
        if not math.isnan(self.limit):
            return self.held
        return self.deciding.bound if self.deciding else math.nan

    @property
    def headline(self) -> str:
        """State, probe and model in one line."""
        return _headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What decided, a sentence each: the limit, or every component that fails."""
        return tuple(_findings(self))

    @property
    def explanation(self) -> tuple[str, ...]:
        """Lines below the headline: what happened, by which component, on which numbers."""
        return tuple(_explanation(self))

    def explain(self) -> str:
        """Return headline and explanation as text."""
        return "\n".join((self.headline, *(f"  {line}" for line in self.explanation)))


def judge(
    measurement: Measurement, limit: float, *, above: bool = False, debiased: bool = False
) -> Verdict:
    """Hold one measurement against a fixed limit.

    Args:
        measurement: what was measured.
        limit: the first value that fails; with ``above``, the first value that passes.
        above: the limit is a floor (accuracy): values below it fail.
        debiased: hold the lower end of the interval against the limit instead of the value, so
            that noise alone does not fail it (for ``cross_fitted_ece``).

    Raises:
        MetricError: the limit is no number, or one that the metric can never have.
    """
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.number):
        raise MetricError(f"the limit must be a number, got {limit!r}.")
    limit = float(limit)
    metric = metric_named(measurement.metric)
    if not (math.isfinite(limit) and metric.lowest <= limit <= metric.highest):
        raise MetricError(
            f"the limit of {metric.name} must lie in [{metric.lowest:g}, {metric.highest:g}], got "
            f"{limit}; five per cent is 0.05."
        )
    held = measurement.low if debiased else measurement.value
    # Written so that a NaN on the measured side can only fail.
    ok = held >= limit if above else held < limit
    notes = []
    floor = measurement.noise_floor
    if measurement.metric in ("ece", "equal_mass_ece", "mce") and limit < floor:
        needed = (
            f"; {measurement.items_to_test(limit):,} {measurement.unit}s would make it testable"
            if not math.isnan(measurement.noise_floor_high) and limit >= SMALLEST_TESTABLE
            else ""
        )
        low, high = distinct(limit, floor)
        notes.append(
            f"the limit {low} lies under the noise floor {high}: a perfectly calibrated model "
            f"would show that much on {measurement.n:,} {measurement.unit}s{needed}."
        )
    few = debiased and measurement.n_clusters < MIN_UNITS
    if debiased:
        notes.append(
            "judged by the cross-fitted ECE and the lower end of its interval (debiased=True)."
        )
    state = State.PASSED if ok else State.ABOVE_LIMIT
    reason, n_needed = "", 0
    if ok and few:
        # The lower end of an interval of so few units lies below nearly every limit.
        what = "item" if measurement.n_clusters == measurement.n else "group"
        reason = (
            f"{counted(measurement.n_clusters, what)} cannot show an ECE above the limit by the "
            f"lower end of its interval; at least {MIN_UNITS} are needed."
        )
        state = State.INCONCLUSIVE
        n_needed = math.ceil(measurement.n * MIN_UNITS / measurement.n_clusters)
    return Verdict(
        state=state,
        reason=reason,
        n_needed=n_needed,
        measurement=measurement,
        n=measurement.n,
        units=measurement.n_clusters,
        limit=limit,
        held=held,
        notes=tuple(notes),
        above=above,
    )


def compare(
    predictions: PredictionsLike,
    baseline: PredictionsLike,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    accuracy_tolerance: float | None = TOLERANCE,
    max_undetected: float = MAX_UNDETECTED,
    bins: int = DEFAULT_BINS,
    against: Against = "other",
    reference: str = "baseline",
) -> Verdict:
    """Decide whether calibration got worse than the baseline, on the items both sides share.

    Fails when the one-sided lower bound of a worsening lies beyond the tolerance in any of four
    closed-form components, all in ECE's own units: the signed gap (scaling), the slope (a tilt at
    an unchanged mean), a learned smooth shape and the cross-fitted ECE (whatever these miss); or
    when the lower bound of the accuracy lost does so, since a model that only guesses has an ECE
    near 0.
    Inconclusive when fewer than 50 independent units are shared, or when a worsening of
    ``tolerance + max_undetected`` could have been missed (80 % power).

    Args:
        predictions: the candidate; predictions or a pair (probabilities, labels).
        baseline: what it is held against, from the same probe.
        tolerance: allowed worsening in ECE units, at least 0.
        alpha: one-sided error level of each bound, in (0, 0.5).
        accuracy_tolerance: allowed loss of accuracy; None switches this guard off.
        max_undetected: how much beyond the tolerance may stay invisible.
        bins: bins of the printed ECE; both sides are measured with them.
        against: what kind of thing the baseline is.
        reference: what the baseline is called in the text.

    Raises:
        MetricError: a tolerance below 0, an alpha outside (0, 0.5), or a NaN in a component.
    """
    _check_settings(tolerance, alpha, accuracy_tolerance, max_undetected)
    tolerance, alpha, max_undetected = float(tolerance), float(alpha), float(max_undetected)
    accuracy_tolerance = None if accuracy_tolerance is None else float(accuracy_tolerance)
    predictions, baseline = as_predictions(predictions), as_predictions(baseline)
    measured = measure(predictions, bins=bins)
    verdict = Verdict(
        state=State.NOT_COMPARABLE,
        measurement=measured,
        baseline=measure(baseline, bins=bins),
        against=against,
        reference=reference,
        tolerance=tolerance,
        alpha=alpha,
        candidate=predictions,
    )
    differing = predictions.signature.hard_differences(baseline.signature)
    if differing:
        return replace(verdict, reason=difference_reason(differing, reference))
    ours, theirs, remark = align(predictions, baseline, reference)
    if ours is None or theirs is None:
        return replace(verdict, reason=remark)
    notes = (remark,) if remark else ()
    candidate, stored = predictions.take(ours), baseline.take(theirs)
    pair = Paired.of(stored, candidate)
    decision = decide(
        pair,
        tolerance=tolerance,
        alpha=alpha,
        accuracy_tolerance=accuracy_tolerance,
        max_undetected=max_undetected,
    )
    for component in decision.components:
        if not component.unavailable and math.isnan(component.bound) and pair.units >= MIN_UNITS:
            raise MetricError(
                f"the {component.name} of probe {predictions.probe!r} is NaN on {len(ours)} items; "
                "no verdict is given."
            )
    return replace(
        verdict,
        state=decision.state,
        measurement=measured if len(ours) == len(predictions) else measure(candidate, bins=bins),
        baseline=measure(stored, bins=bins),
        components=decision.components,
        level=decision.level,
        n=len(ours),
        units=pair.units,
        smallest_visible=decision.smallest_visible,
        false_alarm_rate=decision.false_alarm_rate,
        n_needed=decision.n_needed,
        improved=decision.improved,
        reason=decision.reason,
        notes=notes,
        candidate=candidate,
        stored=stored,
    )


def _check_settings(
    tolerance: float, alpha: float, accuracy_tolerance: float | None, max_undetected: float
) -> None:
    for name, value in (
        ("tolerance", tolerance),
        ("accuracy_tolerance", accuracy_tolerance),
        ("max_undetected", max_undetected),
        ("alpha", alpha),
    ):
        absent = value is None and name == "accuracy_tolerance"
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not absent and not number:
            raise MetricError(f"{name} must be a number, got {value!r}.")
        if name == "alpha":
            continue
        if value is not None and not 0 <= value < 1:
            raise MetricError(f"{name} must be at least 0 and below 1, got {value}.")
    if not 0 < alpha < 0.5:
        raise MetricError(f"alpha must lie between 0 and 0.5, got {alpha}.")


def difference_reason(differing: list[tuple[str, str, str]], reference: str) -> str:
    """Name the hard fields in which the two sides differ."""
    parts = [f"{name} is {ours}, the {reference} has {theirs}" for name, ours, theirs in differing]
    return "the probe is not the same: " + "; ".join(parts) + "."


def align(
    predictions: Predictions, baseline: Predictions, reference: str = "baseline"
) -> tuple[IntArray | None, IntArray | None, str]:
    """Pair two runs by item id.

    Returns:
        Positions in the first, positions in the second, and a remark. The positions are None where
        the overlap is too small: neither side holds the other, and less than 95 % of the larger
        side is shared.
    """
    _, ours, theirs = np.intersect1d(
        predictions.item_ids, baseline.item_ids, assume_unique=True, return_indices=True
    )
    # In the order of the candidate: sums then do not depend on how ids happen to sort.
    order = np.argsort(ours, kind="stable")
    ours, theirs = ours[order], theirs[order]
    shared, n, m = len(ours), len(predictions), len(baseline)
    counts = f"{shared:,} of the {n:,} {predictions.unit}s here are among the {reference}'s {m:,}"
    if shared == n == m:
        return ours, theirs, ""
    if shared and shared in (n, m):
        return ours, theirs, f"compared on the part both sides have: {counts}."
    if shared < MIN_OVERLAP * max(n, m):
        return None, None, f"the items are not the same: {counts}."
    return ours, theirs, f"compared on the part both sides have: {counts}."


# --- text ----------------------------------------------------------------------------------------


def direction(measurement: Measurement) -> str:
    """Say in words which way confidences err, with the numbers that show it."""
    gap = measurement.signed_gap
    word = "over-confident" if gap > 0 else "under-confident" if gap < 0 else "balanced"
    return (
        f"{word} by {abs(gap):.3f} (mean confidence {measurement.mean_confidence:.3f}, "
        f"accuracy {measurement.accuracy:.3f})"
    )


_NAMES: Final = {
    State.REGRESSED: "calibration regressed",
    State.ABOVE_LIMIT: "above the limit",
    State.NOT_COMPARABLE: "not comparable",
    State.NO_BASELINE: "no baseline",
    State.INCONCLUSIVE: "inconclusive",
    State.PASSED: "passed",
    State.RECORDED: "recorded",
}


def _headline(verdict: Verdict) -> str:
    m = verdict.measurement
    name = _NAMES[verdict.state]
    fired = _fired(verdict)
    if fired and all(c.name == "accuracy" for c in fired):
        name = "accuracy regressed"
    if verdict.above and verdict.state is State.ABOVE_LIMIT:
        name = "below the limit"
    on = f" on {visible(m.model)}" if m.model else ""
    return f"{name}: probe {m.probe}{on}"


def _fired(verdict: Verdict) -> list[Component]:
    """Return the components that fail; none of what is too small to decide."""
    undecided = verdict.state is State.INCONCLUSIVE
    return [] if undecided else [c for c in verdict.components if c.fired]


def _findings(verdict: Verdict) -> Iterator[str]:
    if not math.isnan(verdict.limit):
        m, held = verdict.measurement, verdict.held
        value, limit = distinct(held, verdict.limit)
        sign = "=" if held == verdict.limit else ">" if held > verdict.limit else "<"
        needs = "at least the limit" if verdict.above else "below the limit"
        end = "" if held == m.value else ", lower end of its interval"
        yield f"{m.label}{end}: {value} {sign} limit {limit} (must be {needs})"
    yield from (_component_sentence(component, verdict) for component in _fired(verdict))


def _explanation(verdict: Verdict) -> Iterator[str]:
    m = verdict.measurement
    if verdict.reason:
        yield verdict.reason
    yield from verdict.findings
    yield _numbers(m)
    if verdict.baseline is not None:
        yield f"{verdict.reference}: {_numbers(verdict.baseline)}"
    yield direction(m)
    if verdict.components:
        yield from _component_table(verdict)
    if not math.isnan(verdict.smallest_visible):
        yield f"smallest worsening visible here at 80 % power: {verdict.smallest_visible:.3f}"
    if verdict.n_needed:
        yield f"about {verdict.n_needed:,} {m.unit}s would decide it"
    if verdict.improved:
        accept = "; it may be accepted" if verdict.against == "baseline" else ""
        yield f"better than the {verdict.reference} beyond the tolerance{accept}"
    yield from (f"note: {note}" for note in verdict.notes)


def _numbers(m: Measurement) -> str:
    groups = f" in {m.n_clusters:,} groups" if m.n_clusters != m.n else ""
    # A ceiling keeps a printed interval from excluding the value it belongs to.
    floor = f", noise floor {m.noise_floor:.3f}" if metric_named(m.metric).error else ""
    return (
        f"{m.label} {m.value:.3f} [{m.low:.3f}, {m.high:.3f}], n = {m.n:,} {m.unit}s{groups}{floor}"
    )


def _component_sentence(c: Component, verdict: Verdict) -> str:
    bound, tolerance = distinct(c.bound, c.tolerance)
    level = f"{100 * verdict.level:.3g} %"
    change = f"{c.before:.3f} -> {c.after:.3f}"
    verb = "fell" if c.name == "accuracy" else "worsened"
    return (
        f"{c.name} {verb} by {c.worsening:.3f} ({change}); at least {bound} with {level} "
        f"confidence: {bound} > tolerance {tolerance}"
    )


def _component_table(verdict: Verdict) -> Iterator[str]:
    heads = f"{'before':>9}{'after':>9}{'worse by':>10}{'at least':>10}{'allowed':>9}"
    yield f"{'component':<18}{heads}"
    for c in verdict.components:
        if c.unavailable:
            yield f"{c.name:<18} not applicable: {c.unavailable}"
            continue
        bound, tolerance = distinct(c.bound, c.tolerance)
        mark = ""
        if c.changed_sides:
            mark = "  (changed sides, and is no larger)"
        elif c.fired:
            mark = "  <- would fail" if verdict.state is State.INCONCLUSIVE else "  <- fails"
        yield (
            f"{c.name:<18}{c.before:>z9.3f}{c.after:>z9.3f}{c.worsening:>z10.3f}"
            f"{bound:>10}{tolerance:>9}{mark}"
        )
