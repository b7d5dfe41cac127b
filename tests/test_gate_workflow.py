"""The gate that other repositories call: its commands, run by bash as GitHub runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "gate.yml"
TEST = """
from pytest_calibration import assert_accuracy_above

def test_facts(calibration):
    assert_accuracy_above(calibration.run("facts"), 0.3)
"""
CONFTEST = """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel(calibration_model_spec)
"""


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    """The workflow."""
    read = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    # YAML 1.1 reads `on` as true.
    return {**read, "on": read[True]}


def step(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """A step by its name."""
    (found,) = [one for one in workflow["jobs"]["gate"]["steps"] if one.get("name") == name]
    return dict(found)


def test_what_is_used_is_declared(workflow: dict[str, Any]) -> None:
    """Every input is used, none is unknown, and none stands within a command."""
    declared = workflow["on"]["workflow_call"]["inputs"]
    used = set(re.findall(r"inputs\.([a-z-]+)", WORKFLOW.read_text("utf-8")))
    assert used == set(declared)
    runs = [one["run"] for one in workflow["jobs"]["gate"]["steps"] if "run" in one]
    assert len(runs) == 2
    assert not any("${{" in text for text in runs)
    assert workflow["permissions"] == {"contents": "read"}


def bash(text: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the runner does with `shell: bash`."""
    script = cwd / "step.sh"
    script.write_text(text, "utf-8")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose `python` is this one, and whose `pip` only tells its arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = pip ]; then shift 2; for one; do echo "[$one]"; done\n'
        f'else exec {sys.executable} "$@"; fi\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    folder = tmp_path / "project"
    (folder / "tests").mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "tests" / "test_it.py").write_text(TEST)
    for name in ("one", "two words"):
        (folder / "runs" / name).mkdir(parents=True)
    return folder


@pytest.mark.package
@pytest.mark.parametrize(
    ("requirements", "installed"),
    [
        ("", []),
        (
            "-r requirements.txt '.[all the extras]'",
            ["-r", "requirements.txt", ".[all the extras]"],
        ),
        (
            "$(touch ran) `touch ran`; touch ran",
            ["$(touch", "ran)", "`touch", "ran`;", "touch", "ran"],
        ),
    ],
)
def test_install(
    workflow: dict[str, Any], project: Path, requirements: str, installed: list[str]
) -> None:
    """The package and what else is named, split as a shell splits, and nothing of it run."""
    done = bash(
        step(workflow, "Install")["run"],
        project,
        PACKAGE="pytest-calibration[hf]==1.2",
        REQUIREMENTS=requirements,
    )
    assert done.returncode == 0, done.stderr
    expected = ["install", "pytest-calibration[hf]==1.2", *installed]
    assert done.stdout.splitlines() == [f"[{one}]" for one in expected]
    assert not (project / "ran").exists()


@pytest.mark.package
@pytest.mark.parametrize("name", ["Install", "Gate"])
@pytest.mark.parametrize("words", ["-k 'one", '-k one -m "a b', "--calibration-tolerance=0 don't"])
def test_a_quote_without_its_end_is_red(
    workflow: dict[str, Any], project: Path, name: str, words: str
) -> None:
    """No word is dropped in silence: nothing is installed or run."""
    done = bash(
        step(workflow, name)["run"],
        project,
        **dict.fromkeys(("PACKAGE", "MODELS", "PROBES", "TESTS", "CACHE"), ""),
        **dict.fromkeys(("REQUIREMENTS", "OPTIONS"), words),
    )
    assert done.returncode == 1
    assert "quote" in done.stderr
    assert done.stdout == ""


@pytest.mark.package
def test_gate(workflow: dict[str, Any], project: Path) -> None:
    """Models, probes, tests and options reach pytest; reports and step summary are written."""
    done = bash(
        step(workflow, "Gate")["run"],
        project,
        MODELS="runs/one\n  runs/two words\n\n",
        PROBES="",
        TESTS="tests/test_it.py",
        OPTIONS="-k 'test_facts and not other' -q",
        CACHE="true",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((project / "calibration.json").read_text("utf-8"))
    assert [one["state"] for one in report["results"]] == ["passed", "passed"]
    assert (project / "calibration.html").stat().st_size
    assert "runs/two words" in (project.parent / "summary.md").read_text("utf-8")


@pytest.mark.package
def test_a_red_gate_is_a_red_step(workflow: dict[str, Any], project: Path) -> None:
    """Its exit code is that of pytest, and no text of an input is run."""
    test = project / "tests" / "test_it.py"
    test.write_text(TEST.replace("0.3", "0.999"))
    gate = step(workflow, "Gate")["run"]
    others = {"MODELS": "runs/one", "TESTS": "", "OPTIONS": "", "CACHE": "false"}
    done = bash(gate, project, PROBES="$(touch ran)\nfacts", **others)
    # Usage: there is no such probe.
    assert done.returncode == 4, done.stdout + done.stderr
    assert not (project / "ran").exists()
    done = bash(gate, project, PROBES="facts", **others)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "::error" in done.stdout + done.stderr
