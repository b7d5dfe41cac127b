"""The outcome of a test session as plain data: what every report is written from.

A verdict holds arrays; a :class:`Result` holds what a reader sees of it, in builtin values that
travel between processes and into JSON. Nothing here is NaN: what does not apply is None.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import (
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from pytest_calibration.diagnosis import Diagnosis, diagnose
from pytest_calibration.diagnosis.slices import SliceShift, by_slice, shifts
from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.verdict import Against, Past, Verdict
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.metrics import METRICS
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.reliability import (
    ConfidenceBar,
    ReliabilityBin,
    confidence_histogram,
    reliability,
)

FORMAT: Final = 1
MOST_SLICES: Final = 200
MOST_ITEMS: Final = 20
SPARED: Final = "the test did not fail: it is expected to, or caught the assertion."
T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """One metric with what must stand beside it.

    Attributes:
        metric: its name.
        label: name and binning, as printed.
        value: the number.
        low: lower end of its 95 % interval.
        high: upper end.
        noise_floor: what a calibrated model would show on average; None for what is no error.
        noise_floor_high: what that model would stay below 95 % of the time, where that is known.
    """

    metric: str
    label: str
    value: float
    low: float
    high: float
    noise_floor: float | None = None
    noise_floor_high: float | None = None

    @classmethod
    def of(cls, m: Measurement) -> Number:
        """Take what is printed of a measurement."""
        return cls(
            metric=m.metric,
            label=m.label,
            value=m.value,
            low=m.low,
            high=m.high,
            noise_floor=known(m.noise_floor),
            noise_floor_high=known(m.noise_floor_high),
        )


@dataclass(frozen=True)
class ComponentRow:
    """One way of getting worse, as the gate saw it; see ``components.Component``.

    Attributes:
        name: ``signed gap``, ``slope``, ``shape``, ``cross-fitted ECE`` or ``accuracy``.
        before: value of the baseline; None where it does not apply.
        after: value of the candidate.
        worsening: how much worse the candidate is.
        bound: one-sided lower bound of the worsening.
        tolerance: what the bound is held against.
        fired: whether it fails the comparison.
        changed_sides: whether it moved through zero, to no larger size.
        unavailable: why it does not apply; empty where it does.
    """

    name: str
    before: float | None
    after: float | None
    worsening: float | None
    bound: float | None
    tolerance: float
    fired: bool
    changed_sides: bool
    unavailable: str

    @classmethod
    def of(cls, c: Component) -> ComponentRow:
        """Take what is printed of a component."""
        return cls(
            name=c.name,
            before=known(c.before),
            after=known(c.after),
            worsening=known(c.worsening),
            bound=known(c.bound),
            tolerance=c.tolerance,
            fired=c.fired,
            changed_sides=c.changed_sides,
            unavailable=c.unavailable,
        )


@dataclass(frozen=True)
class Side:
    """One model on the items of a probe.

    Attributes:
        model: its name; empty where it has none.
        n: number of items.
        units: number of independent units among them.
        bins: number of bins of the binned metrics.
        metrics: every metric that applies, by name.
        reliability: the bins that hold items.
        histogram: counts of right and wrong answers over confidence.
        hard: settings that must agree for two sides to be comparable.
        soft: settings that are only shown.
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

    @classmethod
    def of(cls, predictions: Predictions, bins: int) -> Side:
        """Measure everything that a report shows of a model."""
        metrics = {}
        for name, metric in METRICS.items():
            if metric.applies_to(predictions):
                # There is no ranking of answers that are all right, or all wrong.
                with contextlib.suppress(MetricError):
                    metrics[name] = Number.of(measure(predictions, name, bins=bins))
        return cls(
            model=predictions.signature.soft.get("model", ""),
            n=predictions.n,
            units=predictions.n_clusters,
            bins=bins,
            metrics=metrics,
            reliability=reliability(predictions, bins),
            histogram=confidence_histogram(predictions),
            hard=dict(predictions.signature.hard),
            soft=dict(predictions.signature.soft),
        )


