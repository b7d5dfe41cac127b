"""Types of arguments, the gate's settings among them, and the record behind a file name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pytest_calibration.gate.strictness import DEFAULT, Strictness, range_error

if TYPE_CHECKING:
    from pytest_calibration.baselines import Record
    from pytest_calibration.predictions import Predictions

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

MOST: Final = 1_000_000_000
# What switches the accuracy guard off.
OFF: Final = "none"
KINDS: Final = (
    "predictions (.csv, .parquet, .jsonl), a dump, a stored record (.yaml) or a report (.json)"
)
RECORDS: Final = (".yaml", ".yml")
REPORT: Final = ".json"
ENDINGS: Final = (
    *RECORDS,
    *(".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", REPORT),
)
Number = TypeVar("Number", int, float)


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number in a range, its ends included."""
    return lambda text: _within(_read(int, text, "a whole number"), least, most)


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number in a range, its ends included."""
    return lambda text: _within(_read(float, text, "a number"), least, most)


def _setting(name: str) -> Callable[[str], float | str]:
    """Return the type of an argument that is a setting of the gate, in its range."""

    def read(text: str) -> float | str:
        if name == "accuracy_tolerance" and text == OFF:
            return text
        value = _read(float, text, "a number")
        problem = range_error(name, value)
        if problem:
            raise argparse.ArgumentTypeError(problem)
        return value

    return read


def _read(kind: Callable[[str], Number], text: str, expected: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}") from None


def _within(value: Number, least: Number, most: Number) -> Number:
    # Written so that NaN lies in no range.
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must lie between {least:,} and {most:,}, got {value:,}")
    return value


def add_arguments(parser: argparse.ArgumentParser, *rows: tuple[str, Any, str, str]) -> None:
    """Add arguments with one value each: (flag, type, metavar, help)."""
    for flag, kind, metavar, text in rows:
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)


def add_strictness(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the gate; each is None by default."""
    add_arguments(
        parser,
        ("--tolerance", _setting("tolerance"), "T", "allowed worsening in ECE units (default: the "
         "record's or the probe's own, else 0.02)"),
        ("--alpha", _setting("alpha"), "A", "one-sided error level of each bound (default: 0.05)"),
        ("--accuracy-tolerance", _setting("accuracy_tolerance"), "T", "allowed loss of accuracy, "
         f"or {OFF} (default: 0.02)"),
        ("--max-undetected", _setting("max_undetected"), "U", "a comparison that could miss a "
         "worsening of tolerance plus this is inconclusive (default: 0.05)"),
        ("--tail", _setting("tail"), "C", "answers with more confidence than this are compared by "
         "themselves, too; 1 for none (default: 0.9)"),
    )  # fmt: skip


