"""Drift along a series of a history, judged by the trend of its items."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pytest_calibration.errors import HistoryError
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.trend import TrendVerdict, trend
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import shown
from pytest_calibration.history.series import Series, all_series
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import quoted

# What a place on the axis is called in a sentence.
AXES: Final = {"step": "step", "epoch": "epoch", "order": "place"}
MOST_NAMED: Final = 3


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
    """Judge whether calibration drifted along a series, on the items kept beside the history.

    Args:
        history: where the items are.
        series: K checkpoints; those without items are left out, and said.
        strictness: tolerance and error levels, as of a comparison.

    Raises:
        HistoryError: no line of the series has its items, or a file of items is damaged.
    """
    kept, missing = [], []
    for at, line in zip(series.at, series.lines, strict=True):
        items = history.predictions(line)
        if items is None:
            missing.append(shown(line))
        else:
            kept.append((at, items))
    if not kept:
        raise HistoryError(
            f"{history.path}: none of the {counted(len(series), 'line')} of {series.name} has its "
            f"items in {history.items_folder.name}; a trend is judged item by item: measure again "
            "with --calibration-history, which keeps them, or restore that folder."
        )
    steps, predictions = zip(*kept, strict=True)
    verdict = trend(steps, predictions, strictness, axis=AXES[series.axis])
    if not missing:
        return verdict
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    caution = (
        f"{counted(len(missing), 'checkpoint')} left out, whose items are not kept: "
        f"{', '.join(missing[:MOST_NAMED])}{more}."
    )
    return replace(verdict, cautions=(*verdict.cautions, caution))
