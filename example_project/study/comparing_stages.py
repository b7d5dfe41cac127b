"""What a finding compares: a weighted sum of numbers of stages, for each seed, with an interval.

With S seeds of n items the number is u.. = Σ_s Σ_i u_si / (S n), and each u_si depends on the
training s and the item i. Its variance is σ_s²/S + σ_i²/n + σ_si²/(S n). The seeds show the first
and third part, the items of the mean over seeds the second and third, so that the sum of both
holds for training again and for asking other items, and counts only the third part twice::

    half the interval = √( (t SE_seeds)² + (z SE_items)² ),  t Student's with S − 1 degrees

With one seed only the second is known: it holds for that training. Each outcome says what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any, Final, TypeAlias

import numpy as np
from measured import Stage, Study

from pytest_calibration.history.comparing import error_of
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.metrics.binning import EDGE_SNAP, bin_index
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.metrics.sharpness import SURE
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.standard_errors import (
    cluster_codes,
    equal_units,
    standard_error,
)

# What a stage tells itself, in place of the history.
OF_STAGE: Final = ("train_accuracy", "train_seconds")
TAIL: Final = 0.025


class MissingStageError(Exception):
    """A stage or a number that a comparison needs is not there; says which."""


@dataclass(frozen=True)
class Term:
    """One part of a sum: weight times a metric of a stage."""

    weight: float
    stage: Stage
    metric: str = ""


@dataclass(frozen=True)
class Form:
    """What is computed of the stages of one seed.

    Attributes:
        terms: whose sum is taken.
        over: the sum is divided by the same number of this stage; None for a plain sum.
        chosen: which stages, where a finding leaves that to what was measured; empty else.
    """

    terms: tuple[Term, ...]
    over: Stage | None = None
    chosen: str = ""


Build: TypeAlias = Callable[[Study, int, str], Form]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: mean over the seeds.
        low: lower end.
        high: upper end; infinite where there is none.
        by_seed: the number of each seed.
        lacking: what is missing of the other seeds, a sentence each.
        chosen: which stages were compared, where that depends on what was measured.
    """

    value: float
    low: float
    high: float
    by_seed: dict[int, float]
    lacking: tuple[str, ...] = ()
    chosen: str = ""


def estimate(study: Study, build: Build, probe: str, metric: str) -> Estimate:
    """Compute a number over all seeds that have what it needs.

    Raises:
        MissingStageError: no seed has.
    """
    forms: dict[int, Form] = {}
    values: dict[int, float] = {}
    lacking = []
    for seed in study.seeds:
        try:
            form = build(study, seed, probe)
            values[seed] = _value(study, form, probe, metric)
            forms[seed] = form
        except MissingStageError as problem:
            lacking.append(f"seed {seed}: {problem}")
    if not values:
        raise MissingStageError(lacking[0].partition(": ")[2] if lacking else "no stage")
    middle = mean(values.values())
    terms = [
        replace(term, weight=term.weight / len(forms))
        for form in forms.values()
        for term in form.terms
    ]
    by_stage = any((term.metric or metric) in OF_STAGE for term in terms)
    half = 0.0 if by_stage else _half_over_items(study, terms, probe, metric)
    if len(values) > 1:
        error = stdev(values.values()) / math.sqrt(len(values))
        half = math.hypot(half, upper_quantile(TAIL, len(values)) * error)
    elif by_stage:
        half = math.inf
    chosen = "; ".join(dict.fromkeys(form.chosen for form in forms.values() if form.chosen))
    return Estimate(middle, middle - half, middle + half, values, tuple(lacking), chosen)


# --- what is compared ----------------------------------------------------------------------------


def last(study: Study, seed: int, kind: str, **settings: Any) -> list[Stage]:
    """Return the last checkpoint of each training of a kind.

    Raises:
        MissingStageError: there is none.
    """
    return [run[-1] for run in trainings(study, seed, kind, settings)]


def trainings(
    study: Study, seed: int, kind: str, settings: Mapping[str, Any] | None = None
) -> list[list[Stage]]:
    """Return the checkpoints of the trainings of a kind, in order.

    Of instruction tuning all count, on either set and by either method. Of another kind it is the
    first in the table, the one of the usual settings; others were tried beside it.

    Raises:
        MissingStageError: there is none.
    """
    settings = settings or {}
    runs: dict[str, list[Stage]] = {}
    for stage in study.of(seed, kind, **settings):
        if kind != "sft" or stage.settings.get("dataset") in DATASETS:
            runs.setdefault(stage.run, []).append(stage)
    if not runs:
        raise MissingStageError(f"no stage {_called(kind, settings)}")
    found = [sorted(run, key=place_of) for run in runs.values()]
    return found if kind == "sft" else found[:1]


DATASETS: Final = ("diverse", "homogeneous")
PLACES: Final = ("epoch", "step")


def place_of(stage: Stage) -> tuple[float, ...]:
    """Return where a checkpoint stands in its training."""
    return tuple(float(stage.settings.get(name) or 0) for name in PLACES)


def _called(kind: str, settings: Mapping[str, Any]) -> str:
    return " ".join([kind, *(str(value) for value in settings.values())])


def average(stages: Sequence[Stage], weight: float = 1.0, metric: str = "") -> tuple[Term, ...]:
    """Return the mean of a number over stages, times a weight."""
    return tuple(Term(weight / len(stages), stage, metric) for stage in stages)


def level(kind: str, **settings: Any) -> Build:
    """The number of the last checkpoints of a kind."""
    return lambda study, seed, _: Form(average(last(study, seed, kind, **settings)))


