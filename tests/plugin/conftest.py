"""A project as a user would have it, with a model that needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import all_loaded  # noqa: F401  before any inner run
import pytest

import pytest_calibration
from pytest_calibration.models import loading

TESTS = Path(__file__).parent.parent

CONFTEST = """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    name = calibration_model_spec.rstrip("/").rpartition("/")[2]
    return FakeModel(
        name, sharpen=0.6 if "hot" in name else 0.0, salt="second draw" if name == "other" else ""
    )
"""

GATE = """
from pytest_calibration import assert_no_regression

def test_nothing_got_worse(calibration, calibration_baseline, calibration_probe):
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
"""


class Project:
    """A folder with a conftest, a test and three "checkpoints".

    ``base`` is calibrated, ``hot`` over-confident on the same answers, ``other`` calibrated with
    answers of its own.
    """

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.isolated = False
        pytester.makeini("[pytest]\n")
        pytester.makeconftest(CONFTEST)
        self.write("tests/test_project.py", GATE)
        for name in ("base", "hot", "other"):
            (self.path / "runs" / name).mkdir(parents=True)

    @property
    def baselines(self) -> Path:
        """Where the baselines of the test file lie."""
        return self.path / "tests" / "calibration_baselines"

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest here: in this process, or in its own where the project patches things.

        Or draws: pytester forgets what a run imported, and matplotlib may be there only once.
        """
        if self.isolated or any(arg.endswith((".png", ".svg")) for arg in args):
            return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    def facts(self, model: str, *args: str) -> pytest.RunResult:
        """Run the gate on the facts probe of one model."""
        return self.run(f"--calibration-model=runs/{model}", "--calibration-probe=facts", *args)

    def restore(self, files: dict[str, bytes], record: Callable[[], pytest.RunResult]) -> None:
        """Write these baseline files; while there are none, record them first."""
        if not files:
            result = record()
            assert result.ret == 0, result.outlines
            files.update((file.name, file.read_bytes()) for file in self.baselines.iterdir())
        self.baselines.mkdir(exist_ok=True)
        for name, content in files.items():
            (self.baselines / name).write_bytes(content)

    def files(self) -> dict[str, bytes]:
        """Every file below the project but caches, with its content."""
        return {
            str(p.relative_to(self.path)): p.read_bytes()
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and "__pycache__" not in p.parts
        }


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
