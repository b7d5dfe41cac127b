"""Report files: what each ending stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Results

ENDINGS: Final = (".html", ".md", ".json", ".txt", ".png", ".svg")


def write_report(path: Path, results: Results) -> Iterator[str]:
    """Write one report, as its ending says, and yield the names of the files.

    Raises:
        OSError: it cannot be written.
    """
    from pytest_calibration.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix in (".png", ".svg"):
        from pytest_calibration.reports.plots import plots_of

        for picture, content in plots_of(results, path):
            with replacing(picture) as file:
                file.write(content)
            yield os.path.relpath(picture)
        return
    with replacing(path) as file:
        for piece in _pieces(suffix, results):
            # A lone surrogate cannot be encoded; it is shown as an escape sequence.
            file.write(piece.encode("utf-8", errors="backslashreplace"))
    yield os.path.relpath(path)


def _pieces(suffix: str, results: Results) -> Iterable[str]:
    if suffix == ".html":
        from pytest_calibration.reports.html import html_report

        return html_report(results)
    if suffix == ".md":
        from pytest_calibration.reports.markdown import COMMENT, markdown_report

        return markdown_report(results, most_bytes=COMMENT)
    if suffix == ".json":
        from pytest_calibration.reports.json_report import json_report

        return json_report(results)
    from pytest_calibration.reports.openmetrics import openmetrics_report

    return openmetrics_report(results)
