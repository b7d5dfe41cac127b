"""A session as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_calibration.errors import ReportError
from pytest_calibration.input_files import read_text
from pytest_calibration.reports.documents import converted, loads
from pytest_calibration.reports.flat import flat_metrics
from pytest_calibration.reports.model import FORMAT, Results, plain

MOST_BYTES: Final = 1 << 28


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
    return parse_json(read_text(path, MOST_BYTES, ReportError), str(path))


def parse_json(text: str, name: str = "the report") -> Results:
    """Read the text of a JSON report; fields that are not known are ignored.

    Args:
        text: the whole document.
        name: what an error calls it.

    Raises:
        ReportError: it is no such report, or one of a newer format.
    """
    try:
        document = loads(text)
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
        return converted(document, Results)
    except ValueError as problem:
        raise ReportError(
            f"{name}: is no JSON report of format {FORMAT}: {problem}; write it again."
        ) from None
