"""``--calibration-device``: where models are run."""

from __future__ import annotations

import pytest


def test_flag_before_ini_before_yaml(project, load_settings) -> None:
    """The flag wins over the ini key, that over calibration.yaml; by default nothing is chosen."""
    assert load_settings().get("device") is None
    project.write("calibration.yaml", "model: {device: cpu}\n")
    assert load_settings()["device"] == "cpu"
    project.pytester.makeini("[pytest]\ncalibration_device = mps\n")
    assert load_settings()["device"] == "mps"
    assert load_settings("--calibration-device=cuda")["device"] == "cuda"


@pytest.mark.parametrize("name", ["--calibration-device", "calibration_device"])
def test_a_wrong_value_is_a_usage_error(project, name: str) -> None:
    """It is checked at the start, and the message names the flag or ini key."""
    flags = [f"{name}=tpu"] if name.startswith("-") else ["-o", f"{name}=tpu"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*{name}: unknown device 'tpu'; use one of auto, cpu, cuda, mps.*"]
    )
