"""The stages of the study: what is trained from what, with which settings, judged against whom.

Nothing here needs torch. A *run* is one training; its checkpoints are *stages*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest_calibration

HERE = Path(__file__).resolve().parent

SIZES = {
    "xs": {"hidden": 8, "layers": 1, "heads": 2},
    "s": {"hidden": 16, "layers": 1, "heads": 2},
    "m": {"hidden": 32, "layers": 2, "heads": 2},
    "l": {"hidden": 64, "layers": 2, "heads": 4},
    "xl": {"hidden": 128, "layers": 2, "heads": 4},
}
BASE = "l"
"""The size whose checkpoints are kept on the way, and from which all alignment starts."""

TRAINING_CODE = ("world.py", "cost.py", "recipes.py")
CODE = {
    "pretrain": ("world.py", "cost.py", "pretraining.py"),
    **dict.fromkeys(("sft", "dpo", "reward", "rloo"), (*TRAINING_CODE, "alignment.py")),
}
REMEDY_CODE = (*TRAINING_CODE, "remedies.py")


@dataclass(frozen=True)
class Stage:
    """One checkpoint.

    Attributes:
        name: unique, of letters, digits and dashes.
        parent: the stage it is trained from, and judged against; None for pretraining, which is
            held to a limit instead.
        kind: ``pretrain``, ``sft``, ``dpo``, ``reward``, ``rloo``, ``temperature``,
            ``label_smoothing``, ``cft``, ``rcft``, ``accuracy_only`` or ``ece_only``.
        settings: of the training; ``epoch`` or ``step`` say which checkpoint of the run it is.
        seed: of the training.
        run: the training it is a checkpoint of; its own name where it is the only one.
    """

    name: str
    parent: str | None
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        """Let a stage without a run be one."""
        if not self.run:
            object.__setattr__(self, "run", self.name)

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings of the whole training, the same for all of its checkpoints."""
        return {k: v for k, v in self.settings.items() if k not in ("epoch", "step")}


def pretraining(*, quick: bool) -> list[Stage]:
    """Return the scale sweep, with checkpoints of one size on the way."""
    sizes = ("xs", "m", "l") if quick else tuple(SIZES)
    steps = 900 if quick else 2400
    early = (25, 100, 300) if quick else (12, 25, 50, 100, 200, 400, 800, 1600)
    stages = []
    for size in sizes:
        settings = {"size": size, **SIZES[size], "steps": steps, "batch": 64, "rate": 3e-3}
        run = f"pretrain-{size}"
        marks = early if size == BASE else ()
        stages += [
            Stage(f"{run}-{at}", None, "pretrain", {**settings, "step": at}, run=run)
            for at in marks
        ]
        stages.append(Stage(run, None, "pretrain", {**settings, "step": steps}, run=run))
    return stages


def tuning(base: str, seed: int, *, quick: bool) -> list[Stage]:
    """Return instruction tuning: two data sets, two methods, each epoch a stage."""
    stages = []
    for dataset in ("diverse", "homogeneous"):
        for method in ("full", "lora"):
            run = f"sft-{dataset}-{method}-s{seed}"
            settings = {
                "dataset": dataset,
                "method": method,
                "epochs": 2 if quick else 3,
                "rate": 1e-3,
                "batch": 16,
            }
            stages += [
                Stage(f"{run}-e{epoch}", base, "sft", {**settings, "epoch": epoch}, seed, run)
                for epoch in range(1, settings["epochs"] + 1)
            ]
    return stages


def preference(seed: int, *, quick: bool) -> list[Stage]:
    """Return DPO, and a reward model with RLOO, both from the first epoch of diverse tuning."""
    parent = f"sft-diverse-full-s{seed}-e1"
    dpo = {"beta": 0.05, "epochs": 4, "rate": 5e-4, "batch": 16}
    reward = {"epochs": 3, "rate": 5e-4, "batch": 16}
    rloo = {
        "beta": 0.02,
        "steps": 10 if quick else 40,
        "rate": 3e-4,
        "prompts": 8,
        "generations": 8,
        "reward": f"reward-s{seed}",
    }
    return [
        Stage(f"dpo-s{seed}", parent, "dpo", dpo, seed),
        Stage(f"reward-s{seed}", parent, "reward", reward, seed),
        Stage(f"rloo-s{seed}", parent, "rloo", rloo, seed),
    ]


