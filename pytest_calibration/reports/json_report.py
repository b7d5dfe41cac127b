"""A session as JSON, and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from enum import EnumType
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec

from pytest_calibration.errors import ReportError
from pytest_calibration.reports.flat import flat_metrics
from pytest_calibration.reports.model import FORMAT, Results, from_plain, plain
from pytest_calibration.text.visible import visible

# Characters of a value that an error message shows.
MOST_SHOWN: Final = 40
_KINDS: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    NoneType: "null",
}


def json_report(results: Results) -> Iterator[str]:
    """Yield the pieces of a JSON document that holds all of a session.

    It fits the published schema (``results-1.schema.json`` in this package) and comes back equal
    from ``read_json``. Its ``metrics`` hold the same numbers by model, probe and metric, with
    numbers for leaves, as programs want them that compare two files. ASCII only: every other
    character is written as its escape, so that no text acts on a terminal or hides from a reader.

    Args:
        results: the session.
    """
    tree = {**plain(results), "metrics": flat_metrics(results)}
    yield from json.JSONEncoder(indent=1, allow_nan=False).iterencode(tree)
    yield "\n"


def read_json(path: Path) -> Results:
    """Read a JSON report.

    Raises:
        ReportError: the file cannot be read, is no such report, or one of a newer format.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ReportError(f"{path}: cannot be read ({problem.strerror or problem}).") from None
    try:
        # Windows PowerShell begins a file with a byte order mark.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ReportError(
            f"{path}: is not UTF-8 text (byte {problem.start}); name a JSON report."
        ) from None
    return parse_json(text, str(path))


def parse_json(text: str, name: str = "the report") -> Results:
    """Read the text of a JSON report; fields that are not known are ignored.

    Args:
        text: the whole document.
        name: what an error calls it.

    Raises:
        ReportError: it is no such report, or one of a newer format.
    """
    try:
        document = json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except json.JSONDecodeError as problem:
        raise ReportError(
            f"{name}, line {problem.lineno}: is not JSON: {problem.msg}; name a JSON report."
        ) from None
    except (ValueError, RecursionError) as problem:
        raise ReportError(f"{name}: is not JSON: {problem}; name a JSON report.") from None
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is not int or "results" not in document:
        raise ReportError(
            f"{name}: is no JSON report of pytest-calibration (it has no format and results); "
            "name a file that --calibration-report=FILE.json wrote."
        )
    if version > FORMAT:
        raise ReportError(
            f"{name}: has format {version}, this version reads up to {FORMAT}: update "
            "pytest-calibration."
        )
    try:
        return from_plain(Results, document)
    except msgspec.ValidationError as problem:
        raise ReportError(
            f"{name}: is no JSON report of format {FORMAT}: {_sentence(problem, document)}; write "
            "it again."
        ) from None


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"{visible(word, MOST_SHOWN)} is no finite number")


# --- what is wrong with a document ---------------------------------------------------------------


def _sentence(problem: msgspec.ValidationError, document: Any) -> str:
    """Return where in a document the problem is, what must be there, and what is."""
    message, _, path = str(problem).partition(" - at `$")
    kind, value, place = Results, document, ""
    for name, index in re.findall(r"\.(\w+)|\[(.+?)\]", path.rstrip("`")):
        if NoneType in get_args(kind):
            kind = get_args(kind)[0]
        if name:
            kind, value, place = get_type_hints(kind)[name], value[name], f"{place}.{name}"
        elif index == "...":
            # Some key of a mapping: the first whose value does not fit.
            kind = get_args(kind)[1]
            key = next(key for key, entry in value.items() if not _fits(entry, kind))
            value, place = value[key], f"{place}.{visible(key, MOST_SHOWN)}"
        else:
            kind, value, place = get_args(kind)[0], value[int(index)], f"{place}[{index}]"
    place = place.removeprefix(".") or "the document"
    if missing := re.fullmatch("Object missing required field `(.+)`", message):
        return f"{place} lacks {missing[1]}"
    return f"{place} must be {_expected(kind)}, got {_shown(value)}"


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _expected(kind: Any) -> str:
    """Return a type as a reader of JSON knows it."""
    if isinstance(kind, EnumType) or get_origin(kind) is Literal:
        values = list(kind) if isinstance(kind, EnumType) else get_args(kind)
        return f"one of {', '.join(json.dumps(value) for value in values)}"
    if NoneType in get_args(kind):
        return " or ".join(map(_expected, get_args(kind)))
    return _KINDS.get(get_origin(kind) or kind, "an object")


def _shown(value: Any) -> str:
    """Return a value of a document in a few characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return visible(json.dumps(value, ensure_ascii=False), MOST_SHOWN)
