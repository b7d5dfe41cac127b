"""``--calibration-max-undetected``: which comparison is inconclusive."""

from __future__ import annotations

import pytest

SMALL = """
from pytest_calibration import assert_no_regression

def test_small(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=80), calibration_baseline)
"""


FLAG = "--calibration-max-undetected=0.5"


@pytest.mark.parametrize("flags", [[], [FLAG], [FLAG, "-n2"]], ids=["ini", "flag", "workers"])
def test_it_decides_what_is_inconclusive(recorded, flags: list[str]) -> None:
    """A project that may miss larger worsenings gets a verdict from fewer items."""
    recorded.write("tests/test_project.py", SMALL)
    assert recorded.facts("other").ret == 1
    value = "0.02" if flags else "0.5"
    recorded.pytester.makeini(f"[pytest]\ncalibration_max_undetected = {value}\n")
    result = recorded.facts("other", *flags)
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
