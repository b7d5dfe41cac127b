"""What the trainings after pretraining share: loading, arguments, and questions asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from world import VALUES, Fact


def load(folder: Path, auto: Any = AutoModelForCausalLM, **arguments: Any) -> tuple[Any, Any]:
    """Return model and tokenizer of a checkpoint, read by ``from_pretrained`` alone.

    A Trainer that reloads a GPT-NeoX itself loses its head.
    """
    model = auto.from_pretrained(folder, **arguments)
    return model, AutoTokenizer.from_pretrained(folder)


def arguments(output: Path, recipe: dict[str, Any], seed: int, **more: Any) -> dict[str, Any]:
    """Return the arguments that all Trainers are given."""
    return {
        "output_dir": str(output),
        "learning_rate": recipe["rate"],
        "per_device_train_batch_size": recipe["batch"],
        "num_train_epochs": recipe.get("epochs", 1),
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "seed": seed,
        "use_cpu": recipe.get("device", "cpu") == "cpu",
        "bf16": False,
        "save_strategy": "no",
        "logging_strategy": "epoch",
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }


@torch.no_grad()
def answers(model: Any, tokenizer: Any, facts: Sequence[Fact]) -> list[list[tuple[str, float]]]:
    """Return for each question the values of its relation with their probabilities, best first."""
    model.eval()
    found = []
    for fact in facts:
        values = fact.relation.values[:VALUES]
        ids = [tokenizer(f" {value}")["input_ids"][0] for value in values]
        given = tokenizer(fact.question, return_tensors="pt").to(model.device)
        shares = model(**given).logits[0, -1].softmax(-1)[ids].tolist()
        found.append(sorted(zip(values, shares, strict=True), key=lambda pair: -pair[1]))
    return found
