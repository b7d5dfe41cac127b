"""Tables that a benchmark makes, put into the page that shows them."""

from __future__ import annotations

from pathlib import Path


def publish(text: str, page: Path | None, benchmark: str) -> None:
    """Print a text, or put it between the marks that name the benchmark on a page.

    Raises:
        ValueError: the page has no such marks.
    """
    if page is None:
        print(text)
        return
    start, end = (f"<!-- {mark}: {benchmark} -->" for mark in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page}: the marks {start} and {end} are not there.")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")
