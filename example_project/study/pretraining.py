"""Pretraining of the study: GPT-NeoX models of several sizes, on the same texts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from cost import Cost
from stages import Stage
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
from world import pretraining_texts, words

CONTEXT = 64
END, PADDING, UNKNOWN = "<|endoftext|>", "<|padding|>", "<|unknown|>"
TOGETHER = 25
"""Batches that are drawn at once, and made of texts of like length: little of them is padding."""


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of whole words, so that every answer is one token.

    Words are split as by GPT-2, the space before a word a part of it.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.WordLevelTrainer(special_tokens=[END, PADDING, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(words(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
    )


def batches(steps: int, size: int) -> Iterator[list[str]]:
    """Return a batch of texts for each step."""
    texts, shuffle = pretraining_texts(-(-steps // TOGETHER) * TOGETHER * size), random.Random(0)
    while drawn := list(islice(texts, TOGETHER * size)):
        drawn.sort(key=lambda text: len(text.split()))
        found = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        shuffle.shuffle(found)
        yield from ([text + END for text in one] for one in found)


def pretrain(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train one model in one pass over its texts, and save the checkpoints on the way."""
    recipe, seed = checkpoints[0].recipe, checkpoints[0].seed
    torch.manual_seed(seed)
    tokenizer = train_tokenizer()
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe["hidden"],
            num_hidden_layers=recipe["layers"],
            num_attention_heads=recipe["heads"],
            intermediate_size=4 * recipe["hidden"],
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    device = recipe.get("device", "cpu")
    model.to(device)
    cost = Cost()
    cost.watch(model)
    parameters = sum(weights.numel() for weights in model.parameters())
    at = {stage.settings["step"]: stage for stage in checkpoints}
    steps, batch, rate = recipe["steps"], recipe["batch"], recipe["rate"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=min(0.5, 50 / steps)
    )
    rows = batches(steps, batch)
    found = {}
    model.train()
    for step in range(1, steps + 1):
        with cost.measured():
            ids = tokenizer(next(rows), padding=True, return_tensors="pt")["input_ids"].to(device)
            # Causal attention never looks right: padding needs no mask, but counts for no loss.
            labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step in at:
            model.save_pretrained(folders[at[step].name])
            tokenizer.save_pretrained(folders[at[step].name])
            found[at[step].name] = {
                "parameters": parameters,
                "loss": round(loss.item(), 4),
                **cost.numbers(),
            }
    return found
