"""``--calibration-batch-tokens``: tokens per forward pass."""

from __future__ import annotations

import pytest


def test_flag_before_ini_before_yaml(project, load_settings) -> None:
    """The flag wins over the ini key, that over calibration.yaml; by default nothing is chosen."""
    assert load_settings().get("batch_tokens") is None
    project.write("calibration.yaml", "model: {batch_tokens: 7}\n")
    assert load_settings()["batch_tokens"] == 7
    project.pytester.makeini("[pytest]\ncalibration_batch_tokens = 8\n")
    assert load_settings()["batch_tokens"] == 8
    assert load_settings("--calibration-batch-tokens=9")["batch_tokens"] == 9


@pytest.mark.parametrize("name", ["--calibration-batch-tokens", "calibration_batch_tokens"])
def test_a_wrong_value_is_a_usage_error(project, name: str) -> None:
    """It is checked at the start, and the message names the flag or ini key."""
    flags = [f"{name}=0"] if name.startswith("-") else ["-o", f"{name}=0"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name} must be at least 1, got 0.*"])
