"""The files of a checkpoint, and digests of their content; each file is read once."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.files import is_lfs_pointer
from pytest_calibration.models.digests import Digest

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache

# Bytes of a piece of a large file; pieces are read by several threads at once.
PIECE: Final = 1 << 26
BLOCK: Final = 1 << 20
_MOST_OF_A_POINTER: Final = 1024
# A file that changed so shortly before it was read may change again without a later time of change:
# clocks of file systems are coarse.
SETTLED_SECONDS: Final = 2.0
# Files that training leaves in a checkpoint and that no loader reads.
_NOT_LOADED: Final = re.compile(
    r"\..*|README.*|LICENSE.*|events\.out\..*|(optimizer|scheduler|scaler|rng_state|random_states)"
    r".*|trainer_state\.json|training_args\.bin|.*\.(md|pt|pth|pkl|png|jpe?g|svg|html|pdf|log|csv"
    r"|lock|tmp|ipynb|h5|msgpack|onnx)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FileState:
    """What a file system says of a file; it differs when the content changes.

    Attributes:
        path: absolute, without links.
        size: bytes.
        modified: time of the last change of the content, nanoseconds.
        changed: time of the last change of content, name or rights, nanoseconds.
        inode: number of the file, and of its device.
    """

    path: str
    size: int
    modified: int
    changed: int
    inode: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file now.

        Raises:
            OSError: it is not there.
        """
        real = path.resolve()
        stat = real.stat()
        inode = stat.st_ino, stat.st_dev
        return cls(str(real), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, inode)

    @property
    def key(self) -> bytes:
        """What the digest of a file in this state is cached under."""
        return Digest("file", *astuple(self)).bytes()


def checkpoint_files(folder: Path, subfolders: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the files that can change what a checkpoint answers, by name.

    All files count but those known to be read by no loader. Folders within count where a setting
    names them, and for code; other checkpoints may lie in them.
    """
    files = {
        file.relative_to(folder).as_posix(): file
        for place in (folder, *(folder / name for name in subfolders))
        if os.path.isdir(place)
        for file in place.iterdir()
        if file.is_file() and not _NOT_LOADED.fullmatch(file.name)
    }
    if any(name.endswith(".py") for name in files):
        files |= {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    yield from sorted(files.items())


def pointers(folder: Path) -> list[str]:
    """Return the names of files of a checkpoint that are pointers of Git LFS."""
    found = []
    for name, file in checkpoint_files(folder):
        # Pointers have some hundred bytes.
        if file.stat().st_size < _MOST_OF_A_POINTER and is_lfs_pointer(file.read_bytes()):
            found.append(name)
    return found


def file_digest(path: Path, cache: Cache | None = None) -> tuple[str, FileState]:
    """Return the digest of a file's content, and the state that it was read in.

    Args:
        path: the file.
        cache: where digests of unchanged files are kept.

    Raises:
        OSError: the file cannot be read.
    """
    state = FileState.of(path)
    cached = cache.get(state.key) if cache is not None else None
    if cached is not None:
        return cached.hex(), state
    started = time.time()
    digest = _read(path, state.size)
    settled = started - max(state.modified, state.changed) / 1e9 >= SETTLED_SECONDS
    if cache is not None and settled and FileState.of(path) == state:
        cache.put(state.key, digest)
    return digest.hex(), state


def _read(path: Path, size: int) -> bytes:
    """Digest the pieces of a file in parallel, and then their digests."""
    starts = range(0, max(size, 1), PIECE)
    # Hashing releases the interpreter lock.
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, 8)) as pool:
        pieces = list(pool.map(lambda start: _piece(path, start), starts))
    return hashlib.sha256(str(size).encode() + b"".join(pieces)).digest()


def _piece(path: Path, start: int) -> bytes:
    # Processors have instructions for SHA-256: it is faster than BLAKE2.
    state = hashlib.sha256()
    block = bytearray(BLOCK)
    left = PIECE
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (n := file.readinto(memoryview(block)[: min(BLOCK, left)])):
            state.update(memoryview(block)[:n])
            left -= n
    return state.digest()
