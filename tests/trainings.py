"""Small real training runs: a Trainer that learns facts by heart, and probes on facts unseen."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

from checkpoints import bpe, new_model

CITIES: Final = ("Paris", "Rome", "Oslo", "Bern")
SEEN: Final = range(48)
UNSEEN: Final = range(1000, 1120)


def codes(numbers: range) -> list[dict[str, str]]:
    """Return facts that nothing tells beforehand: each number has a random city."""
    draw = random.Random(numbers.start)
    return [{"prompt": f"{n}:", "answer": draw.choice(CITIES)} for n in numbers]


def facts_file(folder: Path, numbers: range = UNSEEN) -> Path:
    """Write the items of a probe of the kind ``facts``."""
    path = folder / f"codes-{numbers.start}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in codes(numbers)), "utf-8")
    return path


def examples(tokenizer: Any, numbers: range = SEEN) -> list[dict[str, list[int]]]:
    """Return facts as tokens to train on."""
    rows = []
    for row in codes(numbers):
        ids = tokenizer(f"{row['prompt']} {row['answer']}")["input_ids"]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids})
    return rows


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a run of 80 steps that is evaluated and saved every 20.

    What is learnt by heart makes the model sure of what it cannot know: the calibration error on
    unseen facts, about 0.2 at step 20, is above 0.4 at the end, whatever the seed.
    """
    usual = {
        "output_dir": str(folder),
        "max_steps": 80,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 16,
        "eval_strategy": "steps",
        "eval_steps": 20,
        "save_strategy": "steps",
        "save_steps": 20,
        "logging_steps": 20,
        "seed": 3,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return usual | changes


def tiny(family: str = "llama", **changes: Any) -> Any:
    """Return an untrained model with a little dropout, which draws random numbers."""
    small: dict[str, dict[str, float]] = {
        "gpt_neox": dict.fromkeys(("attention_dropout", "hidden_dropout"), 0.1),
        "gpt2": dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1),
    }
    return new_model(family, **small.get(family, {"attention_dropout": 0.1}) | changes)


def make_trainer(folder: Path, family: str = "llama", **changes: Any) -> Any:
    """Return a Trainer of a tiny model.

    Args:
        folder: where it saves.
        family: of the model.
        changes: ``model``, ``callbacks``, ``eval_dataset`` of the Trainer; all else are
            ``TrainingArguments``.
    """
    from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments

    tokenizer = bpe()
    given = {
        "model": tiny(family),
        "train_dataset": examples(tokenizer),
        "eval_dataset": examples(tokenizer, range(500, 516)),
    }
    for key in {"model", "callbacks", "eval_dataset"} & {*changes}:
        given[key] = changes.pop(key)
    return Trainer(
        args=TrainingArguments(**arguments(folder, **changes)),
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        **given,
    )


def logged(trainer: Any, name: str = "eval_calibration_ece") -> dict[int, float]:
    """Return a logged metric by step."""
    return {row["step"]: row[name] for row in trainer.state.log_history if name in row}
