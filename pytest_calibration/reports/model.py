"""The report model: the outcome of a test session as plain data, the source of every report.

A verdict holds arrays; a :class:`Result` holds the values that a report shows of it. They are
builtin values: they travel between processes and into JSON. No number here is NaN: what does not
apply is None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np

from pytest_calibration.diagnosis import Diagnosis, diagnose
from pytest_calibration.diagnosis.passing import caution_on_small_mass, cautions_on_a_pass
from pytest_calibration.diagnosis.slices import SliceMeasurement, SliceShift, by_slice, shifts
from pytest_calibration.gate.components import Component
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.looks import AtLook
from pytest_calibration.gate.strictness import Setting
from pytest_calibration.gate.verdict import (
    HEADLINES,
    Against,
    Difference,
    Past,
    Verdict,
    headline,
)
from pytest_calibration.measurement import Measurement, measure_all
from pytest_calibration.metrics import Strategy, metric_named
from pytest_calibration.metrics.table import below_zero, sides_below_zero
from pytest_calibration.predictions import BoolArray, IntArray, Predictions
from pytest_calibration.predictions.item_text import ItemText
from pytest_calibration.text.numbers import counted
from pytest_calibration.uncertainty.reliability import (
    ConfidenceBar,
    ReliabilityBin,
    confidence_histogram,
    reliability,
)

FORMAT: Final = 1
MOST_SLICES: Final = 200
MOST_ITEMS: Final = 20
EXPECTED: Final = "the test did not fail: it expects this."
LOST: Final = "the test did not fail of this, nor expects it; the run fails instead."
T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """One metric with its interval and noise floor.

    Attributes:
        metric: its name.
        label: name and binning, as printed.
        value: the number.
        low: lower end of its 95 % interval; None where that has none.
        high: upper end; None where the interval has none, as NLL on one unit.
        noise_floor: the mean of a calibrated model; None for a metric that is no error.
        noise_floor_high: the 95 % point of a calibrated model; None where it is not known.
        bins: number of bins; None for a metric without.
        strategy: how they are cut; None for a metric without.
    """

    metric: str
    label: str
    value: float
    low: float | None
    high: float | None
    noise_floor: float | None = None
    noise_floor_high: float | None = None
    bins: int | None = None
    strategy: Strategy | None = None

    @property
    def below_zero(self) -> str:
        """What a negative value means where noise is subtracted; else empty."""
        return below_zero(metric_named(self.metric).label, self.value)

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends of the interval; infinite where there is none."""
        low = -math.inf if self.low is None else self.low
        return low, math.inf if self.high is None else self.high

    @classmethod
    def of(cls, measurement: Measurement) -> Number:
        """Return the printed values of a measurement."""
        if metric_named(measurement.metric).binned:
            return _copied(cls, measurement)
        return _copied(cls, measurement, bins=None, strategy=None)


