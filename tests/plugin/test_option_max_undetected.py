"""``--calibration-max-undetected``: which comparison is inconclusive."""

from __future__ import annotations

import pytest

SMALL = """
from pytest_calibration import assert_no_regression

def test_small(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=80), calibration_baseline)
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("how", ["flag", "ini"])
def test_it_decides_what_is_inconclusive(recorded, how: str, workers: list[str]) -> None:
    """A project that may miss larger worsenings gets a verdict from fewer items."""
    recorded.write("tests/test_project.py", SMALL)
    assert recorded.facts("other").ret == 1
    flags = ["--calibration-max-undetected=0.5"] if how == "flag" else []
    if how == "ini":
        recorded.pytester.makeini("[pytest]\ncalibration_max_undetected = 0.5\n")
    result = recorded.facts("other", *flags, *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 passed"])


@pytest.mark.parametrize("value", ["-0.1", "1", "nan"])
def test_a_value_out_of_range_is_a_usage_error(project, value: str) -> None:
    """It lies in [0, 1)."""
    result = project.run(f"--calibration-max-undetected={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"*--calibration-max-undetected must be a number of at least 0 and below 1, got "
            f"{float(value)}.*"
        ]
    )
