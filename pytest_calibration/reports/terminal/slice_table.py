"""The table of slices: which moved most, or are most off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.text.layout import columns, fitted, padded
from pytest_calibration.text.numbers import distinct

if TYPE_CHECKING:
    from pytest_calibration.diagnosis.slices import SliceMeasurement, SliceShift
    from pytest_calibration.reports.model import SliceRow

NAME_WIDTH: Final = 24
MOST: Final = 10


def slices_table(rows: Sequence[SliceRow], *, left_out: int = 0, most: int = MOST) -> Iterator[str]:
    """Yield the first slices, with a header and a closing line.

    ::

        slice          n        accuracy        signed gap   shift    +/-       q
        capital       60  0.867 -> 0.550  -0.012 -> +0.301  +0.313  0.132  <0.001  <- worse
        currency      48  0.708 -> 0.729  +0.031 -> +0.012  -0.019  0.094   0.913
        38 of 40 slices not shown; 5 too small to test; 1 moved (false discovery rate 5 %)

    ``+/-`` is the margin of the 95 % interval of the shift; a mark stands on slices that moved:
    ``worse`` or ``better``, or ``moved`` from one side of 0 to the other. Without a baseline, each
    slice's signed gap stands with its own interval.

    Args:
        rows: as ``model.slice_rows`` gives them.
        left_out: how many more slices there are.
        most: how many lines at most.
    """
    shifts, measured = shown_slices(rows)
    if shifts:
        yield from _shifted(shifts, left_out, most)
    elif measured:
        yield from _measured(measured, left_out, most)


def shown_slices(rows: Sequence[SliceRow]) -> tuple[list[SliceShift], list[SliceMeasurement]]:
    """Return the shifts of the slices, or without a baseline their measurements.

    Both are empty for fewer than two slices, since the whole probe says as much, and where all of
    them are too small to test.
    """
    shifts = [row.shift for row in rows if row.shift is not None]
    if len(rows) < 2 or (shifts and all(shift.q_value is None for shift in shifts)):
        return [], []
    return shifts, [] if shifts else [row.now for row in rows]


def _shifted(shifts: Sequence[SliceShift], left_out: int, most: int) -> Iterator[str]:
    from pytest_calibration.diagnosis.slices import FDR

    shown = shifts[: max(most, 0)]
    yield from shift_lines(shown)
    untested = sum(s.q_value is None for s in shifts)
    moved = sum(bool(s.change) for s in shifts)
    parts = _left_out(len(shifts) + left_out, len(shown))
    parts += [f"{untested:,} too small to test"] if untested else []
    yield "; ".join([*parts, f"{moved:,} moved (false discovery rate {100 * FDR:g} %)"])


def shift_lines(shifts: Sequence[SliceShift]) -> Iterator[str]:
    """Yield a header, and a line for each slice."""
    names, width = _names(shifts)
    yield (
        f"{'slice':<{width}}{'n':>8}{'accuracy':>16}{'signed gap':>18}{'shift':>8}{'+/-':>7}"
        f"{'q':>8}"
    )
    for name, s in zip(names, shifts, strict=True):
        line = (
            f"{padded(name, width)}{s.n:>8,}"
            f"  {s.accuracy_before:.3f} -> {s.accuracy_after:.3f}"
            f"  {s.gap_before:>+z6.3f} -> {s.gap_after:>+z6.3f}"
            f"{s.shift:>+z8.3f}{s.margin:>7.3f}{q_text(s.q_value):>8}"
        )
        yield f"{line}  <- {s.change}" if s.change else line


def q_text(q_value: float | None) -> str:
    """Write a q-value with the digits that show on which side of 0.05 it lies."""
    from pytest_calibration.diagnosis.slices import FDR

    if q_value is None:
        return "-"
    return "<0.001" if q_value < 0.0005 else distinct(q_value, FDR)[0]


def _measured(slices: Sequence[SliceMeasurement], left_out: int, most: int) -> Iterator[str]:
    shown = slices[: max(most, 0)]
    names, width = _names(shown)
    yield f"{'slice':<{width}}{'n':>8}{'accuracy':>10}{'signed gap':>12}  95 % interval"
    for name, s in zip(names, shown, strict=True):
        yield (
            f"{padded(name, width)}{s.n:>8,}{s.accuracy:>10.3f}{s.signed_gap:>+z12.3f}"
            f"  [{s.low:+z.3f}, {s.high:+z.3f}]"
        )
    yield from _left_out(len(slices) + left_out, len(shown))


def _names(slices: Sequence[SliceMeasurement | SliceShift]) -> tuple[list[str], int]:
    """Return the names as they are printed, and the columns of the widest."""
    names = [fitted(s.name or "(none)", NAME_WIDTH) for s in slices]
    return names, max(map(columns, ["slice", *names]))


def _left_out(total: int, shown: int) -> list[str]:
    return [f"{total - shown:,} of {total:,} slices not shown"] if total > shown else []
