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
    """Return a module of the study; none of those that tests use needs torch."""
    added = [str(STUDY), str(STUDY.parent)]
    sys.path[:0] = added
    try:
        return importlib.import_module(name)
    finally:
        for folder in added:
            sys.path.remove(folder)


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


def whole_study(seeds: int = 2) -> list[Any]:
    """Return stages of every kind, named as the study names them."""
    stages = [
        stage(f"pretrain-{size}{place}", "pretrain", run=f"pretrain-{size}", size=size, step=step,
              extra={"parameters": many})
        for size, many, steps in (("s", 5000, [90]), ("m", 30000, [90]), ("l", 90000, [5, 20, 90]))
        for step in steps
        for place in ["" if step == 90 else f"-{step}"]
    ]  # fmt: skip
    for seed in range(seeds):
        for dataset in ("diverse", "homogeneous"):
            for method in ("full", "lora"):
                run = f"sft-{dataset}-{method}-s{seed}"
                told = {"dataset": dataset, "method": method, "epochs": 2}
                diversity = {"distinct_2": 0.5 if dataset == "diverse" else 0.1}
                stages += [
                    stage(f"{run}-e{epoch}", "sft", "pretrain-l", seed, run=run, epoch=epoch,
                          extra={"diversity": diversity}, **told)
                    for epoch in (1, 2)
                ]  # fmt: skip
        tuned, aligned = f"sft-diverse-full-s{seed}-e1", f"dpo-s{seed}"
        stages += [
            stage(
                name,
                kind,
                parent,
                seed,
                epochs=2,
                extra={
                    "train_seconds": 10.0,
                    "forward_passes": 600,
                    **({"reward_accuracy": 0.6} if kind == "reward" else {}),
                },
            )
            for name, kind, parent in (
                (aligned, "dpo", tuned),
                (f"reward-s{seed}", "reward", tuned),
                (f"rloo-s{seed}", "rloo", tuned),
                (f"temperature-s{seed}", "temperature", aligned),
                (f"label-smoothing-s{seed}", "label_smoothing", aligned),
                (f"cft-s{seed}", "cft", aligned),
                (f"rcft-s{seed}", "rcft", aligned),
                (f"accuracy-only-s{seed}", "accuracy_only", aligned),
                (f"ece-only-s{seed}", "ece_only", aligned),
            )
        ]
    plain = {
        "dataset": "remedy",
        "epochs": 2,
        "extra": {"train_seconds": 8.0, "forward_passes": 400},
    }
    return [*stages, stage("plain-sft-s0", "sft", "dpo-s0", **plain)]


def gap_of(one: Mapping[str, Any], probe: str) -> float | None:
    """Return a gap for each stage of a whole study; a reward model is not measured."""
    if one["kind"] in ("dpo", "accuracy_only"):
        return 0.2 - 0.005 * one["seed"]
    if one["kind"] == "sft":
        return 0.1 if one["settings"].get("method") == "full" else 0.02
    return None if one["kind"] == "reward" else 0.01
