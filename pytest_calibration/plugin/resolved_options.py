"""The values of the options in one run: flag before ini key; None where neither is given."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_calibration.errors import CalibrationError
from pytest_calibration.gate.strictness import OperatingPoint, range_error
from pytest_calibration.plugin.options import OPTIONS, Option
from pytest_calibration.reports.writing import ENDINGS

CHOICES: Final = {
    "item_text": ("terminal", "none", "reports"),
    "no_model": ("error", "skip"),
    "inconclusive": ("pass", "fail"),
    "family": ("none", "holm"),
}
# What a run does to stored files.
ONE_RUN_ONLY: Final = ("record", "accept", "anchor", "prune")
# What stands for no operating point, where the project names some.
NO_POINT: Final = "none"


@contextmanager
def usage_errors(prefix: str = "") -> Iterator[None]:
    """Turn an error of this package into one that stops pytest, with its text and no traceback."""
    try:
        yield
    except CalibrationError as problem:
        raise pytest.UsageError(f"{prefix}{problem}") from None


class Options:
    """The options of a run.

    Attributes:
        flags: names of the options that the command line gives.
        typed_now: those of them that were typed for this run, and are no lasting setting (addopts,
            PYTEST_ADDOPTS).
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read every flag and ini key.

        Raises:
            pytest.UsageError: a value of the wrong type or range.
        """
        self._config = config
        self._values: dict[str, Any] = {}
        flags = set()
        for option in OPTIONS:
            value = getattr(config.option, option.key, None)
            if value is not None:
                flags.add(option.name)
                _check_can_be_sent(config, option.flag, value)
                _check(option, option.flag, value)
                if option.name in ("accept", "anchor"):
                    value = _reason(config, option.flag, value)
            elif option.ini:
                value = _ini_value(config, option)
            self._values[option.name] = value
        self.flags = frozenset(flags)
        lasting = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
        not_typed = _flags_in(lasting) - _flags_in(config.invocation_params.args)
        self.typed_now = self.flags - {o.name for o in OPTIONS if o.flag in not_typed}
        # What a worker was given, its controller has checked.
        if not hasattr(config, "workerinput"):
            _check_typed(self.flags - self.typed_now)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def path(self, name: str) -> Path | None:
        """Return a path: a flag's is relative to where pytest was started, an ini's to rootdir."""
        value = self[name]
        return None if value is None else self._folder(name) / str(value)

    def paths(self, name: str) -> list[Path]:
        """Return the paths of a repeatable option, each as :meth:`path` does."""
        return [self._folder(name) / str(value) for value in self[name] or ()]

    def points(self) -> tuple[OperatingPoint, ...] | None:
        """Return the operating points; empty for none, None where the option is not given."""
        values = self["operating_point"]
        if values is None:
            return None
        return tuple(OperatingPoint(float(text)) for text in values if text != NO_POINT)

    def _folder(self, name: str) -> Path:
        config = self._config
        return Path(config.invocation_params.dir if name in self.flags else config.rootpath)

    def typed(self, *, without: Iterable[str]) -> list[str]:
        """Return the flags of this run as typed, but for some."""
        out = []
        for option in OPTIONS:
            if option.name in self.flags and option.name not in without:
                value = self[option.name]
                values = value if option.kind == "list" else [value]
                out += [f"{option.flag}={v}" if option.metavar else option.flag for v in values]
        return out


def _check_typed(lasting: Collection[str]) -> None:
    """Raise UsageError where a lasting setting would write baselines in every run."""
    for option in OPTIONS:
        if option.name in lasting and option.name in ONE_RUN_ONLY:
            raise pytest.UsageError(
                f"{option.flag} stands in addopts or PYTEST_ADDOPTS, where it would switch the "
                "gate off in every run: take it out there, and type it for one run."
            )


def _flags_in(args: Iterable[object]) -> set[str]:
    return {str(arg).partition("=")[0] for arg in args}


def _check_can_be_sent(config: pytest.Config, flag: str, value: Any) -> None:
    """Raise UsageError for a text that pytest-xdist, which sends it as UTF-8, would die of."""
    texts = map(str, value if isinstance(value, list) else [value])
    if getattr(config.option, "dist", "no") == "no":
        return
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise pytest.UsageError(
                f"{flag}: {text!r} is not UTF-8, and cannot be sent to the workers of "
                "pytest-xdist: write it in UTF-8, or run without -n."
            )


def _ini_value(config: pytest.Config, option: Option) -> Any:
    """Return the value of an ini key; None where it is missing or empty."""
    try:
        value = config.getini(option.key)
    except (TypeError, ValueError, pytest.UsageError) as problem:
        raise pytest.UsageError(f"{option.key}: {problem}") from None
    if value in (None, "", []):
        return None
    _check(option, option.key, value)
    return value


def _reason(config: pytest.Config, flag: str, value: str) -> str:
    """Return why baselines are replaced, as text that can be written to a file.

    Raises:
        pytest.UsageError: nothing a reviewer can read, or what was meant for a place of tests.
    """
    # A byte that is no UTF-8, as of an old commit message, came as half a surrogate pair.
    from pytest_calibration.baselines.store import is_reason

    reason = value.encode("utf-8", "backslashreplace").decode().strip()
    if not is_reason(reason):
        raise pytest.UsageError(
            f"{flag} needs a reason that a reviewer can read, got {reason!r}; write why the new "
            f'numbers are right, such as {flag}="DPO v3, accuracy +4, signed off".'
        )
    if _is_place_of_tests(config, reason):
        raise pytest.UsageError(
            f"{flag} took {reason!r}, which is a place of tests or files, for the reason; write "
            f'{flag}="why the new numbers are right", and the place after it.'
        )
    return reason


def _is_place_of_tests(config: pytest.Config, text: str) -> bool:
    """Whether pytest could take a text for tests: a path, a test's id, a module of --pyargs."""
    place = text.partition("::")[0]
    homes = (Path(config.invocation_params.dir), config.rootpath)
    if any(os.path.lexists(home / place) for home in homes) or place.endswith(".py"):
        return True
    if re.search(r"\s", text):
        return False
    names = place.split(".")
    is_module = getattr(config.option, "pyargs", False) and all(map(str.isidentifier, names))
    return place != text or (is_module and find_spec(names[0]) is not None)


