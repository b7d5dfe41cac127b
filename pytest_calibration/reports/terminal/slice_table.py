"""Where a model is off, or where it moved: one line per slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.text.layout import columns, fitted, padded
from pytest_calibration.text.numbers import distinct

if TYPE_CHECKING:
    from pytest_calibration.reports.model import SliceRow

NAME_WIDTH: Final = 24
MOST: Final = 10


def slices_table(rows: Sequence[SliceRow], *, left_out: int = 0, most: int = MOST) -> Iterator[str]:
    """Yield the slices that moved most, or are off most, with a header and a closing line.

    ::

        slice          n        accuracy        signed gap   shift    +/-       q
        capital       60  0.867 -> 0.550  -0.012 -> +0.301  +0.313  0.132  <0.001  <- worse
        currency      48  0.708 -> 0.729  +0.031 -> +0.012  -0.019  0.094   0.913
        38 of 40 slices not shown; 5 too small to test; 1 moved (false discovery rate 5 %)

    ``+/-`` is the margin of the 95 % interval of the shift; a mark stands on what moved: ``worse``
    or ``better``, or ``moved`` from one side of 0 to the other. Without a baseline, each slice's
    signed gap stands with its own interval.

    Args:
        rows: as ``results.slice_rows`` gives them, the surest first.
        left_out: how many more slices there are.
        most: how many lines at most.

    Nothing is printed for fewer than two slices, where the whole probe says as much, nor where all
    of them are too small to test.
    """
    if len(rows) < 2:
        return
    moved = [row for row in rows if row.shift is not None]
    if moved and all(row.q_value is None for row in moved):
        return
    yield from _moved(moved, left_out, most) if moved else _standing(rows, left_out, most)


def _moved(rows: Sequence[SliceRow], left_out: int, most: int) -> Iterator[str]:
    from pytest_calibration.diagnosis.slices import FDR

    shown, width = _names(rows, most)
    yield (
        f"{'slice':<{width}}{'n':>8}{'accuracy':>16}{'signed gap':>18}{'shift':>8}{'+/-':>7}"
        f"{'q':>8}"
    )
    for name, s in shown:
        q = s.q_value
        said = "-" if q is None else "<0.001" if q < 0.0005 else distinct(q, FDR)[0]
        margin = "-" if s.margin is None else f"{s.margin:.3f}"
        line = (
            f"{padded(name, width)}{s.n:>8,}"
            f"  {s.accuracy_before:.3f} -> {s.accuracy:.3f}"
            f"  {s.gap_before:>+z6.3f} -> {s.signed_gap:>+z6.3f}"
            f"{s.shift:>+z8.3f}{margin:>7}{said:>8}{s.change and f'  <- {s.change}'}"
        )
        yield line.rstrip()
    untested = sum(row.q_value is None for row in rows)
    parts = _left_out(len(rows) + left_out, len(shown))
    if untested:
        parts.append(f"{untested:,} too small to test")
    parts.append(
        f"{sum(bool(row.change) for row in rows):,} moved (false discovery rate {100 * FDR:g} %)"
    )
    yield "; ".join(parts)


def _standing(rows: Sequence[SliceRow], left_out: int, most: int) -> Iterator[str]:
    shown, width = _names(rows, most)
    yield f"{'slice':<{width}}{'n':>8}{'accuracy':>10}{'signed gap':>12}  95 % interval"
    for name, s in shown:
        yield (
            f"{padded(name, width)}{s.n:>8,}{s.accuracy:>10.3f}{s.signed_gap:>+z12.3f}"
            f"  [{s.low:+z.3f}, {s.high:+z.3f}]"
        )
    yield from _left_out(len(rows) + left_out, len(shown))


def _names(rows: Sequence[SliceRow], most: int) -> tuple[list[tuple[str, SliceRow]], int]:
    shown = [(fitted(row.name or "(none)", NAME_WIDTH), row) for row in rows[: max(most, 0)]]
    return shown, max(columns("slice"), *(columns(name) for name, _ in shown), 0)


def _left_out(total: int, shown: int) -> list[str]:
    return [f"{total - shown:,} of {total:,} slices not shown"] if total > shown else []
