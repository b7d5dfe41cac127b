"""From a checkpoint on disk to weights in memory, with an error for all that can go wrong."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec, require
from pytest_calibration.models.backends.transformers.foreign_code import (
    check_kernels,
    kernel_arguments,
    pickles_refused,
)
from pytest_calibration.models.backends.transformers.identity import adapter_base, refuse_pointers
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.used_weights import (
    check_adapter_used,
    check_shapes,
    check_used,
    loading_explained,
    mismatched_shapes,
)
from pytest_calibration.models.backends.transformers.weight_files import (
    check_adapter_files,
    check_weight_files,
    stored_tensors,
)

TOKENIZER_FILES: Final = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("merges.txt", "spiece.model", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "sentencepiece.bpe.model"),
)
_CAUSAL: Final = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, logs and warnings of libraries out of a test report, but no errors."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def device_of(name: str) -> torch.device:
    """Return the device that a setting names.

    Raises:
        ModelError: it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    count = {
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
        "cpu": lambda: 1,
    }[kind]()
    if int(index or 0) >= count:
        raise ModelError(f"device {name!r} is not available here; use cpu or auto.")
    return torch.device(name)


def load_weights(
    spec: ModelSpec, settings: TransformersSettings, device: torch.device, notes: list[str]
) -> Any:
    """Return the model of a checkpoint, or of an adapter with its base.

    Args:
        spec: the checkpoint.
        settings: how it is loaded.
        device: where to.
        notes: sentences on weights that are not used are added to it.

    Raises:
        ModelError: it cannot be loaded whole, or is no causal language model.
        MissingExtra: it is an adapter, and peft is not installed.
    """
    base = adapter_base(spec)
    if base is None:
        return _load_whole(spec, settings, device, notes)
    require("peft", "peft")
    import peft

    if not (Path(spec.location) / "adapter_model.safetensors").is_file():
        if settings.safetensors_only:
            _refuse_pickles(spec)
        if not (Path(spec.location) / "adapter_model.bin").is_file():
            raise ModelError(
                f"{spec.location!r} holds adapter_config.json and no adapter_model.safetensors; "
                "save the adapter again with save_pretrained."
            )
    notes += check_adapter_files(spec)
    model = _load_whole(base, settings, device, notes)
    with warnings.catch_warnings(record=True) as caught, pickles_refused(spec, settings):
        warnings.simplefilter("always")
        model = _explained(
            spec, lambda: peft.PeftModel.from_pretrained(model, spec.location, is_trainable=False)
        )
    for warning in caught:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(
                f"{spec.name}: the adapter in {spec.location!r} does not hold all the weights its "
                "configuration names; save it again with save_pretrained."
            )
    with pickles_refused(spec, settings):
        check_adapter_used(spec, model)
    return _placed(spec, model, settings, device)


def _placed(
    spec: ModelSpec, model: Any, settings: TransformersSettings, device: torch.device
) -> Any:
    """Move a model to its device, unless its arguments have placed it already."""
    if {"device_map", "quantization_config"} & set(settings.arguments):
        return model
    return _explained(spec, lambda: model.to(device))


def _load_whole(
    spec: ModelSpec, settings: TransformersSettings, device: torch.device, notes: list[str]
) -> Any:
    if spec.local and not (Path(spec.location) / "config.json").is_file():
        raise ModelError(
            f"{spec.location!r} holds no config.json and no adapter_config.json, so it is no "
            "checkpoint; pass the directory that save_pretrained wrote."
        )
    common = {"revision": spec.revision, "trust_remote_code": settings.trust_remote_code}
    arguments: dict[str, Any] = {
        "dtype": settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
        **({"use_safetensors": True} if settings.safetensors_only else {}),
        **settings.arguments,
        # Told by name below: the library points to a log that is switched off.
        "ignore_mismatched_sizes": True,
    }
    notes += check_weight_files(spec, settings)
    config = _explained(
        spec,
        lambda: transformers.AutoConfig.from_pretrained(
            spec.location, **common, **kernel_arguments(settings)
        ),
    )
    kinds = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False):
        kinds = kinds or [type(config).__name__]
        raise ModelError(
            f"{spec.name}: is a {kinds[0]}, an encoder with a decoder and no causal language "
            "model; it predicts no next tokens of a text."
        )
    if kinds and not any(_CAUSAL.search(kind) for kind in kinds):
        raise ModelError(
            f"{spec.name}: is a {kinds[0]}, no causal language model; it predicts no next tokens."
        )
    check_kernels(spec, config, settings)
    stored = stored_tensors(spec, settings)
    with pickles_refused(spec, settings), loading_explained(spec, config, stored):
        model, report = _explained(
            spec,
            lambda: transformers.AutoModelForCausalLM.from_pretrained(
                spec.location, output_loading_info=True, **common, **arguments
            ),
        )
    notes += check_used(spec, model, report, stored)
    return _placed(spec, model, settings, device)


def load_tokenizer(spec: ModelSpec, settings: TransformersSettings) -> Any:
    """Return the tokenizer of a checkpoint, or the one that the settings name.

    Raises:
        ModelError: there is none.
    """
    source = spec
    if settings.tokenizer is not None:
        local = os.path.isdir(settings.tokenizer)
        source = ModelSpec(settings.tokenizer, local=local, name=spec.name)
    elif spec.local and not any(
        (Path(spec.location) / file).is_file()
        for file in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    ):
        base = adapter_base(spec)
        if base is None:
            raise ModelError(
                f"{spec.location!r} holds no tokenizer; save one beside the model, or name one: "
                "model: {tokenizer: ...} in calibration.yaml."
            )
        source = base
    # A vocabulary of lines would be read as the words of the pointer.
    refuse_pointers(source, TOKENIZER_FILES)
    return _explained(
        source,
        lambda: transformers.AutoTokenizer.from_pretrained(
            source.location,
            revision=source.revision,
            trust_remote_code=settings.trust_remote_code,
            **settings.tokenizer_arguments,
        ),
    )


def _explained(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """Run a loading step; raise what goes wrong as ModelError, in one sentence."""
    try:
        return load()
    except ModelError:
        raise
    except Exception as problem:
        # The libraries may raise anything: for a truncated file, a configuration of a wrong type, …
        first = " ".join(str(problem).split())
        check_shapes(spec, mismatched_shapes(first))
        if isinstance(problem, KeyError):
            first = f"the key {first} is missing"
        refuse_pointers(spec)
        if "safetensors" in first and "use_safetensors" not in first and spec.local:
            _refuse_pickles(spec, problem)
        if "trust_remote_code" in first and isinstance(problem, ValueError):
            raise ModelError(
                f"{spec.name}: needs Python code that comes with the checkpoint, which is run only "
                "where calibration.yaml says model: {trust_remote_code: true}."
            ) from problem
        where, aside = ("directory", "") if spec.local else ("hub id", " (no such directory here)")
        raise ModelError(
            f"cannot load {where} {spec.text!r}{aside}: {first[:300].rstrip('.')}."
        ) from problem


def _refuse_pickles(spec: ModelSpec, problem: Exception | None = None) -> None:
    """Raise ModelError if the weights are pickled."""
    folder = Path(spec.location)
    pickled = sorted(
        p.name for stem in ("pytorch_model", "adapter_model") for p in folder.glob(f"{stem}*.bin")
    )
    if pickled:
        raise ModelError(
            f"{spec.name}: holds {pickled[0]} and no safetensors; pickled weights can run code, so "
            "they are read only where calibration.yaml says model: {safetensors_only: false}."
        ) from problem
