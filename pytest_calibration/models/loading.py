"""From a spec to a model. Nothing heavy is imported until scores are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends.transformers.threads import patient_threads
from pytest_calibration.models.checkpoint import (
    Identity,
    LoadSettings,
    fingerprint,
    identify,
    require,
)
from pytest_calibration.models.spec import ModelSpec, resolve
from pytest_calibration.progress import PROGRESS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_calibration.models.backends.transformers import TransformersModel
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.cached_answers import Remembered
    from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores


@dataclass
class Use:
    """What became of a model in a run. Light: it may outlive the model.

    Attributes:
        name: of the model.
        loads: how often its weights were read.
        said: what the engine had to say, once per load; the lists may still grow.
    """

    name: str
    loads: int = 0
    said: list[Sequence[str]] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences of the engine, each once."""
        return tuple(dict.fromkeys(chain.from_iterable(self.said)))


class LazyModel:
    """A model that reads its weights when it first scores, and can give them back.

    It has the methods of :class:`~pytest_calibration.models.protocols.LanguageModel`. A run that
    holds two models in turn releases one before it scores the other. With a cache, what was asked
    before is answered without any weights.

    Attributes:
        name: what reports call it.
        spec: where it comes from.
        settings: how it is loaded.
        cache: where its answers are kept, if anywhere.
        use: how often it was loaded, and what the engine said.
    """

    def __init__(self, spec: ModelSpec, settings: LoadSettings, cache: Cache | None = None) -> None:
        self.name = spec.name
        self.spec = spec
        self.settings = settings
        self.cache = cache
        self.use = Use(spec.name)
        self._model: TransformersModel | None = None
        self._computed = 0

    def load(self) -> TransformersModel:
        """Return the model with its weights in memory.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._model is None:
            with PROGRESS.loading(self):
                # Importing torch takes its time, too.
                with patient_threads():
                    from pytest_calibration.models.backends.transformers import TransformersModel

                self._model = TransformersModel(self.spec, self.settings)
            self.use.loads += 1
            self.use.said.append(self._model.notes)
        return self._model

    def release(self) -> None:
        """Free the weights; they are read again when next needed."""
        if self._model is not None:
            self._model.close()
            self._model = None

    @property
    def fingerprint(self) -> str:
        """Digest of the files of a directory, or hub id and revision; and of the settings."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        identity = self._identity
        return fingerprint(self.spec, self.settings) if identity is None else identity.digest

    @cached_property
    def _identity(self) -> Identity | None:
        """What this model is, by content; None where that is not needed or cannot be told."""
        if self.cache is None:
            return None
        try:
            return identify(self.spec, self.settings, self.cache, hub=True)
        except OSError:
            # Loading meets it too, and says it in words.
            return None

    @cached_property
    def _remembered(self) -> Remembered | None:
        """This model with its cache; None where its answers cannot be told from another's."""
        identity = self._identity
        if self.cache is None or identity is None or not identity.exact:
            return None
        from pytest_calibration.models.cached_answers import Remembered
        from pytest_calibration.models.digests import Digest
        from pytest_calibration.models.environment import environment

        state = Digest(
            environment(),
            identity.digest,
            self.settings.device,
            self.settings.trust_remote_code,
            self.settings.safetensors_only,
            # Stands beside every number.
            self.spec.revision,
        )
        # Files that are written to while they are read belong to no digest.
        return Remembered(self.load, self.cache, state.bytes(), identity.holds)

    @property
    def _answers(self) -> Remembered | TransformersModel:
        """What answers: the engine, or what is remembered of it."""
        if self._remembered is not None:
            return self._remembered
        self._computed += 1
        return self.load()

    @property
    def served(self) -> int:
        """Calls that were answered from the cache."""
        return 0 if self._remembered is None else self._remembered.served

    @property
    def computed(self) -> int:
        """Calls that took the weights."""
        return self._computed if self._remembered is None else self._remembered.computed

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine had to say, such as that it took another path; kept after release."""
        return self.use.notes

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that stand beside every number."""
        if self._remembered is not None:
            return self._remembered.description
        return self.load().description

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self._answers.option_logprobs(prompts, options)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self._answers.next_token(texts, choose=choose)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        return self._answers.generate(prompts, max_new_tokens=max_new_tokens)


def load_model(
    spec: str | ModelSpec,
    settings: LoadSettings | None = None,
    *,
    cache: Cache | None = None,
    **options: Any,
) -> LazyModel:
    """Return the model that a spec names; its weights are read when it first scores.

    Args:
        spec: a hub id, a directory, an adapter directory, ``id@revision``.
        settings: how to load it.
        cache: where its answers are kept; nowhere by default.
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
    return LazyModel(spec, settings, cache)
