"""Weights that a checkpoint holds and its model does not use: an error, or a note with names.

What a library drops in silence decides here by its kind. A tensor that the computation lacks, such
as the scale of a quantised weight or a layer beyond the configuration, is an error: the numbers
would be those of another model. A part that stands beside it, such as a vision tower, is noted.
What no computation reads, such as a table of positions or a head that only training needs, is
neither.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.kinds import loader
from pytest_calibration.models.backends.transformers.weight_files import StoredTensor

_ADAPTER: Final = re.compile(
    r"(^|\.)(lora_\w+|base_layer|hada_\w+|lokr_\w+|ia3_\w+|oft_\w+|boft_\w+|vera_\w+|"
    r"prompt_encoder|prefix_encoder|adaption_\w+|modules_to_save|original_module|base_model\.model)(\.|$)"
)
_QUANTISED: Final = re.compile(
    r"([._](scales?(_\w+)?|\w+_scales?(_inv)?|zeros|zero_points?|\w+_zero_points?|qweight|qzeros|"
    r"g_idx|perm|absmax|nested_absmax|quant_map|nested_quant_map|quant_state|SCB|weight_format|"
    r"weight_packed|weight_shape|codebooks?|W_q|\w+_quantizer)$)|[._](quant_state|\w+_quantizer)\.",
)
# Of a cache that is quantised while a server generates; nothing here quantises one.
_CACHE_SCALE: Final = re.compile(
    r"([._](k|v|q|kv|prob|prob_output)_scale|\b[kv]_proj\.(output|[kv])_scale)$"
)
# Tables that a model computes anew, masks, and counters.
_RECOMPUTED: Final = re.compile(
    r"(^|\.)((original_)?inv_freq|(cos|sin)(_cached)?|freqs(_cis)?|position_ids|token_type_ids|"
    r"relative_position_index|(causal_|attention_|attn_)?mask|masked_bias|alibi|slopes|"
    r"embed_positions\.weights|_extra_state|num_batches_tracked|_float_tensor|total_ops|total_params)$"
)
_MASK: Final = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention)\.bias$")
# Heads of training, and of several tokens at once: no next token depends on them.
_OTHER_HEAD: Final = re.compile(
    r"(^|\.)(v_heads?|value_(head|model)\w*|critic\w*|scores?|reward\w*|rm_head|rank\w*_head|classifier|"
    r"qa_outputs|cls|pooler|mtp\w*|nextn\w*|medusa\w*|eagle\w*|draft\w*)(\.|$)"
)
# Heads that predict tokens: no class depends on them.
_TOKEN_HEAD: Final = re.compile(
    r"^(lm_head|embed_out|cls|predictions|vocab_\w+|generator_\w+|\w*lm_predictions|mask_predictions)"
    r"(\.|$)"
)
# What peft saves a second time, where tokens were added or the head is tied to the embeddings.
_SAVED_TWICE: Final = re.compile(r"\.(modules_to_save|token_adapter)\.")
_TOWER: Final = re.compile(
    r"(^|\.)\w*(visual|vision|image|audio|speech|video|multi_?modal|projector|connector)\w*\."
)
_INTEGERS: Final = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F4")
_EIGHT_BIT_FLOATS: Final = "F8"
_LONGEST_NAME: Final = 80


def check_used(
    spec: ModelSpec,
    model: Any,
    report: Mapping[str, Any],
    stored: Mapping[str, StoredTensor],
    brought: Collection[str] = (),
) -> list[str]:
    """Check that a model holds all the weights of its checkpoint, and no others.

    Args:
        spec: the checkpoint.
        model: as it was loaded.
        report: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of loading.
        stored: what the files say of their tensors; empty where that is not known.
        brought: names of the weights that an adapter brings along.

    Returns:
        Sentences on what is not used, and does not matter to the model's answers.

    Raises:
        ModelError: the model would compute other numbers than the one that was saved.
    """
    unexpected = sorted(report.get("unexpected_keys") or ())
    missing = sorted(set(report.get("missing_keys") or ()) - set(brought))
    notes = _check_quantisation(spec, model, unexpected, stored)
    unmerged = [name for name in unexpected if _ADAPTER.search(name)]
    if unmerged:
        raise ModelError(
            f"{spec.name}: the checkpoint holds {_named(unmerged)} of an adapter that is not "
            "merged and would not be applied; merge it with merge_and_unload(), or save the "
            "adapter alone with save_pretrained."
        )
    check_shapes(spec, report.get("mismatched_keys") or ())
    if missing:
        other = f", and holds {_named(unexpected)} of no use to it" if unexpected else ""
        raise ModelError(
            f"{spec.name}: the checkpoint lacks {len(missing)} weights (first: "
            f"{_cut(missing[0])}), which would be random numbers{other}; save the whole model with "
            "save_pretrained."
        )
    unused = [name for name in unexpected if not _harmless(name, model, stored)]
    quantised = getattr(model, "hf_quantizer", None) is not None
    # A method that is known has applied the scales that it knows.
    noted = _QUANTISED if quantised else _CACHE_SCALE
    _check_places(spec, model, [name for name in unused if not noted.search(name)])
    return notes + ([f"not used: {_named(unused)} of the checkpoint"] if unused else [])


def check_adapter_used(spec: ModelSpec, model: Any) -> None:
    """Check that a model uses all the tensors of an adapter's file.

    Raises:
        ModelError: it does not, since the adapter's configuration does not name them.
    """
    import peft

    # Asked a second time: the library reports what a file lacks, and drops what it has beside it.
    weights = peft.load_peft_weights(spec.location, device="cpu")
    unexpected = peft.set_peft_model_state_dict(model, weights).unexpected_keys
    used = [weight for name, weight in weights.items() if name not in unexpected]
    unused = sorted(
        name
        for name in unexpected
        # What the virtual tokens are saved as; they are loaded by another way.
        if name != "prompt_embeddings"
        and not (_RECOMPUTED.search(name) or _OTHER_HEAD.search(name))
        and not (_SAVED_TWICE.search(name) and _is_copy(weights.get(name), used))
    )
    if unused:
        raise ModelError(
            f"{spec.name}: the adapter holds {_named(unused)} that its adapter_config.json does "
            "not name (target_modules, modules_to_save, use_dora and the like), so it would be "
            "applied in part; put the adapter_config.json of these weights beside them, or save "
            "the adapter again with save_pretrained."
        )


def _is_copy(weight: torch.Tensor | None, others: Sequence[torch.Tensor]) -> bool:
    """Whether a tensor equals another."""
    return weight is not None and any(
        other.shape == weight.shape and other.dtype == weight.dtype and torch.equal(weight, other)
        for other in others
    )


def check_shapes(spec: ModelSpec, mismatched: Sequence[tuple[str, Any, Any]]) -> None:
    """Check tensors whose shape in the file (second) is not the model's (third).

    Raises:
        ModelError: there are any; it names the first with both shapes.
    """
    if not mismatched:
        return
    name, there, here = min(mismatched, key=lambda one: one[0])
    remedy = "put the config.json of these weights beside them"
    if 0 in there:
        remedy = (
            "ZeRO-3 leaves empty tensors where a model is saved without gathering it: convert the "
            "checkpoint with zero_to_fp32.py"
        )
    raise ModelError(
        f"{spec.name}: {len(mismatched)} of the checkpoint's tensors have not the model's shape "
        f"(first: {_cut(name)}, {tuple(there)} in the file and {tuple(here)} in the model); "
        f"{remedy}."
    )


_MISMATCH: Final = re.compile(
    r"size mismatch for (\S+): copying a param with shape (?:torch\.Size)?\(?\[([\d, ]*)\]\)? from "
    r"checkpoint, the shape in current model is (?:torch\.Size)?\(?\[([\d, ]*)\]"
)


def mismatched_shapes(problem: str) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Return name, shape in the file and shape in the model from torch's own message."""
    return [(name, _shape(there), _shape(here)) for name, there, here in _MISMATCH.findall(problem)]


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n.strip())