def add_file_choices(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is read of a file of predictions; see ``file_choices``."""
    add_arguments(
        parser,
        ("--task", str, "NAME", "this task of lm-eval alone"),
        ("--filter", str, "NAME", "this filter of lm-eval alone"),
        ("--metric", str, "NAME", "this metric of lm-eval, such as acc_norm"),
    )  # fmt: skip
    add_columns(parser)
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="this run of lm-eval")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what the columns of a table are; see ``columns_of``."""
    add_arguments(
        parser,
        ("--classes", names_in, "A,B", "the classes in the order of the probabilities"),
    )  # fmt: skip
    parser.add_argument(
        "--column",
        action="append",
        type=_column,
        metavar="ROLE=NAME",
        help="what the table calls a column: --column confidence=score (repeatable)",
    )


def _column(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role.strip() and equals and name.strip()):
        raise argparse.ArgumentTypeError(
            f"must be ROLE=NAME, such as confidence=score, got {text!r}"
        )
    return role.strip(), name.strip()


def names_in(text: str) -> list[str]:
    """Return the names in a text that lists them."""
    return [name.strip() for name in text.split(",")]


def file_choices(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``read_predictions`` that were given."""
    given = {name: getattr(options, name) for name in ("task", "filter", "metric")}
    given["run"] = options.run_name
    chosen = {name: value for name, value in given.items() if value is not None}
    return chosen | columns_of(options)


def columns_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was said about the columns of a table, for ``read_predictions``."""
    columns: dict[str, Any] = {}
    for role, name in options.column or ():
        names = names_in(name)
        columns[role] = names if len(names) > 1 else name
    given = {"classes": options.classes, "columns": columns or None}
    return {name: value for name, value in given.items() if value is not None}


def threshold(text: str) -> float:
    """Read an argument that is a confidence from which on answers are used."""
    value = _setting("threshold")(text)
    assert isinstance(value, float)
    return value


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Add the thresholds at which precision and coverage are compared."""
    parser.add_argument(
        "--threshold",
        type=threshold,
        action="append",
        metavar="X",
        help="compare precision and coverage of the answers with at least this confidence, too "
        "(repeatable; default: operating_points of the configuration)",
    )


def strictness(
    options: argparse.Namespace,
    tolerance: float | None = None,
    alpha: float | None = None,
    tail: float | None = None,
) -> Strictness:
    """Return how strict the gate is: as the flags say, else as given here, else the default."""
    chosen = DEFAULT.with_first(
        tolerance=(options.tolerance, tolerance),
        alpha=(options.alpha, alpha),
        max_undetected=(options.max_undetected,),
        tail=(options.tail, tail),
    )
    guard = options.accuracy_tolerance
    if guard is None:
        return chosen
    return replace(chosen, accuracy_tolerance=None if guard == OFF else guard)


def record_at(path: str) -> Record:
    """Return the record that a YAML file holds, whatever its probe and name.

    Raises:
        UnreadableBaseline: it is no record, or one that cannot be trusted.
    """
    from pytest_calibration.baselines.record import read_record
    from pytest_calibration.errors import UnreadableBaseline
    from pytest_calibration.strict_yaml import read_mapping

    data = read_mapping(Path(path), UnreadableBaseline)
    return read_record(Path(path), data.get("probe", ""), data.get("name", ""))


def tolerance_at(path: str) -> float | None:
    """Return the tolerance that a record has of its own; None for other files."""
    return record_at(path).tolerance if Path(path).suffix.lower() in RECORDS else None


def is_file(text: str) -> bool:
    """Whether a text names a file of predictions, or a folder of them."""
    from pytest_calibration.readers import kind_of

    path = Path(text)
    if os.path.isdir(path):
        return kind_of(path) is not None
    return path.suffix.lower() in ENDINGS or os.path.isfile(path)


def is_report(file: str, options: argparse.Namespace) -> bool:
    """Whether a file of JSON is a report, and no predictions."""
    from pytest_calibration.readers import kind_of

    ending = Path(file).suffix.lower()
    return ending == REPORT and not file_choices(options) and kind_of(file) is None


def items_at(
    path: str, probe: str | None = None, choices: Mapping[str, Any] | None = None
) -> tuple[str, Predictions, Predictions | None, int]:
    """Return kind, items, their baseline where they have one, and how many were measured.

    Args:
        path: the file.
        probe: name of the probe of a table, which has none of its own.
        choices: of :func:`file_choices`.

    Raises:
        CalibrationError: the file cannot be read as what its ending says.
    """
    from pytest_calibration.readers import TABLE, kind_of, read_predictions
    from pytest_calibration.reports.dump import read_both

    if Path(path).suffix.lower() in RECORDS:
        record = record_at(path)
        return "record", record.predictions, None, record.n
    kind, given = kind_of(path), choices or {}
    if kind == "dump" and not given:
        predictions, before = read_both(path)
        return "dump", predictions, before, predictions.n
    # What is no predictions by its columns may be a table by those that are named.
    table = kind in (None, TABLE)
    predictions = read_predictions(path, probe=probe if table else None, **given)
    return "file", predictions, None, predictions.n


def pair_at(
    first: str, second: str, choices: Mapping[str, Any] | None = None
) -> tuple[Predictions, Predictions]:
    """Return the items of two files; a table is read as one of the probe of the other.

    Raises:
        CalibrationError: as :func:`items_at`.
    """
    kind, one, _, _ = items_at(first, None, choices)
    other_kind, other, _, _ = items_at(second, one.probe, choices)
    if kind == "file" and other_kind != "file":
        one = items_at(first, other.probe, choices)[1]
    return one, other
