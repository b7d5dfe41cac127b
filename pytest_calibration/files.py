"""Files that others may read at any time: their names, and how they are written.

A reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]+")
# Names that Windows reserves; a repository is cloned there too.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def file_stem(name: str) -> str:
    """Return the file name (without ending) of a probe, baseline or model.

    The name itself where every file system takes it and it has no capitals, else a readable slug
    with 8 hexadecimal digits of its digest: two names never share a file, not even on a disk that
    takes capitals and small letters for the same.
    """
    return readable_stem(name) if name == name.lower() else _slug(name)


def readable_stem(name: str) -> str:
    """Return the same with capitals left as they are: where something else tells names apart."""
    plain = _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name)
    if plain and not name.startswith(".") and not name.endswith(".") and len(name) <= 100:
        return name
    return _slug(name)


def _slug(name: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "probe"
    data = name.encode("utf-8", "surrogatepass")
    state = hashlib.blake2b(len(data).to_bytes(8, "little") + data, digest_size=4)
    return f"{slug}-{state.hexdigest()}"


def others_may_write(state: os.stat_result, *, owner: bool = True) -> bool:
    """Whether a user other than this one and the administrator can write a file or folder.

    A group that has this user alone, as many systems give to each user, is no other. Not known on
    Windows, where the answer is no.

    Args:
        state: of the file or folder.
        owner: whether it matters to whom it belongs.
    """
    if os.name != "posix":
        return False
    if owner and state.st_uid not in (os.geteuid(), 0):
        return True
    if stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX:
        # Others may add to it, and touch nothing that is not theirs.
        return False
    by_group = state.st_mode & stat.S_IWGRP and not _is_own_group(state.st_gid)
    return bool(by_group or state.st_mode & stat.S_IWOTH)


def _is_own_group(group: int) -> bool:
    import grp
    import pwd

    try:
        name, found = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == name and not {*found.gr_mem} - {name}


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` when the block ends well.

    What is written goes into a temporary file in the same folder, whose name ends in ``.tmp``; it
    is removed where the block raises.

    Args:
        path: the file.
        private: whether this user alone may read and write it.

    Raises:
        OSError: the folder cannot be written.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:
            # mkstemp makes files private; what is written here is as public as its neighbours.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, unless it holds just that already.

    Raises:
        OSError: the folder cannot be written.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    with replacing(path) as file:
        file.write(content)
