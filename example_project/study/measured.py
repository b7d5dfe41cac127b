"""What the study measured: its stages with their lines of the history, by seed.

``stages.json`` tells what was done (which model was trained from which, how, at what cost); the
history, written by the plugin, tells what came of it. A line belongs to the stage of its name, or
whose folder it measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import stages

from pytest_calibration import History
from pytest_calibration.errors import HistoryError, UsageError
from pytest_calibration.history.lines import Line
from pytest_calibration.input_files import read_text
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.documents import converted

HERE: Final = Path(__file__).resolve().parent
RUNS: Final = HERE.parent / "runs" / "study"
MOST_BYTES: Final = 1 << 26
# In the order of the pipeline.
KINDS: Final = (
    "pretrain", "sft", "reward", "dpo", "rloo", "temperature", "label_smoothing", "cft", "rcft",
    "accuracy_only", "ece_only",
)  # fmt: skip


@dataclass(frozen=True)
class Stage(stages.Stage):
    """A stage, and what came of it.

    Attributes:
        seconds: that its training took.
        verdicts: state of the gate's verdict against the parent, by probe.
        train_accuracy: on what it was trained on; None where it was not measured.
        extra: further numbers.
    """

    seconds: float = 0.0
    verdicts: Mapping[str, str] = field(default_factory=dict)
    train_accuracy: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name without the seed."""
        return re.sub(rf"-s{self.seed}(?=-|$)", "", self.name)

    def has(self, settings: Mapping[str, Any]) -> bool:
        """Whether it was made with these settings."""
        return all(self.settings.get(name) == value for name, value in settings.items())


@dataclass(frozen=True)
class Table:
    """The file ``stages.json``.

    Attributes:
        stages: in the order in which they were made.
        scale: how much was trained: ``quick``, ``full`` or ``large``.
        device: on which it ran.
    """

    stages: tuple[Stage, ...]
    scale: str = "full"
    device: str = "cpu"


class Study:
    """The stages of a run and what was measured of them.

    Args:
        table: the stages.
        history: what the plugin measured.

    Raises:
        HistoryError: the history cannot be read.
        UsageError: two stages have one name, a kind is not known, or a parent is no stage.
    """

    def __init__(self, table: Table, history: History) -> None:
        self.table, self.history = table, history
        self.stages = {stage.name: stage for stage in table.stages}
        if len(self.stages) < len(table.stages):
            names = [stage.name for stage in table.stages]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"stages.json: two stages are named {twice!r}; each needs its own.")
        for stage in table.stages:
            if stage.kind not in KINDS:
                raise UsageError(
                    f"stages.json: {stage.name!r} is of the unknown kind {stage.kind!r}; known "
                    f"kinds: {', '.join(KINDS)}."
                )
            if stage.parent and stage.parent not in self.stages:
                raise UsageError(
                    f"stages.json: the parent {stage.parent!r} of {stage.name!r} is no stage; the "
                    f"stages are {', '.join(self.stages)}."
                )
        self.lines: dict[tuple[str, str], Line] = {}
        for line in history.read():
            name = self._name_of(line)
            if name:
                self.lines[name, line.probe] = line
        self._items: dict[tuple[str, str], Predictions | None] = {}

    @classmethod
    def read(cls, folder: Path = RUNS) -> Study:
        """Read ``stages.json`` and ``history.jsonl`` in a folder.

        Raises:
            HistoryError: the history is not there, or cannot be read.
            UsageError: ``stages.json`` is not there, or is no table of stages.
        """
        file = folder / "stages.json"
        if not file.exists():
            raise UsageError(
                f"{file} is not there: {folder} holds no study. Run one with tox -e study, or name "
                "the folder of one."
            )
        text = read_text(file, MOST_BYTES, UsageError)
        try:
            table = converted(json.loads(text), Table, "the table")
        except ValueError as problem:
            raise UsageError(f"{file}: {problem}; run the study to write it anew.") from None
        return cls(table, History(folder / "history.jsonl"))

    def _name_of(self, line: Line) -> str:
        """Return the stage of a line; empty for a model that is none."""
        if line.stage in self.stages:
            return line.stage
        parts = Path(line.model).parts
        names = ("/".join(parts[i:]) for i in range(len(parts)))
        return next((name for name in names if name in self.stages), "")

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all stages, in order."""
        return tuple(sorted({stage.seed for stage in self.table.stages}))

    @cached_property
    def shown_seed(self) -> int:
        """The seed whose checkpoints are shown one by one: the first that was measured."""
        return min((self.stages[name].seed for name, _ in self.lines), default=0)

    @cached_property
    def probes(self) -> tuple[str, ...]:
        """The probes of all lines, in the order of the history."""
        return tuple(dict.fromkeys(probe for _, probe in self.lines))

    @property
    def dates(self) -> tuple[str, str]:
        """First and last day on which something was measured."""
        days = sorted(line.time[:10] for line in self.lines.values())
        if not days:
            raise HistoryError(f"{self.history.path}: has no line of a stage of stages.json.")
        return days[0], days[-1]

    def of(self, seed: int, kind: str, **settings: Any) -> list[Stage]:
        """Return the stages of a seed and kind with these settings."""
        return [
            stage
            for stage in self.table.stages
            if stage.seed == seed and stage.kind == kind and stage.has(settings)
        ]

    def ancestor(self, stage: Stage) -> Stage | None:
        """Return what it was trained from: the first ancestor of another kind; None for none."""
        seen = {stage.name}
        above = self._parent(stage)
        while above is not None and above.kind == stage.kind and above.name not in seen:
            seen.add(above.name)
            above = self._parent(above)
        return above

    def base(self, stage: Stage) -> Stage | None:
        """Return the pretrained model at the start of its chain; None for none."""
        above: Stage | None = stage
        for _ in self.stages:
            if above is None or (above.kind == "pretrain" and above is not stage):
                return above
            above = self._parent(above)
        return None

    def _parent(self, stage: Stage) -> Stage | None:
        return self.stages[stage.parent] if stage.parent else None

    def line(self, stage: Stage, probe: str) -> Line | None:
        """Return what was measured of a stage last; None where nothing was."""
        return self.lines.get((stage.name, probe))

    def items(self, stage: Stage, probe: str) -> Predictions | None:
        """Return the items of a stage; None where none are kept.

        Raises:
            HistoryError: their file is damaged.
        """
        key = stage.name, probe
        if key not in self._items:
            line = self.line(stage, probe)
            self._items[key] = None if line is None else self.history.predictions(line)
        return self._items[key]

    def verdict(self, stage: Stage, probe: str) -> str:
        """Return the state of the gate's verdict on a stage; empty where none was reached."""
        line = self.line(stage, probe)
        return stage.verdicts.get(probe) or ("" if line is None else line.verdict)

    def measured(self, seed: int) -> Iterator[Stage]:
        """Yield the stages of a seed of which something was measured, in the pipeline's order."""
        known = {name for name, _ in self.lines}
        mine = [one for one in self.table.stages if one.seed == seed and one.name in known]
        return iter(sorted(mine, key=self._place))

    def _place(self, stage: Stage) -> int:
        """Return where a stage stands in the pipeline: not before its parent."""
        places = [KINDS.index(one.kind) for one in (stage, self._parent(stage)) if one is not None]
        return max(places)
