"""Annotations on GitHub: a note on each failing test, where a pull request shows its code."""

# Without the future import of the same name as the function below; types are quoted instead.
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result, Results

# GitHub shows so many of each level per step.
MOST: Final = 10
# Characters of a title, of the name in it, and of one part of a message.
TITLE: Final = 250
NAME: Final = 120
PART: Final = 1000


def annotations(
    results: "Results", places: Mapping[str, tuple[str, int]] | None = None
) -> Iterator[str]:
    """Yield one workflow command, a line, for each failing test, and for each error of the session.

    ::

        ::error file=tests/test_x.py,line=12,title=regressed%3A facts on sft::...

    Of more than ten, nine are yielded, and a last one with the number of the others.

    Args:
        results: the session.
        places: file and line (from 1) of a test, by its node id; without it, the file that the node
            id begins with, and no line.
    """
    failing: dict[str, list[Result]] = {}
    for i, result in enumerate(results.results):
        if result.fails:
            # A verdict without a test stands alone.
            failing.setdefault(result.test or f"\0{i}", []).append(result)
    notes = [_of_test(test, verdicts, places or {}) for test, verdicts in failing.items()]
    notes += [_command("calibration: the session fails", visible(e, PART)) for e in results.errors]
    if len(notes) > MOST:
        left = f"{len(notes) - MOST + 1:,} more; see the log or the step summary."
        notes[MOST - 1 :] = [_command("calibration", left)]
    yield from notes


def _of_test(test: str, verdicts: list["Result"], places: Mapping[str, tuple[str, int]]) -> str:
    first = verdicts[0]
    more = f" and {len(verdicts) - 1:,} more" if len(verdicts) > 1 else ""
    title = f"{first.state_name}: {visible(first.subject, NAME)}{more}"
    parts = [part for result in verdicts for part in _parts(result)]
    file, line = places.get(test, (test.partition("::")[0] if first.test else "", 0))
    return _command(title, "\n".join(parts), file=visible(file), line=line)


def _parts(result: "Result") -> Iterator[str]:
    """Yield what failed, by which number, why, and what to do."""
    yield visible(result.headline, PART)
    first = next(filter(None, (result.reason, *result.findings)), "")
    if first:
        yield visible(first, PART)
    yield from (visible(caution, PART) for caution in result.cautions)
    # What was not compared has no fault that a diagnosis could explain.
    if result.state in ("regressed", "above_limit") and result.diagnosis is not None:
        yield visible(result.diagnosis.paragraph, PART)
    if result.remedy:
        yield visible(f"{result.remedy.purpose}: {result.remedy.command}", PART)


def _command(title: str, message: str, *, file: str = "", line: int = 0) -> str:
    properties = {
        "file": file,
        "line": str(line) if line > 0 and file else "",
        "title": title[:TITLE],
    }
    pairs = ",".join(f"{key}={_property(text)}" for key, text in properties.items() if text)
    return f"::error {pairs}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