def against_parent(kind: str, *, place: int = -1, **settings: Any) -> Build:
    """The checkpoints of a kind minus what they were trained from: the last, or the first (0)."""

    def build(study: Study, seed: int, probe: str) -> Form:
        stages = [run[place] for run in trainings(study, seed, kind, settings)]
        parents = [one for stage in stages if (one := study.ancestor(stage)) is not None]
        if len(parents) < len(stages):
            raise MissingStageError(f"a stage {_called(kind, settings)} has no parent")
        for stage, parent in zip(stages, parents, strict=True):
            ours, theirs = study.line(stage, probe), study.line(parent, probe)
            # Else a training that failed would show that training changes nothing.
            if ours is not None and theirs is not None and ours.metrics == theirs.metrics:
                raise MissingStageError(
                    f"{stage.name} answers exactly as {parent.name}: it was not trained"
                )
        return Form((*average(stages), *average(parents, -1.0)))

    return build


def last_minus_first(kind: str, **settings: Any) -> Build:
    """The last checkpoint of each training of a kind minus its first."""

    def build(study: Study, seed: int, _: str) -> Form:
        runs = [run for run in trainings(study, seed, kind, settings) if len(run) > 1]
        if not runs:
            raise MissingStageError(f"no {_called(kind, settings)} with several checkpoints")
        ends = [run[-1] for run in runs], [run[0] for run in runs]
        return Form((*average(ends[0]), *average(ends[1], -1.0)))

    return build


def parent_of(kind: str) -> Build:
    """The number of what the checkpoints of a kind were trained from."""

    def build(study: Study, seed: int, _: str) -> Form:
        parents = [study.ancestor(stage) for stage in last(study, seed, kind)]
        known = [one for one in parents if one is not None]
        if len(known) < len(parents):
            raise MissingStageError(f"a stage {kind} has no parent")
        return Form(average(known))

    return build


def minus(kind: str, other: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Build:
    """The last checkpoints of one kind minus those of another."""

    def build(study: Study, seed: int, _: str) -> Form:
        upper, lower = last(study, seed, kind, **ours), last(study, seed, other, **theirs)
        return Form((*average(upper), *average(lower, -1.0)))

    return build


def cost_over(kind: str, other: str) -> Build:
    """The number of one kind divided by that of another."""

    def build(study: Study, seed: int, _: str) -> Form:
        return Form(average(last(study, seed, kind)), over=last(study, seed, other)[0])

    return build


# --- its value and its interval ------------------------------------------------------------------


def number_of(study: Study, stage: Stage, probe: str, metric: str) -> float:
    """Return a number of a stage.

    Raises:
        MissingStageError: it was not measured.
    """
    if metric in OF_STAGE:
        value = getattr(stage, metric, stage.extra.get(metric))
    else:
        line = study.line(stage, probe)
        if line is None:
            raise MissingStageError(f"{stage.name} was not measured on {probe}")
        number = line.metrics.get(metric)
        value = None if number is None else number.value
    if value is None:
        where = "" if metric in OF_STAGE else f" on {probe}"
        raise MissingStageError(f"{stage.name} has no {metric}{where}")
    return float(value)


def _value(study: Study, form: Form, probe: str, metric: str) -> float:
    total = math.fsum(
        t.weight * number_of(study, t.stage, probe, t.metric or metric) for t in form.terms
    )
    if form.over is None:
        return total
    below = number_of(study, form.over, probe, metric)
    if below <= 0:
        raise MissingStageError(f"{form.over.name} has a {metric} of {below:g}")
    return total / below


def _half_over_items(study: Study, terms: Sequence[Term], probe: str, metric: str) -> float:
    """Return half the width of the interval of a sum over the items; infinite where unknown."""
    items = [study.items(t.stage, probe) for t in terms]
    shared = _shared([one for one in items if one is not None])
    rows = [by_item(p, t.metric or metric) for p, t in zip(shared, terms, strict=False)]
    known = [row for row in rows if row is not None]
    if len(known) == len(terms):
        total = np.sum([t.weight * row for t, row in zip(terms, known, strict=True)], axis=0)
        clusters = cluster_codes(shared[0])
        # Where no answer changed, up to three may change (rule of three).
        error = max(standard_error(total, clusters), math.sqrt(3) / len(total))
        return upper_quantile(TAIL, equal_units(len(total), clusters)) * error
    # By the intervals of the lines, as if all were independent.
    lines = [line for t in terms if (line := study.line(t.stage, probe)) is not None]
    errors = [
        t.weight * error_of(t.metric or metric, line) for t, line in zip(terms, lines, strict=True)
    ]
    half = upper_quantile(TAIL, min(line.units for line in lines)) * math.hypot(*errors)
    return math.inf if math.isnan(half) else half


def _shared(items: Sequence[Predictions]) -> list[Predictions]:
    """Return the same items in the same order; none where they differ."""
    ordered = [p.take(np.argsort(p.item_ids, kind="stable")) for p in items]
    first = ordered[0].item_ids if ordered else None
    return ordered if all(np.array_equal(p.item_ids, first) for p in ordered) else []


def by_item(p: Predictions, metric: str) -> FloatArray | None:
    """Return (n,) what each item adds to a metric; None for one that items do not tell."""
    if metric == "cross_fitted_ece":
        bins = bin_index(p.confidence, DEFAULT_BINS, "equal_width")
        return cross_fitted(p.gap, bins, cluster_codes(p)).influence
    rows = {
        "accuracy": p.correct.astype(np.float64),
        "mean_confidence": p.confidence,
        "signed_gap": p.gap,
        "share_confident": (p.confidence >= SURE - EDGE_SNAP).astype(np.float64),
    }
    return rows.get(metric)
