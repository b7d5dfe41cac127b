"""What do CFT, RCFT and label smoothing cost beside plain fine-tuning, and what do they do?

::

    python benchmarks/remedies.py                  # print the tables (4 minutes of one core)
    python benchmarks/remedies.py --write docs/explanation/remedies.md

The questions have four options and a known chance of each being right, from two words of twelve.
A small GPT-NeoX learns 6,000 answers drawn so, and is calibrated. Then it learns its own most
likely answers, as preference training does to what people prefer: the answers stay, the confidence
goes to 1. Each remedy continues from there with 1,000 new questions and drawn answers, three
epochs, and is asked 3,000 others. Temperature is fitted to the 1,000 and trains nothing.

Costs are CPU times of one epoch of the same 1,000 questions in one process, each the least of
three, divided by that of plain fine-tuning: the Trainer of transformers with the loss on all
tokens. What plain fine-tuning does is measured with the losses on answer and question.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from pages import publish
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pytest_calibration.diagnosis import apply_temperature, fit_temperature
from pytest_calibration.metrics import accuracy, ece, nll
from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.remedies import CFTTrainer, QuestionSet, RCFTTrainer

SIDE = 12
SEEDS = (0, 1, 2)
EPOCHS = 3
WORDS = [f"{letter}{n}" for letter in "rc" for n in range(SIDE)]
OPTIONS = ["red", "blue", "green", "grey"]
REMEDIES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "plain fine-tuning": (CFTTrainer, {"context_weight": 1.0}, {}),
    "label smoothing 0.1": (CFTTrainer, {}, {"label_smoothing_factor": 0.1}),
    "CFT (accuracy alone)": (CFTTrainer, {}, {}),
    "RCFT, λ = 1": (RCFTTrainer, {}, {}),
    "RCFT, λ = 5": (RCFTTrainer, {"calibration_weight": 5.0}, {}),
    "RCFT without the question": (RCFTTrainer, {"context_weight": 0.0}, {}),
    "calibration alone": (RCFTTrainer, {"accuracy_weight": 0.0, "context_weight": 0.0}, {}),
}


def tokenizer() -> Any:
    """Return a tokenizer of whole words."""
    words = ["<end>", "<pad>", "<other>", *WORDS, *OPTIONS, *"ABCD.:?", "Answer"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<other>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<pad>", unk_token="<other>"
    )


def chances(seed: int) -> Any:
    """Return the chance of each option by its two words, (12, 12, 4)."""
    rng = np.random.default_rng(seed)
    logits = 1.1 * (rng.normal(size=(SIDE, 1, 4)) + rng.normal(size=(1, SIDE, 4)))
    shares = np.exp(logits)
    return shares / shares.sum(-1, keepdims=True)


def questions(folder: Path, n: int, seed: int, chance: Any) -> MultipleChoice:
    """Write questions with drawn answers, and return the probe that asks them."""
    rng = np.random.default_rng(seed)
    path = folder / f"questions-{seed}-{n}.jsonl"
    rows = []
    for i in range(n):
        a, b = (int(x) for x in rng.integers(0, SIDE, 2))
        answer = int(rng.choice(4, p=chance[a, b]))
        question = f"r{a} c{b} ?"
        rows.append({"id": str(i), "question": question, "options": OPTIONS, "answer": answer})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return MultipleChoice(path=path, header="")


def new_model(size: int) -> Any:
    """Return an untrained GPT-NeoX."""
    config = transformers.GPTNeoXConfig(
        vocab_size=size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    return transformers.GPTNeoXForCausalLM(config)


class PlainTrainer(transformers.Trainer):  # type: ignore[misc]
    """The Trainer of transformers, with the loss on all tokens."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += ["option_ids", "answer", "item"]


def plain_collator(trainer: Any) -> Callable[[Any], dict[str, Any]]:
    """Return a collator that leaves nothing but tokens, all of them labels."""
    inner = trainer.data_collator

    def collate(rows: Any) -> dict[str, Any]:
        batch = inner(rows)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "labels": labels,
        }

    return collate


