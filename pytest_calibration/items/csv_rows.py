"""Items files: tables of text with a head line, as a spreadsheet saves them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pytest_calibration.errors import ItemError
from pytest_calibration.input_files import read_text
from pytest_calibration.items.jsonl import Row, check_key
from pytest_calibration.text.visible import quoted

MOST_BYTES: Final = 1 << 28


def csv_rows(path: Path, keys: Sequence[str], delimiter: str) -> Iterator[tuple[str, Row]]:
    """Yield where each row of a table stands, and the row: text by key, empty cells left out.

    Args:
        path: the file; its first line names the keys.
        keys: the keys a row may have.
        delimiter: what separates cells.

    Raises:
        ItemError: what cannot be read, by file and line.
    """
    text = io.StringIO(read_text(path, MOST_BYTES, ItemError), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    head: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not head:
                head = [cell.strip() for cell in cells]
                _check_head(head, keys, where)
            elif len(cells) != len(head):
                raise ItemError(
                    f"{where}: has {len(cells)} cells where the head line names {len(head)}; put "
                    "a text that holds the delimiter between quotes."
                )
            else:
                yield where, {k: c for k, c in zip(head, cells, strict=True) if c.strip()}
    except csv.Error as problem:
        raise ItemError(
            f"{path}, line {reader.line_num}: is no row of a table ({problem})."
        ) from None


def _check_head(head: Sequence[str], keys: Sequence[str], where: str) -> None:
    try:
        for key in head:
            check_key(key, keys)
    except ValueError as problem:
        raise ItemError(f"{where}: the head line: {problem}.") from None
    repeated = [key for key, count in Counter(head).items() if count > 1]
    if repeated:
        raise ItemError(f"{where}: the head line names {quoted(repeated[0])} twice.")
