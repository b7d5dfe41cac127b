"""Alignment of the study: instruction tuning, DPO, and a reward model with RLOO, by TRL and peft.

PPO has left TRL; its online policy gradient is RLOO (Ahmadian et al. 2024), with the same reward
model and the same KL penalty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from cost import Cost
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from recipes import answers, arguments, load
from stages import Stage
from transformers import AutoModelForSequenceClassification, PreTrainedModel, set_seed
from trl import (
    DPOConfig,
    DPOTrainer,
    RewardConfig,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
    SFTConfig,
    SFTTrainer,
)
from world import diversity, facts_of, instructions, preferences

LORA_RANK = 8
LONGEST = 48
"""Tokens of a prompt with its answer."""

IN_MEMORY = {"gradient_checkpointing": False}
"""TRL saves memory by default, at the price of a second forward pass."""

UNSURE = (0.2, 0.9)
"""Between these lies the largest probability of an answer to a prompt of RLOO: where a policy
always answers alike, all rewards of a group are equal, and nothing is learnt from it."""


def tune(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Tune a model on instructions or, as a reference of cost, on the questions of the remedies."""
    first = checkpoints[0]
    recipe, start = first.recipe, folders[first.parent or ""]
    set_seed(first.seed)
    model, tokenizer = load(start)
    cost = Cost()
    cost.watch(model)
    if recipe["method"] == "lora":
        # An adapter notes where its base is, and is loaded from other folders than this one.
        model.name_or_path = str(start.resolve())
        model = get_peft_model(
            model,
            LoraConfig(
                r=LORA_RANK,
                lora_alpha=2 * LORA_RANK,
                target_modules=["query_key_value", "dense_h_to_4h"],
                task_type="CAUSAL_LM",
            ),
        )
    if recipe["dataset"] == "remedy":
        rows = [
            {"prompt": fact.question, "completion": f" {fact.answer}."}
            for fact in facts_of("remedy")
        ]
    else:
        rows = instructions(recipe["dataset"])
    output = folders[checkpoints[-1].name]
    several = len(checkpoints) > 1
    more = {"save_strategy": "epoch", "save_only_model": True} if several else {}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            max_length=LONGEST,
            **IN_MEMORY,
            **arguments(output.parent if several else output, recipe, first.seed, **more),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    with cost.measured():
        trainer.train()
    if not several:
        save(trainer.model, tokenizer, output)
    known = {"diversity": diversity(rows), **cost.numbers(), **logged_last(trainer, "loss")}
    return {stage.name: known for stage in checkpoints}


def prefer(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train on preferences with DPO, against the model that it starts from."""
    (stage,) = checkpoints
    set_seed(stage.seed)
    model, tokenizer = load(folders[stage.parent or ""])
    reference, _ = load(folders[stage.parent or ""])
    cost = Cost()
    cost.watch(model, reference)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            beta=stage.settings["beta"],
            max_length=LONGEST,
            **IN_MEMORY,
            **arguments(folders[stage.name], stage.recipe, stage.seed),
        ),
        train_dataset=Dataset.from_list(preferences()),
        processing_class=tokenizer,
    )
    with cost.measured():
        trainer.train()
    save(trainer.model, tokenizer, folders[stage.name])
    return {stage.name: {**cost.numbers(), **logged_last(trainer, "loss", "rewards/accuracies")}}


def reward(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train a reward model on the same preferences; count how often it prefers the truth."""
    (stage,) = checkpoints
    set_seed(stage.seed)
    model, tokenizer = load(
        folders[stage.parent or ""], AutoModelForSequenceClassification, num_labels=1
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    cost = Cost()
    cost.watch(model)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            max_length=LONGEST,
            **IN_MEMORY,
            **arguments(folders[stage.name], stage.recipe, stage.seed),
        ),
        train_dataset=Dataset.from_list(preferences()),
        processing_class=tokenizer,
    )
    with cost.measured():
        trainer.train()
    save(trainer.model, tokenizer, folders[stage.name])
    return {
        stage.name: {
            **cost.numbers(),
            **logged_last(trainer, "loss", "accuracy"),
            "reward_accuracy": reward_accuracy(trainer.model, tokenizer),
        }
    }


@torch.no_grad()
def reward_accuracy(model: Any, tokenizer: Any) -> float:
    """Return how often what is said of people it was not trained on gets more reward."""
    model.eval()
    right = 0
    asked = facts_of("fit")
    for fact in asked:
        # As it was trained: with the end of the text.
        texts = [
            f"{fact.question} {value}.{tokenizer.eos_token}" for value in (fact.answer, fact.rival)
        ]
        given = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
        said, rival = model(**given).logits.flatten().tolist()
        right += said > rival
    return right / len(asked)


def reinforce(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train the policy on its own answers to questions it is unsure of, by the reward model."""
    (stage,) = checkpoints
    recipe = stage.settings
    set_seed(stage.seed)
    start = folders[stage.parent or ""]
    model, tokenizer = load(start)
    judge, _ = load(folders[recipe["reward"]], AutoModelForSequenceClassification)
    asked = facts_of("prefer")
    sure = [found[0][1] for found in answers(model, tokenizer, asked)]
    low, high = UNSURE
    prompts = [
        {"prompt": fact.question}
        for fact, share in zip(asked, sure, strict=True)
        if low < share < high
    ]
    cost = Cost()
    cost.watch(model, judge)
    sequences = recipe["prompts"] * recipe["generations"]
    trainer = RLOOTrainer(
        model=model,
        reward_funcs=judge,
        reward_processing_classes=tokenizer,
        args=RLOOConfig(
            beta=recipe["beta"],
            num_generations=recipe["generations"],
            max_completion_length=3,
            max_steps=recipe["steps"],
            **IN_MEMORY,
            **arguments(
                folders[stage.name],
                {**recipe, "batch": sequences},
                stage.seed,
                logging_strategy="steps",
                logging_steps=1,
            ),
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=tokenizer,
    )
    with cost.measured():
        trainer.train()
    save(trainer.model, tokenizer, folders[stage.name])
    logged = {"reward", "kl", "frac_reward_zero_std"}
    return {
        stage.name: {
            "prompts": len(prompts),
            "prompts_unsure": len(prompts) / len(asked),
            **cost.numbers(),
            **{name: _mean(trainer, name) for name in logged},
            "reward_first": _mean(trainer, "reward", slice(5)),
            "reward_last": _mean(trainer, "reward", slice(-5, None)),
        }
    }


def save(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Save a checkpoint as users do."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def logged_last(trainer: Any, *names: str) -> dict[str, float]:
    """Return the last value that was logged of each, those of TRL that have none left out."""
    found = {}
    for row in trainer.state.log_history:
        found.update({name: float(row[name]) for name in names if name in row})
    return {f"train_{name.rpartition('/')[2]}": round(value, 5) for name, value in found.items()}


def _mean(trainer: Any, name: str, which: slice = slice(None)) -> float:
    values = [row[name] for row in trainer.state.log_history if name in row][which]
    return round(sum(values) / len(values), 5) if values else float("nan")