@contextlib.contextmanager
def loading_explained(
    spec: ModelSpec, config: Any, stored: Mapping[str, StoredTensor], task: str
) -> Iterator[None]:
    """Name the tensors that make loading fail; the library points to a log that is not shown.

    Args:
        spec: the checkpoint.
        config: its configuration.
        stored: what the files say of their tensors.
        task: which kind of model it is loaded as.

    Raises:
        ModelError: a tensor of another shape, or one that could not be converted.
    """
    module: Any = transformers.modeling_utils
    original = getattr(module, "log_state_dict_report", None)
    errors: dict[str, str] = {}

    def listening(*arguments: Any, **named: Any) -> Any:
        errors.update(getattr(named.get("loading_info"), "conversion_errors", None) or {})
        return original(*arguments, **named) if original else None

    if original is not None:
        module.log_state_dict_report = listening
    try:
        yield
    except Exception as problem:
        check_shapes(spec, _unlike_the_model(config, stored, task))
        if not errors:
            raise
        name = min(errors)
        # A traceback, its last line, and what was converted.
        lines = [line for line in errors[name].splitlines() if line.strip()]
        reason = next((one for one in lines if re.match(r"\w+Error: ", one)), lines[-1])
        raise ModelError(
            f"{spec.name}: the tensors of {len(errors)} weights cannot be joined (first: "
            f"{_cut(name)}: {' '.join(reason.split())[:200].rstrip('.')}); their shapes in the "
            "file differ, as where ZeRO-3 left empty ones: save the whole model again."
        ) from problem
    finally:
        if original is not None:
            module.log_state_dict_report = original


