"""One process of a distributed run measures; the others wait, and get its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from pytest_calibration.errors import CalibrationError, UsageError

T = TypeVar("T")


def in_main_process(work: Callable[[], T]) -> T:
    """Run something in the main process alone, and return its result in all of them.

    All processes call this at the same point.

    Args:
        work: its result can be pickled.

    Raises:
        CalibrationError: in the waiting processes, what stopped the main process.
        Exception: in the main process, whatever ``work`` raises.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return work()
    sent: list[Any] = [None, None]
    problem: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            sent[0] = work()
        except Exception as raised:  # told to all: none may wait for ever
            problem, sent[1] = raised, f"{type(raised).__name__}: {raised}"
    distributed.broadcast_object_list(sent)
    if problem is not None:
        raise problem
    if sent[1] is not None:
        raise CalibrationError(f"the main process stopped: {sent[1]}")
    result: T = sent[0]
    return result


def check_whole(trainer: Any) -> None:
    """Raise UsageError where no process holds the whole model."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if getattr(trainer, "is_fsdp_enabled", False):
        how = "FSDP"
    elif getattr(trainer, "is_deepspeed_enabled", False) and getattr(plugin, "zero_stage", 0) == 3:
        how = "DeepSpeed ZeRO-3"
    elif any(type(weight).__name__ == "DTensor" for weight in trainer.model.parameters()):
        how = "tensor parallelism"
    else:
        return
    raise UsageError(
        f"CalibrationCallback scores the model in one process, and {how} leaves no process with "
        "all weights; gate the saved checkpoints instead: "
        "pytest --calibration-model='runs/sft/checkpoint-*'."
    )
