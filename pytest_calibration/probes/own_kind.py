"""A kind of probe that a project brings: a class or function named in ``calibration.yaml``.

``kind: package.module:Class`` is called with the name of the probe and, by keyword, the other
settings of the entry, which its signature and annotations check.
"""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeGuard, get_args

from pytest_calibration.errors import CalibrationError, ConfigError, UsageError, suggestion
from pytest_calibration.probes.probe import Probe
from pytest_calibration.text.visible import quoted

_KIND: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_ANY: Final = inspect.Parameter.empty


def is_own_kind(kind: object) -> TypeGuard[str]:
    """Whether a kind names something to import."""
    return isinstance(kind, str) and ":" in kind


def own_probe(name: str, kind: str, settings: Mapping[str, Any], folder: Path, where: str) -> Probe:
    """Build a probe of a project's own kind.

    Args:
        name: name of the probe.
        kind: ``module:name`` of what builds it. The module may lie in ``folder``.
        settings: what it is given, by keyword. A setting that is annotated as a ``Path`` is
            relative to ``folder``.
        folder: that of ``calibration.yaml``.
        where: how the entry is named in messages.

    Raises:
        ConfigError: it cannot be imported or built, or does not take these settings.
    """
    make = imported(kind, folder, where)
    try:
        signature = inspect.signature(make, eval_str=True)
    except NameError:  # a type that is imported for type checkers alone
        signature = inspect.signature(make)
    arguments = _arguments(signature, kind, settings, folder, where)
    try:
        signature.bind(name, **arguments)
    except TypeError as problem:
        raise ConfigError(
            f"{where}: {kind} is called with the name of the probe and the settings of the entry "
            f"by keyword, and does not take them so ({problem})."
        ) from None
    try:
        probe: Probe = make(name, **arguments)
    except UsageError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    except CalibrationError:
        raise
    except Exception as problem:
        raise ConfigError(f"{where}: {kind} cannot be built ({_told(problem)}).") from problem
    if getattr(probe, "name", name) != name:
        # Limits and tolerances of the entry are found by its name.
        raise ConfigError(
            f"{where}: {kind} made a probe named {quoted(probe.name)}; its `name` is the first "
            f"argument, {quoted(name)}."
        )
    return probe


def imported(
    kind: str, folder: Path, where: str, key: str = "kind", what: str = "Class"
) -> Callable[..., Any]:
    """Import what a setting names as ``package.module:name``; the module may lie in ``folder``.

    Raises:
        ConfigError: there is none, or it cannot be called.
    """
    match = _KIND.fullmatch(kind)
    if match is None:
        raise ConfigError(
            f"{where}: {key} {quoted(kind)} names no {what.lower()}; write package.module:{what}."
        )
    name, attribute = match.groups()
    where_key = f"{where}: {key}"
    module = _module(name, folder.resolve(), where_key)
    make = getattr(module, attribute, None)
    if make is None:
        hint = suggestion(attribute, vars(module))
        raise ConfigError(f"{where_key}: module {name!r} has no {attribute!r}{hint}.")
    if not callable(make):
        raise ConfigError(
            f"{where_key} {kind!r} is neither a class nor a function, got {quoted(make)}."
        )
    made: Callable[..., Any] = make
    return made


def _module(name: str, folder: Path, where: str) -> Any:
    """Import a module, also one beside ``calibration.yaml``."""
    if str(folder) not in sys.path:
        # Last, so that no module of Python or of a package is hidden.
        sys.path.append(str(folder))
    try:
        module = import_module(name)
    except Exception as problem:
        missing = getattr(problem, "name", None) if type(problem) is ModuleNotFoundError else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ConfigError(
                f"{where}: there is no module {missing!r}, neither in {folder} nor where "
                "Python looks for modules."
            ) from None
        raise ConfigError(
            f"{where}: module {name!r} cannot be imported ({_told(problem)})."
        ) from problem
    beside = folder.joinpath(*name.split("."))
    file = Path(str(getattr(module, "__file__", None) or folder)).resolve()
    if not file.is_relative_to(folder) and (beside.is_dir() or beside.with_suffix(".py").is_file()):
        raise ConfigError(
            f"{where}: module {name!r} is {file}, and not the one in {folder}; give that one "
            "a name of its own."
        )
    return module


def _told(problem: Exception) -> str:
    """Say what went wrong in the project's own code, and where: its traceback is cut."""
    if isinstance(problem, SyntaxError):  # it says so itself
        return f"{type(problem).__name__}: {problem}"
    last = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {problem}; {Path(last.filename).name}, line {last.lineno}"


def _arguments(
    signature: inspect.Signature, kind: str, settings: Mapping[str, Any], folder: Path, where: str
) -> dict[str, Any]:
    parameters = list(signature.parameters.values())[1:]
    known = {
        p.name: p.annotation for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in settings:
        if key not in known and not takes_any:
            hint, every = suggestion(key, known), ", ".join(known) or "none"
            raise ConfigError(
                f"{where}: unknown setting {quoted(key)}{hint}; settings of {kind}: {every}."
            )
    return {
        key: _as_annotated(f"{where}: {key}", value, known.get(key, _ANY), folder)
        for key, value in settings.items()
    }


def _as_annotated(where: str, value: Any, annotation: Any, folder: Path) -> Any:
    """Return a setting as the type that it is annotated with; as it is where that is no type."""
    import msgspec

    def of_another_type(kind: type, given: Any) -> Any:
        if issubclass(kind, Path) and isinstance(given, str):
            return kind(folder / given)
        if isinstance(given, kind):
            return given
        raise ValueError

    if annotation is _ANY or isinstance(annotation, str):
        return value
    try:
        return msgspec.convert(value, annotation, dec_hook=of_another_type)
    except msgspec.ValidationError:
        # A class by its name, wherever Python keeps it; `list[int]` or `int | None` as written.
        is_class = isinstance(annotation, type) and not get_args(annotation)
        shown = annotation.__name__ if is_class else inspect.formatannotation(annotation)
        raise ConfigError(f"{where} must be {shown}, got {quoted(value)}.") from None
    except TypeError:  # an annotation that says nothing about values in a file
        return value
