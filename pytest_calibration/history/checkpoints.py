"""Which state of a training run a model is, and checkpoints in order of their steps. Light."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.input_files import read_text
from pytest_calibration.models.places import shown, what_is_there

TRAINER_STATE: Final = "trainer_state.json"
# Bytes; it holds a log of the whole run.
_MOST_OF_A_STATE: Final = 1 << 28
_STEP: Final = re.compile(
    r"(?<![a-z])(?:(?:global[-_]?)?steps?|checkpoint|ckpt|iter(?:ation)?s?)[-_=]?(\d{1,15})(?![a-z\d])",
    re.IGNORECASE,
)
_EPOCH: Final = re.compile(
    r"(?<![a-z])(?:epochs?|ep)[-_=]?(\d{1,9}(?:\.\d{1,9})?)(?![a-z\d])", re.IGNORECASE
)
_TOKENS: Final = re.compile(r"(?<![a-z])tokens?[-_=]?(\d{1,15})([kmbt]?)(?![a-z\d])", re.IGNORECASE)
_THOUSANDS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
# Folders within a checkpoint in which programs put the model itself.
_INNER: Final = frozenset(
    {"actor", "adapter", "hf", "huggingface", "merged", "model", "policy", "pytorch_model"}
)
# Files of which a folder that holds a model has one.
_MODEL_FILES: Final = ("config.json", "adapter_config.json", TRAINER_STATE)
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True)
class Checkpoint:
    """A state of a training run.

    Attributes:
        model: where it lies, or a name on the hub without revision.
        step: optimizer steps; None where they are not known.
        epoch: epochs; None where they are not known.
        tokens: tokens seen; None where they are not known.
        revision: revision on the hub; empty for a directory.
        order: place among those it was given with.
    """

    model: str
    step: int | None = None
    epoch: float | None = None
    tokens: int | None = None
    revision: str = ""
    order: int = 0

    @property
    def text(self) -> str:
        """The model as a user would type it."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    def seen_from(self, folder: str | os.PathLike[str]) -> Checkpoint:
        """Return the same with its directory as seen from a folder; absolute where it is not in it.

        A path has slashes on every system.
        """
        path, root = Path(os.path.abspath(self.model)), os.path.abspath(folder)
        inside = path.is_relative_to(root)
        return replace(self, model=(path.relative_to(root) if inside else path).as_posix())

    @property
    def place(self) -> tuple[bool, int, bool, float, int]:
        """Sort key: by step, then epoch, then the order given; those without a step come last."""
        return self.step is None, self.step or 0, self.epoch is None, self.epoch or 0.0, self.order


def run_of(model: str, revision: str = "") -> str:
    """Return what the checkpoints of one training run share; empty for a model that is of none.

    The folder above a directory whose name tells its step or epoch, or the name on the hub.
    """
    if revision:
        return model if _named(revision) else ""
    folder, name = _folder_and_name(model)
    return (folder or ".") if _named(name) else ""


def checkpoint_of(model: str | os.PathLike[str], order: int = 0) -> Checkpoint:
    """Return which state of a training run a model is.

    Step and epoch come from ``trainer_state.json``, else from the name of the directory
    (``checkpoint-400``, ``step_400``, ``epoch-3``), else from the revision on the hub
    (``step143000``). What a damaged or half-written file does not tell, the name does.

    Args:
        model: a directory, or a name on the hub, with ``@revision`` or without.
        order: place among those it is given with, which counts where nothing else is known.
    """
    text = os.fspath(model)
    location, revision = text, ""
    if not os.path.isdir(text):
        location, _, revision = text.rpartition("@") if "@" in text else (text, "", "")
    folder, name = _folder_and_name(location)
    told: dict[str, Any] = {}
    for source in (revision, name):
        told = _from_name(source) | told
    if not revision:
        told |= _from_state(location) or _from_state(os.path.join(folder, name))
    return Checkpoint(location, **told, revision=revision, order=order)