def _check(option: Option, name: str, value: Any) -> None:
    """Raise UsageError for a value that is wrong, whatever else is given."""
    if value in ("", [""]):
        raise pytest.UsageError(f"{name} needs a value.")
    choices = CHOICES.get(option.name)
    if choices and value not in choices:
        raise pytest.UsageError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
    if option.kind == "int" and value < 1:
        raise pytest.UsageError(f"{name} must be at least 1, got {value}.")
    problem = option.kind == "float" and range_error(option.name, value)
    if problem:
        raise pytest.UsageError(f"{name} {problem}.")
    if option.name == "operating_point":
        _check_points(name, value)
    if option.name in ("device", "dtype"):
        from pytest_calibration.models.backends import all_backends

        with usage_errors(f"{name}: "):
            for backend in all_backends():
                backend.Settings.chosen({option.name: value})
    for file in value if option.name == "report" else ():
        if Path(file).suffix.lower() not in ENDINGS:
            raise pytest.UsageError(
                f"{name}: {file!r} must end in one of {', '.join(ENDINGS)}, which says what is "
                "written."
            )


def _check_points(name: str, value: list[str]) -> None:
    """Raise UsageError for what is no list of thresholds, nor the word for none."""
    if value == [NO_POINT]:
        return
    for text in value:
        try:
            number: object = float(text)
        except ValueError:
            number = text
        if problem := range_error("threshold", number):
            raise pytest.UsageError(f"{name} {problem}; {NO_POINT} alone switches it off.")
    thresholds = [float(text) for text in value]
    if len({*thresholds}) < len(thresholds):
        raise pytest.UsageError(f"{name} names a threshold twice: {', '.join(value)}.")
