"""The options of the plugin, one table: a flag and an ini key each.

Flags default to None, so that an unset flag does not hide an ini key. What a single run does to
stored files (record, accept, prune), and the list of probes, have no ini key: as a lasting setting
they would switch the gate off.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

# How pytest reads the ini key of each kind of option; "args" is split as in a shell.
INI_TYPES: Final[dict[str, Any]] = {
    "text": "string",
    "int": "int",
    "float": "float",
    "switch": "bool",
    "list": "args",
}
FLAG_TYPES: Final[dict[str, Any]] = {"int": int, "float": float}


# A plain class: at every start of pytest it costs less than a data class.
class Option:
    """One option.

    Attributes:
        name: ``limit`` for ``--calibration-limit`` and ``calibration_limit``.
        help: one line.
        metavar: what the value is called; empty for a switch.
        kind: a key of :data:`INI_TYPES`.
        ini: whether there is an ini key.
        choices: the values that it may have; empty for any.
        flag: the flag as typed.
        key: the ini key, and the attribute of ``config.option``.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002  named as in pytest
        metavar: str = "",
        kind: str = "text",
        *,
        ini: bool = True,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar
        self.kind = kind
        self.ini = ini
        self.choices = choices
        self.flag = "--calibration-" + name.replace("_", "-")
        self.key = "calibration_" + name


OPTIONS: Final = (
    Option("model", "model to probe: hub id, directory, glob, adapter directory, id@revision, "
           "name=SPEC for a baseline of its own (repeatable)", "SPEC", "list"),
    Option("parent", "model that the probed one is also compared with", "SPEC"),
    Option("probe", "probe to run (repeatable)", "NAME", "list"),
    Option("list", "list the probes and their size, run nothing", "", "switch", ini=False),
    Option("limit", "at most so many items per probe", "N", "int"),
    Option("record", "store baselines that are missing, change no other", "", "switch", ini=False),
    Option("accept", "replace baselines that are better, worse or not comparable; the reason "
           "stays in the file", "REASON", ini=False),
    Option("prune", "remove baselines that no test of a full, finished run looked up", "",
           "switch", ini=False),
    Option("baseline_dir", "folder of the baselines, instead of calibration_baselines beside each "
           "test file", "DIR"),
    Option("report", "write a report: .html, .md, .json, .txt (OpenMetrics), .png or .svg "
           "(repeatable)", "FILE", "list"),
    Option("dump", "write all scored items as JSON lines into a folder", "DIR"),
    Option("item_text", "where prompts and answers may appear: terminal, none or reports", "WHERE",
           choices=("terminal", "none", "reports")),
    Option("device", "cpu, cuda, mps or auto", "DEVICE"),
    Option("dtype", "float32, bfloat16, float16 or auto", "DTYPE"),
    Option("batch_tokens", "tokens per forward pass, instead of what suits the device", "N", "int"),
    Option("cache_dir", "folder that keeps what models answered, instead of pytest's cache "
           "directory", "DIR"),
    Option("no_cache", "ask every model anew, and keep no answer", "", "switch"),
    Option("config", "configuration file, instead of calibration.yaml at rootdir", "FILE"),
    Option("no_model", "what a calibration test does when no model is named: error or skip",
           "WHAT", choices=("error", "skip")),
    Option("inconclusive", "what an inconclusive comparison does: pass or fail", "WHAT",
           choices=("pass", "fail")),
    Option("tolerance", "allowed worsening in ECE units, where neither the call nor the record "
           "names one", "X", "float"),
    Option("alpha", "one-sided error level of each bound", "X", "float"),
    Option("max_undetected", "a comparison that could miss a worsening of the tolerance plus this "
           "is inconclusive", "X", "float"),
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """Register every flag and ini key."""
    group = parser.getgroup("calibration", "calibration of language models")
    for option in OPTIONS:
        extra: dict[str, Any] = {"action": "store_true"}
        if option.metavar:
            action = "append" if option.kind == "list" else "store"
            extra = {"action": action, "metavar": option.metavar}
            extra |= {"type": FLAG_TYPES[option.kind]} if option.kind in FLAG_TYPES else {}
        group.addoption(option.flag, dest=option.key, help=option.help, default=None, **extra)
        if option.ini:
            parser.addini(option.key, option.help, INI_TYPES[option.kind], None)


def any_option_given(config: pytest.Config) -> bool:
    """Whether the command line or the ini file sets any of these options."""
    if any(getattr(config.option, option.key, None) is not None for option in OPTIONS):
        return True
    try:
        return any(config.getini(o.key) not in (None, "", []) for o in OPTIONS if o.ini)
    except (TypeError, ValueError, pytest.UsageError):
        # A value that pytest cannot read: reported when the options are read.
        return True
