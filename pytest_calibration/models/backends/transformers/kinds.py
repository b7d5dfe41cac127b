"""Which kind of model a configuration is of: a causal language model, or a classifier.

Kinds have the names that adapters give them (``task_type`` of peft).
"""

from __future__ import annotations

import re
from typing import Any, Final

import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec

CAUSAL_LM: Final = "CAUSAL_LM"
SEQ_CLS: Final = "SEQ_CLS"
TOKEN_CLS: Final = "TOKEN_CLS"
LOADERS: Final = {
    CAUSAL_LM: "AutoModelForCausalLM",
    SEQ_CLS: "AutoModelForSequenceClassification",
    TOKEN_CLS: "AutoModelForTokenClassification",
}
"""Kind to the class of transformers that loads it."""

_WHAT: Final = {
    CAUSAL_LM: "no causal language model; it predicts no next tokens",
    SEQ_CLS: "no classifier of texts",
    TOKEN_CLS: "no classifier of tokens",
}
_CAUSAL: Final = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_CLASSIFIERS: Final = {
    SEQ_CLS: re.compile(r"ForSequenceClassification$"),
    TOKEN_CLS: re.compile(r"ForTokenClassification$"),
}
# A head for another task; what only begins with the name of a causal one is not.
_OTHER_HEAD: Final = re.compile(r"For(?!CausalLM|ConditionalGeneration)[A-Z]\w*$")


def loader(task: str) -> Any:
    """Return the class of transformers that loads a kind."""
    return getattr(transformers, LOADERS[task])


def kind_of(spec: ModelSpec, config: Any, adapter_task: str | None) -> tuple[str, list[str]]:
    """Tell which kind of model a checkpoint is, and refuse all that cannot be asked.

    Its weights might fit another kind, whose answers would mean nothing.

    Args:
        spec: the checkpoint.
        config: its configuration.
        adapter_task: the ``task_type`` of the adapter on it; None without one.

    Returns:
        The kind, a key of :data:`LOADERS`; and a note where the class that was saved is not the one
        that is loaded.

    Raises:
        ModelError: it is neither a causal language model nor a classifier.
    """
    # Such an adapter brings the head, and what lies below it may be any model.
    if adapter_task in _CLASSIFIERS:
        return adapter_task, []
    saved = _saved(config)
    for task, classes in _CLASSIFIERS.items():
        if saved and classes.search(saved[0]):
            if not _class_of(task, config) and LOADERS[task] not in _own_code(config):
                raise of_another_kind(spec.name, saved[0], CAUSAL_LM)
            return task, []
    return CAUSAL_LM, _check_causal(spec, config, saved)


def task_of_class(model: Any) -> str:
    """Return the kind of a model in memory, by the name of its class."""
    kind = type(model).__name__
    return next((task for task, c in _CLASSIFIERS.items() if c.search(kind)), CAUSAL_LM)


def check_class(name: str, model: Any) -> None:
    """Refuse a model in memory that is no causal language model.

    Args:
        name: what errors call it.
        model: a model of transformers, without adapters around it.

    Raises:
        ModelError: it is of another kind.
    """
    kind = type(model).__name__
    _check_no_encoder(name, kind, model.config)
    # What AutoModel loads has no head at all.
    bare = hasattr(transformers, kind) and not (_CAUSAL.search(kind) or hasattr(model, "lm_head"))
    if _OTHER_HEAD.search(kind) or (bare and kind.endswith("Model")):
        raise of_another_kind(name, kind, CAUSAL_LM)


def of_another_kind(name: str, kind: str | type, task: str) -> ModelError:
    """Return the error of a model that is not of the kind wanted."""
    shown = kind if isinstance(kind, str) else kind.__name__
    return ModelError(f"{name}: is a {shown}, {_WHAT[task]}.")


def _check_causal(spec: ModelSpec, config: Any, saved: list[str]) -> list[str]:
    _check_no_encoder(spec.name, (saved or [type(config).__name__])[0], config)
    causal = _class_of(CAUSAL_LM, config)
    if not saved or any(name == causal or _CAUSAL.search(name) for name in saved):
        return []
    kind = saved[0]
    if not _OTHER_HEAD.search(kind):
        # The checkpoint's own code says which of its classes is the language model.
        if LOADERS[CAUSAL_LM] in _own_code(config):
            return []
        if causal and not hasattr(transformers, kind):
            return [
                f"its configuration names the class {kind}, which transformers does not know: it "
                f"was loaded as {causal}"
            ]
    raise of_another_kind(spec.name, kind, CAUSAL_LM)


def _saved(config: Any) -> list[str]:
    """Return the classes that a configuration names."""
    named = getattr(config, "architectures", None) or []
    return [name for name in ([named] if isinstance(named, str) else named) if name]


def _own_code(config: Any) -> dict[str, Any]:
    """Return which classes of a checkpoint's own code are loaded as what."""
    own = getattr(config, "auto_map", None)
    return own if isinstance(own, dict) else {}


def _check_no_encoder(name: str, kind: str, config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name}: is a {kind}, an encoder with a decoder and no causal language model; it "
            "predicts no next tokens of a text."
        )


def _class_of(task: str, config: Any) -> str:
    """Return the class that is loaded for a configuration; empty where only its own code knows."""
    classes = loader(task)._model_mapping
    return str(classes[type(config)].__name__) if type(config) in classes else ""
