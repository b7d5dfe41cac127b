"""Drift along a series of a history, judged by the trend of its items, or of its numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from pytest_calibration.errors import HistoryError
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.trend import TrendVerdict, trend, trend_of_numbers
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line, shown
from pytest_calibration.history.series import Series, all_series
from pytest_calibration.measurement import Measurement
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import quoted

# What a place on the axis is called in a sentence.
AXES: Final = {"step": "step", "epoch": "epoch", "order": "place"}
MOST_NAMED: Final = 3
NEEDED: Final = ("ece", "signed_gap", "accuracy")


def series_of(history: History, probe: str, run: str | None = None) -> tuple[Series, list[str]]:
    """Return the series of a probe along one training run, and what to know of the file.

    Raises:
        HistoryError: the file cannot be read; it has no such probe or run, or several runs and none
            is named.
    """
    lines = history.read()
    found = all_series(lines, probe=probe, run=run)
    if len(found) != 1:
        runs = [one.run for one in found]
        problem = (
            f"has {len(runs)} runs of probe {quoted(probe)} ({', '.join(map(quoted, runs))}); name "
            "one of them with run=."
            if found
            else f"has no checkpoint of probe {quoted(probe)} beside a parent; measure one first."
        )
        raise HistoryError(f"{history.path}: {problem}")
    return found[0], [*lines.remarks, *found[0].left_out]


def judge_drift(history: History, series: Series, strictness: Strictness = DEFAULT) -> TrendVerdict:
    """Judge whether calibration drifted along a series.

    On the items kept beside the history, where at least two checkpoints have theirs; the others
    are left out then. Else by the numbers of the lines. Either is said.

    Args:
        history: where the items are.
        series: K checkpoints.
        strictness: tolerance and error levels, as of a comparison.

    Raises:
        HistoryError: a file of items is damaged, or a line lacks a number that is needed.
    """
    kept, missing = [], []
    for at, line in zip(series.at, series.lines, strict=True):
        items = history.predictions(line)
        if items is None:
            missing.append(shown(line))
        else:
            kept.append((at, items))
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    without = f"{', '.join(missing[:MOST_NAMED])}{more}"
    if len(kept) < min(2, len(series)):
        numbers = [_numbers(history, line) for line in series.lines]
        verdict = trend_of_numbers(series.at, numbers, strictness, axis=AXES[series.axis])
        caution = (
            "judged by the signed gap and accuracy of each checkpoint, as if all were independent: "
            f"the items of {without} are not kept in {history.items_folder.name}."
        )
        return replace(verdict, cautions=(caution, *verdict.cautions))
    steps, predictions = zip(*kept, strict=True)
    verdict = trend(steps, predictions, strictness, axis=AXES[series.axis])
    if not missing:
        return verdict
    left_out = counted(len(missing), "checkpoint")
    caution = f"{left_out} left out, whose items are not kept: {without}."
    return replace(verdict, cautions=(*verdict.cautions, caution))


def _numbers(history: History, line: Line) -> dict[str, Measurement]:
    """Return what a trend needs of a line whose items are not kept."""
    lacking = [name for name in NEEDED if name not in line.metrics]
    gap, accuracy = (line.metrics.get(name) for name in ("signed_gap", "accuracy"))
    if lacking or gap is None or accuracy is None:
        raise HistoryError(
            f"{history.path}: the line of {shown(line)} has no {', '.join(lacking)}, and its items "
            "are not kept; measure it again with --calibration-history."
        )
    return {
        name: Measurement(
            metric=name,
            value=number.value,
            low=_known(number.low),
            high=_known(number.high),
            n=line.n,
            n_clusters=line.units,
            noise_floor=_known(number.noise_floor),
            noise_floor_high=math.nan,
            bins=DEFAULT_BINS,
            strategy="equal_width",
            probe=line.probe,
            unit=line.unit,
            model=shown(line),
            accuracy=accuracy.value,
            mean_confidence=accuracy.value + gap.value,
        )
        for name, number in ((name, line.metrics[name]) for name in NEEDED)
    }


def _known(number: float | None) -> float:
    return math.nan if number is None else number
