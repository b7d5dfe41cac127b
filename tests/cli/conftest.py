"""What the tests of the command share: stored records, and the command itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from known_calibration import two_runs

from pytest_calibration.baselines import Baselines
from pytest_calibration.cli import main
from pytest_calibration.predictions import Predictions


@dataclass(frozen=True)
class Result:
    """What a command came to.

    Attributes:
        code: exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of the output."""
        return self.out.splitlines()


Command = Callable[..., Result]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@dataclass(frozen=True)
class Stored:
    """A stored record and what it was made of."""

    path: Path
    predictions: Predictions


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Stored]:
    """Store predictions under a folder of their own and return the record's file."""

    def store(predictions: Predictions, folder: str = "first", **edits: float) -> Stored:
        path = Baselines(tmp_path / folder).record(predictions)
        text = path.read_text("utf-8")
        for key, value in edits.items():
            assert f"\n{key}: null\n" in text
            text = text.replace(f"\n{key}: null\n", f"\n{key}: {value}\n")
        path.write_text(text, "utf-8")
        return Stored(path, predictions)

    return store


@pytest.fixture
def runs() -> tuple[Predictions, Predictions]:
    """Two calibrated runs on the same 400 questions, in groups of four."""
    groups = [i // 4 for i in range(400)]
    first, second = (
        Predictions.from_confidence(
            run.confidence, run.correct, item_ids=range(400), groups=groups, probe="quiz"
        )
        for run in two_runs(400, 1)
    )
    return first, second
