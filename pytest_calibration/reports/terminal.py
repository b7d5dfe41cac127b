"""Plain text for a terminal: the reliability table of one model, the summary table of a run."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.metrics import BinTable
    from pytest_calibration.slices import SliceShift

BAR: Final = 20
NAME_WIDTH: Final = 24


def reliability_table(table: BinTable) -> Iterator[str]:
    """Yield one line per non-empty bin: range, count, confidence, accuracy, and a bar of the gap.

    ::

          confidence        n   mean    acc     gap
          (0.40, 0.47]     57  0.434  0.491  -0.057  --
          (0.93, 1.00]    211  0.981  0.640  +0.341  ++++++++++++++

    A ``+`` stands for 0.025 of over-confidence, a ``-`` for as much under-confidence.
    """
    yield f"  {'confidence':<14}{'n':>7}{'mean':>7}{'acc':>7}{'gap':>8}"
    for b in range(len(table)):
        if not table.count[b]:
            continue
        gap = float(table.gap[b])
        bar = ("+" if gap > 0 else "-") * min(BAR, round(abs(gap) / 0.025))
        # The first bin holds 0, so it is closed on both sides.
        opening = "[" if b == 0 else "("
        line = (
            f"  {opening}{table.lower[b]:.2f}, {table.upper[b]:.2f}]{int(table.count[b]):>9,}"
            f"{table.confidence[b]:>7.3f}{table.accuracy[b]:>7.3f}{gap:>+8.3f}  {bar}"
        )
        yield line.rstrip()


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


def summary_table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield an aligned table of verdicts, one row each, with a header.

    Args:
        rows: mappings with the names of ``COLUMNS``; a missing one is left empty.
    """
    names = [name for name, _ in COLUMNS if any(row.get(name) for row in rows)]
    side = dict(COLUMNS)
    width = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    yield "  ".join(f"{name:{side[name]}{width[name]}}" for name in names).rstrip()
    for row in rows:
        cells = (f"{row.get(name, ''):{side[name]}{width[name]}}" for name in names)
        yield "  ".join(cells).rstrip()


def counts_line(states: Iterable[str]) -> str:
    """Count states in the order in which they are first seen: ``2 passed, 1 regressed``."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items())


def slices_table(shifts: Sequence[SliceShift], *, most: int = 10) -> Iterator[str]:
    """Yield the slices that moved most, one line each, with a header and a closing line.

    ::

          slice          n        accuracy        signed gap   shift    +/-       q
          capital       60  0.867 -> 0.550  -0.012 -> +0.301  +0.313  0.132  <0.001  <- worse
          currency      48  0.708 -> 0.729  +0.031 -> +0.012  -0.019  0.094   0.913
          38 of 40 slices not shown; 5 too small to test; 1 moved (false discovery rate 5 %)

    ``+/-`` is the margin of the 95 % interval of the shift; a mark
    stands on what moved: ``worse`` or ``better``, or ``moved`` from one side of 0 to the other.

    Args:
        shifts: as ``slices.shifts`` gives them, the surest first.
        most: how many lines at most.

    Nothing is printed for fewer than two slices, where the whole probe says as much, nor where all
    of them are too small to test.
    """
    if len(shifts) < 2 or all(s.untested for s in shifts):
        return
    from pytest_calibration.slices import FDR
    from pytest_calibration.verdict import distinct

    shown = shifts[: max(most, 0)]
    names = [_fitted(shift.name or "(none)", NAME_WIDTH) for shift in shown]
    width = max(map(_columns, ("slice", *names)))
    yield (
        f"  {'slice':<{width}}{'n':>8}{'accuracy':>16}{'signed gap':>18}{'shift':>8}{'+/-':>7}"
        f"{'q':>8}"
    )
    for name, s in zip(names, shown, strict=True):
        q = "-" if s.untested else "<0.001" if s.q_value < 0.0005 else distinct(s.q_value, FDR)[0]
        line = (
            f"  {name}{' ' * (width - _columns(name))}{s.n:>8,}"
            f"  {s.accuracy_before:.3f} -> {s.accuracy_after:.3f}"
            f"  {s.gap_before:>+z6.3f} -> {s.gap_after:>+z6.3f}"
            f"{s.shift:>+z8.3f}{s.margin:>7.3f}{q:>8}{s.change and f'  <- {s.change}'}"
        )
        yield line.rstrip()
    yield "  " + _slices_summary(shifts, len(shown), FDR)


def _slices_summary(shifts: Sequence[SliceShift], shown: int, rate: float) -> str:
    """Count what the table leaves out, and what moved."""
    total, moved = len(shifts), sum(shift.significant for shift in shifts)
    untested = sum(bool(shift.untested) for shift in shifts)
    parts = []
    if total > shown:
        parts.append(f"{total - shown:,} of {total:,} slices not shown")
    if untested:
        parts.append(f"{untested:,} too small to test")
    parts.append(f"{moved:,} moved (false discovery rate {100 * rate:g} %)")
    return "; ".join(parts)


def _fitted(text: str, width: int) -> str:
    """Escape what a terminal would obey, and cut what is wider than ``width`` columns."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if _columns(plain) <= width:
        return plain
    while _columns(plain) > width - 3:
        plain = plain[:-1]
    return f"{plain}..."


def _columns(text: str) -> int:
    """Columns a text takes: two for wide characters, none for what combines with the last."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
