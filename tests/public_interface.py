"""What of this package is public, as lines of text: run as a program, it writes them.

``python tests/public_interface.py > tests/public_interface.txt`` records them anew, where trl is
installed. A line that goes or changes is a break for somebody: docs/reference/versions.md says what
that asks for.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import pytest_calibration
from pytest_calibration import cli, config, errors, plugin
from pytest_calibration.gate.verdict import State
from pytest_calibration.plugin.options import INI_TYPES, OPTIONS
from pytest_calibration.probes.presets import packaged
from pytest_calibration.probes.probe_set import GATE_SETTINGS, KINDS
from pytest_calibration.reports.writing import ENDINGS

ROOT: Final = Path(__file__).parent.parent
RECORD: Final = Path(__file__).with_suffix(".txt")
# Public names that need torch; a star import leaves them out.
OF_TORCH: Final = (
    *("CalibrationCallback", "calibration_compute_metrics", "preprocess_logits_for_calibration"),
)
REMEDIES: Final = "pytest_calibration.remedies"
WITH_TORCH: Final = find_spec("transformers") is not None and find_spec("torch") is not None
WITH_TRL: Final = WITH_TORCH and find_spec("trl") is not None


def can_be_made(line: str) -> bool:
    """Whether the packages are installed that a line of the record needs."""
    name = line.removeprefix("python ").removeprefix("class ")
    if name.startswith(f"{REMEDIES}."):
        return WITH_TRL
    of_torch = any(name.startswith(f"pytest_calibration.{one}") for one in OF_TORCH)
    return WITH_TORCH or not of_torch


def _parameters(function: Any) -> str:
    """The parameters of a function without their types: names, kinds and defaults."""
    signature = inspect.signature(function)
    bare = [
        one.replace(annotation=one.empty, default=_default(one.default))
        for one in signature.parameters.values()
        if one.name not in ("self", "cls")
    ]
    return str(inspect.Signature(bare))


class _Named:
    """A default that is shown by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty or not isinstance(value, FunctionType | type):
        return value
    return _Named(value.__qualname__)


def _of_class(name: str, public: type) -> Iterator[str]:
    # By which bases an error is caught.
    bases = [base.__name__ for base in public.__bases__ if issubclass(public, Exception)]
    yield f"python class {name} {' '.join(bases)}".rstrip()
    if issubclass(public, Enum):
        yield from (f"python {name}.{one.name} = {one.value!r}" for one in public)
        return
    if not issubclass(public, Exception):
        yield f"python {name}{_parameters(public)}"
    shown: set[str] = set()
    for owner in public.__mro__:
        if not owner.__module__.startswith("pytest_calibration"):
            continue
        fields = getattr(owner, "__annotations__", {}) if _holds_values(public) else {}
        for member in (*vars(owner), *fields):
            if member.startswith("_") or member in shown:
                continue
            shown.add(member)
            value = inspect.getattr_static(public, member, None)
            function = getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                yield f"python {name}.{member}{_parameters(function)}"
            else:
                yield f"python {name}.{member}"


def _holds_values(public: type) -> bool:
    return hasattr(public, "__dataclass_fields__") or hasattr(public, "__struct_fields__")


def _of_module(module: str, names: list[str]) -> Iterator[str]:
    for name in names:
        public, full = getattr(import_module(module), name), f"{module}.{name}"
        if isinstance(public, type):
            yield from _of_class(full, public)
        elif callable(public):
            yield f"python {full}{_parameters(public)}"
        elif isinstance(public, Mapping):
            yield from (f"python {full}[{key!r}]" for key in public)
        elif not inspect.ismodule(public):
            yield f"python {full} = {public!r}"


def python_lines() -> Iterator[str]:
    """Names, parameters and defaults of the package, its metrics, errors and remedies."""
    names = [*pytest_calibration.__all__, *(OF_TORCH if WITH_TORCH else ())]
    yield from _of_module("pytest_calibration", names)
    yield from _of_module("pytest_calibration.metrics", list(pytest_calibration.metrics.__all__))
    yield from _of_module(
        "pytest_calibration.errors",
        [name for name, one in vars(errors).items() if _is_error(one)],
    )
    if WITH_TRL:
        yield from _of_module(REMEDIES, list(import_module(REMEDIES).__all__))


def _is_error(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, errors.CalibrationError)


def pytest_lines() -> Iterator[str]:
    """Flags, ini keys, fixtures, hooks, marker, and the states of verdicts."""
    for one in OPTIONS:
        yield f"pytest flag {one.flag} {one.metavar}".rstrip()
        if one.ini:
            yield f"pytest ini {one.key} ({INI_TYPES[one.kind]})"
    for name in plugin.__all__:
        yield f"pytest fixture {name} ({getattr(plugin, name)._fixture_function_marker.scope})"
    for name, hook in vars(plugin.Specifications).items():
        if name.startswith("pytest_"):
            yield f"pytest hook {name}{_parameters(hook.__func__)}"
    yield "pytest marker calibration"
    yield from (f"pytest state {state.value}" for state in State)


def command_lines() -> Iterator[str]:
    """Subcommands with their arguments and flags, and exit codes."""
    subcommands = cli.parser()._subparsers
    assert subcommands is not None
    (choices,) = [a.choices for a in subcommands._group_actions if a.choices]
    for name, parser in dict(choices).items():
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            text = ", ".join(action.option_strings) or action.dest
            chosen = f" {{{','.join(map(str, action.choices))}}}" if action.choices else ""
            default = "" if action.default in (None, argparse.SUPPRESS) else f" = {action.default}"
            many = f" ({action.nargs})" if action.nargs is not None else ""
            yield f"command {name} {text}{chosen}{many}{default}"
    rows = [row.split(maxsplit=1) for row in (cli.__doc__ or "").splitlines()]
    yield from (f"command exit {' '.join(row)}" for row in rows if row and row[0].isdigit())


def package_lines() -> Iterator[str]:
    """Entry points, extras and the Pythons that are supported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    yield f"package python {project['requires-python']}"
    yield from (f"package extra {name}" for name in project["optional-dependencies"])
    yield from (f"package command {name}" for name in project["scripts"])
    for group, entries in project["entry-points"].items():
        yield from (f"package entry point {group}: {one} = {to}" for one, to in entries.items())


def file_lines() -> Iterator[str]:
    """The files that are written, with the versions of their formats."""
    formats = {
        "baseline": "pytest_calibration.baselines.record",
        "history": "pytest_calibration.history.format",
        "json report": "pytest_calibration.reports.model",
    }
    yield from (f"file {what}: format {import_module(m).FORMAT}" for what, m in formats.items())
    record = import_module("pytest_calibration.baselines.record")
    yield from (f"file baseline field {name}" for name in record._FIELDS)
    line = import_module("pytest_calibration.history.lines").Line
    yield from (f"file history field {name}" for name in line.__dataclass_fields__)


def settings_lines() -> Iterator[str]:
    """The keys of ``calibration.yaml``, kinds of probes and presets."""
    for key in config.TOP_KEYS:
        yield f"calibration.yaml {key}"
    for key in GATE_SETTINGS:
        yield f"calibration.yaml probes.NAME.{key}"
    yield from (f"calibration.yaml kind {kind}" for kind in KINDS)
    yield from (f"calibration.yaml preset {name}" for name in sorted(packaged()))
    yield from (f"report {ending}" for ending in ENDINGS)


def lines() -> list[str]:
    """All of it, in a fixed order."""
    makers = (python_lines, pytest_lines, command_lines, settings_lines, package_lines, file_lines)
    return [line for maker in makers for line in maker()]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
