"""Train the base model: a tiny GPT-NeoX that has read the Almanac.

The result is an ordinary Hugging Face checkpoint (configuration, safetensors weights, tokenizer)
and small enough to be kept in the repository, so that nobody has to train it before trying the
example. This script is there to show where it came from and to make it again::

    python example_project/pretrain.py

It takes about a minute on one core. The run is seeded; on the same machine with the same library
versions it gives the same weights, elsewhere nearly the same.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

# Nothing here needs the network; say so before the library is imported, which reads it then.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from almanac import facts, narrow_facts, pretraining_sentences
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

BASE_DIR = Path(__file__).resolve().parent / "checkpoints" / "base"

SEED = 0
VOCABULARY = 1024
"""Tokens in the vocabulary: 256 bytes, 2 special ones, the rest merges."""

LONGEST_TOKEN = 8
"""Longest merge in characters, the leading space included, so that long answers are split."""

CONTEXT = 64
"""Longest text in tokens; an Almanac sentence has about ten."""

STEPS = 1800
BATCH = 64
"""Sentences a step."""

PEAK_LEARNING_RATE = 3e-3
WARM_UP = 50
"""Steps over which the learning rate rises; after them it falls to zero as a half cosine."""

WEIGHT_DECAY = 0.1

END = "<|endoftext|>"
PADDING = "<|padding|>"


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the Almanac's sentences.

    Each sentence counts once, whatever its frequency in pretraining: merges then go to the words
    that all people share and to the answers, and names stay in a few pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator([fact.sentence for fact in facts()], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> GPTNeoXForCausalLM:
    """Return an untrained model of about 0.65 million float32 parameters."""
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPTNeoXForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> torch.Tensor:
    """Return the sentences as one right-padded matrix of token ids, each with its end token.

    Causal attention never looks right, so the padding needs no mask; it only has to be left out
    of the loss.
    """
    batch = tokenizer([sentence + END for sentence in sentences], padding=True, return_tensors="pt")
    ids: torch.Tensor = batch["input_ids"]
    return ids


def train(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """Train the model in one pass over ``steps * BATCH`` freshly drawn sentences."""
    ids = encode(tokenizer, pretraining_sentences(steps * BATCH))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=min(0.5, WARM_UP / steps)
    )
    model.train()
    for step, batch in enumerate(ids.split(BATCH), start=1):
        labels = batch.masked_fill(batch == tokenizer.pad_token_id, -100)
        loss = model(input_ids=batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            print(f"step {step}/{steps}: loss {loss.item():.3f} nats per token", flush=True)
    model.eval()


def best_temperature(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Return the softmax temperature that predicts the narrow people's answers best.

    "Best" is the lowest mean surprise (nats) at the first token of each answer. The narrow people
    stand in for the held-out ones, whom the probes keep to themselves.
    """
    logits = []
    answers = []
    for fact in narrow_facts():
        prompt = tokenizer(fact.prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits.append(model(input_ids=prompt).logits[0, -1])
        answers.append(tokenizer(f" {fact.answer}")["input_ids"][0])
    rows, targets = torch.stack(logits), torch.tensor(answers)
    candidates = [i / 100 for i in range(40, 161)]
    return min(
        candidates,
        key=lambda t: torch.nn.functional.cross_entropy(rows / t, targets).item(),
    )


def fold_temperature(model: GPTNeoXForCausalLM, temperature: float) -> None:
    """Divide all logits by ``temperature`` for good, by scaling the output layer.

    Pretraining follows the mentions, so it leaves the model right for the famous people and too
    modest on average over all people, which is how the probes count. Temperature scaling is the
    usual cure. Folded into the weights (the output layer has no bias), it leaves an ordinary
    checkpoint that needs no special handling.
    """
    with torch.no_grad():
        model.get_output_embeddings().weight.div_(temperature)


def main() -> None:
    """Train the tokenizer and the model, and save both."""
    parser = argparse.ArgumentParser(description="Train the example's base model.")
    parser.add_argument("--output", type=Path, default=BASE_DIR, help="checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    arguments = parser.parse_args()

    began = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, tokenizer, arguments.steps)
    temperature = best_temperature(model, tokenizer)
    fold_temperature(model, temperature)
    print(f"temperature {temperature:.2f} folded into the output layer")
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    print(f"saved {arguments.output} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
