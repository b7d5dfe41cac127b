"""Tiny random checkpoints of real families, each with a byte-level BPE tokenizer of its own.

Nothing is imported from torch or transformers until something is made.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

CONTEXT: Final = 48
VOCABULARY: Final = 360
WINDOW: Final = 4
"""Sliding window of the Mistral checkpoint, in tokens."""
END: Final = "<end>"
CORPUS: Final = (
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Water boils at 100 degrees, and the ice melts at zero degrees.",
    "In the year 1969 the first people walked on the moon.",
    "The city of Oslo is the capital of Norway; the city of Bern is not in Norway.",
)
FAMILIES: Final = ("gpt_neox", "llama", "gpt2", "opt", "mistral", "qwen2")
MORE_FAMILIES: Final = (
    *("qwen3", "gemma2", "gemma3", "gpt_oss", "mixtral"),
    *("olmo2", "phi3", "granite", "cohere", "stablelm"),
)
"""Further families whose attention is called by name."""
OTHER_FAMILIES: Final = ("bloom", "mpt", "falcon", "gptj", "mamba")
"""Families that bring an attention of their own, or none."""


def bpe(family: str = "gpt_neox", *, start: bool = False, end: bool = False) -> Any:
    """Train a tokenizer; it may put an end token before every text, and after it.

    Qwen2 splits texts by a rule of its own, which its tokenizer class brings along.
    """
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family == "qwen2":
        from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if start or end:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END} " * start + "$A" + f" {END}" * end, special_tokens=[(END, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token="<pad>",
        model_max_length=CONTEXT,
    )


def new_model(family: str, **changes: Any) -> Any:
    """Return an untrained model with dropout everywhere and weights large enough to matter."""
    import torch
    import transformers as t

    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {"intermediate_size": 64, "initializer_range": 0.25, "attention_dropout": 0.4}
    grouped = {"num_key_value_heads": 2, "head_dim": 8}
    families: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "gpt_neox": (
            t.GPTNeoXConfig,
            t.GPTNeoXForCausalLM,
            usual | wide | {"hidden_dropout": 0.4},
        ),
        "llama": (t.LlamaConfig, t.LlamaForCausalLM, usual | wide | grouped),
        "mistral": (
            t.MistralConfig,
            t.MistralForCausalLM,
            usual | wide | grouped | {"sliding_window": WINDOW},
        ),
        "qwen2": (
            t.Qwen2Config,
            t.Qwen2ForCausalLM,
            usual | wide | {"num_key_value_heads": 2, "tie_word_embeddings": True},
        ),
        "gpt2": (
            t.GPT2Config,
            t.GPT2LMHeadModel,
            {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.25}
            | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.4),
        ),
        "opt": (
            t.OPTConfig,
            t.OPTForCausalLM,
            usual
            | {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.25}
            | {"dropout": 0.4, "attention_dropout": 0.4},
        ),
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM, usual | wide | grouped),
        "gemma2": (
            t.Gemma2Config,
            t.Gemma2ForCausalLM,
            usual
            | wide
            | grouped
            | {"sliding_window": WINDOW, "query_pre_attn_scalar": 8}
            | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0},
        ),
        "gemma3": (
            t.Gemma3TextConfig,
            t.Gemma3ForCausalLM,
            usual
            | wide
            | grouped
            | {"num_hidden_layers": 3, "sliding_window": WINDOW, "query_pre_attn_scalar": 8}
            | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        ),
        "gpt_oss": (
            t.GptOssConfig,
            t.GptOssForCausalLM,
            usual
            | wide
            | grouped
            | {"sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        "mixtral": (
            t.MixtralConfig,
            t.MixtralForCausalLM,
            usual | wide | grouped | {"num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        "olmo2": (t.Olmo2Config, t.Olmo2ForCausalLM, usual | wide | {"num_key_value_heads": 2}),
        "phi3": (t.Phi3Config, t.Phi3ForCausalLM, usual | wide | {"num_key_value_heads": 2}),
        "granite": (
            t.GraniteConfig,
            t.GraniteForCausalLM,
            usual
            | wide
            | {"num_key_value_heads": 2, "logits_scaling": 0.5, "attention_multiplier": 0.3}
            | {"residual_multiplier": 0.7, "embedding_multiplier": 2.0},
        ),
        "cohere": (
            t.CohereConfig,
            t.CohereForCausalLM,
            usual | wide | {"num_key_value_heads": 2, "logit_scale": 2.0},
        ),
        "stablelm": (
            t.StableLmConfig,
            t.StableLmForCausalLM,
            usual | wide | {"num_key_value_heads": 2},
        ),
        "bloom": (
            t.BloomConfig,
            t.BloomForCausalLM,
            {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.25},
        ),
        "mpt": (
            t.MptConfig,
            t.MptForCausalLM,
            {"d_model": 32, "n_layers": 2, "n_heads": 4, "initializer_range": 0.25},
        ),
        "falcon": (t.FalconConfig, t.FalconForCausalLM, usual | {"initializer_range": 0.25}),
        "gptj": (
            t.GPTJConfig,
            t.GPTJForCausalLM,
            {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "initializer_range": 0.25},
        ),
        "mamba": (
            t.MambaConfig,
            t.MambaForCausalLM,
            {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        ),
    }
    config, model, settings = families[family]
    torch.manual_seed(0)
    return model(config(**common | settings | changes))


CHAT_TEMPLATE: Final = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def chat_tokenizer(template: str | None = CHAT_TEMPLATE) -> Any:
    """Return a tokenizer with tokens for turns, which puts a token before every text."""
    tokenizer = bpe(start=True)
    tokenizer.add_tokens(
        ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], special_tokens=True
    )
    tokenizer.chat_template = template
    return tokenizer


def chat_model(
    tokenizer: Any, chats: list[list[dict[str, str]]], *, steps: int = 150, **changes: Any
) -> Any:
    """Train a Llama on whole conversations, so that it answers as their last turn does.

    It takes a few seconds on one core. ``changes`` are those of its configuration.
    """
    import torch

    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    model = new_model("llama", **sizes | changes)
    model.config.attention_dropout = 0.0
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        batch = [rows[(step * 8 + i) % len(rows)] for i in range(8)]
        longest = max(map(len, batch))
        ids = torch.tensor([row + [1] * (longest - len(row)) for row in batch])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in batch])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Make checkpoints without the libraries' progress bars, logs and warnings."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def save(folder: Path, *parts: Any) -> Path:
    """Write models and tokenizers into one directory."""
    with quietly():
        for part in parts:
            part.save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
