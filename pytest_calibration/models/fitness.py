"""Which kind of model a probe asks, and which it gets."""

from __future__ import annotations

from typing import Final

from pytest_calibration.errors import ModelError

CLASSIFYING: Final = ("class_probabilities", "token_class_probabilities")
"""What classifiers have."""

# Method to the kind of model that has it.
_KINDS: Final = {
    **dict.fromkeys(
        ("option_logprobs", "next_token", "generate", "sample", "loglikelihood"), "a language model"
    ),
    "token_class_probabilities": "a classifier of tokens",
    "class_probabilities": "a classifier",
    "class_logits": "a classifier",
    "rewards": "a reward model",
}
# Kind to the probes that ask it.
_PROBES: Final = {
    "a language model": "ask it with a built-in probe, or one of kind facts, multiple_choice or "
    "next_token",
    "a classifier of tokens": "write a probe for it into calibration.yaml: probes: {mine: {kind: "
    "classification, path: rows.jsonl}}, with rows of tokens and labels",
    "a classifier": "write a probe for it into calibration.yaml: probes: {mine: {kind: "
    "classification, path: rows.jsonl}}, with rows of text and label (for a reward model, kind "
    "preference)",
    "a reward model": "write a probe for it into calibration.yaml: probes: {mine: {kind: "
    "preference, path: pairs.jsonl}}",
}


def is_known(method: str) -> bool:
    """Whether a method says which kind of model has it."""
    return method in _KINDS


def kind_of_model(model: object) -> str:
    """Return what kind a model is, by its methods; empty where it has none of them."""
    return next((kind for method, kind in _KINDS.items() if hasattr(model, method)), "")


def unfit(model: object, method: str) -> ModelError:
    """Return the error of a model that a probe asks for what its kind does not have."""
    name = getattr(model, "name", "the model")
    found = kind_of_model(model)
    if not found or _KINDS.get(method, found) == found:
        return ModelError(
            f"{name}: this kind of model has no {method}, which the probe needs; choose a probe "
            "for this kind of model."
        )
    return ModelError(
        f"{name}: is {found}, and the probe asks {_KINDS[method]} ({method}); {_PROBES[found]}."
    )
