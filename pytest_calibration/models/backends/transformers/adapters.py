"""Adapters that changed the vocabulary of their base, or that lie on another adapter."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.checkpoint_files import read_json
from pytest_calibration.models.backends.transformers.layers import ADAPTER, Layer

_PREFIX: Final = "base_model.model."
# A part of an adapter proper.
_PART: Final = re.compile(r"lora_|prompt_embeddings|hada_|lokr_|ia3_|oft_|boft_|vera_")
_HEAD: Final = re.compile(r"^(score|classifier|classification_head|logits_proj)\b.*weight$")


def enlarged(model: Any, file: Path, tokens: Callable[[], int], notes: list[str]) -> Any:
    """Give a base as many tokens as an adapter was trained with.

    Args:
        model: the base.
        file: the weights of the adapter; its configuration lies beside it.
        tokens: gives the number of tokens of its own tokenizer; 0 where it has none.
        notes: a sentence is added where the base is changed.
    """
    embeddings = model.get_input_embeddings()
    before = getattr(embeddings, "num_embeddings", None)
    if before is None:
        return model
    rows, held = _rows(model, file)
    size = rows or max(before, _highest_trained(file.parent / ADAPTER), tokens())
    if size == before:
        return model
    model.resize_token_embeddings(size, mean_resizing=False)
    rest = ""
    if size > before and not held:
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            _fill_with_mean(layer, before)
        rest = "; the adapter does not hold all their embeddings, which are the mean of the others"
    notes.append(
        f"its adapter was trained with {size:,} tokens, so the embeddings of its base were resized "
        f"from {before:,}{rest}"
    )
    return model


def head_of(files: Sequence[Path]) -> tuple[set[str], int]:
    """Return what adapters bring that is no adapter: the head of a classifier, as a rule.

    Returns:
        The names of the tensors, as the model has them; the number of classes of the head, 0 where
        there is none. The last layer of a head has the fewest outputs.
    """
    whole: dict[str, list[int]] = {}
    for file in files:
        for key, shape in _shapes(file).items():
            if not _PART.search(key):
                whole[key.removeprefix(_PREFIX)] = shape
    heads = [s[0] for name, s in whole.items() if _HEAD.search(name) and len(s) == 2]
    return set(whole), min(heads, default=0)


def _fill_with_mean(layer: Any, first: int) -> None:
    """Make new embeddings the mean of the others: the library would draw random numbers."""
    weight = getattr(layer, "weight", None)
    if weight is None or len(weight) <= first:
        return
    with torch.no_grad():
        weight[first:] = weight[:first].float().mean(0).to(weight.dtype)
        bias = getattr(layer, "bias", None)
        if bias is not None:
            bias[first:] = bias[:first].float().mean().to(bias.dtype)


def _rows(model: Any, file: Path) -> tuple[int, bool]:
    """Return the number of tokens that an adapter's weights are for, and if it holds them whole.

    Returns:
        0 where it holds none that say so.
    """
    layers = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in layers]
    rows, whole = 0, set()
    for key, shape in _shapes(file).items():
        name = next((n for n in names if key.removeprefix(_PREFIX).startswith(f"{n}.")), None)
        if name is None:
            continue
        if "lora_embedding_A" in key:
            rows = max(rows, shape[1])
        elif "lora_B" in key or ("lora" not in key and key.endswith(".weight")):
            rows = max(rows, shape[0])
            if "lora" not in key:
                whole.add(name)
    tied = model.config.get_text_config().tie_word_embeddings
    return rows, len(whole) >= (1 if tied else len(names))


def _shapes(file: Path) -> dict[str, list[int]]:
    if file.suffix == ".bin":
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        return {key: list(tensor.shape) for key, tensor in tensors.items()}
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118


def _highest_trained(config: Path) -> int:
    """Return one more than the highest token that an adapter trains alone."""
    chosen = read_json(config).get("trainable_token_indices") or []
    lists = chosen.values() if isinstance(chosen, dict) else [chosen]
    return 1 + max((i for one in lists for i in one if isinstance(i, int)), default=-1)


def merged(model: Any, adapter: Layer, top: Layer, notes: list[str]) -> Any:
    """Merge an adapter that another one lies on into its base.

    Raises:
        ModelError: an adapter of this kind cannot be merged.
    """
    try:
        out = model.merge_and_unload()
    except Exception as problem:
        kind = getattr(model.active_peft_config, "peft_type", "")
        raise ModelError(
            f"adapter {top.text!r} lies on the adapter {adapter.text!r}, of kind "
            f"{getattr(kind, 'value', kind)}, which cannot be merged into its base here; save the "
            f"two as one model (merge_and_unload, save_pretrained), and name that as the base."
        ) from problem
    notes.append(
        f"its base {adapter.text!r} is an adapter itself, and was merged into its own base"
    )
    return out
