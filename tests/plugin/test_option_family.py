"""``--calibration-family``: how many comparisons of one model count together."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

# Ten comparisons of one model: one is clearly worse, one just so, eight are unchanged.
TEN = """
import numpy as np
import pytest
from pytest_calibration import Predictions, assert_no_regression

SHIFTS = {"q0": 0.14, "q1": 0.079}

@pytest.mark.parametrize("name", [f"q{i}" for i in range(10)])
def test_gate(name):
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 0.85, 400)
    right = rng.random(400) < confidence
    again = np.where(rng.random(400) < 0.6, rng.random(400) < confidence, right)
    before = Predictions.from_confidence(confidence, right, probe=name)
    after = Predictions.from_confidence(confidence + SHIFTS.get(name, 0), again, probe=name)
    assert_no_regression(after, before)
"""
WORKERS = pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one-process", "workers"])


def outcome(project, *flags: str):
    """Run the ten comparisons: pytest's result, and the verdicts by probe."""
    project.write("tests/test_project.py", TEN)
    result = project.run("--calibration-report=r.json", "--junit-xml=junit.xml", *flags)
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    return result, {r["probe"]: r for r in report["results"]}


@WORKERS
def test_by_default_each_fails_alone_and_the_correction_is_told(project, workers) -> None:
    """A failure stays a failure; the summary says which would not remain."""
    result, verdicts = outcome(project, *workers)
    result.assert_outcomes(passed=8, failed=2)
    result.stdout.fnmatch_lines(
        ["*fails alone, not after Holm's correction for 10 comparisons of this model.*"]
    )
    assert [name for name, r in verdicts.items() if r["fails"]] == ["q0", "q1"]
    assert ["Holm" in " ".join(r["cautions"]) for r in verdicts.values()] == [False, True] + 8 * [
        False
    ]


@WORKERS
def test_with_holm_only_what_remains_fails(project, workers) -> None:
    """Its test gets a failed report at the end, with the text of the failure; the run is red."""
    result, verdicts = outcome(project, "--calibration-family=holm", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["*calibration regressed: probe q0*", "FAILED *test_gate[[]q0[]]*"])
    assert [name for name, r in verdicts.items() if r["fails"]] == ["q0"]
    assert verdicts["q1"]["state"] == "regressed"
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    assert [case.get("name") for case in cases if case.find("failure") is not None] == [
        "test_gate[q0]"
    ]


def test_a_single_comparison_needs_no_correction(project) -> None:
    """With holm, one comparison that regressed fails the run."""
    result, _ = outcome(project, "--calibration-family=holm", "-k", "q1")
    result.assert_outcomes(passed=1, failed=1, deselected=9)


def test_the_ini_key_says_the_same(project) -> None:
    """``calibration_family = holm``."""
    project.pytester.makeini("[pytest]\ncalibration_family = holm\n")
    result, _ = outcome(project)
    result.assert_outcomes(passed=10, failed=1)


def test_an_unknown_rule_is_a_usage_error(project) -> None:
    """The message names what there is."""
    result = project.run("--calibration-family=bonferroni")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-family must be one of none, holm, got 'bonferroni'.*"]
    )


MODELS = """
import numpy as np
import pytest
from pytest_calibration import Predictions, assert_no_regression
from pytest_calibration.predictions import Signature

@pytest.mark.parametrize("model", ["a", "b"])
def test_gate(model):
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 0.85, 1000)
    right = rng.random(1000) < confidence
    before = Predictions.from_confidence(confidence, right, probe="quiz")
    after = Predictions.from_confidence(confidence + 0.1, right, probe="quiz")
    assert_no_regression(after.with_signature(model=model), before)
"""


@WORKERS
def test_several_models_against_one_baseline_are_one_finding(project, workers) -> None:
    """Where they differ from it in the same component, the summary says so."""
    project.write("tests/test_project.py", MODELS)
    result = project.run(*workers)
    result.assert_outcomes(failed=2)
    line = "quiz: 2 models (a, b) differ from one baseline (signed gap, *): count that as one*"
    result.stdout.fnmatch_lines([line])
