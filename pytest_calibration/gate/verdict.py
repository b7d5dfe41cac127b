"""Verdicts: a measurement compared with a limit or a baseline, as a value that explains itself.

Nothing here raises because calibration is bad; an assertion does that. One predicate
decides (:attr:`Component.fired` against a baseline, ``passes`` in :func:`judge`), and the text
prints the digits that show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component, Paired
from pytest_calibration.gate.decision import MIN_UNITS, Decision, State, decide
from pytest_calibration.gate.early_stop import decide_at_look
from pytest_calibration.gate.looks import AtLook, Look
from pytest_calibration.gate.operating_point import COVERAGE, PRECISION, decide_at
from pytest_calibration.gate.strictness import (
    ALPHA,
    COVERAGE_TOLERANCE,
    MAX_UNDETECTED,
    MIN_SHARE,
    TAIL,
    THRESHOLD,
    TOLERANCE,
    OperatingPoint,
    Setting,
    Strictness,
)
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.metrics import DEFAULT_BINS, metric_named
from pytest_calibration.metrics.sharpness import Sharpness
from pytest_calibration.metrics.table import below_zero, metric_at, sides_below_zero
from pytest_calibration.predictions import (
    IdArray,
    IntArray,
    Predictions,
    PredictionsLike,
    as_predictions,
    positional_ids,
)
from pytest_calibration.text.names import definite, labelled
from pytest_calibration.text.numbers import counted, distinct
from pytest_calibration.text.visible import visible

Against: TypeAlias = Literal["baseline", "parent", "anchor", "run", "other"]
# For a smaller limit no number of items that would make it testable is printed.
SMALLEST_TESTABLE: Final = 0.001
# What is measured of the candidate, and of what it is compared with.
SIDES: Final = ("measurement", "baseline")
# Components of which less is worse.
FALLING: Final = frozenset({"accuracy", PRECISION, COVERAGE})


@dataclass(frozen=True)
class Past:
    """The stored numbers of a baseline that is, or was, stored under the same key.

    Attributes:
        model: name of the model that was measured; empty where it is not known.
        n: number of items.
        ece: stored ECE.
        accuracy: stored accuracy.
        signed_gap: stored mean confidence minus accuracy.
        replaced: the reason with which it was replaced; empty for the current one.
    """

    model: str
    n: int
    ece: float
    accuracy: float
    signed_gap: float
    replaced: str = ""


@dataclass(frozen=True)
class Difference:
    """A soft setting of the signature in which two runs differ.

    Attributes:
        name: its name, as ``dtype``.
        now: value of the candidate.
        before: value of the baseline.
    """

    name: str
    now: str
    before: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison.

    Attributes:
        state: what the comparison came to.
        measurement: of the candidate.
        baseline: measurement of the other side, where there is one.
        against: what kind of thing the baseline is: a stored ``baseline``, the ``parent`` model,
            the ``anchor`` from which drift is counted, the first checkpoint of a ``run``, or
            ``other`` predictions.
        reference: what the baseline is called in a sentence (``baseline``, ``parent base``).
        components: all ways of getting worse that were tested, in ECE's own units.
        n: number of items compared (the intersection of both sides).
        units: number of independent units among them.
        candidate_n: number of items of the candidate, before both sides were paired.
        baseline_n: number of items of the baseline; 0 without one.
        differences: soft settings that differ, but for the model.
        settings: how strict the comparison was, where that is not the default.
        cautions: sentences on these, which stand beside the verdict in every report.
        tolerance: allowed worsening.
        limit: what the value was compared with by ``judge``; NaN for ``compare``.
        judged: the number that was compared with it: the value, or the lower end of its interval.
        alpha: one-sided error level of each component's bound, as asked for.
        smallest_visible: smallest shift or scaling of the confidences that is seen with 80 % power;
            NaN for ``judge``.
        false_alarm_rate: upper bound of how often an unchanged model fails; NaN for ``judge``.
        p_value: upper bound of how often an unchanged model gets worse as clearly as this one; NaN
            for ``judge``.
        n_needed: number of items at which an inconclusive comparison would decide; 0 otherwise.
        improved: whether the candidate is better than the baseline beyond the tolerance.
        reason: one sentence on why, where the numbers alone do not say it.
        notes: further sentences that a reader must see.
        recorded_in: the YAML file of the record that this verdict adds or replaces; else empty.
        above: for ``judge``, whether the limit is a lower limit (accuracy) instead of an upper one.
        candidate: the items that were measured; None for ``judge``, which gets one number.
        baseline_items: those of the baseline, in the same order; None where there are none.
        sharpness_before: of the stored baseline, where only a summary of it is stored.
        past: what was stored before, the oldest first; the last is the current baseline.
        since_anchor: the comparison with the anchor, from which accepted steps are counted; None
            where there is none.
        point: the operating point that was compared; None for a comparison of calibration.
        coverage: measurements of the coverage there, of candidate and baseline; None without.
        at_points: the comparisons at the operating points of the project.
        look: what the look came to, where the comparison may stop before all items are asked; None
            elsewhere. The smallest visible shift is then that of all looks together.
    """

    state: State
    measurement: Measurement
    baseline: Measurement | None = None
    against: Against = "other"
    reference: str = "baseline"
    components: tuple[Component, ...] = ()
    n: int = 0
    units: int = 0
    candidate_n: int = 0
    baseline_n: int = 0
    differences: tuple[Difference, ...] = ()
    settings: tuple[Setting, ...] = ()
    cautions: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    limit: float = math.nan
    judged: float = math.nan
    alpha: float = ALPHA
    smallest_visible: float = math.nan
    false_alarm_rate: float = math.nan
    p_value: float = math.nan
    n_needed: int = 0
    improved: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    recorded_in: str = ""
    above: bool = False
    candidate: Predictions | None = field(default=None, repr=False, compare=False)
    baseline_items: Predictions | None = field(default=None, repr=False, compare=False)
    sharpness_before: Sharpness | None = field(default=None, repr=False)
    past: tuple[Past, ...] = field(default=(), repr=False)
    since_anchor: Verdict | None = field(default=None, repr=False, compare=False)
    point: OperatingPoint | None = None
    coverage: tuple[Measurement, Measurement] | None = field(default=None, repr=False)
    at_points: tuple[Verdict, ...] = field(default=(), repr=False, compare=False)
    look: AtLook | None = None

    def __bool__(self) -> bool:
        """Whether no assertion fails on it: ``assert compare(candidate, baseline)`` can fail."""
        return not self.state.fails

    @property
    def failing(self) -> tuple[Component, ...]:
        """The components that fail; none of an inconclusive comparison."""
        decided = self.state is not State.INCONCLUSIVE
        return tuple(c for c in self.components if c.fired and decided)

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
            return self.judged - self.limit
        return self.deciding.worsening if self.deciding else math.nan

    @property
    def bound(self) -> float:
        """Lower bound of that worsening (or the value compared with the limit)."""
        if not math.isnan(self.limit):
            return self.judged
        return self.deciding.bound if self.deciding else math.nan

    @property
    def level(self) -> float:
        """One-sided confidence of the bounds, of none less.

        Above 1 - alpha where more is needed to keep the false alarms of an unchanged model low.
        """
        levels = (c.level for c in self.components if not c.unavailable)
        return min(levels, default=1 - self.alpha)

    @property
    def headline(self) -> str:
        """State, probe and model in one line."""
        name, accuracy = HEADLINES[self.state], [c.name == "accuracy" for c in self.failing]
        if self.state is State.REGRESSED:
            subject = "accuracy" if accuracy and all(accuracy) else "calibration"
            if self.point is not None:
                subject = " and ".join(c.name for c in self.failing)
            drift = self.against in ("anchor", "run")
            name = f"{subject} {'drifted' if drift else 'regressed'}"
        if self.above and self.state is State.ABOVE_LIMIT:
            name = "below the limit"
        at = "" if self.point is None else f" at {self.point.name}"
        return headline(f"{name}{at}", self.measurement.probe, self.measurement.model)

    @property
    def findings(self) -> tuple[str, ...]:
        """What decided, a sentence each: the limit, or every component that fails."""
        limit = () if math.isnan(self.limit) else (_limit_sentence(self),)
        return (*limit, *(_component_sentence(c) for c in self.failing))

    @property
    def explanation(self) -> tuple[str, ...]:
        """Lines below the headline: what happened, by which component, on which numbers."""
        return tuple(_explanation(self))

    def explain(self) -> str:
        """Return headline and explanation as text."""
        return "\n".join((self.headline, *(f"  {line}" for line in self.explanation)))