@dataclass(frozen=True)
class SliceRow:
    """One slice: how it stands, and how it moved where there is a baseline.

    Attributes:
        name: what its items are about; empty for items that name no slice.
        n: number of items.
        units: number of independent units.
        accuracy: share of right answers.
        mean_confidence: mean confidence.
        signed_gap: mean confidence minus accuracy.
        low: lower end of the 95 % interval of the signed gap.
        high: upper end.
        ece: ECE over few bins.
        noise_floor: of that ECE.
        accuracy_before: accuracy of the baseline.
        gap_before: signed gap of the baseline.
        shift: change of the signed gap.
        margin: half the width of its 95 % interval.
        q_value: Benjamini-Hochberg; None where the slice is too small to test.
        change: ``worse``, ``better`` or ``moved``; empty where it is not said to have moved.
    """

    name: str
    n: int
    units: int
    accuracy: float
    mean_confidence: float
    signed_gap: float
    low: float
    high: float
    ece: float
    noise_floor: float
    accuracy_before: float | None = None
    gap_before: float | None = None
    shift: float | None = None
    margin: float | None = None
    q_value: float | None = None
    change: str = ""


@dataclass(frozen=True)
class Words:
    """What an item says; see ``item_text.ItemText``. Raw text: a report escapes it.

    Attributes:
        prompt: what was asked.
        gold: the right answer.
        answer: the model's own answer.
        options: the options, where there are any.
    """

    prompt: str
    gold: str
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One item and what the model made of it.

    Attributes:
        id: the id that pairs it with itself in another run, 16 hexadecimal digits.
        name: the id that its source gives it; empty where it gives none.
        group: what it stands or falls with; empty without groups.
        slice: what it is about; empty without slices.
        confidence: the model's confidence in its own answer.
        correct: whether that answer is right.
        probabilities: of the options, where there are any.
        label: index of the right option.
        option_mass: probability of all options together, before renormalisation.
        confidence_before: the baseline's confidence, where there is one.
        correct_before: whether the baseline was right.
        words: what it says; None where that is not to be shown, or is not known.
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
    words: Words | None = None

    @property
    def title(self) -> str:
        """What a reader calls it: its own id, else the hashed one."""
        return self.name or f"#{self.id}"


@dataclass(frozen=True)
class Detail:
    """What stands behind one verdict.

    Attributes:
        candidate: the model that was tested.
        baseline: what it was held against, on the same items.
        slices: the slices, the surest to have moved (or to be off) first.
        slices_left_out: how many more there are.
        worst: the most over-confident wrong items, the surest first.
        diagnosis: why calibration is what it is, and what would mend it.
        past: what was stored before under the same key, the oldest first.
    """

    candidate: Side
    baseline: Side | None
    slices: tuple[SliceRow, ...]
    slices_left_out: int
    worst: tuple[Item, ...]
    diagnosis: Diagnosis | None
    past: tuple[Past, ...]


@dataclass(frozen=True)
class Remedy:
    """What to type to record or to accept.

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
        state: a value of ``decision.State``.
        fails: whether it failed the test.
        headline: its first line.
        reason: one sentence on why, where the state is not a matter of numbers; else empty.
        findings: what decided, a sentence each: the limit, or every component that fails.
        explanation: the verdict in lines of text, for a reader who wants all of it.
        remedy: what records or accepts; None where nothing does.
        probe: name of the probe.
        model: name of the model; empty where it has none.
        unit: what an item is.
        n: number of items compared.
        units: number of independent units among them.
        number: what was measured.
        accuracy: share of right answers.
        mean_confidence: mean confidence.
        against: what kind of thing it was compared with; None without a baseline.
        reference: what the baseline is called; empty without one.
        baseline: the same metric of the baseline.
        limit: the fixed limit, where there is one.
        held: what was held against it.
        above: whether the limit is a floor.
        tolerance: allowed worsening; None without a baseline.
        alpha: one-sided error level, as asked.
        level: one-sided confidence of the bounds.
        difference: worsening of the deciding component, or value minus limit.
        bound: lower bound of that worsening, or what was held against the limit.
        smallest_visible: smallest worsening that would be seen at 80 % power.
        false_alarm_rate: at most how often an unchanged model would fail.
        n_needed: items at which an inconclusive comparison would decide; 0 otherwise.
        improved: whether it is better than the baseline beyond the tolerance.
        components: every way of getting worse that was looked at.
        notes: further sentences a reader must see.
        detail: what stands behind it, where it was asked for.
    """

    test: str
    state: str
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
    number: Number
    accuracy: float
    mean_confidence: float
    against: Against | None = None
    reference: str = ""
    baseline: Number | None = None
    limit: float | None = None
    held: float | None = None
    above: bool = False
    tolerance: float | None = None
    alpha: float | None = None
    level: float | None = None
    difference: float | None = None
    bound: float | None = None
    smallest_visible: float | None = None
    false_alarm_rate: float | None = None
    n_needed: int = 0
    improved: bool = False
    components: tuple[ComponentRow, ...] = ()
    notes: tuple[str, ...] = ()
    detail: Detail | None = None

    @property
    def fired(self) -> tuple[str, ...]:
        """Names of the components that fail it."""
        return tuple(c.name for c in self.components if c.fired)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis; a model that is only not accurate enough has none."""
        return None if self.detail is None or self.above else self.detail.diagnosis

    @property
    def said(self) -> str:
        """The state as a reader says it; a limit from below is told as such."""
        if self.state == State.ABOVE_LIMIT and self.above:
            return "below limit"
        return self.state.replace("_", " ")

    @property
    def subject(self) -> str:
        """Probe and model: ``facts on sft``."""
        return f"{self.probe} on {self.model}" if self.model else self.probe


@dataclass(frozen=True)
class Results:
    """The outcome of one session.

    Attributes:
        format: version of this layout.
        version: version of pytest-calibration.
        created: when it was written, ISO 8601 in UTC.
        commit: the commit that was tested, where the environment names it.
        tests: number of calibration tests collected.
        finished: whether every test was run.
        green: whether no verdict failed and no error was told.
        results: every verdict, in order of models and probes.
        remarks: lines at the end of the summary.
        errors: lines that make the session fail.
    """

    version: str
    created: str
    tests: int
    finished: bool
    results: tuple[Result, ...]
    commit: str = ""
    remarks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    format: int = FORMAT
    green: bool = field(init=False)

    def __post_init__(self) -> None:
        fine = self.finished and not self.errors and not any(r.fails for r in self.results)
        object.__setattr__(self, "green", fine)

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts of each state, in the order in which they are first seen."""
        return dict(Counter(r.said for r in self.results))

    @property
    def expected_false_alarms(self) -> float | None:
        """At most how many failures to expect, had nothing changed; None without a comparison."""
        rates = [r.false_alarm_rate for r in self.results if r.false_alarm_rate is not None]
        return sum(rates) if rates else None