def _unlike_the_model(
    config: Any, stored: Mapping[str, StoredTensor], task: str
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Return name, shape in the file and shape in the model of the tensors that differ."""
    if getattr(config, "quantization_config", None) is not None:
        return []
    shapes: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(Exception), torch.device("meta"):
        model = loader(task).from_config(config, trust_remote_code=False)
        shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    return [
        (name, one.shape, shapes[name])
        for name, one in stored.items()
        if name in shapes and one.shape != shapes[name]
    ]


def _check_quantisation(
    spec: ModelSpec, model: Any, unexpected: Sequence[str], stored: Mapping[str, StoredTensor]
) -> list[str]:
    """Check that quantised weights are read as such.

    Raises:
        ModelError: they are not.
    """
    applied = [n for n in stored if _QUANTISED.search(n) and n not in unexpected]
    # Weights that were dequantised as they were read leave only their scales to tell by.
    if getattr(model, "hf_quantizer", None) is not None or applied:
        return []
    config = getattr(model.config, "quantization_config", None)
    method = config.get("quant_method") if isinstance(config, dict) else None
    known = "no quantization_config" if config is None else f"quant_method {str(method)[:40]!r}"
    left = [
        name
        for name in unexpected
        if _QUANTISED.search(name) and not _CACHE_SCALE.search(name) and _is_inside(model, name)
    ]
    floats = {name for name, one in model.named_parameters() if one.is_floating_point()}
    prefix = getattr(model, "base_model_prefix", "")
    weights = {n: s for n, s in stored.items() if n in floats or f"{prefix}.{n}" in floats}
    left += sorted(n for n, s in weights.items() if s.dtype.startswith(_INTEGERS))
    if left:
        raise ModelError(
            f"{spec.name}: the checkpoint holds {_named(left)} of quantised weights, and its "
            f"config.json has {known}, so they would be read as plain numbers; name the method "
            "under model: {arguments: {quantization_config: ...}} in calibration.yaml, or save the "
            "model dequantised."
        )
    notes = []
    small = sorted(n for n, s in weights.items() if s.dtype.startswith(_EIGHT_BIT_FLOATS))
    if small:
        notes.append(
            f"{_named(small)} are stored in 8 bits without scales, and are read as they are"
        )
    if config is not None:
        notes.append(
            f"config.json has {known}, which transformers {transformers.__version__} does not "
            "know; the weights are read as they are"
        )
    return notes


def _harmless(name: str, model: Any, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether no answer depends on a tensor."""
    if _RECOMPUTED.search(name) or (_OTHER_HEAD.search(name) and not _is_inside(model, name)):
        return True
    if model.get_output_embeddings() is None and _TOKEN_HEAD.search(name):
        return True
    if _MASK.search(name):
        # A bias has one dimension.
        return name not in stored or len(stored[name].shape) != 1
    _, number, rest = _deepest(model, name)
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else {}
    layers = getattr(config, "num_hidden_layers", None)
    extra = getattr(config, "num_nextn_predict_layers", None)
    # Layers that predict further tokens are numbered on after those that compute.
    return (
        isinstance(layers, int)
        and isinstance(extra, int)
        and number in range(layers, layers + extra)
        and "." in rest
    )


def _check_places(spec: ModelSpec, model: Any, unused: Sequence[str]) -> None:
    """Check that no unused tensor belongs into the computation.

    Raises:
        ModelError: one does.
    """
    beyond: list[tuple[str, int]] = []
    inside: list[str] = []
    base = getattr(model, "base_model", model)
    for name in unused:
        module, number, rest = _deepest(model, name)
        if number is not None:
            beyond.append((name, number))
        elif module is not model and not (module is base and _TOWER.search(rest)):
            inside.append(name)
    if beyond:
        first, last = min(n for _, n in beyond), max(n for _, n in beyond)
        which = f"layer {first}" if first == last else f"layers {first} to {last}"
        raise ModelError(
            f"{spec.name}: the checkpoint holds {_named([name for name, _ in beyond])} of "
            f"{which}, and its config.json describes a model without them; "
            "put the config.json of these weights beside them."
        )
    if inside:
        raise ModelError(
            f"{spec.name}: the checkpoint holds {_named(inside)} that the model of its config.json "
            "has no place for, so it would compute other numbers than the model that was saved; "
            "put the config.json of these weights beside them, or save the model again with "
            "save_pretrained."
        )


def _is_inside(model: Any, name: str) -> bool:
    """Whether a tensor's name leads into a part of a model."""
    module, _, _ = _deepest(model, name)
    return module is not model and module is not getattr(model, "base_model", model)


def _deepest(model: Any, name: str) -> tuple[Any, int | None, str]:
    """Return how far a tensor's name leads into a model.

    Returns:
        The deepest module; the number that a list of modules lacks, if that is where it ends; the
        rest of the name.
    """
    module, parts = model, name.split(".")
    if parts[0] not in module._modules:
        # Checkpoints of the model without its head leave out the first part.
        module = getattr(model, "base_model", model)
        if parts[0] not in module._modules:
            return model, None, name
    while len(parts) > 1 and module._modules.get(parts[0]) is not None:
        module = module._modules[parts.pop(0)]
    listed = isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)
    number = int(parts[0]) if listed and parts[0].isdecimal() else None
    return module, number, ".".join(parts)


def _named(names: Sequence[str]) -> str:
    first = f"{_cut(names[0])}"
    return f"1 tensor ({first})" if len(names) == 1 else f"{len(names)} tensors (first: {first})"


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
