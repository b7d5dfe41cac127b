"""The files of a checkpoint, and digests of their content.

A file is read once, as long as what the file system says of it can be trusted:

- Its times must be those of its last change. A write through a memory mapping changes them when
  the page was not yet waiting to be written, so pages that wait are written before a file is read.
  File systems in memory write none; files there are read each time.
- The digest must have been kept by this user: it is sealed with a secret of the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from functools import cache as cached
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.errors import ModelError
from pytest_calibration.input_files import is_lfs_pointer, read_text
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.secret import sealed, unsealed

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache

# Bytes of a piece of a large file; pieces are read by several threads at once.
PIECE: Final = 1 << 26
BLOCK: Final = 1 << 20
# Bytes of a file in JSON: the largest index of shards takes some ten mebibytes.
MOST_JSON: Final = 1 << 26
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


# Files that name other files of a checkpoint.
_NAMING: Final = re.compile(
    r"config\.json|(tokenizer|adapter|generation)_config\.json|.*\.index(\.[\w-]+)?\.json"
)
_LONGEST_PATH: Final = 1000
_TEMPLATES: Final = "additional_chat_templates"
# File systems that never write to a disk, and so note no time when a mapped page changes.
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"})


@dataclass(frozen=True)
class FileState:
    """What a file system says of a file; it differs when the content changes.

    Attributes:
        path: absolute, without links.
        size: bytes.
        modified: time of the last change of the content, nanoseconds.
        changed: time of the last change of content, name or rights, nanoseconds.
        inode: number of the file, and of its device.
        asked: absolute, as it was asked for; a link on the way may lead elsewhere later.
    """

    path: str
    size: int
    modified: int
    changed: int
    inode: tuple[int, int]
    asked: Path = field(compare=False)

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file now.

        Raises:
            OSError: it is not there.
        """
        real = path.resolve()
        stat = real.stat()
        inode, times = (stat.st_ino, stat.st_dev), (stat.st_mtime_ns, stat.st_ctime_ns)
        return cls(str(real), stat.st_size, *times, inode, path.absolute())

    def unchanged(self) -> bool:
        """Whether the same file, with the same content, is still found where it was asked for."""
        try:
            return FileState.of(self.asked) == self
        except OSError:
            return False

    def rewritten(self) -> bool:
        """Whether other content, or another file, is there now; one that is gone is not."""
        try:
            now = FileState.of(self.asked)
        except OSError:
            return False
        # Not the time at which its rights or names changed.
        return (now.size, now.modified, now.inode) != (self.size, self.modified, self.inode)

    @property
    def tells_changes(self) -> bool:
        """Whether it differs after every change of the content, also through a memory mapping."""
        return not _in_memory(self.inode[1])

    @property
    def key(self) -> bytes:
        """What the digest of a file in this state is cached under."""
        return Digest("file", *astuple(self)[:-1]).bytes()


def checkpoint_files(folder: Path, subfolders: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the files that can change what a checkpoint answers, by name.

    All files count but those known to be read by no loader. What lies within counts where a setting
    names the folder, and where a configuration or an index names the file, wherever it lies and
    whatever it is called; and code counts. Other checkpoints may lie within.
    """
    places = [folder, *(folder / name for name in subfolders)]
    described = {place: _descriptions(place) for place in places}
    found = [
        file
        for place in [*places, folder / _TEMPLATES]
        if place.is_dir()
        for file in place.iterdir()
        if file.is_file() and not _NOT_LOADED.fullmatch(file.name)
    ]
    for place, descriptions in described.items():
        found += _named_files(place, descriptions)
    has_code = any("auto_map" in one for many in described.values() for one in many)
    if has_code or any(file.suffix == ".py" for file in found):
        found += _code(folder)
    names = {_name(file, folder): file for file in found}
    yield from sorted(names.items())


def _name(file: Path, folder: Path) -> str:
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object in a file; an empty one where it cannot be read."""
    try:
        content = json.loads(read_text(file, MOST_JSON, ModelError))
    except (ModelError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _descriptions(place: Path) -> list[dict[str, Any]]:
    """Return the JSON objects that may name files of a checkpoint."""
    return [read_json(one) for one in sorted(place.glob("*.json")) if _NAMING.fullmatch(one.name)]


def _named_files(place: Path, descriptions: Sequence[object]) -> list[Path]:
    """Return the files that stand anywhere in these values, by their path from this place."""
    texts: set[str] = set()
    rest = list(descriptions)
    while rest:
        value = rest.pop()
        if isinstance(value, str) and len(value) <= _LONGEST_PATH:
            texts.add(value)
        elif isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    found = []
    for text in texts:
        # What is no path at all raises.
        with contextlib.suppress(OSError, ValueError):
            if text and (place / text).is_file():
                found.append(place / text)
    return found


def _code(folder: Path) -> Iterator[Path]:
    """Yield the Python files at any depth, also behind links, each folder once."""
    seen = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names if name.endswith(".py"))


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
    content = cache.get(state.key) if cache is not None and state.tells_changes else None
    kept = None if content is None else unsealed(content, state.key)
    if kept is not None:
        return kept.hex(), state
    _write_waiting_pages(path)
    state = FileState.of(path)
    started = time.time()
    digest = _read(path, state.size)
    settled = started - max(state.modified, state.changed) / 1e9 >= SETTLED_SECONDS
    trusted = settled and state.tells_changes
    seal = sealed(digest, state.key) if cache is not None and trusted else None
    if cache is not None and seal is not None and FileState.of(path) == state:
        cache.put(state.key, seal)
    return digest.hex(), state


def _write_waiting_pages(path: Path) -> None:
    """Have a file's changed pages written, so that the next change notes its time."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        os.fsync(file.fileno())


@cached
def _in_memory(device: int) -> bool:
    """Whether a device is a file system in memory; not known where there is no ``/proc``."""
    number = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    # Number, parent, device, root, place, options, ..., a dash, type.
    fields = [line.split(" ") for line in lines]
    return any(
        one[2] == number and one[one.index("-") + 1] in _IN_MEMORY
        for one in fields
        if len(one) > 2 and "-" in one[:-1]
    )


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
