"""The summary at the end of a session."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.terminal.diagram import reliability_diagram
from pytest_calibration.reports.terminal.slice_table import slices_table
from pytest_calibration.text.layout import (
    NARROWEST,
    WIDTH,
    Paint,
    Style,
    columns,
    fitted,
    padded,
    unpainted,
    wrapped,
)
from pytest_calibration.text.numbers import counted

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result, Results

# Name and side of each column.
COLUMNS: Final = {
    "model": "<",
    "probe": "<",
    "n": ">",
    "metric": "<",
    "value": ">",
    "interval": "<",
    "floor": ">",
    "coverage": ">",
    "acc": ">",
    "against": ">",
    "state": "<",
}
# Columns that a narrow terminal leaves out, in this order.
DISPENSABLE: Final = ("interval", "floor", "metric", "n", "acc", "against")
NAME_WIDTH: Final = 32
NARROW_NAME: Final = 14
# Subjects of one line.
MOST_NAMED: Final = 4
# Longer lines of prose are hard to read.
PROSE: Final = 100


def summary_lines(
    results: Results,
    *,
    width: int = WIDTH,
    verbosity: int = 0,
    unicode: bool = False,
    paint: Paint = unpainted,
) -> Iterator[str]:
    """Yield the table of verdicts, cautions, hints, remarks, errors, and the count of each state.

    Args:
        results: the session.
        width: columns of the terminal.
        verbosity: below 0, only verdicts that fail or are inconclusive, cautions, remarks and
            errors; 1 adds the diagnosis of every verdict, 2 its reliability diagram and slices.
        unicode: whether the terminal shows more than ASCII.
        paint: gives a piece of text its colour.
    """
    shown = [r for r in results.results if verbosity >= 0 or r.fails or r.state == "inconclusive"]
    yield from summary_table(shown, width=width, paint=paint)
    if verbosity >= 1:
        for result in shown:
            yield from _details(result, width, verbosity >= 2, unicode, paint)
    for line in _cautions(results):
        yield from wrapped(line, width, further="  ")
    hints = [*_hints(results.results), *_false_alarms(results)] if verbosity >= 0 else []
    for line in (*hints, *results.remarks):
        yield from wrapped(line, width, further="  ")
    for line in results.errors:
        for text in wrapped(f"ERROR: {line}", width, further="  "):
            yield paint(text, "bad")
    if results.results:
        yield counts_line(results, paint)


def summary_table(
    results: Sequence[Result], *, width: int = WIDTH, paint: Paint = unpainted
) -> Iterator[str]:
    """Yield an aligned table of verdicts, one row each, with a header.

    Empty columns are left out. A narrow terminal leaves out those of ``DISPENSABLE``, then cuts
    names; a very narrow one shows each verdict in two lines.
    """
    if not results:
        return
    rows = [_cells(result) for result in results]
    names = [name for name in COLUMNS if any(row[name] for row in rows)]

    def widths() -> dict[str, int]:
        return {
            name: max(columns(text) for text in (name, *(r[name] for r in rows))) for name in names
        }

    def too_wide() -> bool:
        # The components behind the state may be broken off; the state may not.
        state = max(columns(result.state_name) for result in results)
        return sum({**widths(), "state": state}.values()) + 2 * (len(names) - 1) > width

    for name in DISPENSABLE:
        if name in names and too_wide():
            names.remove(name)
    if too_wide():
        for row in rows:
            row |= {name: fitted(row[name], NARROW_NAME) for name in ("model", "probe")}
    if too_wide():
        for result, row in zip(results, rows, strict=True):
            yield fitted(result.subject, max(width, NARROWEST))
            yield f"  {row['metric']} {row['value']} {paint(result.state_name, _style(result))}"
        return
    sizes = widths()
    head = "  ".join(padded(name, sizes[name], COLUMNS[name]) for name in names)
    yield paint(head.rstrip(), "head")
    for result, row in zip(results, rows, strict=True):
        *cells, state = (padded(row[name], sizes[name], COLUMNS[name]) for name in names)
        yield "  ".join([*cells, paint(state.rstrip(), _style(result))])


def counts_line(results: Results, paint: Paint = unpainted) -> str:
    """Return the number of verdicts of each state: ``2 passed, 1 regressed``."""
    styles = {r.state_name: _style(r) for r in results.results}
    return ", ".join(paint(f"{n} {name}", styles[name]) for name, n in results.counts.items())


def _style(result: Result) -> Style:
    if result.fails:
        return "bad"
    return "good" if result.state in ("passed", "recorded") else "doubt"


def _cells(r: Result) -> dict[str, str]:
    against = ""
    if r.limit is not None:
        against = f"limit {r.limit:.3f}"
    elif r.baseline is not None:
        other = f" ({r.against})" if r.against in ("parent", "anchor", "run") else ""
        against = f"{r.baseline.value:.3f}{other}"
    floor, (low, high) = r.number.noise_floor, r.number.ends
    return {
        "model": fitted(r.source, NAME_WIDTH),
        "probe": fitted(r.probe, NAME_WIDTH),
        "n": r.items,
        "metric": r.number.label.removesuffix(" (15 equal-width bins)")
        + (f" ({r.number.below_zero})" if r.number.below_zero else ""),
        "value": f"{r.number.value:.3f}",
        "interval": f"[{low:.3f}, {high:.3f}]",
        "floor": "" if floor is None else f"{floor:.3f}",
        "coverage": "" if r.point is None or r.point.precision is None else r.point.covered,
        "acc": "" if r.number.metric == "accuracy" else f"{r.accuracy:.3f}",
        "against": against,
        "state": r.state_name + (f" ({', '.join(r.fired)})" if r.fired else ""),
    }


def _hints(results: Sequence[Result]) -> Iterator[str]:
    """Yield what is too small to decide, and what has become better."""
    for r in results:
        if r.state == "inconclusive":
            yield f"inconclusive: {r.subject}: {r.undecided}"
        store = "--calibration-accept=REASON would store it"
        if r.partly_better:
            yield f"{r.subject}: one component improved; {store}"
        if r.better:
            yield f"better than the baseline: {r.subject}; {store}"


def _cautions(results: Results) -> Iterator[str]:
    """Yield what a reader must know of the comparisons, whatever came of them."""
    for caution, about in results.cautions.items():
        subjects = list(dict.fromkeys(result.subject for result in about))
        more = f" and {len(subjects) - MOST_NAMED:,} more" if len(subjects) > MOST_NAMED else ""
        yield f"{', '.join(subjects[:MOST_NAMED])}{more}: {caution}"


def _false_alarms(results: Results) -> Iterator[str]:
    """Yield how many failures to expect from comparisons in which nothing changed."""
    total = results.expected_false_alarms
    if total is not None:
        # Rounded up: it is an upper bound.
        at_most = f"{max(math.ceil(total * 1000), 1) / 1000:.3f}"
        n = counted(sum(r.false_alarm_rate is not None for r in results.results), "comparison")
        yield f"expected false alarms, had nothing changed: at most {at_most} in {n}"


def _details(result: Result, width: int, whole: bool, unicode: bool, paint: Paint) -> Iterator[str]:
    """Yield headline and diagnosis of one verdict, and if ``whole`` its diagram and slices."""
    detail = result.detail
    if detail is None:
        return
    yield ""
    prose = min(width, PROSE)
    yield from (paint(line, _style(result)) for line in wrapped(result.headline, prose))
    if detail.diagnosis is not None:
        yield from wrapped(detail.diagnosis.paragraph, prose, "  ")
    if whole:
        bins = detail.candidate.reliability
        diagram = reliability_diagram(bins, width=width - 2, unicode=unicode)
        table = slices_table(detail.slices, left_out=detail.slices_left_out)
        yield from (f"  {line}" for line in (*diagram, *table))
