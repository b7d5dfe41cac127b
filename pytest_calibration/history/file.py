"""The file of a history: appended to, never rewritten, readable at any moment.

An append is one write of whole lines under a lock. A process that is killed leaves at most a torn
line at the end; the next append closes it, and every reader names it and goes on.

The items of a line (hash, confidence, outcome, group) lie in ``FILE.items/``, in a file named by
its digest, as baselines keep them. It is written before the line that names it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from pytest_calibration.errors import HistoryError
from pytest_calibration.files import append_whole, locked, write_atomically
from pytest_calibration.history.format import (
    NewerFormat,
    begins_as_ours,
    check_place,
    content_of,
    content_to_extend,
    numbered,
)
from pytest_calibration.history.lines import Line, shown
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
_BINARY: Final = getattr(os, "O_BINARY", 0)


Items: TypeAlias = Predictions | bytes


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
        lines: each measurement once: what was measured again of a model and probe, with the same
            numbers and no others in between, counts once.
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
        return tuple(f"line {one.number}: {one.reason}; it is skipped." for one in self.skipped)


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
        lines: list[Line] = []
        skipped: list[Skipped] = []
        # Place of the last line of each model and probe; and all texts, since files may be joined.
        latest: dict[tuple[str, str, str], int] = {}
        texts: set[bytes] = set()
        foreign = repeated = 0
        for number, text in numbered(content_of(self.path)):
            try:
                line = Line.from_json(text)
            except NewerFormat as problem:
                raise HistoryError(f"{self.path}, line {number}: {problem}.") from None
            except ValueError as problem:
                foreign += not begins_as_ours(text)
                skipped.append(Skipped(number, str(problem)))
                continue
            place = latest.get(line.key)
            if text in texts:
                repeated += 1
            elif place is not None and line.repeats(lines[place]):
                repeated += 1
                lines[place] = lines[place].with_news_of(line)
            else:
                latest[line.key] = len(lines)
                lines.append(line)
            texts.add(text)
        if foreign and not lines:
            first = skipped[0]
            raise HistoryError(
                f"{self.path}: is no history of calibration (line {first.number}: {first.reason}); "
                "name a file that --calibration-history wrote."
            )
        return Lines(tuple(lines), tuple(skipped), repeated)

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

    def append(
        self,
        lines: Line | Sequence[Line],
        items: Items | Sequence[Items | None] | None = None,
    ) -> Appended:
        """Add measurements that are not there yet.

        Args:
            lines: one measurement, or several.
            items: the predictions of each, or their items as ``items_bytes`` encodes them, which
                are kept; None where none are.

        Raises:
            HistoryError: the file is no history, a newer version wrote in it, or it cannot be
                written; nothing was added then.
        """
        several = [lines] if isinstance(lines, Line) else list(lines)
        kept: list[Items | None] = [None] * len(several)
        if items is not None:
            kept = [items] if isinstance(items, Predictions | bytes) else list(items)
        if len(kept) != len(several) or not all(map(_fits, several, kept)):
            raise HistoryError(
                f"{self.path}: the items are not those of the lines; give the predictions of each."
            )
        if not several:
            return Appended()
        check_place(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.parent):
                return self._append(several, kept)
        except OSError as problem:
            raise HistoryError(
                f"{self.path}: cannot be written ({problem.strerror or problem}); nothing was "
                "added to the history."
            ) from None

    def _append(self, lines: list[Line], kept: list[Items | None]) -> Appended:
        content = bytearray(content_to_extend(self.path))
        torn = _ends_torn(content)
        start = b"\n" if content and not content.endswith(b"\n") else b""
        new = bytearray()
        added = 0
        for line, one in zip(lines, kept, strict=True):
            told = line if one is None else replace(line, items=self._keep(one))
            text = told.to_json().encode("ascii") + b"\n"
            if not _is_told(told, text, content):
                content += text
                new += text
                added += 1
        if new:
            _add(self.path, start + new)
        return Appended(added, len(lines) - added, torn)

    def _keep(self, items: Items) -> str:
        """Keep the items of a line; return the digest that names their file."""
        payload = items if isinstance(items, bytes) else items_bytes(items_of(items))
        digest = hashlib.sha256(payload).hexdigest()
        self.items_folder.mkdir(exist_ok=True)
        write_atomically(self.items_folder / f"{digest}.npz", payload)
        return digest


def _fits(line: Line, items: Items | None) -> bool:
    """Whether items can be those of a line."""
    if not isinstance(items, Predictions):
        return True
    return (items.n, items.probe, items.unit) == (line.n, line.probe, line.unit)


def _is_told(line: Line, text: bytes, content: bytearray) -> bool:
    """Whether the last line of a model and probe tells all that this line tells, but for the time.

    Args:
        line: what would be added.
        text: the same as text.
        content: of the file.
    """
    # In the order of the fields: model and probe stand between these.
    subject = text[text.index(b',"model":') : text.index(b',"step":')]
    at = content.rfind(subject)
    if at < 0:
        return False
    end = content.find(b"\n", at)
    last = content[content.rfind(b"\n", 0, at) + 1 : end if end >= 0 else len(content)]
    try:
        known = Line.from_json(bytes(last))
    except ValueError:
        return False
    return line.repeats(known) and known.with_news_of(line) == known


def _ends_torn(content: bytearray) -> bool:
    """Whether the last line is a part of one; without its line break alone it is whole."""
    last = bytes(content[content.rfind(b"\n") + 1 :])
    try:
        if last.strip():
            Line.from_json(last)
    except ValueError:
        return True
    return False


def _add(path: Path, content: bytes) -> None:
    """Add bytes to the end of a file, or nothing where they cannot all be written."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
    try:
        append_whole(handle, content)
    finally:
        os.close(handle)