@dataclass(frozen=True)
class ComponentRow:
    """One component of a comparison; see ``gate.components.Component``.

    Attributes:
        name: ``signed gap``, ``slope``, ``shape``, ``cross-fitted ECE``, ``confident answers`` or
            ``accuracy``; at an operating point ``precision`` or ``coverage``.
        among: which answers are meant, where not all are: their number and confidence.
        before: value of the baseline; None where it does not apply.
        after: value of the candidate.
        worsening: how much worse the candidate is.
        bound: one-sided lower bound of the worsening.
        tolerance: largest bound that does not fail.
        fired: whether it fails the comparison.
        changed_sides: whether it moved through zero, to no larger size.
        unavailable: why it does not apply; empty where it does.
        smallest_visible: smallest worsening that is seen with 80 % power; known at an operating
            point only.
    """

    name: str
    among: str
    before: float | None
    after: float | None
    worsening: float | None
    bound: float | None
    tolerance: float
    fired: bool
    changed_sides: bool
    unavailable: str
    smallest_visible: float | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Which answers are meant, and what negative values mean where noise is subtracted."""
        negative = sides_below_zero(self.name, self.before, self.after)
        return tuple(filter(None, (self.among, negative)))

    @classmethod
    def of(cls, component: Component) -> ComponentRow:
        """Return the printed values of a component."""
        return _copied(cls, component)


@dataclass(frozen=True)
class PointNumbers:
    """What a comparison at an operating point measured.

    Attributes:
        threshold: the confidence from which on answers are used.
        name: the threshold as printed.
        coverage: share of the candidate's answers with at least this confidence.
        coverage_before: the same of the baseline.
        precision: accuracy of these answers; None where a side has none.
        precision_before: the same of the baseline.
    """

    threshold: float
    name: str
    coverage: Number
    coverage_before: Number
    precision: Number | None
    precision_before: Number | None

    @property
    def covered(self) -> str:
        """Coverage, and that of the baseline: ``0.306 (0.330)``."""
        return f"{self.coverage.value:.3f} ({self.coverage_before.value:.3f})"

    @classmethod
    def of(cls, verdict: Verdict) -> PointNumbers | None:
        """Return the printed values of a verdict; None where it is at no operating point."""
        if verdict.point is None or verdict.coverage is None or verdict.baseline is None:
            return None
        now, before = map(Number.of, (verdict.measurement, verdict.baseline))
        covered, covered_before = map(Number.of, verdict.coverage)
        has_both = now.metric != covered.metric
        return cls(
            threshold=verdict.point.threshold,
            name=verdict.point.name,
            coverage=covered,
            coverage_before=covered_before,
            precision=now if has_both else None,
            precision_before=before if has_both else None,
        )


@dataclass(frozen=True)
class Side:
    """One model on the items of a probe.

    Attributes:
        model: its name; empty where it has none.
        n: number of items.
        units: number of independent units among them.
        bins: number of bins of the binned metrics.
        metrics: every metric that applies, by name; empty where no report asks for them.
        reliability: the bins that hold items.
        histogram: counts of correct and wrong answers over confidence.
        hard: settings that must agree for two sides to be comparable.
        soft: settings that are only shown.
        classes: names of the classes; empty for the options of questions.
    """

    model: str
    n: int
    units: int
    bins: int
    metrics: dict[str, Number]
    reliability: tuple[ReliabilityBin, ...]
    histogram: tuple[ConfidenceBar, ...]
    hard: dict[str, str]
    soft: dict[str, str]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, predictions: Predictions, bins: int, *, metrics: bool = True) -> Side:
        """Measure what a report shows of a model, every metric only where it is wanted."""
        measured = measure_all(predictions, bins=bins) if metrics else {}
        return cls(
            model=predictions.signature.soft.get("model", ""),
            n=predictions.n,
            units=predictions.n_clusters,
            bins=bins,
            metrics={name: Number.of(one) for name, one in measured.items()},
            reliability=reliability(predictions, bins),
            histogram=confidence_histogram(predictions),
            hard=dict(predictions.signature.hard),
            soft=dict(predictions.signature.soft),
            classes=predictions.classes,
        )


@dataclass(frozen=True)
class SliceRow:
    """One slice.

    Attributes:
        now: the model on its items.
        shift: how it moved from the baseline; None without one.
    """

    now: SliceMeasurement
    shift: SliceShift | None = None


@dataclass(frozen=True)
class Item:
    """One item and the model's answer to it.

    Attributes:
        id: hash that pairs it with itself in another run, 16 hexadecimal digits.
        name: its id in the source; empty where that gives none.
        group: its group; empty without groups.
        slice: its slice; empty without slices.
        confidence: the model's confidence in its own answer.
        correct: whether that answer is correct.
        probabilities: of the options, where there are any.
        label: index of the correct option.
        option_mass: probability of all options together, before renormalisation.
        confidence_before: confidence of the baseline; None without one.
        correct_before: whether the baseline was correct; None without one.
        text: its text, which a report must escape; None where it is not known or not to be shown.
    """

    id: str
    name: str
    group: str
    slice: str
    confidence: float
    correct: bool
    probabilities: tuple[float, ...] = ()
    label: int | None = None
    option_mass: float | None = None
    confidence_before: float | None = None
    correct_before: bool | None = None
    text: ItemText | None = None

    @property
    def title(self) -> str:
        """The name, else the hash."""
        return self.name or f"#{self.id}"


@dataclass(frozen=True)
class Turned:
    """What became of the answers that the baseline gave to the same items.

    Attributes:
        wrong: number of answers that were correct and are wrong.
        right: number of answers that were wrong and are correct.
        items: answers that turned wrong, the highest confidence first.
    """

    wrong: int
    right: int
    items: tuple[Item, ...]

    @property
    def sentence(self) -> str:
        """Both numbers: ``12 answers turned wrong, 3 turned right``."""
        return f"{counted(self.wrong, 'answer')} turned wrong, {self.right:,} turned right"


@dataclass(frozen=True)
class Detail:
    """The measurements behind one verdict.

    Attributes:
        candidate: the model that was tested.
        baseline: what it was compared with, on the same items; None for a limit.
        slices: the slices, the clearest shift (or gap, without a baseline) first.
        slices_left_out: how many more there are.
        worst: the wrong answers of the highest confidence, highest first.
        diagnosis: direction, change and remedies of the miscalibration.
        past: what was stored before under the same key, the oldest first.
        turned: the answers that changed sides from the baseline; None without one.
    """

    candidate: Side
    baseline: Side | None
    slices: tuple[SliceRow, ...]
    slices_left_out: int
    worst: tuple[Item, ...]
    diagnosis: Diagnosis | None
    past: tuple[Past, ...]
    turned: Turned | None = None

    @property
    def named(self) -> tuple[str, tuple[Item, ...]]:
        """What to name of the items, and these: the answers that turned wrong, if any did."""
        return _named(self.turned, self.worst)


@dataclass(frozen=True)
class Remedy:
    """A command that records or accepts.

    Attributes:
        purpose: what it does: ``to record it``, ``to accept it``.
        command: a shell command, or outside of pytest a line of Python.
    """

    purpose: str
    command: str


@dataclass(frozen=True)
class Result:
    """One verdict of one test.

    Attributes:
        test: node id of the test; empty outside a test session.
        state: the verdict.
        fails: whether it fails the test, or the run where the test lost its error.
        headline: state, probe and model in one line.
        reason: one sentence on why, where the state is not a matter of numbers; else empty.
        findings: what decided, a sentence each: the limit, or every component that fails.
        explanation: all of the verdict, as lines of text.
        remedy: the command that records or accepts; None where none does.
        probe: name of the probe.
        model: name of the model; empty where it has none.
        unit: what an item is (``item``, ``token``).
        n: number of items compared.
        units: number of independent units among them.
        candidate_n: number of items of the candidate, before both sides were paired.
        baseline_n: number of items of the baseline; 0 without one.
        differences: soft settings in which it differs from the baseline, but for the model.
        settings: how strict the comparison was, where that is not the default.
        cautions: sentences on these, which every report shows.
        number: the metric that was measured.
        accuracy: share of correct answers.
        mean_confidence: mean confidence.
        against: what it was compared with; None without a baseline.
        reference: name of the baseline in a sentence; empty without one.
        baseline: the same metric of the baseline.
        limit: the fixed limit, where there is one.
        judged: the number compared with the limit.
        above: whether the limit is a floor.
        tolerance: allowed worsening; None without a baseline.
        alpha: one-sided error level, as asked.
        level: one-sided confidence of the bounds.
        difference: worsening of the deciding component, or value minus limit.
        bound: lower bound of that worsening, or the number compared with the limit.
        smallest_visible: smallest shift of the confidences that is seen at 80 % power.
        false_alarm_rate: upper bound of how often an unchanged model fails.
        p_value: upper bound of how often an unchanged model gets worse as clearly.
        n_needed: items at which an inconclusive comparison would decide; 0 otherwise.
        improved: whether it is better than the baseline beyond the tolerance.
        components: every component of the comparison.
        notes: further sentences for the reader.
        recorded_in: YAML file of the record that was added or replaced; else empty.
        detail: the measurements behind it, where they were asked for.
        waits: whether it fails only if it remains after the correction at the end of the run.
        point: coverage and precision of a comparison at an operating point; else None.
        look: what the look came to, where the comparison may stop before all items are asked; None
            elsewhere.
        asked_of: number of items of the whole, where only the first of them were asked; else 0.
    """

    test: str
    state: State
    fails: bool
    headline: str
    reason: str
    findings: tuple[str, ...]
    explanation: tuple[str, ...]
    remedy: Remedy | None
    probe: str
    model: str
    unit: str
    n: int
    units: int
    candidate_n: int
    baseline_n: int
    differences: tuple[Difference, ...]
    settings: tuple[Setting, ...]
    cautions: tuple[str, ...]
    number: Number
    accuracy: float
    mean_confidence: float
    against: Against | None
    reference: str
    baseline: Number | None
    limit: float | None
    judged: float | None
    above: bool
    tolerance: float | None
    alpha: float | None
    level: float | None
    difference: float | None
    bound: float | None
    smallest_visible: float | None
    false_alarm_rate: float | None
    p_value: float | None
    n_needed: int
    improved: bool
    components: tuple[ComponentRow, ...]
    notes: tuple[str, ...]
    recorded_in: str
    detail: Detail | None
    waits: bool = False
    point: PointNumbers | None = None
    look: AtLook | None = None
    asked_of: int = 0

    @property
    def fired(self) -> tuple[str, ...]:
        """Names of the components that fail."""
        return tuple(c.name for c in self.components if c.fired)

    @property
    def better(self) -> bool:
        """Whether it passed and is better than a stored baseline, which it may replace."""
        return self.improved and self.against == "baseline" and self.state == State.PASSED

    @property
    def partly_better(self) -> bool:
        """Whether it is undecided, and yet better in one component than a stored baseline."""
        return self.improved and self.against == "baseline" and self.state == State.INCONCLUSIVE

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis; None for a model that is only not accurate enough."""
        return None if self.detail is None or self.above else self.detail.diagnosis

    @property
    def state_name(self) -> str:
        """The state as text: ``above limit``; ``below limit`` where the limit is a floor."""
        if self.state == State.ABOVE_LIMIT and self.above:
            return "below limit"
        return self.state.replace("_", " ")

    @property
    def source(self) -> str:
        """The model; for want of its name, the test within its file; empty without either."""
        return self.model or self.test.partition("::")[2]

    @property
    def subject(self) -> str:
        """Probe and source: ``facts on sft``, ``triage in test_gate[b]``."""
        joint = "on" if self.model else "in"
        return f"{self.topic} {joint} {self.source}" if self.source else self.topic

    @property
    def topic(self) -> str:
        """The probe, at an operating point with its threshold: ``facts at 0.9``."""
        return self.probe if self.point is None else f"{self.probe} at {self.point.name}"

    @property
    def undecided(self) -> str:
        """Why an inconclusive comparison is, and what would decide it."""
        if self.point is not None and not self.n_needed and self.reason:
            return self.reason.removesuffix(".")
        needed = f"; about {self.n_needed:,} would decide it" if self.n_needed else ""
        return f"n = {self.n:,} is too few{needed}"

    @property
    def items(self) -> str:
        """How many items: ``300``, or ``300 of 800`` where there, or in the baseline, are more."""
        whole = max(self.baseline_n, self.asked_of)
        return f"{self.n:,} of {whole:,}" if self.n < whole else f"{self.n:,}"


