"""Made-up runs of the study, whose calibration is known, and the study's modules."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from histories import at_gap

from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import Predictions

STUDY = Path(__file__).parent.parent / "example_project" / "study"
PROBES = ("next-token", "facts", "questions", "out-of-domain")


def module(name: str) -> Any:
    """Return a module of the study."""
    sys.path.insert(0, str(STUDY))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(STUDY))


@cache
def _measured(gap: float, probe: str) -> tuple[Predictions, Line]:
    made = at_gap(gap, probe)
    return made, Line.of(made, model="a model")


def stage(name: str, kind: str, parent: str | None = None, seed: int = 0, **more: Any) -> Any:
    """Return a row of ``stages.json``; what is no field of it is a setting."""
    fields = {"run", "seconds", "verdicts", "train_accuracy", "extra"}
    told = {key: value for key, value in more.items() if key in fields}
    settings = {key: value for key, value in more.items() if key not in fields}
    return {
        "name": name,
        "kind": kind,
        "parent": parent,
        "seed": seed,
        "settings": settings,
        "seconds": 1.0,
        **told,
    }


def write_study(
    folder: Path,
    stages: Iterable[Mapping[str, Any]],
    gap: Callable[[Mapping[str, Any], str], float | None],
    *,
    probes: Iterable[str] = PROBES,
    items: bool = True,
    **table: Any,
) -> Path:
    """Write a run in which a stage has this gap on a probe; it was not measured where None."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = list(stages)
    document = {"stages": stages, **table}
    (folder / "stages.json").write_text(json.dumps(document), encoding="utf-8")
    lines, kept = [], []
    for one in stages:
        for probe in probes:
            value = gap(one, probe)
            if value is None:
                continue
            made, line = _measured(round(value / 0.005) * 0.005, probe)
            told = {"stage": one["name"], "model": f"runs/study/{one['name']}"}
            parent = one["parent"]
            lines.append(replace(line, **told, parent=f"runs/study/{parent}" if parent else ""))
            kept.append(made if items else None)
    History(folder / "history.jsonl").append(lines, kept)
    return folder
