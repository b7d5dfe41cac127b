"""``--calibration-dtype``: the number format of models."""

from __future__ import annotations

import pytest


def test_flag_before_ini_before_yaml(project, load_settings) -> None:
    """The flag wins over the ini key, that over calibration.yaml; by default nothing is chosen."""
    assert load_settings().get("dtype") is None
    project.write("calibration.yaml", "model: {dtype: float32}\n")
    assert load_settings()["dtype"] == "float32"
    project.pytester.makeini("[pytest]\ncalibration_dtype = bfloat16\n")
    assert load_settings()["dtype"] == "bfloat16"
    assert load_settings("--calibration-dtype=float16")["dtype"] == "float16"


@pytest.mark.parametrize("name", ["--calibration-dtype", "calibration_dtype"])
def test_a_wrong_value_is_a_usage_error(project, name: str) -> None:
    """It is checked at the start, and the message names the flag or ini key."""
    flags = [f"{name}=int3"] if name.startswith("-") else ["-o", f"{name}=int3"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name}: unknown dtype 'int3'; use one of auto, float32*"])
