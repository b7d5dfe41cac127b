"""The options of the plugin, one table: a flag and an ini key each.

Flags default to None, so that an unset flag does not hide an ini key. What a single run does to
stored files (record, accept, anchor, prune), and the list of probes, have no ini key: as a lasting
setting they would switch the gate off.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

# Folder of the baselines beside a test file, where --calibration-baseline-dir names no other.
BASELINES: Final = "calibration_baselines"
# How pytest reads the ini key of each kind of option; "args" is split as in a shell.
INI_TYPES: Final[dict[str, Any]] = {
    "text": "string",
    "int": "int",
    "float": "float",
    "switch": "bool",
    "list": "args",
}
FLAG_ONLY: Final = ("list", "record", "accept", "anchor", "prune")
# Name, kind, what the value is called (nothing for a switch), help.
TABLE: Final = (
    ("model", "list", "SPEC", "model to probe: hub id, directory, glob, adapter directory, "
     "id@revision, name=SPEC for a baseline of its own (repeatable)"),
    ("parent", "text", "SPEC", "model that the probed one is also compared with"),
    ("probe", "list", "NAME", "probe to run (repeatable)"),
    ("list", "switch", "", "list the probes and their size, run nothing"),
    ("limit", "int", "N", "at most so many items per probe"),
    ("record", "switch", "", "store baselines that are missing, change no other"),
    ("accept", "text", "REASON", "replace baselines that are better, worse or not comparable; the "
     "reason stays in the file"),
    ("anchor", "text", "REASON", "count the drift of accepted steps from what is then stored; the "
     "reason stays in the file"),
    ("prune", "switch", "", "remove baselines that no test of a full, finished run looked up"),
    ("baseline_dir", "text", "DIR", "folder of the baselines, instead of calibration_baselines "
     "beside each test file"),
    ("report", "list", "FILE", "write a report: .html, .md, .json, .txt (OpenMetrics), .png or "
     ".svg (repeatable)"),
    ("history", "text", "FILE", "add what was measured to a history, one JSON line per model and "
     "probe"),
    ("dump", "text", "DIR", "write all scored items as JSON lines into a folder"),
    ("item_text", "text", "WHERE", "where prompts and answers may appear: terminal, none or "
     "reports"),
    ("device", "text", "DEVICE", "cpu, cuda, mps or auto"),
    ("dtype", "text", "DTYPE", "float32, bfloat16, float16 or auto"),
    ("batch_tokens", "int", "N", "tokens per forward pass, instead of what suits the device"),
    ("replicas", "int", "N", "score with so many replicas of the model, on a Ray cluster or this "
     "machine's cores"),
    ("cache_dir", "text", "DIR", "folder that keeps what models answered, instead of pytest's "
     "cache directory"),
    ("no_cache", "switch", "", "ask every model anew, and keep no answer"),
    ("config", "text", "FILE", "configuration file, instead of the calibration.yaml nearest to a "
     "test"),
    ("no_model", "text", "WHAT", "what a calibration test does when no model is named: error or "
     "skip"),
    ("inconclusive", "text", "WHAT", "what an inconclusive comparison does: pass or fail"),
    ("tolerance", "float", "X", "allowed worsening in ECE units, where neither the call nor the "
     "record names one"),
    ("drift_tolerance", "float", "X", "allowed worsening since the anchor, over all accepted steps "
     "together, instead of twice the tolerance"),
    ("alpha", "float", "X", "one-sided error level of each bound"),
    ("max_undetected", "float", "X", "a comparison that could miss a worsening of the tolerance "
     "plus this is inconclusive"),
    ("tail", "float", "X", "the answers with more confidence than this are also compared by "
     "themselves; 1 for none"),
    ("operating_point", "list", "X", "a confidence from which on answers are used: precision and "
     "coverage there are compared, too (repeatable); none for no such point"),
    ("early_stop", "switch", "", "ask a quarter of the items at a time, until the comparison with "
     "the baseline is decided"),
    ("family", "text", "RULE", "how many comparisons of a model count together: none, or holm to "
     "correct for their number"),
)  # fmt: skip


# A plain class, and rows that are constants: every start of pytest pays for what is more.
class Option:
    """One option.

    Attributes:
        name: ``limit`` for ``--calibration-limit`` and ``calibration_limit``.
        kind: a key of :data:`INI_TYPES`.
        metavar: what the value is called; empty for a switch.
        help: one line.
        flag: the flag as typed.
        key: the ini key, and the attribute of ``config.option``.
        ini: whether there is an ini key.
    """

    def __init__(self, name: str, kind: str, metavar: str, text: str) -> None:
        self.name = name
        self.kind = kind
        self.metavar = metavar
        self.help = text
        self.flag = "--calibration-" + name.replace("_", "-")
        self.key = "calibration_" + name
        self.ini = name not in FLAG_ONLY


OPTIONS: Final = [Option(*row) for row in TABLE]


def add_options(parser: pytest.Parser) -> None:
    """Register every flag and ini key."""
    group = parser.getgroup("calibration", "calibration of language models")
    types: dict[str, type] = {"int": int, "float": float}
    for option in OPTIONS:
        extra: dict[str, Any] = {"action": "store_true"}
        if option.metavar:
            extra = {"metavar": option.metavar, "type": types.get(option.kind, str)}
            extra["action"] = "append" if option.kind == "list" else "store"
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
