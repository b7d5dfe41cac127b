"""``--calibration-replicas``: a model in several processes of a Ray cluster."""

from __future__ import annotations

import pytest

from pytest_calibration import extras

MODEL = """
import pytest

@pytest.fixture(scope="session")
def calibration_model():
    return lambda texts: [[0.5, 0.5] for _ in texts]
"""
INSTALLED = """
from pytest_calibration import extras
extras.find_spec = lambda name: True
"""


def test_flag_before_ini_before_yaml(project, load_settings, monkeypatch) -> None:
    """The flag wins over the ini key, that over calibration.yaml; by default there are none."""
    monkeypatch.setattr(extras, "find_spec", lambda _: True)
    assert load_settings().get("replicas") is None
    project.write("calibration.yaml", "model: {replicas: 7}\n")
    assert load_settings()["replicas"] == 7
    project.pytester.makeini("[pytest]\ncalibration_replicas = 8\n")
    assert load_settings()["replicas"] == 8
    assert load_settings("--calibration-replicas=9")["replicas"] == 9


@pytest.mark.parametrize("name", ["--calibration-replicas", "calibration_replicas"])
def test_a_wrong_value_is_a_usage_error(project, name: str) -> None:
    """It is checked at the start, and the message names the flag or ini key."""
    flags = [f"{name}=0"] if name.startswith("-") else ["-o", f"{name}=0"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name} must be at least 1, got 0.*"])


def test_without_ray_it_is_a_usage_error(project, monkeypatch) -> None:
    """Said before anything runs, with the command that installs it."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    result = project.run("--calibration-replicas=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ['*ray is not installed, and this needs it: pip install "pytest-calibration*ray*"']
    )


def test_a_server_has_no_replicas(project, monkeypatch) -> None:
    """Said before Ray is missed, which would not help; no server is asked for that."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    result = project.run("--calibration-replicas=2", "--calibration-model=http://localhost:1/v1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    words = "*'http://localhost:1/v1': replicas do not go with the backend server; leave*"
    result.stderr.fnmatch_lines([words])
    assert "ray" not in result.stderr.str()


def test_a_model_in_memory_has_no_replicas(project, monkeypatch) -> None:
    """One that a fixture brings cannot be sent, which is said instead of running without."""
    monkeypatch.setattr(extras, "find_spec", lambda _: True)
    project.pytester.makeconftest(MODEL)
    result = project.run("--calibration-replicas=2", "--calibration-probe=facts")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*calibration_model is *lambda* in the memory of this process, which cannot be sent to *"]
    )


def test_workers_have_no_replicas(project, monkeypatch) -> None:
    """With -n each worker would start its own: as a flag at once, as an ini key in the tests."""
    project.pytester.makeconftest(INSTALLED)
    monkeypatch.setattr(extras, "find_spec", lambda _: True)
    result = project.run("--calibration-replicas=2", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-replicas together with -n 2: each worker *"])
    project.pytester.makeini("[pytest]\ncalibration_replicas = 2\n")
    result = project.facts("base", "-n", "2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*2 replicas in each of 2 workers of pytest-xdist: each would *"])
