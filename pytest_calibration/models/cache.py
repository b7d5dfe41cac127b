"""A folder that keeps what models answered, by content address.

What is kept is the answer to one call of a model's method, not the predictions a probe made of it:
the probe runs again over kept answers, so that an edited question, a changed gold answer or a new
metric always counts, and a probe of another package gains like a built-in one.

An entry is named by a digest of everything that its answer depends on, and begins with a digest of
its content. It is written whole or not at all, and is dropped when it has not been used for longest
and the folder has grown too large. Any number of processes may use one folder, and one user: what
others could have written is not believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_calibration.files import is_stale, others_may_write, replacing

FOLDER: Final = "answers"
SUFFIX: Final = ".answer"
LIMIT: Final = 1 << 30
"""Bytes that a folder may hold."""
_DIGEST: Final = 16
_OURS: Final = re.compile(r"\.?[0-9a-f]{40}\.answer(\..*\.tmp)?")
# Seconds by which clocks of machines that share a folder may differ.
_AHEAD: Final = 3600.0
_FOREIGN: Final = (
    "can be written by other users, or belongs to one, so nothing in it is believed; remove it, or "
    "take that right away with chmod go-w"
)


class Cache:
    """Entries by key, in ``folder/answers``.

    Nothing here raises for what lies on the disk: a cache that does not work costs time only, and
    its attributes tell why.

    Args:
        folder: where; made when something is first kept.
        limit: bytes that the entries may take together; the longest unused are dropped beyond it.

    Attributes:
        folder: where the entries lie.
        limit: bytes that they may take.
        damaged: paths of entries that could not be read.
        refused: what is wrong with the folder, so that nothing is kept: ``cannot be written (...)``
            or ``can be written by other users ...``; empty if all is well.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder / FOLDER
        self.limit = limit
        self.damaged: list[str] = []
        self.refused = ""
        # Bytes that may be written before the folder is measured again; the first entry does so.
        self._room = 0

    def path(self, key: bytes) -> Path:
        """Return where the entry of a key lies."""
        address = hashlib.blake2b(key, digest_size=20).hexdigest()
        return self.folder / address[:2] / f"{address}{SUFFIX}"

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept under a key; None where there is nothing that can be trusted."""
        path = self.path(key)
        try:
            state = path.lstat()
        except OSError:
            return None
        if not self._trusted(path):
            return None
        # What is larger than anything that is written here, or from somebody else, is not read.
        ours = state.st_size <= self.limit and stat.S_ISREG(state.st_mode)
        ours = ours and not others_may_write(state)
        try:
            file = path.read_bytes() if ours else b""
        except FileNotFoundError:
            # Another process dropped it just now.
            return None
        except OSError:
            file = b""
        content = file[_DIGEST:]
        if file[:_DIGEST] != _digest(path.name, content):
            self.mark_damaged(key)
            return None
        # The time of change is that of the last use, which decides what is dropped first.
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, key: bytes, content: bytes) -> None:
        """Keep something under a key, in place of what was there."""
        path = self.path(key)
        file = _digest(path.name, content) + content
        if self.refused or len(file) > self.limit or not self._trusted(path):
            return
        try:
            try:
                self._write(path, file)
            except FileNotFoundError:
                # Another process cleared the folder between making it and writing into it.
                self._write(path, file)
        except OSError as error:
            # Some systems let nobody replace a file while another process reads it.
            if not path.is_file():
                self.refused = f"cannot be written ({error.strerror or error})"
            return
        self._room -= len(file)
        if self._room < 0:
            self._trim(keep=path)

    def _trusted(self, path: Path) -> bool:
        """Whether nobody else could have written an entry; a folder to come is this user's own."""
        for folder in (path.parent, self.folder, self.folder.parent):
            # The folder that was asked for may have been given to this user.
            owner = folder != self.folder.parent
            with contextlib.suppress(OSError):
                state = folder.lstat() if owner else folder.stat()
                linked = owner and stat.S_ISLNK(state.st_mode)
                if linked or others_may_write(state, owner=owner):
                    self.refused = self.refused or _FOREIGN
                    return False
        return True

    def mark_damaged(self, key: bytes) -> None:
        """Record that the entry of a key cannot be used."""
        path = str(self.path(key))
        if path not in self.damaged:
            self.damaged.append(path)

    def clear(self) -> None:
        """Remove every entry, and nothing else."""
        emptied: dict[Path, None] = {}
        for path, _, _ in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
                emptied[path.parent] = None
        # Folders that held nothing of ours are others', also where they are empty.
        for place in [*emptied, self.folder] if emptied else []:
            # Fails where a folder holds files of others, which are kept.
            with contextlib.suppress(OSError):
                place.rmdir()

    def _write(self, path: Path, content: bytes) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        with replacing(path, private=True) as file:
            file.write(content)

    def _trim(self, keep: Path) -> None:
        """Drop the longest unused until there is room again, and what killed processes left."""
        # A time to come was noted before the clock was set back: nobody knows when that was.
        ahead = time.time() + _AHEAD
        files = sorted(self._files(), key=lambda file: file[2] if file[2] < ahead else 0.0)
        total = sum(size for _, size, _ in files)
        # Well below the limit, so that a full folder is not measured at every entry.
        target = self.limit - self.limit // 8
        too_large = total > self.limit
        for path, size, used in files:
            temporary = path.suffix == ".tmp"
            if temporary and not is_stale(used):
                continue
            if (temporary or (too_large and total > target)) and path != keep:
                total -= size
                with contextlib.suppress(OSError):
                    path.unlink()
        self._room = min(self.limit - total, self.limit // 16)

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, bytes and last use of each file that is ours."""
        for place in _entries(self.folder):
            if len(place.name) != 2 or not place.is_dir(follow_symlinks=False):
                continue
            for file in _entries(Path(place.path)):
                if _OURS.fullmatch(file.name):
                    with contextlib.suppress(OSError):
                        state = file.stat(follow_symlinks=False)
                        yield Path(file.path), state.st_size, state.st_mtime


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _digest(name: str, content: bytes) -> bytes:
    # With the name, so that a file under another entry's name is noticed.
    return hashlib.blake2b(content, digest_size=_DIGEST, key=name.encode()).digest()
