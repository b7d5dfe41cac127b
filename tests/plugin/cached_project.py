"""A project whose checkpoints are loaded by this package, with an engine that needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from user_project import Project

# Every load leaves a line; "odd" checkpoints make the engine say something.
CONFTEST = """
from pathlib import Path
import pytest
from fakes import FakeModel
from pytest_calibration.models.backends import transformers

HERE = Path(__file__).parent


class Loaded(FakeModel):
    def __init__(self, spec, settings):
        super().__init__(spec.name, sharpen=0.6 if "hot" in spec.name else 0.0)
        self.description = {"dtype": "float32", "device": "cpu"}
        spare = (Path(spec.location) / "spare.json").exists()
        self.checkpoint_notes = ["a\\x1b[31m is not used."] if spare else []
        odd = (Path(spec.location) / "odd.json").exists()
        self.notes = ["took the plain path."] if odd else self.checkpoint_notes
        with (HERE / "loads.txt").open("a") as file:
            file.write(spec.name + "\\n")

    def close(self):
        pass


patch = pytest.MonkeyPatch()
patch.setattr(transformers, "check_installed", lambda: None)
patch.setattr(transformers, "load", Loaded)

def pytest_unconfigure():
    patch.undo()
"""


class CachedProject:
    """The project of ``conftest.py``, whose models are loaded and not brought."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.path
        project.write("conftest.py", CONFTEST)
        for name in ("base", "hot", "other"):
            project.write(f"runs/{name}/config.json", f'{{"name": "{name}"}}')

    def run(self, *args: str, model: str = "base", probe: str = "facts") -> pytest.RunResult:
        """Run pytest with its cache provider."""
        return self.project.pytester.runpytest_inprocess(
            f"--calibration-model=runs/{model}", f"--calibration-probe={probe}", *args
        )

    def loads(self) -> list[str]:
        """Return which models were loaded since last asked."""
        file = self.path / "loads.txt"
        if not file.exists():
            return []
        lines = file.read_text().split()
        file.unlink()
        return lines


def lines_of(result: pytest.RunResult, start: str) -> list[str]:
    """Return the lines of the output that start so."""
    return [line for line in result.outlines if line.startswith(start)]