V = TypeVar("V", bound=Verdict)


def judge(
    measurement: Measurement, limit: float, *, above: bool = False, debiased: bool = False
) -> Verdict:
    """Compare one measurement with a fixed limit.

    Args:
        measurement: what was measured.
        limit: the first value that fails; with ``above``, the first value that passes.
        above: the limit is a lower one (accuracy): values below it fail.
        debiased: for ``cross_fitted_ece``: compare the lower end of its interval with the limit
            instead of the value, so that noise alone does not fail it.

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
    judged = measurement.low if debiased else measurement.value
    # Written so that a NaN on the measured side can only fail.
    passes = judged >= limit if above else judged < limit
    n, units = measurement.n, measurement.n_clusters
    verdict = Verdict(
        State.PASSED if passes else State.ABOVE_LIMIT,
        measurement,
        n=n,
        units=units,
        limit=limit,
        judged=judged,
        notes=tuple(_limit_notes(measurement, limit, debiased=debiased)),
        above=above,
    )
    if not (passes and debiased and units < MIN_UNITS):
        return verdict
    # The lower end of an interval of so few units lies below nearly every limit.
    reason = (
        f"{counted(units, 'item' if units == n else 'group')} cannot show an ECE above the limit "
        f"by the lower end of its interval; at least {MIN_UNITS} are needed."
    )
    needed = math.ceil(n * MIN_UNITS / units)
    return replace(verdict, state=State.INCONCLUSIVE, n_needed=needed, reason=reason)


def _limit_notes(m: Measurement, limit: float, *, debiased: bool) -> Iterator[str]:
    floor = m.noise_floor
    if m.metric in ("ece", "equal_mass_ece", "mce") and limit < floor:
        needed = ""
        if not math.isnan(m.noise_floor_high) and limit >= SMALLEST_TESTABLE:
            needed = f"; {m.items_to_test(limit):,} {m.unit}s would make it testable"
        low, high = distinct(limit, floor)
        yield (
            f"the limit {low} lies under the noise floor {high}: a perfectly calibrated model "
            f"would show that much on {m.n:,} {m.unit}s{needed}."
        )
    if debiased:
        yield (
            "judged by the cross-fitted ECE and the lower end of its interval (debiased=True); on "
            "few items it is lower than the true ECE."
        )


def compare(
    predictions: PredictionsLike,
    baseline: PredictionsLike,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    accuracy_tolerance: float | None = TOLERANCE,
    max_undetected: float = MAX_UNDETECTED,
    min_share: float = MIN_SHARE,
    tail: float = TAIL,
    bins: int = DEFAULT_BINS,
    against: Against = "other",
    reference: str | None = None,
    look: Look | None = None,
) -> Verdict:
    """Decide whether calibration got worse than the baseline, on the items both sides share.

    It fails when the one-sided lower bound of a worsening lies beyond the tolerance in any of four
    components, all in ECE's own units and with closed-form standard errors: the signed gap
    (scaling), the slope (a tilt at an unchanged mean), a smooth shape learned on other folds, and
    the cross-fitted ECE (what these miss). It also fails when the mean gap of the confident answers
    grows by more than the tolerance, however few these are, and when accuracy falls by more than
    its own: a model that only guesses has an ECE near 0.
    It is inconclusive when fewer than 50 independent units are shared, or when a worsening of
    ``tolerance + max_undetected`` could have been missed (80 % power).

    Args:
        predictions: the candidate; predictions or a pair (probabilities, labels).
        baseline: what it is compared with, from the same probe.
        tolerance: allowed worsening in ECE units, in [0, 1).
        alpha: one-sided error level of each bound, in (0, 0.5).
        accuracy_tolerance: allowed loss of accuracy, in [0, 1); None switches this guard off.
        max_undetected: how much beyond the tolerance may stay undetected, in [0, 1).
        min_share: share of the baseline's items that must be there, in [0, 1). Fewer are compared
            only where they are those that a limit takes (``Predictions.limited``).
        tail: the answers with more confidence than this are also compared by themselves; in
            [0, 1], where 1 switches that off.
        bins: bins of the printed ECE; both sides are measured with them.
        against: what kind of thing the baseline is: ``baseline`` for a stored one, ``parent`` for
            the model before it was fine-tuned, ``anchor`` for what drift is counted from, ``run``
            for an earlier checkpoint, else ``other``.
        reference: what the baseline is called in the text; by default ``parent`` for a parent, else
            ``baseline``.
        look: which of several looks this is, where the candidate is asked in parts; both sides are
            compared on the items that are known. ``look.stopped`` of the verdict says whether it
            is decided.

    Raises:
        MetricError: one of these numbers outside its range, an unknown kind of baseline, a name
            that is no text, or a NaN in a component.
    """
    reference = _reference(against, reference)
    strictness = Strictness(tolerance, alpha, accuracy_tolerance, max_undetected, min_share, tail)
    predictions, baseline = as_predictions(predictions), as_predictions(baseline)
    at = None if look is None else look.among(baseline.item_ids)
    if at is not None and at.waits:
        now, before = (measure(one, bins=bins) for one in (predictions, baseline))
        return Verdict(State.INCONCLUSIVE, now, before, against, reference, look=at.left_open())

    def decided(pair: Paired) -> Decision:
        return decide(pair, strictness) if at is None else decide_at_look(pair, at, strictness)

    return _compared(
        predictions,
        baseline,
        strictness,
        decided,
        lambda *sides: dict(zip(SIDES, (measure(one, bins=bins) for one in sides), strict=True)),
        strictness.changed(),
        planned=None if look is None else look.item_ids,
        against=against,
        reference=reference,
        tolerance=strictness.tolerance,
        alpha=strictness.alpha,
    )


def compare_at(
    predictions: PredictionsLike,
    baseline: PredictionsLike,
    threshold: float = THRESHOLD,
    *,
    tolerance: float = TOLERANCE,
    coverage_tolerance: float | None = COVERAGE_TOLERANCE,
    alpha: float = ALPHA,
    max_undetected: float = MAX_UNDETECTED,
    min_share: float = MIN_SHARE,
    against: Against = "other",
    reference: str | None = None,
    points: int = 1,
) -> Verdict:
    """Decide whether the answers that are acted on got worse, or fewer, than the baseline's.

    These are the answers with a confidence of at least the threshold, both in float32. It fails
    when the one-sided lower bound of a fall lies beyond its tolerance: of *precision*, their
    accuracy, or of *coverage*, their share of all items. Both are paired. A coverage that rises is
    no regression. It is inconclusive when a fall of the tolerance + ``max_undetected`` of either
    could have been missed (80 % power), when a side has no such answer, or below 50 units.

    Args:
        predictions: the candidate; predictions or a pair (probabilities, labels).
        baseline: what it is compared with, from the same probe.
        threshold: in [0, 1].
        tolerance: allowed fall of precision, in [0, 1).
        coverage_tolerance: allowed fall of coverage, in [0, 1); None for any.
        alpha: one-sided error level of each bound, in (0, 0.5).
        max_undetected: how much beyond a tolerance may stay undetected, in [0, 1).
        min_share: as in :func:`compare`.
        against: as in :func:`compare`.
        reference: as in :func:`compare`.
        points: number of operating points that share the error level.

    Raises:
        MetricError: one of these numbers outside its range.
    """
    point = OperatingPoint(threshold, tolerance, coverage_tolerance)
    strictness = Strictness(alpha=alpha, max_undetected=max_undetected, min_share=min_share)
    verdict = _compared(
        as_predictions(predictions),
        as_predictions(baseline),
        strictness,
        lambda pair: decide_at(pair, point, strictness, points),
        lambda *sides: _sides_at(point, *sides),
        (*point.changed(), *strictness.changed()),
        against=against,
        reference=_reference(against, reference),
        tolerance=point.tolerance,
        alpha=strictness.alpha,
        point=point,
    )
    if points == 1:
        return verdict
    share = f"one of {points} operating points, which share the error level: {alpha / points:.3g}."
    return replace(verdict, notes=(*verdict.notes, share))


def compare_at_points(
    predictions: Predictions,
    baseline: Predictions,
    points: Sequence[OperatingPoint],
    strictness: Strictness,
    *,
    against: Against = "other",
    reference: str | None = None,
) -> tuple[Verdict, ...]:
    """Compare at each of some operating points, which share the error level."""
    return tuple(
        compare_at(
            predictions,
            baseline,
            point.threshold,
            tolerance=point.tolerance,
            coverage_tolerance=point.coverage_tolerance,
            alpha=strictness.alpha,
            max_undetected=strictness.max_undetected,
            min_share=strictness.min_share,
            against=against,
            reference=reference,
            points=len(points),
        )
        for point in points
    )


def _sides_at(point: OperatingPoint, *sides: Predictions) -> dict[str, Any]:
    """Measure both sides at an operating point: coverage, and precision where both have it."""
    coverage, precision = (metric_at(name, point.threshold).name for name in (COVERAGE, PRECISION))
    covered = tuple(measure(one, coverage) for one in sides)
    shown = covered
    if all(one.value for one in covered):
        shown = tuple(measure(one, precision) for one in sides)
    return {**dict(zip(SIDES, shown, strict=True)), "coverage": covered}


def _compared(
    predictions: Predictions,
    baseline: Predictions,
    strictness: Strictness,
    decided: Callable[[Paired], Decision],
    measured: Callable[..., dict[str, Any]],
    settings: tuple[Setting, ...],
    planned: IdArray | None = None,
    **fields: Any,
) -> Verdict:
    """Pair two sides and decide.

    Args:
        predictions: the candidate.
        baseline: the other side.
        strictness: its ``min_share`` counts here.
        decided: decides on the pairs.
        measured: fields of the verdict that measure candidate and baseline.
        settings: those that are not the default.
        planned: ids of all items of the candidate, where it is a part of them.
        fields: further fields of the verdict.
    """
    fields |= {"candidate_n": len(predictions), "baseline_n": len(baseline)}
    reference = fields["reference"]
    ours, theirs, remark = align(predictions, baseline, reference, strictness.min_share, planned)
    if ours is None or theirs is None:
        return Verdict(
            State.NOT_COMPARABLE,
            reason=remark,
            candidate=predictions,
            cautions=part_caution(predictions),
            **measured(predictions, baseline),
            **fields,
        )
    candidate, stored = predictions.take(ours), baseline.take(theirs)
    pair = Paired.of(stored, candidate)
    decision = decided(pair)
    undefined = [c.name for c in decision.components if not c.unavailable and math.isnan(c.bound)]
    if undefined and pair.units >= MIN_UNITS:
        raise MetricError(
            f"the {undefined[0]} of probe {predictions.probe!r} is NaN on {len(ours)} items; "
            "no verdict is given."
        )
    verdict = Verdict(
        n=len(ours),
        units=pair.units,
        candidate=candidate,
        baseline_items=stored,
        **measured(candidate, stored),
        **vars(decision),
        **fields,
    )
    if decision.look is not None:
        verdict = replace(verdict, notes=tuple(_look_notes(decision.look, verdict)))
    return cautioned(verdict, remark, settings)


def part_caution(candidate: Predictions) -> tuple[str, ...]:
    """Say that numbers are those of a part, where there is no comparison that asks for more."""
    if not candidate.asked_of:
        return ()
    unit = candidate.unit
    return (
        f"these are the numbers of the first {candidate.n:,} of {candidate.asked_of:,} {unit}s: "
        "where nothing is compared, no more are asked.",
    )


def cautioned(verdict: V, remark: str, settings: tuple[Setting, ...]) -> V:
    """Return a verdict with what a reader must know of the comparison, as values and in words.

    Args:
        verdict: with the items of both sides.
        remark: how they were paired, from :func:`align`; empty where all were.
        settings: those that are not the default.
    """
    candidate, baseline = verdict.candidate, verdict.baseline_items
    assert candidate is not None
    assert baseline is not None
    soft = candidate.signature.soft_differences(baseline.signature)
    differences = tuple(Difference(*one) for one in soft if one[0] != "model")
    cautions = [str(setting) for setting in settings]
    if differences:
        shown = ", ".join(f"{d.name} {d.now} ({d.before})" for d in differences)
        cautions.insert(0, f"differs from {known(verdict.reference)} in {shown}")
    if not (candidate.signature.known and baseline.signature.known):
        cautions.append(UNKNOWN.removesuffix("."))
    if verdict.look is not None and verdict.look.early:
        cautions.insert(0, f"stopped early, at look {verdict.look.number} of {verdict.look.looks}")
    # A baseline of tokens is always a sample of them.
    is_all = verdict.n == verdict.baseline_n or verdict.look is not None
    sampled = candidate.unit == "token" and is_all
    if remark and not sampled:
        cautions.insert(0, remark.removesuffix("."))
    return replace(
        verdict,
        differences=differences,
        settings=settings,
        cautions=tuple(f"{caution}." for caution in cautions),
        notes=(*verdict.notes, remark) if remark and sampled else verdict.notes,
    )


def _reference(against: Against, reference: str | None) -> str:
    """Return what the baseline is called.

    Raises:
        MetricError: an unknown kind of baseline, or a name that is no text.
    """
    if against not in get_args(Against):
        raise MetricError(
            f"against must be one of {', '.join(get_args(Against))}, got {against!r:.60}; "
            "reference= gives the baseline a name."
        )
    if reference is None:
        return against if against in ("parent", "anchor") else "baseline"
    if not isinstance(reference, str) or not reference.strip():
        raise MetricError(f"reference must be the name of the baseline, got {reference!r:.60}.")
    return reference


def align(
    predictions: Predictions,
    baseline: Predictions,
    reference: str = "baseline",
    min_share: float = MIN_SHARE,
    planned: IdArray | None = None,
) -> tuple[IntArray | None, IntArray | None, str]:
    """Pair two runs by item id.

    Args:
        predictions: the candidate.
        baseline: what it is compared with.
        reference: what the baseline is called in the remark.
        min_share: share of the baseline's items that must be shared where the candidate holds
            nothing else, unless a limit took them.
        planned: ids of all items of the candidate, where it is a part of them. Whether the two can
            be compared is a question of all; what only all of them tell, the part need not say.

    Returns:
        Positions in the first, positions in the second, and a remark. The positions are None where
        the two cannot be compared: a hard field of the signature differs, rows pair by their number
        alone and are not equally many, or the overlap is too small. It is where neither side
        contains the other, and less than 95 % of the larger is shared; and where the candidate is
        less than ``min_share`` of the baseline, and no limit took that part. A limit takes the
        items of the smallest ids: whoever chooses items by their answers takes others.
    """
    differing, other = predictions.signature.hard_differences(baseline.signature), known(reference)
    if planned is not None:
        differing = [one for one in differing if one[0] in predictions.signature.hard]
    if differing:
        fields = [f"{name} is {our}, {other} has {their}" for name, our, their in differing]
        return None, None, f"the probe is not the same: {'; '.join(fields)}."
    ids = predictions.item_ids if planned is None else planned
    ours, theirs = _in_both(ids, baseline.item_ids)
    shared, n, m = len(ours), len(ids), len(baseline)
    counts = f"{shared:,} of the {n:,} {predictions.unit}s here are among {other}'s {m:,}"
    part = (ours, theirs)
    if planned is not None:
        part = _in_both(predictions.item_ids, baseline.item_ids)
    if shared == n == m:
        return *part, ""
    if planned is None and _are_rows(predictions) and _are_rows(baseline):
        remark = (
            f"items pair by position, and here are {n:,} rows where {other} has {m:,}: which of "
            "them are missing cannot be known; give each item an id."
        )
        return None, None, remark
    if not shared or (shared not in (n, m) and shared < MIN_SHARE * max(n, m)):
        return None, None, f"the items are not the same: {counts}."
    if shared < min_share * m and not _taken_by_a_limit(baseline.item_ids, theirs):
        remark = (
            f"only {100 * shared / m:.0f} % of {other} is here, and not a part that a "
            f"limit takes: {counts}; run all of them, or the part that --calibration-limit or "
            "predictions.limited(n) takes."
        )
        return None, None, remark
    return *part, f"compared on the part both sides have: {counts}."


def _in_both(ids: IdArray, others: IdArray) -> tuple[IntArray, IntArray]:
    """Return the positions of what both have, in the order of the first.

    Sums then do not depend on how ids happen to sort.
    """
    _, ours, theirs = np.intersect1d(ids, others, assume_unique=True, return_indices=True)
    order = np.argsort(ours, kind="stable")
    return ours[order], theirs[order]


def _are_rows(predictions: Predictions) -> bool:
    """Whether items are known by the number of their row alone, and no row is left out.

    Where there are labels, their digest in the signature shows that the rows are the same.
    """
    rows = np.sort(positional_ids(len(predictions)))
    return "labels" not in predictions.signature.hard and np.array_equal(
        np.sort(predictions.item_ids), rows
    )


def _taken_by_a_limit(ids: IdArray, index: IntArray) -> bool:
    """Whether these positions are those of the smallest ids, as ``Predictions.limited`` takes."""
    k = len(index)
    return bool(ids[index].max() == np.partition(ids, k - 1)[k - 1])


# --- text ----------------------------------------------------------------------------------------

UNKNOWN: Final = "a dump does not tell how the model was asked; only the items are compared."
HEADLINES: Final = {
    State.REGRESSED: "calibration regressed",
    State.ABOVE_LIMIT: "above the limit",
    State.NOT_COMPARABLE: "not comparable",
    State.NO_BASELINE: "no baseline",
    State.INCONCLUSIVE: "inconclusive",
    State.PASSED: "passed",
    State.RECORDED: "recorded",
    State.NOT_RECORDED: "not recorded",
}


def known(reference: str) -> str:
    """Name a baseline in a sentence: ``the baseline``, ``the parent base``, ``v1.2``."""
    return definite(reference, "baseline", "parent", "anchor", "first")


def headline(name: str, probe: str, model: str) -> str:
    """Return what a comparison came to, with probe and model in one line."""
    on = f" on {visible(model)}" if model else ""
    return f"{name}: {labelled('probe', probe)}{on}"


def _explanation(verdict: Verdict) -> Iterator[str]:
    m = verdict.measurement
    if verdict.reason:
        yield verdict.reason
    yield from verdict.findings
    yield _numbers(m)
    if verdict.baseline is not None:
        yield f"{verdict.reference}: {_numbers(verdict.baseline)}"
    if verdict.coverage is not None and m.metric != verdict.coverage[0].metric:
        now, before = verdict.coverage
        yield _numbers(now)
        yield f"{verdict.reference}: {_numbers(before)}"
    yield direction(m)
    if verdict.components:
        yield from _component_table(verdict)
    if verdict.point is not None:
        yield from _visible_falls(verdict.components)
    elif not math.isnan(verdict.smallest_visible):
        early = verdict.look is not None and verdict.look.asked < verdict.look.planned
        where = "in a full run" if early else "here"
        yield f"smallest shift visible {where} at 80 % power: {verdict.smallest_visible:.3f}"
    if verdict.n_needed:
        yield f"about {verdict.n_needed:,} {m.unit}s would decide it"
    if verdict.improved:
        accept = "; it may be accepted" if verdict.against == "baseline" else ""
        better = f"better than {known(verdict.reference)} beyond the tolerance"
        if verdict.state is State.INCONCLUSIVE:
            better = "one component improved beyond the tolerance, others could be worse unseen"
        yield f"{better}{accept}"
    noted = () if verdict.candidate is None else verdict.candidate.notes
    yield from (f"note: {note}" for note in (*verdict.cautions, *noted, *verdict.notes))


def _look_notes(look: AtLook, verdict: Verdict) -> Iterator[str]:
    """Say what a full run would add to a comparison that stopped early, or what it costs."""
    unit = verdict.measurement.unit
    if not look.early or look.chance is None:
        if look.stopped:
            yield (
                f"all {unit}s that both sides have are known, at look {look.number} of "
                f"{look.looks}; the bounds are those of a comparison that may stop early."
            )
        return
    more = f"a full run would add {counted(look.planned - look.asked, unit)}"
    if verdict.state is State.REGRESSED:
        yield (
            f"{more}; were these as much worse as measured, it would fail with a probability of "
            f"{look.chance:.2f}."
        )
        return
    yield (
        f"{more} and see a shift of {verdict.smallest_visible:.3f}; were a component worse by the "
        f"least that it sees, it would fail with a probability of at most {look.chance:.2f}."
    )


def _visible_falls(components: Sequence[Component]) -> Iterator[str]:
    falls = [
        f"of {c.name} {c.smallest_visible:.3f}"
        for c in components
        if not math.isnan(c.smallest_visible)
    ]
    if falls:
        yield f"smallest fall visible here at 80 % power: {', '.join(falls)}"


def direction(measurement: Measurement) -> str:
    """Say in words which way confidences err, with the numbers that show it."""
    gap = measurement.signed_gap
    word = "over-confident" if gap > 0 else "under-confident" if gap < 0 else "balanced"
    return (
        f"{word} by {abs(gap):.3f} (mean confidence {measurement.mean_confidence:.3f}, "
        f"accuracy {measurement.accuracy:.3f})"
    )


def _numbers(m: Measurement) -> str:
    groups = f" in {m.n_clusters:,} groups" if m.n_clusters != m.n else ""
    metric = metric_named(m.metric)
    floor = f", noise floor {m.noise_floor:.3f}" if metric.error else ""
    remark = f" ({negative})" if (negative := below_zero(metric.label, m.value)) else ""
    return (
        f"{m.label} {m.value:.3f}{remark} [{m.low:.3f}, {m.high:.3f}], "
        f"n = {m.n:,} {m.unit}s{groups}{floor}"
    )


def _limit_sentence(verdict: Verdict) -> str:
    m, judged = verdict.measurement, verdict.judged
    value, limit = distinct(judged, verdict.limit)
    sign = "=" if judged == verdict.limit else ">" if judged > verdict.limit else "<"
    needs = "at least the limit" if verdict.above else "below the limit"
    end = "" if judged == m.value else ", lower end of its interval"
    return f"{m.label}{end}: {value} {sign} limit {limit} (must be {needs})"


def _component_sentence(c: Component) -> str:
    bound, tolerance = distinct(c.bound, c.tolerance)
    verb = "fell" if c.name in FALLING else "worsened"
    negative = below_zero(c.name, c.before)
    before = f"{c.before:.3f}, {negative}" if negative else f"{c.before:.3f}"
    return (
        f"{c.name} {verb} by {c.worsening:.3f} ({before} -> {c.after:.3f}"
        f"{', ' * bool(c.among)}{c.among}); at least {bound} "
        f"with {per_cent_sure(c.level)} % confidence: {bound} > tolerance {tolerance}"
    )


def per_cent_sure(level: float) -> str:
    """Return a level of confidence in per cent, with as many digits as tell it from 100."""
    shown = f"{100 * level:.3g}"
    return f"{100 * level:.4f}".rstrip("0").rstrip(".") if shown == "100" else shown


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
        for remark in filter(None, (c.among, sides_below_zero(c.name, c.before, c.after))):
            yield f"{'':<18}  {remark}"
