"""The file of a history: appended to, never rewritten, readable at any moment.

An append is one write of whole lines under a lock. A process that is killed leaves at most a torn
line at the end; the next append closes it, and every reader names it and goes on.

The items of a line (hash, confidence, outcome, group) lie in ``FILE.items/``, in a file named by
its digest, as baselines keep them. It is written before the line that names it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_calibration.errors import HistoryError
from pytest_calibration.files import locked, write_atomically
from pytest_calibration.history.lines import FORMAT, Line, NewerFormat, shown
from pytest_calibration.input_files import read_file
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.predictions.stored_items import (
    MAX_ITEMS,
    MAX_TOKENS,
    items_bytes,
    items_from,
    items_of,
    most_bytes,
)

ITEMS: Final = ".items"
# Bytes; a line has about 3,000.
MOST_OF_A_HISTORY: Final = 1 << 31
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNING: Final = b'{"format":'
_NEWER: Final = re.compile(rb'^\{"format":(\d{1,9})', re.MULTILINE)
_BINARY: Final = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Skipped:
    """A line that could not be read.

    Attributes:
        number: of the line, from 1.
        reason: what is wrong with it, without a full stop.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class Lines:
    """The measurements of a history, in the order of the file.

    Attributes:
        lines: each measurement once.
        skipped: what could not be read.
        repeated: how many lines tell again what a line before them tells.
    """

    lines: tuple[Line, ...]
    skipped: tuple[Skipped, ...] = ()
    repeated: int = 0

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know of lines that do not count, a sentence each."""
        return tuple(f"line {one.number} is skipped: it {one.reason}." for one in self.skipped)


@dataclass(frozen=True)
class Appended:
    """What an append did.

    Attributes:
        added: measurements that were added.
        known: those that were there already.
        torn: the file ended in a part of a line, which stays, on a line of its own.
    """

    added: int = 0
    known: int = 0
    torn: bool = False


class History:
    """A history on disk.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"History({str(self.path)!r})"

    @property
    def items_folder(self) -> Path:
        """Where the items of the lines lie."""
        return self.path.with_name(self.path.name + ITEMS)

    # --- reading -----------------------------------------------------------------------------

    def read(self) -> Lines:
        """Read all measurements; what cannot be read is named and left out.

        Raises:
            HistoryError: there is no such file, it is no history, or a newer version wrote in it.
        """
        # By what makes it this measurement.
        lines: dict[bytes, Line] = {}
        skipped: list[Skipped] = []
        foreign = read = 0
        for number, text in _numbered(self._content()):
            try:
                line = Line.from_json(text)
            except NewerFormat as problem:
                raise HistoryError(f"{self.path}, line {number}: {problem}.") from None
            except ValueError as problem:
                foreign += not _begins_as_ours(text)
                skipped.append(Skipped(number, str(problem)))
            else:
                read += 1
                lines.setdefault(line.identity, line)
        if foreign and not read:
            first = skipped[0]
            raise HistoryError(
                f"{self.path}: is no history of calibration (line {first.number} {first.reason}); "
                "name a file that --calibration-history wrote."
            )
        return Lines(tuple(lines.values()), tuple(skipped), read - len(lines))

    def _content(self) -> bytes:
        return read_file(self.path, MOST_OF_A_HISTORY, HistoryError)

    def predictions(self, line: Line) -> Predictions | None:
        """Return the items of a line; None where none are kept, or no longer.

        Their signature is the digest in the line: what was measured otherwise is not comparable.

        Raises:
            HistoryError: the file is not the one that the line names, or cannot be read.
        """
        file = self.items_folder / f"{line.items}.npz"
        if not line.items or not os.path.lexists(file):
            return None
        count = min(line.n, MAX_TOKENS if line.unit == "token" else MAX_ITEMS)
        payload = read_file(file, most_bytes(count), HistoryError)
        if hashlib.sha256(payload).hexdigest() != line.items:
            raise HistoryError(
                f"{file}: is damaged (its digest is not its name); restore it, or delete it to "
                "compare without items."
            )
        signature = Signature({"signature": line.signature}, {"model": shown(line)})
        try:
            return items_from(payload, count, probe=line.probe, unit=line.unit, signature=signature)
        except Exception as problem:  # crafted bytes fail in many ways, which all mean the same
            raise HistoryError(f"{file}: does not hold the items ({problem}).") from None

    # --- writing -----------------------------------------------------------------------------

    def check(self) -> None:
        """Raise HistoryError where lines could not be added to what is there."""
        if os.path.lexists(self.path):
            self._check(self._content())

    def append(
        self,
        lines: Line | Sequence[Line],
        items: Predictions | Sequence[Predictions | None] | None = None,
    ) -> Appended:
        """Add measurements that are not there yet.

        Args:
            lines: one measurement, or several.
            items: the predictions of each, whose items are kept; None where none are.

        Raises:
            HistoryError: the file is no history, a newer version wrote in it, or it cannot be
                written; nothing was added then.
        """
        several = [lines] if isinstance(lines, Line) else list(lines)
        kept: list[Predictions | None] = [None] * len(several)
        if items is not None:
            kept = [items] if isinstance(items, Predictions) else list(items)
        if len(kept) != len(several) or any(
            one is not None and (one.n, one.probe) != (line.n, line.probe)
            for line, one in zip(several, kept, strict=True)
        ):
            raise HistoryError(
                f"{self.path}: the items are not those of the lines; give the predictions of each."
            )
        if not several:
            return Appended()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.parent):
                return self._append(several, kept)
        except OSError as problem:
            raise HistoryError(
                f"{self.path}: cannot be written ({problem.strerror or problem}); nothing was "
                "added to the history."
            ) from None

    def _append(self, lines: list[Line], kept: list[Predictions | None]) -> Appended:
        content = self._content() if os.path.lexists(self.path) else b""
        self._check(content)
        torn = bool(content) and not content.endswith(b"\n")
        new: dict[str, str] = {}
        for line, predictions in zip(lines, kept, strict=True):
            digest = line.items if predictions is None else self._keep(predictions)
            text = replace(line, items=digest).to_json()
            # From the model on: what stands before it is when it was measured.
            told = text[text.index(',"model":') :]
            if told.encode("ascii") not in content:
                new.setdefault(told, text)
        if new:
            whole = "".join(f"{text}\n" for text in new.values()).encode("ascii")
            _add(self.path, b"\n" * torn + whole)
        return Appended(len(new), len(lines) - len(new), torn)

    def _keep(self, predictions: Predictions) -> str:
        """Keep the items of predictions; return the digest that names their file."""
        payload = items_bytes(items_of(predictions))
        digest = hashlib.sha256(payload).hexdigest()
        self.items_folder.mkdir(exist_ok=True)
        write_atomically(self.items_folder / f"{digest}.npz", payload)
        return digest

    def _check(self, content: bytes) -> None:
        """Raise HistoryError where a file is no history, or a newer version wrote in it."""
        number, first = next(_numbered(content), (0, b""))
        suspects = {} if _begins_as_ours(first) else {number: first}
        for found in _NEWER.finditer(content):
            if int(found[1]) > FORMAT:
                at = content.count(b"\n", 0, found.start()) + 1
                suspects[at] = content[found.start() :].partition(b"\n")[0]
                break
        for number, text in suspects.items():
            try:
                Line.from_json(text)
            except NewerFormat as problem:
                raise HistoryError(f"{self.path}, line {number}: {problem}.") from None
            except ValueError as problem:
                if number and not _begins_as_ours(text):
                    raise HistoryError(
                        f"{self.path}: is no history of calibration (line {number} {problem}); "
                        "nothing is added to it: name another file."
                    ) from None


def _numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line that is not blank."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if text := line.strip().removeprefix(_BOM):
            yield number, text


def _begins_as_ours(text: bytes) -> bool:
    """Whether a line begins as those that are written here, also where little of it is left."""
    return _BEGINNING.startswith(text[: len(_BEGINNING)])


def _add(path: Path, content: bytes) -> None:
    """Add bytes to the end of a file, or nothing where they cannot all be written."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
    try:
        size = os.fstat(handle).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError:
            # A full disk takes a part.
            with suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
