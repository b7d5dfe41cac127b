"""Models of a project's own: a function or object that Python can import.

``my_service:predict`` is the name ``predict`` in the module ``my_service``, which lies in the
working folder or where Python looks. Nothing is known of what it depends on, so its answers are not
kept in a cache.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, Final

from pytest_calibration.errors import CalibrationError, ModelError, UsageError, suggestion
from pytest_calibration.models.adopted import OFFER, adopted
from pytest_calibration.models.backends import Identity, ModelSpec
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.fitness import kind_of_model
from pytest_calibration.models.settings import BackendSettings

__all__ = ["KINDS", "Settings", "check_installed", "identify", "load", "parse"]

KINDS: Final = (
    "a function from texts to class probabilities, or a model, that can be imported (module:name)"
)
_SPEC: Final = re.compile(r"([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Settings(BackendSettings):
    """What is set for all models and cannot be done to these.

    Attributes:
        temperature: refused, unless it is 1: only a checkpoint's logits can be divided by it.
        replicas: how many processes of a Ray cluster import it; None for this process alone.
    """

    temperature: float = 1.0
    replicas: int | None = None


def parse(text: str) -> ModelSpec | None:
    """Take ``module:name``; the module is not imported yet.

    Raises:
        UsageError: there is no such module.
    """
    found = _SPEC.fullmatch(text)
    if found is None or os.path.lexists(text):
        return None
    if found[1] in sys.builtin_module_names or PathFinder.find_spec(found[1], _path()):
        return ModelSpec(text)
    near = suggestion(found[1], [name.removesuffix(".py") for name in os.listdir()])
    raise UsageError(
        f"model {text!r}: there is no module {found[1]} in the working folder, nor where Python "
        f"looks{near}; pass module:name of one that can be imported, a directory or a hub id."
    )


def check_installed() -> None:
    """Need nothing."""


def identify(spec: ModelSpec, _settings: Settings, _cache: Cache | None) -> Identity:
    """Identify a model by its name alone: what it does may change without it."""
    return Identity(Digest(spec.location).text())


class Own:
    """A model of a project's own, with what else a loaded model has.

    Attributes:
        name: what reports call it.
    """

    notes: tuple[str, ...] = ()
    checkpoint_notes: tuple[str, ...] = ()

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name
        self.description: Mapping[str, str] = dict(getattr(model, "description", {}))

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.model, attribute)

    def close(self) -> None:
        """Do nothing: its module keeps it, and gives it again."""


def load(spec: ModelSpec, settings: Settings) -> Any:
    """Import a model.

    Raises:
        ModelError: it cannot be imported, is none, or is to be served at a temperature.
    """
    if settings.temperature != 1:
        raise ModelError(
            f"model {spec.location!r}: temperature: {settings.temperature:g} divides the logits of "
            "a checkpoint, which a model of your own keeps to itself; divide them there, and leave "
            "the key out of calibration.yaml."
        )
    module_name, _, name = spec.location.partition(":")
    sys.path[:] = _path()
    try:
        module = import_module(module_name)
        value = getattr(module, name, None)
    except CalibrationError:
        raise
    except Exception as problem:
        raise ModelError(
            f"model {spec.location!r}: the module {module_name} cannot be imported "
            f"({type(problem).__name__}: {problem})."
        ) from problem
    if value is None:
        hint = suggestion(name, vars(module))
        raise ModelError(f"model {spec.location!r}: {module_name} has no {name!r}{hint}.")
    model = None if isinstance(value, str | os.PathLike) else adopted(value, dict, None)
    if isinstance(model, type) or not kind_of_model(model):
        what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise ModelError(f"model {spec.location!r} is no model, but {what}: {OFFER}.")
    return Own(model, spec.name)


def _path() -> list[str]:
    """Return where modules are looked for; the working folder comes last."""
    here = os.getcwd()
    return sys.path if here in sys.path else [*sys.path, here]
