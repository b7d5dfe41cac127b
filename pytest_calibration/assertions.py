"""The assertions a user writes: the only place that raises ``AssertionError``.

They build their own message, since pytest rewrites assertions in test modules only. They work
outside pytest too: a test session puts a *sink* in place to count verdicts, collect
records and add the command that records or accepts; without one they are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_calibration.baselines import Baselines, Record
from pytest_calibration.baselines.check import Settings, against, against_record, check, check_limit
from pytest_calibration.errors import MetricError, UsageError
from pytest_calibration.gate.decision import TOLERANCE, State
from pytest_calibration.gate.verdict import Verdict, judge
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS, metric_named
from pytest_calibration.predictions import Predictions, PredictionsLike, as_predictions
from pytest_calibration.reports.model import Remedy, Result, result_of
from pytest_calibration.reports.terminal import failure_lines
from pytest_calibration.sink import SINK
from pytest_calibration.text.layout import WIDTH


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
        tolerance: allowed growth over a baseline's ECE (default 0.02 or the record's own).
        debiased: judge by the cross-fitted (debiased) ECE and the lower end of its interval, so
            that noise on few items does not fail the test.

    Returns:
        The verdict, when it passes.

    Raises:
        AssertionError: at or above the limit, no baseline is stored, or it is not comparable.
        CalibrationError: predictions or baseline cannot be used.
    """
    __tracebackhide__ = True
    given = as_predictions(predictions)
    if isinstance(limit, Baselines | Record):
        verdict = check_limit(
            given, limit, _settings(given, tolerance), bins=bins, debiased=debiased
        )
    else:
        metric = "cross_fitted_ece" if debiased else "ece"
        verdict = judge(measure(given, metric, bins=bins), limit, debiased=debiased)
    return _conclude([verdict], given)


def assert_no_regression(
    predictions: PredictionsLike,
    baseline: Baselines | Record | Predictions,
    *,
    tolerance: float | None = None,
    alpha: float | None = None,
    accuracy_tolerance: float | None = TOLERANCE,
) -> Verdict:
    """Fail when calibration, or accuracy, is worse than the baseline beyond the tolerance.

    See :func:`pytest_calibration.gate.verdict.compare` for the rule.

    Args:
        predictions: the candidate.
        baseline: a store (it is looked up by probe), a record, or predictions of another model.
        tolerance: allowed worsening in ECE units. By default the record's ``tolerance:``, then the
            project's, then 0.02.
        alpha: one-sided error level of each bound; by default the project's, then 0.05.
        accuracy_tolerance: allowed loss of accuracy; None switches that guard off.

    Returns:
        The verdict, when it does not fail: passed, inconclusive or recorded.

    Raises:
        AssertionError: regressed, not comparable, or no baseline stored.
        CalibrationError: predictions or baseline cannot be used.
    """
    __tracebackhide__ = True
    given = as_predictions(predictions)
    _check_baseline(baseline)
    settings = _settings(given, tolerance, alpha, accuracy_tolerance)
    sink = SINK.get()
    verdicts = [
        against(given, parent, settings, kind="parent", reference=f"parent {name}")
        for name, parent in (sink.parents(given) if sink is not None else ())
    ]
    if isinstance(baseline, Predictions):
        verdicts.append(against(given, baseline, settings))
    elif isinstance(baseline, Record):
        verdicts.append(against_record(given, baseline, settings))
    # With a parent given, a record is judged only where one exists: the parent is the comparison.
    elif not verdicts or baseline.find(given.probe) is not None:
        verdicts.append(check(given, baseline, settings))
    return _conclude(verdicts, given)


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
    given = as_predictions(predictions)
    if metric_named(metric).better == "higher":
        instead = (
            "use assert_accuracy_above"
            if metric == "accuracy"
            else f"assert that metrics.{metric}(predictions) is above it"
        )
        raise MetricError(
            f"higher {metric} is better, so an upper limit makes no sense; {instead}."
        )
    return _conclude([judge(measure(given, metric, bins=bins), limit)], given)


def assert_accuracy_above(predictions: PredictionsLike, limit: float) -> Verdict:
    """Fail when accuracy is below the limit.

    An ECE limit alone can be met by a model that guesses; this is its companion.

    Raises:
        AssertionError: below the limit.
    """
    __tracebackhide__ = True
    given = as_predictions(predictions)
    return _conclude([judge(measure(given, "accuracy"), limit, above=True)], given)


def assert_not_overconfident(predictions: PredictionsLike, limit: float) -> Verdict:
    """Fail when mean confidence exceeds accuracy by the limit or more.

    Under-confidence of any size passes.

    Raises:
        AssertionError: over-confident by at least the limit.
    """
    __tracebackhide__ = True
    given = as_predictions(predictions)
    return _conclude([judge(measure(given, "signed_gap"), limit)], given)


def _check_baseline(baseline: object) -> None:
    if not isinstance(baseline, Baselines | Record | Predictions):
        raise UsageError(
            "the baseline must be Baselines, one of its records or Predictions, got "
            f"{type(baseline).__name__}; a folder becomes one with Baselines(folder)."
        )


def _settings(
    given: Predictions,
    tolerance: float | None = None,
    alpha: float | None = None,
    accuracy_tolerance: float | None = TOLERANCE,
) -> Settings:
    """Combine what the call says with what the project's configuration says."""
    sink = SINK.get()
    project = sink.settings(given) if sink is not None else Settings()
    return replace(
        project,
        tolerance=tolerance,
        alpha=project.alpha if alpha is None else alpha,
        accuracy_tolerance=accuracy_tolerance,
    )


def _conclude(verdicts: Sequence[Verdict], predictions: Predictions) -> Verdict:
    """Count the verdicts, and raise with the whole story where any of them fails."""
    __tracebackhide__ = True
    sink = SINK.get()
    if sink is not None:
        sink.scored(predictions)
    # A limit is held against one number; its story needs the items behind it.
    told = [replace(v, candidate=predictions) if v.candidate is None else v for v in verdicts]
    results = [sink.seen(v) if sink is not None else _alone(v) for v in told]
    failing = [result for result in results if result.fails]
    if failing:
        width, verbose = (WIDTH, False) if sink is None else (sink.width, sink.verbose)
        raise AssertionError("\n".join(failure_lines(failing, width=width, verbose=verbose)))
    return told[-1]


def _alone(verdict: Verdict) -> Result:
    """Return the result of a verdict outside a test session."""
    fails = verdict.state.fails
    return result_of(verdict, remedy=remedy(verdict), detailed=fails, item_text=True)


def remedy(verdict: Verdict) -> Remedy | None:
    """Return what records or replaces a baseline outside a test session."""
    if verdict.state is State.NO_BASELINE:
        return Remedy("to record it", "Baselines(folder).record(predictions)")
    if verdict.against == "baseline" and verdict.state in (
        State.NOT_COMPARABLE,
        State.REGRESSED,
    ):
        return Remedy(
            "to replace the baseline", 'Baselines(folder).record(predictions, reason="...")'
        )
    return None
