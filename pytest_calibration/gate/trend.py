"""The trend over the checkpoints of a run: a line through all of them, on the items they share.

Per component and checkpoint k at x_k an item i has a value u_ik whose mean over the items is the
component (the cross-fitted ECE: its influence). The line through the K means is a fixed linear form
of them, so its start and its end are means over items too, of Σ_k h_k·u_ik with the weights h_k of
the line. Their difference, the *drift*, is the mean of L_i = Σ_k a_k·u_ik with
a_k = (x_k − x̄)/Sxx·(x_K − x_1), and the cluster-robust standard error of that mean holds every
covariance between the checkpoints. Start and end are then judged as the two sides of a comparison
are, by the same components and the same rule; with two checkpoints they are these two sides.

The drift must also exceed what the scatter of the checkpoints about their line explains: training
adds noise of its own to each, of which the items know nothing. Two checkpoints have no scatter, so
their bounds are stricter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import (
    BINS_FROM,
    GATE_BINS,
    Component,
    Paired,
    accuracy_component,
    as_stored,
    component_of,
    paired_error,
    shift_of,
    unavailable,
)
from pytest_calibration.gate.decision import MIN_UNITS, Decision, State, p_value_of, through_zero
from pytest_calibration.gate.power import (
    bound_quantile,
    false_alarm_rate,
    smallest_visible,
    units_to_decide,
)
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.verdict import Verdict, align, cautioned
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import (
    FloatArray,
    IntArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.text.numbers import counted, distinct
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail

# Of fewer checkpoints there are no residuals.
SCATTER_FROM: Final = 3
# How much of the false alarms that a comparison may raise a trend of two checkpoints may.
SHARE_OF_TWO: Final = 0.1
FIRST: Final = "first checkpoint"
# Of a line without scatter, the ratio would be any large number.
MOST_TIMES: Final = 1000
ONE: Final = "one checkpoint is no trend; a second makes it one."


@dataclass(frozen=True)
class TrendComponent(Component):
    """One component along the line: ``before`` is its fitted start, ``after`` its fitted end.

    Attributes:
        values: of each checkpoint, in order of the steps.
        scatter: standard error of the drift from the residuals of the line; NaN for two
            checkpoints.
        scatter_quantile: Student's t of alpha / 2 with K − 2 degrees of freedom, which the drift
            must exceed in units of ``scatter``; NaN for two checkpoints.
    """

    values: tuple[float, ...] = ()
    scatter: float = math.nan
    scatter_quantile: float = math.nan

    @property
    def stands_out(self) -> bool:
        """Whether the drift exceeds what the scatter of the checkpoints explains."""
        few = math.isnan(self.scatter)
        return few or self.worsening > self.scatter_quantile * self.scatter

    @property
    def fired(self) -> bool:
        """Certain beyond the tolerance on these items, a growth, and more than scatter."""
        return super().fired and self.stands_out

    @property
    def among(self) -> str:
        """How the drift compares with the scatter, where that decided; else empty."""
        if math.isnan(self.scatter) or not super().fired:
            return ""
        ratio = self.worsening / self.scatter if self.scatter else math.inf
        found, needed = distinct(ratio, self.scatter_quantile, digits=1)
        if ratio > MOST_TIMES > self.scatter_quantile:
            found = f"over {MOST_TIMES:,}"
        sign = ">" if self.stands_out else "<="
        return (
            f"{found} {sign} {needed} times the scatter of {len(self.values)} checkpoints about "
            "the line"
        )


@dataclass(frozen=True)
class TrendVerdict(Verdict):
    """The outcome for a run of checkpoints.

    The measurement is that of the last checkpoint, the baseline that of the first; each component
    compares the end of the line with its start.

    Attributes:
        steps: (K,) where the checkpoints stand, in order.
        axis: what such a place is called.
    """

    steps: tuple[float, ...] = ()
    axis: str = "step"

    @property
    def courses(self) -> tuple[TrendComponent, ...]:
        """The components, each with the value of every checkpoint."""
        return tuple(c for c in self.components if isinstance(c, TrendComponent))

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence on every component that drifted."""
        return tuple(_sentence(c, self) for c in self.courses if c in self.failing)

    @property
    def explanation(self) -> tuple[str, ...]:
        """Lines below the headline; the values of every checkpoint stand at the end."""
        return (*super().explanation, *_course_table(self))