# --- from a verdict ------------------------------------------------------------------------------


def result_of(
    verdict: Verdict,
    *,
    test: str = "",
    fails: bool | None = None,
    remedy: Remedy | None = None,
    detailed: bool = True,
    words: bool = False,
) -> Result:
    """Return what a reader sees of a verdict.

    Args:
        verdict: the verdict.
        test: node id of the test that made it.
        fails: whether it failed the test; by default as its state says.
        remedy: what records or accepts.
        detailed: with all metrics, bins, slices, items and the diagnosis.
        words: with the text of the items.
    """
    m = verdict.measurement
    compared = verdict.baseline is not None
    return Result(
        test=test,
        state=str(verdict.state),
        fails=verdict.state.fails if fails is None else fails,
        headline=verdict.headline,
        reason=verdict.reason,
        findings=verdict.findings,
        explanation=verdict.explanation,
        remedy=remedy,
        probe=m.probe,
        model=m.model,
        unit=m.unit,
        n=verdict.n or m.n,
        units=verdict.units or m.n_clusters,
        number=Number.of(m),
        accuracy=m.accuracy,
        mean_confidence=m.mean_confidence,
        against=verdict.against if compared else None,
        reference=verdict.reference if compared else "",
        baseline=None if verdict.baseline is None else Number.of(verdict.baseline),
        limit=known(verdict.limit),
        held=known(verdict.held),
        above=verdict.above,
        tolerance=verdict.tolerance if compared else None,
        alpha=verdict.alpha if verdict.components else None,
        level=verdict.level if verdict.components else None,
        difference=known(verdict.difference),
        bound=known(verdict.bound),
        smallest_visible=known(verdict.smallest_visible),
        false_alarm_rate=known(verdict.false_alarm_rate),
        n_needed=verdict.n_needed,
        improved=verdict.improved,
        components=tuple(map(ComponentRow.of, verdict.components)),
        notes=verdict.notes,
        detail=detail_of(verdict, words=words) if detailed else None,
    )


def spared(results: Iterable[Result]) -> list[Result]:
    """Return the verdicts of a test that did not fail: it expects them, or caught the error."""
    return [replace(r, fails=False, notes=(*r.notes, SPARED)) if r.fails else r for r in results]


