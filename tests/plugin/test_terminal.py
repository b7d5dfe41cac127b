"""What a run prints: more with -v, less with -q, in colour where there is one, on any width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from user_project import Project

ESCAPE = "\x1b["
WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])


def bare(line: str) -> str:
    """A line without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", line)


def section(result: pytest.RunResult) -> list[str]:
    """The lines of the calibration section."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if re.fullmatch("=+ calibration =+", bare(line)))
    after = range(start + 1, len(lines))
    ends = (i for i in after if re.match(r"===|FAILED |\d+ \w+ in ", bare(lines[i])))
    return lines[start + 1 : next(ends)]


@WORKERS
def test_verbosity_decides_how_much_is_shown(recorded: Project, workers: list[str]) -> None:
    """-q: cautions, counts; without: the table; -v: why; -vv: the diagram of what passes, too."""
    quiet, plain, verbose, drawn = (
        section(recorded.facts("base", *workers, *flags)) for flags in (["-q"], [], ["-v"], ["-vv"])
    )
    assert quiet[-1] == "1 passed"
    assert [line.startswith("facts on base: every answer is") for line in quiet] == [True, False]
    assert plain[0].split()[:2] == ["model", "probe"]
    assert len(plain) == 6
    assert plain[4] == "configuration: none: built-in probes"
    assert len(verbose) > len(plain)
    assert "passed: probe facts on base" in verbose
    assert not any("95 % of the time" in line for line in verbose)
    assert any("95 % of the time" in line for line in drawn)


def test_quiet_still_shows_what_fails(recorded: Project) -> None:
    """With -q a failing verdict has its row."""
    lines = section(recorded.facts("hot", "-q"))
    assert lines[0].split()[0] == "model"
    assert lines[1].split()[0] == "hot"
    assert lines[-1] == "1 regressed"


def test_colour_is_the_terminals_choice(recorded: Project, monkeypatch) -> None:
    """Colours with --color=yes, none with --color=no or NO_COLOR; the words are the same."""
    coloured = section(recorded.facts("hot", "--color=yes"))
    assert any(ESCAPE in line for line in coloured)
    plain = section(recorded.facts("hot", "--color=no"))
    assert [bare(line) for line in coloured] == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(ESCAPE in line for line in recorded.facts("hot").outlines)


@WORKERS
def test_a_failure_fits_a_narrow_terminal(recorded: Project, monkeypatch, workers) -> None:
    """The plain words keep to the width, in workers too, which have no terminal."""
    monkeypatch.setenv("COLUMNS", "60")
    result = recorded.facts("hot", *workers)
    errors = [line[8:] for line in result.outlines if line.startswith("E     ")]
    start = next(i for i, line in enumerate(errors) if "regressed: probe" in line)
    paragraph = errors[start + 1 : errors.index("", start)]
    assert len(paragraph) >= 2
    assert max(map(len, paragraph)) <= 52
    assert not any("|" in line for line in errors if line.lstrip().startswith("(0."))


def test_a_log_has_no_width(recorded: Project, monkeypatch) -> None:
    """Where nobody watches, a row of the summary is one line, whatever COLUMNS says."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = section(recorded.facts("hot"))
    assert "interval" in lines[0]
    assert lines[1].endswith(")")


def test_ascii_is_enough(recorded: Project, monkeypatch) -> None:
    """A stream that holds only ASCII gets only ASCII, and no traceback."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    recorded.isolated = True
    result = recorded.facts("base", "-vv")
    assert result.ret == 0
    assert all(line.isascii() for line in section(result))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    assert not all(line.isascii() for line in section(recorded.facts("base", "-vv")))
