"""A folder of baselines: which file belongs to which probe, reading, and atomic writing."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pytest_calibration.baselines.record import (
    Record,
    Summary,
    anchored_here,
    is_record,
    read_record,
    read_unchecked,
    stored_bytes,
    stored_state,
    summarise,
    to_yaml,
)
from pytest_calibration.errors import BaselineError, MissingBaseline, UnreadableBaseline, UsageError
from pytest_calibration.files import file_stem, locked, readable_stem, write_atomically
from pytest_calibration.predictions import Predictions, PredictionsLike, as_predictions

DEFAULT_NAME: Final = "default"


def is_reason(text: str) -> bool:
    """Whether a text, given as the reason why a record is replaced, says anything to a reviewer."""
    return any(map(str.isalnum, text)) and text.strip("<>[]{}()$'\" ").lower() != "reason"


@dataclass(frozen=True)
class Policy:
    """What a run may write.

    Attributes:
        record: add records that are missing.
        accept: the reason with which records may be replaced; None forbids it.
        anchor: the reason with which drift is counted from what is then stored; None keeps the
            anchor.
    """

    record: bool = False
    accept: str | None = None
    anchor: str | None = None


@dataclass(frozen=True)
class Draft:
    """A record ready to be written; plain data, so that processes can exchange it.

    Attributes:
        folder: where the files go.
        file: name of the YAML file, of which ``text`` is the content.
        items_file: name of the items file, of which ``items`` is the content.
        checksum: identifies the content.
        anchor_file: name of the items file of the anchor, which stays.
        replaces: what was stored when this was judged, as ``record.stored_state`` gives it; empty
            for nothing.
        origin: the test (node id) that recorded it.
    """

    folder: str
    file: str
    text: str
    items_file: str
    items: bytes
    checksum: str
    anchor_file: str = ""
    replaces: str = ""
    origin: str = ""

    @property
    def key(self) -> str:
        """The YAML file it becomes: one key, one file."""
        return str(Path(self.folder) / self.file)

    def write(self) -> Path:
        """Write items first, then the YAML that names them; remove the items of what it replaced.

        Those of the anchor stay.

        Only what was judged is replaced, and nothing where nothing was stored. What another run
        has written since then stays; if it wrote just this, there is nothing left to do.

        Raises:
            BaselineError: the folder cannot be written, or another run wrote there meanwhile.
        """
        path = Path(self.key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.parent):
                if stored_state(path) != self.replaces:
                    self._check_same(path)
                else:
                    self._write(path)
        except (OSError, UnicodeEncodeError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise BaselineError(
                f"{path}: cannot be written ({why}); nothing was recorded."
            ) from None
        return path

    def _check_same(self, path: Path) -> None:
        """Raise BaselineError where another run has not written just this."""
        if read_unchecked(path).get("checksum") == self.checksum:
            return
        what = "compared with it" if self.replaces else "found nothing stored there"
        raise BaselineError(
            f"{path}: was changed by another process after this run {what}; it stays as it is, "
            "and what this run measured was not recorded: run again, to compare with it."
        )

    def _write(self, path: Path) -> None:
        write_atomically(path.with_name(self.items_file), self.items)
        write_atomically(path, self.text.encode())
        # Those of the replaced record, and what a killed write left: under the lock no other
        # process is about to name them.
        for stale in items_files(path):
            if stale.name not in (self.items_file, self.anchor_file):
                # A file that another program holds open stays; nothing names it any more.
                with contextlib.suppress(OSError):
                    stale.unlink()


def _draft(path: Path, summary: Summary, items: bytes, replaces: str) -> Draft:
    """Return the draft of a record with this content."""
    return Draft(
        folder=str(path.parent),
        file=path.name,
        text=to_yaml(summary),
        items_file=summary["items"]["file"],
        items=items,
        checksum=summary["checksum"],
        anchor_file=summary["anchor"].get("items", {}).get("file", ""),
        replaces=replaces,
    )


def _place(folder: Path, name: str, ending: str = "") -> Path:
    """Return where the files of a probe, or of a baseline name, lie in a folder.

    What was stored before names with capitals had a digest stays where it is.
    """
    place = folder / f"{file_stem(name)}{ending}"
    before = f"{readable_stem(name)}{ending}"
    if before == place.name or os.path.exists(place) or not os.path.isdir(folder):
        return place
    # Not `exists`, which on some disks finds a file whose name differs in its capitals.
    return folder / before if before in os.listdir(folder) else place


def items_files(path: Path) -> list[Path]:
    """Return the items files that belong to a YAML file."""
    name = re.compile(rf"{re.escape(path.stem)}\.items-[0-9a-f]{{12}}\.npz")
    return [file for file in path.parent.glob("*.npz") if name.fullmatch(file.name)]


def stored_records(folder: Path) -> list[Path]:
    """Return the YAML files below a folder that are records."""
    # A folder whose name no file system takes holds none.
    found = sorted(folder.rglob("*.yaml")) if os.path.isdir(folder) else []
    return [path for path in found if is_record(path)]


def remove_record(path: Path) -> None:
    """Remove a record and its items, the YAML first: it must not name a file that is gone."""
    with locked(path.parent):
        for file in [path, *items_files(path)]:
            file.unlink(missing_ok=True)


@dataclass(frozen=True, repr=False)
class Baselines:
    """The baselines stored in one folder.

    Attributes:
        path: the folder; it need not exist.
        name: which baseline of a probe; ``default`` unless several stages are kept.
        policy: what may be written.
        submit: takes a draft; it writes it at once unless a test session collects drafts first.
        asked: called with the file of every record that is looked for.
    """

    path: Path
    name: str = DEFAULT_NAME
    policy: Policy = field(default_factory=Policy)
    submit: Callable[[Draft], object] = Draft.write
    asked: Callable[[Path], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise UsageError(f"the folder of baselines must be text or a Path, got {self.path!r}.")
        object.__setattr__(self, "path", Path(self.path))

    def __repr__(self) -> str:
        # Printed beside every failing test, where the policy does not matter.
        name = "" if self.name == DEFAULT_NAME else f", name={self.name!r}"
        return f"Baselines({str(self.path)!r}{name})"

    def named(self, name: str) -> Baselines:
        """Return the store of another baseline name, for several stages or models.

        Raises:
            UsageError: the name is empty, or no text.
        """
        if not isinstance(name, str):
            raise UsageError(f"a baseline name must be text, got {name!r}.")
        if not name:
            raise UsageError("a baseline name must not be empty.")
        return replace(self, name=name)

    @property
    def folder(self) -> Path:
        """Where this name's files are: the folder itself, or a subfolder for another name."""
        return self.path if self.name == DEFAULT_NAME else _place(self.path, self.name)

    def path_of(self, probe: str) -> Path:
        """Return the YAML file of a probe."""
        return _place(self.folder, probe, ".yaml")

    def find(self, probe: str) -> Record | None:
        """Return the record of a probe, or None where nothing is stored.

        Raises:
            UnreadableBaseline: a record is stored and cannot be trusted.
        """
        path = self.path_of(probe)
        if self.asked is not None:
            self.asked(path)
        try:
            return read_record(path, probe, self.name) if os.path.lexists(path) else None
        except UnreadableBaseline:
            if os.path.lexists(path):
                raise
            # Another process has removed it just now.
            return None

    def probes(self) -> list[str]:
        """Return the probes of which a record is stored here, by the names of their files."""
        found = [path for path in stored_records(self.folder) if path.parent == self.folder]
        return [str(read_unchecked(path).get("probe")) for path in found]

    def load(self, probe: str) -> Record:
        """Return the record of a probe.

        Raises:
            MissingBaseline: nothing is stored.
            UnreadableBaseline: a record is stored and cannot be trusted.
        """
        record = self.find(probe)
        if record is None:
            raise MissingBaseline(
                f"no baseline of probe {probe!r} is stored in {self.folder}; record it first."
            )
        return record

    def draft(
        self,
        predictions: Predictions,
        *,
        previous: Record | None = None,
        reason: str | None = None,
        anchor: str | None = None,
    ) -> Draft:
        """Prepare what would be stored.

        Args:
            predictions: what is stored.
            previous: the record that is replaced, whose hand edits and history are kept; None
                where none is stored.
            reason: why it is replaced.
            anchor: why drift is counted from these predictions on; None keeps the anchor.
        """
        predictions.check_whole("a baseline holds")
        path = self.path_of(predictions.probe)
        summary, payload = summarise(
            predictions,
            self.name,
            lambda digest: f"{path.stem}.items-{digest}.npz",
            previous=previous,
            reason=reason,
            anchor=anchor,
        )
        return _draft(path, summary, payload, "" if previous is None else previous.state)

    def anchor_draft(self, record: Record, reason: str) -> Draft:
        """Prepare the same record as the anchor from which drift is counted.

        Args:
            record: what is stored.
            reason: why drift is counted from it on.
        """
        content = anchored_here(record, reason)
        return _draft(record.path, content, stored_bytes(record), record.state)

    def record(
        self, predictions: PredictionsLike, *, reason: str | None = None, anchor: bool = False
    ) -> Path:
        """Store these predictions as the baseline of their probe.

        Args:
            predictions: what is stored.
            reason: why an existing record is replaced; needed where there is one.
            anchor: count drift from these predictions on, instead of from the anchor as it is.

        Returns:
            The YAML file.

        Raises:
            BaselineError: a record exists and no reason is given, or the folder is not writable.
            UnreadableBaseline: a record exists and cannot be trusted.
        """
        predictions = as_predictions(predictions)
        existing = self.find(predictions.probe)
        if existing is not None and not any(map(str.isalnum, reason or "")):
            raise BaselineError(f"{existing.path}: is stored already; give a reason to replace it.")
        moved = reason if anchor else None
        self.submit(self.draft(predictions, previous=existing, reason=reason, anchor=moved))
        return self.path_of(predictions.probe)
