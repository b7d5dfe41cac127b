"""Backends: each loads models of one kind.

A backend is a module that has what :class:`Backend` lists. To add one, write the module and name it
in :data:`BACKENDS`. It is imported when first needed, and imports heavy packages only in ``load``.

``transformers``
    checkpoints and adapters of Hugging Face, on disk or on the hub.
``server``
    models on servers with a completions API, by address.
``own``
    functions and objects of a project, by the module that has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from pytest_calibration.models.settings import BackendSettings

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.protocols import LoadedModel

BACKENDS: Final[dict[str, str]] = {
    "transformers": f"{__name__}.transformers",
    "server": f"{__name__}.server",
    "own": f"{__name__}.own",
}
"""Name to module. The first backend that takes a spec has it."""


@dataclass(frozen=True)
class ModelSpec:
    """One model to load.

    Attributes:
        location: a directory, or whatever else the backend takes.
        revision: version of what lies at a location that is not local; None for the default.
        local: whether the location is a directory.
        name: short and unique in this run, ASCII, without a path; part of test ids and reports.
        baseline: name of its own baseline, or None for the shared one.
        backend: the backend that loads it, a key of :data:`BACKENDS`.
    """

    location: str
    revision: str | None = None
    local: bool = False
    name: str = ""
    baseline: str | None = None
    backend: str = ""

    @property
    def text(self) -> str:
        """The spec as a user would type it."""
        return self.location if self.revision is None else f"{self.location}@{self.revision}"

    def as_dict(self) -> dict[str, str | bool | None]:
        """Return plain values, to travel to a worker process."""
        return asdict(self)


@dataclass(frozen=True)
class Identity:
    """What a model and its settings are.

    Attributes:
        fingerprint: the same for the same model and settings; hexadecimal.
        cache_key: digest of all that answers depend on, including the machine and the versions of
            libraries; None where equal digests would not mean equal answers, so that no answer may
            be kept.
        unchanged: tells whether the model is still what it was when it was identified.
    """

    fingerprint: str
    cache_key: bytes | None = None
    unchanged: Callable[[], bool] = lambda: True


@runtime_checkable
class Backend(Protocol):
    """What a backend module has.

    Attributes:
        KINDS: what its specs look like, for messages.
        Settings: the class of its settings.
    """

    KINDS: str
    Settings: type[BackendSettings]

    def parse(self, text: str) -> ModelSpec | None:
        """Return the spec that a text stands for; None where it is not of this backend's kind.

        Raises:
            UsageError: it is of this backend's kind, and names nothing.
        """

    def check_installed(self) -> None:
        """Raise MissingExtra where a package that it needs is not installed."""

    def identify(self, spec: ModelSpec, settings: Any, cache: Cache | None) -> Identity:
        """Identify a model without loading it.

        Args:
            spec: the model.
            settings: an instance of ``Settings``.
            cache: keeps digests of unchanged files; None where no answers are kept, and a
                ``cache_key`` is not needed.

        Raises:
            ModelError: it cannot be identified.
            OSError: a file cannot be read.
        """

    def load(self, spec: ModelSpec, settings: Any) -> LoadedModel:
        """Load a model.

        Raises:
            ModelError: it cannot be loaded.
        """


def backend_named(name: str) -> Backend:
    """Return a backend by its name in :data:`BACKENDS`."""
    return cast(Backend, import_module(BACKENDS[name]))


def all_backends() -> list[Backend]:
    """Return all backends, in the order in which they are offered a spec."""
    return [backend_named(name) for name in BACKENDS]
