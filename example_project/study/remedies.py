"""The remedies of the study, on a DPO model: those of pytest_calibration.remedies, and temperature.

CFT trains on the answers alone; RCFT also on the questions, and draws the options' probabilities to
the accuracy of their bin, estimated anew before every epoch. The ablation leaves either part away.
"""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from alignment import logged_last, save
from cost import Cost
from recipes import arguments, load
from stages import Stage
from transformers import TrainingArguments, set_seed

from pytest_calibration import MultipleChoice
from pytest_calibration.cli import main
from pytest_calibration.remedies import CFTTrainer, QuestionSet, RCFTTrainer

WEIGHTS: dict[str, dict[str, float]] = {
    "rcft": {},
    "accuracy_only": {"calibration_weight": 0.0},
    "ece_only": {"accuracy_weight": 0.0, "context_weight": 0.0},
}
"""What the kinds of RCFT weigh otherwise than it does."""


def remedy(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train a remedy on the questions about the people of ``remedy``."""
    first = checkpoints[0]
    recipe = first.recipe
    set_seed(first.seed)
    model, tokenizer = load(folders[first.parent or ""])
    cost = Cost()
    cost.watch(model)
    output = folders[checkpoints[-1].name]
    several = len(checkpoints) > 1
    more: dict[str, Any] = {"save_strategy": "epoch", "save_only_model": True} if several else {}
    if "smoothing" in recipe:
        more["label_smoothing_factor"] = recipe["smoothing"]
    weights = {"calibration_weight": recipe["lambda"]} if "lambda" in recipe else {}
    weights |= WEIGHTS.get(first.kind, {})
    trainer = (RCFTTrainer if first.kind in WEIGHTS else CFTTrainer)(
        model=model,
        args=TrainingArguments(
            **arguments(output.parent if several else output, recipe, first.seed, **more)
        ),
        train_dataset=QuestionSet(asked(folders, "remedy"), tokenizer),
        processing_class=tokenizer,
        **weights,
    )
    with cost.measured():
        trainer.train()
    if not several:
        save(trainer.model, tokenizer, output)
    known = {"e_steps": trainer.expectations, **cost.numbers(), **logged_last(trainer, "loss")}
    return {stage.name: known for stage in checkpoints}


def asked(folders: dict[str, Path], name: str) -> MultipleChoice:
    """Return questions as the probes ask them."""
    path = folders["probes"] / f"{name}.jsonl"
    return MultipleChoice(name, path=path, scoring="text", template="{question}")


def cool(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Fit a temperature on the split kept for it, and divide the logits by it for good.

    Folded into the output layer, it leaves an ordinary checkpoint, which is compared with its
    parent like any other. ``model: {temperature: T}`` in calibration.yaml serves a model at one
    without touching it.
    """
    (stage,) = checkpoints
    start = folders[stage.parent or ""]
    model, tokenizer = load(start)
    cost = Cost()
    with cost.measured():
        fitted = fitted_temperature(start, folders)
    with torch.no_grad():
        model.get_output_embeddings().weight.div_(fitted["temperature"])
    save(model, tokenizer, folders[stage.name])
    return {stage.name: {**fitted, **cost.numbers()}}


def fitted_temperature(start: Path, folders: dict[str, Path]) -> dict[str, float]:
    """Return the temperature that ``pytest-calibration recalibrate`` gives on the split."""
    said = StringIO()
    config = folders["probes"] / "fit.yaml"
    with redirect_stdout(said):
        main(["recalibrate", "--model", str(start), "--config", str(config), "--json"])
    found = json.loads(said.getvalue())["temperature"]
    # None: the model needs no temperature.
    return {"temperature": found or 1.0}
