"""``--calibration-tail``: above which confidence answers are compared by themselves."""

from __future__ import annotations

import json

import pytest

CONFIDENT = """
import numpy as np
from pytest_calibration import Predictions, assert_no_regression

def predictions(right):
    rng = np.random.default_rng(0)
    confidence = np.r_[rng.uniform(0.3, 0.8, 900), np.full(100, 0.97)]
    correct = np.r_[rng.random(900) < confidence[:900], np.arange(100) < right]
    return Predictions.from_confidence(confidence, correct, probe="quiz")

def test_confident():
    assert_no_regression(predictions(82), predictions(97))
"""


def outcome(project, *flags: str) -> tuple[int, dict[str, float]]:
    """Exit code, and the bound of each component."""
    result = project.run("--calibration-report=r.json", *flags)
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    (verdict,) = report["results"]
    return int(result.ret), {c["name"]: c["bound"] for c in verdict["components"]}


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one-process", "workers"])
@pytest.mark.parametrize("place", ["flag", "ini", "yaml"])
def test_it_switches_the_component_off(project, place: str, workers: list[str]) -> None:
    """A gap that grows in one item of ten fails by default, and passes at 1."""
    project.write("tests/test_project.py", CONFIDENT)
    code, bounds = outcome(project, *workers)
    assert (code, bounds["confident answers"] > 0.02) == (1, True)
    flags = ["--calibration-tail=1"] if place == "flag" else []
    if place == "ini":
        project.pytester.makeini("[pytest]\ncalibration_tail = 1\n")
    if place == "yaml":
        project.write("calibration.yaml", "tail: 1\n")
    code, bounds = outcome(project, *flags, *workers)
    assert (code, "confident answers" in bounds) == (0, False)


def test_a_failure_says_which_answers_are_meant(project) -> None:
    """Their number and confidence stand below the component."""
    project.write("tests/test_project.py", CONFIDENT)
    result = project.run()
    result.stdout.fnmatch_lines(["*confident answers*<- fails", "*of the 100 answers above 0.9*"])


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_a_value_out_of_range_is_a_usage_error(project, value: str) -> None:
    """It lies in [0, 1]."""
    result = project.run(f"--calibration-tail={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*--calibration-tail must be a number of at least 0 and at most 1, got {float(value)}.*"]
    )