def trained(
    kind: Any, model: Any, data: Any, folder: Path, *, epochs: float, rate: float, **more: Any
) -> Any:
    """Train a model in place, and return its trainer."""
    own = {n: more.pop(n) for n in list(more) if n.endswith("_weight")}
    args = transformers.TrainingArguments(
        **{
            "output_dir": str(folder / "run"),
            "num_train_epochs": epochs,
            "learning_rate": rate,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 64,
            "save_strategy": "no",
            "logging_strategy": "no",
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        | more
    )
    trainer = kind(model=model, args=args, train_dataset=data, processing_class=tokenizer(), **own)
    trainer.train()
    return trainer


def answers(model: Any, probe: MultipleChoice) -> Predictions:
    """Ask a model a probe."""
    return probe.run(TransformersModel.of(model, tokenizer(), name="m"))


def numbers(p: Predictions) -> dict[str, float]:
    """Measure accuracy, ECE, signed gap and NLL."""
    gap = float(p.confidence.mean() - p.correct.mean())
    return {"accuracy": accuracy(p), "ECE": ece(p), "gap": gap, "NLL": nll(p)}


def effects(seed: int, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what each stage and each remedy comes to, for one seed."""
    torch.manual_seed(seed)
    chance, words = chances(seed), tokenizer()
    test = questions(folder, 3000, 10 + seed, chance)
    model = new_model(len(words))
    many = QuestionSet(questions(folder, 6000, 20 + seed, chance), words)
    trained(CFTTrainer, model, many, folder, epochs=3, rate=1e-3, per_device_train_batch_size=64)
    yield "calibrated", numbers(answers(model, test))
    # Its own answers, again and again.
    own = QuestionSet(questions(folder, 1500, 30 + seed, chance), words)
    chosen = answers(model, own.probe).probabilities
    assert chosen is not None
    for row, answer in zip(own, chosen.argmax(axis=1), strict=True):
        row["answer"] = int(answer)
        row["labels"][-1] = row["input_ids"][-1] = row["option_ids"][answer]
    trained(CFTTrainer, model, own, folder, epochs=6, rate=1e-3)
    yield "over-confident", numbers(answers(model, test))
    data = QuestionSet(questions(folder, 1000, 40 + seed, chance), words)
    fit = fit_temperature(answers(model, data.probe))
    assert fit is not None
    yield "temperature", numbers(apply_temperature(answers(model, test), fit.value))
    for name, (kind, weights, more) in REMEDIES.items():
        again = copy.deepcopy(model)
        trained(kind, again, data, folder, epochs=EPOCHS, rate=3e-4, **weights, **more)
        yield name, numbers(answers(again, test))


def costs(folder: Path) -> dict[str, float]:
    """Return the seconds of an epoch of plain fine-tuning and of each remedy."""
    torch.manual_seed(0)
    words = tokenizer()
    data = QuestionSet(questions(folder, 1000, 99, chances(0)), words)
    model = new_model(len(words))
    seconds: dict[str, list[float]] = {}
    kinds: dict[str, Any] = {"plain fine-tuning": None} | {
        name: row for name, row in REMEDIES.items() if name != "plain fine-tuning"
    }
    for _ in range(3):
        for name, row in kinds.items():
            kind, weights, more = row or (PlainTrainer, {}, {})
            again = copy.deepcopy(model)
            args = transformers.TrainingArguments(
                output_dir=str(folder / "run"), num_train_epochs=1, per_device_train_batch_size=16,
                per_device_eval_batch_size=64, save_strategy="no", logging_strategy="no",
                use_cpu=True, report_to="none", disable_tqdm=True, **more,
            )  # fmt: skip
            collator: dict[str, Any] = {}
            if row is None:
                one = CFTTrainer(model=again, args=args, train_dataset=data)
                collator = {"data_collator": plain_collator(one)}
            trainer = kind(model=again, args=args, train_dataset=data, **collator, **weights)
            start = time.process_time()
            trainer.train()
            seconds.setdefault(name, []).append(time.process_time() - start)
    return {name: min(each) for name, each in seconds.items()}


def report() -> str:
    """Run all, and return the tables."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as name:
        spent = costs(Path(name))
        for seed in SEEDS:
            for stage, row in effects(seed, Path(name)):
                found.setdefault(stage, []).append(row)
                print(seed, stage, {k: round(v, 3) for k, v in row.items()}, file=sys.stderr)
    base = spent["plain fine-tuning"]
    lines = [
        "| | accuracy | ECE | signed gap | NLL | time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stage, rows in found.items():
        cells = []
        for key in ("accuracy", "ECE", "gap", "NLL"):
            values = [row[key] for row in rows]
            sign = "+" if key == "gap" else ""
            low, high = (f"{x:{sign}.3f}" for x in (min(values), max(values)))
            cells.append(f"{statistics.mean(values):{sign}.3f} ({low} to {high})")
        ratio = f"{spent[stage] / base:.2f}" if stage in spent else ""
        lines.append(f"| {stage} | {' | '.join(cells)} | {ratio} |")
    n = len(SEEDS)
    return "\n".join(
        [
            f"Mean of {n} seeds (least to largest), 3,000 questions each; time of an epoch beside "
            f"plain fine-tuning ({base:.1f} s of CPU for 1,000 questions).",
            "",
            *lines,
        ]
    )


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="page of the docs to write them into")
    publish(report(), parser.parse_args().write, "benchmarks/remedies.py")


if __name__ == "__main__":
    main()
