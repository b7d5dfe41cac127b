"""The project of `user_project.py`, empty or with recorded baselines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import all_loaded  # noqa: F401  before any inner run
import pytest
from user_project import TESTS, Project

import pytest_calibration
from pytest_calibration.models import loading


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A fresh project; its processes find the fake model and this package on PYTHONPATH."""
    package = Path(pytest_calibration.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(package)]))
    monkeypatch.syspath_prepend(str(TESTS))
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_SHA"):
        monkeypatch.delenv(name, raising=False)
    # Other plugins that happen to be installed take more than half of a short run's time.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:anyio")
    return Project(pytester)


@pytest.fixture(scope="session")
def baseline_files() -> dict[str, dict[str, bytes]]:
    """Recorded baseline files by name, for each way to record them."""
    return {}


@pytest.fixture
def recorded(project: Project, baseline_files: dict[str, dict[str, bytes]]) -> Project:
    """A project whose facts baseline is recorded from ``base``."""
    project.restore(
        baseline_files.setdefault("fake", {}), lambda: project.facts("base", "--calibration-record")
    )
    return project


@pytest.fixture
def load_settings(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Return the settings with which a run with these flags would load its model."""
    project.pytester.makeconftest("")
    given: list[dict[str, Any]] = []

    def load_model(_spec: object, settings: dict[str, Any], **_: object) -> None:
        given.append(settings)
        pytest.skip("nothing is loaded")

    monkeypatch.setattr(loading, "load_model", load_model)

    def settings_of(*args: str) -> dict[str, Any]:
        result = project.facts("base", *args)
        assert len(given) == 1, result.outlines
        return given.pop()

    return settings_of
