"""``--calibration-limit``: at most so many items per probe."""

from __future__ import annotations

import pytest


def test_limit_compares_on_the_intersection(recorded) -> None:
    """A limited run is a subset of the baseline, compared where both have items."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_it(calibration, calibration_baseline):
    verdict = assert_no_regression(calibration.run("facts"), calibration_baseline)
    print("N", verdict.n, verdict.state)
    print(verdict.explain())
""",
    )
    result = recorded.facts("base", "--calibration-limit=1500", "-s")
    result.stdout.fnmatch_lines(
        ["*N 1500 passed", "*1,500 of the 1,500 items here are among*2,315*"]
    )


def test_limit_order_is_call_flag_ini_yaml(project) -> None:
    """The call's limit wins over the flag, that over the ini key, that over calibration.yaml."""
    project.write("calibration.yaml", "probes: {facts: {limit: 40}}\n")
    project.write(
        "tests/test_project.py",
        """
def test_it(calibration):
    print("N", len(calibration.run("facts")), len(calibration.run("facts", limit=10)))
""",
    )
    model = "--calibration-model=runs/base"
    project.run(model, "-s").stdout.fnmatch_lines(["*N 40 10*"])
    project.pytester.makeini("[pytest]\ncalibration_limit = 30\n")
    project.run(model, "-s").stdout.fnmatch_lines(["*N 30 10*"])
    result = project.run(model, "-s", "--calibration-limit=20")
    result.stdout.fnmatch_lines(["*N 20 10*"])


@pytest.mark.parametrize("value", ["0", "-3"])
def test_limit_below_one_is_a_usage_error(project, value: str) -> None:
    """A limit of nothing would be a silent pass."""
    result = project.facts("base", f"--calibration-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-limit must be at least 1, got {value}.*"])
