"""Drift along the series of a history: what each checkpoint is against the first, and the trend.

The comparisons of a run share their first line: if that was an unlucky draw, all of them fail. They
are one family, all probes of the run together, whose error Holm's correction holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_calibration.errors import HistoryError
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.family import holm
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.trend import TrendVerdict, trend, trend_of_numbers
from pytest_calibration.history.best import Best, best_checkpoint
from pytest_calibration.history.comparing import Comparison, compare_items, compare_numbers
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line, shown
from pytest_calibration.history.series import Series, all_series
from pytest_calibration.measurement import Measurement
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.predictions import Predictions
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import quoted

# What a place on the axis is called in a sentence.
AXES: Final = {
    **{"step": "step", "epoch": "epoch", "tokens": "token"},
    **{"stage": "place", "order": "place"},
}
MOST_NAMED: Final = 3
NEEDED: Final = ("ece", "signed_gap", "accuracy")
# Files of items that are read unless all are asked for: a long history answers at once.
MOST_READ: Final = 240
SIDE_BY_SIDE: Final = "models that were trained side by side have no order"


@dataclass(frozen=True)
class Drift:
    """What a series comes to.

    Attributes:
        series: K lines.
        comparisons: (K,) each with the first line; None for that itself.
        trend: along the line through the checkpoints; None where it is not judged.
        best: the best checkpoint; None where there is no choice.
        unread: the items of these lines were not read, since there are many.
        untold: why there is no trend; else empty.
    """

    series: Series
    comparisons: tuple[Comparison | None, ...]
    trend: TrendVerdict | None = None
    best: Best | None = None
    unread: bool = False
    untold: str = ""

    @property
    def first_worse(self) -> int | None:
        """Place of the first line that is worse than the first beyond doubt; None without one."""
        worse = (k for k, c in enumerate(self.comparisons) if c is not None and c.remains)
        return next(worse, None)

    @property
    def state(self) -> State:
        """What it comes to as a test: regressed where the trend is, or the last line is worse.

        Siblings have no trend and no last one: regressed where any of them is worse.
        """
        states = [] if self.trend is None else [self.trend.state]
        for one in self.comparisons if self.series.siblings else self.comparisons[-1:]:
            if one is None or one.alone:
                continue
            if self.series.siblings or one.state in (State.REGRESSED, State.NOT_COMPARABLE):
                states.append(one.state)
        order = (State.REGRESSED, State.NOT_COMPARABLE, State.INCONCLUSIVE, State.PASSED)
        return min(states, key=order.index, default=State.INCONCLUSIVE)


@dataclass(frozen=True)
class Family:
    """The comparisons of one run, all its probes together.

    Attributes:
        run: the run; empty for models that belong to none.
        probes: number of probes.
        comparisons: number of comparisons.
        failing: how many regressed by themselves.
        remaining: how many of these remain after Holm's correction.
    """

    run: str
    probes: int
    comparisons: int
    failing: int
    remaining: int


def judge_all(
    history: History,
    all_of: Sequence[Series],
    strictness: Callable[[str], Strictness] = lambda _: DEFAULT,
    *,
    metric: str = "ece",
    most_read: int | None = MOST_READ,
) -> tuple[list[Drift], list[Family]]:
    """Judge series of a history; the comparisons of a run together.

    Args:
        history: where the items are.
        all_of: the series.
        strictness: tolerance and error levels by probe.
        metric: the metric that a user looks at, which chooses the best checkpoint.
        most_read: files of items to read; a series of which not all can be is judged on its
            numbers, and the last of the file come first. None for all.

    Raises:
        HistoryError: a file of items is damaged.
    """
    read = _to_read(all_of, most_read)
    drifts = [
        _judge(history, one, strictness(one.probe), metric, k in read)
        for k, one in enumerate(all_of)
    ]
    families = []
    for run in dict.fromkeys(one.run for one in all_of):
        members = [k for k, one in enumerate(all_of) if one.run == run]
        corrected = _corrected([drifts[k] for k in members], strictness)
        for k, drift in zip(members, corrected, strict=True):
            drifts[k] = drift
        families.append(_family(run, corrected))
    return drifts, families


def _to_read(all_of: Sequence[Series], most: int | None) -> set[int]:
    """Return the places of the series whose items are read: the last ones that fit."""
    chosen, left = set(), most
    for k in reversed(range(len(all_of))):
        files = sum(bool(line.items) for line in all_of[k].lines)
        if left is None or files <= left:
            chosen.add(k)
            left = None if left is None else left - files
    return chosen


def _judge(
    history: History, series: Series, strictness: Strictness, metric: str, read: bool
) -> Drift:
    items = series.predictions(history) if read else [None] * len(series)
    first_line, first = series.lines[0], items[0]
    comparisons: list[Comparison | None] = [None]
    for line, one in zip(series.lines[1:], items[1:], strict=True):
        if first is not None and one is not None:
            comparisons.append(compare_items(one, first, series.start, strictness))
        else:
            comparisons.append(compare_numbers(line, first_line, strictness))
    best = best_checkpoint(series, items, metric, strictness.alpha)
    unread = not read and any(line.items for line in series.lines)
    drift = Drift(series, tuple(comparisons), best=best, unread=unread)
    if series.siblings:
        return replace(drift, untold=SIDE_BY_SIDE)
    if len(series) > 1 and min(series.at) == max(series.at):
        return replace(drift, untold="all checkpoints stand at one place")
    lacking = [n for line in series.lines for n in NEEDED if n not in line.metrics]
    if lacking and sum(one is not None for one in items) < min(2, len(series)):
        return replace(drift, untold=f"a line has no {lacking[0]}, and items are not kept")
    return replace(drift, trend=judge_items(history, series, items, strictness, unread=unread))


def _corrected(drifts: list[Drift], strictness: Callable[[str], Strictness]) -> list[Drift]:
    """Return the drifts of a run with what remains of their comparisons as a family."""
    places = [
        (k, i)
        for k, drift in enumerate(drifts)
        for i, one in enumerate(drift.comparisons)
        if one is not None and one.p_value == one.p_value
    ]
    found = [drifts[k].comparisons[i] for k, i in places]
    p_values = [one.p_value for one in found if one is not None]
    kept = holm(p_values, [strictness(drifts[k].series.probe).alpha for k, _ in places])
    out = [list(drift.comparisons) for drift in drifts]
    for (k, i), one, remains in zip(places, found, kept, strict=True):
        if one is not None and one.state is State.REGRESSED:
            out[k][i] = replace(one, remains=remains)
    return [replace(d, comparisons=tuple(c)) for d, c in zip(drifts, out, strict=True)]


def _family(run: str, drifts: Sequence[Drift]) -> Family:
    compared = [one for drift in drifts for one in drift.comparisons if one is not None]
    return Family(
        run,
        len(drifts),
        len(compared),
        sum(one.state is State.REGRESSED for one in compared),
        sum(one.remains for one in compared),
    )


# --- the trend of one series ---------------------------------------------------------------------


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
        HistoryError: a file of items is damaged, a line lacks a number that is needed, or the
            series is one of siblings.
    """
    if series.siblings:
        raise HistoryError(
            f"{history.path}: {series.name} has no trend: {SIDE_BY_SIDE}; compare each with its "
            "parent, by pytest-calibration drift --fail-on-drift."
        )
    return judge_items(history, series, series.predictions(history), strictness)