def trend(
    steps: Sequence[float],
    predictions: Sequence[PredictionsLike],
    strictness: Strictness = DEFAULT,
    *,
    axis: str = "step",
) -> TrendVerdict:
    """Judge whether calibration got worse over the checkpoints of a run, along a line through all.

    It fails where the one-sided lower bound of the drift, from the first step to the last along the
    line, lies beyond the tolerance in signed gap, slope, cross-fitted ECE or accuracy, the end of
    the line is further from zero than its start, and, with three checkpoints or more, the drift
    exceeds their scatter about the line. It belongs beside the comparison of each checkpoint with
    one baseline, not in its place: a jump at the last of many checkpoints hardly moves a line.

    Args:
        steps: (K,) where the checkpoints stand (steps, epochs, tokens), in any order.
        predictions: (K,) of each, of one probe; they are compared on the items that all share.
        strictness: tolerance and error levels, as of a comparison.
        axis: what a place of a checkpoint is called in the text.

    Raises:
        MetricError: no checkpoint, another number of steps, a step that is no number, several
            checkpoints that all stand at one step, or predictions of several probes.
    """
    runs = [as_predictions(one) for one in predictions]
    order = _order(steps, [run.probe for run in runs], axis)
    runs = [runs[k] for k in order]
    verdict = TrendVerdict(
        State.INCONCLUSIVE,
        measure(runs[-1]),
        baseline=measure(runs[0]),
        n=len(runs[-1]),
        units=runs[-1].n_clusters,
        candidate_n=len(runs[-1]),
        baseline_n=len(runs[0]),
        candidate=runs[-1],
        baseline_items=runs[0],
        steps=tuple(float(steps[k]) for k in order),
        axis=axis,
        **_common(strictness),
    )
    if len(runs) == 1:
        return replace(verdict, reason=ONE)
    index, remark = _shared(runs, verdict, strictness.min_share)
    if index is None:
        return replace(verdict, state=State.NOT_COMPARABLE, reason=remark, baseline_items=None)
    shared = [run.take(found) for run, found in zip(runs, index, strict=True)]
    verdict = replace(
        verdict,
        measurement=measure(shared[-1]),
        baseline=measure(shared[0]),
        n=len(shared[-1]),
        units=shared[-1].n_clusters,
        candidate=shared[-1],
        baseline_items=shared[0],
        **vars(decide_trend(verdict.steps, shared, strictness)),
    )
    return cautioned(_from_where(verdict), remark, strictness.changed())


def trend_of_numbers(
    steps: Sequence[float],
    measured: Sequence[Mapping[str, Measurement]],
    strictness: Strictness = DEFAULT,
    *,
    axis: str = "step",
) -> TrendVerdict:
    """Judge a trend by the numbers of each checkpoint, where its items are not kept.

    The checkpoints count as independent, which on the same items overstates the standard error of
    the drift. Of calibration only the signed gap is judged: only of a mean do a value and an
    interval say enough.

    Args:
        steps: (K,) where the checkpoints stand, in any order.
        measured: (K,) ``ece``, ``signed_gap`` and ``accuracy`` of each, of one probe.
        strictness: tolerance and error levels, as of a comparison.
        axis: what a place of a checkpoint is called in the text.

    Raises:
        MetricError: as :func:`trend`.
    """
    order = _order(steps, [one["ece"].probe for one in measured], axis)
    ordered = [measured[k] for k in order]
    first, last = (ordered[k]["ece"] for k in (0, -1))
    verdict = TrendVerdict(
        State.INCONCLUSIVE,
        last,
        baseline=first,
        n=last.n,
        units=last.n_clusters,
        candidate_n=last.n,
        baseline_n=first.n,
        settings=strictness.changed(),
        cautions=tuple(f"{setting}." for setting in strictness.changed()),
        steps=tuple(float(steps[k]) for k in order),
        axis=axis,
        **_common(strictness),
    )
    if len(ordered) == 1:
        return replace(verdict, reason=ONE)
    decision = _decide_numbers(np.array(verdict.steps), ordered, strictness)
    return _from_where(replace(verdict, **vars(decision)))