def checkpoints(folder: str | os.PathLike[str]) -> list[str]:
    """Return the checkpoints in a folder in order of their steps, as paths that begin with it.

    Each is a directory that holds a model (``config.json``, ``adapter_config.json`` or
    ``trainer_state.json``), or whose name tells a step or an epoch. One that is still being written
    is among them: to load it says what it lacks.

    Raises:
        UsageError: there is no such folder, or no checkpoint in it.
    """
    text = os.fspath(folder)
    try:
        names = [one.name for one in os.scandir(text) if one.is_dir()]
    except (OSError, ValueError):
        raise UsageError(f"checkpoints of {shown(text)}: {what_is_there(text)}.") from None
    found = [os.path.join(text, name) for name in names if _is_checkpoint(text, name)]
    if not found:
        raise UsageError(
            f"checkpoints of {shown(text)}: none is there; a checkpoint is a folder with "
            "config.json, adapter_config.json or trainer_state.json, or with a name such as "
            "checkpoint-400."
        )
    return in_order(found)


def in_order(folders: Iterable[str]) -> list[str]:
    """Sort directories: those of one folder by step, then epoch, then in natural order."""
    natural = sorted(folders, key=natural_key)
    states = [checkpoint_of(path, order) for order, path in enumerate(natural)]
    states.sort(key=lambda one: (natural_key(_folder_and_name(one.model)[0]), one.place))
    return [one.model for one in states]


def natural_key(text: str) -> list[tuple[bool, int, str]]:
    """Sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", text)
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def _is_checkpoint(folder: str, name: str) -> bool:
    # A Trainer of older versions writes into tmp-checkpoint-400, and renames it when it is whole.
    if name.startswith((".", "tmp-", "_")):
        return False
    return _named(name) or any(
        os.path.isfile(os.path.join(folder, name, file)) for file in _MODEL_FILES
    )


def _named(name: str) -> bool:
    """Whether a name tells a step or an epoch."""
    return bool({"step", "epoch"} & _from_name(name).keys())


def _folder_and_name(path: str) -> tuple[str, str]:
    """Return the folder of a checkpoint, and its name: ``runs/checkpoint-4/merged`` is in runs."""
    folder, name = os.path.split(path.rstrip("/\\" if os.sep == "\\" else "/"))
    above, outer = os.path.split(folder)
    while name.lower() in _INNER and outer:
        folder, name = above, outer
        above, outer = os.path.split(folder)
    return folder, name


def _from_name(name: str) -> dict[str, Any]:
    """Return what the name of a directory or a revision tells."""
    out: dict[str, Any] = {}
    if found := _STEP.search(name):
        out["step"] = int(found[1])
    if found := _EPOCH.search(name):
        out["epoch"] = float(found[1])
    if found := _TOKENS.search(name):
        out["tokens"] = int(found[1]) * _THOUSANDS[found[2].lower()]
    return out


def _from_state(folder: str) -> dict[str, Any]:
    """Return what the saved state of a Trainer tells; nothing of a damaged one."""
    try:
        state = json.loads(
            read_text(Path(folder, TRAINER_STATE), _MOST_OF_A_STATE, CalibrationError)
        )
    except (CalibrationError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict):
        return {}
    step, epoch = _number(state.get("global_step")), _number(state.get("epoch"))
    out: dict[str, Any] = {}
    if step is not None:
        out["step"] = int(step)
    if epoch is not None:
        out["epoch"] = float(epoch)
    tokens = _number(state.get("num_input_tokens_seen")) or _logged_tokens(state)
    if tokens:
        out["tokens"] = int(tokens)
    return out


def _logged_tokens(state: dict[str, Any]) -> float | None:
    """Return the tokens that TRL logs; the Trainer counts them only where it is asked to."""
    log = state.get("log_history")
    for entry in reversed(log) if isinstance(log, list) else ():
        if isinstance(entry, dict) and "num_tokens" in entry:
            return _number(entry["num_tokens"])
    return None


def _number(value: object) -> float | None:
    """Return a number of a state that can be one; None for anything else."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return value if fits and 0 <= value <= _LARGEST else None  # type: ignore[operator, return-value]
