"""How ECE of a probe moved: what was stored before, then what this session measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.html.diagrams import NAMELESS, drift_chart, legend
from pytest_calibration.reports.html.markup import Markup, joined, name, tag, text
from pytest_calibration.reports.html.numbers import count, interval, number
from pytest_calibration.reports.html.tables import Cell, Column, Row, table

if TYPE_CHECKING:
    from pytest_calibration.gate.verdict import Past
    from pytest_calibration.reports.model import Result

# What fails for another reason, such as a missing baseline, says nothing of the number.
JUDGED: Final = frozenset({"regressed", "above_limit", "inconclusive"})


@dataclass(frozen=True)
class Point:
    """One measurement of a probe.

    Attributes:
        place: its number in the chart, from 1.
        model: name of the model; empty where it is not known.
        kind: ``replaced``, ``baseline`` or ``this run``.
        n: number of items.
        ece: its ECE.
        accuracy: share of right answers.
        low: lower end of the 95 % interval of the ECE, where it is known.
        high: upper end.
        floor: what a calibrated model would show on average, where it is known.
        reason: why it was replaced.
        verdict: number of the first verdict on it in this session; None for what was stored.
        fails: whether a verdict fails for what it measured.
    """

    place: int
    model: str
    kind: str
    n: int
    ece: float
    accuracy: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    reason: str = ""
    verdict: int | None = None
    fails: bool = False

    @property
    def measured(self) -> bool:
        """Whether this session measured it."""
        return self.verdict is not None


@dataclass(frozen=True)
class Drift:
    """The measurements of one probe, in order.

    Attributes:
        probe: its name.
        points: two or more.
    """

    probe: str
    points: tuple[Point, ...]


def drifts(results: Iterable[Result]) -> list[Drift]:
    """Return a course for each probe of which there are two measurements or more.

    Measurements stand in one course where they are of one probe with the same settings that must
    agree, and do not belong to different stored histories.
    """
    courses: dict[tuple[object, ...], list[tuple[int, Result]]] = {}
    for number_, result in enumerate(results):
        if result.detail is None or "ece" not in result.detail.candidate.metrics:
            continue
        hard = tuple(sorted(result.detail.candidate.hard.items()))
        courses.setdefault((result.probe, hard), []).append((number_, result))
    found = []
    for members in courses.values():
        pasts = dict.fromkeys(r.detail.past for _, r in members if r.detail and r.detail.past)
        if len(pasts) <= 1:
            found.append(_course(members, next(iter(pasts), ())))
            continue
        for past in (*pasts, ()):
            own = [(i, r) for i, r in members if r.detail is not None and r.detail.past == past]
            found.append(_course(own, past))
    return [course for course in found if len(course.points) > 1]


def _course(members: list[tuple[int, Result]], past: tuple[Past, ...]) -> Drift:
    points = [
        Point(
            place=0,
            model=p.model,
            kind="replaced" if p.replaced else "baseline",
            n=p.n,
            ece=p.ece,
            accuracy=p.accuracy,
            reason=p.replaced,
        )
        for p in past
    ]
    # Several verdicts may be about one measurement.
    same: dict[tuple[object, ...], list[tuple[int, Result]]] = {}
    for i, r in members:
        assert r.detail is not None
        ece = r.detail.candidate.metrics["ece"]
        same.setdefault((r.model, r.detail.candidate.n, ece, r.accuracy), []).append((i, r))
    for verdicts in same.values():
        first, r = verdicts[0]
        assert r.detail is not None
        ece = r.detail.candidate.metrics["ece"]
        points.append(
            Point(
                place=0,
                model=r.model,
                kind="this run",
                n=r.detail.candidate.n,
                ece=ece.value,
                accuracy=r.accuracy,
                low=ece.low,
                high=ece.high,
                floor=ece.noise_floor,
                verdict=first + 1,
                fails=any(verdict.fails and verdict.state in JUDGED for _, verdict in verdicts),
            )
        )
    placed = tuple(Point(**{**vars(point), "place": i}) for i, point in enumerate(points, start=1))
    return Drift(members[0][1].probe if members else "", placed)


def drift_section(courses: list[Drift]) -> Iterator[Markup]:
    """Yield the section of all charts; nothing without one."""
    if not courses:
        return
    signs = [
        ("point", "this run"),
        ("off", "this run, failing"),
        ("before", "stored"),
        ("band", "noise floor"),
    ]
    yield tag(
        "section",
        tag("h2", "Drift", id="drift-h"),
        tag(
            "p",
            "ECE and accuracy of each probe: what was stored before, oldest first, then what this "
            "run measured, in its order. The lines across the points are 95 % intervals.",
            class_="hint",
        ),
        tag(
            "ul",
            *(tag("li", legend(kind), meaning) for kind, meaning in signs),
            class_="legend",
        ),
        *(_chart(course, f"d{i}") for i, course in enumerate(courses, start=1)),
        id="drift",
        aria_labelledby="drift-h",
    )


def _chart(course: Drift, key: str) -> Markup:
    title = joined(["Drift of ", text(course.probe, 80)])
    return tag(
        "figure",
        tag("figcaption", tag("h3", name(course.probe, 80))),
        tag(
            "div",
            tag(
                "div",
                drift_chart(course.points, key=key, title=title),
                class_="scroll wide",
            ),
            table(
                joined(["Measurements of ", name(course.probe, 80)]),
                [
                    Column("#"),
                    Column("model", "text"),
                    Column("what", "text"),
                    Column("n"),
                    Column("ECE"),
                    Column("accuracy"),
                ],
                (_row(point) for point in course.points),
                key=f"{key}-table",
                hidden_caption=True,
            ),
            class_="beside",
        ),
        class_="card",
    )


def _row(p: Point) -> Row:
    model = name(p.model or NAMELESS, 60)
    linked = model if p.verdict is None else tag("a", model, href=f"#v{p.verdict}")
    return Row(
        [
            Cell(f"{p.place}"),
            Cell(linked, heads=True),
            Cell(
                f"{p.kind}, failing" if p.fails else p.kind,
                below=name(p.reason, 200) if p.reason else None,
            ),
            Cell(count(p.n)),
            Cell(number(p.ece), below=None if p.low is None else interval(p.low, p.high)),
            Cell(number(p.accuracy)),
        ]
    )
