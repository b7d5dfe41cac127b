"""The blocks of the page on lm-eval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import repositories
from console import Console
from documents import Section, put_files
from fake_hub import serving
from lm_eval_samples import write_samples

from pytest_calibration.config import read_config


def test_a_run(section: Section, folder: Path, console: Console, pytester: pytest.Pytester) -> None:
    """Samples as lm-eval writes them are recorded; those of other weights, the same, pass."""
    commands, test = section("docs/how-to/lm-eval.md", "A run that is there already")

    def lm_eval(arguments: list[str]) -> None:
        out = folder / arguments[arguments.index("--output_path") + 1]
        assert "--log_samples" in arguments
        assert arguments[arguments.index("--tasks") + 1] == "mmlu,hellaswag"
        for task in ("mmlu", "hellaswag"):
            write_samples(out, task)
            write_samples(out.with_name(f"{out.name}-sft"), task, 28)

    console.type(commands, instead={"lm_eval": lm_eval})
    pytester.makepyfile(test.text)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


QUIZ = """task: house_quiz
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/quiz.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: options
doc_to_target: answer
"""


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that has the data of two of lm-eval's tasks; a task of one's own."""
    rows = [
        repositories._labelled(f"Q{i}", f"Which {i}?", ["ice", "tea", f"{i}"], "ABC", "B")
        for i in range(150)
    ]
    choices = {"text": ["string"], "label": ["string"]}
    types = {**dict.fromkeys(("id", "question", "answerKey"), "string"), "choices": choices}
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    root = folder / "hub"
    repositories.write_repository(root / "allenai" / "ai2_arc", {"ARC-Easy": splits}, types)
    repositories.hellaswag(root / "Rowan" / "hellaswag")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "house_quiz.yaml").write_text(QUIZ, "utf-8")
    quiz = ({"question": f"{i}?", "options": ["a", "b"], "answer": i % 2} for i in range(60))
    (folder / "tasks" / "quiz.jsonl").write_text("\n".join(map(json.dumps, quiz)), "utf-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    with serving(root) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield


@pytest.mark.data
@pytest.mark.usefixtures("gate", "fakes", "hub")
def test_a_task(
    section: Section, folder: Path, console: Console, pytester: pytest.Pytester
) -> None:
    """Recorded and gated by lm-eval's own task; the entries of the file are recorded.

    Of MMLU, whose 57 data sets are many, the settings are looked at.
    """
    commands, config = section("docs/how-to/lm-eval.md", "A task as a probe")
    _, recorded, gated = console.type(commands, [0, 0, 1], process=True)
    assert "lm_eval:arc_easy" in recorded
    assert "1 regressed" in gated
    put_files(folder, [config])
    probes = read_config(folder / "calibration.yaml").probes
    assert {**probes["mmlu"]} == {"kind": "lm_eval", "task": "mmlu", "shots": 5, "limit": 2000}
    chosen = [f"--calibration-probe={name}" for name in probes if name != "mmlu"]
    result = pytester.runpytest_subprocess("--calibration-model=a", "--calibration-record", *chosen)
    result.assert_outcomes(passed=2)
