"""What the drift of a series looks like: lines of a terminal, a tree for JSON, a chart to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_calibration.gate.components import Component
    from pytest_calibration.gate.trend import TrendVerdict
    from pytest_calibration.history.comparing import Comparison
    from pytest_calibration.history.drift import Drift, Family
    from pytest_calibration.history.lines import Line, Number
    from pytest_calibration.history.series import Series
    from pytest_calibration.reports.drift_plot import Chart

# Lines of a table; of more, those at both ends and those that are named below it.
MOST_ROWS: Final = 40
LABEL: Final = 28
SMALLEST_PLOT: Final = 15
LARGEST_PLOT: Final = 41
# Value, interval, and noise floor.
SIGNS: Final = {True: ("●", "─", "┆"), False: ("o", "-", "|")}


# --- a terminal ----------------------------------------------------------------------------------


def drift_lines(drift: Drift, metric: str, width: int, *, unicode: bool = False) -> Iterator[str]:
    """Yield what one series comes to: a table with a chart, then its findings.

    Args:
        drift: the series, judged.
        metric: name of the metric that is shown.
        width: columns of the terminal.
        unicode: draw with other characters than ASCII.
    """
    from pytest_calibration.history.drift_sentences import sentences
    from pytest_calibration.text.layout import wrapped

    series = drift.series
    yield from wrapped(_headline(series), width, further="  ")
    yield from _table(drift, metric, width, SIGNS[unicode])
    for sentence in (*sentences(drift), *series.left_out):
        yield from wrapped(sentence, width, "  ", "    ")


def _headline(series: Series) -> str:
    from pytest_calibration.text.numbers import counted

    checkpoints = counted(len(series) - series.has_parent, "checkpoint")
    start = f" after {series.start}" if series.has_parent else ""
    return f"{series.name}: {checkpoints}{start}"


def _table(drift: Drift, metric: str, width: int, signs: tuple[str, str, str]) -> Iterator[str]:
    """Yield a header, and a row for each line with its interval drawn."""
    from pytest_calibration.metrics import metric_named
    from pytest_calibration.text.layout import columns, padded

    series = drift.series
    numbers = series.numbers(metric)
    places = _shown(drift)
    head = {"order": "model", "stage": "stage"}.get(series.axis, series.axis)
    labels = {k: _fitted_end(series.label(k)) for k in places}
    first = max(len(head), *map(columns, labels.values()))
    against = "against parent" if series.has_parent else "against first"
    rows = {k: _cells(numbers[k], series.lines[k], drift.comparisons[k]) for k in places}
    entry = metric_named(metric)
    heads: tuple[str, ...] = (entry.label[:18], "95 % interval", "floor", "accuracy", against)
    # Not the accuracy twice, nor a column in which nothing stands.
    filled = [any(column) for column in zip(*rows.values(), strict=True)]
    filled[3] &= metric != "accuracy"
    heads, sides = tuple(compress(heads, filled)), tuple(compress(">>>><", filled))
    rows = {k: tuple(compress(cells, filled)) for k, cells in rows.items()}
    widths = [max(map(len, column)) for column in zip(heads, *rows.values(), strict=True)]
    used = 2 + first + sum(w + 2 for w in widths) + 2
    drawn = [n for k in places if (n := numbers[k]) is not None]
    plot = _Plot.of(drawn, min(LARGEST_PLOT, width - used), signs)
    yield f"  {head:>{first}}{_joined(heads, widths, sides)}{plot.axis}".rstrip()
    before = -1
    for k in places:
        if k > before + 1:
            yield f"  {'...':>{first}}  {k - before - 1:,} more"
        before = k
        row = f"  {padded(labels[k], first, '>')}{_joined(rows[k], widths, sides)}"
        yield f"{row}{plot.row(numbers[k])}".rstrip()
    if plot.axis:
        floor = f"; {signs[2]} noise floor" if entry.error else ""
        yield f"  {signs[0]} {entry.label}; {signs[1]} 95 % interval{floor}"


def _fitted_end(label: str) -> str:
    """Cut a long name at its start: names of models differ at their end."""
    from pytest_calibration.text.layout import ELLIPSIS

    return label if len(label) <= LABEL else f"{ELLIPSIS}{label[len(ELLIPSIS) - LABEL :]}"


def _joined(cells: Sequence[str], widths: Sequence[int], sides: Sequence[str]) -> str:
    columns = zip(cells, widths, sides, strict=True)
    return "".join(f"  {cell:{side}{width}}" for cell, width, side in columns)


def _cells(number: Number | None, line: Line, comparison: Comparison | None) -> tuple[str, ...]:
    accuracy = line.metrics.get("accuracy")
    right = "" if accuracy is None else f"{accuracy.value:.3f}"
    state = "" if comparison is None else _state(comparison)
    if number is None:
        return ("none", "", "", right, state)
    interval = ""
    if number.low is not None and number.high is not None:
        interval = f"[{number.low:z.3f}, {number.high:z.3f}]"
    floor = "" if number.noise_floor is None else f"{number.noise_floor:.3f}"
    return (f"{number.value:z.3f}", interval, floor, right, state)


def _state(comparison: Comparison) -> str:
    state = str(comparison.state).replace("_", " ")
    return f"{state} alone" if comparison.alone else state


def _shown(drift: Drift) -> list[int]:
    """Return the places of the lines that have a row."""
    many = len(drift.series)
    if many <= MOST_ROWS:
        return list(range(many))
    best = [] if drift.best is None else [drift.best.place]
    worse = [] if drift.first_worse is None else [drift.first_worse]
    ends = [*range(5), *range(many - MOST_ROWS + 5, many)]
    return sorted({*ends, *best, *worse})


class _Plot:
    """The part of a row in which its interval is drawn.

    Args:
        low: value at the left end.
        high: value at the right end.
        width: columns; none are drawn in fewer than a few.
        signs: value, interval and noise floor.
    """

    def __init__(self, low: float, high: float, width: int, signs: tuple[str, str, str]) -> None:
        self._low, self._high, self._signs = low, high, signs
        self._width = width if width >= SMALLEST_PLOT and high > low else 0

    @classmethod
    def of(cls, numbers: Sequence[Number], width: int, signs: tuple[str, str, str]) -> _Plot:
        ends = [
            x for n in numbers for x in (n.value, n.low, n.high, n.noise_floor) if x is not None
        ]
        return cls(min([0.0, *ends]), max([0.0, *ends]), width, signs)

    @property
    def axis(self) -> str:
        if not self._width:
            return ""
        low, high = f"{self._low:z.2g}", f"{self._high:z.2g}"
        return f"  {low}{high:>{self._width - len(low)}}"

    def row(self, number: Number | None) -> str:
        if not self._width or number is None:
            return ""
        cells = [" "] * self._width
        value, interval, floor = self._signs
        if number.low is not None and number.high is not None:
            first, last = self._at(number.low), self._at(number.high)
            cells[first : last + 1] = interval * (last + 1 - first)
        if number.noise_floor is not None:
            cells[self._at(number.noise_floor)] = floor
        cells[self._at(number.value)] = value
        return f"  {''.join(cells)}"

    def _at(self, x: float) -> int:
        share = (x - self._low) / (self._high - self._low)
        return min(max(round(share * (self._width - 1)), 0), self._width - 1)


def family_lines(families: Sequence[Family], drifts: Sequence[Drift], width: int) -> Iterator[str]:
    """Yield what the number of comparisons means, a sentence for each run with several."""
    from pytest_calibration.text.layout import wrapped
    from pytest_calibration.text.numbers import counted
    from pytest_calibration.text.visible import visible

    for family in families:
        if family.comparisons < 2:
            continue
        along = f" along {visible(family.run)}" if family.run else ""
        starts = {one.series.start for one in drifts if one.series.run == family.run}
        start = starts.pop() if len(starts) == 1 else "the first of each"
        yield from wrapped(
            f"{counted(family.comparisons, 'comparison')}{along} share {start} on "
            f"{counted(family.probes, 'probe')}: an unlucky draw of that would fail many at once. "
            f"Taken alone, {family.failing:,} of them regressed; after Holm's correction for all, "
            f"{family.remaining:,}.",
            width,
            further="  ",
        )


# --- JSON ----------------------------------------------------------------------------------------


def tree(
    drifts: Sequence[Drift], families: Sequence[Family], metric: str, remarks: Sequence[str]
) -> dict[str, Any]:
    """Return everything as builtin values; what is not finite is null."""
    from pytest_calibration.reports.model import plain

    return {
        "metric": metric,
        "series": [plain(_series_tree(one, metric)) for one in drifts],
        "families": [plain(one) for one in families],
        "remarks": list(remarks),
    }


def _series_tree(drift: Drift, metric: str) -> dict[str, Any]:
    series, numbers = drift.series, drift.series.numbers(metric)
    points = [
        _point(line, at, number, comparison)
        for line, at, number, comparison in zip(
            series.lines, series.at, numbers, drift.comparisons, strict=True
        )
    ]
    return {
        "probe": series.probe,
        "run": series.run,
        "axis": series.axis,
        "has_parent": series.has_parent,
        "state": str(drift.state),
        "points": points,
        "first_worse": drift.first_worse,
        "best": drift.best,
        "trend": None if drift.trend is None else _trend_tree(drift.trend),
        "trend_untold": drift.untold,
        "left_out": series.left_out,
    }


def _point(
    line: Line, at: float, number: Number | None, comparison: Comparison | None
) -> dict[str, Any]:
    names = ("time", "commit", "stage", "step", "epoch", "tokens", "n", "units", "verdict")
    compared = None
    if comparison is not None:
        compared = {
            "state": str(comparison.state),
            "paired": comparison.paired,
            "p_value": comparison.p_value,
            "worse_beyond_doubt": comparison.remains,
            "reason": comparison.reason,
            "components": [_component(c) for c in comparison.components],
        }
    return {
        "at": at,
        "model": line.model_text,
        **{name: getattr(line, name) for name in names},
        "number": number,
        "accuracy": line.metrics.get("accuracy"),
        "at_points": {name: one for name, one in line.metrics.items() if "@" in name},
        "compared": compared,
    }


def _component(c: Component) -> dict[str, Any]:
    names = ("name", "before", "after", "worsening", "bound", "tolerance", "level", "fired")
    return {name: getattr(c, name) for name in (*names, "unavailable")}


def _trend_tree(verdict: TrendVerdict) -> dict[str, Any]:
    return {
        "state": str(verdict.state),
        "reason": verdict.reason,
        "smallest_visible": verdict.smallest_visible,
        "false_alarm_rate": verdict.false_alarm_rate,
        "steps": verdict.steps,
        "n": verdict.n,
        "components": [{**_component(c), "values": c.values} for c in verdict.courses],
        "cautions": verdict.cautions,
    }


# --- a picture -----------------------------------------------------------------------------------


def chart_of(drifts: Sequence[Drift], metric: str) -> Chart:
    """Return what is drawn: a panel for each probe, a course in it for each run."""
    from pytest_calibration.metrics import metric_named
    from pytest_calibration.reports.drift_plot import Chart, Course, Mark

    courses = []
    for drift in drifts:
        series = drift.series
        marks = []
        for k, number in enumerate(series.numbers(metric)):
            if number is None:
                continue
            comparison = drift.comparisons[k]
            worse = comparison is not None and comparison.remains
            best = drift.best is not None and drift.best.place == k
            at, label = series.at[k], series.label(k)
            floor = number.noise_floor
            marks.append(Mark(at, label, number.value, number.low, number.high, floor, worse, best))
        courses.append(Course(series.probe, series.run, series.axis, tuple(marks)))
    return Chart(metric_named(metric).label, tuple(courses))
