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
    # Named, and not counted: that would fetch them.
    result.stdout.re_match_lines([r"  presets, run by name: mmlu, arc_easy, arc_challenge, "])
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


OWN = """
class Mine:
    name, kind = "mine", "guessing"
    def run(self, model, limit=None):
        raise AssertionError

class Sized(Mine):
    size, unit = 1234, "riddles"

class Odd(Mine):
    def size(self):
        return 3

def pytest_calibration_probes(config):
    return {returned}
"""


def own(project, returned: str) -> pytest.RunResult:
    """List the probes of a project that brings its own."""
    project.pytester.makeconftest(OWN.replace("{returned}", returned))
    return project.run("--calibration-list")


def test_a_probe_of_ones_own_needs_no_size(project) -> None:
    """Of the documented parts of a probe, none is its size: it is shown where there is one."""
    returned = '{"mine": Mine, "built": lambda: Mine(), "given": Mine(), "s": Sized, "o": Odd}'
    result = own(project, returned)
    assert result.ret == 0
    for name in ("mine", "built", "given", "o"):
        result.stdout.re_match_lines([rf"  {name} +guessing +\? items"])
    result.stdout.re_match_lines([r"  s +guessing +1,234 riddles"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ('{"mine": lambda: 1 / 0}', "probe 'mine' cannot be built (ZeroDivisionError: division*"),
        ('{"mine": lambda: 7}', "probe 'mine': a probe has a `name`, *of type int, whose `name`*"),
        ('{"mine": "facts"}', "probe 'mine': a probe has a `name`, *of type str, whose `name`*"),
        ('{"mine": lambda: None}', "probe 'mine': a probe has a `name`, *got None, whose `name`*"),
        ("{3: Mine}", "pytest_calibration_probes: the name of a probe is text, got 3."),
        ('["mine"]', "pytest_calibration_probes must return a mapping of names to functions*"),
    ],
    ids=["raises", "no-probe", "no-factory", "nothing", "number", "no-mapping"],
)
def test_a_probe_that_cannot_be_listed_is_one_sentence(
    project, returned: str, message: str
) -> None:
    """What a project's own code gives is named, with no traceback from inside."""
    result = own(project, returned)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message.replace('[', '[[]')}"])
    result.stderr.no_fnmatch_line("*Traceback*")