def _decide_numbers(
    steps: FloatArray, measured: Sequence[Mapping[str, Measurement]], strictness: Strictness
) -> Decision:
    """Decide a trend by the numbers of each checkpoint, by ascending steps."""
    fewest = min((one["ece"] for one in measured), key=lambda m: m.n_clusters)
    size = _Units(fewest.n, fewest.n_clusters, fewest.n_clusters)
    floor, guard = math.sqrt(3) / fewest.n, strictness.accuracy_tolerance
    gaps, rights = (
        _Ends.of([one[name] for one in measured], steps) for name in ("signed_gap", "accuracy")
    )
    shift = shift_of(
        "signed gap",
        gaps.before,
        gaps.after,
        max(gaps.error, floor),
        lambda: gaps.errors,
        strictness.tolerance,
        0.0,
    )

    def accuracy(alpha: float) -> TrendComponent:
        loss, error = rights.before - rights.after, max(rights.error, floor)
        bound = loss - upper_quantile(alpha, size.equal) * error
        ends = rights.before, rights.after
        found = Component("accuracy", *ends, loss, error, bound, guard or 0.0)
        return _course(found, rights.values)

    bounded = None if guard is None else accuracy
    return _decision([_course(shift, gaps.values)], bounded, steps, size, strictness)


@dataclass(frozen=True)
class _Ends:
    """The line through values with intervals, independent of each other.

    Attributes:
        values: (K,) of the checkpoints.
        before: start of the line.
        after: end of the line.
        error: standard error of the drift.
        errors: of start and end.
    """

    values: FloatArray
    before: float
    after: float
    error: float
    errors: tuple[float, float]

    @classmethod
    def of(cls, measured: Sequence[Measurement], steps: FloatArray) -> _Ends:
        values = np.array([m.value for m in measured])
        quantiles = [upper_quantile(0.025, m.n_clusters) for m in measured]
        widths = [(m.high - m.low) / 2 for m in measured]
        errors = np.array(widths) / np.array(quantiles)
        start, end = _weights(steps)
        of_drift, of_start, of_end = (
            math.sqrt(float(np.square(weights * errors).sum()))
            for weights in (end - start, start, end)
        )
        ends = float(start @ values), float(end @ values)
        return cls(values, *ends, of_drift, (of_start, of_end))


def _common(strictness: Strictness) -> dict[str, Any]:
    """Return what every verdict on a trend says of what it compares, and how strictly."""
    return {
        "against": "run",
        "reference": FIRST,
        "tolerance": strictness.tolerance,
        "alpha": strictness.alpha,
    }


def _from_where(verdict: TrendVerdict) -> TrendVerdict:
    """Return a verdict whose reason says, where it fails, from where to where it drifted."""
    if verdict.state is not State.REGRESSED:
        return verdict
    first, last = (_number(verdict.steps[k]) for k in (0, -1))
    reason = (
        f"from {verdict.axis} {first} to {last}, along the line through {len(verdict.steps)} "
        "checkpoints; before and after are its start and its end."
    )
    return replace(verdict, reason=reason)


