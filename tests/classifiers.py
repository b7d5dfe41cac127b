"""Tiny random classifiers of real families, and what transformers itself says of a text.

Nothing is imported from torch or transformers until something is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from checkpoints import CONTEXT, VOCABULARY
from numpy.typing import NDArray

NAMES: Final = ("sad", "glad", "neutral")
# Ragged: from one token to nearly the context, some of one length.
TEXTS: Final = [
    "Oslo",
    "The capital of France is Paris.",
    "In the year 1969 the first people walked on the moon. Water boils.",
    "ice melts",
    "The city of Bern is not in Norway; the city of Oslo is the capital",
    "of",
    "The capital of Italy is Rome.",
]


def new_classifier(family: str, head: str = "SequenceClassification", **changes: Any) -> Any:
    """Return an untrained classifier with dropout everywhere and weights large enough to matter."""
    import torch
    import transformers as t

    labels = changes.pop("names", NAMES)
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {"intermediate_size": 64, "initializer_range": 0.3, "max_position_embeddings": CONTEXT}
    dropout = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    families: dict[str, tuple[str, dict[str, Any]]] = {
        "bert": ("Bert", usual | wide | dropout),
        "roberta": ("Roberta", usual | wide | {"max_position_embeddings": CONTEXT + 2}),
        "deberta": ("DebertaV2", usual | wide | {"relative_attention": True}),
        "gpt_neox": ("GPTNeoX", usual | wide | {"hidden_dropout": 0.3}),
        "llama": ("Llama", usual | wide | {"num_key_value_heads": 2}),
        "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
        "distilbert": (
            "DistilBert",
            {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.3}
            | {"max_position_embeddings": CONTEXT},
        ),
        "modernbert": (
            "ModernBert",
            usual
            | wide
            | {"global_attn_every_n_layers": 2, "local_attention": 8}
            | {"cls_token_id": 0, "sep_token_id": 0},
        ),
        "qwen2": ("Qwen2", usual | wide | {"num_key_value_heads": 2}),
        "t5": (
            "T5",
            {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
            | {"decoder_start_token_id": 1},
        ),
        "bart": (
            "Bart",
            {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "init_std": 0.3}
            | {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
            | {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": CONTEXT}
            | {"decoder_start_token_id": 0, "forced_eos_token_id": 0},
        ),
    }
    stem, settings = families[family]
    torch.manual_seed(0)
    config = getattr(t, f"{stem}Config")(**common | settings | changes)
    return getattr(t, f"{stem}For{head}")(config)


def direct_logits(
    model: Any, tokenizer: Any, texts: Sequence[Any], **options: Any
) -> NDArray[np.float64]:
    """Return the logits of one forward pass of transformers per text or pair."""
    import torch

    model.eval()
    out = []
    for text in texts:
        parts = [text] if isinstance(text, str) else list(text)
        inputs = tokenizer(*parts, return_tensors="pt", **options)
        inputs.pop("token_type_ids" if "bert" not in model.config.model_type else "", None)
        with torch.no_grad():
            out.append(model(**inputs).logits[0].double().numpy())
    return np.array(out)
