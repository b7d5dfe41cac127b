"""The blocks of the page on free answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from console import Console
from documents import ROOT, Section, put_files

PAGE = ROOT / "docs" / "how-to" / "free-answers.md"
# Right on three of five questions, as often as it says, however it is asked.
CONFTEST = """
import pytest
from answering import ChatAnswering
from fakes import unit


def right(prompt):
    return unit("right", prompt.split("Question: ")[-1].split("?")[0]) < 0.6


def says(prompt, seed=0):
    answer = "Lima" if right(prompt) else "Quito"
    if "Probability: <" in prompt:
        return f"Guess: {answer}\\nProbability: 60%"
    return f"other {seed}" if seed and unit("seed", seed) > 0.6 else answer


class Model(ChatAnswering):
    def option_logprobs(self, prompts, options, *, add_special_tokens=True):
        return super(ChatAnswering, self).option_logprobs(prompts, options)

    def generate(self, prompts, *, add_special_tokens=True, **how):
        return super(ChatAnswering, self).generate(prompts, **how)


@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return Model(says, true=lambda _: 0.6)
"""


@pytest.mark.usefixtures("gate")
def test_ones_own_questions(section: Section, folder: Path, console: Console) -> None:
    """All four kinds are recorded, and found unchanged."""
    rows, config, commands = section("docs/how-to/free-answers.md", "Ask your own questions")
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    put_files(folder, [config])
    first, *others = map(json.loads, rows.text.splitlines())
    more = [{**first, "question": f"{i}. {first['question']}"} for i in range(200)]
    text = "".join(f"{json.dumps(row)}\n" for row in [*more, *others])
    (folder / "probes").mkdir()
    (folder / "probes" / "trivia.jsonl").write_text(text, "utf-8")
    recorded, gated = console.type(commands)
    assert "4 recorded" in recorded
    assert "4 passed" in gated


@pytest.mark.data
@pytest.mark.torch
@pytest.mark.skipif(not (ROOT / "example_project").is_dir(), reason="the example is not here")
def test_three_confidences(section: Section, folder: Path, pytester: pytest.Pytester) -> None:
    """The probes of the block on the base model of the example give the numbers of the table."""
    (config,) = section("docs/how-to/free-answers.md", "Three confidences of one model")
    put_files(folder, [config])
    shutil.copytree(ROOT / "example_project" / "probes", folder / "example_project" / "probes")
    pytester.makepyfile(
        "from pytest_calibration import assert_ece_below\n"
        "def test_it(calibration, calibration_probe):\n"
        "    assert_ece_below(calibration.run(calibration_probe), 1)"
    )
    base = ROOT / "example_project" / "checkpoints" / "base"
    result = pytester.runpytest_subprocess(
        f"--calibration-model={base}", "--calibration-report=r.json", "--calibration-device=cpu"
    )
    result.assert_outcomes(passed=3)
    rows = json.loads((folder / "r.json").read_text("utf-8"))["results"]
    assert len(rows) == 3
    for row in rows:
        ece = row["number"]
        shown = f"| {ece['value']:.3f} | {ece['noise_floor']:.3f} | {row['accuracy']:.3f} |"
        assert shown in PAGE.read_text("utf-8"), (row["probe"], shown)
