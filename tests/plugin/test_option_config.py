"""``--calibration-config``: another file than ``calibration.yaml`` at rootdir."""

from __future__ import annotations

import pytest


def test_config_flag_names_another_file(project) -> None:
    """The flag reads another configuration; its paths are relative to that file."""
    project.write("conf/rows.jsonl", '{"prompt": "Up is not", "answer": "down"}\n')
    project.write("conf/c.yaml", "probes: {only: {kind: facts, path: rows.jsonl}}\n")
    result = project.run("--calibration-config=conf/c.yaml", "--calibration-list")
    result.stdout.re_match_lines([r"\* only +facts +1 facts"])


def test_config_that_is_not_there_is_an_error(project) -> None:
    """A configuration named and missing is never a silent default."""
    result = project.run("--calibration-config=gone.yaml", "--calibration-list")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-config: there is no file*gone.yaml*"])


def test_bad_config_is_an_error_of_the_collection(project) -> None:
    """A misspelt key of calibration.yaml stops the tests that need it, by file and key."""
    project.write("calibration.yaml", "probs: {}\n")
    result = project.run("--calibration-model=runs/base")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*calibration.yaml: unknown key probs (did you mean 'probes'?)*"])


def test_bad_config_does_not_touch_other_tests(project) -> None:
    """Tests that probe nothing run whatever calibration.yaml says."""
    project.write("calibration.yaml", "probs: {}\n")
    project.write("tests/test_project.py", "def test_other(): pass\n")
    assert project.run().ret == 0
    assert project.run("-n", "2").ret == 0


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--calibration-list",)], ids=["", "n", "list"])
@pytest.mark.parametrize(
    "text",
    [
        r'"{hostile}": 1',
        r'model: {{"{hostile}": 1}}',
        r'probes: {{"{hostile}": 1}}',
        r'probes: {{"{hostile}": {{kind: facts, "{hostile}": 1}}}}',
        r'probes: {{a: {{kind: facts, path: "{hostile}"}}}}',
        r'probes: {{a: {{kind: "{hostile}"}}}}',
        r'a: !!int "{hostile}"',
    ],
)
def test_hostile_text_is_told_as_text(project, text: str, args: tuple[str, ...]) -> None:
    """Keys, values and paths reach the screen escaped and cut, whoever prints the error."""
    hostile = r"\e]0;owned\a\e[31m\u202e\r\n::error::pwned\n##[error]x" + "y" * 900
    project.write("calibration.yaml", text.format(hostile=hostile) + "\n")
    result = project.run("--calibration-model=runs/base", *args)
    assert result.ret != 0
    # pytest itself prints the arguments of a failing test, by their repr.
    shown = result.outlines + result.errlines
    lines = [line for line in shown if not line.startswith("calibration_probe = ")]
    assert "\\x1b[31m" in "".join(lines)
    assert not [sign for sign in "\x1b\x07\u202e\r" if any(sign in line for line in lines)]
    assert not [line for line in lines if line.lstrip().startswith("::") or "##[error]" in line]
    assert max(map(len, lines)) < 1500
