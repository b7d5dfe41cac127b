"""``--calibration-list``: the probes and their size."""

from __future__ import annotations

import pytest


def test_list_shows_probes_and_runs_nothing(project) -> None:
    """The list names every probe with kind and size, and starts no test."""
    project.write("rows.jsonl", '{"prompt": "Up is not", "answer": "down"}\n')
    project.write("calibration.yaml", "probes: {mine: {kind: facts, path: rows.jsonl}}\n")
    result = project.run("--calibration-list")
    assert result.ret == 0
    result.stdout.re_match_lines([r"  next_token +next_token +72 documents"])
    result.stdout.re_match_lines([r"\* mine +facts +1 facts"])
    result.stdout.no_fnmatch_line("*passed*")


def test_list_tells_a_bad_file(project) -> None:
    """A probe that cannot be read is an error of the list, too."""
    project.write("calibration.yaml", "probes: {mine: {kind: facts, path: gone.jsonl}}\n")
    result = project.run("--calibration-list")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*gone.jsonl: there is no such file.*"])


def test_hostile_names_are_shown_as_text(project) -> None:
    """Neither escapes nor commands of CI reach the screen."""
    project.write("rows.jsonl", '{"prompt": "Up is not", "answer": "down"}\n')
    name = r'"\e[31m\u202e\n::error::x"'
    project.write("calibration.yaml", f"probes: {{{name}: {{kind: facts, path: rows.jsonl}}}}\n")
    result = project.run("--calibration-list")
    text = result.stdout.str()
    assert r"\x1b[31m\u202e\n::error::x" in text
    assert text.replace("\n", "").isprintable()
