"""Files that others may write or read at any time: how they are read, named and written.

A reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pytest_calibration.errors import CalibrationError

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
# First bytes of what `git lfs pull` replaces by the file itself.
_LFS: Final = re.compile(rb"\A(\xef\xbb\xbf)?version https?://(git-lfs|hawser)\.github\.com/spec/")
_LFS_HEAD: Final = 64
_BOM: Final = "\ufeff"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_NOT_UTF_8: Final = "{}: cannot be read (line {} is not UTF-8); save it as UTF-8."
_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
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


# --- reading -------------------------------------------------------------------------------------


def is_lfs_pointer(content: bytes) -> bool:
    """Whether a file begins as what Git LFS leaves in place of a file that was not fetched."""
    return _LFS.match(content) is not None


@contextlib.contextmanager
def opened(path: Path, error: type[CalibrationError]) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading.

    Args:
        path: the file.
        error: class of the errors raised.

    Raises:
        CalibrationError: (as ``error``) it is not there, a folder, a device, a pipe, a socket or a
            pointer of Git LFS, or cannot be read.
    """
    try:
        file = _plain_file(path)
        with file:
            if is_lfs_pointer(file.peek(_LFS_HEAD)):
                raise error(
                    f"{path}: is a pointer of Git LFS, not the file itself; fetch it: git lfs pull."
                )
            yield file
    except FileNotFoundError:
        if path.is_symlink():
            raise error(f"{path}: cannot be read (a link to what is not there).") from None
        raise error(f"{path}: there is no such file.") from None
    except OSError as problem:
        raise error(
            f"{path}: cannot be read ({problem.strerror or problem}); name a file."
        ) from None


def _plain_file(path: Path) -> io.BufferedReader:
    """Open a file; raises OSError, also where it is of another kind."""
    try:
        mode = path.stat().st_mode
    except ValueError:
        # A NUL, or half a surrogate pair.
        raise OSError(0, "no file can have this name") from None
    if not stat.S_ISREG(mode):
        # Never opened: a pipe waits for a writer, and a device may have no end.
        kind = _KINDS.get(stat.S_IFMT(mode), "no plain file")
        raise OSError(0, f"it is {kind}")
    return path.open("rb")


def read_file(path: Path, most: int, error: type[CalibrationError]) -> bytes:
    """Return the content of a plain file.

    Args:
        path: the file.
        most: bytes that it may have.
        error: class of the errors raised.

    Raises:
        CalibrationError: (as ``error``) as in :func:`opened`, or it is too large.
    """
    with opened(path, error) as file:
        content = file.read(most + 1)
        size = max(len(content), os.fstat(file.fileno()).st_size)
    if size > most:
        raise error(f"{path}: {size:,} bytes are too many for such a file ({most:,}).")
    return content


def read_text(path: Path, most: int, error: type[CalibrationError]) -> str:
    """Return the text of a UTF-8 file, without a byte order mark; see :func:`read_file`."""
    content = read_file(path, most, error)
    _check_encoding(path, content, error)
    try:
        return content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(_NOT_UTF_8.format(path, line)) from None


def text_lines(
    path: Path, most: int, error: type[CalibrationError]
) -> Generator[tuple[int, str], None, None]:
    """Yield number and text of each line of a UTF-8 file that is not blank.

    A byte order mark is no part of a line; files that were joined have several.

    Args:
        path: the file.
        most: characters that a line may have.
        error: class of the errors raised.

    Raises:
        CalibrationError: (as ``error``) as in :func:`opened`, or a line is too long or not UTF-8.
    """
    with opened(path, error) as file:
        _check_encoding(path, file.peek(4), error)
        # Other bytes become half surrogate pairs, so that the line can be named.
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape")
        for number, line in enumerate(iter(lambda: text.readline(most + 1), ""), start=1):
            if len(line) > most:
                raise error(f"{path}, line {number}: is longer than {most:,} characters.")
            if has_half_pair(line):
                raise error(_NOT_UTF_8.format(path, number))
            if line.removeprefix(_BOM).strip():
                yield number, line.removeprefix(_BOM)


def has_half_pair(text: str) -> bool:
    """Whether a text holds half a surrogate pair, such as an emoji cut in two."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _check_encoding(path: Path, head: bytes, error: type[CalibrationError]) -> None:
    """Raise for the encodings that Windows calls Unicode; without a mark, letters are zeros."""
    if head.startswith(_UTF_16) or b"\0" in head[:2]:
        raise error(f"{path}: cannot be read (it is UTF-16 or UTF-32 text); save it as UTF-8.")


# --- writing -------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` when the block ends well.

    What is written goes into a temporary file in the same folder, whose name ends in ``.tmp``; it
    is removed where the block raises, and by the next write of such a file where the process was
    killed.

    Args:
        path: the file.
        private: whether this user alone may read and write it.

    Raises:
        OSError: the folder cannot be written.
    """
    _remove_leftovers(path)
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
                os.replace(temporary, path)
        if sys.platform == "win32":  # moves no open file
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


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


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of this kind of file whose writer was killed."""
    name = re.compile(rf"\..*{re.escape(path.suffix[:20])}\.[a-z0-9_]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in [entry for entry in entries if name.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(state.st_mode):
                    _remove_if_left(entry.path, time.time() - state.st_mtime > _STALE_SECONDS)


def _remove_if_left(path: str, old: bool) -> None:
    with open(path, "rb") as file:
        free = _lock(file.fileno())
        # Without locks, its age must tell.
        if free or (free is False and old):
            os.unlink(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, unless it holds just that already.

    Raises:
        OSError: the folder cannot be written.
    """
    if path.is_file() and path.read_bytes() == content:
        _remove_leftovers(path)
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
