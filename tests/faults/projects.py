"""A project whose runs write every kind of file, with a model that needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest_calibration
from pytest_calibration.baselines import Baselines
from pytest_calibration.history.file import History
from pytest_calibration.reports.dump import read_both

TESTS = Path(__file__).parents[1]
# "hot" models are over-confident.
CONFTEST = """
import toy_backend

class Toy(toy_backend.Toy):
    def __init__(self, spec, settings):
        super().__init__(spec, settings)
        self.sharpen = 0.6 if "hot" in spec.name else 0.0
        self.salt = ""

toy_backend.Toy = Toy
toy_backend.register()
"""
GATE = """
import pytest
from pytest_calibration import assert_no_regression


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("probe", ["facts", "next_token"])
def test_nothing_got_worse(calibration, calibration_baseline, probe, name):
    assert_no_regression(calibration.run(probe, limit=300), calibration_baseline.named(name))
"""
# A shell that runs these tests in the background has Ctrl-C ignored, and so what it starts.
PYTEST = (
    "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.exit(pytest.main())"
)
REPORTS = ("r.html", "r.md", "r.json", "r.txt")
SUMMARY = "summary.md"
HISTORY = "history.jsonl"


class Project:
    """A folder with four tests and two models, ``base`` and ``hot``.

    Args:
        path: the folder.
        gate: the tests.
    """

    def __init__(self, path: Path, gate: str = GATE) -> None:
        self.path = path
        self.baselines = path / "tests" / "calibration_baselines"
        self.write("pytest.ini", "[pytest]\n")
        self.write("conftest.py", CONFTEST)
        self.write("tests/test_gate.py", gate)
        for name in ("base", "hot"):
            self.write(name, name)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def arguments(self, model: str, *more: str) -> list[str]:
        """What pytest is asked for: everything that writes."""
        return [
            *("-p", "no:cacheprovider", "-q"),
            f"--calibration-model=toy:{model}",
            f"--calibration-history={HISTORY}",
            "--calibration-dump=dump",
            "--calibration-cache-dir=cache",
            *(f"--calibration-report={name}" for name in REPORTS),
            *more,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What a process finds this package and the model by."""
        package = Path(pytest_calibration.__file__).parents[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "GITHUB", "CI"))}
        return kept | {
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(package)]),
            "GITHUB_STEP_SUMMARY": str(self.path / SUMMARY),
            # Other plugins take most of a short run's time.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p calibration -p xdist",
        }

    def start(self, *args: str, cwd: str = ".", **environment: str) -> subprocess.Popen[str]:
        """Start pytest in a group of processes of its own; ``cwd`` is within the project."""
        return subprocess.Popen(
            [sys.executable, "-c", PYTEST, *args],
            cwd=self.path / cwd,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, cwd: str = ".", **environment: str) -> tuple[int, str]:
        """Run pytest to its end; return exit code and output."""
        process = self.start(*args, cwd=cwd, **environment)
        output = process.communicate(timeout=600)[0]
        return process.returncode, output

    def files(self) -> dict[str, bytes]:
        """What runs have written."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def leftovers(self) -> list[str]:
        """What writes leave that are cut short."""
        return [name for name in self.files() if name.endswith((".tmp", ".lock"))]

    def damage(self) -> list[str]:
        """What of all that is there is not whole; empty if all is well."""
        found: list[str] = []

        def check(what: str, good: Any) -> None:
            if not good:
                found.append(what)

        for probe, name in product(("facts", "next_token"), ("one", "two")):
            try:
                record = Baselines(self.baselines, name).find(probe)
                check(f"items of {probe}", record is None or record.predictions.n == 300)
            except Exception as problem:
                found.append(f"{type(problem).__name__}: {problem}")
        for path in self.path.glob("dump/*.jsonl"):
            check(path.name, read_both(path)[0].n == 300)
        history = History(self.path / HISTORY)
        if history.path.exists():
            lines = history.read()
            # A line that is cut off is named and skipped; no run has one among its own.
            check(f"{HISTORY}: {lines.remarks}", len(lines.skipped) <= 1)
            for line in lines:
                check(f"items of line {line.model}", history.predictions(line) is not None)
        ends = {"r.html": "</html>", "r.txt": "# EOF", "r.json": "}"}
        for name, end in ends.items():
            if (self.path / name).exists():
                text = (self.path / name).read_text("utf-8")
                check(name, text.rstrip().endswith(end))
                check(name, name != "r.json" or "results" in json.loads(text))
        return found
