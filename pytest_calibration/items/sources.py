"""Where the items of a probe come from: a JSONL file, a CSV file, or a public data set.

Every kind of probe reads its items the same way, so that what was read stands in the signature of
its predictions::

    source = source_of(name, path, dataset)
    super().__init__(name, read_rows(source, question_item, KEYS), source)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from pytest_calibration.errors import ItemError, UsageError
from pytest_calibration.items.csv_rows import csv_rows
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.items.jsonl import Row, json_rows

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
"""What separates the cells of a table, by the ending of its file."""
Source: TypeAlias = str | Path | Dataset
DatasetSetting: TypeAlias = Dataset | Mapping[str, Any] | None
"""A data set, or its settings as ``calibration.yaml`` has them."""
T = TypeVar("T")


def source_of(probe: str, path: str | Path | None, dataset: DatasetSetting) -> Source | None:
    """Return where a probe reads its items; None for the built-in ones.

    Args:
        probe: name of the probe, for messages.
        path: a file of rows.
        dataset: a data set, or the settings of one.

    Raises:
        UsageError: both are given, or the settings make no data set.
    """
    if dataset is None:
        return path
    if path is not None:
        raise UsageError(f"probe {probe!r}: has both path and dataset; leave one of them out.")
    return dataset if isinstance(dataset, Dataset) else Dataset.of(dataset, f"probe {probe!r}")


def read_rows(source: Source, make: Callable[[Row], T], keys: Sequence[str]) -> list[T]:
    """Read the items of a source.

    A file that ends in ``.csv`` or ``.tsv`` is a table with a head line; any other file is JSON
    Lines, one object a line.

    Args:
        source: a file, or a data set.
        make: turns a row into an item; raises ``ValueError`` with what is wrong.
        keys: the keys a row may have.

    Raises:
        ItemError: the first bad row, by file and line; or a source that is missing or empty, or no
            source.
        MissingExtra: a data set is named, and the package ``datasets`` is not installed.
    """
    items: list[T] = []
    for where, row in _rows(source, keys):
        try:
            items.append(make(row))
        except ValueError as problem:
            hint = "; where: leaves such rows out" if isinstance(source, Dataset) else ""
            raise ItemError(f"{where}: {problem}{hint}.") from None
    if not items:
        raise ItemError(f"{source}: holds no rows{_remedy(source)}.")
    return items


def described(source: Source | None) -> dict[str, str]:
    """Return what a signature says of a source: the data set that was read, and its version."""
    return source.described() if isinstance(source, Dataset) else {}


def _remedy(source: Source) -> str:
    if isinstance(source, Dataset):
        return f" where {source.where!r}" if source.where else ""
    head = Path(source).suffix.lower() in DELIMITERS
    return "; write a head line and rows" if head else "; write one JSON object a line"


def _rows(source: Source, keys: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield where each row stands, and the row."""
    if isinstance(source, Dataset):
        return source.rows(keys)
    if not isinstance(source, str | Path):
        raise ItemError(f"the path of an items file must be text or a Path, got {source!r}.")
    path = Path(source)
    delimiter = DELIMITERS.get(path.suffix.lower())
    return json_rows(path, keys) if delimiter is None else csv_rows(path, keys, delimiter)
