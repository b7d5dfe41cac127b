"""The lines at the end of a session."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result, Results

COLUMNS: Final = (
    ("model", "<"),
    ("probe", "<"),
    ("n", ">"),
    ("metric", "<"),
    ("value", ">"),
    ("interval", "<"),
    ("floor", ">"),
    ("against", ">"),
    ("state", "<"),
)
# What a narrow terminal does without, in this order.
DISPENSABLE: Final = ("interval", "floor", "metric", "n", "against")
NAME_WIDTH: Final = 32
NARROW_NAME: Final = 14
# Longer lines of prose are hard to read.
PROSE: Final = 100
STYLES: Final[dict[str, Style]] = {
    "passed": "good",
    "recorded": "good",
    "inconclusive": "doubt",
}


def summary_lines(
    results: Results,
    *,
    width: int = WIDTH,
    verbosity: int = 0,
    unicode: bool = False,
    paint: Paint = unpainted,
) -> Iterator[str]:
    """Yield the table of verdicts, what else to know, and the count of each state.

    Args:
        results: the session.
        width: columns there are.
        verbosity: below 0, only what fails, was done or is wrong; 1 adds the diagnosis of every
            verdict, 2 its reliability diagram and slices.
        unicode: whether the terminal shows more than ASCII.
        paint: gives a piece of text its colour.
    """
    shown = [r for r in results.results if verbosity >= 0 or r.fails]
    yield from summary_table(shown, width=width, paint=paint)
    if verbosity >= 1:
        for result in shown:
            yield from _account(result, width, verbosity >= 2, unicode, paint)
    hints = [*_hints(results.results), *_alarms(results)] if verbosity >= 0 else []
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

    Columns that nobody fills are left out, and those that a reader can do without where the
    terminal is narrow; on a very narrow one each verdict takes lines of its own.
    """
    if not results:
        return
    rows = [_cells(result) for result in results]
    names = [name for name, _ in COLUMNS if any(row[name] for row in rows)]

    def room() -> int:
        # What follows the state in brackets may be broken off; the state may not.
        state = max(columns(r.state_name) for r in results)
        kept = sum(_width(rows, name) for name in names if name != "state")
        return kept + 2 * (len(names) - 1) + state

    for name in DISPENSABLE:
        if room() > width and name in names:
            names.remove(name)
    if room() > width:
        for row in rows:
            row |= {name: fitted(row[name], NARROW_NAME) for name in ("model", "probe")}
    if room() > width:
        for result, row in zip(results, rows, strict=True):
            yield fitted(result.subject, max(width, NARROWEST))
            yield f"  {row['metric']} {row['value']} {paint(result.state_name, _style(result))}"
        return
    widths = {name: _width(rows, name) for name in names}
    side = dict(COLUMNS)
    head = "  ".join(padded(name, widths[name], side[name]) for name in names)
    yield paint(head.rstrip(), "head")
    for result, row in zip(results, rows, strict=True):
        cells = [padded(row[name], widths[name], side[name]) for name in names]
        cells[-1] = paint(cells[-1].rstrip(), _style(result))
        yield "  ".join(cells)


def _width(rows: Sequence[Mapping[str, str]], name: str) -> int:
    return max(len(name), *(columns(row[name]) for row in rows))


def counts_line(results: Results, paint: Paint = unpainted) -> str:
    """Count the verdicts of each state: ``2 passed, 1 regressed``."""
    style = {r.state_name: _style(r) for r in results.results}
    return ", ".join(paint(f"{n} {said}", style[said]) for said, n in results.counts.items())


def _style(result: Result) -> Style:
    return "bad" if result.fails else STYLES.get(result.state, "doubt")


def _cells(r: Result) -> dict[str, str]:
    against = ""
    if r.limit is not None:
        against = f"limit {r.limit:.3f}"
    elif r.baseline is not None:
        against = f"{r.baseline.value:.3f}{'' if r.reference == 'baseline' else ' (parent)'}"
    floor, (low, high) = r.number.noise_floor, r.number.ends
    return {
        "model": fitted(r.model, NAME_WIDTH),
        "probe": fitted(r.probe, NAME_WIDTH),
        "n": f"{r.n:,}",
        "metric": r.number.label.replace(" (15 equal-width bins)", ""),
        "value": f"{r.number.value:.3f}",
        "interval": f"[{low:.3f}, {high:.3f}]",
        "floor": "" if floor is None else f"{floor:.3f}",
        "against": against,
        "state": r.state_name + (f" ({', '.join(r.fired)})" if r.fired else ""),
    }


def _hints(results: Sequence[Result]) -> Iterator[str]:
    """Say what is too small to decide, and what has become better."""
    for r in results:
        if r.state == "inconclusive":
            needed = f"; about {r.n_needed:,} would decide it" if r.n_needed else ""
            yield f"inconclusive: {r.subject}: n = {r.n:,} is too few{needed}"
        if r.improved and r.against == "baseline":
            yield (
                f"better than the baseline: {r.subject}; --calibration-accept=REASON would store it"
            )


def _alarms(results: Results) -> Iterator[str]:
    """Say how many failures to expect from comparisons that all had nothing to find."""
    total = results.expected_false_alarms
    if total is not None:
        # Rounded up: what is said is an upper bound.
        at_most = f"{math.ceil(total * 1000) / 1000:.3f}" if total >= 0.001 else "0.001"
        n = sum(r.false_alarm_rate is not None for r in results.results)
        yield (
            f"expected false alarms, had nothing changed: at most {at_most} in {n} "
            f"comparison{'s' * (n > 1)}"
        )


def _account(result: Result, width: int, whole: bool, unicode: bool, paint: Paint) -> Iterator[str]:
    """Tell what stands behind one verdict."""
    if result.detail is None:
        return
    yield ""
    prose = min(width, PROSE)
    yield from (paint(line, _style(result)) for line in wrapped(result.headline, prose))
    if result.detail.diagnosis is not None:
        yield from wrapped(result.detail.diagnosis.paragraph, prose, "  ")
    if whole:
        diagram = reliability_diagram(
            result.detail.candidate.reliability, width=width - 2, unicode=unicode
        )
        table = slices_table(result.detail.slices, left_out=result.detail.slices_left_out)
        yield from (f"  {line}" for line in (*diagram, *table))
