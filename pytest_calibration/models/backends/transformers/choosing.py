"""From a checkpoint, or a model in memory, to the class that asks it."""

from __future__ import annotations

from typing import Any, Final

from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.classifier_models import (
    TransformersClassifier,
    TransformersTokenClassifier,
)
from pytest_calibration.models.backends.transformers.in_memory import (
    ModelInMemory,
    without_adapter,
)
from pytest_calibration.models.backends.transformers.kinds import task_of_class
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.reading import read
from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel

_CLASSES: Final[dict[str, type[ModelInMemory]]] = {
    one.TASK: one
    for one in (TransformersModel, TransformersClassifier, TransformersTokenClassifier)
}


def load_checkpoint(spec: ModelSpec, settings: TransformersSettings) -> ModelInMemory:
    """Load a checkpoint as the kind of model that it is.

    Raises:
        ModelError: it is of no kind that can be asked, or cannot be loaded whole.
    """
    checkpoint = read(spec, settings)
    return _CLASSES[checkpoint.task].of_checkpoint(checkpoint, spec, settings)


def in_memory(
    model: Any, tokenizer: Any, *, name: str = "model", temperature: float = 1.0
) -> ModelInMemory:
    """Take a model that is already in memory as the kind of model that it is.

    Args:
        model: a model of transformers, or a peft model around one.
        tokenizer: its tokenizer.
        name: what reports call it.
        temperature: that it is served at.

    Raises:
        ModelError: it is of no kind that can be asked.
    """
    chosen = _CLASSES[task_of_class(without_adapter(model))]
    return chosen.of(model, tokenizer, name=name, temperature=temperature)
