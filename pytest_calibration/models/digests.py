"""Digests: of values, and of the files of a checkpoint, each read once."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache

# Bytes of one piece of a large file; pieces are read by several threads at once.
PIECE: Final = 1 << 26
BLOCK: Final = 1 << 20
# A file changed so shortly before it was read may change again without a later time of change:
# clocks of file systems are coarse.
SETTLED_SECONDS: Final = 2.0
# What training leaves beside a checkpoint and no loader reads.
_PAPERS: Final = re.compile(
    r"\..*|README.*|LICENSE.*|events\.out\..*|(optimizer|scheduler|scaler|rng_state|random_states)"
    r".*|trainer_state\.json|training_args\.bin|.*\.(md|pt|pth|pkl|png|jpe?g|svg|html|pdf|log|csv"
    r"|lock|tmp|ipynb|h5|msgpack|onnx)",
    re.IGNORECASE,
)
# How Python writes an object that has no text of its own.
_AT_ADDRESS: Final = re.compile(r"\bat 0x[0-9a-fA-F]+")


# --- values --------------------------------------------------------------------------------------


class Digest:
    """Collects values, each set apart from its neighbours.

    Attributes:
        stable: whether all that was added is the same in another process.
    """

    def __init__(self, *values: object, size: int = 32) -> None:
        self._state = hashlib.blake2b(digest_size=size)
        self.stable = True
        for value in values:
            self.add(value)

    def add(self, value: object) -> None:
        """Add text, bytes, numbers, None, and mappings, sequences and sets of them, by value.

        Anything else counts by its type and ``repr``; where that tells of an address in memory, it
        is not ``stable``.
        """
        if isinstance(value, str):
            # JSON may hold half a surrogate pair, which is text too.
            self._put(b"s", value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, bytes):
            self._put(b"b", value)
        elif value is None or isinstance(value, bool | int | float):
            self._put(b"v", repr(value).encode())
        elif isinstance(value, Mapping):
            self._put(b"m", str(len(value)).encode())
            for key in sorted(value, key=repr):
                self.add(key)
                self.add(value[key])
        elif isinstance(value, Set):
            self._put(b"e", repr(sorted(map(repr, value))).encode())
        elif isinstance(value, Sequence):
            self._put(b"l", str(len(value)).encode())
            for one in value:
                self.add(one)
        else:
            text = f"{type(value).__module__}.{type(value).__qualname__} {value!r}"
            self.stable &= _AT_ADDRESS.search(text) is None
            self._put(b"r", text.encode("utf-8", "surrogatepass"))

    def _put(self, kind: bytes, data: bytes) -> None:
        self._state.update(kind + len(data).to_bytes(8, "little"))
        self._state.update(data)

    def bytes(self) -> bytes:
        """Return the digest."""
        return self._state.digest()

    def text(self) -> str:
        """Return the digest in hexadecimal digits."""
        return self._state.hexdigest()


# --- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a file system says of a file; another content comes with another state.

    Attributes:
        path: absolute, without links.
        size: bytes.
        changed: time of the last change of the content, nanoseconds.
        touched: time of the last change of content, name or rights, nanoseconds.
        inode: number of the file, and of its device.
    """

    path: str
    size: int
    changed: int
    touched: int
    inode: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> State:
        """Return the state of a file now.

        Raises:
            OSError: it is not there.
        """
        real = path.resolve()
        found = real.stat()
        return cls(
            str(real),
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            (found.st_ino, found.st_dev),
        )

    @property
    def key(self) -> bytes:
        """What a digest of this state is kept under."""
        return Digest("file", self.path, self.size, self.changed, self.touched, self.inode).bytes()


def checkpoint_files(folder: Path, subfolders: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the files that can change what a checkpoint answers, by name.

    All but what is known for papers: a file of a kind that nobody thought of must count. Folders
    within count where a setting names them, and for code; other checkpoints may lie in them.
    """
    found = {
        file.relative_to(folder).as_posix(): file
        for place in (folder, *(folder / name for name in subfolders))
        if place.is_dir()
        for file in place.iterdir()
        if file.is_file() and not _PAPERS.fullmatch(file.name)
    }
    if any(name.endswith(".py") for name in found):
        found |= {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    yield from sorted(found.items())


def file_digest(path: Path, memo: Cache | None = None) -> tuple[str, State]:
    """Return the digest of a file's content, and the state it was read in.

    Args:
        path: the file.
        memo: where digests of unchanged files are kept.

    Raises:
        OSError: the file cannot be read.
    """
    state = State.of(path)
    known = memo.get(state.key) if memo is not None else None
    if known is not None:
        return known.hex(), state
    begun = time.time()
    digest = _read(path, state.size)
    settled = begun - max(state.changed, state.touched) / 1e9 >= SETTLED_SECONDS
    if memo is not None and settled and State.of(path) == state:
        memo.put(state.key, digest)
    return digest.hex(), state


def _read(path: Path, size: int) -> bytes:
    """Digest the pieces of a file side by side, and then their digests."""
    starts = range(0, max(size, 1), PIECE)
    whole = hashlib.sha256(str(size).encode())
    if len(starts) == 1:
        whole.update(_piece(path, 0))
        return whole.digest()
    # Hashing lets other threads run.
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, 8)) as pool:
        for piece in pool.map(lambda start: _piece(path, start), starts):
            whole.update(piece)
    return whole.digest()


def _piece(path: Path, start: int) -> bytes:
    # Faster than BLAKE2 on every processor of the last years, which have instructions for it.
    state = hashlib.sha256()
    block = bytearray(BLOCK)
    left = PIECE
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (n := file.readinto(memoryview(block)[: min(BLOCK, left)])):
            state.update(memoryview(block)[:n])
            left -= n
    return state.digest()
