"""Files that others may read at any time: their names, and how they are written.

A reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]+")
# Names that Windows reserves; a repository is cloned there too.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def file_stem(name: str) -> str:
    """Return the file name (without ending) of a probe, baseline or model.

    The name itself where every file system takes it, else a readable slug with 8 hexadecimal digits
    of its digest, so that two names never share a file.
    """
    plain = _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name)
    if plain and not name.startswith(".") and not name.endswith(".") and len(name) <= 100:
        return name
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "probe"
    data = name.encode("utf-8", "surrogatepass")
    state = hashlib.blake2b(len(data).to_bytes(8, "little") + data, digest_size=4)
    return f"{slug}-{state.hexdigest()}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` when the block ends well.

    What is written goes into a temporary file in the same folder, whose name ends in ``.tmp``; it
    is removed where the block raises.

    Raises:
        OSError: the folder cannot be written.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; what is written here is as public as its neighbours.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process that locks this folder in while the block runs.

    Windows and some network file systems have no such lock; there the block runs all the same.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, unless it holds just that already.

    Raises:
        OSError: the folder cannot be written.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    with replacing(path) as file:
        file.write(content)
