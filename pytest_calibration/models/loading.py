"""From a spec to a model. Nothing heavy is imported until scores are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_calibration.errors import UsageError
from pytest_calibration.models.checkpoint import LoadSettings, fingerprint, require
from pytest_calibration.models.spec import ModelSpec, resolve
from pytest_calibration.progress import PROGRESS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores
    from pytest_calibration.models.transformers_model import TransformersModel


class LazyModel:
    """A model that reads its weights when it first scores, and can give them back.

    It has the methods of :class:`~pytest_calibration.models.protocols.LanguageModel`. A run that
    holds two models in turn releases one before it scores the other.

    Attributes:
        name: what reports call it.
        spec: where it comes from.
        settings: how it is loaded.
    """

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self.name = spec.name
        self.spec = spec
        self.settings = settings
        self._model: TransformersModel | None = None
        self._fingerprint: str | None = None

    def load(self) -> TransformersModel:
        """Return the model with its weights in memory.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._model is None:
            with PROGRESS.loading(self):
                # Importing torch takes its time, too.
                from pytest_calibration.models.transformers_model import TransformersModel

                self._model = TransformersModel(self.spec, self.settings)
        return self._model

    def release(self) -> None:
        """Free the weights; they are read again when next needed."""
        if self._model is not None:
            self._model.close()
            self._model = None

    @property
    def fingerprint(self) -> str:
        """Digest of the files of a directory, or hub id and revision; and of the settings."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.spec, self.settings)
        return self._fingerprint

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that stand beside every number."""
        return self.load().description

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self.load().option_logprobs(prompts, options)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self.load().next_token(texts, choose=choose)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self.load().generate(prompts, max_new_tokens=max_new_tokens)


def load_model(
    spec: str | ModelSpec, settings: LoadSettings | None = None, **options: Any
) -> LazyModel:
    """Return the model that a spec names; its weights are read when it first scores.

    Args:
        spec: a hub id, a directory, an adapter directory, ``id@revision``.
        settings: how to load it.
        options: fields of ``LoadSettings``, instead of ``settings``.

    Raises:
        MissingExtra: torch or transformers is not installed.
        UsageError: the spec, or a setting, makes no sense.
    """
    require("torch", "hf")
    require("transformers", "hf")
    if settings is not None and options:
        raise UsageError(
            f"load_model: give settings or {', '.join(sorted(options))}, not both of them."
        )
    if settings is None:
        try:
            settings = LoadSettings(**options)
        except TypeError as problem:
            known = ", ".join(LoadSettings.__dataclass_fields__)
            raise UsageError(f"load_model: {problem}; known settings: {known}.") from None
    if not isinstance(spec, str | ModelSpec):
        raise UsageError(f"load_model: pass a directory or a hub id as text, got {spec!r}.")
    if isinstance(spec, str):
        found = resolve([spec])
        if len(found) != 1:
            raise UsageError(f"model {spec!r} names {len(found)} models; load them one by one.")
        spec = found[0]
    return LazyModel(spec, settings)