def remedies(seed: int, *, quick: bool, tried: bool) -> list[Stage]:
    """Return the remedies of one DPO model; where ``tried``, also with other settings."""
    parent = f"dpo-s{seed}"
    usual = {"epochs": 2 if quick else 3, "rate": 3e-4, "batch": 16}
    longer = {**usual, "epochs": 2 if quick else 6}

    def stage(name: str, kind: str, settings: Mapping[str, Any]) -> Stage:
        return Stage(f"{name}-s{seed}", parent, kind, settings, seed)

    def by_epoch(name: str, kind: str, settings: Mapping[str, Any]) -> list[Stage]:
        run = f"{name}-s{seed}"
        return [
            Stage(f"{run}-e{epoch}", parent, kind, {**settings, "epoch": epoch}, seed, run)
            for epoch in range(1, settings["epochs"] + 1)
        ]

    stages = [
        stage("temperature", "temperature", {}),
        stage("label-smoothing", "label_smoothing", {**usual, "smoothing": 0.1}),
        *by_epoch("cft", "cft", usual),
        stage("rcft", "rcft", {**longer, "lambda": 1.0}),
        stage("accuracy-only", "accuracy_only", longer),
        stage("ece-only", "ece_only", {**longer, "lambda": 1.0}),
    ]
    if tried:
        stages += [
            stage("plain-sft", "sft", {**usual, "dataset": "remedy", "method": "full"}),
            *(
                stage(f"rcft-{weight}", "rcft", {**longer, "lambda": float(weight)})
                for weight in (() if quick else ("0.3", "3", "10"))
            ),
            *(
                stage(f"cft-rate-{rate}", "cft", {**usual, "rate": float(rate)})
                for rate in (("1e-4",) if quick else ("1e-4", "1e-3"))
            ),
        ]
    return stages


def study(*, quick: bool = False, seeds: int | None = None) -> list[Stage]:
    """Return all stages, parents before children."""
    base = f"pretrain-{BASE}"
    seeds = seeds or (1 if quick else 5)
    stages = pretraining(quick=quick)
    for step in (
        lambda seed: tuning(base, seed, quick=quick),
        lambda seed: preference(seed, quick=quick),
        lambda seed: remedies(seed, quick=quick, tried=seed == 0),
    ):
        for seed in range(seeds):
            stages += step(seed)
    return stages


def runs(stages: Iterable[Stage]) -> dict[str, list[Stage]]:
    """Return the checkpoints of each run, in order."""
    found: dict[str, list[Stage]] = {}
    for stage in stages:
        found.setdefault(stage.run, []).append(stage)
    return found


def needs(stage: Stage) -> list[str]:
    """Return the names of the stages that must be there before its run can be trained."""
    return [name for name in (stage.parent, stage.settings.get("reward")) if name]


def code_of(kind: str) -> str:
    """Return a digest of the code that a kind of training depends on."""
    files = [HERE / name for name in CODE.get(kind, REMEDY_CODE)]
    if kind not in CODE:
        files += sorted((Path(pytest_calibration.__file__).parent / "remedies").glob("*.py"))
    return _digest([path.read_bytes().hex() for path in files])


def digests(stages: Iterable[Stage], code: Any = code_of) -> dict[str, str]:
    """Return a digest of each run: its stages, the code, and the digests of what it starts from.

    Args:
        stages: all of them, parents before children.
        code: from a kind to a digest of the code that matters for it.
    """
    found: dict[str, str] = {}
    codes: dict[str, str] = {}
    run_of: dict[str, str] = {}
    for run, checkpoints in runs(stages).items():
        first = checkpoints[0]
        if first.kind not in codes:
            codes[first.kind] = code(first.kind)
        before = [found[run_of[name]] for name in needs(first)]
        found[run] = _digest([[asdict(one) for one in checkpoints], codes[first.kind], before])
        run_of.update(dict.fromkeys((one.name for one in checkpoints), run))
    return found


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
