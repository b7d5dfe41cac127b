"""What the history of a run tells of the checkpoints that were measured in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_calibration.history.drift import Drift
    from pytest_calibration.plugin.run import Run
    from pytest_calibration.reports.model import DriftCourse


def courses_of(run: Run) -> tuple[DriftCourse, ...]:
    """Return the courses of the history to which this run has added; none without a history.

    Raises:
        HistoryError: the history, or the items beside it, cannot be read.
    """
    path = run.history
    if path is None or not len(run.measured):
        return ()
    from pytest_calibration.gate.strictness import DEFAULT
    from pytest_calibration.history.drift import judge_all
    from pytest_calibration.history.file import History
    from pytest_calibration.history.series import all_series

    history, keys = History(path), run.measured.keys
    found = [
        one
        for one in all_series(history.read())
        if len(one) > 1 and any(line.key in keys for line in one.lines)
    ]
    options = run.options
    strictness = DEFAULT.with_first(tolerance=[options["tolerance"]], alpha=[options["alpha"]])
    drifts, _ = judge_all(history, found, lambda _: strictness)
    return tuple(_course(drift, keys) for drift in drifts)


def _course(drift: Drift, keys: set[tuple[str, str, str]]) -> DriftCourse:
    from pytest_calibration.history.drift_sentences import sentences
    from pytest_calibration.reports.model import DriftCourse, DriftReading

    series, readings = drift.series, []
    for k, line in enumerate(series.lines):
        ece, accuracy = line.metrics.get("ece"), line.metrics.get("accuracy")
        if ece is None or accuracy is None:
            continue
        comparison = drift.comparisons[k]
        readings.append(
            DriftReading(
                label=series.label(k),
                model=line.model_text,
                at=series.at[k],
                n=line.n,
                ece=ece.value,
                low=ece.low,
                high=ece.high,
                noise_floor=ece.noise_floor,
                accuracy=accuracy.value,
                worse=comparison is not None and comparison.remains,
                best=drift.best is not None and drift.best.place == k,
                now=line.key in keys,
            )
        )
    told = (*sentences(drift), *series.left_out)
    return DriftCourse(
        series.probe, series.run, series.axis, str(drift.state), tuple(readings), told
    )
