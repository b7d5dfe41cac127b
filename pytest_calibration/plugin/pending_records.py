"""Baselines that tests want to record: kept until the run has finished, then written together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_calibration.errors import BaselineConflict, BaselineError, UsageError

if TYPE_CHECKING:
    from pytest_calibration.baselines import Draft


class PendingRecords:
    """The records of a run that are not written yet.

    Args:
        limit: number of items that ``--calibration-limit`` allows; None for all.

    Attributes:
        drafts: records to write, by YAML file.
        conflicts: tests that want different content, by YAML file.
        looked_up: YAML files that tests looked for.
        folders: baseline folders of the tests.
    """

    def __init__(self, limit: int | None) -> None:
        self.drafts: dict[str, Draft] = {}
        self.conflicts: dict[str, list[str]] = {}
        self.looked_up: set[str] = set()
        self.folders: set[str] = set()
        self._limit = limit

    def add(self, draft: Draft) -> None:
        """Keep a record.

        Raises:
            BaselineConflict: another test of this process wants other content under the same key.
            UsageError: the record in its place has more items than ``--calibration-limit`` allows.
        """
        self.check_limit([Path(draft.key)])
        before = self.drafts.get(draft.key)
        if not self._put(draft) and before is not None:
            raise BaselineConflict(conflict_text(draft.key, [before.origin, draft.origin]))

    def _put(self, draft: Draft) -> bool:
        """Keep a record; return whether it agrees with what is kept."""
        before = self.drafts.get(draft.key)
        if before is not None and before.checksum != draft.checksum:
            self._add_conflict(draft.key, [before.origin, draft.origin])
            return False
        self.drafts[draft.key] = draft
        return True

    def _add_conflict(self, key: str, tests: Iterable[str]) -> None:
        self.conflicts[key] = list(dict.fromkeys([*self.conflicts.get(key, ()), *tests]))

    def drop(self, test: str) -> None:
        """Drop the records of a test, which is about to run again."""
        self.drafts = {key: d for key, d in self.drafts.items() if d.origin != test}

    def check_limit(self, paths: Iterable[Path]) -> None:
        """Raise UsageError where a file has more items than ``--calibration-limit`` allows."""
        if self._limit is None:
            return
        from pytest_calibration.baselines.record import stored_n

        for path in paths:
            n = stored_n(path) if path.is_file() else 0
            if n > self._limit:
                raise UsageError(
                    f"recording with --calibration-limit {self._limit}, below the {n:,} items "
                    f"that {path} holds: leave the limit out."
                )

    def write(self) -> tuple[int, list[str]]:
        """Write all records without conflict; return their number, and what went wrong."""
        written, errors = 0, []
        for key, draft in sorted(self.drafts.items()):
            if key not in self.conflicts:
                try:
                    draft.write()
                    written += 1
                except BaselineError as problem:
                    errors.append(str(problem))
        errors.extend(conflict_text(key, tests) for key, tests in sorted(self.conflicts.items()))
        return written, errors

    # --- between processes -------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, to travel to the controller."""
        return {
            "drafts": [asdict(draft) for draft in self.drafts.values()],
            "conflicts": self.conflicts,
            "looked_up": sorted(self.looked_up),
            "folders": sorted(self.folders),
        }

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the records of a worker."""
        from pytest_calibration.baselines import Draft

        self.looked_up.update(other["looked_up"])
        self.folders.update(other["folders"])
        for key, tests in other["conflicts"].items():
            self._add_conflict(key, tests)
        for values in other["drafts"]:
            self._put(Draft(**values))


def conflict_text(key: str, tests: Iterable[str]) -> str:
    """Return which tests want different content under one key, and what to do."""
    return (
        f"{key}: {' and '.join(tests)} record different predictions under one baseline; give "
        "each its own, calibration_baseline.named(...). Neither was written."
    )
