"""Puts the table of a benchmark into the page of the docs that shows it."""

from __future__ import annotations

from pathlib import Path


def publish(text: str, page: Path | None, benchmark: str) -> None:
    """Print a text, or write it into a page, between the marks that name the benchmark.

    Raises:
        ValueError: the page has no such marks.
    """
    if page is None:
        print(text)
        return
    start, end = (f"<!-- {mark}: {benchmark} -->" for mark in ("begin", "end"))
    before, has_start, rest = page.read_text(encoding="utf-8").partition(start)
    _, has_end, after = rest.partition(end)
    if not (has_start and has_end):
        raise ValueError(f"{page}: the marks {start} and {end} are missing.")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")
