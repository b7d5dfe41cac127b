"""``--calibration-no-model``: what a calibration test does when no model is named."""

from __future__ import annotations

import pytest


def test_without_a_model_a_test_errors(project) -> None:
    """No model named: an error that says what to do, never a skip."""
    result = project.run()
    result.assert_outcomes(errors=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no model: pass --calibration-model*"])


FLAG = "--calibration-no-model=skip"


@pytest.mark.parametrize("flags", [[], [FLAG], [FLAG, "-n2"]], ids=["ini", "flag", "workers"])
def test_a_project_may_skip(project, flags: list[str]) -> None:
    """With ``skip`` the tests are skipped, and the run is green and says that nothing was gated."""
    value = "error" if flags else "skip"
    project.pytester.makeini(f"[pytest]\ncalibration_no_model = {value}\n")
    result = project.run(*flags)
    result.assert_outcomes(skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["nothing was gated: no model is named*"])


def test_another_word_is_a_usage_error(project) -> None:
    """The value is checked at the start."""
    result = project.run("--calibration-no-model=maybe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-no-model must be one of error, skip, got 'maybe'.*"]
    )
