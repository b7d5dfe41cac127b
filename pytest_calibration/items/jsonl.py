"""Items files: JSON Lines, checked row by row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_calibration.errors import ItemError
from pytest_calibration.input_files import text_lines
from pytest_calibration.text.visible import has_half_pair, quoted

MAX_LINE: Final = 1 << 20
Row: TypeAlias = Mapping[str, Any]


def json_rows(path: Path, keys: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield where each row of a JSONL file stands, and the row; blank lines are skipped.

    Args:
        path: the file, one object a line.
        keys: the keys a row may have.

    Raises:
        ItemError: the first line that is no such row; or a file that cannot be read.
    """
    for number, line in text_lines(path, MAX_LINE, ItemError):
        where = f"{path}, line {number}"
        try:
            row = _row(line, keys)
        except ValueError as problem:
            raise ItemError(f"{where}: {problem}.") from None
        yield where, row


def _row(line: str, keys: Sequence[str]) -> Row:
    """Return the object in a line; raises ``ValueError`` with what is wrong."""
    repeated: list[str] = []

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # JSON would keep the last value of a repeated key silently.
        counts = Counter(key for key, _ in pairs)
        repeated.extend(key for key, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        row = json.loads(line, object_pairs_hook=made)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"is no JSON ({problem})") from None
    if not isinstance(row, dict):
        raise ValueError(f"must be a JSON object, got {type(row).__name__}")
    if repeated:
        raise ValueError(f"the key {quoted(repeated[0])} is given twice")
    for key in row:
        check_key(key, keys)
    return row


def check_key(key: str, keys: Sequence[str]) -> None:
    """Raise ``ValueError`` for a key that a row of this kind has not."""
    if key not in keys:
        raise ValueError(f"unknown key {quoted(key)}; known keys: {', '.join(keys)}")


def text_of(row: Row, key: str) -> str:
    """Return a key that must hold text that is not blank."""
    if key not in row:
        raise ValueError(f"the key {key!r} is missing")
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        what = (
            "must not be empty" if isinstance(value, str) else f"must be text, got {quoted(value)}"
        )
        raise ValueError(f"{key!r} {what}")
    return whole_text(value, key)


def whole_text(text: str, key: str) -> str:
    """Return a text that a tokenizer can read; raises ``ValueError`` for any other."""
    if has_half_pair(text):
        raise ValueError(
            f"{key!r} holds half a surrogate pair (an emoji cut in two?), which is no character; "
            f"cut texts between characters, got {quoted(text)}"
        )
    return text


def optional_texts(row: Row, *keys: str) -> dict[str, str | None]:
    """Return keys that may be left out; whole numbers are taken as text."""
    out: dict[str, str | None] = {}
    for key in keys:
        value = row.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str | None):
            raise ValueError(f"{key!r} must be text or a whole number, got {quoted(value)}")
        out[key] = value
    return out
