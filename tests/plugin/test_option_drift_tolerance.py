"""``--calibration-drift-tolerance``: how much worse calibration may get since the anchor."""

from __future__ import annotations

import json

import pytest
from known_calibration import exact

from pytest_calibration import Baselines

QUIZ = """
from known_calibration import exact
from pytest_calibration import assert_no_regression

def test_quiz(calibration_baseline):
    assert_no_regression(exact({{0.75: 0.07}}, each=2000), calibration_baseline{call})
"""
# From the strongest to the weakest: what names it, and which.
PLACES = {"call": 0.91, "flag": 0.92, "ini": 0.93, "yaml": 0.94}


@pytest.fixture
def drifted(project):
    """Three records of the same items, from 0.01 to 0.04 and 0.07; accuracy is not guarded."""
    store = Baselines(project.baselines)
    for gap in (0.01, 0.04, 0.07):
        store.record(exact({0.75: gap}, each=2000), reason=f"to {gap}")
    project.write("tests/test_project.py", QUIZ.format(call=", accuracy_tolerance=None"))
    return project


def tolerance(project, *flags: str) -> tuple[int, float]:
    """Exit code, and the tolerance of the comparison with the anchor."""
    result = project.run("--calibration-report=r.json", *flags)
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    (drift,) = (r for r in report["results"] if r["against"] == "anchor")
    return int(result.ret), drift["tolerance"]


def test_the_nearest_place_counts(drifted) -> None:
    """Call, flag, ini key, calibration.yaml; else twice the tolerance."""
    places = dict(PLACES)
    while True:
        call = f", drift_tolerance={places['call']}" if "call" in places else ""
        drifted.write("tests/test_project.py", QUIZ.format(call=call))
        flags = [f"--calibration-drift-tolerance={places['flag']}"] if "flag" in places else []
        project = f"drift_tolerance: {places['yaml']}\n" if "yaml" in places else ""
        drifted.write("calibration.yaml", f"tolerance: 0.03\n{project}")
        ini = f"calibration_drift_tolerance = {places['ini']}" if "ini" in places else ""
        drifted.pytester.makeini(f"[pytest]\n{ini}\n")
        assert tolerance(drifted, *flags)[1] == next(iter(places.values()), 0.06)
        if not places:
            return
        del places[next(iter(places))]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one-process", "two-workers"])
def test_a_drift_within_it_passes(drifted, workers: list[str]) -> None:
    """What fails by default passes under one that is large enough, and the summary names it."""
    if not workers:
        assert tolerance(drifted) == (1, 0.04)
        assert tolerance(drifted, "--calibration-drift-tolerance=0.2") == (0, 0.2)
    result = drifted.run("--calibration-drift-tolerance=0.2", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*drift tolerance 0.2 instead of 0.04.*"])


def test_the_printed_command_repeats_it(drifted) -> None:
    """The command that moves the anchor judges as the run did that printed it."""
    result = drifted.run("--calibration-drift-tolerance=0.01")
    result.stdout.fnmatch_lines(["*--calibration-drift-tolerance=0.01 --calibration-anchor=REASON"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "--calibration-drift-tolerance",
            "-1",
            "*must be a number of at least 0 and below 1*-1.0.",
        ),
        ("--calibration-drift-tolerance", "much", "*invalid float value: 'much'"),
        (
            "calibration_drift_tolerance",
            "1",
            "*must be a number of at least 0 and below 1, got 1.0.",
        ),
    ],
)
def test_a_value_out_of_range_is_a_usage_error(
    project, name: str, value: str, message: str
) -> None:
    """It lies in [0, 1)."""
    flags = [f"{name}={value}"] if name.startswith("-") else []
    if not flags:
        project.pytester.makeini(f"[pytest]\n{name} = {value}\n")
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_wrong_value_in_calibration_yaml_is_named(drifted) -> None:
    """The file and the key are in the sentence."""
    drifted.write("calibration.yaml", "drift_tolerance: 4\n")
    result = drifted.run()
    assert result.ret != 0
    assert "drift_tolerance must be a number of at least 0 and below 1, got 4" in str(result.stdout)