def _order(steps: Sequence[float], probes: Sequence[str], axis: str) -> list[int]:
    """Return the checkpoints in order of their steps, those of one step as given."""
    if not probes:
        raise MetricError("a trend needs checkpoints, got none.")
    if len(steps) != len(probes):
        raise MetricError(
            f"each checkpoint needs its step, got {len(steps)} for {len(probes)} checkpoints."
        )
    for step in steps:
        if isinstance(step, bool) or not isinstance(step, int | float | np.number):
            raise MetricError(f"a step must be a number, got {step!r:.60}.")
        if not math.isfinite(step):
            raise MetricError(f"a step must be a finite number, got {step}.")
    if len(steps) > 1 and min(steps) == max(steps):
        raise MetricError(
            f"all {len(steps)} checkpoints stand at {axis} {steps[0]:g}; a trend needs two."
        )
    several = dict.fromkeys(probes)
    if len(several) > 1:
        raise MetricError(f"a trend is of one probe, got {', '.join(map(repr, several))}.")
    return sorted(range(len(steps)), key=lambda k: float(steps[k]))


def _shared(
    runs: Sequence[Predictions], verdict: TrendVerdict, min_share: float
) -> tuple[list[IntArray] | None, str]:
    """Return the positions of the shared items in each run, in one order, and a remark.

    Each run must be comparable with the first, and all together share as much as two runs must.
    """
    first, smallest = runs[0], len(runs[0])
    common, remark = np.arange(len(first)), ""
    for run, step in zip(runs[1:], verdict.steps[1:], strict=True):
        ours, theirs, problem = align(run, first, FIRST, min_share)
        if ours is None or theirs is None:
            return (
                None,
                f"{verdict.axis} {_number(step)} cannot be compared with the first: {problem}",
            )
        remark = remark or problem
        smallest = min(smallest, len(theirs))
        common = np.intersect1d(common, theirs, assume_unique=True)
    if len(common) < min_share * smallest or not len(common):
        return None, (
            f"the {len(runs)} checkpoints share only {len(common):,} of {smallest:,} "
            f"{first.unit}s; measure all of them on the same items."
        )
    if remark:
        remark = f"compared on the {counted(len(common), first.unit)} that all checkpoints have."
    ids = first.item_ids[common]
    found = []
    for run in runs:
        by_id = np.argsort(run.item_ids, kind="stable")
        found.append(by_id[np.searchsorted(run.item_ids[by_id], ids)])
    return found, remark


def decide_trend(
    steps: Sequence[float], runs: Sequence[Predictions], strictness: Strictness = DEFAULT
) -> Decision:
    """Decide a trend over runs of the same items in the same order, by ascending steps.

    The part of :func:`trend` after pairing: nothing is measured or printed here.
    """
    line = _Line.of(runs, np.array(steps, dtype=np.float64))
    pair, tolerance, guard = line.pair, strictness.tolerance, strictness.accuracy_tolerance
    found = [line.gap(tolerance), line.slope(tolerance), line.ece(tolerance)]
    accuracy = None if guard is None else partial(line.accuracy, guard)
    units = _Units(len(runs[0]), pair.units, pair.equal_units)
    return _decision(found, accuracy, line.steps, units, strictness)


@dataclass(frozen=True)
class _Units:
    """How many items there are, how many units, and how many of equal size these are worth."""

    n: int
    units: int
    equal: int


