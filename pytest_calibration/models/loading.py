"""From a spec to a model, which is loaded when it is first asked for what no cache has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.extras import require
from pytest_calibration.models.backends import Identity, ModelSpec, backend_named
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.cached_answers import CachedAnswers
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.running_job import running_job_told
from pytest_calibration.models.settings import BackendSettings
from pytest_calibration.models.spec import resolve
from pytest_calibration.progress import PROGRESS

if TYPE_CHECKING:
    from pytest_calibration.models.protocols import LoadedModel


@dataclass
class Use:
    """How a model was used. Light: it may outlive the model.

    Attributes:
        name: of the model.
        loads: how often its weights were read.
        note_lists: what the backend noted, a list per load; the lists may still grow.
    """

    name: str
    loads: int = 0
    note_lists: list[Sequence[str]] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the backend noted, each sentence once."""
        return tuple(dict.fromkeys(chain.from_iterable(self.note_lists)))


class LazyModel(CachedAnswers):
    """A model that is loaded when it first scores, and can release its weights.

    A run that uses two models in turn releases one before it scores the other. With a cache, what
    was asked before is answered without loading.

    Args:
        spec: the model.
        settings: how it is loaded, an instance of its backend's ``Settings``.
        cache: where its answers are kept; None for nowhere.

    Attributes:
        name: what reports call it.
        use: how often it was loaded, and what the backend noted.
    """

    def __init__(
        self, spec: ModelSpec, settings: BackendSettings, cache: Cache | None = None
    ) -> None:
        super().__init__(cache)
        self.name = spec.name
        self.spec = spec
        self.settings = settings
        self.use = Use(spec.name)
        self._backend = backend_named(spec.backend)
        # Only backends that can be replicated have the setting.
        self._replicas: int | None = getattr(settings, "replicas", None)
        self._model: LoadedModel | None = None
        # Its text alone: the error itself would keep what was read of the weights.
        self._failure = ""

    def load(self) -> Any:
        """Return the model with its weights in memory, loading it if need be.

        What cannot be loaded is not tried again: to find that out may take minutes of a network.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._failure:
            raise ModelError(self._failure)
        if self._model is None:
            try:
                # Before it is read: its answers are kept as those of what was there then.
                _ = self.cache_key
                with PROGRESS.loading(self), running_job_told(self.spec):
                    self._model = self._loaded_backend()
            except ModelError as problem:
                self._failure = str(problem)
                raise
            self.use.loads += 1
            self.note(self._model.notes)
            keep_in = getattr(self._model, "keep_in", None)
            if keep_in is not None and self.cache is not None and self.cache_key is not None:
                keep_in(self.cache, self.cache_key)
        return self._model

    def note(self, sentences: Sequence[str]) -> None:
        """See :class:`~pytest_calibration.models.cached_answers.CachedAnswers`."""
        self.use.note_lists.append(sentences)

    def release(self) -> None:
        """Free the weights; they are read again when next needed."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def _loaded_backend(self) -> LoadedModel:
        """Return the model in this process, or its replicas."""
        if self._replicas is None:
            return self._backend.load(self.spec, self.settings)
        from pytest_calibration.models.replicas.replicated import ReplicatedModel

        return ReplicatedModel(self.spec, self.settings, self._replicas)

    @cached_property
    def _identity(self) -> Identity:
        with running_job_told(self.spec):
            found = self._backend.identify(self.spec, self.settings, self.cache)
        if self._replicas is None or found.cache_key is None:
            return found
        from pytest_calibration.models.replicas.cluster import environments

        elsewhere = environments()
        key = Digest(found.cache_key, elsewhere).bytes() if elsewhere else found.cache_key
        return replace(found, cache_key=key)

    @property
    def fingerprint(self) -> str:
        """Identifies weights and settings without loading; computed once.

        Raises:
            OSError: a file cannot be read.
        """
        return self._identity.fingerprint

    @property
    def cache_key(self) -> bytes | None:
        """See :class:`~pytest_calibration.models.cached_answers.CachedAnswers`."""
        try:
            return None if self.cache is None else self._identity.cache_key
        except OSError:
            # Loading reports the file that cannot be read.
            return None

    def unchanged(self) -> bool:
        """See :class:`~pytest_calibration.models.cached_answers.CachedAnswers`."""
        return self._identity.unchanged()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the backend noted, such as that it took a slower path; kept after release."""
        return self.use.notes


def check_replicated(spec: ModelSpec) -> None:
    """Raise UsageError for a model that cannot have replicas."""
    if "replicas" not in backend_named(spec.backend).Settings.names():
        raise UsageError(
            f"model {spec.text!r}: replicas do not go with the backend "
            f"{spec.backend}; leave replicas (--calibration-replicas) out."
        )


def load_model(
    spec: str | ModelSpec,
    settings: Mapping[str, Any] | None = None,
    *,
    cache: Cache | None = None,
    **options: Any,
) -> LazyModel:
    """Return the model that a spec names; its weights are read when it first scores.

    Args:
        spec: a directory, an adapter directory, a hub id, ``id@revision``.
        settings: how to load it, by name; settings of other backends have no effect.
        cache: where its answers are kept; nowhere by default.
        options: settings of the model's backend; they win over ``settings``.

    Raises:
        MissingExtra: a package that the backend needs is not installed.
        UsageError: the spec, or a setting, makes no sense.
    """
    if not isinstance(spec, str | ModelSpec):
        raise UsageError(f"load_model: pass a directory or a hub id as text, got {spec!r}.")
    if isinstance(spec, str):
        specs = resolve([spec])
        if len(specs) != 1:
            raise UsageError(f"model {spec!r} names {len(specs)} models; load them one by one.")
        spec = specs[0]
    backend = backend_named(spec.backend)
    known = backend.Settings.names()
    chosen = {**(settings or {}), **options}
    if chosen.get("replicas") is not None:
        check_replicated(spec)
        require("ray", "ray")
    for name in options:
        if name not in known:
            raise UsageError(
                f"load_model: unknown setting {name!r}; known settings: {', '.join(known)}."
            )
    backend.check_installed()
    return LazyModel(spec, backend.Settings.chosen(chosen), cache)
