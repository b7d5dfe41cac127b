"""Options of the plugin: a flag and an ini key each, flag > ini > ``calibration.yaml`` > default.

Flags default to None, so that an unset flag never masks an ini key. What a single run does to
stored files (record, accept, prune) and the listing have no ini key: as a lasting setting they
would switch the gate off for good.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

# What a report may end in, which says what it is.
REPORTS: Final = (".html", ".md", ".json", ".txt", ".png", ".svg")


# Cheaper to define than a data class: every start of pytest does it.
class Option(NamedTuple):
    """One setting.

    Attributes:
        name: ``limit`` for ``--calibration-limit`` and ``calibration_limit``.
        help: one line.
        kind: ini type; None for no ini key.
        many: whether the flag may be repeated.
        metavar: what the value is called; empty for a switch.
        flag: whether there is a flag.
        choices: the values it may take.
    """

    name: str
    help: str
    kind: Any = "string"
    many: bool = False
    metavar: str = ""
    flag: bool = True
    choices: tuple[str, ...] = ()

    @property
    def flag_name(self) -> str:
        """The flag as typed."""
        return f"--calibration-{self.name.replace('_', '-')}"

    @property
    def ini_name(self) -> str:
        """The ini key."""
        return f"calibration_{self.name}"

    @property
    def dest(self) -> str:
        """The attribute of ``config.option``."""
        return self.ini_name


OPTIONS: Final = (
    Option("model", "model to probe: hub id, directory, glob, adapter directory, id@revision, "
           "name=SPEC for a baseline of its own (repeatable)", "linelist", many=True,
           metavar="SPEC"),
    Option("parent", "model that the probed one is also held against", metavar="SPEC"),
    Option("probe", "probe to run (repeatable)", "args", many=True, metavar="NAME"),
    Option("list", "list the probes and their size, run nothing", kind=None),
    Option("limit", "at most so many items per probe", "int", metavar="N"),
    Option("record", "store baselines that are missing, touch no other", kind=None),
    Option("accept", "replace baselines that are better, worse or not comparable; the reason "
           "stays in the file", kind=None, metavar="REASON"),
    Option("prune", "remove baselines that no test of a full, finished run asked for", kind=None),
    Option("baseline_dir", "folder of the baselines, instead of calibration_baselines beside each "
           "test file", metavar="DIR"),
    Option("report", "write a report: .html, .md, .json, .txt (OpenMetrics), .png or .svg "
           "(repeatable)", "args", many=True, metavar="FILE"),
    Option("dump", "write all items that were scored as JSON lines into a folder", metavar="DIR"),
    Option("item_text", "where prompts and answers may appear: terminal, none or reports",
           flag=False, choices=("terminal", "none", "reports")),
    Option("device", "cpu, cuda, mps or auto", metavar="DEVICE"),
    Option("dtype", "float32, bfloat16, float16 or auto", metavar="DTYPE"),
    Option("batch_tokens", "tokens per forward pass, instead of what suits the device", "int",
           metavar="N"),
    Option("cache_dir", "folder that keeps what models answered, instead of pytest's cache "
           "directory", metavar="DIR"),
    Option("no_cache", "ask every model anew, and keep no answer", "bool"),
    Option("config", "configuration file, instead of calibration.yaml at rootdir", metavar="FILE"),
    Option("no_model", "what a calibration test does when no model is named: error or skip",
           flag=False, choices=("error", "skip")),
    Option("inconclusive", "what an inconclusive comparison does: pass or fail",
           flag=False, choices=("pass", "fail")),
    Option("tolerance", "allowed worsening in ECE units", "float", flag=False),
    Option("alpha", "one-sided error level of each bound", "float", flag=False),
    Option("max_undetected", "a comparison that could miss a worsening of tolerance plus this is "
           "inconclusive", "float", flag=False),
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """Register every flag and ini key."""
    group = parser.getgroup("calibration", "calibration of language models")
    for option in OPTIONS:
        if option.flag:
            extra: dict[str, Any]
            if not option.metavar:
                extra = {"action": "store_true", "default": None}
            elif option.many:
                extra = {"action": "append", "default": None, "metavar": option.metavar}
            else:
                kind = int if option.kind == "int" else str
                extra = {"default": None, "metavar": option.metavar, "type": kind}
            group.addoption(option.flag_name, dest=option.dest, help=option.help, **extra)
        if option.kind is not None:
            parser.addini(option.ini_name, help=option.help, type=option.kind, default=None)


class Options:
    """The resolved settings of a run; None where nothing was said.

    Attributes:
        flags: dest names that the command line gave.
        values: option name to value.
    """

    def __init__(self, flags: frozenset[str], values: dict[str, Any]) -> None:
        self.flags = flags
        self.values = values

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def read_options(config: pytest.Config) -> Options:
    """Read every flag and every ini key now, so that a bad one is told at the start.

    Raises:
        pytest.UsageError: a value of the wrong type or range.
    """
    flags: set[str] = set()
    values: dict[str, Any] = {}
    for option in OPTIONS:
        ini = None
        if option.kind is not None:
            try:
                ini = config.getini(option.ini_name)
            except (TypeError, ValueError, pytest.UsageError) as problem:
                raise pytest.UsageError(f"{option.ini_name}: {problem}") from None
        flag = getattr(config.option, option.dest, None) if option.flag else None
        if flag is not None:
            flags.add(option.name)
        value = flag if flag is not None else ini
        # An empty ini value says nothing.
        values[option.name] = None if value in ("", []) and flag is None else value
        _check(option, values[option.name], given_by_flag=flag is not None)
    return Options(frozenset(flags), values)


def _check(option: Option, value: Any, *, given_by_flag: bool) -> None:
    name = option.flag_name if given_by_flag else option.ini_name
    if value is None:
        return
    if value in ("", [""]):
        raise pytest.UsageError(f"{name} needs a value.")
    if option.name in ("device", "dtype"):
        from pytest_calibration.errors import UsageError
        from pytest_calibration.models.backends import all_backends

        try:
            for backend in all_backends():
                backend.Settings.chosen({option.name: value})
        except UsageError as problem:
            raise pytest.UsageError(f"{name}: {problem}") from None
    if option.choices and value not in option.choices:
        raise pytest.UsageError(
            f"{name} must be one of {', '.join(option.choices)}, got {value!r}."
        )
    if option.name in ("limit", "batch_tokens") and value < 1:
        raise pytest.UsageError(f"{name} must be at least 1, got {value}.")
    if option.name in ("tolerance", "max_undetected") and not 0 <= value < 1:
        raise pytest.UsageError(f"{name} must be at least 0 and below 1, got {value}.")
    if option.name == "alpha" and not 0 < value < 0.5:
        raise pytest.UsageError(f"{name} must lie between 0 and 0.5, got {value}.")
    if option.name == "report":
        for file in value:
            if Path(file).suffix.lower() not in REPORTS:
                raise pytest.UsageError(
                    f"{name}: {file!r} must end in one of {', '.join(REPORTS)}, which says what "
                    "is written."
                )
    if option.name == "accept" and not value.strip():
        raise pytest.UsageError(f"{name} needs a reason that a reviewer can read.")


def path_of(config: pytest.Config, options: Options, name: str) -> Path | None:
    """Return a path option: a flag's relative to where pytest was started, an ini's to rootdir."""
    value = options[name]
    return None if value is None else _base(config, options, name) / str(value)


def paths_of(config: pytest.Config, options: Options, name: str) -> list[Path]:
    """Return the paths of an option that may be repeated, each as :func:`path_of`."""
    return [_base(config, options, name) / str(value) for value in options[name] or ()]


def _base(config: pytest.Config, options: Options, name: str) -> Path:
    return Path(config.invocation_params.dir if name in options.flags else config.rootpath)
