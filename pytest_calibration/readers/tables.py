"""Tables in files: CSV, Parquet, JSON lines, JSON records. What the columns mean: see ``columns``.

CSV may be delimited by commas, semicolons, tabs or bars; with another delimiter than the comma,
numbers may be written with a decimal comma. Line breaks in quotes are read.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import PredictionsError
from pytest_calibration.extras import require
from pytest_calibration.input_files import opened, read_text, text_lines
from pytest_calibration.predictions import Predictions
from pytest_calibration.predictions.columns import Table, are_predictions, is_wanted, kept
from pytest_calibration.predictions.frames import table_of, table_of_records
from pytest_calibration.predictions.stored_items import MAX_ITEMS
from pytest_calibration.readers.first_line import MOST_OF_A_LINE, first_object
from pytest_calibration.text.visible import quoted, visible

CSV: Final = (".csv", ".tsv", ".txt")
LINES: Final = (".jsonl", ".ndjson")
PARQUET: Final = (".parquet", ".pq")
# Bytes of a file that is read as a whole.
MOST_OF_A_FILE: Final = 1 << 30
DELIMITERS: Final = ",;\t|"
# First line by which Excel is told the delimiter.
SEPARATOR: Final = "sep="
Wanted = Callable[[str], bool]
Lines = Generator[tuple[int, str], None, None]


def claims(path: Path) -> bool:
    """Whether a file is a table whose columns are predictions, by their names."""
    try:
        return are_predictions(_names(path))
    except PredictionsError:
        return False


def _names(path: Path) -> Sequence[str]:
    """Return the names of the columns of a table; of JSON those of the first record."""
    ending = path.suffix.lower()
    if ending in CSV:
        with closing(text_lines(path, MOST_OF_A_LINE, PredictionsError, blank=True)) as lines:
            return _header(path, lines, is_wanted(None))[1]
    if ending in LINES or (ending == ".json" and _holds_lines(path)):
        return [*(first_object(path) or {})]
    if ending in PARQUET and find_spec("pyarrow"):
        names: list[str] = _parquet(path, lambda file: file.schema_arrow.names)
        return names
    if ending == ".json":
        records = _records(path)
        return [*records[0]] if records else []
    return []


def read(
    path: Path,
    *,
    probe: str | None = None,
    columns: Mapping[str, Any] | None = None,
    classes: Sequence[object] | None = None,
) -> list[Predictions]:
    """Return the predictions in a table.

    Args:
        path: the file.
        probe: name of the probe; by default that of the file without its ending.
        columns: what the file calls its columns; see ``Predictions.from_frame``.
        classes: (k,) the classes in the order of the probabilities.

    Raises:
        PredictionsError: there is no such file, it is no table, or the first cell that is wrong.
        MissingExtra: it is Parquet, and pyarrow is not installed.
        UsageError: ``columns`` is no mapping of roles to names.
    """
    table = _table(path, is_wanted(columns), columns)
    if not table.n:
        _refuse_empty(table)
    name = visible(path.stem) if probe is None else probe
    return [Predictions.from_frame(table, columns=columns, classes=classes, probe=name)]


def _refuse_empty(table: Table) -> None:
    """Raise where a table has columns and no rows; other columns than it needs are named later."""
    if table.cells:
        raise PredictionsError(f"{table.where}: holds no rows; there must be one per item.")


def _table(path: Path, wanted: Wanted, columns: Any) -> Table:
    ending = path.suffix.lower()
    if ending in CSV:
        return _csv_table(path, wanted)
    if ending in LINES or (ending == ".json" and _holds_lines(path)):
        return _lines_table(path, wanted)
    if ending == ".json":
        return table_of_records(str(path), _records(path), _record_place, wanted)
    if ending in PARQUET:
        return table_of(_read_parquet(path, wanted), columns, str(path))
    with opened(path, PredictionsError):
        pass
    advice = "save the predictions as CSV, Parquet or JSON Lines"
    if ending in (".yaml", ".yml"):
        advice = "a stored baseline is what predictions are compared with"
    elif ending in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        advice = "unpack it first"
    elif ending in (".npy", ".npz", ".pt", ".pkl", ".safetensors", ".h5"):
        advice = "load it, and pass the arrays to Predictions.from_probabilities"
    raise PredictionsError(
        f"{path}: predictions are read from .csv, .tsv, .parquet, .jsonl and .json; {advice}."
    )


# --- CSV -----------------------------------------------------------------------------------------


def _csv_table(path: Path, wanted: Wanted) -> Table:
    with closing(text_lines(path, MOST_OF_A_LINE, PredictionsError, blank=True)) as lines:
        dialect, names, start = _header(path, lines, wanted)
        used = kept(str(path), names, wanted)
        places = [names.index(name) for name in used]
        columns: list[list[Any]] = [[] for _ in used]
        numbers = array("q")
        for number, row in _csv_rows(path, lines, dialect, start):
            _check_row(path, number, row, names)
            numbers.append(number)
            for column, place in zip(columns, places, strict=True):
                # An empty cell is a missing one.
                column.append(row[place] or None)
    if not numbers and not used:
        raise PredictionsError(f"{path}: holds no rows; there must be one per item.")
    return Table(
        str(path),
        names,
        dict(zip(used, columns, strict=True)),
        lambda row: f"line {numbers[row]}",
        decimal_comma=dialect["delimiter"] != ",",
    )


def _header(path: Path, lines: Lines, wanted: Wanted) -> tuple[dict[str, Any], list[str], int]:
    """Return how a file is written, the names in its first line, and that line's number."""
    told, start = "", 0
    for start, line in lines:  # noqa: B007  both are read after the loop
        text = line.strip("\r\n")
        if text.lower().startswith(SEPARATOR) and len(text) == len(SEPARATOR) + 1:
            told = text[-1]
        elif text.strip():
            break
    else:
        raise PredictionsError(f"{path}: is empty; its first line must name the columns.")
    read: dict[str, list[str]] = {}
    for delimiter in told or DELIMITERS:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
            read[delimiter] = [cell.strip() for cell in cells]
        except (csv.Error, StopIteration, TypeError, ValueError):
            continue
    if not read:
        raise PredictionsError(f"{path}, line {start}: is no line of a CSV file.")
    best = max(read, key=lambda one: (sum(map(wanted, read[one])), len(read[one])))
    names = read[best]
    if not any(map(wanted, names)) and any(map(_is_number, names)):
        raise PredictionsError(
            f"{path}, line {start}: holds values ({quoted(text)}), and must name the columns; "
            "write a header, such as: confidence,correct."
        )
    # Else a space at the start of a cell is a part of it.
    return {"delimiter": best, "skipinitialspace": f"{best} " in line}, names, start


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_rows(
    path: Path, lines: Lines, dialect: Mapping[str, Any], start: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield number of the first line and cells of each row that is not blank."""
    reader = csv.reader((line for _, line in lines), strict=True, **dialect)
    # For the whole process; by default a text of 131,072 characters is too long.
    before = csv.field_size_limit(MOST_OF_A_LINE)
    number = start + 1
    try:
        for row in reader:
            if any(row):
                yield number, row
            number = start + reader.line_num + 1
    except csv.Error as problem:
        raise PredictionsError(
            f"{path}, line {number}: is no row of a CSV file ({problem}); put texts that hold "
            'quotes or the delimiter into quotes, and write a quote in them twice ("").'
        ) from None
    finally:
        csv.field_size_limit(before)


def _check_row(path: Path, number: int, row: list[str], names: list[str]) -> None:
    if len(row) != len(names):
        advice = "one cell for each column"
        if len(row) > len(names):
            advice = "put cells that hold the delimiter, such as decimal commas, into quotes"
            if len(row) == len(names) + 1:
                advice += ", and give row names a header or leave them out (R: row.names = FALSE)"
        raise PredictionsError(
            f"{path}, line {number}: has {len(row)} cells, and the header has {len(names)}; "
            f"{advice}."
        )
    if row[0].strip() == names[0] and [cell.strip() for cell in row] == names:
        raise PredictionsError(
            f"{path}, line {number}: is the header once more, as in files that were joined; "
            "remove the line."
        )


# --- JSON ----------------------------------------------------------------------------------------


def _lines_table(path: Path, wanted: Wanted) -> Table:
    names: dict[str, None] = {}
    records: list[dict[str, Any]] = []
    numbers = array("q")
    for number, text in text_lines(path, MOST_OF_A_LINE, PredictionsError):
        record = _object(text, f"{path}, line {number}")
        names.update(dict.fromkeys(record))
        numbers.append(number)
        # What is not looked at, such as a document, may be large.
        records.append({key: value for key, value in record.items() if wanted(key)})
    if not records:
        raise PredictionsError(f"{path}: is empty; there must be one JSON object for each item.")
    table = table_of_records(str(path), records, lambda row: f"line {numbers[row]}", wanted)
    return Table(table.where, [*names], table.cells, table.place)


def _holds_lines(path: Path) -> bool:
    """Whether a file called JSON holds an object in each of several lines."""
    if first_object(path) is None:
        return False
    with closing(text_lines(path, MOST_OF_A_LINE, PredictionsError)) as lines:
        return len([*islice(lines, 2)]) > 1


def _object(text: str, where: str) -> dict[str, Any]:
    """Return the object in a line of JSON, in which no key stands twice."""
    found = _loaded(text, where)
    if not isinstance(found, dict):
        raise PredictionsError(
            f"{where}: must be a JSON object, such as "
            f'{{"confidence": 0.9, "correct": true}}, got {quoted(found)}.'
        )
    return found


def _loaded(text: str, where: str) -> Any:
    repeated: list[str] = []

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # JSON would keep the last value of a repeated key silently.
        repeated.extend(key for key, many in Counter(key for key, _ in pairs).items() if many > 1)
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=made)
    except (ValueError, RecursionError) as problem:
        raise PredictionsError(f"{where}: is no JSON ({problem}).") from None
    if repeated:
        raise PredictionsError(f"{where}: has the key {quoted(repeated[0])} twice; keep one.")
    return found


def _records(path: Path) -> list[Mapping[str, Any]]:
    """Return the records of a JSON file."""
    found = _loaded(read_text(path, MOST_OF_A_FILE, PredictionsError), str(path))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise PredictionsError(
            f"{path}: is no list of records, one for each item; a report holds no items, and a "
            'frame of pandas is written as records by to_json(path, orient="records").'
        )
    if not found:
        raise PredictionsError(f"{path}: holds no records; there must be one for each item.")
    return found


def _record_place(row: int) -> str:
    return f"record {row + 1}"


# --- Parquet -------------------------------------------------------------------------------------


def _read_parquet(path: Path, wanted: Wanted) -> Any:
    def read_wanted(file: Any) -> Any:
        # Names of columns, not of the parts of nested ones; none of them is read for an error.
        names = file.schema_arrow.names
        return file.read(columns=kept(str(path), names, wanted) or None)

    require("pyarrow", "parquet")
    return _parquet(path, read_wanted)


def _parquet(path: Path, use: Callable[[Any], Any]) -> Any:
    """Return what a function makes of a Parquet file."""
    parquet = import_module("pyarrow.parquet")
    with opened(path, PredictionsError) as file:
        try:
            found = parquet.ParquetFile(file)
            _check_unpacked(path, found.metadata)
            return use(found)
        except PredictionsError:
            raise
        except Exception as problem:  # Arrow raises many kinds for damaged files
            text = str(problem).partition("\n")[0]
            raise PredictionsError(
                f"{path}: cannot be read as Parquet ({text}); write it anew."
            ) from None


def _check_unpacked(path: Path, metadata: Any) -> None:
    """Raise PredictionsError where a small file would become a large table."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > MAX_ITEMS or size > MOST_OF_A_FILE:
        raise PredictionsError(
            f"{path}: holds {metadata.num_rows:,} rows in {size:,} bytes when it is unpacked; at "
            f"most {MAX_ITEMS:,} rows in {MOST_OF_A_FILE:,} bytes are read."
        )
