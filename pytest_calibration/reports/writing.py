"""Report files, what each ending stands for, and the summary of a step on GitHub."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Results

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""Environment variable that names the file of the summary."""
# Bytes that GitHub takes of a step's summary.
SUMMARY_LIMIT: Final = 1 << 20
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


def append_summary(path: Path, results: Results) -> str:
    """Add to the step summary as much as it may still hold.

    GitHub shows nothing at all of a summary that is too large.

    Returns:
        A remark where there is no room for a report; else nothing.
    """
    from pytest_calibration.files import append_whole
    from pytest_calibration.reports import markdown

    with path.open("a+b", buffering=0) as file:
        # Other runs of the step may be writing, too.
        _lock(file)
        taken = file.seek(0, os.SEEK_END)
        file.seek(max(taken - 1, 0))
        between = b"" if file.read(1) in (b"", b"\n") else b"\n"
        room = SUMMARY_LIMIT - taken - len(between)
        fits = room >= markdown.LEAST
        most = min(markdown.STEP_SUMMARY, room)
        text = "".join(markdown.markdown_report(results, most_bytes=most)) if fits else ""
        content = (text or markdown.no_room(results)).encode("utf-8", errors="backslashreplace")
        if len(content) <= room:
            append_whole(file.fileno(), between + content)
    return "" if fits else f"{STEP_SUMMARY}: no room for the report, {taken:,} bytes are taken."


def _lock(file: IO[bytes]) -> None:
    """Wait until no other process has this file locked; it is unlocked as it is closed."""
    if sys.platform != "win32":
        import fcntl

        # Some network file systems have no locks.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
