"""``--calibration-record``: adds what is missing, touches nothing else."""

from __future__ import annotations

import pytest

TWO_TESTS = """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=1000), calibration_baseline)

def test_two(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit={second}), calibration_baseline)
"""


def test_existing_record_is_judged_and_not_touched(recorded) -> None:
    """A record that exists is compared as ever: recording a worse model fails."""
    stored = recorded.files()
    assert recorded.facts("hot", "--calibration-record").ret == 1
    assert recorded.files() == stored


def test_equal_record_is_not_rewritten(recorded) -> None:
    """Recording what is stored already leaves the very same bytes and modification times."""
    times = {p: p.stat().st_mtime_ns for p in recorded.baselines.iterdir()}
    assert recorded.facts("base", "--calibration-record").ret == 0
    assert {p: p.stat().st_mtime_ns for p in recorded.baselines.iterdir()} == times


def test_record_with_several_models_is_a_usage_error(project) -> None:
    """Two models would overwrite each other's baselines."""
    result = project.run(
        "--calibration-model=runs/base", "--calibration-model=runs/hot", "--calibration-record"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-record with 2 models*give each its own*"])


def test_named_models_record_side_by_side(project) -> None:
    """With a name each, two models keep two baselines and both hold."""
    models = ["--calibration-model=sft=runs/base", "--calibration-model=dpo=runs/hot"]
    result = project.run(*models, "--calibration-probe=facts", "--calibration-record")
    assert result.ret == 0
    assert (project.baselines / "sft" / "facts.yaml").is_file()
    assert (project.baselines / "dpo" / "facts.yaml").is_file()
    project.run(*models, "--calibration-probe=facts").assert_outcomes(passed=2)


def test_limit_below_the_stored_n_is_a_usage_error(recorded) -> None:
    """Recording from fewer items than are stored would weaken the baseline."""
    result = recorded.facts("base", "--calibration-record", "--calibration-limit=100")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-limit 100, below the 2,315 items that*facts.yaml holds: leave the limit*"]
    )


def test_same_content_twice_is_no_conflict(project) -> None:
    """Two tests that record the same predictions under one key agree."""
    project.write("tests/test_project.py", TWO_TESTS.format(second=1000))
    result = project.facts("base", "--calibration-record")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 baseline written."])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_different_content_for_one_key_fails_and_names_both(project, workers: list[str]) -> None:
    """Two tests with different predictions under one key: nothing written, both named, red."""
    project.write("tests/test_project.py", TWO_TESTS.format(second=900))
    result = project.facts("base", "--calibration-record", *workers)
    assert result.ret == 1
    line = next(x for x in result.outlines if "record different predictions under one" in x)
    assert "test_one[base]" in line
    assert "test_two[base]" in line
    assert not (project.baselines / "facts.yaml").exists()


def test_interrupted_run_writes_nothing(project) -> None:
    """A run that stops early writes no record, and says so."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)

def test_stop():
    raise KeyboardInterrupt
""",
    )
    result = project.pytester.runpytest_subprocess(
        "--calibration-model=runs/base", "--calibration-record"
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["ERROR: 1 baseline not written: the run did not finish."])
    assert not project.baselines.exists()


def test_dead_worker_writes_nothing(project) -> None:
    """Where a worker dies its records are unknown, so none is written."""
    project.write(
        "tests/test_project.py",
        """
import os
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)

def test_die():
    os._exit(3)
""",
    )
    result = project.pytester.runpytest_subprocess(
        "-n", "2", "--calibration-model=runs/base", "--calibration-record"
    )
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*not written: the run did not finish."])
    assert not project.baselines.exists()


def test_limit_cannot_be_recorded_by_hand_edits(recorded) -> None:
    """note, tolerance and limit edited by hand are read, and count."""
    path = recorded.baselines / "facts.yaml"
    text = path.read_text().replace("tolerance: null", "tolerance: 0.5")
    path.write_text(text.replace("note: ''", "note: agreed with the team"))
    # The accuracy of the fake is the same on both sides; only its confidence differs.
    assert recorded.facts("hot").ret == 0


def test_one_test_with_two_contents_for_one_key_fails(project) -> None:
    """A test that records twice under one key does not quietly keep the last."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
    assert_no_regression(calibration.run("facts", limit=100), calibration_baseline)
""",
    )
    assert project.facts("base", "--calibration-record").ret == 1
    assert not (project.baselines / "facts.yaml").exists()
