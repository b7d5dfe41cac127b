"""The assertions a user writes: the only place that raises ``AssertionError``.

They build their own message, since pytest rewrites assertions in test modules only. They work
outside pytest too. A test session puts a *sink* in place, which counts verdicts, collects records
and knows the command that records or accepts; without a sink the assertions have no side effect.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pytest_calibration.baselines import Baselines, Policy, Record
from pytest_calibration.baselines.check import (
    compare_at_record,
    compare_at_stored,
    compare_ece_with_stored,
    compare_with_record,
    compare_with_stored,
)
from pytest_calibration.errors import MetricError, UsageError
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.looks import Look
from pytest_calibration.gate.strictness import (
    COVERAGE_TOLERANCE,
    DEFAULT,
    THRESHOLD,
    TOLERANCE,
    OperatingPoint,
    Strictness,
)
from pytest_calibration.gate.verdict import Verdict, compare, compare_at_points, judge
from pytest_calibration.history.drift import judge_drift, series_of
from pytest_calibration.history.file import History
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS, metric_named
from pytest_calibration.predictions import (
    Predictions,
    PredictionsInParts,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.reports.model import Remedy, Result, result_of
from pytest_calibration.reports.terminal import failure_lines
from pytest_calibration.sink import SINK
from pytest_calibration.text.layout import WIDTH
from pytest_calibration.text.names import labelled

# Why a comparison did not stop early.
ALL_ASKED: Final = (
    "only a comparison with a baseline stops early, and none that may be stored or has operating "
    "points."
)


def assert_ece_below(
    predictions: PredictionsLike,
    limit: float | Baselines | Record,
    *,
    bins: int = DEFAULT_BINS,
    tolerance: float | None = None,
    debiased: bool = False,
) -> Verdict:
    """Fail when the measured ECE is at or above the limit.

    Args:
        predictions: predictions, or a pair (probabilities (n, k), labels (n,)).
        limit: the first ECE that fails; or a baseline, whose own ``limit:`` counts, else its stored
            ECE plus the tolerance.
        bins: number of equal-width bins; part of the number. A baseline's ECE is recomputed in
            the same bins from its stored items.
        tolerance: allowed growth over a baseline's ECE; by default as in
            :func:`assert_no_regression`.
        debiased: compare the lower end of the interval of the cross-fitted (debiased) ECE with the
            limit, so that noise on few items does not fail the test.

    Returns:
        The verdict, when it passes.

    Raises:
        AssertionError: at or above the limit, no baseline is stored, or it is not comparable.
        CalibrationError: predictions or baseline cannot be used.
    """
    __tracebackhide__ = True
    candidate = _candidate(predictions)
    if isinstance(limit, Baselines | Record):
        project = _project_strictness(candidate)
        if isinstance(limit, Baselines):
            limit = _of_session(limit)
        verdict = compare_ece_with_stored(
            candidate, limit, project, tolerance, bins=bins, debiased=debiased
        )
    else:
        metric = "cross_fitted_ece" if debiased else "ece"
        verdict = judge(measure(candidate, metric, bins=bins), limit, debiased=debiased)
    return _conclude([verdict], candidate, predictions)


def assert_no_regression(
    predictions: PredictionsLike,
    baseline: Baselines | Record | Predictions,
    *,
    tolerance: float | None = None,
    alpha: float | None = None,
    accuracy_tolerance: float | None = TOLERANCE,
    drift_tolerance: float | None = None,
) -> Verdict:
    """Fail when calibration, or accuracy, is worse than the baseline beyond the tolerance.

    See :func:`pytest_calibration.gate.verdict.compare` for the rule.

    Args:
        predictions: the candidate.
        baseline: a store (in which the probe's record is looked up), a record, or predictions of
            another model.
        tolerance: allowed worsening in ECE units. By default the record's ``tolerance:``, then the
            project's, then 0.02.
        alpha: one-sided error level of each bound; by default the project's, then 0.05.
        accuracy_tolerance: allowed loss of accuracy; None switches that guard off.
        drift_tolerance: allowed worsening since the anchor of a baseline, over all accepted steps
            together; by default the project's, then twice the tolerance. Accuracy may fall by twice
            its own.

    The ``operating_points:`` of the project are compared as well, and fail alike.

    Returns:
        The verdict, when it does not fail: passed, inconclusive or recorded.

    Raises:
        AssertionError: regressed, drifted from the anchor, not comparable, or no baseline stored.
        CalibrationError: predictions or baseline cannot be used.
    """
    __tracebackhide__ = True
    known = _baseline(baseline)

    def judged(candidate: Predictions, look: Look | None) -> list[Verdict]:
        """Return the verdicts on predictions, or on what is known of them at a look."""
        project = replace(
            _project_strictness(candidate).with_first(
                alpha=[alpha], drift_tolerance=[drift_tolerance]
            ),
            accuracy_tolerance=accuracy_tolerance,
        )
        strictness = project.with_first(tolerance=[tolerance])
        points = _project_points(candidate)
        settings = strictness.arguments()
        verdicts = [
            _with_points(
                compare(candidate, parent, **settings, against="parent", reference=name, look=look),
                points,
                strictness,
            )
            for name, parent in _parents(candidate)
        ]
        if isinstance(known, Predictions):
            verdict = compare(candidate, known, **settings, look=look)
            verdicts.append(_with_points(verdict, points, strictness))
        elif isinstance(known, Record):
            verdicts.append(compare_with_record(candidate, known, project, tolerance, points, look))
        # With a parent, a record is compared only where one exists: the parent is the comparison.
        elif not verdicts or known.find(candidate.probe) is not None:
            verdicts.append(compare_with_stored(candidate, known, project, tolerance, points, look))
        return verdicts

    if isinstance(predictions, PredictionsInParts) and _may_stop(predictions, known):
        return _conclude(_at_looks(predictions, judged))
    candidate = _candidate(predictions)
    return _conclude(judged(candidate, None), candidate, predictions)


def assert_no_regression_at(
    predictions: PredictionsLike,
    baseline: Baselines | Record | Predictions,
    threshold: float = THRESHOLD,
    *,
    tolerance: float | None = None,
    coverage_tolerance: float | None = COVERAGE_TOLERANCE,
    alpha: float | None = None,
) -> Verdict:
    """Fail when the answers that are acted on are less accurate, or fewer, than the baseline's.

    These are the answers with a confidence of at least the threshold. Precision is their accuracy,
    coverage their share. See :func:`pytest_calibration.gate.verdict.compare_at` for the rule.

    Args:
        predictions: the candidate.
        baseline: a store (in which the probe's record is looked up), a record, or predictions of
            another model.
        threshold: in [0, 1].
        tolerance: allowed fall of precision; by default that of ``operating_points:`` at this
            threshold, then 0.02.
        coverage_tolerance: allowed fall of coverage; None for any.
        alpha: one-sided error level of each bound; by default the project's, then 0.05.

    Returns:
        The verdict, when it does not fail: passed, inconclusive or recorded.

    Raises:
        AssertionError: regressed, not comparable, or no baseline stored.
        CalibrationError: predictions, baseline, threshold or tolerances cannot be used.
    """
    __tracebackhide__ = True
    candidate, baseline = _candidate(predictions), _baseline(baseline)
    project = _project_strictness(candidate).with_first(alpha=[alpha])
    point = OperatingPoint(threshold, coverage_tolerance=coverage_tolerance)
    known = [p.tolerance for p in _project_points(candidate) if p.threshold == point.threshold]
    chosen = next((t for t in (tolerance, *known) if t is not None), TOLERANCE)
    point = replace(point, tolerance=chosen)
    verdicts: list[Verdict] = []
    for name, parent in _parents(candidate):
        verdicts += compare_at_points(
            candidate, parent, [point], project, against="parent", reference=name
        )
    if isinstance(baseline, Predictions):
        verdicts += compare_at_points(candidate, baseline, [point], project)
    elif isinstance(baseline, Record):
        verdicts += compare_at_record(candidate, baseline, project, [point])
    elif not verdicts or baseline.find(candidate.probe) is not None:
        verdicts.append(compare_at_stored(candidate, baseline, project, point))
    return _conclude(verdicts, candidate, predictions)


def assert_no_drift(
    history: History | str | os.PathLike[str],
    probe: str,
    *,
    run: str | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
    accuracy_tolerance: float | None = TOLERANCE,
) -> Verdict:
    """Fail when calibration, or accuracy, got worse over the checkpoints of a training run.

    See :func:`pytest_calibration.gate.trend.trend` for the rule. It belongs beside
    :func:`assert_no_regression` on each checkpoint: a jump at the last of many hardly moves a line.

    Args:
        history: the file of ``--calibration-history``, or a ``History``.
        probe: name of the probe.
        run: the training run: the folder of its checkpoints, or its name on the hub; needed where
            the history has several.
        tolerance: allowed worsening from the start of the line to its end; by default that of the
            project, then 0.02.
        alpha: one-sided error level of each bound; by default the project's, then 0.05.
        accuracy_tolerance: allowed loss of accuracy; None switches that guard off.

    Returns:
        The verdict, a ``TrendVerdict``, when it does not fail: passed or inconclusive.

    Raises:
        AssertionError: drifted, or the checkpoints are not comparable.
        CalibrationError: the history, its items or a setting cannot be used.
    """
    __tracebackhide__ = True
    if not isinstance(history, History | str | os.PathLike):
        raise UsageError(
            "the history must be a History or the path of its file, got "
            f"{type(history).__name__}; --calibration-history=FILE writes one."
        )
    file = history if isinstance(history, History) else History(history)
    series, remarks = series_of(file, probe, run)
    named = next(filter(None, map(file.predictions, series.lines)), None)
    project = DEFAULT if named is None else _project_strictness(named)
    project = project.with_first(tolerance=[tolerance], alpha=[alpha])
    verdict = judge_drift(file, series, replace(project, accuracy_tolerance=accuracy_tolerance))
    verdict = replace(verdict, cautions=(*verdict.cautions, *remarks))
    return _conclude([verdict])


def assert_metric_below(
    predictions: PredictionsLike, metric: str, limit: float, *, bins: int = DEFAULT_BINS
) -> Verdict:
    """Fail when a metric is at or above the limit.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        metric: a name of ``metrics.METRICS``, but for those of which more is better.
        limit: the first value that fails.
        bins: number of bins of a binned metric.

    Raises:
        AssertionError: at or above the limit.
        MetricError: an unknown metric, or one for which higher is better.
    """
    __tracebackhide__ = True
    candidate = _candidate(predictions)
    entry = metric_named(metric)
    if entry.better == "higher":
        call = f"{metric}(predictions)"
        if entry.threshold is not None:
            call = f"{metric.partition('@')[0]}(predictions, {entry.threshold:.9g})"
        instead = f"assert that metrics.{call} is above it"
        if metric == "accuracy":
            instead = "use assert_accuracy_above"
        raise MetricError(
            f"higher {metric} is better, so an upper limit makes no sense; {instead}."
        )
    return _conclude([judge(measure(candidate, metric, bins=bins), limit)], candidate, predictions)


def assert_accuracy_above(predictions: PredictionsLike, limit: float) -> Verdict:
    """Fail when accuracy is below the limit.

    An ECE limit alone can be met by a model that guesses; this is its companion.

    Raises:
        AssertionError: below the limit.
    """
    __tracebackhide__ = True
    candidate = _candidate(predictions)
    verdict = judge(measure(candidate, "accuracy"), limit, above=True)
    return _conclude([verdict], candidate, predictions)


def assert_not_overconfident(predictions: PredictionsLike, limit: float) -> Verdict:
    """Fail when mean confidence exceeds accuracy by the limit or more.

    Under-confidence of any size passes.

    Raises:
        AssertionError: over-confident by at least the limit.
    """
    __tracebackhide__ = True
    candidate = _candidate(predictions)
    verdict = judge(measure(candidate, "signed_gap"), limit)
    return _conclude([verdict], candidate, predictions)


def _candidate(predictions: PredictionsLike) -> Predictions:
    """Return what is judged; in a test session, told apart from what other tests judge."""
    candidate, sink = as_predictions(predictions), SINK.get()
    candidate.check_whole("an assertion is about")
    return candidate if sink is None else sink.named(candidate)


def _may_stop(predictions: PredictionsInParts, baseline: Baselines | Record | Predictions) -> bool:
    """Whether a comparison may be decided before all items are asked.

    Not where something may be stored, nor where operating points are compared as well: there, few
    answers count, and all items are asked.
    """
    if isinstance(baseline, Baselines) and baseline.policy != Policy():
        return False
    return not _project_points(predictions)


def _at_looks(
    predictions: PredictionsInParts,
    judged: Callable[[Predictions, Look | None], list[Verdict]],
) -> list[Verdict]:
    """Ask for more items until every comparison is decided; each keeps what decided it first.

    What is decided at a look does not depend on how many items were asked by then for other
    reasons, so the order of tests changes no verdict.
    """
    held: list[Verdict] = []
    for part in predictions.in_turn():
        look = Look(
            part.number,
            part.parts,
            asked=len(part.predictions),
            planned=len(part.item_ids),
            item_ids=part.item_ids,
            sizes=part.sizes,
            later=part.later,
        )
        now = judged(part.predictions, look)
        held = [_first_decided(*pair) for pair in zip(held or now, now, strict=True)]
        if all(_is_decided(one) and _is_decided(one.since_anchor) for one in held):
            break
    return held


def _first_decided(before: Verdict, now: Verdict) -> Verdict:
    drift = before.since_anchor if _is_decided(before.since_anchor) else now.since_anchor
    return replace(before if _is_decided(before) else now, since_anchor=drift)


def _is_decided(verdict: Verdict | None) -> bool:
    return verdict is None or verdict.look is None or verdict.look.stopped


def _baseline(
    baseline: Baselines | Record | Predictions,
) -> Baselines | Record | Predictions:
    """Return what is compared with; a store as one of the test session.

    Raises:
        UsageError: it is none of these.
    """
    if not isinstance(baseline, Baselines | Record | Predictions):
        raise UsageError(
            "the baseline must be Baselines, one of its records or Predictions, got "
            f"{type(baseline).__name__}; a folder becomes one with Baselines(folder)."
        )
    if isinstance(baseline, Predictions):
        baseline.check_whole("a baseline holds")
    return _of_session(baseline) if isinstance(baseline, Baselines) else baseline


def _parents(candidate: Predictions) -> list[tuple[str, Predictions]]:
    """Return what the parent is called in a sentence, and its answers; nothing without one."""
    sink = SINK.get()
    known = () if sink is None else sink.parents(candidate)
    return [(labelled("parent", name), parent) for name, parent in known]


def _with_points(
    verdict: Verdict, points: Sequence[OperatingPoint], strictness: Strictness
) -> Verdict:
    """Return a verdict on two sides with the comparisons of these at operating points."""
    candidate, other = verdict.candidate, verdict.baseline_items
    if candidate is None or other is None:
        return verdict
    # Both sides are paired already.
    at_points = compare_at_points(
        candidate,
        other,
        points,
        replace(strictness, min_share=0.0),
        against=verdict.against,
        reference=verdict.reference,
    )
    return replace(verdict, at_points=at_points)


def _of_session(store: Baselines) -> Baselines:
    """Return a store that a test made itself as one of the test session."""
    sink = SINK.get()
    return store if sink is None else sink.store(store)


def _project_strictness(candidate: Predictions) -> Strictness:
    """Return how strict the project is with this probe; the defaults outside a test session."""
    sink = SINK.get()
    return DEFAULT if sink is None else sink.strictness(candidate)


def _project_points(candidate: Predictions) -> tuple[OperatingPoint, ...]:
    """Return the operating points of the project for this probe; none outside a test session."""
    sink = SINK.get()
    return () if sink is None else sink.points(candidate)


def _conclude(
    verdicts: Sequence[Verdict],
    candidate: Predictions | None = None,
    given: PredictionsLike | None = None,
) -> Verdict:
    """Report the verdicts, and raise with the text of all that fail.

    The candidate is dumped where the session dumps; what a history holds was measured before.

    Args:
        verdicts: one or more.
        candidate: all that was judged; None for a part of it, which nothing keeps.
        given: what the test gave, of which all items were asked for these verdicts.
    """
    __tracebackhide__ = True
    if candidate is not None and isinstance(given, PredictionsInParts):
        note = f"all {candidate.n:,} {candidate.unit}s were asked: {ALL_ASKED}"
        verdicts = [replace(v, notes=(*v.notes, note)) for v in verdicts]
    sink = SINK.get()
    if sink is not None and candidate is not None:
        baselines = [v.baseline_items for v in verdicts if v.baseline_items is not None]
        sink.dump(candidate, baselines[-1] if baselines else None)
        sink.measured(candidate, [one for v in verdicts for one in (v, *v.at_points)])
    # A limit is compared with one number; a report also needs the items.
    verdicts = [replace(v, candidate=candidate) if v.candidate is None else v for v in verdicts]
    last = verdicts[-1]
    # The drift of accepted steps stands before the comparison that it is beside.
    verdicts = [
        one for v in verdicts for one in (v.since_anchor, v, *v.at_points) if one is not None
    ]
    results = [_result(v) if sink is None else sink.add(v) for v in verdicts]
    failing = [result for result in results if result.fails]
    if failing:
        width, verbose = (WIDTH, False) if sink is None else (sink.width, sink.verbose)
        error = AssertionError("\n".join(failure_lines(failing, width=width, verbose=verbose)))
        if sink is not None:
            sink.raised(error, failing)
        raise error
    return last


def _result(verdict: Verdict) -> Result:
    """Return the result of a verdict outside a test session."""
    fails = verdict.state.fails
    return result_of(
        verdict, remedy=_remedy(verdict), detailed=fails, metrics=False, item_text=True
    )


def _remedy(verdict: Verdict) -> Remedy | None:
    """Return what records or replaces a baseline outside a test session."""
    if verdict.state is State.NO_BASELINE:
        return Remedy("to record it", "Baselines(folder).record(predictions)")
    if verdict.against == "anchor":
        moving = 'Baselines(folder).record(predictions, reason="...", anchor=True)'
        return Remedy("to count drift from here", moving)
    failing = verdict.state in (State.REGRESSED, State.NOT_COMPARABLE)
    if failing and verdict.against == "baseline":
        replacing = 'Baselines(folder).record(predictions, reason="...")'
        return Remedy("to replace the baseline", replacing)
    return None
