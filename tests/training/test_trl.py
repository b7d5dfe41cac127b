"""The callback in the trainers of TRL, with adapters and without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe
from trainings import SEEN, arguments, codes, logged, tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

from pytest_calibration import CalibrationCallback, Facts, ece, load_model  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.training,
    # Of the libraries, about themselves and about names of each other.
    pytest.mark.filterwarnings("ignore"),
]
TIMED = re.compile("_runtime|_per_second")
LORA = {"r": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def rows(kind: str, numbers: range) -> Any:
    """Return facts as a data set of prompts with completions, or with two to choose from."""
    found = []
    for row in codes(numbers):
        right, wrong = row["answer"], "Rome" if row["answer"] != "Rome" else "Oslo"
        if kind == "sft":
            found.append({"prompt": row["prompt"], "completion": f" {right}"})
        else:
            found.append({"prompt": row["prompt"], "chosen": f" {right}", "rejected": f" {wrong}"})
    return datasets.Dataset.from_list(found)


def make(kind: str, folder: Path, *, lora: bool = False, **changes: Any) -> Any:
    """Return a trainer of TRL on a tiny model."""
    trainer, config = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
    }[kind]
    # The reference of DPO; with an adapter it is the model without it.
    reference = {"ref_model": tiny()} if kind == "dpo" and not lora else {}
    return trainer(
        **reference,
        model=tiny(),
        args=config(**arguments(folder, max_length=24, **changes)),
        train_dataset=rows(kind, SEEN),
        eval_dataset=rows(kind, range(500, 516)),
        processing_class=bpe(),
        peft_config=peft.LoraConfig(**LORA) if lora else None,
    )


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_best_calibrated_checkpoint_is_taken(
    tmp_path: Path, items: Path, kind: str, lora: bool
) -> None:
    """What is kept is the file of the checkpoint with the least ECE, as a run of ours finds it."""
    trainer = make(
        kind, tmp_path / "run", lora=lora,
        metric_for_best_model="calibration_ece", load_best_model_at_end=True,
    )  # fmt: skip
    probe = Facts("codes", path=items)
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    measured = logged(trainer)
    best = tmp_path / "run" / f"checkpoint-{min(measured, key=lambda step: measured[step])}"
    assert list(measured) == [20, 40, 60, 80]
    assert trainer.state.best_model_checkpoint == str(best)
    if lora:
        memory = peft.get_peft_model_state_dict(trainer.model)
        saved = load_file(best / "adapter_model.safetensors")
        again = TransformersModel.of(peft.PeftModel.from_pretrained(tiny(), best), bpe())
    else:
        memory, saved = trainer.model.state_dict(), load_file(best / "model.safetensors")
        again = load_model(str(best))
    assert ece(probe.run(again)) == pytest.approx(trainer.state.best_metric, abs=1e-5)
    assert all(torch.equal(memory[name], saved[name]) for name in saved)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_what_trl_logs_stays_its_own(tmp_path: Path, items: Path, kind: str, lora: bool) -> None:
    """Rows of the training and the evaluation are those of a run without the callback.

    TRL adds what it gathered in training to any log that is written in training mode, and forgets
    it then: the callback measures at saves, too, where the model is in training mode.
    """
    ends = []
    for watched in (False, True):
        trainer = make(kind, tmp_path / str(watched), lora=lora, save_steps=7, logging_steps=10)
        if watched:
            CalibrationCallback([Facts("codes", path=items)], limit=60).attach(trainer)
        trainer.train()
        assert bool(logged(trainer)) is watched
        own = [row for row in trainer.state.log_history if "eval_calibration_ece" not in row]
        ends.append([{key: row[key] for key in row if not TIMED.search(key)} for row in own])
        calibration = [r for r in trainer.state.log_history if "eval_calibration_ece" in r]
        names = {name for row in calibration for name in row} - {"step", "epoch"}
        assert all(name.startswith("eval_calibration_") for name in names if name != "num_tokens")
        ends.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
    one, weights, other, weights_too = ends
    assert one == other
    assert all(torch.equal(weights[name], weights_too[name]) for name in weights)
