"""Files of others, read safely: plain ones only, of bounded size, in UTF-8."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from pytest_calibration.errors import CalibrationError
from pytest_calibration.text.visible import has_half_pair

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
    path: Path, most: int, error: type[CalibrationError], *, blank: bool = False
) -> Generator[tuple[int, str], None, None]:
    """Yield number and text of each line of a UTF-8 file that is not blank.

    A byte order mark is no part of a line; files that were joined have several.

    Args:
        path: the file.
        most: characters that a line may have.
        error: class of the errors raised.
        blank: yield blank lines, too: they may be part of a text in quotes.

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
            if blank or line.removeprefix(_BOM).strip():
                yield number, line.removeprefix(_BOM)


def _check_encoding(path: Path, head: bytes, error: type[CalibrationError]) -> None:
    """Raise for the encodings that Windows calls Unicode; without a mark, letters are zeros."""
    if head.startswith(_UTF_16) or b"\0" in head[:2]:
        raise error(f"{path}: cannot be read (it is UTF-16 or UTF-32 text); save it as UTF-8.")
