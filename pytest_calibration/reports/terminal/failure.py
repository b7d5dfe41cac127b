"""The text of a failing test: what happened, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.diagnosis import figure_lines
from pytest_calibration.reports.item_lines import item_heading, item_lines
from pytest_calibration.reports.terminal.diagram import reliability_diagram
from pytest_calibration.reports.terminal.slice_table import shift_lines, slices_table
from pytest_calibration.text.layout import WIDTH, wrapped
from pytest_calibration.text.numbers import counted, distinct
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import ComponentRow, Detail, Item, Remedy, Result

WORST: Final = 3
# Lines of the short text for one verdict, and for each further one.
MOST: Final = 25
RECALIBRATE: Final = "pytest-calibration recalibrate --model=SPEC (or a file of predictions)"
MORE: Final = 12


def failure_lines(
    failing: Sequence[Result], *, width: int = WIDTH, verbose: bool = False, more: str = ""
) -> Iterator[str]:
    """Yield the lines of a failure: the diagnosis, then the numbers, then the command that accepts.

    The short text has at most 25 lines at 88 columns for one verdict, and 12 more for each further
    one; it says where the rest is.

    Args:
        failing: the verdicts that fail the test, all on the same predictions.
        width: columns of a line.
        verbose: all numbers, with the reliability diagram and the figures of the diagnosis.
        more: where the short text says that the rest is; by default as in a test or outside one.
    """
    yield from _full(failing, width) if verbose else _short(failing, width, more)


# --- the short text ------------------------------------------------------------------------------


def _short(failing: Sequence[Result], width: int, more: str) -> Iterator[str]:
    first = failing[0]
    if first.state == "no_baseline" and len(failing) == 1:
        yield from _not_stored(first)
        return
    headlines = list(dict.fromkeys(visible(result.headline) for result in failing))
    blocks = [_compared(result, width, len(failing) > 1) for result in failing]
    # What could not be compared has no fault that its items could show, or a diagnosis explain.
    was_compared = bool(first.components) or first.limit is not None
    if first.detail is not None and was_compared:
        blocks.append(_slices_and_items(first.detail, width))
    ends = [*_recalibration(first)] if was_compared else []
    ends += [f"{remedy.purpose}: {remedy.command}" for remedy in _remedies(failing)]
    ends.append(f"more: {more or _where_more_is(first)}")
    if first.diagnosis is not None and was_compared:
        used = sum(map(len, (headlines, *blocks, ends))) + len(blocks)
        room = MOST + MORE * (len(failing) - 1) - used
        blocks.insert(0, _paragraph(first.diagnosis.sentences, room, width))
    yield from headlines
    for i, block in enumerate(filter(None, blocks)):
        yield from [""] * bool(i)
        yield from (f"  {line}" for line in block)
    yield from ends


def _not_stored(result: Result) -> Iterator[str]:
    """Yield where a baseline was looked for, what was measured, and what records it."""
    number, items = result.number, counted(result.n, result.unit)
    if result.asked_of:
        items = f"the first {result.n:,} of {counted(result.asked_of, result.unit)}"
    low, high = number.ends
    yield f"{visible(result.headline)}: {visible(result.reason)}"
    yield (
        f"  measured: {number.label} {number.value:.3f} [{low:.3f}, {high:.3f}], accuracy "
        f"{result.accuracy:.3f}, on {items}"
    )
    for remedy in _remedies([result]):
        yield f"{remedy.purpose}: {remedy.command}"


def _paragraph(sentences: Sequence[str], room: int, width: int) -> list[str]:
    """Return as many sentences as fit into the room, but at least the first."""
    lines: list[str] = []
    for n in range(1, len(sentences) + 1):
        longer = list(wrapped(" ".join(sentences[:n]), width - 2))
        if n > 1 and len(longer) > room:
            break
        lines = longer
    return lines


def _compared(result: Result, width: int, several: bool) -> list[str]:
    """Return reason, limit or components, and notes of one verdict."""
    lines = [*wrapped(result.reason, width - 2)]
    if result.components:
        at = "" if result.point is None else f" at {result.point.name}"
        lines += [f"compared with {visible(result.reference)}{at}:"] if several else []
        lines += component_table(result.components, decided=result.state != "inconclusive")
    else:
        lines += map(visible, result.findings)
    for note in (*result.cautions, *result.notes):
        lines += wrapped(f"note: {note}", width - 2)
    return lines


def component_table(components: Sequence[ComponentRow], *, decided: bool = True) -> Iterator[str]:
    """Yield a header, and a line for each component; a mark stands on those that fail.

    Args:
        components: of one comparison.
        decided: whether the comparison has items enough to fail.
    """
    fails = "  <- fails" if decided else "  <- would fail"
    heads = f"{'before':>9}{'after':>9}{'worse by':>10}{'at least':>10}{'allowed':>9}"
    yield f"{'component':<18}{heads}"
    for c in components:
        if c.before is None or c.after is None or c.worsening is None or c.bound is None:
            yield f"{c.name:<18}  not applicable: {visible(c.unavailable)}"
            continue
        # As many digits as show which of the two is larger.
        bound, tolerance = distinct(c.bound, c.tolerance)
        mark = "  (changed sides, and is no larger)" if c.changed_sides else fails * c.fired
        yield (
            f"{visible(c.name):<18}{c.before:>z9.3f}{c.after:>z9.3f}{c.worsening:>z10.3f}"
            f"{bound:>10} {tolerance:>8}{mark}"
        )
        yield from (f"{'':<18}  {remark}" for remark in c.remarks)


def _slices_and_items(detail: Detail, width: int) -> list[str]:
    """Return the first slices that moved, and the items to name, a line each."""
    shifts = [row.shift for row in detail.slices if row.shift is not None and row.shift.change]
    lines = [*shift_lines(shifts[:WORST])] if shifts else []
    title, items = detail.named
    if items:
        lines += wrapped(f"{title}:", width - 2)
        lines += [item_heading(item, width - 2) for item in items[:WORST]]
    return lines


def _remedies(failing: Sequence[Result]) -> list[Remedy]:
    return list(dict.fromkeys(r.remedy for r in failing if r.remedy is not None))


def _recalibration(result: Result) -> Iterator[str]:
    """Yield what finds the temperature, where one of the logits corrects what is wrong."""
    d = result.diagnosis
    fit = None if d is None or d.problem != "scaling" else d.temperature
    if fit is not None and fit.scale == "logits":
        yield f"to recalibrate: {RECALIBRATE}"


def _where_more_is(result: Result) -> str:
    if result.test:
        return "pytest -v, or --calibration-report=FILE.html"
    asked = (
        "trend(steps, predictions)" if result.against == "run" else "compare(predictions, baseline)"
    )
    return f"{f'{asked}.explain() and ' * bool(result.baseline)}diagnose()"


# --- the full text -------------------------------------------------------------------------------


def _full(failing: Sequence[Result], width: int) -> Iterator[str]:
    for result in failing:
        yield visible(result.headline)
        if result.diagnosis is not None:
            yield from wrapped(result.diagnosis.paragraph, width, "  ")
            yield ""
        yield from (f"  {visible(line)}" for line in result.explanation)
        yield ""
    detail = failing[0].detail
    blocks: list[Iterator[str]] = []
    if detail is not None:
        blocks.append(reliability_diagram(detail.candidate.reliability, width=width - 2))
    for result in failing:
        if result.detail is not None:
            slices = result.detail.slices
            blocks.append(slices_table(slices, left_out=result.detail.slices_left_out))
        if result.diagnosis is not None:
            figures = (figure for figure in result.diagnosis.figures if not figure.restates)
            blocks.append(figure_lines(figures))
    if detail is not None and detail.worst:
        blocks.append(named_lines(*detail.named, width=width - 2))
    for i, block in enumerate(filter(None, map(list, blocks))):
        yield from [""] * bool(i)
        yield from (f"  {visible(line)}" for line in block)
    yield from (f"  {line}" for line in _recalibration(failing[0]))
    for remedy in _remedies(failing):
        yield from ("", f"{remedy.purpose}:", f"  {remedy.command}")


def named_lines(
    title: str, items: Sequence[Item], *, most: int = WORST, width: int = WIDTH
) -> Iterator[str]:
    """Yield what these items are, and the first of them; see ``Detail.named``."""
    yield from wrapped(f"{title}:", width)
    for item in items[:most]:
        yield from item_lines(item, width=width)
