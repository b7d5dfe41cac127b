"""A folder that keeps what models answered, by content address.

What is kept is the answer to one call of the model protocol, not the predictions a probe made of
it: the probe runs anew over kept answers, so that an edited question, a changed gold answer or a
new metric can never be served stale, and a probe of another package is served like a built-in one.

An entry is found under a digest of everything that its answer depends on, and is sealed with a
stream made of the same: who has the folder and not the items can read neither prompts nor answers
in it. Each is written at once or not at all, carries a checksum, and is dropped when it has not
been used for longest and the folder has grown too large. Any number of processes may use one
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_calibration.files import replacing

FOLDER: Final = "answers"
SUFFIX: Final = ".answer"
LIMIT: Final = 1 << 30
"""Bytes that a folder may hold."""
_MAGIC: Final = b"pytest-calibration answer 1\n"
_SALT: Final = 16
_CHECKSUM: Final = 16
_HEAD: Final = len(_MAGIC) + _SALT + _CHECKSUM
_OURS: Final = re.compile(r"\.?[0-9a-f]{40}\.answer(\..*\.tmp)?")
# What a process that was killed leaves behind.
_STALE_SECONDS: Final = 3600.0


class Cache:
    """Entries by key, in ``folder/answers``.

    Nothing here raises for what lies on the disk: a cache that does not work costs time only, and
    says so in its attributes.

    Args:
        folder: where; made when something is first kept.
        limit: bytes that the entries may take together; the longest unused are dropped beyond it.

    Attributes:
        folder: where the entries lie.
        limit: bytes that they may take.
        damaged: paths of entries that could not be read.
        refused: why nothing could be written; empty while all is well.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder / FOLDER
        self.limit = limit
        self.damaged: list[str] = []
        self.refused = ""
        # Bytes that may be written before the folder is measured again; the first entry does.
        self._room = 0

    def path(self, key: bytes) -> Path:
        """Return where the entry of a key lies."""
        address = hashlib.blake2b(key, digest_size=20, person=b"address").hexdigest()
        return self.folder / address[:2] / f"{address}{SUFFIX}"

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept under a key; None where there is nothing that can be trusted."""
        path = self.path(key)
        try:
            size = path.stat().st_size
        except OSError:
            return None
        try:
            if size > self.limit:
                raise ValueError("larger than anything that was written here")
            content = _opened(key, path.name, path.read_bytes())
        except FileNotFoundError:
            # Another process dropped it just now.
            return None
        except (OSError, ValueError):
            self.mark_damaged(key)
            return None
        # The time of change is that of the last use, which decides what is dropped first.
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, key: bytes, content: bytes) -> None:
        """Keep something under a key, in place of what was there."""
        path = self.path(key)
        sealed = _sealed(key, path.name, content)
        if self.refused or len(sealed) > self.limit:
            return
        try:
            try:
                _write(path, sealed)
            except FileNotFoundError:
                # Another process cleared the folder between making it and writing into it.
                _write(path, sealed)
        except OSError as problem:
            # Some systems let nobody replace a file while another process reads it.
            if not path.is_file():
                self.refused = problem.strerror or str(problem)
            return
        self._room -= len(sealed)
        if self._room < 0:
            self._trim(keep=path)

    def mark_damaged(self, key: bytes) -> None:
        """Remember that the entry of a key is no use."""
        path = str(self.path(key))
        if path not in self.damaged:
            self.damaged.append(path)

    def clear(self) -> None:
        """Remove every entry, and nothing else."""
        for path, _, _ in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            for place in [*self.folder.iterdir(), self.folder]:
                # Fails where something of others is left, which is then kept.
                with contextlib.suppress(OSError):
                    place.rmdir()

    def _trim(self, keep: Path) -> None:
        """Drop the longest unused until there is room again, and what killed processes left."""
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        # Down to a part only, so that a full folder is not measured at every entry.
        least = self.limit - self.limit // 8
        drops = total > self.limit
        for path, size, used in files:
            left_over = path.suffix == ".tmp"
            if left_over and time.time() - used < _STALE_SECONDS:
                continue
            if (left_over or (drops and total > least)) and path != keep:
                total -= size
                with contextlib.suppress(OSError):
                    path.unlink()
        self._room = min(self.limit - total, self.limit // 16)

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, bytes and last use of each file that is ours."""
        for place in _within(self.folder):
            if len(place.name) != 2 or not place.is_dir(follow_symlinks=False):
                continue
            for file in _within(Path(place.path)):
                if _OURS.fullmatch(file.name):
                    with contextlib.suppress(OSError):
                        state = file.stat(follow_symlinks=False)
                        yield Path(file.path), state.st_size, state.st_mtime


def _within(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def _sealed(key: bytes, name: str, content: bytes) -> bytes:
    salt = secrets.token_bytes(_SALT)
    sealed = _mixed(key, salt, content)
    return _MAGIC + salt + _checksum(name, salt, sealed) + sealed


def _opened(key: bytes, name: str, file: bytes) -> bytes:
    """Return the content of a file; raises ``ValueError`` unless it is all that was written."""
    salt, checksum = file[len(_MAGIC) : len(_MAGIC) + _SALT], file[len(_MAGIC) + _SALT : _HEAD]
    sealed = file[_HEAD:]
    if not file.startswith(_MAGIC) or checksum != _checksum(name, salt, sealed):
        raise ValueError("not what was written")
    return _mixed(key, salt, sealed)


def _checksum(name: str, salt: bytes, sealed: bytes) -> bytes:
    # With the name, so that a file under another's name is found out.
    state = hashlib.blake2b(digest_size=_CHECKSUM, person=b"checksum")
    for part in (name.encode(), salt, sealed):
        state.update(part)
    return state.digest()


def _mixed(key: bytes, salt: bytes, content: bytes) -> bytes:
    """Mix with a stream that only the key gives; twice is as before."""
    stream = hashlib.shake_128(b"seal" + key + salt).digest(len(content))
    mixed = int.from_bytes(content, "little") ^ int.from_bytes(stream, "little")
    return mixed.to_bytes(len(content), "little")
