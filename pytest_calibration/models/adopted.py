"""What a project brings as its model: taken as it is, or made into one where that is plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.fitness import is_known, unfit
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.models.text_classifier import TextClassifier
from pytest_calibration.text.visible import quoted

# What a probe may ask of a model.
OFFERS: Final = (
    *("name", "fingerprint", "description", "option_logprobs", "next_token", "generate"),
    *("loglikelihood", "class_probabilities", "class_logits", "truncated"),
    *("token_class_probabilities", "rewards"),
)
CLASSIFYING: Final = "text-classification"
"""The task of a pipeline whose settings are those of its tokenizer."""
_READING: Final = frozenset({"add_special_tokens", "split_special_tokens", "is_split_into_words"})
OFFER: Final = (
    "a model offers `name`, `fingerprint`, and `option_logprobs`, `next_token` and `generate` (or, "
    "as a classifier, `class_probabilities`); or give a directory or hub id, the pair (model, "
    "tokenizer) of transformers, or a function from texts to class probabilities"
)


def adopted(value: Any, settings: Callable[[], Mapping[str, Any]], cache: Cache | None) -> Any:
    """Return the model that a value stands for; the value itself where it is nothing else.

    Args:
        value: a directory or hub id, a pair (model, tokenizer) or a pipeline of transformers, a
            function from texts to class probabilities or an estimator with ``predict_proba``, or
            anything else, which is left to the probe.
        settings: returns how a model is loaded.
        cache: where the answers of a model that is loaded are kept.

    Raises:
        UsageError: the text names no model, or one of a project's own is to be served at a
            temperature.
        ModelError: it is neither a causal language model nor a classifier.
    """
    if isinstance(value, str | PathLike):
        return load_model(str(value), settings(), cache=cache)
    if isinstance(value, LazyModel):
        return value
    if settings().get("replicas") is not None:
        raise UsageError(
            f"calibration_model is {_shown(value)} in the memory of this process, which cannot be "
            "sent to replicas; return a directory or hub id as text, name a function by "
            "--calibration-model=module:name, or leave --calibration-replicas out."
        )
    pair = value
    if _is_of(value, "transformers.pipelines", "Pipeline"):
        _check_pipeline(value)
        pair = value.model, value.tokenizer
    temperature = settings().get("temperature", 1)
    two = isinstance(pair, tuple | list) and len(pair) == 2
    if not two or not _is_of(pair[0], "torch", "Module") or not callable(pair[1]):
        if temperature != 1:
            raise UsageError(
                f"model: {{temperature: {temperature:g}}} of calibration.yaml divides the logits "
                "of a checkpoint, which a calibration_model of your own keeps to itself; divide "
                "them there, and leave the key out."
            )
        return value if two else _classifier(value)
    model, tokenizer = pair
    from pytest_calibration.models.backends.transformers.choosing import in_memory

    name = Path(str(getattr(model, "name_or_path", ""))).name or "model"
    made = in_memory(model, tokenizer, name=name, temperature=temperature)
    if pair is not value and value.task == CLASSIFYING:
        made.max_tokens = min(made.max_tokens, _most_tokens(value))
    return made


def _most_tokens(pipeline: Any) -> float:
    """Return how many tokens of a text a pipeline reads by its own settings.

    Raises:
        UsageError: it reads texts otherwise than its tokenizer says.
    """
    given = pipeline._preprocess_params
    for setting in _READING & given.keys():
        raise UsageError(
            f"calibration_model is a pipeline with {setting}={quoted(given[setting])}, and texts "
            f"are read as its tokenizer says; leave {setting} out, or set it on the tokenizer."
        )
    cut = given.get("truncation") and given.get("max_length")
    return cut if isinstance(cut, int) else math.inf


def _check_pipeline(pipeline: Any) -> None:
    """Refuse a pipeline that gives other probabilities than its model says by itself."""
    chosen = getattr(pipeline, "_postprocess_params", {}).get("function_to_apply")
    if chosen is not None:
        raise UsageError(
            f"calibration_model is a pipeline with function_to_apply={quoted(chosen)}, and its "
            "model is asked as its configuration says; leave function_to_apply out, and set "
            "problem_type in the configuration (single_label_classification is the softmax, "
            "multi_label_classification the sigmoid)."
        )


def _classifier(value: Any) -> Any:
    """Return a function, or an estimator, as a classifier; anything else as it is."""
    predict = getattr(value, "predict_proba", value)
    foreign = any(_is_of(value, package) for package in ("torch", "transformers"))
    # A function may say what its classes are.
    known = any(hasattr(value, offer) for offer in OFFERS if offer != "class_names")
    if isinstance(value, type) or foreign or known or not callable(predict):
        return value
    return TextClassifier(predict)


def check_offers(model: object, name: str) -> None:
    """Refuse what cannot be asked at all by a probe of this package: it has no name.

    Raises:
        UsageError: with what a model offers.
    """
    if isinstance(model, type) or not hasattr(model, "name"):
        raise lacking(model, name, "name")


def lacking(model: object, probe: str, attribute: str) -> CalibrationError:
    """Return the error of a probe that asks a model for what it has not."""
    if _is_of(model, "pytest_calibration.models.backends") and is_known(attribute):
        return unfit(model, attribute)
    return UsageError(
        f"probe {probe!r} asks calibration_model for `{attribute}`, which {_shown(model)} does not "
        f"have: {OFFER}."
    )


def _is_of(value: object, package: str, name: str = "") -> bool:
    """Whether a value is of a class of a package, or of one derived from it, without its import."""
    named = [one for one in type(value).__mro__ if name in ("", one.__name__)]
    return any(f"{one.__module__}.".startswith(f"{package}.") for one in named)


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    if isinstance(value, TextClassifier):
        return f"a function of texts ({value.name})"
    name = getattr(value, "__name__", "")
    shown = f"an object of type {type(value).__name__}"
    return f"{shown} ({name})" if isinstance(name, str) and name else shown