def judge_items(
    history: History,
    series: Series,
    items: Sequence[Predictions | None],
    strictness: Strictness = DEFAULT,
    *,
    unread: bool = False,
) -> TrendVerdict:
    """Judge the same on items that were read.

    Args:
        history: whose lines they are of.
        series: K checkpoints.
        items: (K,) of each; None where there are none.
        strictness: tolerance and error levels, as of a comparison.
        unread: there are items, and they were not read.

    Raises:
        HistoryError: a line lacks a number that is needed.
    """
    pairs = list(zip(series.at, series.lines, items, strict=True))
    kept = [(at, one) for at, _, one in pairs if one is not None]
    missing = [line for _, line, one in pairs if one is None]
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    without = f"{', '.join(map(shown, missing[:MOST_NAMED]))}{more}"
    if len(kept) < min(2, len(series)):
        numbers = [_numbers(history, line) for line in series.lines]
        verdict = trend_of_numbers(series.at, numbers, strictness, axis=AXES[series.axis])
        why = "not read" if unread else f"not kept in {history.items_folder.name}"
        caution = (
            "judged by the signed gap and accuracy of each checkpoint, as if all were independent: "
            f"the items of {without} are {why}."
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
    model = shown(line)
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
            model=model,
            accuracy=accuracy.value,
            mean_confidence=accuracy.value + gap.value,
        )
        for name, number in ((name, line.metrics[name]) for name in NEEDED)
    }


def _known(number: float | None) -> float:
    return math.nan if number is None else number
