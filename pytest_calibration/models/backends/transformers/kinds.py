"""Whether a configuration is that of a causal language model."""

from __future__ import annotations

import re
from typing import Any, Final

import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec

_CAUSAL: Final = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
# A head for another task; what only begins with the name of a causal one is not.
_OTHER_HEAD: Final = re.compile(r"For(?!CausalLM|ConditionalGeneration)[A-Z]\w*$")


def check_kind(spec: ModelSpec, config: Any) -> list[str]:
    """Refuse a checkpoint that another kind of model was saved to.

    Its weights might fit a causal language model, and its answers would mean nothing.

    Returns:
        A note where the class that was saved is not the one that is loaded.

    Raises:
        ModelError: it is no causal language model.
    """
    named = getattr(config, "architectures", None) or []
    saved = [name for name in ([named] if isinstance(named, str) else named) if name]
    _check_no_encoder(spec.name, (saved or [type(config).__name__])[0], config)
    causal = _causal_class(config)
    if not saved or any(name == causal or _CAUSAL.search(name) for name in saved):
        return []
    kind = saved[0]
    if not _OTHER_HEAD.search(kind):
        # The checkpoint's own code says which of its classes is the language model.
        own = getattr(config, "auto_map", None)
        if isinstance(own, dict) and "AutoModelForCausalLM" in own:
            return []
        if causal and not hasattr(transformers, kind):
            return [
                f"its configuration names the class {kind}, which transformers does not know: it "
                f"was loaded as {causal}"
            ]
    raise _no_language_model(spec.name, kind)


def check_class(name: str, model: Any) -> None:
    """Refuse a model in memory that is of another kind.

    Args:
        name: what errors call it.
        model: a model of transformers, without adapters around it.

    Raises:
        ModelError: it is no causal language model.
    """
    kind = type(model).__name__
    _check_no_encoder(name, kind, model.config)
    if _OTHER_HEAD.search(kind):
        raise _no_language_model(name, kind)


def _check_no_encoder(name: str, kind: str, config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name}: is a {kind}, an encoder with a decoder and no causal language model; it "
            "predicts no next tokens of a text."
        )


def _no_language_model(name: str, kind: str) -> ModelError:
    return ModelError(f"{name}: is a {kind}, no causal language model; it predicts no next tokens.")


def _causal_class(config: Any) -> str:
    """Return the class that is loaded for a configuration; empty where only its own code knows."""
    classes = transformers.AutoModelForCausalLM._model_mapping
    return str(classes[type(config)].__name__) if type(config) in classes else ""