@dataclass(frozen=True)
class DriftReading:
    """One measurement in a history.

    Attributes:
        label: where it stands: the step, ``parent``, or the name of a stage or model.
        model: the model.
        at: where it stands on the axis.
        n: number of items.
        ece: its ECE.
        low: lower end of the 95 % interval of the ECE; None where it is not known.
        high: upper end.
        noise_floor: what a calibrated model would show on average; None where it is not known.
        accuracy: share of correct answers.
        worse: whether it is worse than the first beyond doubt, for all comparisons of its run
            together.
        best: whether it is the best checkpoint.
        now: whether it was measured in this session.
    """

    label: str
    model: str
    at: float
    n: int
    ece: float
    low: float | None
    high: float | None
    noise_floor: float | None
    accuracy: float
    worse: bool
    best: bool
    now: bool


@dataclass(frozen=True)
class DriftCourse:
    """What a history holds of one probe along one training run.

    Attributes:
        probe: its name.
        run: the run; empty for models that belong to none.
        axis: what ``at`` is: ``step``, ``epoch`` or ``order``.
        state: what it comes to: ``regressed`` where the trend drifted, or the last is worse.
        readings: in order, the parent first if there is one.
        sentences: where it broke, the trend, and which checkpoint is best.
    """

    probe: str
    run: str
    axis: str
    state: str
    readings: tuple[DriftReading, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """The outcome of one session.

    Attributes:
        version: version of pytest-calibration.
        created: when it was written, ISO 8601 in UTC.
        tests: number of calibration tests collected.
        finished: whether every test was run.
        results: every verdict, in order of models and probes.
        commit: the commit that was tested, where the environment names it.
        remarks: lines at the end of the summary.
        errors: lines that make the session fail.
        drifts: the courses of the history to which this session added.
        format: version of this layout.
        green: whether every test was run, no verdict failed and there is no error.
    """

    version: str
    created: str
    tests: int
    finished: bool
    results: tuple[Result, ...]
    commit: str = ""
    remarks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    drifts: tuple[DriftCourse, ...] = ()
    format: Literal[1] = FORMAT
    green: bool = field(init=False)

    def __post_init__(self) -> None:
        green = self.finished and not self.errors and not any(r.fails for r in self.results)
        object.__setattr__(self, "green", green)

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts of each state, in the order in which they are first seen."""
        return dict(Counter(r.state_name for r in self.results))

    @property
    def cautions(self) -> dict[str, list[Result]]:
        """The verdicts that each caution is about."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            for caution in result.cautions:
                found.setdefault(caution, []).append(result)
        return found

    @property
    def expected_false_alarms(self) -> float | None:
        """Upper bound of the failures to expect had nothing changed; None without a comparison."""
        rates = [r.false_alarm_rate for r in self.results if r.false_alarm_rate is not None]
        return sum(rates) if rates else None


# --- from a verdict ------------------------------------------------------------------------------


def result_of(
    verdict: Verdict,
    *,
    test: str = "",
    fails: bool | None = None,
    waits: bool = False,
    remedy: Remedy | None = None,
    detailed: bool = True,
    metrics: bool = True,
    item_text: bool = False,
) -> Result:
    """Return the values that a report shows of a verdict.

    Args:
        verdict: the verdict.
        test: node id of the test that made it.
        fails: whether it failed the test; by default as its state says.
        waits: whether the end of the run decides if it fails.
        remedy: the command that records or accepts.
        detailed: with bins, slices, items and the diagnosis.
        metrics: with all metrics, too, which no failure on the screen shows.
        item_text: with the text of the items.
    """
    m, baseline = verdict.measurement, verdict.baseline
    return _copied(
        Result,
        verdict,
        test=test,
        fails=verdict.state.fails if fails is None else fails,
        waits=waits,
        remedy=remedy,
        probe=m.probe,
        model=m.model,
        unit=m.unit,
        n=verdict.n or m.n,
        units=verdict.units or m.n_clusters,
        candidate_n=verdict.candidate_n or verdict.n or m.n,
        number=Number.of(m),
        accuracy=m.accuracy,
        mean_confidence=m.mean_confidence,
        against=verdict.against if baseline else None,
        reference=verdict.reference if baseline else "",
        baseline=Number.of(baseline) if baseline else None,
        tolerance=verdict.tolerance if baseline else None,
        alpha=verdict.alpha if verdict.components else None,
        level=verdict.level if verdict.components else None,
        components=tuple(map(ComponentRow.of, verdict.components)),
        cautions=tuple(_cautions(verdict)),
        point=PointNumbers.of(verdict),
        detail=(detail_of(verdict, metrics=metrics, item_text=item_text) if detailed else None),
        asked_of=0 if verdict.candidate is None else verdict.candidate.asked_of,
    )


def _cautions(verdict: Verdict) -> Iterator[str]:
    """Yield what a reader must know of the numbers, whatever came of them."""
    yield from verdict.cautions
    if verdict.candidate is not None:
        yield from verdict.candidate.notes
    yield from cautions_beside_a_pass(verdict)


def cautions_beside_a_pass(verdict: Verdict) -> Iterator[str]:
    """Yield what a comparison that passed does not see, or that its two sides are the same."""
    if verdict.candidate is None or verdict.state is not State.PASSED or verdict.point is not None:
        return
    before = verdict.baseline_items
    yield from caution_on_small_mass(verdict.candidate, before, verdict.sharpness_before)
    if before is not None:
        yield from cautions_on_a_pass(verdict.candidate, before, verdict.tolerance)


def expected(result: Result) -> Result:
    """Return a failing verdict that its test expects: it fails nothing."""
    return replace(result, fails=False, notes=(*result.notes, EXPECTED))


def lost(result: Result) -> Result:
    """Return a failing verdict of a test that neither failed nor expects it: the run fails."""
    return replace(result, notes=(*result.notes, LOST))


def not_recorded(result: Result, why: str) -> Result:
    """Return the verdict of a test whose record was not written after all.

    Args:
        result: a verdict that says ``recorded``.
        why: one sentence.
    """
    state = State.NOT_RECORDED
    return replace(
        result,
        state=state,
        headline=headline(HEADLINES[state], result.probe, result.model),
        reason=why,
        # Its first line is the reason.
        explanation=(why, *result.explanation[1:]),
        recorded_in="",
    )


def detail_of(verdict: Verdict, *, metrics: bool = True, item_text: bool = False) -> Detail | None:
    """Measure what stands behind a verdict; None where it holds no items."""
    candidate, baseline = verdict.candidate, verdict.baseline_items
    if candidate is None:
        return None
    bins = verdict.measurement.bins
    slices = slice_rows(candidate, baseline if verdict.components else None)
    return Detail(
        candidate=Side.of(candidate, bins, metrics=metrics),
        baseline=None if baseline is None else Side.of(baseline, bins, metrics=metrics),
        slices=slices[:MOST_SLICES],
        slices_left_out=max(0, len(slices) - MOST_SLICES),
        worst=worst_items(candidate, baseline, item_text=item_text),
        diagnosis=diagnose(
            candidate,
            baseline,
            reference=verdict.reference,
            bins=bins,
            base_model=verdict.against == "parent",
            stored=verdict.sharpness_before,
        ),
        past=verdict.past,
        turned=None if baseline is None else turned_of(candidate, baseline, item_text=item_text),
    )


def slice_rows(predictions: Predictions, baseline: Predictions | None) -> tuple[SliceRow, ...]:
    """Return the slices, the clearest shift (or gap, without a baseline) first.

    Args:
        predictions: n items.
        baseline: the same items in the same order, or None.
    """
    now = {slice_.name: slice_ for slice_ in by_slice(predictions)}
    if baseline is None:
        return tuple(map(SliceRow, now.values()))
    return tuple(SliceRow(now[shift.name], shift) for shift in shifts(predictions, baseline))


def worst_items(
    predictions: Predictions,
    baseline: Predictions | None = None,
    *,
    most: int = MOST_ITEMS,
    item_text: bool = False,
) -> tuple[Item, ...]:
    """Return the wrong items of the highest confidence, highest first; ties by id.

    Args:
        predictions: n items.
        baseline: the same items in the same order, or None.
        most: how many at most.
        item_text: with the text of the items.
    """
    first = _most_confident(predictions, ~predictions.correct)[:most].tolist()
    return tuple(item_of(predictions, i, baseline, item_text=item_text) for i in first)


def turned_of(
    predictions: Predictions,
    baseline: Predictions,
    *,
    most: int = MOST_ITEMS,
    item_text: bool = False,
) -> Turned:
    """Return which answers changed sides.

    Args:
        predictions: n items.
        baseline: the same items in the same order.
        most: how many of those that turned wrong are named at most.
        item_text: with the text of the items.
    """
    wrong = baseline.correct & ~predictions.correct
    first = _most_confident(predictions, wrong)[:most].tolist()
    return Turned(
        int(wrong.sum()),
        int((~baseline.correct & predictions.correct).sum()),
        tuple(item_of(predictions, i, baseline, item_text=item_text) for i in first),
    )


def named_items(
    predictions: Predictions,
    baseline: Predictions | None,
    *,
    most: int = MOST_ITEMS,
    item_text: bool = False,
) -> tuple[str, tuple[Item, ...]]:
    """Return what ``Detail.named`` gives for these predictions."""
    turned = None
    if baseline is not None:
        turned = turned_of(predictions, baseline, most=most, item_text=item_text)
    return _named(turned, worst_items(predictions, baseline, most=most, item_text=item_text))


def _named(turned: Turned | None, worst: tuple[Item, ...]) -> tuple[str, tuple[Item, ...]]:
    lead = "" if turned is None else f"{turned.sentence}; "
    if turned is not None and turned.wrong:
        return f"{lead}most confident that turned wrong", turned.items
    return f"{lead}most confident wrong answers", worst


def _most_confident(predictions: Predictions, which: BoolArray) -> IntArray:
    """Return the positions of these items, the highest confidence first; ties by id."""
    there = np.flatnonzero(which)
    order = np.lexsort((predictions.item_ids[there], -predictions.confidence[there]))
    return there[order]


def item_of(
    predictions: Predictions,
    index: int,
    baseline: Predictions | None = None,
    *,
    item_text: bool = True,
) -> Item:
    """Return one item.

    Args:
        predictions: n items.
        index: position of the item.
        baseline: the same items in the same order, or None.
        item_text: with its text.
    """
    p = predictions
    text = ItemText() if p.texts is None else p.texts[index]
    has_text = bool(text.prompt or text.gold or text.answer)
    return Item(
        id=f"{int(p.item_ids[index]):016x}",
        name=text.name,
        group="" if p.groups is None else str(p.groups[index]),
        slice="" if p.slices is None else str(p.slices[index]),
        confidence=float(p.confidence[index]),
        correct=bool(p.correct[index]),
        probabilities=() if p.probabilities is None else tuple(p.probabilities[index].tolist()),
        label=None if p.labels is None else int(p.labels[index]),
        option_mass=None if p.option_mass is None else float(p.option_mass[index]),
        confidence_before=None if baseline is None else float(baseline.confidence[index]),
        correct_before=None if baseline is None else bool(baseline.correct[index]),
        text=text if item_text and has_text else None,
    )


def _copied(kind: type[T], source: object, **values: Any) -> T:
    """Return a dataclass of these values, and of attributes of the source that bear the same name.

    Numbers of the source that are not finite become None.
    """
    for name in (f.name for f in fields(kind) if f.name not in values):  # type: ignore[arg-type]
        value = getattr(source, name)
        values[name] = finite(value) if isinstance(value, float) else value
    return kind(**values)


def finite(value: float) -> float | None:
    """Return a number, None where it is not finite."""
    return float(value) if math.isfinite(value) else None


# --- plain values --------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a value of this module as builtin values, to travel between processes or into JSON.

    Numbers that are not finite become None.
    """
    return _without_nan(msgspec.to_builtins(value, enc_hook=lambda number: number.item()))


def from_plain(kind: type[T], tree: Any) -> T:
    """Return the dataclass that has these plain values.

    Raises:
        msgspec.ValidationError: the values are not those of such a dataclass.
    """
    return msgspec.convert(tree, kind)


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return finite(tree) if isinstance(tree, float) else tree
