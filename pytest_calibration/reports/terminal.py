"""Plain text for a terminal: the reliability table of one model, the summary table of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.metrics import BinTable

BAR: Final = 20


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
