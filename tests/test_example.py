"""The example project does what its README says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("peft")

EXAMPLE = Path(__file__).parent.parent / "example_project"
BASE = EXAMPLE / "checkpoints" / "base"


def run(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, away from the repository."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
    )


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where answers are kept, so that the base is asked once."""
    return tmp_path_factory.mktemp("answers")


def test_the_gate_tells_the_damaged_checkpoint_from_the_sound_ones(tmp_path: Path) -> None:
    """Real fine-tuning both ways: base and LoRA pass, the full fine-tune is caught; then swapped.

    With the checkpoints exchanged the same script must exit 1.
    """
    script = EXAMPLE / "fine_tune_and_gate.py"
    result = run(script, "--runs", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for name, state in {"base": "passed", "lora": "passed", "full": "regressed"}.items():
        assert f"{name:<5} {name:<5} {state}, {state}" in result.stdout
    assert (tmp_path / "full" / "model.safetensors").is_file()
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()

    swapped = run(script, "--lora", tmp_path / "full", "--full", tmp_path / "lora")
    assert swapped.returncode == 1
    assert "the gate was WRONG" in swapped.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_the_base_holds_its_committed_baselines(workers: list[str]) -> None:
    """The committed baselines are those of the committed checkpoint."""
    result = run("-m", "pytest", EXAMPLE, f"--calibration-model={BASE}", *workers)
    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout


@pytest.mark.parametrize("extra", [[], ["--reruns", "1"]], ids=["once", "reruns"])
@pytest.mark.parametrize("ci", [{}, {"CI": "true"}], ids=["local", "CI"])
def test_without_a_baseline_the_gate_is_red_and_writes_nothing(
    tmp_path: Path, answers: Path, ci: dict[str, str], extra: list[str]
) -> None:
    """No baseline: exit code 1 and not one file more, whatever the surroundings."""
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns("calibration_baselines", "runs", "__pycache__")
    shutil.copytree(EXAMPLE, project, ignore=ignored)
    before = sorted(p for p in project.rglob("*") if "__pycache__" not in p.parts)
    command = ["-m", "pytest", project, f"--calibration-model={BASE}", "-p", "no:cacheprovider"]
    kept = f"--calibration-cache-dir={answers}"
    result = run(*command, kept, "-k", "nothing_got_worse", *extra, **ci)
    assert result.returncode == 1
    assert "2 no baseline" in result.stdout
    assert sorted(p for p in project.rglob("*") if "__pycache__" not in p.parts) == before


def test_without_a_model_the_gate_errors() -> None:
    """No model: every test is an error, none is skipped."""
    result = run("-m", "pytest", EXAMPLE)
    assert result.returncode == 1
    assert "3 errors" in result.stdout
    assert "skipped" not in result.stdout
    assert "no model: pass --calibration-model" in result.stdout


def test_probe_files_are_those_the_script_writes(tmp_path: Path) -> None:
    """Running almanac.py anew gives the committed probe files, to the byte."""
    copy = tmp_path / "almanac.py"
    shutil.copy(EXAMPLE / "almanac.py", copy)
    assert run(copy).returncode == 0
    for file in sorted((EXAMPLE / "probes").iterdir()):
        assert (tmp_path / "probes" / file.name).read_bytes() == file.read_bytes()


def test_the_chart_of_drift_is_of_both_fine_tunes() -> None:
    """The committed picture names both runs and both probes, as text."""
    words = (EXAMPLE / "drift.svg").read_text("utf-8")
    for name in ("runs/drift/full", "runs/drift/lora", "almanac-facts", "almanac-questions"):
        assert f">{name}<" in words
