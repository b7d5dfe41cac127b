"""The error level of the bounds, and the false alarms that a run expects."""

from __future__ import annotations

import math
import re

import pytest
from fakes import FakeModel

from pytest_calibration.gate.verdict import compare
from pytest_calibration.probes.facts import Facts

WITH_ALPHA = """
from pytest_calibration import assert_no_regression

def test_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline, alpha=0.2)
"""


def rate(alpha: float) -> float:
    """What the verdict on ``other`` against ``base`` says of itself."""
    probe = Facts()
    other = FakeModel("other", salt="second draw")
    return compare(probe.run(other), probe.run(FakeModel("base")), alpha=alpha).false_alarm_rate


def false_alarms_line(result: pytest.RunResult) -> str:
    """The line of the summary on false alarms."""
    (line,) = [text for text in result.outlines if text.startswith("expected false alarms")]
    return line


def rounded_up(value: float) -> str:
    """Three digits that are not below the value."""
    return f"{max(math.ceil(value * 1000), 1) / 1000:.3f}"


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_the_summary_says_how_many_false_alarms_to_expect(recorded, workers: list[str]) -> None:
    """The bounds of all comparisons of the run are added up; a limit is no comparison."""
    recorded.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_ece_below, assert_no_regression

@pytest.mark.parametrize("time", range(8))
def test_gate(calibration, calibration_baseline, time):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
    assert_ece_below(calibration.run("facts"), 0.5)
""",
    )
    line = false_alarms_line(recorded.facts("other", *workers))
    assert line == (
        "expected false alarms, had nothing changed: at most "
        f"{rounded_up(8 * rate(0.05))} in 8 comparisons"
    )


def test_a_run_without_comparisons_expects_no_false_alarm(recorded) -> None:
    """Where nothing is compared, the line is left out."""
    recorded.write(
        "tests/test_project.py",
        "from pytest_calibration import assert_ece_below\n"
        "def test_it(calibration): assert_ece_below(calibration.run('facts'), 0.5)\n",
    )
    result = recorded.facts("base")
    assert not [line for line in result.outlines if "false alarms" in line]


@pytest.mark.parametrize("where", ["argument", "flag", "ini", "yaml"])
def test_alpha_comes_from_the_call_the_options_or_the_project(recorded, where: str) -> None:
    """Alpha = 0.2 in any of the four places makes the bounds that much less strict."""
    flags = ["--calibration-alpha=0.2"] if where == "flag" else []
    if where == "argument":
        recorded.write("tests/test_project.py", WITH_ALPHA)
    elif where == "ini":
        recorded.pytester.makeini("[pytest]\ncalibration_alpha = 0.2\n")
    elif where == "yaml":
        recorded.write("calibration.yaml", "alpha: 0.2\n")
    line = false_alarms_line(recorded.facts("other", *flags))
    assert rate(0.2) > 3 * rate(0.05)
    assert re.search(r"at most (\S+) in 1 comparison$", line)[1] == rounded_up(rate(0.2))


def test_the_flag_wins_over_the_ini_key(recorded) -> None:
    """Both before calibration.yaml."""
    recorded.write("calibration.yaml", "alpha: 0.3\n")
    recorded.pytester.makeini("[pytest]\ncalibration_alpha = 0.1\n")
    line = false_alarms_line(recorded.facts("other", "--calibration-alpha=0.2"))
    assert re.search(r"at most (\S+) in 1 comparison$", line)[1] == rounded_up(rate(0.2))


@pytest.mark.parametrize("value", ["0", "0.5", "nan"])
def test_a_value_out_of_range_is_a_usage_error(project, value: str) -> None:
    """It lies between 0 and 0.5."""
    result = project.run(f"--calibration-alpha={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-alpha must be a number above 0 and below 0.5, got*"]
    )
