"""A backend without torch: ``toy:FILE`` is a model whose beliefs hang on the content of a file.

A file that begins with ``classifier`` holds a classifier, any other a language model. With
``register()`` in a ``conftest.py`` a project of its own uses it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from fakes import FakeModel, unit
from numpy.typing import NDArray

from pytest_calibration.errors import MissingExtra, UsageError
from pytest_calibration.models.backends import BACKENDS, Identity, ModelSpec
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.settings import BackendSettings

KINDS = "a file of beliefs (toy:FILE)"
# Every load and every close of a model, in this process.
LOG: list[str] = []
missing = ""


def register() -> None:
    """Put this backend into the table."""
    BACKENDS["toy"] = __name__


@dataclass(frozen=True)
class Settings(BackendSettings):
    """How a toy is loaded.

    Attributes:
        percent: how much it overstates its beliefs.
        seed: changes nothing.
        folder: where the file lies.
    """

    percent: int = 0
    seed: int | None = None
    folder: str | None = None

    NOT_IN_FILE: ClassVar[frozenset[str]] = frozenset({"seed"})
    FOLDERS: ClassVar[frozenset[str]] = frozenset({"folder"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.percent <= 100:
            raise UsageError(f"percent must lie between 0 and 100, got {self.percent}.")


def parse(text: str) -> ModelSpec | None:
    """Take ``toy:FILE``."""
    prefix, _, file = text.partition(":")
    if prefix != "toy":
        return None
    if not file:
        raise UsageError("model 'toy:': names no file; write toy:FILE.")
    return ModelSpec(text)


def check_installed() -> None:
    """Raise MissingExtra where a test says that something is missing."""
    if missing:
        raise MissingExtra(f"{missing} is not installed.")


def _content(spec: ModelSpec, settings: Settings) -> str:
    return Path(settings.folder or "", spec.location.removeprefix("toy:")).read_text("utf-8")


def identify(spec: ModelSpec, settings: Settings, cache: Cache | None) -> Identity:
    """Identify the content of the file; ``unsure`` in it stands for what cannot be identified."""
    content = _content(spec, settings)
    digest = Digest(content, settings.percent)
    key = None if cache is None or "unsure" in content else digest.bytes()
    return Identity(digest.text(), key, lambda: _content(spec, settings) == content)


class Toy(FakeModel):
    """A language model."""

    notes: ClassVar[list[str]] = ["it is only a toy."]
    checkpoint_notes: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        LOG.append(f"load {spec.name}")
        super().__init__(spec.name, settings.percent / 100, _content(spec, settings))

    @property
    def description(self) -> Mapping[str, str]:
        """The settings."""
        return {"percent": f"{100 * self.sharpen:.0f}"}

    def close(self) -> None:
        """Free the weights."""
        LOG.append(f"close {self.name}")


class ToyClassifier:
    """A classifier of three classes."""

    notes: tuple[str, ...] = ()
    checkpoint_notes: tuple[str, ...] = ()
    description: ClassVar[dict[str, str]] = {}

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        LOG.append(f"load {spec.name}")
        self.name = spec.name
        self.fingerprint = _content(spec, settings)

    def class_probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Believe something about every text."""
        beliefs = [[unit(self.fingerprint, text, k) for k in range(3)] for text in texts]
        table = np.array(beliefs, dtype=np.float64).reshape(-1, 3)
        return np.asarray(table / table.sum(axis=1, keepdims=True))

    def close(self) -> None:
        """Free the weights."""
        LOG.append(f"close {self.name}")


def load(spec: ModelSpec, settings: Settings) -> Any:
    """Return the model of a file."""
    kind = ToyClassifier if _content(spec, settings).startswith("classifier") else Toy
    return kind(spec, settings)
