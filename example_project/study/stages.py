"""The stages of the study: what is trained from what, with which settings, judged against whom.

Nothing here needs torch. A *run* is one training; its checkpoints are *stages*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest_calibration

HERE = Path(__file__).resolve().parent

BASE = "l"
"""The size whose checkpoints are kept on the way, and from which all alignment starts."""


@dataclass(frozen=True)
class Scale:
    """How much is trained.

    Attributes:
        sizes: width, layers and heads of each model of the scale sweep.
        steps: of pretraining.
        marks: steps of the base model after which a checkpoint is kept, beside the last.
        tuning_epochs: of instruction tuning; each is a checkpoint.
        online_steps: of the policy gradient.
        epochs: of a remedy; each of CFT is a checkpoint.
        more_epochs: of RCFT and the parts of its loss.
        weights: further ones of RCFT's calibration loss.
        rates: further learning rates of CFT.
        seeds: of all that follows pretraining.
        device: on which it is trained.
    """

    sizes: Mapping[str, tuple[int, int, int]]
    steps: int
    marks: tuple[int, ...]
    tuning_epochs: int
    online_steps: int
    epochs: int
    more_epochs: int
    weights: tuple[str, ...]
    rates: tuple[str, ...]
    seeds: int
    device: str = "cpu"


SIZES = {"xs": (8, 1, 2), "s": (16, 1, 2), "m": (32, 2, 2), "l": (64, 2, 4), "xl": (128, 2, 4)}
FULL = Scale(
    sizes=SIZES,
    steps=4800,
    marks=(12, 25, 50, 100, 200, 500, 1200, 2400),
    tuning_epochs=3,
    online_steps=40,
    epochs=3,
    more_epochs=6,
    weights=("0.3", "3", "10"),
    rates=("1e-4", "1e-3"),
    seeds=5,
)
SCALES = {
    "quick": Scale(
        sizes={name: SIZES[name] for name in ("xs", "m", "l")},
        steps=3000,
        marks=(50, 200, 800),
        tuning_epochs=2,
        online_steps=10,
        epochs=2,
        more_epochs=2,
        weights=(),
        rates=("1e-4",),
        seeds=1,
    ),
    "full": FULL,
    "large": replace(
        FULL,
        sizes={
            **{"xs": (64, 2, 4), "s": (128, 4, 4), "m": (256, 4, 8)},
            **{"l": (384, 6, 8), "xl": (512, 8, 8)},
        },
        device="cuda",
    ),
}

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


def pretraining(scale: Scale) -> list[Stage]:
    """Return the scale sweep, with checkpoints of one size on the way."""
    stages = []
    for size, (hidden, layers, heads) in scale.sizes.items():
        # Larger models take smaller steps.
        rate = 3e-3 * min(1.0, 128 / hidden)
        settings = {
            "size": size,
            **{"hidden": hidden, "layers": layers, "heads": heads},
            **{"steps": scale.steps, "batch": 32, "rate": rate},
        }
        run = f"pretrain-{size}"
        marks = scale.marks if size == BASE else ()
        stages += [
            Stage(f"{run}-{at}", None, "pretrain", {**settings, "step": at}, run=run)
            for at in marks
        ]
        stages.append(Stage(run, None, "pretrain", {**settings, "step": scale.steps}, run=run))
    return stages


def tuning(scale: Scale, seed: int) -> list[Stage]:
    """Return instruction tuning: two data sets, two methods, each epoch a stage."""
    stages = []
    for dataset in ("diverse", "homogeneous"):
        for method in ("full", "lora"):
            run = f"sft-{dataset}-{method}-s{seed}"
            settings = {
                **{"dataset": dataset, "method": method},
                **{"epochs": scale.tuning_epochs, "rate": 1e-3, "batch": 16},
            }
            stages += [
                Stage(
                    f"{run}-e{epoch}", f"pretrain-{BASE}", "sft", {**settings, "epoch": epoch},
                    seed, run,
                )
                for epoch in range(1, scale.tuning_epochs + 1)
            ]  # fmt: skip
    return stages


def preference(scale: Scale, seed: int) -> list[Stage]:
    """Return DPO, and a reward model with RLOO, both from the first epoch of diverse tuning."""
    parent = f"sft-diverse-full-s{seed}-e1"
    dpo = {"beta": 0.05, "epochs": 4, "rate": 5e-4, "batch": 16}
    reward = {"epochs": 3, "rate": 5e-4, "batch": 16}
    rloo = {
        **{"beta": 0.02, "steps": scale.online_steps, "rate": 3e-4},
        **{"prompts": 8, "generations": 8, "reward": f"reward-s{seed}"},
    }
    return [
        Stage(f"dpo-s{seed}", parent, "dpo", dpo, seed),
        Stage(f"reward-s{seed}", parent, "reward", reward, seed),
        Stage(f"rloo-s{seed}", parent, "rloo", rloo, seed),
    ]


def remedies(scale: Scale, seed: int) -> list[Stage]:
    """Return the remedies of one DPO model; of the first seed, also with other settings."""
    parent = f"dpo-s{seed}"
    usual = {"epochs": scale.epochs, "rate": 3e-4, "batch": 16}
    longer = {**usual, "epochs": scale.more_epochs}

    def stage(name: str, kind: str, settings: Mapping[str, Any]) -> Stage:
        return Stage(f"{name}-s{seed}", parent, kind, settings, seed)

    run = f"cft-s{seed}"
    stages = [
        stage("temperature", "temperature", {}),
        stage("label-smoothing", "label_smoothing", {**usual, "smoothing": 0.1}),
        *(
            Stage(f"{run}-e{epoch}", parent, "cft", {**usual, "epoch": epoch}, seed, run)
            for epoch in range(1, scale.epochs + 1)
        ),
        stage("rcft", "rcft", {**longer, "lambda": 1.0}),
        stage("accuracy-only", "accuracy_only", longer),
        stage("ece-only", "ece_only", {**longer, "lambda": 1.0}),
    ]
    if seed == 0:
        stages.append(stage("plain-sft", "sft", {**usual, "dataset": "remedy", "method": "full"}))
        for weight in scale.weights:
            settings = {**longer, "lambda": float(weight)}
            stages.append(stage(f"rcft-{weight}", "rcft", settings))
        for rate in scale.rates:
            stages.append(stage(f"cft-rate-{rate}", "cft", {**usual, "rate": float(rate)}))
    return stages


def study(scale: Scale = FULL, seeds: int | None = None) -> list[Stage]:
    """Return all stages, parents before children."""
    stages = pretraining(scale)
    for step in (tuning, preference, remedies):
        for seed in range(seeds or scale.seeds):
            stages += step(scale, seed)
    # Where it is trained changes the last digits.
    device = {} if scale.device == "cpu" else {"device": scale.device}
    return [replace(one, settings={**one.settings, **device}) for one in stages]


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
