"""A metric along the checkpoints of training runs, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.reports.plots import saved
from pytest_calibration.reports.reliability_display import FAINT, NAME, WRONG
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette; shapes differ as well.
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
SHAPES: Final = "osD^vP"
WIDTH: Final = 7.2
PANEL: Final = 2.9
# Names below an axis that stand aslant; more stand upright and small, and of still more some do.
MOST_ASLANT: Final = 16
MOST_LABELS: Final = 48


@dataclass(frozen=True)
class Mark:
    """One measurement.

    Attributes:
        at: where it stands.
        label: what stands below it where the axis has names.
        value: the metric.
        low: lower end of its interval; None where there is none.
        high: upper end.
        floor: noise floor; None where there is none.
        worse: whether it is worse than the first beyond doubt.
        best: whether it is the best checkpoint.
    """

    at: float
    label: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    worse: bool = False
    best: bool = False


@dataclass(frozen=True)
class Course:
    """The measurements of one probe along one run, in order.

    Attributes:
        probe: name of the probe.
        run: the run; empty where the models belong to none.
        axis: what ``at`` is.
        marks: the measurements.
    """

    probe: str
    run: str
    axis: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """What is drawn: a panel for each probe.

    Attributes:
        label: printed name of the metric.
        courses: the courses of all panels.
        worse: what a mark is that is called worse.
    """

    label: str
    courses: tuple[Course, ...]
    worse: str = "worse than the first, surely"


def drift_picture(chart: Chart, suffix: str) -> bytes:
    """Return the content of a picture file; equal charts give equal bytes.

    Args:
        chart: what to draw.
        suffix: ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    probes = list(dict.fromkeys(course.probe for course in chart.courses))
    size = WIDTH, PANEL * len(probes) + 0.5
    return saved(lambda figure: _draw(figure, chart, probes), size, suffix, f"{chart.label} drift")


def _draw(figure: Figure, chart: Chart, probes: Sequence[str]) -> None:
    from matplotlib.text import Text

    runs = list(dict.fromkeys(course.run for course in chart.courses))
    panels = figure.subplots(len(probes), 1, squeeze=False)[:, 0]
    for axes, probe in zip(panels, probes, strict=True):
        courses = [course for course in chart.courses if course.probe == probe]
        for course in courses:
            _draw_course(axes, course, runs.index(course.run), chart.worse)
        axes.set_title(visible(probe, NAME), loc="left", fontsize=10, fontweight="bold")
        axes.set_ylabel(chart.label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if all(mark.value >= 0 for course in courses for mark in course.marks):
            axes.set_ylim(bottom=0)
        axes.set_xlabel("" if courses[0].axis in ("order", "stage") else courses[0].axis)
        _name_places(axes, courses)
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5
    )
    for text in figure.findobj(Text):
        # A dollar sign in a name starts no formula.
        text.set_parse_math(False)


def _draw_course(axes: Any, course: Course, number: int, worse: str) -> None:
    """Draw values with intervals, their noise floor, and what is worse or best."""
    colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
    at, values = [m.at for m in course.marks], [m.value for m in course.marks]
    name = visible(course.run, NAME) or course.axis
    axes.plot(at, values, color=colour, marker=shape, markersize=4.5, linewidth=1.3, label=name)
    for m in course.marks:
        if m.low is not None and m.high is not None:
            axes.vlines(m.at, m.low, m.high, color=colour, linewidth=1, alpha=0.6)
    floors = [(m.at, m.floor) for m in course.marks if m.floor is not None]
    if floors:
        label = "noise floor" if number == 0 else None
        axes.plot(*zip(*floors, strict=True), color=FAINT, linewidth=1, linestyle=":", label=label)
    for chosen, style, label in (
        ([m for m in course.marks if m.worse], {"color": WRONG}, worse),
        ([m for m in course.marks if m.best], {"color": "#000000"}, "best checkpoint"),
    ):
        if chosen:
            size = 9 if label == worse else 13
            places = [m.at for m in chosen], [m.value for m in chosen]
            ring = {"marker": "o", "fillstyle": "none", "linestyle": "none", "markersize": size}
            axes.plot(*places, **ring, **style, label=label)


def _name_places(axes: Any, courses: Sequence[Course]) -> None:
    """Put names below the axis where it has no numbers."""
    if courses[0].axis not in ("order", "stage"):
        return
    names = {mark.at: mark.label for course in courses for mark in course.marks}
    places = sorted(names)[:: max(1, -(-len(names) // MOST_LABELS))]
    aslant = len(places) <= MOST_ASLANT
    style = {"rotation": 20, "ha": "right"} if aslant else {"rotation": 90, "fontsize": 6}
    axes.set_xticks(places, [visible(names[at], NAME // 2) for at in places], **style)
