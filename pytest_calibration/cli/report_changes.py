"""Two JSON reports side by side: which verdicts turned, and how their numbers moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pytest_calibration.reports.model import Result

NAME: Final = 32


@dataclass(frozen=True)
class Change:
    """One verdict in two reports; at least one of them has it.

    Attributes:
        old: in the earlier report; None where it is not there.
        new: in the later report; None where it is not there.
    """

    old: Result | None
    new: Result | None

    @property
    def turned(self) -> str:
        """``failing`` or ``not failing`` where the verdict turned so; else empty."""
        if self.old is None or self.new is None or self.old.fails == self.new.fails:
            return ""
        return "failing" if self.new.fails else "not failing"

    @property
    def one(self) -> Result:
        """The later verdict, else the earlier."""
        result = self.new or self.old
        assert result is not None
        return result

    def plain(self) -> dict[str, Any]:
        """Return the change as builtin values."""
        sides = {"before": self.old, "after": self.new}
        return {
            "probe": self.one.probe,
            "metric": self.one.number.label,
            "turned": self.turned,
            **{name: None if side is None else _side(side) for name, side in sides.items()},
        }


def _side(r: Result) -> dict[str, Any]:
    numbers = {"value": r.number.value, "accuracy": r.accuracy}
    return {"test": r.test, "model": r.model, "state": r.state_name, "fails": r.fails, **numbers}


def changes(old: Iterable[Result], new: Iterable[Result]) -> list[Change]:
    """Pair the verdicts of two reports; those that the earlier one alone has come last.

    Verdicts pair by probe, metric and what they were compared with; several such by their order:
    names of models and tests differ between checkpoints.
    """
    before, after = _keyed(old), _keyed(new)
    keys = [*after, *(key for key in before if key not in after)]
    return [Change(before.get(key), after.get(key)) for key in keys]


def _keyed(results: Iterable[Result]) -> dict[Hashable, Result]:
    seen: Counter[Hashable] = Counter()
    keyed: dict[Hashable, Result] = {}
    for r in results:
        key = (r.probe, r.number.label, r.against, r.limit is not None)
        seen[key] += 1
        keyed[key, seen[key]] = r
    return keyed


def read_changes(file: str, against: str) -> list[Change]:
    """Read two JSON reports, ``against`` the earlier one, and pair their verdicts.

    Raises:
        ReportError: one of them cannot be read.
    """
    from pytest_calibration.reports.json_report import read_json

    new, old = read_json(Path(file)), read_json(Path(against))
    return changes(old.results, new.results)


def change_lines(found: Iterable[Change]) -> Iterator[str]:
    """Yield a table with a row for each verdict, and how many turned."""
    from pytest_calibration.text.layout import columns, padded

    found = list(found)
    rows = [("probe", "model", "metric", "value", "accuracy", "verdict"), *map(_row, found)]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(padded, row, widths)).rstrip()
    turned = Counter(change.turned for change in found)
    yield ""
    yield f"{turned['failing']:,} turned failing, {turned['not failing']:,} turned not failing"
    yield "(a report does not hold every answer: two dumps show which answers turned wrong)"


def _row(change: Change) -> tuple[str, ...]:
    from pytest_calibration.text.layout import fitted

    def moved(before: str | None, after: str | None) -> str:
        return " -> ".join("none" if text is None else text for text in (before, after))

    old, new = (None if side is None else _side(side) for side in (change.old, change.new))
    names = dict.fromkeys(fitted(side["model"], NAME) for side in (old, new) if side)
    numbers = [
        moved(*(None if side is None else f"{side[name]:.3f}" for side in (old, new)))
        for name in ("value", "accuracy")
    ]
    verdict = moved(*(None if side is None else side["state"] for side in (old, new)))
    return (
        fitted(change.one.probe, NAME),
        " -> ".join(filter(None, names)),
        change.one.number.label.removesuffix(" (15 equal-width bins)"),
        *numbers,
        verdict + (f"  <- turned {change.turned}" if change.turned else ""),
    )
