"""Frames of pandas, polars, Arrow and others as tables, by their own plain methods.

None of their libraries is imported, but for Arrow's where a frame offers nothing but an exchange of
its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions.columns import Table, is_wanted, kept
from pytest_calibration.predictions.conversion import as_list, shown


def row_place(row: int) -> str:
    """Return what an error calls a row of a frame."""
    return f"row {row} (from 0)"


def table_of(frame: Any, columns: Any, where: str) -> Table:
    """Return a frame as a table.

    Args:
        frame: a frame of pandas, polars or Arrow, a data set, a mapping of columns, or a list of
            records.
        columns: what the caller calls the columns.
        where: what an error calls the frame.

    Raises:
        PredictionsError: it is no frame, or its columns differ in length.
        UsageError: ``columns`` is no mapping of roles to names.
    """
    wanted = is_wanted(columns)
    if isinstance(frame, list | tuple) and frame and all(isinstance(r, Mapping) for r in frame):
        return table_of_records(where, frame, row_place, wanted)
    if any(map(wanted, _index_names(frame))):
        frame = frame.reset_index()
    given, column = _columns(frame, where)
    names = [*map(str, given)]
    raw = dict(zip(names, given, strict=True))
    cells = {name: as_list(column(raw[name]), name, where) for name in kept(where, names, wanted)}
    lengths = {name: len(values) for name, values in cells.items()}
    for name, length in lengths.items():
        if length != (first := next(iter(lengths.values()))):
            raise PredictionsError(
                f"{where}: column {shown(name)} has {length} entries, and column "
                f"{shown(next(iter(lengths)))} has {first}; give one entry per item."
            )
    return Table(where, names, cells, row_place)


def table_of_records(
    where: str,
    records: Sequence[Mapping[Any, Any]],
    place: Callable[[int], str],
    wanted: Callable[[str], bool],
) -> Table:
    """Return records, a mapping each, as a table; a key that one leaves out is missing there."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(map(str, record)))
    cells = {
        name: as_list([record.get(name) for record in records], name, where)
        for name in names
        if wanted(name)
    }
    return Table(where, [*names], cells, place)


def _index_names(frame: Any) -> list[str]:
    """Return the names of the index of a frame of pandas, which files of it have as columns."""
    names = getattr(getattr(frame, "index", None), "names", None) or ()
    have = {*map(str, frame.columns)} if names else set()
    return [str(name) for name in names if name is not None and str(name) not in have]


def _columns(frame: Any, where: str) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the names of the columns, and what returns a column by its name."""
    if isinstance(frame, Mapping) and not hasattr(frame, "column_names"):
        return [*frame], frame.__getitem__
    for lazy in ("toPandas", "collect", "compute"):
        if callable(getattr(frame, lazy, None)):
            raise PredictionsError(
                f"{where}: a {type(frame).__name__} holds no rows yet; pass frame.{lazy}()."
            )
    # Arrow's columns are the values; a record batch knows its names by its schema.
    names = getattr(frame, "column_names", None)
    if names is None and hasattr(frame, "schema") and hasattr(frame, "column"):
        names = frame.schema.names
    if names is None:
        names = getattr(frame, "columns", None)
    if isinstance(names, Mapping):
        raise PredictionsError(
            f"{where}: a {type(frame).__name__} holds several tables "
            f"({', '.join(map(shown, names))}); pass one of them."
        )
    if names is not None and not callable(names) and hasattr(frame, "__getitem__"):
        return [*names], frame.column if hasattr(frame, "column") else frame.__getitem__
    exchanged = _exchanged(frame, where)
    if exchanged is not None:
        return [*exchanged.column_names], exchanged.column
    raise PredictionsError(
        f"{where}: expected a frame of pandas, polars or Arrow, a mapping of columns or a list of "
        f"records, got {type(frame).__name__}."
    )


def _exchanged(frame: Any, where: str) -> Any:
    """Return a frame that only offers its memory as Arrow's table; None where it cannot be."""
    if not (hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__dataframe__")):
        return None
    if not find_spec("pyarrow"):
        raise PredictionsError(
            f"{where}: a {type(frame).__name__} only offers its memory, which pyarrow reads: "
            'pip install "pytest-calibration[parquet]", or pass a frame of pandas or polars.'
        )
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            return import_module("pyarrow").table(frame)
        return import_module("pyarrow.interchange").from_dataframe(frame)
    except Exception:  # it offers something else than a frame; each library raises its own
        return None
