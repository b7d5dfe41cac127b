"""Drawings as SVG, each a function from numbers to one element.

All colours come from the style sheet by class, so that light, dark and print agree; no drawing
tells by colour alone. Beside every drawing the page has its numbers as a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.html.markup import Markup, joined, tag
from pytest_calibration.reports.html.numbers import coordinate as c
from pytest_calibration.reports.html.numbers import count, interval, number
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.html.drift import Point
    from pytest_calibration.uncertainty.reliability import ConfidenceBar, ReliabilityBin

# The reliability diagram: a square of one unit, and the histogram below on the same axis.
LEFT: Final = 46.0
TOP: Final = 10.0
SQUARE: Final = 300.0
GAP: Final = 18.0
BARS: Final = 84.0
FOOT: Final = 40.0
RIGHT: Final = 14.0
LARGEST_POINT: Final = 8.0
SMALLEST_POINT: Final = 2.5
# A line of numbers with its interval, as a cell of a table.
STRIP_WIDTH: Final = 132.0
STRIP_HEIGHT: Final = 22.0
STRIP_EDGE: Final = 7.0
# The drift chart.
DRIFT_WIDTH: Final = 720.0
DRIFT_LEFT: Final = 52.0
DRIFT_RIGHT: Final = 24.0
DRIFT_TOP: Final = 14.0
DRIFT_ECE: Final = 170.0
DRIFT_GAP: Final = 30.0
DRIFT_ACCURACY: Final = 60.0
DRIFT_FOOT: Final = 34.0
LEAST_ACCURACY: Final = 0.1
LETTER: Final = 6.4
LEAST_LETTERS: Final = 10


@dataclass(frozen=True)
class Scale:
    """A straight map from numbers to coordinates.

    Attributes:
        low: the number at ``start``.
        high: the number at ``end``.
        start: a coordinate.
        end: another one.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a number; one beyond the ends lies at the end."""
        span = self.high - self.low
        part = (value - self.low) / span if span else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most so many round numbers in a range, evenly spaced (by 1, 2 or 5 × 10^k)."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span))
    sizes = sorted(factor * step * scale for factor in (1, 2, 5) for scale in (0.1, 1.0, 10.0))
    for size in sizes:
        first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
        if last - first + 1 <= most:
            return [round(i * size, 12) for i in range(first, last + 1)]
    return [low]


def _label(x: float, y: float, content: str, anchor: str = "middle", **more: str) -> Markup:
    return tag("text", content, x=c(x), y=c(y), text_anchor=anchor, **more)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=c(x1), y1=c(y1), x2=c(x2), y2=c(y2), class_=kind)


def _drawing(
    width: float, height: float, title: str, told: str, key: str, *content: Markup, kind: str
) -> Markup:
    """Return a drawing with a name and a description, both found by generated ids."""
    return tag(
        "svg",
        tag("title", title, id=f"{key}-t"),
        tag("desc", told, id=f"{key}-d"),
        *content,
        viewBox=f"0 0 {c(width)} {c(height)}",
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        class_=kind,
    )


# --- reliability diagram and histogram -----------------------------------------------------------


def reliability_diagram(
    bins: Sequence[ReliabilityBin],
    histogram: Sequence[ConfidenceBar],
    *,
    key: str,
    title: str,
    before: Sequence[ReliabilityBin] = (),
    histogram_before: Sequence[ConfidenceBar] = (),
) -> Markup:
    """Draw accuracy over confidence, and below it how many items there are at each confidence.

    Args:
        bins: the bins that hold items.
        histogram: right and wrong answers over confidence.
        key: start of the ids, unique on the page.
        title: the name of the drawing.
        before: the bins of the baseline; empty without one.
        histogram_before: the histogram of the baseline.
    """
    x = Scale(0, 1, LEFT, LEFT + SQUARE)
    y = Scale(0, 1, TOP + SQUARE, TOP)
    bottom = TOP + SQUARE + GAP + BARS
    off = sum(b.beyond_noise for b in bins)
    told = (
        f"{count(len(bins))} bins of confidence, {count(off)} of them off by more than noise. "
        "The table below the diagram has all numbers."
    )
    return _drawing(
        LEFT + SQUARE + RIGHT,
        bottom + FOOT,
        title,
        told,
        key,
        *_grid(x, y),
        tag("path", d=_band(bins, x, y), class_="band"),
        _line(x(0), y(0), x(1), y(1), "diagonal"),
        *_baseline_points(before, x, y),
        *_points(bins, x, y),
        *_histogram(histogram, histogram_before, x, bottom),
        _label(x(0.5), bottom + FOOT - 6, "confidence", class_="axis"),
        kind="reliability",
    )


def _grid(x: Scale, y: Scale) -> Iterator[Markup]:
    for i in range(6):
        at = i / 5
        yield _line(x(0), y(at), x(1), y(at), "grid")
        yield _line(x(at), y(0), x(at), y(1), "grid")
        yield _label(x(0) - 8, y(at) + 4, number(at, digits=1), "end")
    yield tag(
        "text",
        "accuracy",
        transform=f"translate(12 {c(y(0.5))}) rotate(-90)",
        text_anchor="middle",
        class_="axis",
    )


def _band(bins: Iterable[ReliabilityBin], x: Scale, y: Scale) -> str:
    """Return the outline of where the accuracy of a calibrated model would lie, bin by bin."""
    return "".join(
        f"M{c(x(b.lower))} {c(y(b.calibrated_high))}H{c(x(b.upper))}V{c(y(b.calibrated_low))}"
        f"H{c(x(b.lower))}Z"
        for b in bins
    )


def _polyline(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    spelt = "L".join(f"{c(x)} {c(y)}" for x, y in points)
    return tag("path", d=f"M{spelt}", class_=kind)


def _bin_name(b: ReliabilityBin) -> str:
    return f"confidence {number(b.lower, digits=2)} to {number(b.upper, digits=2)}"


def _points(bins: Sequence[ReliabilityBin], x: Scale, y: Scale) -> Iterator[Markup]:
    """Yield a point per bin, as large as its bin, filled where it is off by more than noise."""
    if len(bins) > 1:
        yield _polyline(((x(b.confidence), y(b.accuracy)) for b in bins), "joint")
    most = max((b.n for b in bins), default=1)
    for b in bins:
        at, up = x(b.confidence), y(b.accuracy)
        told = (
            f"{_bin_name(b)}: {count(b.n)} items, mean confidence {number(b.confidence)}, accuracy "
            f"{number(b.accuracy)} {interval(b.low, b.high)}; a calibrated model: "
            f"{interval(b.calibrated_low, b.calibrated_high)}"
        )
        yield tag(
            "g",
            tag("title", told),
            _line(at, y(b.low), at, y(b.high), "whisker"),
            tag(
                "circle",
                cx=c(at),
                cy=c(up),
                r=c(max(SMALLEST_POINT, LARGEST_POINT * math.sqrt(b.n / most))),
                class_="point off" if b.beyond_noise else "point",
            ),
        )


def _diamond(x: float, y: float, size: float = 4.0) -> str:
    return f"M{c(x)} {c(y - size)}L{c(x + size)} {c(y)}L{c(x)} {c(y + size)}L{c(x - size)} {c(y)}Z"


def _baseline_points(bins: Sequence[ReliabilityBin], x: Scale, y: Scale) -> Iterator[Markup]:
    if len(bins) > 1:
        yield _polyline(((x(b.confidence), y(b.accuracy)) for b in bins), "joint before")
    for b in bins:
        told = (
            f"before, {_bin_name(b)}: {count(b.n)} items, mean confidence {number(b.confidence)}, "
            f"accuracy {number(b.accuracy)} {interval(b.low, b.high)}"
        )
        mark = _diamond(x(b.confidence), y(b.accuracy))
        yield tag("path", tag("title", told), d=mark, class_="mark before")


def _histogram(
    bars: Sequence[ConfidenceBar], before: Sequence[ConfidenceBar], x: Scale, bottom: float
) -> Iterator[Markup]:
    most = max((b.right + b.wrong for b in (*bars, *before)), default=0) or 1
    y = Scale(0, most, bottom, bottom - BARS)
    for at in ticks(0, most, 3):
        yield _line(x(0), y(at), x(1), y(at), "grid")
        yield _label(x(0) - 8, y(at) + 4, count(round(at)), "end")
    yield tag(
        "text",
        "items",
        transform=f"translate(12 {c(bottom - BARS / 2)}) rotate(-90)",
        text_anchor="middle",
        class_="axis",
    )
    for bar in bars:
        total = bar.right + bar.wrong
        if not total:
            continue
        left, width = x(bar.lower) + 0.75, x(bar.upper) - x(bar.lower) - 1.5
        told = (
            f"confidence {number(bar.lower, digits=2)} to {number(bar.upper, digits=2)}: "
            f"{count(bar.right)} right, {count(bar.wrong)} wrong"
        )
        yield tag(
            "g",
            tag("title", told),
            *(
                tag(
                    "rect",
                    x=c(left),
                    y=c(y(top)),
                    width=c(width),
                    height=c(y(base) - y(top)),
                    class_=kind,
                )
                for base, top, kind in ((0, bar.right, "right"), (bar.right, total, "wrong"))
                if top > base
            ),
        )
    if before:
        steps = "".join(f"V{c(y(b.right + b.wrong))}H{c(x(b.upper))}" for b in before)
        start = f"M{c(x(before[0].lower))} {c(bottom)}"
        yield tag("path", d=f"{start}{steps}V{c(bottom)}", class_="outline before")
    yield _line(x(0), bottom, x(1), bottom, "base")
    for i in range(6):
        yield _label(x(i / 5), bottom + 16, number(i / 5, digits=1))


# --- one number with its interval, as small multiples in a table ---------------------------------


def strip(
    scale: tuple[float, float],
    *,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    before: float | None = None,
    floor: float | None = None,
    limit: float | None = None,
    bad: bool = False,
) -> Markup:
    """Draw one number on a line; those of one column share their scale.

    It is hidden from screen readers: the same row has its numbers in words.

    Args:
        scale: the numbers at the two ends.
        value: where the point is; None draws the rest alone.
        low: one end of the interval.
        high: the other.
        before: where the baseline is.
        floor: up to where noise alone reaches from 0.
        limit: what it is held against.
        bad: whether the point is filled, as what fails is.
    """
    x = Scale(*scale, STRIP_EDGE, STRIP_WIDTH - STRIP_EDGE)
    middle = STRIP_HEIGHT / 2
    parts = [_line(STRIP_EDGE, middle, STRIP_WIDTH - STRIP_EDGE, middle, "grid")]
    if floor is not None:
        parts.append(
            tag(
                "rect",
                x=c(x(0)),
                y=c(3),
                width=c(x(floor) - x(0)),
                height=c(STRIP_HEIGHT - 6),
                class_="band",
            )
        )
    if scale[0] <= 0 <= scale[1]:
        parts.append(_line(x(0), 2, x(0), STRIP_HEIGHT - 2, "base"))
    if limit is not None:
        parts.append(_line(x(limit), 1, x(limit), STRIP_HEIGHT - 1, "limit"))
    if before is not None:
        parts.append(tag("path", d=_diamond(x(before), middle, 4.5), class_="mark before"))
    if low is not None and high is not None:
        parts.append(_line(x(low), middle, x(high), middle, "whisker"))
    if value is not None:
        kind = "point off" if bad else "point"
        parts.append(tag("circle", cx=c(x(value)), cy=c(middle), r="4", class_=kind))
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {c(STRIP_WIDTH)} {c(STRIP_HEIGHT)}",
        class_="strip",
        aria_hidden="true",
    )


def span(values: Iterable[float | None]) -> tuple[float, float]:
    """Return a range, never an empty one, that holds 0 and all of these numbers that are there."""
    known = [0.0, *(v for v in values if v is not None)]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low, low + 1)


def bar(part: float, *, kind: str) -> Markup:
    """Draw a probability as a bar; the number stands beside it."""
    width = 100 * min(max(part, 0.0), 1.0)
    return tag(
        "svg",
        tag("rect", x="0", y="0", width="100", height="8", rx="2", class_="trough"),
        tag("rect", x="0", y="0", width=c(width), height="8", rx="2", class_=kind),
        viewBox="0 0 100 8",
        class_="bar",
        aria_hidden="true",
    )


def legend(kind: str) -> Markup:
    """Draw the sample of a sign that stands before its meaning."""
    middle = 8.0
    shapes = {
        "point": (
            _line(14, 1, 14, 15, "whisker"),
            tag("circle", cx="14", cy="8", r="4.5", class_="point"),
        ),
        "off": (
            _line(14, 1, 14, 15, "whisker"),
            tag("circle", cx="14", cy="8", r="4.5", class_="point off"),
        ),
        "before": (
            _line(1, middle, 27, middle, "joint before"),
            tag("path", d=_diamond(14, middle), class_="mark before"),
        ),
        "band": (tag("rect", x="2", y="2", width="24", height="12", class_="band"),),
        "diagonal": (_line(2, 14, 26, 2, "diagonal"),),
        "right": (tag("rect", x="6", y="2", width="16", height="12", class_="right"),),
        "wrong": (tag("rect", x="6", y="2", width="16", height="12", class_="wrong"),),
        "outline": (tag("path", d="M4 15V4H24V15", class_="outline before"),),
        "limit": (_line(14, 1, 14, 15, "limit"),),
    }
    return tag("svg", *shapes[kind], viewBox="0 0 28 16", class_="sample", aria_hidden="true")


# Of wrong answers: stripes, which print and which every eye tells from a plain bar.
PATTERNS: Final = tag(
    "svg",
    tag(
        "defs",
        tag(
            "pattern",
            tag("rect", width="5", height="5", class_="wrong-ground"),
            tag("line", x1="0", y1="0", x2="0", y2="5", class_="wrong-stripe"),
            id="stripes",
            width="5",
            height="5",
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        ),
    ),
    width="0",
    height="0",
    class_="patterns",
    aria_hidden="true",
)


# --- drift ---------------------------------------------------------------------------------------


def drift_chart(points: Sequence[Point], *, key: str, title: str) -> Markup:
    """Draw ECE over what was stored and what was measured, with accuracy below.

    Args:
        points: in order, at least two.
        key: start of the ids, unique on the page.
        title: the name of the drawing.
    """
    count_ = len(points)
    spread = (DRIFT_WIDTH - DRIFT_LEFT - DRIFT_RIGHT) / count_
    places = [DRIFT_LEFT + spread * (i + 0.5) for i in range(count_)]
    low, high = span(v for p in points for v in (p.ece, p.low, p.high, p.floor))
    y = Scale(low, high, DRIFT_TOP + DRIFT_ECE, DRIFT_TOP)
    top = DRIFT_TOP + DRIFT_ECE + DRIFT_GAP
    bottom = top + DRIFT_ACCURACY
    shares = [p.accuracy for p in points]
    least, most = min(shares), max(shares)
    if most - least < LEAST_ACCURACY:
        # A small move must not look like a fall.
        half = LEAST_ACCURACY / 2
        centre = min(max((least + most) / 2, half), 1 - half)
        least, most = centre - half, centre + half
    z = Scale(least, most, bottom, top)
    told = (
        f"ECE from {number(points[0].ece)} to {number(points[-1].ece)} over {count(count_)} "
        "measurements in order. The table beside it has all numbers."
    )
    return _drawing(
        DRIFT_WIDTH,
        bottom + DRIFT_FOOT,
        title,
        told,
        key,
        *_level_lines(y, ticks(low, high), "ECE"),
        *_level_lines(z, ticks(least, most, 3), "accuracy"),
        *_floors(points, places, y, spread),
        *_joints(points, places, [y(p.ece) for p in points]),
        *_joints(points, places, [z(p.accuracy) for p in points]),
        *(
            mark
            for p, at in zip(points, places, strict=True)
            for mark in _measurement(p, at, y, z, bottom, spread)
        ),
        kind="drift",
    )


def _level_lines(y: Scale, levels: Sequence[float], axis: str) -> Iterator[Markup]:
    for level in levels:
        yield _line(DRIFT_LEFT, y(level), DRIFT_WIDTH - DRIFT_RIGHT, y(level), "grid")
        yield _label(DRIFT_LEFT - 8, y(level) + 4, number(level, digits=2), "end")
    middle = (y.start + y.end) / 2
    yield tag(
        "text",
        axis,
        transform=f"translate(11 {c(middle)}) rotate(-90)",
        text_anchor="middle",
        class_="axis",
    )


def _floors(
    points: Sequence[Point], places: Sequence[float], y: Scale, spread: float
) -> Iterator[Markup]:
    for p, at in zip(points, places, strict=True):
        if p.floor is not None:
            yield tag(
                "rect",
                x=c(at - 0.35 * spread),
                y=c(y(p.floor)),
                width=c(0.7 * spread),
                height=c(y(0) - y(p.floor)),
                class_="band",
            )


def _joints(
    points: Sequence[Point], places: Sequence[float], heights: Sequence[float]
) -> Iterator[Markup]:
    """Yield a line from each measurement to the next, dashed among what was stored."""
    for i in range(len(points) - 1):
        kind = "joint" if points[i + 1].measured else "joint before"
        yield _line(places[i], heights[i], places[i + 1], heights[i + 1], kind)


def _measurement(
    p: Point, at: float, y: Scale, z: Scale, bottom: float, spread: float
) -> Iterator[Markup]:
    told = (
        f"{visible(p.model, 80) or 'no name'}, {p.kind}: ECE {number(p.ece)}"
        f"{'' if p.low is None else f' {interval(p.low, p.high)}'}, accuracy {number(p.accuracy)}"
    )
    whisker = (
        _line(at, y(p.low), at, y(p.high), "whisker")
        if p.low is not None and p.high is not None
        else None
    )
    if p.measured:
        mark = tag(
            "circle",
            cx=c(at),
            cy=c(y(p.ece)),
            r="5",
            class_="point off" if p.fails else "point",
        )
        small = tag("circle", cx=c(at), cy=c(z(p.accuracy)), r="3", class_="point")
    else:
        mark = tag("path", d=_diamond(at, y(p.ece), 5.5), class_="mark before")
        small = tag("path", d=_diamond(at, z(p.accuracy), 3.5), class_="mark before")
    yield tag("g", tag("title", told), joined([whisker, mark, small]))
    yield _label(at, bottom + 15, f"{p.place}")
    room = int(spread / LETTER)
    if room >= LEAST_LETTERS:
        # Checkpoints of one run differ at the end of their names.
        cut = p.model if len(p.model) <= room else f"…{p.model[1 - room :]}"
        yield _label(at, bottom + 29, cut or NAMELESS)


NAMELESS: Final = "(no name)"
