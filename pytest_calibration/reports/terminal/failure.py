"""The story of one failing test: what happened, why, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.diagnosis import figure_lines
from pytest_calibration.reports.item_lines import item_lines
from pytest_calibration.reports.terminal.diagram import reliability_diagram
from pytest_calibration.reports.terminal.slice_table import slices_table
from pytest_calibration.text.layout import WIDTH, wrapped
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Item, Result

WORST: Final = 3


def failure_lines(failing: Sequence[Result], *, width: int = WIDTH) -> Iterator[str]:
    """Yield the lines of a failure: in plain words first, then the numbers, then what to do.

    Args:
        failing: the verdicts that fail the test, all on the same predictions.
        width: columns there are.
    """
    for result in failing:
        yield visible(result.headline)
        diagnosis = result.diagnosis
        if diagnosis is not None:
            yield from wrapped(diagnosis.paragraph, width, "  ")
            yield ""
        yield from (f"  {visible(line)}" for line in result.explanation)
        yield ""
    detail = failing[0].detail
    if detail is not None:
        diagram = reliability_diagram(detail.candidate.reliability, width=width - 2)
        yield from (f"  {line}" for line in diagram)
    for result in failing:
        if result.detail is None:
            continue
        table = [*slices_table(result.detail.slices, left_out=result.detail.slices_left_out)]
        diagnosis = result.diagnosis
        lines = (
            []
            if diagnosis is None
            else [*figure_lines(f for f in diagnosis.figures if not f.restates)]
        )
        for block in (table, lines):
            if block:
                yield ""
                yield from (f"  {visible(line)}" for line in block)
    if detail is not None and detail.worst:
        yield ""
        yield from (f"  {line}" for line in worst_lines(detail.worst, width=width - 2))
    for remedy in dict.fromkeys(filter(None, (result.remedy for result in failing))):
        yield ""
        yield f"{remedy.purpose}:"
        yield f"  {remedy.command}"


def worst_lines(worst: Sequence[Item], *, most: int = WORST, width: int = WIDTH) -> Iterator[str]:
    """Yield the most over-confident wrong items, with a header."""
    yield f"surest wrong answers{':' if worst else ': none'}"
    for item in worst[:most]:
        yield from item_lines(item, width=width)
