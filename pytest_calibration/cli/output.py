"""Output of the subcommands: percentages, tables, JSON, exit codes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.reports.model import Result

# Exit codes of a comparison; the second under --strict alone.
FAILED: Final = 1
INCONCLUSIVE: Final = 3


def percent(share: float) -> str:
    """Return a share as a percentage; one that is not 0 is never shown as 0."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def at_most(bound: float) -> str:
    """Return an upper bound of a share as a percentage, rounded up: it stays an upper bound."""
    return f"{math.ceil(1000 * bound - 1e-6) / 10:.1f} %"


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Yield rows with every column aligned to the right; the first row has the headers."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield indent + "  ".join(cells)


def verdict_lines(
    verdict: Verdict, width: int, verbose: bool, *, result: Result | None = None, more: str = ""
) -> Iterator[str]:
    """Yield the text that a test has: that of a failure, else what the verdict explains.

    Args:
        verdict: the verdict.
        width: columns of the terminal.
        verbose: all numbers of a failure.
        result: what a reader sees of it; by default with all detail, and no command that accepts.
        more: where a failure says that the rest is.
    """
    from pytest_calibration.reports.model import cautions_beside_a_pass, result_of
    from pytest_calibration.reports.terminal import failure_lines
    from pytest_calibration.text.layout import wrapped

    if verdict.state.fails:
        result = result or result_of(verdict, detailed=True, item_text=True)
        yield from failure_lines([result], width=width, verbose=verbose, more=more)
        return
    yield from wrapped(verdict.headline, width)
    for line in verdict.explanation:
        # A table keeps its columns.
        yield from [f"  {line}"] if "  " in line else wrapped(line, width, "  ")
    for caution in cautions_beside_a_pass(verdict):
        yield from wrapped(f"note: {caution}", width, "  ")


def as_json(tree: Mapping[str, Any]) -> str:
    """Return a tree as JSON: true is 1, false is 0, text stays; None and NaN are left out."""
    return json.dumps(_numbers(tree), indent=2, allow_nan=False)


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _numbers(v) for key, v in value.items() if not _absent(v)}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, int) else float(value)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
