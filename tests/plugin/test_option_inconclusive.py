"""``--calibration-inconclusive``: what a comparison of too few items does."""

from __future__ import annotations

import pytest

SMALL = """
from pytest_calibration import assert_no_regression

def test_small(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=80), calibration_baseline)
"""


def test_inconclusive_passes_with_a_line_and_the_n_it_needs(recorded) -> None:
    """Too few items: the test passes, the summary says so, and the run alone is not green."""
    recorded.write("tests/test_small.py", SMALL)
    result = recorded.facts("other", "tests/test_small.py")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"inconclusive: facts on other: n = 80 is too few; about \S+ wo"])
    # Beside a comparison that decides, the run is green.
    assert recorded.facts("base", "--calibration-model=runs/other").ret == 0


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_run_that_decides_nothing_is_not_green(recorded, workers: list[str]) -> None:
    """Every comparison inconclusive: the tests pass and the run exits 1."""
    recorded.write("tests/test_project.py", SMALL)
    result = recorded.facts("other", *workers)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: 1 calibration test collected and nothing was decided*"])


@pytest.mark.parametrize(
    "body",
    ["calibration.run('facts')", "__import__('pytest').skip('later')"],
    ids=["unchecked", "skipped"],
)
def test_unchecked_or_skipped_is_not_green(project, body: str) -> None:
    """A run that only measures, or only skips, is not green."""
    project.write("tests/test_project.py", f"def test_it(calibration): {body}\n")
    assert project.facts("base").ret == 1


def test_inconclusive_warns_nobody(recorded) -> None:
    """A project with filterwarnings = error gets no crash from an inconclusive comparison."""
    recorded.write("tests/test_project.py", SMALL)
    recorded.facts("other", "-W", "error").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "flags", "outcome"),
    [
        ("fail", [], "failed"),
        ("pass", ["--calibration-inconclusive=fail"], "failed"),
        ("pass", ["--calibration-inconclusive=fail", "-n2"], "failed"),
        ("fail", ["--calibration-inconclusive=pass"], "passed"),
    ],
    ids=["ini", "flag", "flag-workers", "flag-before-ini"],
)
def test_inconclusive_can_fail_its_test(recorded, ini: str, flags: list[str], outcome: str) -> None:
    """With ``fail`` such a test fails; the flag wins over the ini key."""
    recorded.write("tests/test_project.py", SMALL)
    recorded.pytester.makeini(f"[pytest]\ncalibration_inconclusive = {ini}\n")
    result = recorded.facts("other", *flags)
    result.assert_outcomes(**{outcome: 1})
    if outcome == "failed":
        result.stdout.fnmatch_lines(["*inconclusive: probe facts on other*"])


@pytest.mark.parametrize("name", ["--calibration-inconclusive", "calibration_inconclusive"])
def test_another_word_is_a_usage_error(project, name: str) -> None:
    """The value is checked at the start, whatever the run collects."""
    flags = [f"{name}=red"] if name.startswith("-") else ["-o", f"{name}=red"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name} must be one of pass, fail, got 'red'.*"])
