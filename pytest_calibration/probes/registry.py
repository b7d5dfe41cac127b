"""Names to probes: built-in ones, those of ``calibration.yaml``, those other packages add.

Naming a probe builds nothing: a probe is made when it is first run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_calibration.errors import ConfigError, UsageError
from pytest_calibration.probes.base import Probe

Factory: TypeAlias = Callable[[], Probe]

# kind: (module, class, settings that are paths)
KINDS: Final = {
    "next_token": ("next_token", "NextToken"),
    "facts": ("facts", "Facts"),
    "multiple_choice": ("multiple_choice", "MultipleChoice"),
}
BUILTIN: Final = ("next_token", "facts", "multiple_choice")
PATHS: Final = ("path", "shots_path")
# Settings that the gate reads, not the probe.
GATE_SETTINGS: Final = ("limit", "tolerance")


def kind_named(kind: str) -> Callable[..., Probe]:
    """Return the class of a probe kind (imported now)."""
    module, name = KINDS[kind]
    found: Callable[..., Probe] = getattr(import_module(f"{__package__}.{module}"), name)
    return found


def from_settings(name: str, settings: Mapping[str, Any], folder: Path, where: str) -> Probe:
    """Build a probe from its entry in ``calibration.yaml``.

    Args:
        name: name of the probe.
        settings: the entry: ``kind`` and the settings of that kind.
        folder: what relative paths are relative to.
        where: how the entry is named in messages.

    Raises:
        ConfigError: an unknown kind or setting, a wrong type.
    """
    kind = settings.get("kind", name if name in KINDS else None)
    if not isinstance(kind, str) or kind not in KINDS:
        got = f"got {kind!r}" if "kind" in settings else "and it is missing"
        raise ConfigError(f"{where}: kind must be one of {', '.join(KINDS)}, {got}.")
    make = kind_named(kind)
    known = [p for p in signature(make).parameters if p != "name"]
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "kind" or key in GATE_SETTINGS:
            continue
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            every = ", ".join(["kind", *known, *GATE_SETTINGS])
            raise ConfigError(f"{where}: unknown setting {key!r}{hint}; known settings: {every}.")
        _check_type(where, key, value)
        arguments[key] = folder / value if key in PATHS else value
    try:
        return make(name, **arguments)
    except UsageError as problem:
        raise ConfigError(f"{where}: {problem}") from None


def _check_type(where: str, key: str, value: Any) -> None:
    numbers = {"shots": (int,), "positions": (int, str)}
    allowed = numbers.get(key, (str,))
    if isinstance(value, bool) or not isinstance(value, allowed):
        what = "a whole number" if int in allowed else "text"
        raise ConfigError(f"{where}: {key} must be {what}, got {value!r}.")


@dataclass
class ProbeSet:
    """The probes of a run, built when first asked for.

    Attributes:
        factories: name to a function that builds the probe.
        default: names run when none is selected.
    """

    factories: dict[str, Factory]
    default: tuple[str, ...]
    _built: dict[str, Probe] = field(default_factory=dict)

    def __iter__(self) -> Iterable[str]:
        return iter(self.factories)

    def get(self, name: str) -> Probe:
        """Return a probe by name.

        Raises:
            UsageError: an unknown name; the message suggests the nearest and lists all.
        """
        self.check([name])
        if name not in self._built:
            self._built[name] = self.factories[name]()
        return self._built[name]

    def check(self, names: Iterable[str]) -> None:
        """Raise UsageError for the first name that is unknown."""
        for name in names:
            if name not in self.factories:
                near = get_close_matches(name, self.factories, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                known = ", ".join(self.factories)
                raise UsageError(f"unknown probe {name!r}{hint}; known probes: {known}.")

    def select(self, names: Sequence[str]) -> list[str]:
        """Return the names asked for, once each, or the default."""
        self.check(names)
        return list(dict.fromkeys(names)) or list(self.default)


def probe_set(
    configured: Mapping[str, Mapping[str, Any]] | None = None,
    folder: Path | None = None,
    source: str = "calibration.yaml",
    added: Iterable[Mapping[str, Factory]] = (),
) -> ProbeSet:
    """Gather the probes of a run.

    Args:
        configured: the ``probes:`` of ``calibration.yaml``; they are the default selection if any.
        folder: what their paths are relative to.
        source: name of that file.
        added: names to factories from other packages.

    Raises:
        UsageError: another package adds a name that is taken.
    """
    factories: dict[str, Factory] = {name: kind_factory(name) for name in BUILTIN}
    for more in added:
        for name, factory in more.items():
            if name in factories:
                raise UsageError(f"two packages provide a probe named {name!r}.")
            factories[name] = factory
    base = folder or Path()
    for name, settings in (configured or {}).items():
        factories[name] = _configured(name, settings, base, f"{source}: probes.{name}")
    return ProbeSet(factories, tuple(configured) if configured else BUILTIN)


def kind_factory(name: str) -> Factory:
    """Return what builds the built-in probe of this name."""
    return lambda: kind_named(name)(name)


def _configured(name: str, settings: Mapping[str, Any], folder: Path, where: str) -> Factory:
    return lambda: from_settings(name, settings, folder, where)
