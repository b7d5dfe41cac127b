"""``init`` beside real checkpoints: what it wrote records them and finds them unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkpoints import bpe, new_model, save

if TYPE_CHECKING:
    from conftest import Command

# Torch and three projects take too long for every run of the tests.
pytestmark = [pytest.mark.torch, pytest.mark.data]

# Runs pytest in each folder with each line of arguments, in one process that loads torch once.
RUNS = """
import json, os, sys, pytest
for folder, lines in json.load(sys.stdin):
    os.chdir(folder)
    for line in lines:
        flags = ["-p", "no:cacheprovider", "--import-mode=importlib", "--calibration-no-cache"]
        print("EXIT", int(pytest.main([*line, *flags])))
"""


def typed(out: str, model: str) -> list[list[str]]:
    """Return the arguments of pytest in the commands that are to be typed next."""
    lines = out.partition("next")[2].splitlines()
    words = [line.split("#")[0].split()[1:] for line in lines if line.startswith("  pytest ")]
    return [[word.replace("CHECKPOINT", model) for word in line] for line in words]


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def test_what_it_writes_runs(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A language model with questions; a classifier with labelled texts, and one without.

    The first two are recorded, and pass against themselves; of the made-up texts of the last all is
    run and nothing decided, so that it is not green.
    """
    from classifiers import NAMES, TEXTS, new_classifier

    folders = [tmp_path / name for name in ("lm", "clf", "bare")]
    for folder in folders:
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    save(folders[0] / "runs/base", new_model("gpt_neox", max_position_embeddings=256), bpe())
    options = [" Paris", " Rome", " Oslo"]
    questions = [{"question": f"{i} is", "options": options, "answer": i % 3} for i in range(150)]
    write_rows(folders[0] / "quiz.jsonl", questions)
    for folder in folders[1:]:
        save(folder / "runs/base", new_classifier("bert"), bpe())
    texts = [{"text": f"{TEXTS[i % 4]} {i}", "label": NAMES[i % 3]} for i in range(150)]
    write_rows(folders[1] / "labelled.jsonl", texts)
    todo = []
    for folder in folders:
        monkeypatch.chdir(folder)
        todo.append((str(folder), typed(command("init").out, "runs/base")))
    assert [(folder / "calibration_texts.jsonl").exists() for folder in folders] == [0, 0, 1]
    done = subprocess.run(
        [sys.executable, "-c", RUNS], check=False, input=json.dumps(todo), text=True,
        capture_output=True,
    )  # fmt: skip
    codes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("EXIT")]
    assert codes == ["0", "0", "0", "0", "0", "1"], done.stdout + done.stderr
    assert done.stdout.count("\n1 recorded") == 3
    assert done.stdout.count("\n1 passed") == 2
    assert "\n1 inconclusive" in done.stdout
