"""A project as a user would have it, with a model that needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
