"""What a running job does to a checkpoint that is read: that is told, and not what follows from it.

A job that keeps few checkpoints (``save_total_limit``) removes old ones, and the newest may not be
whole yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from pytest_calibration.errors import CalibrationError, ModelError
from pytest_calibration.history.checkpoints import TRAINER_STATE, run_of
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.places import shown

MOST_NAMED: Final = 3
_WORKING: Final = (".lock", ".tmp")


@contextmanager
def running_job_told(spec: ModelSpec) -> Iterator[None]:
    """Say of a checkpoint that cannot be read that it was removed, or is not whole.

    Raises:
        ModelError: files of the directory have gone meanwhile, or it fails and lacks what a Trainer
            writes last.
    """
    before = _names(spec)
    try:
        yield
    except (CalibrationError, OSError) as problem:
        gone = sorted(before - _names(spec))
        if spec.local and (gone or not os.path.isdir(spec.location)):
            more = f", {len(gone) - MOST_NAMED} more" * (len(gone) > MOST_NAMED)
            files = f" (gone: {', '.join(gone[:MOST_NAMED])}{more})" if gone else ""
            raise ModelError(
                f"{shown(spec.location)}: was removed before it was read{files}, as a running job "
                "does that keeps few checkpoints (save_total_limit); copy those that are tested."
            ) from problem
        if isinstance(problem, ModelError) and _is_half_written(spec):
            raise ModelError(
                f"{str(problem).rstrip('.')}; {TRAINER_STATE}, which a Trainer writes last, is not "
                "there yet: test it again when it is whole."
            ) from problem
        raise


def _names(spec: ModelSpec) -> set[str]:
    """Return the files that a checkpoint holds, but those that programs work with meanwhile."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(spec.location) if spec.local else []
    return {name for name in names if not name.startswith(".") and not name.endswith(_WORKING)}


def _is_half_written(spec: ModelSpec) -> bool:
    """Whether it lacks the last file, which other checkpoints of its run have."""
    run = run_of(spec.location) if spec.local else ""
    if not run or os.path.exists(os.path.join(spec.location, TRAINER_STATE)):
        return False
    with suppress(OSError), os.scandir(run) as others:
        return any(os.path.exists(os.path.join(one.path, TRAINER_STATE)) for one in others)
    return False