def _decision(
    found: list[TrendComponent],
    accuracy: Callable[[float], TrendComponent] | None,
    steps: FloatArray,
    size: _Units,
    strictness: Strictness,
) -> Decision:
    """Bound the components of a line, and decide.

    Args:
        found: those of calibration.
        accuracy: gives the component of accuracy with its bound at an error level; None without.
        steps: (K,) in order.
        size: of what each checkpoint was measured on.
        strictness: tolerance and error levels.
    """
    tolerance, alpha, equal = strictness.tolerance, strictness.alpha, size.equal
    share = 1.0 if len(steps) >= SCATTER_FROM else SHARE_OF_TWO
    usual = upper_quantile(alpha, equal)
    guard = [] if accuracy is None else [accuracy(alpha)]
    z = bound_quantile((*found, *guard), alpha, equal, share)
    if accuracy is not None and z > usual:
        guard = [accuracy(upper_tail(z, equal))]
    bounded = (replace(c, bound=c.worsening - z * c.standard_error) for c in found)
    level = 1 - upper_tail(z, equal)
    courses = tuple(_scattered(c, level, steps, alpha) for c in (*bounded, *guard))
    decision = Decision(State.INCONCLUSIVE, courses)
    if size.units < MIN_UNITS:
        few = counted(size.units, "item" if size.units == size.n else "group")
        verb = "is" if size.units == 1 else "are"
        reason = f"{few} {verb} too few for a trend; at least {MIN_UNITS} are needed."
        needed = math.ceil(size.n * MIN_UNITS / size.units)
        return replace(decision, n_needed=needed, reason=reason)
    visible = smallest_visible(courses, tolerance, z)
    decision = replace(
        decision,
        smallest_visible=visible,
        false_alarm_rate=false_alarm_rate(courses, z, equal),
        p_value=p_value_of((courses, share), units=equal),
    )
    if any(c.fired for c in courses):
        return replace(decision, state=State.REGRESSED)
    undecided = [c for c in courses if c.undecided and c.stands_out]
    if undecided:
        return through_zero(decision, undecided, size.n)
    most = tolerance + strictness.max_undetected
    # Written so that a NaN on the left can only be inconclusive.
    if visible <= most:
        return replace(decision, state=State.PASSED)
    least = math.ceil(MIN_UNITS * equal / size.units)
    needed = units_to_decide(
        courses, tolerance, alpha, equal, strictness.max_undetected, least, share
    )
    reason = (
        f"a drift of up to {visible:.3f} could have been missed (80 % power), more than the "
        f"{most:.3f} that may be."
    )
    return replace(decision, n_needed=math.ceil(size.n * needed / equal), reason=reason)


def _scattered(
    component: TrendComponent, level: float, steps: FloatArray, alpha: float
) -> TrendComponent:
    """Return a component with the scatter of the checkpoints about its line."""
    scatter = _scatter(steps, component.values)
    quantile = math.nan if math.isnan(scatter) else upper_quantile(alpha / 2, len(steps) - 1)
    return replace(component, level=level, scatter=scatter, scatter_quantile=quantile)


