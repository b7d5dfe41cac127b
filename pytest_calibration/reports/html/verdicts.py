"""One section per verdict: the diagnosis, the drawings, the tables, the items, the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.reports.html.diagrams import legend, reliability_diagram, span, strip
from pytest_calibration.reports.html.items import worst_items
from pytest_calibration.reports.html.markup import Content, Markup, joined, name, tag, text
from pytest_calibration.reports.html.numbers import (
    NONE,
    count,
    counted,
    interval,
    minus,
    number,
)
from pytest_calibration.reports.html.states import look, pill
from pytest_calibration.reports.html.tables import Cell, Column, Row, table

if TYPE_CHECKING:
    from pytest_calibration.diagnosis import Diagnosis
    from pytest_calibration.reports.model import Detail, Number, Remedy, Result, Side, SliceRow

HEADING: Final = 120


def verdict_section(
    result: Result, place: int, *, most_slices: int, most_items: int, drifts: bool
) -> Markup:
    """Return the section of a verdict.

    Args:
        result: the verdict.
        place: its number on the page, from 1.
        most_slices: how many slices it may show.
        most_items: how many items it may show.
        drifts: whether the page has a section on drift.
    """
    key = f"v{place}"
    detail = result.detail
    figures = tag(
        "details",
        tag("summary", tag("span", "Figures and tables", class_="folded")),
        *_numbers(result, detail, key, most_slices, most_items, drifts),
        open=True,
        class_="figures",
        data_fold=not result.fails,
    )
    return tag(
        "article",
        tag(
            "header",
            tag(
                "h3",
                name(result.probe, HEADING),
                tag("span", " on ", class_="on") if result.model else None,
                name(result.model, HEADING) if result.model else None,
                id=f"{key}-h",
            ),
            pill(result),
            tag("p", tag("code", text(result.test, 400)), class_="test") if result.test else None,
        ),
        *_account(result, key),
        _tiles(result, detail),
        figures,
        tag("p", tag("a", "Back to the summary", href="#summary"), class_="back"),
        id=key,
        class_=f"card verdict {look(result)}",
        aria_labelledby=f"{key}-h",
        data_verdict=place,
    )


# --- in words ------------------------------------------------------------------------------------


def _account(result: Result, key: str) -> Iterator[Markup]:
    """Yield what happened in words, and what to do."""
    diagnosis = result.diagnosis
    if diagnosis is not None:
        yield tag("p", text(diagnosis.paragraph), class_="lead")
    if look(result) != "good" or diagnosis is None:
        # The first line of the story is what decided; the headline repeats the heading.
        yield tag(
            "p",
            text(next(filter(None, (result.reason, *result.findings)), result.headline)),
            class_="headline",
        )
    if result.notes:
        yield tag("ul", *(tag("li", text(note)) for note in result.notes), class_="notes")
    if result.remedy:
        yield _remedy(result.remedy, key)


def _remedy(remedy: Remedy, key: str) -> Markup:
    """Return what to do, with the command apart from the words before it, to be copied alone."""
    lead = f"{remedy.purpose.capitalize()}:"
    return tag(
        "div",
        tag("p", lead),
        tag(
            "div",
            tag(
                "code",
                text(remedy.command),
                class_="command",
                id=f"{key}-command",
                translate="no",
            ),
            class_="copy",
        ),
        class_="remedy",
    )


def _tiles(result: Result, detail: Detail | None) -> Markup:
    """Return the numbers that a reader looks for first."""
    judged, before = result.number, result.baseline
    before_name = "baseline" if result.reference in ("", "baseline") else result.reference
    floor = judged.noise_floor
    tiles: list[tuple[Content, Content, list[Content]]] = [
        (
            text(judged.label, 60),
            number(judged.value),
            [
                f"95 % interval {interval(judged.low, judged.high)}",
                None if floor is None else f"noise floor {number(floor)}",
                None
                if before is None
                else joined([name(before_name, 40), f" {number(before.value)}"]),
            ],
        )
    ]
    if result.limit is not None:
        side = "at least" if result.above else "below"
        tiles.append(("limit", number(result.limit), [f"must be {side} the limit"]))
    elif result.difference is not None:
        tiles.append(
            (
                "worse by",
                number(result.difference),
                [
                    None if result.bound is None else f"at least {number(result.bound)}",
                    None if result.tolerance is None else f"allowed {number(result.tolerance)}",
                ],
            )
        )
    if judged.metric != "signed_gap":
        gap = None if detail is None else detail.candidate.metrics.get("signed_gap")
        tiles.append(
            (
                "signed gap",
                number(result.mean_confidence - result.accuracy, sign=True),
                [
                    None
                    if gap is None
                    else f"95 % interval {interval(gap.low, gap.high, sign=True)}",
                    f"{number(result.mean_confidence)} sure on average",
                ],
            )
        )
    if judged.metric != "accuracy":
        earlier = detail.baseline.metrics.get("accuracy") if detail and detail.baseline else None
        tiles.append(
            (
                "accuracy",
                number(result.accuracy),
                [
                    None
                    if earlier is None
                    else joined([name(before_name, 40), f" {number(earlier.value)}"])
                ],
            )
        )
    grouped = result.units != result.n
    tiles.append(
        (
            joined([text(result.unit, 40), "s"]),
            count(result.n),
            [f"in {counted(result.units, 'group')}" if grouped else None],
        )
    )
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", label),
                tag(
                    "dd",
                    tag("b", value),
                    *(tag("small", line) for line in lines if line is not None),
                ),
            )
            for label, value, lines in tiles
        ),
        class_="tiles",
    )


# --- figures and tables --------------------------------------------------------------------------


def _numbers(
    result: Result,
    detail: Detail | None,
    key: str,
    most_slices: int,
    most_items: int,
    drifts: bool,
) -> Iterator[Markup]:
    diagnosis = result.diagnosis
    if detail is not None:
        side = [*_components(result, key), *_recalibration(diagnosis, key)]
        yield tag(
            "div",
            tag("div", *_diagram(detail, key), class_="pane"),
            tag("div", *side, class_="pane") if side else None,
            class_="panes" if side else "panes single",
        )
        yield tag(
            "details",
            tag("summary", "The numbers of the diagram"),
            _bins_table(detail.candidate, detail.baseline, f"{key}-bins"),
            _bars_table(detail.candidate, detail.baseline, f"{key}-bars"),
        )
    else:
        yield from _components(result, key)
    if diagnosis is not None:
        yield from _diagnosis(diagnosis, key)
    yield from _told(result)
    if detail is not None:
        yield from _slices(detail, key, most_slices)
        yield tag("h4", "Surest wrong answers")
        yield worst_items(detail.worst, key=f"{key}-items", most=most_items)
        yield from _metrics(detail, key)
    yield from _provenance(result, detail, key)
    if drifts:
        yield tag("p", tag("a", "Drift of each probe", href="#drift"), class_="hint")


def _diagram(detail: Detail, key: str) -> Iterator[Markup]:
    here, there = detail.candidate, detail.baseline
    yield tag("h4", "Reliability")
    signs = [
        ("off", "accuracy of a bin, off by more than noise; larger with more items"),
        ("point", "within noise"),
        ("band", "where a calibrated model lies 95 % of the time"),
        ("diagonal", "as sure as right"),
        ("right", "right answers"),
        ("wrong", "wrong answers"),
    ]
    if there is not None:
        signs.append(("before", "before"))
        signs.append(("outline", "all answers before"))
    yield tag(
        "figure",
        reliability_diagram(
            here.reliability,
            here.histogram,
            key=f"{key}-r",
            title="Reliability diagram and histogram of confidence",
            before=() if there is None else there.reliability,
            histogram_before=() if there is None else there.histogram,
        ),
        tag(
            "figcaption",
            tag(
                "ul",
                *(tag("li", legend(kind), meaning) for kind, meaning in signs),
                class_="legend",
            ),
        ),
    )


def _bins_table(here: Side, there: Side | None, key: str) -> Markup:
    columns = [
        Column("bin", "text"),
        Column("n"),
        Column("confidence"),
        Column("accuracy"),
        Column("calibrated", hint="where the accuracy of a calibrated model lies 95 % of the time"),
        Column("gap", "text"),
    ]
    if there is not None:
        columns += [Column("n before"), Column("confidence before"), Column("accuracy before")]
    after = {(b.lower, b.upper): b for b in here.reliability}
    before = {} if there is None else {(b.lower, b.upper): b for b in there.reliability}
    rows = []
    for edges in sorted({*after, *before}):
        b, old = after.get(edges), before.get(edges)
        cells = [Cell(f"{edges[0]:.2f} – {edges[1]:.2f}", heads=True)]
        if b is None:
            cells += [Cell(None)] * 5
        else:
            cells += [
                Cell(count(b.n)),
                Cell(number(b.confidence)),
                Cell(number(b.accuracy), below=interval(b.low, b.high)),
                Cell(interval(b.calibrated_low, b.calibrated_high)),
                Cell("beyond noise" if b.beyond_noise else "within noise"),
            ]
        if there is not None and old is None:
            cells += [Cell(None)] * 3
        elif old is not None:
            cells += [
                Cell(count(old.n)),
                Cell(number(old.confidence)),
                Cell(number(old.accuracy), below=interval(old.low, old.high)),
            ]
        rows.append(Row(cells))
    return table("Accuracy over confidence", columns, rows, key=key)


def _bars_table(here: Side, there: Side | None, key: str) -> Markup:
    columns = [Column("confidence", "text"), Column("right"), Column("wrong")]
    if there is not None:
        columns += [Column("right before"), Column("wrong before")]
    after = {(b.lower, b.upper): (b.right, b.wrong) for b in here.histogram}
    before = (
        {} if there is None else {(b.lower, b.upper): (b.right, b.wrong) for b in there.histogram}
    )
    rows = []
    for edges in sorted({*after, *before}):
        sides = [after.get(edges, (0, 0))]
        if there is not None:
            sides.append(before.get(edges, (0, 0)))
        if any(map(any, sides)):
            head = Cell(f"{edges[0]:.2f} – {edges[1]:.2f}", heads=True)
            rows.append(Row([head, *(Cell(count(n)) for side in sides for n in side)]))
    return table("Right and wrong answers over confidence", columns, rows, key=key)


def _components(result: Result, key: str) -> Iterator[Markup]:
    """Yield the table of every way of getting worse that the gate looked at."""
    if not result.components:
        return
    known = [c for c in result.components if not c.unavailable]
    scale = span(v for c in known for v in (c.worsening, c.bound, c.tolerance))
    rows = []
    for c in result.components:
        if c.unavailable:
            head = Cell(
                tag("span", c.name), heads=True, below=text(f"not applicable: {c.unavailable}")
            )
            rows.append(Row([head, *[Cell(None)] * 5, Cell("")], marked="dim"))
            continue
        bound, allowed = _apart(c.bound, c.tolerance)
        said = (
            tag("b", "✗ fails", class_="bad")
            if c.fired
            else tag("span", "changed sides")
            if c.changed_sides
            else None
        )
        rows.append(
            Row(
                [
                    Cell(text(c.name), heads=True, below=said),
                    Cell(number(c.before)),
                    Cell(number(c.after)),
                    Cell(number(c.worsening)),
                    Cell(bound),
                    Cell(allowed),
                    Cell(
                        strip(
                            scale,
                            value=c.worsening,
                            low=c.bound,
                            high=c.worsening,
                            limit=c.tolerance,
                            bad=c.fired,
                        )
                    ),
                ],
                marked="fired" if c.fired else "",
            )
        )
    level = "" if result.level is None else f" with {100 * result.level:.3g} % confidence"
    yield tag("h4", "What the gate compared")
    yield table(
        f"Worse by, and by at least how much{level}; a component fails where that is more than "
        "allowed",
        [
            Column("component", "text"),
            Column("before"),
            Column("after"),
            Column("worse by"),
            Column("at least"),
            Column("allowed"),
            Column("drawn", "drawing"),
        ],
        rows,
        key=f"{key}-components",
    )
    seen = []
    if result.smallest_visible is not None:
        seen.append(
            f"Smallest worsening visible here at 80 % power: {number(result.smallest_visible)}."
        )
    if result.n_needed:
        seen.append(f"About {counted(result.n_needed, result.unit)} would decide it.")
    if seen:
        yield tag("p", text(" ".join(seen)), class_="hint")


def _apart(*values: float | None) -> list[str]:
    """Write numbers so that those which differ look different."""
    from pytest_calibration.text.numbers import distinct

    if any(v is None for v in values):
        return [number(v) for v in values]
    return [minus(written) for written in distinct(*(v for v in values if v is not None))]


def _recalibration(diagnosis: Diagnosis | None, key: str) -> Iterator[Markup]:
    """Yield what recalibration would bring, on items it has not seen."""
    if diagnosis is None:
        return
    fit = diagnosis.temperature
    heat = ""
    if fit is not None:
        ends = (
            ""
            if fit.low is None
            else f" [{number(fit.low, digits=2)}, {number(fit.high, digits=2)}]"
        )
        heat = f"T = {number(fit.value, digits=2)}{ends}"
    read = [
        ("as it is", diagnosis.ece, ""),
        ("after temperature", diagnosis.after_temperature, heat),
        ("after isotonic map", diagnosis.after_isotonic, ""),
    ]
    kept = [(label, reading, note) for label, reading, note in read if reading is not None]
    if len(kept) < 2:
        return
    scale = span(v for _, r, _ in kept for v in (r.value, r.low, r.high, r.noise_floor_high))
    yield tag("h4", "What recalibration would do")
    yield table(
        "ECE as it is and, on held-out folds, after recalibration; noise alone stays within the "
        "shaded range 95 % of the time",
        [
            Column("model", "text"),
            Column("ECE"),
            Column("noise up to"),
            Column("drawn", "drawing"),
        ],
        [
            Row(
                [
                    Cell(label, heads=True, below=note or None),
                    Cell(number(r.value), below=interval(r.low, r.high)),
                    Cell(number(r.noise_floor_high)),
                    Cell(
                        strip(
                            scale,
                            value=r.value,
                            low=r.low,
                            high=r.high,
                            floor=r.noise_floor_high,
                            bad=r.value > r.noise_floor_high,
                        )
                    ),
                ]
            )
            for label, r, note in kept
        ],
        key=f"{key}-recalibration",
    )


def _diagnosis(diagnosis: Diagnosis, key: str) -> Iterator[Markup]:
    """Yield the figures behind the diagnosis."""
    if not diagnosis.figures:
        return
    yield tag(
        "details",
        tag("summary", "The figures behind the diagnosis"),
        tag(
            "dl",
            *(
                tag(
                    "div",
                    tag("dt", text(figure.label), class_="inner" if figure.inner else None),
                    tag("dd", text(figure.text)),
                )
                for figure in diagnosis.figures
            ),
            class_="figures-list",
        ),
        id=f"{key}-why",
    )


def _told(result: Result) -> Iterator[Markup]:
    """Yield the story as the test told it."""
    lines = (result.headline, *(f"  {line}" for line in result.explanation))
    yield tag(
        "details",
        tag("summary", "What the test said"),
        tag("pre", Markup("\n".join(text(line) for line in lines)), class_="scroll"),
    )


def _slices(detail: Detail, key: str, most: int) -> Iterator[Markup]:
    if not detail.slices:
        return
    rows = detail.slices[:most]
    left = len(detail.slices) - len(rows) + detail.slices_left_out
    compared = any(row.shift is not None for row in detail.slices)
    scale = span(v for s in rows for v in (s.low, s.high, s.signed_gap, s.gap_before))
    columns = [
        Column("slice", "text"),
        Column("n"),
        Column("accuracy"),
        Column("signed gap", hint="mean confidence minus accuracy"),
        Column("gap drawn", "drawing"),
    ]
    if compared:
        columns += [
            Column("shift", hint="change of the signed gap"),
            Column("q", hint="false discovery rate at which it is said to have moved"),
            Column("moved", "text"),
        ]
    columns.append(Column("ECE", hint="over few bins"))
    yield tag("h4", "Slices")
    yield table(
        "The surest to have moved first" if compared else "The surest to be off first",
        columns,
        [_slice_row(s, compared, scale) for s in rows],
        key=f"{key}-slices",
        sortable=True,
    )
    said = []
    if compared:
        moved = sum(bool(s.change) for s in detail.slices)
        small = sum(s.shift is not None and s.q_value is None for s in detail.slices)
        said.append(f"{count(moved)} moved (false discovery rate 5 %)")
        if small:
            said.append(f"{count(small)} too small to test")
    if left:
        said.append(f"{count(left)} of {count(len(rows) + left)} slices not shown")
    if said:
        yield tag("p", f"{'; '.join(said)}.", class_="hint")


def _slice_row(s: SliceRow, compared: bool, scale: tuple[float, float]) -> Row:
    cells = [
        Cell(name(s.name or "(none)", 80), heads=True),
        Cell(count(s.n), key=s.n, below=None if s.units == s.n else f"{count(s.units)} groups"),
        Cell(number(s.accuracy), key=s.accuracy, below=_was(s.accuracy_before)),
        Cell(
            number(s.signed_gap, sign=True), key=s.signed_gap, below=_was(s.gap_before, sign=True)
        ),
        Cell(
            strip(
                scale,
                value=s.signed_gap,
                low=s.low,
                high=s.high,
                before=s.gap_before,
                bad=bool(s.change),
            )
        ),
    ]
    if compared:
        cells += [
            Cell(
                number(s.shift, sign=True),
                key=s.shift,
                below=None if s.margin is None else f"± {number(s.margin)}",
            ),
            Cell(_q(s.q_value), key=s.q_value),
            Cell(tag("b", s.change, class_=_moved(s.change)) if s.change else None, key=s.change),
        ]
    cells.append(Cell(number(s.ece), key=s.ece, below=f"floor {number(s.noise_floor)}"))
    return Row(cells)


def _was(value: float | None, *, sign: bool = False) -> str | None:
    return None if value is None else f"before {number(value, sign=sign)}"


def _moved(change: str) -> str:
    return {"worse": "bad", "better": "good"}.get(change, "doubt")


def _q(value: float | None) -> str:
    from pytest_calibration.diagnosis.slices import FDR

    if value is None:
        return NONE
    return "<0.001" if value < 0.0005 else _apart(value, FDR)[0]


def _metrics(detail: Detail, key: str) -> Iterator[Markup]:
    here = detail.candidate.metrics
    there = {} if detail.baseline is None else detail.baseline.metrics
    compared = detail.baseline is not None
    columns = [
        Column("metric", "text"),
        Column("value"),
        Column("95 % interval"),
        Column("noise floor"),
    ]
    if compared:
        columns += [Column("before"), Column("interval before"), Column("change")]
    yield tag(
        "details",
        tag("summary", f"All {count(len(here))} metrics"),
        table(
            "Every metric that applies",
            columns,
            [_metric_row(metric, there.get(k), compared) for k, metric in here.items()],
            key=f"{key}-metrics",
            sortable=True,
        ),
    )


def _metric_row(here: Number, there: Number | None, compared: bool) -> Row:
    cells = [
        Cell(text(here.label), heads=True),
        Cell(number(here.value), key=here.value),
        Cell(interval(here.low, here.high), key=here.low),
        Cell(
            number(here.noise_floor),
            key=here.noise_floor,
            below=None
            if here.noise_floor_high is None
            else f"up to {number(here.noise_floor_high)}",
        ),
    ]
    if compared and there is None:
        cells += [Cell(None)] * 3
    elif there is not None:
        change = here.value - there.value
        cells += [
            Cell(number(there.value), key=there.value),
            Cell(interval(there.low, there.high), key=there.low),
            Cell(number(change, sign=True), key=change),
        ]
    return Row(cells)


# --- where the numbers come from -----------------------------------------------------------------


def _provenance(result: Result, detail: Detail | None, key: str) -> Iterator[Markup]:
    """Yield the settings of both sides, with a word where they differ."""
    if detail is None:
        return
    here, there = detail.candidate, detail.baseline
    columns = [Column("setting", "text"), Column("here", "text")]
    if there is not None:
        columns += [Column("baseline", "text"), Column("agree", "text")]
    bodies: list[Row] = []
    counts = {
        "items": (f"{count(here.n)}", None if there is None else f"{count(there.n)}"),
        "groups": (f"{count(here.units)}", None if there is None else f"{count(there.units)}"),
        "bins": (f"{here.bins}", None if there is None else f"{there.bins}"),
    }
    for label, (own, other) in counts.items():
        bodies.append(_setting(label, "measured", own, other, there is not None))
    for kind, mine, theirs in (
        ("must agree", here.hard, {} if there is None else there.hard),
        ("shown only", here.soft, {} if there is None else there.soft),
    ):
        bodies += [
            _setting(k, kind, mine.get(k), theirs.get(k), there is not None)
            for k in _union(mine, theirs)
        ]
    yield tag(
        "details",
        tag("summary", "Where the numbers come from"),
        table("Settings of the measurement", columns, bodies, key=f"{key}-settings"),
        tag("p", joined(["Test: ", tag("code", text(result.test))]), class_="hint")
        if result.test
        else None,
    )


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    return [*one, *(k for k in other if k not in one)]


def _setting(label: str, kind: str, own: str | None, other: str | None, compared: bool) -> Row:
    differ = compared and own != other
    cells = [
        Cell(text(label, 80), heads=True, below=kind),
        Cell(None if own is None else text(own, 400)),
    ]
    if compared:
        cells += [
            Cell(None if other is None else text(other, 400)),
            Cell(tag("b", "≠ differs", class_="doubt") if differ else "="),
        ]
    return Row(cells, marked="differs" if differ else "")
