"""How the file of a history is known, and which versions of it are read. Light."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import HistoryError
from pytest_calibration.input_files import read_file

FORMAT: Final = 1
# Bytes; a line has about 3,000.
MOST_OF_A_HISTORY: Final = 1 << 31
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNING: Final = b'{"format":'
_FORMATS: Final = re.compile(rb'^\{"format":(\d{1,9})', re.MULTILINE)


class NewerFormat(ValueError):  # noqa: N818  reads as the condition it names
    """What a newer version wrote."""


def check_format(document: Any) -> None:
    """Check the version of a line.

    Args:
        document: plain values, of any kind.

    Raises:
        NewerFormat: a newer version wrote it.
        ValueError: it is no line; says what is wrong, without a full stop.
    """
    if not isinstance(document, dict) or "format" not in document:
        raise ValueError("has no format")
    version = document["format"]
    if not isinstance(version, int) or isinstance(version, bool) or version < FORMAT:
        raise ValueError(f"has a format that is not {FORMAT}")
    if version > FORMAT:
        raise NewerFormat(
            f"has format {version}, and this version of pytest-calibration reads format {FORMAT}; "
            "update pytest-calibration"
        )


def content_of(path: Path) -> bytes:
    """Return the content of a history.

    Raises:
        HistoryError: there is no such file, or it is no plain one.
    """
    return read_file(path, MOST_OF_A_HISTORY, HistoryError)


def numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line that is not blank."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if text := line.strip().removeprefix(_BOM):
            yield number, text


def begins_as_ours(text: bytes) -> bool:
    """Whether a line begins as those that are written here, also where little of it is left."""
    return _BEGINNING.startswith(text[: len(_BEGINNING)])


def check_place(path: Path) -> None:
    """Raise HistoryError where no file can be made or written at a path."""
    place = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    if place != path and not place.is_dir():
        raise HistoryError(f"{path}: cannot be written ({place} is no folder); name another file.")
    if not os.access(place, os.W_OK):
        raise HistoryError(f"{path}: cannot be written (no right to write {place}).")


def content_to_extend(path: Path) -> bytes:
    """Return what is at a path, empty where nothing is, and check that lines can be added.

    Raises:
        HistoryError: it is no history, a newer version wrote in it, or it may not be written.
    """
    check_place(path)
    content = content_of(path) if os.path.lexists(path) else b""
    suspects = [one for one in islice(numbered(content), 1) if not begins_as_ours(one[1])]
    newer = next((one for one in _FORMATS.finditer(content) if int(one[1]) > FORMAT), None)
    if newer is not None:
        suspects.append((content.count(b"\n", 0, newer.start()) + 1, newer[0] + b"}"))
    for number, text in suspects:
        try:
            check_format(json.loads(text))
        except NewerFormat as problem:
            raise HistoryError(f"{path}, line {number}: {problem}.") from None
        except (ValueError, RecursionError):
            raise HistoryError(
                f"{path}: is no history of calibration (line {number}: has no format); nothing is "
                "added to it: name another file."
            ) from None
    return content
