"""Histories of checkpoints whose calibration is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from known_calibration import exact

from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import Predictions, Signature

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)


def at_gap(gap: float, probe: str = "facts", each: int = 200) -> Predictions:
    """Answers with exactly this gap at every confidence, on always the same items."""
    made = exact(dict.fromkeys(LEVELS, gap), each=each, probe=probe)
    return replace(made, signature=Signature({"shots": "0"}))


def write_history(
    path: Path,
    gaps: Mapping[int, float],
    *,
    run: str = "runs/sft",
    probe: str = "facts",
    parent: float | None = None,
    items: bool = True,
    **line: Any,
) -> History:
    """Add checkpoints with these gaps by step, after a parent with a gap if one is given."""
    file = History(path)
    if parent is not None:
        base = at_gap(parent, probe)
        file.append(Line.of(base, model="base"), base if items else None)
    for step, gap in gaps.items():
        p = at_gap(gap, probe)
        place = Checkpoint(f"{run}/checkpoint-{step}", step=step, **line)
        start = "" if parent is None else "base"
        file.append(Line.of(p, checkpoint=place, parent=start), p if items else None)
    return file
