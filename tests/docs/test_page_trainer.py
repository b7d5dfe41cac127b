"""The blocks of the page on training, in small real runs that learn facts by heart."""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe
from documents import Section, agrees
from trainings import examples, facts_file, tiny

transformers = pytest.importorskip("transformers")

from pytest_calibration import Baselines, Facts  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)

pytestmark = [
    *(pytest.mark.torch, pytest.mark.training),
    # Of transformers, about its own names.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
# What makes the runs of the page short: its texts name none of these.
SHORT = {
    **{"learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_steps": 500, "seed": 3},
    **{"use_cpu": True, "report_to": "none", "disable_tqdm": True},
}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page takes for granted: model, tokenizer and rows; the working folder is empty.

    Runs are short, and rows of several lengths are padded.
    """
    monkeypatch.chdir(tmp_path)
    tokenizer = bpe()
    shutil.move(facts_file(tmp_path), "facts.jsonl")
    Path("calibration.yaml").write_text("probes: {facts: {path: facts.jsonl}}\n", "utf-8")
    pad = transformers.DataCollatorForTokenClassification(tokenizer)
    return {
        "Trainer": partial(transformers.Trainer, data_collator=pad),
        "TrainingArguments": partial(transformers.TrainingArguments, **SHORT),
        "EarlyStoppingCallback": transformers.EarlyStoppingCallback,
        "model": tiny("gpt_neox"),
        "tokenizer": tokenizer,
        "train": examples(tokenizer),
        "validation": examples(tokenizer, range(500, 516)),
    }


def after_import(code: str) -> str:
    """Return a block without its first line, which imports of transformers what is given here."""
    line, _, rest = code.partition("\n")
    assert line == "from transformers import EarlyStoppingCallback, Trainer, TrainingArguments"
    return rest


def test_the_best_checkpoint_is_kept(
    section: Section, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops early, names the best, and warns of the head as the page shows."""
    (code,) = section("docs/how-to/trainer.md", "Keep the best calibrated checkpoint")
    (warning,) = section("docs/how-to/trainer.md", "The head that a Trainer loses")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        exec(after_import(code.text), given)
    state = given["trainer"].state
    assert state.global_step < SHORT["max_steps"]
    assert capsys.readouterr().out.splitlines()[-1] == state.best_model_checkpoint
    said = [f"UserWarning: {one.message}" for one in warned if one.category is UserWarning]
    shown = warning.text.replace("checkpoint-300", Path(state.best_model_checkpoint).name)
    assert any(agrees(shown, one, numbers=False) for one in said), said


def test_a_regression_stops_the_run(section: Section, given: dict[str, Any]) -> None:
    """With the text of the failure; the history has the measurement that failed."""
    (first,) = section("docs/how-to/trainer.md", "Keep the best calibrated checkpoint")
    (code,) = section("docs/how-to/trainer.md", "Stop at a regression")
    before = TransformersModel.of(given["model"], given["tokenizer"])
    Baselines("calibration_baselines").record(Facts("facts", path="facts.jsonl").run(before))
    exec(after_import(first.text).partition("CalibrationCallback([")[0], given)
    with pytest.raises(AssertionError, match="calibration regressed: probe facts"):
        exec(code.text, given)
    assert len(Path("runs/history.jsonl").read_text("utf-8").splitlines()) == 1


def test_the_evaluation_set(
    section: Section, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the metrics that the page names."""
    (code,) = section("docs/how-to/trainer.md", "Measure on the evaluation set")
    exec(code.text, given)
    printed = capsys.readouterr().out
    assert all(f"'eval_{name}'" in printed for name in ("ece", "accuracy", "signed_gap", "brier"))