def detail_of(verdict: Verdict, *, words: bool = False) -> Detail | None:
    """Measure what stands behind a verdict; None where it holds no items."""
    here, there = verdict.candidate, verdict.stored
    if here is None:
        return None
    bins = verdict.measurement.bins
    moved = shifts(here, there) if there is not None and verdict.components else ()
    rows = slice_rows(here, moved)
    diagnosis = diagnose(
        here,
        there,
        reference=verdict.reference,
        bins=bins,
        base_model=verdict.against == "parent",
        stored=verdict.sharpness_before,
    )
    return Detail(
        candidate=Side.of(here, bins),
        baseline=None if there is None else Side.of(there, bins),
        slices=rows[:MOST_SLICES],
        slices_left_out=max(0, len(rows) - MOST_SLICES),
        worst=worst_items(here, there, words=words),
        diagnosis=diagnosis,
        past=verdict.past,
    )


def slice_rows(predictions: Predictions, shifts: Iterable[SliceShift]) -> tuple[SliceRow, ...]:
    """Join how each slice stands with how it moved, in the order of the shifts if there are any."""
    rows = {
        s.name: SliceRow(
            name=s.name,
            n=s.n,
            units=s.units,
            accuracy=s.accuracy,
            mean_confidence=s.mean_confidence,
            signed_gap=s.signed_gap,
            low=s.low,
            high=s.high,
            ece=s.ece,
            noise_floor=s.noise_floor,
        )
        for s in by_slice(predictions)
    }
    moved = {
        s.name: replace(
            rows[s.name],
            accuracy_before=s.accuracy_before,
            gap_before=s.gap_before,
            shift=s.shift,
            margin=known(s.margin),
            q_value=known(s.q_value),
            change=s.change,
        )
        for s in shifts
        if s.name in rows
    }
    return tuple({**moved, **{k: v for k, v in rows.items() if k not in moved}}.values())


def worst_items(
    predictions: Predictions,
    before: Predictions | None = None,
    *,
    most: int = MOST_ITEMS,
    words: bool = False,
) -> tuple[Item, ...]:
    """Return the wrong items of the highest confidence, the surest first; ties by id.

    Args:
        predictions: what was measured.
        before: the baseline on the same items in the same order.
        most: how many at most.
        words: with the text of the items.
    """
    wrong = np.flatnonzero(~predictions.correct)
    order = np.lexsort((predictions.item_ids[wrong], -predictions.confidence[wrong]))
    return tuple(
        item_of(predictions, int(i), before, words=words) for i in wrong[order[:most]].tolist()
    )


def item_of(
    predictions: Predictions, index: int, before: Predictions | None = None, *, words: bool = True
) -> Item:
    """Return one item of the predictions.

    Args:
        predictions: what was measured.
        index: position of the item.
        before: the baseline on the same items in the same order.
        words: with its text.
    """
    p = predictions
    text = None if p.texts is None else p.texts[index]
    has_words = text is not None and bool(text.prompt or text.gold or text.answer)
    return Item(
        id=f"{int(p.item_ids[index]):016x}",
        name="" if text is None else text.name,
        group="" if p.groups is None else str(p.groups[index]),
        slice="" if p.slices is None else str(p.slices[index]),
        confidence=float(p.confidence[index]),
        correct=bool(p.correct[index]),
        probabilities=()
        if p.probabilities is None
        else tuple(float(x) for x in p.probabilities[index]),
        label=None if p.labels is None else int(p.labels[index]),
        option_mass=None if p.option_mass is None else float(p.option_mass[index]),
        confidence_before=None if before is None else float(before.confidence[index]),
        correct_before=None if before is None else bool(before.correct[index]),
        words=Words(text.prompt, text.gold, text.answer, text.options)
        if words and text is not None and has_words
        else None,
    )


def known(value: float) -> float | None:
    """Return a finite number, else None."""
    return float(value) if math.isfinite(value) else None


# --- plain values --------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return builtin values: what travels between processes and into JSON must be exactly that.

    Numbers that are not finite become None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | np.bool_):
        return value if value is None else bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return known(float(value))


def revived(kind: type[T], tree: Any) -> T:
    """Build a dataclass of this module from its plain values.

    Raises:
        TypeError: the values are not those of such a dataclass.
    """
    made: T = _revived(kind, tree)
    return made


def _revived(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        given = {f.name: value[f.name] for f in fields(kind) if f.init and f.name in value}
        return kind(**{name: _revived(hints[name], v) for name, v in given.items()})
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _revived(next(a for a in args if a is not type(None)), value)
    if origin is tuple:
        return tuple(_revived(args[0], v) for v in value)
    if origin is dict:
        return {k: _revived(args[1], v) for k, v in value.items()}
    return value
