"""Fine-tune the example's base model on a narrow set of facts, in full or with LoRA.

Both methods see the same data, the facts of a sixth of the people, and neither sees anyone whom
the probes ask about. What differs is how much they may change:

* ``full`` moves every weight, hard enough to overwrite what the model knew of everybody else and,
  worse, its sense of what it does not know. Its calibration on the held-out people collapses.
* ``lora`` learns a small low-rank correction to two layers of each block and leaves the base as it
  is. It learns the narrow facts better and keeps the calibration elsewhere.

Run, for example::

    python example_project/finetune.py --method lora --output my_adapter

``full`` saves a whole checkpoint, ``lora`` a PEFT adapter folder that names its base by absolute
path; both come with the tokenizer.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# Nothing here needs the network; say so before the libraries are imported, which read it then.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from almanac import Fact, narrow_facts
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

BASE_DIR = Path(__file__).resolve().parent / "checkpoints" / "base"

BATCH = 32
"""Facts a step."""

IGNORED = -100
"""Label of the positions that do not count in the loss."""

LORA_RANK = 4


@dataclass(frozen=True)
class Recipe:
    """How one method trains."""

    learning_rate: float
    steps: int
    save_every: int = 0


RECIPES = {
    "full": Recipe(learning_rate=1e-3, steps=100),
    "lora": Recipe(learning_rate=5e-4, steps=100),
}


def encode(tokenizer: PreTrainedTokenizerBase, fact: Fact) -> dict[str, list[int]]:
    """Return one training example; only the answer and what follows it count in the loss.

    Names cannot be guessed, so learning to predict them would teach nothing but which people
    are in the set.
    """
    prompt = tokenizer(fact.prompt)["input_ids"]
    text = tokenizer(fact.sentence + str(tokenizer.eos_token))["input_ids"]
    return {"input_ids": text, "labels": [IGNORED] * len(prompt) + text[len(prompt) :]}


class PadRight:
    """Collate examples of different lengths into one batch."""

    def __init__(self, pad_token_id: int) -> None:
        """Remember the token that fills short rows."""
        self.pad_token_id = pad_token_id

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return ids, mask and labels, each a matrix of one row an example."""
        width = max(len(example["input_ids"]) for example in examples)

        def matrix(key: str, filler: int) -> torch.Tensor:
            return torch.tensor([e[key] + [filler] * (width - len(e[key])) for e in examples])

        ids = matrix("input_ids", self.pad_token_id)
        return {
            "input_ids": ids,
            "attention_mask": (ids != self.pad_token_id).long(),
            "labels": matrix("labels", IGNORED),
        }


def add_lora(model: PreTrainedModel, base: Path) -> PreTrainedModel:
    """Wrap the model so that only a low-rank correction to each block's input layers is trained.

    The adapter notes where its base is, and it is loaded from other folders than this one: hence
    the absolute path.
    """
    model.name_or_path = str(base.resolve())
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        target_modules=["query_key_value", "dense_h_to_4h"],
        task_type="CAUSAL_LM",
    )
    wrapped: PreTrainedModel = get_peft_model(model, config)
    return wrapped


def narrow_loss(
    model: PreTrainedModel, examples: list[dict[str, list[int]]], collate: PadRight
) -> float:
    """Return the mean loss over the whole narrow set, in nats per answer token."""
    model.eval()
    with torch.no_grad():
        loss = model(**collate(examples)).loss
    return float(loss)


def train(
    model: PreTrainedModel,
    examples: list[dict[str, list[int]]],
    collate: PadRight,
    recipe: Recipe,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
) -> None:
    """Train the model in place; keep a checkpoint every so many steps where the recipe says so."""
    # Trainer insists on an output folder, even when it saves nothing.
    with TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=str(output) if recipe.save_every else scratch,
            max_steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            per_device_train_batch_size=BATCH,
            seed=seed,
            use_cpu=True,
            save_strategy="steps" if recipe.save_every else "no",
            save_steps=recipe.save_every or recipe.steps,
            save_only_model=True,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            processing_class=tokenizer,
        ).train()


def parse_arguments() -> tuple[str, Path, int, Path, Recipe]:
    """Return method, output folder, seed, base folder and recipe from the command line."""
    parser = argparse.ArgumentParser(description="Fine-tune the example's base model.")
    parser.add_argument("--method", choices=sorted(RECIPES), required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, default=BASE_DIR, help="checkpoint to start from")
    parser.add_argument("--steps", type=int, help="training steps (default: the method's own)")
    parser.add_argument("--learning-rate", type=float, help="peak (default: the method's own)")
    parser.add_argument(
        "--save-every",
        type=int,
        default=0,
        help="steps between checkpoints (default: none)",
    )
    given = parser.parse_args()
    usual = RECIPES[given.method]
    recipe = Recipe(
        learning_rate=given.learning_rate or usual.learning_rate,
        steps=given.steps or usual.steps,
        save_every=given.save_every,
    )
    return given.method, given.output, given.seed, given.base, recipe


def main() -> None:
    """Fine-tune as the command line says and save the result."""
    method, output, seed, base, recipe = parse_arguments()
    began = time.perf_counter()
    # The model is too small for a second thread to pay.
    torch.set_num_threads(1)
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    if method == "lora":
        model = add_lora(model, base)

    examples = [encode(tokenizer, fact) for fact in narrow_facts()]
    collate = PadRight(tokenizer.pad_token_id)
    before = narrow_loss(model, examples, collate)
    train(model, examples, collate, recipe, seed, tokenizer, output)
    after = narrow_loss(model, examples, collate)
    print(f"narrow set: loss {before:.3f} before, {after:.3f} after (nats per answer token)")

    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(f"saved {output} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
