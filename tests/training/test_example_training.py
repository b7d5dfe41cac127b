"""The example that trains with the callback does what its first line says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from safetensors.torch import load_file

pytestmark = [pytest.mark.torch, pytest.mark.training]
SCRIPT = Path(__file__).parents[2] / "example_project" / "train_with_callback.py"


def test_it_keeps_the_best_calibrated_checkpoint(tmp_path: Path) -> None:
    """It stops early, and what it keeps is the file of a checkpoint before the last, head and all.

    The script has at most 60 lines.
    """
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 60
    result = subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    found = re.search(r"kept \S+/checkpoint-(\d+) of (\d+) steps: ECE 0\.\d+", result.stdout)
    assert found, result.stdout
    best, steps = map(int, found.groups())
    assert best < steps < 200
    assert "lm_head.weight" in result.stderr
    kept = load_file(tmp_path / "best" / "model.safetensors")
    saved = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    assert kept.keys() == saved.keys()
    assert all((kept[name] == saved[name]).all() for name in kept)
    assert len((tmp_path / "history.jsonl").read_text("utf-8").splitlines()) == 2 * steps / 10


def test_drift_along_the_checkpoints_of_both_fine_tunes(tmp_path: Path) -> None:
    """The script's own judgement: the full fine-tune drifted, LoRA did not; 13 checkpoints each."""
    script = SCRIPT.with_name("drift_of_checkpoints.py")
    chart = tmp_path / "drift.svg"
    result = subprocess.run(
        [sys.executable, str(script), "--runs", str(tmp_path / "runs"), "--chart", str(chart)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    words = " ".join(result.stdout.split())
    assert words.count(": 13 checkpoints after the parent checkpoints/base") == 4
    assert "cannot be told apart" in words
    assert chart.read_text("utf-8").startswith("<?xml")
