"""Names to probes: built-in ones, those of ``calibration.yaml``, those other packages add.

A probe is built when it is first run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from pytest_calibration.errors import ConfigError, UsageError, suggestion
from pytest_calibration.probes.own_kind import imported, is_own_kind, own_probe
from pytest_calibration.probes.presets import PRESET, Presets, all_presets, full_settings
from pytest_calibration.probes.probe import ItemProbe, Probe
from pytest_calibration.text.visible import MOST_QUOTED, quoted, visible

Factory: TypeAlias = Callable[[], Probe]

# Module and class of each kind.
KINDS: Final = {
    "next_token": ("next_token", "NextToken"),
    "facts": ("facts", "Facts"),
    "multiple_choice": ("multiple_choice", "MultipleChoice"),
    "classification": ("classification", "Classification"),
    "preference": ("preference", "Preference"),
    "lm_eval": ("lm_eval_task", "LmEvalTask"),
    "p_true": ("p_true", "PTrue"),
    "verbalized": ("verbalized", "Verbalized"),
    "agreement": ("agreement", "Agreement"),
    "sequence": ("sequence", "SequenceLogprob"),
}
BUILTIN: Final = ("next_token", "facts", "multiple_choice")
LM_EVAL: Final = "lm_eval:"
"""Begin of the names of probes that need no entry: what follows is a task of lm-eval."""
MATCH: Final = "match"
PATHS: Final = ("path", "shots_path", "include_path")
# Settings that the gate reads, not the probe.
GATE_SETTINGS: Final = ("limit", "tolerance", "operating_points")


def _class_of(kind: str) -> Callable[..., Probe]:
    module, name = KINDS[kind]
    probe_class: Callable[..., Probe] = getattr(import_module(f"{__package__}.{module}"), name)
    return probe_class


def builtin_probe(name: str) -> Probe:
    """Build the built-in probe of this name, which is also its kind."""
    return _class_of(name)(name)


def from_settings(
    name: str,
    settings: Mapping[str, Any],
    folder: Path,
    where: str,
    presets: Presets | None = None,
) -> Probe:
    """Build a probe from its entry in ``calibration.yaml``.

    Args:
        name: name of the probe.
        settings: the entry: ``kind`` or ``preset``, and the settings of that kind. A kind with a
            colon, ``package.module:Class``, is one of the project's own.
        folder: what relative paths are relative to.
        where: how the entry is named in messages.
        presets: all presets; by default those of this package.

    Raises:
        ConfigError: an unknown kind, preset or setting, a wrong type.
    """
    presets = all_presets() if presets is None else presets
    settings = full_settings(name, settings, presets, where)
    kind = settings.get("kind", name if name in KINDS else None)
    if is_own_kind(kind):
        own = {k: v for k, v in settings.items() if k != "kind" and k not in GATE_SETTINGS}
        return own_probe(name, str(kind), own, folder, where)
    if not isinstance(kind, str) or kind not in KINDS:
        raise _unknown_kind(kind, where, given="kind" in settings)
    make = _class_of(kind)
    known = [p for p in signature(make).parameters if p != "name"]
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "kind" or key in GATE_SETTINGS:
            continue
        if key not in known:
            every = ", ".join(["kind", PRESET, *known, *GATE_SETTINGS])
            hint = suggestion(key, known)
            raise ConfigError(
                f"{where}: unknown setting {quoted(key)}{hint}; known settings: {every}."
            )
        _check_type(where, key, value)
        arguments[key] = folder / value if key in PATHS else value
        if key == "dataset" and isinstance(value.get("path"), str):
            arguments[key] = {**value, "path": folder / value["path"]}
        if key == MATCH and is_own_kind(value):
            arguments[key] = imported(value, folder, where, MATCH, "function")
    if name in presets and "dataset" in known and not {"path", "dataset"} & set(arguments):
        raise ConfigError(
            f"{where}: has a kind of its own, and not the items of the preset {name!r}; add "
            f"preset: {name}, or the path of items."
        )
    required = [p.name for p in signature(make).parameters.values() if p.default is p.empty]
    for key in required:
        if key not in arguments and key != "name":
            raise ConfigError(f"{where}: the setting {key} is missing, which this kind needs.")
    try:
        return make(name, **arguments)
    except UsageError as problem:
        raise ConfigError(f"{where}: {problem}") from None


def _unknown_kind(kind: object, where: str, *, given: bool) -> ConfigError:
    hint = suggestion(kind, KINDS) if isinstance(kind, str) else ""
    got = f"got {quoted(kind)}{hint}" if given else "and it is missing"
    return ConfigError(
        f"{where}: kind must be one of {', '.join(KINDS)}, {got}; a class of your own is "
        "package.module:Class."
    )


# Types of the settings that are no text, and how a message says so.
TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "shots": ((int,), "a whole number"),
    "seed": ((int,), "a whole number"),
    "cut": ((bool,), "true or false"),
    "positions": ((int, str), "a whole number"),
    "shots_by_slice": ((bool,), "true or false"),
    "shuffle": ((bool,), "true or false"),
    "samples": ((int,), "a whole number"),
    "guesses": ((int,), "a whole number"),
    "max_new_tokens": ((int,), "a whole number"),
    "temperature": ((int, float), "a number"),
    "max_failures": ((int, float), "a number"),
    "stop": ((str, list), "a text or a list of texts"),
    "dataset": ((dict,), "a mapping such as {id: cais/mmlu, config: all, split: test}"),
    "chat": ((bool, dict), "true, false or variables of the chat template"),
    "delimiter": ((str,), 'text ("" for none)'),
    "classes": ((list, dict), "a list of names, or a mapping of labels to names"),
    "truncate": ((bool,), "true or false"),
    "pair": ((bool,), "true or false"),
}


def _check_type(where: str, key: str, value: Any) -> None:
    allowed, words = TYPES.get(key, ((str,), "text"))
    wrong_bool = isinstance(value, bool) and bool not in allowed
    if wrong_bool or not isinstance(value, allowed):
        raise ConfigError(f"{where}: {key} must be {words}, got {quoted(value)}.")


def _built(name: str, factory: Factory | Probe) -> Probe:
    """Build a probe; one that was given in place of its factory is taken as it is.

    Raises:
        UsageError: what is built is no probe.
    """
    return checked_probe(factory() if callable(factory) else factory, f"probe {name!r}: ")


def checked_probe(probe: Any, where: str = "") -> Probe:
    """Return a probe, as a project gives it.

    Raises:
        UsageError: a class, or an object that has no name or cannot be run with a limit.
    """
    run = getattr(probe, "run", None)
    if isinstance(probe, type):
        got = f"the class {probe.__name__} in place of one of its objects"
    elif not isinstance(getattr(probe, "name", None), str):
        got = f"{_shown(probe)}, whose `name` is no text"
    elif not callable(run):
        got = f"{_shown(probe)}, which has no `run`"
    elif not _takes_limit(run):
        got = f"{_shown(probe)}, whose `run` cannot be called so"
    else:
        return cast("Probe", probe)
    raise UsageError(
        f"{where}a probe has a `name`, a `kind` and `run(model, limit=None)`, got {got}."
    )


def _shown(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _takes_limit(run: Callable[..., object]) -> bool:
    try:
        signature(run).bind(None, limit=None)
    except TypeError:
        return False
    except ValueError:  # a callable without a signature: it is tried
        return True
    return True


@dataclass
class ProbeSet:
    """The probes of a run, each built when first asked for.

    Attributes:
        factories: name to a function that builds the probe.
        default: names run when none is selected.
        presets: further probes, which run where they are named.
    """

    factories: dict[str, Factory]
    default: tuple[str, ...]
    presets: dict[str, Factory] = field(default_factory=dict)
    _built: dict[str, Probe] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.factories)

    def __contains__(self, name: object) -> bool:
        """Whether there is a probe of this name; one that names a task of lm-eval is made."""
        if isinstance(name, str) and name.startswith(LM_EVAL) and name not in self.factories:
            settings = {"kind": "lm_eval", "task": name.removeprefix(LM_EVAL)}
            make = partial(from_settings, name, settings, Path(), f"probe {name!r}")
            self.presets.setdefault(name, make)
        return name in self.factories or name in self.presets

    def get(self, name: str) -> Probe:
        """Return a probe by name.

        Raises:
            UsageError: an unknown name; the message suggests the nearest and lists all.
        """
        self._check(name)
        if name not in self._built:
            self._built[name] = _built(name, self.factories.get(name) or self.presets[name])
        return self._built[name]

    def takes_smallest_ids(self, name: str) -> bool:
        """Whether a limit on the probe of this name takes the items of the smallest ids."""
        return name in self and isinstance(self.get(name), ItemProbe)

    def select(self, names: Sequence[str]) -> list[str]:
        """Return the names asked for, once each, or the default.

        Raises:
            UsageError: an unknown name, as in :meth:`get`.
        """
        for name in names:
            self._check(name)
        return list(dict.fromkeys(names)) or list(self.default)

    def _check(self, name: str) -> None:
        if name not in self:
            task = f"{LM_EVAL}{name.partition(':')[2]}" if ":" in name else LM_EVAL
            hint = suggestion(name, [*self.factories, *self.presets, task])
            further = [preset for preset in self.presets if preset not in self.factories]
            more = f"; presets: {', '.join(further)}" if further else ""
            known = ", ".join(self.factories)
            raise UsageError(f"unknown probe {name!r}{hint}; known probes: {known}{more}.")


def probe_set(
    configured: Mapping[str, Mapping[str, Any]] | None = None,
    folder: Path | None = None,
    source: str = "calibration.yaml",
    added: Iterable[Mapping[str, Factory]] = (),
    presets: Presets | None = None,
) -> ProbeSet:
    """Collect the probes of a run.

    Args:
        configured: the ``probes:`` of ``calibration.yaml``; they are the default selection if any.
        folder: what their paths are relative to.
        source: name of that file.
        added: names to factories from other packages.
        presets: the ``presets:`` of that file.

    Raises:
        UsageError: another package adds a name that is taken.
    """
    factories: dict[str, Factory] = {name: partial(builtin_probe, name) for name in BUILTIN}
    for more in added:
        if not isinstance(more, Mapping):
            raise UsageError(
                "pytest_calibration_probes must return a mapping of names to functions that build "
                f"a probe, got {more!r}."
            )
        for name, factory in more.items():
            if not isinstance(name, str):
                raise UsageError(
                    f"pytest_calibration_probes: the name of a probe is text, got {name!r}."
                )
            if name in factories:
                raise UsageError(f"two packages provide a probe named {name!r}.")
            factories[name] = factory
    every = all_presets(presets)

    def entry(section: str, name: str, settings: Mapping[str, Any]) -> Factory:
        where = f"{source}: {section}.{visible(name, MOST_QUOTED)}"
        return partial(from_settings, name, settings, folder or Path(), where, every)

    for name, settings in (configured or {}).items():
        factories[name] = entry("probes", name, settings)
    further = {name: entry("presets", name, settings) for name, settings in every.items()}
    return ProbeSet(factories, tuple(configured) if configured else BUILTIN, further)