def _weights(steps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (K,) the weights of the fitted start, and (K,) those of the fitted end."""
    centred = (steps - steps.mean()) / np.abs(steps - steps.mean()).max()
    spread = float(centred @ centred)
    start, end = (1 / len(steps) + centred[at] * centred / spread for at in (0, -1))
    return start, end


def _scatter(steps: FloatArray, values: Sequence[float] | FloatArray) -> float:
    """Standard error of the drift from the residuals of the line; NaN for few checkpoints."""
    means, many = np.array(values), len(steps)
    if many < SCATTER_FROM or not len(means):
        return math.nan
    start, end = _weights(steps)
    first, last = float(start @ means), float(end @ means)
    residual = means - first - (steps - steps[0]) / (steps[-1] - steps[0]) * (last - first)
    weights = end - start
    return math.sqrt(float(residual @ residual) / (many - 2) * float(weights @ weights))


@dataclass(frozen=True)
class _Line:
    """Runs on the same items, and the weights of the line through them.

    Attributes:
        steps: (K,) in order.
        confidence: (K, n) in float32, as a record has them.
        correct: (K, n) 0 or 1.
        pair: the first run and the last.
        start: (K,) weights of the fitted start.
        end: (K,) weights of the fitted end.
    """

    steps: FloatArray
    confidence: FloatArray
    correct: FloatArray
    pair: Paired
    start: FloatArray
    end: FloatArray

    @classmethod
    def of(cls, runs: Sequence[Predictions], steps: FloatArray) -> _Line:
        start, end = _weights(steps)
        return cls(
            steps=steps,
            confidence=np.array([as_stored(run.confidence) for run in runs]),
            correct=np.array([run.correct for run in runs], dtype=np.float64),
            pair=Paired.of(runs[0], runs[-1]),
            start=start,
            end=end,
        )

    @property
    def gaps(self) -> FloatArray:
        """(K, n) confidence minus correct."""
        return self.confidence - self.correct

    def gap(self, tolerance: float) -> TrendComponent:
        return self._direction("signed gap", self.gaps, tolerance)

    def slope(self, tolerance: float) -> TrendComponent:
        centre, variance = float(self.confidence.mean()), float(self.confidence.var())
        if variance < 1e-12:
            reason = "all confidences are equal, so there is no slope"
            return _course(unavailable("slope", reason, tolerance), [])
        k = float(np.abs(self.confidence - centre).mean()) / variance
        tilt = np.clip(k * (self.confidence - centre), -1, 1)
        return self._direction("slope", tilt * self.gaps, tolerance)

    def ece(self, tolerance: float) -> TrendComponent:
        name = "cross-fitted ECE"
        if self.pair.units < BINS_FROM:
            reason = f"fewer than {BINS_FROM} independent units for {GATE_BINS} bins"
            return _course(unavailable(name, reason, tolerance), [])
        edges = np.unique(np.quantile(self.confidence, np.arange(1, GATE_BINS) / GATE_BINS))
        fits = [
            cross_fitted(gap, np.searchsorted(edges, confidence), self.pair.clusters)
            for gap, confidence in zip(self.gaps, self.confidence, strict=True)
        ]
        values = np.array([fit.value for fit in fits])
        influence = np.array([fit.influence for fit in fits])
        before, after = float(self.start @ values), float(self.end @ values)
        error = paired_error(self.start @ influence, self.end @ influence, self.pair)
        found = Component(name, before, after, after - before, error, math.nan, tolerance)
        return _course(found, values)

    def accuracy(self, tolerance: float, alpha: float) -> TrendComponent:
        means = self.correct.mean(axis=1)
        if len(self.steps) == 2:
            return _course(accuracy_component(self.pair, tolerance, alpha), means)
        before, after = float(self.start @ means), float(self.end @ means)
        error = paired_error(self.end @ self.correct, self.start @ self.correct, self.pair)
        bound = before - after - upper_quantile(alpha, self.pair.equal_units) * error
        found = Component("accuracy", before, after, before - after, error, bound, tolerance)
        return _course(found, means)

    def _direction(self, name: str, weighted: FloatArray, tolerance: float) -> TrendComponent:
        """Judge the ends of the line through the means of weighted gaps (K, n)."""
        u0, u1 = self.start @ weighted, self.end @ weighted
        return _course(component_of(name, u0, u1, self.pair, tolerance, 0.0), weighted.mean(axis=1))


def _course(component: Component, values: Sequence[float] | FloatArray) -> TrendComponent:
    return TrendComponent(**vars(component), values=tuple(float(v) for v in values))


# --- text ----------------------------------------------------------------------------------------


def _number(step: float) -> str:
    return f"{step:,.10g}"


def _sentence(c: TrendComponent, verdict: TrendVerdict) -> str:
    """Say how far a component drifted, with the digits that show that it fails."""
    bound, tolerance = distinct(c.bound, c.tolerance)
    first, last = (_number(verdict.steps[k]) for k in (0, -1))
    verb = "fell" if c.name == "accuracy" else "worsened"
    return (
        f"{c.name} {verb} by {c.worsening:.3f} from {verdict.axis} {first} to {last} along the "
        f"line through {len(verdict.steps)} checkpoints ({c.before:z.3f} -> {c.after:z.3f}); at "
        f"least {bound} with {100 * c.level:.3g} % confidence: {bound} > tolerance {tolerance}"
        f"{'; ' * bool(c.among)}{c.among}"
    )


def _course_table(verdict: TrendVerdict) -> Iterator[str]:
    """Yield a header, and a line for each checkpoint with its value of every component."""
    courses = [c for c in verdict.courses if c.values]
    if not courses:
        return
    yield f"{verdict.axis:<18}{''.join(f'{c.name:>18}' for c in courses)}"
    for k, step in enumerate(verdict.steps):
        yield f"{_number(step):<18}{''.join(f'{c.values[k]:>z18.3f}' for c in courses)}"
    if len(verdict.steps) < SCATTER_FROM:
        yield "with two checkpoints noise of training looks like drift, so the bounds are stricter"
