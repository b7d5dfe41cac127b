"""What a project brings as its model: taken as it is, or made into one where that is plain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import UsageError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model

# What a probe may ask of a model.
OFFERS: Final = (
    *("name", "fingerprint", "description", "option_logprobs", "next_token", "generate"),
    *("loglikelihood", "class_probabilities"),
)
OFFER: Final = (
    "a model offers `name`, `fingerprint`, and `option_logprobs`, `next_token` and `generate` (or, "
    "as a classifier, `class_probabilities`); or give a directory or hub id, or the pair (model, "
    "tokenizer) of transformers"
)


def adopted(value: Any, settings: Callable[[], Mapping[str, Any]], cache: Cache | None) -> Any:
    """Return the model that a value stands for; the value itself where it is nothing else.

    Args:
        value: a directory or hub id, a pair (model, tokenizer) or a pipeline of transformers, or
            anything else, which is left to the probe.
        settings: returns how a model is loaded.
        cache: where the answers of a model that is loaded are kept.

    Raises:
        UsageError: the text names no model.
        ModelError: it is no causal language model.
    """
    if isinstance(value, str | PathLike):
        return load_model(str(value), settings(), cache=cache)
    pair = value
    if _is_of(value, "transformers.pipelines", "Pipeline"):
        pair = value.model, value.tokenizer
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return value
    model, tokenizer = pair
    if not _is_of(model, "torch", "Module") or not callable(tokenizer):
        return value
    from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel

    name = Path(str(getattr(model, "name_or_path", ""))).name or "model"
    return TransformersModel.of(model, tokenizer, name=name)


def check_offers(model: object, name: str) -> None:
    """Refuse what cannot be asked at all by a probe of this package: it has no name.

    Raises:
        UsageError: with what a model offers.
    """
    if isinstance(model, type) or not hasattr(model, "name"):
        raise lacking(model, name, "name")


def lacking(model: object, probe: str, attribute: str) -> UsageError:
    """Return the error of a probe that asks a model for what it has not."""
    return UsageError(
        f"probe {probe!r} asks calibration_model for `{attribute}`, which {_shown(model)} does not "
        f"have: {OFFER}."
    )


def _is_of(value: object, package: str, name: str) -> bool:
    """Whether a value is of a class of a package, or of one derived from it, without its import."""
    return any(c.__name__ == name and c.__module__.startswith(package) for c in type(value).__mro__)


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    name = getattr(value, "__name__", "")
    shown = f"an object of type {type(value).__name__}"
    return f"{shown} ({name})" if isinstance(name, str) and name else shown
