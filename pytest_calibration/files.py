"""Files that others may write or read at any time: how they are named, written and locked.

A reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK: Final = ".lock"
# Seconds: a record is written in far less.
LOCK_WAIT: Final = 60.0
LOCK_POLL: Final = 0.02

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]+")
# Names that Windows reserves; a repository is cloned there too.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
# Age of a temporary file whose writer was probably killed, where that cannot be known.
_STALE_SECONDS: Final = 3600.0


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
def replacing(path: Path, *, private: bool = False, new: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` when the block ends well.

    What is written goes into a temporary file in the same folder, whose name ends in ``.tmp``; it
    is removed where the block raises, and by the next write of such a file where the process was
    killed.

    Args:
        path: the file.
        private: whether this user alone may read and write it.
        new: whether it takes the place of nothing.

    Raises:
        FileExistsError: it is to be new, and something is there, or came meanwhile.
        OSError: the folder cannot be written.
    """
    remove_leftovers(path)
    file, temporary = _temporary(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not private:
                # mkstemp makes files private; what is written here is as public as its neighbours.
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(temporary, 0o666 & ~umask)
            if sys.platform != "win32":
                # While the lock is held: no other process takes the file for a leftover.
                _put(temporary, path, new)
        if sys.platform == "win32":  # moves no open file
            _put(temporary, path, new)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _put(temporary: str, path: Path, new: bool) -> None:
    """Give a file its name; FileExistsError where something new finds it taken."""
    if not new:
        os.replace(temporary, path)
    elif sys.platform == "win32":
        os.rename(temporary, path)  # there it replaces nothing
    else:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            # Not every file system has a second name for a file.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
            os.replace(temporary, path)
        else:
            os.unlink(temporary)


def _temporary(path: Path) -> tuple[BinaryIO, str]:
    """Return a new temporary file, locked as long as it is open, and its name."""
    # Cut, so that no name becomes too long; the ending stays, by which leftovers are known.
    prefix = f".{path.stem[:40]}{path.suffix[:20]}."
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
        if not _lock(handle, wait=True) or Path(name).exists():
            return os.fdopen(handle, "wb"), name
        # Another process took it for a leftover before it was locked.
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of this kind of file whose writer was killed."""
    name = re.compile(rf"\..*{re.escape(path.suffix[:20])}\.[a-z0-9_]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in [entry for entry in entries if name.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(state.st_mode):
                    _remove_if_left(entry.path, old=is_stale(state.st_mtime))


def is_stale(modified: float) -> bool:
    """Whether a temporary file is no longer written, by the time of its last change.

    What is as far in the future was written before the clock was set back.
    """
    return abs(time.time() - modified) > _STALE_SECONDS


def _remove_if_left(path: str, old: bool) -> None:
    with open(path, "rb") as file:
        free = _lock(file.fileno())
        # Without locks, its age must tell.
        if free or (free is False and old):
            os.unlink(path)


def append_whole(handle: int, content: bytes) -> None:
    """Add bytes to the end of an open file, or nothing where they cannot all be written.

    Args:
        handle: of a file that is opened to be added to, without a buffer.
        content: what is added.

    Raises:
        OSError: it cannot be written; the file is as long as before, also after Ctrl-C.
    """
    size = os.fstat(handle).st_size
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except BaseException:
        # A full disk takes a part.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, size)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, unless it holds just that already.

    Raises:
        OSError: the folder cannot be written.
    """
    if path.is_file() and path.read_bytes() == content:
        remove_leftovers(path)
        return
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def locked(folder: Path, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Keep other processes and threads out of a block that reads a folder and then writes there.

    The system drops the lock when its process ends in whatever way, so a lock file that is left
    behind stops nobody. On a file system that has no locks none is taken.

    Args:
        folder: it must exist.
        wait: seconds to wait for another process.

    Raises:
        OSError: the folder cannot be written, or another process holds the lock for too long.
    """
    path = folder / LOCK
    end = time.monotonic() + wait
    while True:
        # A link in its place must not make a file elsewhere.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            # Whoever had the lock before may have removed the file that was opened here.
            if _lock(handle) is not None and _is_at(handle, path):
                try:
                    yield
                finally:
                    # While it is locked: afterwards it could be the file of the next process.
                    _remove(path)
                return
        finally:
            os.close(handle)
        if time.monotonic() > end:
            raise TimeoutError(
                errno.ETIMEDOUT, f"another process has been writing there for {wait:g} seconds"
            )
        time.sleep(LOCK_POLL)


def _lock(handle: int, *, wait: bool = False) -> bool | None:
    """Lock an open file; None where another process holds it, False where there are no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as problem:
        return None if problem.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK) else False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    # Windows keeps a file that is open: there it stays, empty.
    with contextlib.suppress(OSError):
        path.unlink()
