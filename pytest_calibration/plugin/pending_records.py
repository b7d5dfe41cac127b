"""Baselines that tests want to record: kept until the run has finished, then written together."""

from __future__ import annotations

from base64 import b64decode, b64encode
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
        folders: baseline folders that are known already.

    Attributes:
        drafts: records to write, by YAML file and checksum; several of one file are a conflict.
        looked_up: YAML files that tests looked for.
        folders: baseline folders, of the tests and beside those that were looked for.
        written: YAML files that were written.
        problems: what went wrong with others, by YAML file.
    """

    def __init__(self, limit: int | None, folders: set[str]) -> None:
        self.drafts: dict[str, dict[str, Draft]] = {}
        self.looked_up: set[str] = set()
        self.folders = folders
        self.written: list[str] = []
        self.problems: dict[str, str] = {}
        self._limit = limit

    def add(self, draft: Draft) -> None:
        """Keep a record.

        Raises:
            BaselineConflict: another test of this process wants other content in the same file.
            UsageError: the record in its place has more items than ``--calibration-limit`` allows.
        """
        self.check_limit([Path(draft.key)])
        self._keep(draft)
        if len(self.drafts[draft.key]) > 1:
            raise BaselineConflict(self._conflict(draft.key))

    def _keep(self, draft: Draft) -> None:
        self.drafts.setdefault(draft.key, {})[draft.checksum] = draft

    def drop(self, test: str) -> None:
        """Drop the records of a test, which is about to run again."""
        left = {
            key: {checksum: draft for checksum, draft in drafts.items() if draft.origin != test}
            for key, drafts in self.drafts.items()
        }
        self.drafts = {key: drafts for key, drafts in left.items() if drafts}

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

    def write(self) -> None:
        """Write all records without conflict, and note what was written and what was not."""
        for key, drafts in sorted(self.drafts.items()):
            if len(drafts) > 1:
                self.problems[key] = self._conflict(key)
                continue
            try:
                next(iter(drafts.values())).write()
                self.written.append(key)
            except BaselineError as problem:
                self.problems[key] = str(problem)

    def _conflict(self, key: str) -> str:
        tests = dict.fromkeys(draft.origin for draft in self.drafts[key].values())
        return (
            f"{key}: {' and '.join(tests)} record different predictions under one baseline; give "
            "each its own, calibration_baseline.named(...). None was written."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, to travel to the controller."""
        drafts = [asdict(d) for drafts in self.drafts.values() for d in drafts.values()]
        return {
            "drafts": [d | {"items": b64encode(d["items"]).decode("ascii")} for d in drafts],
            "looked_up": sorted(self.looked_up),
            "folders": sorted(self.folders),
        }

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the records of a worker, as :meth:`as_dict` returns them."""
        from pytest_calibration.baselines import Draft

        self.looked_up.update(other["looked_up"])
        self.folders.update(other["folders"])
        for values in other["drafts"]:
            self._keep(Draft(**values | {"items": b64decode(values["items"])}))
