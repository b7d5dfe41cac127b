"""The lines of one probe along one training run, in order: what drift is judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pytest_calibration.errors import HistoryError, suggestion
from pytest_calibration.history.checkpoints import run_of
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line, Number, shown
from pytest_calibration.predictions import Predictions
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import visible

Axis: TypeAlias = Literal["step", "epoch", "tokens", "stage", "order"]


@dataclass(frozen=True)
class Series:
    """The measurements of one probe along one training run, or along stages.

    Attributes:
        probe: name of the probe.
        run: the folder of the run, or its name on the hub; ``models from PARENT`` where several
            models were trained from one; empty for all others, such as stages in a row.
        lines: K lines in order, the parent first if there is one; all asked alike.
        at: (K,) where each stands on the axis; the parent at 0.
        axis: what that is: the step, the epoch, the tokens seen, or the place in the order of the
            file, where stages stand.
        has_parent: whether the first line is that of the parent.
        siblings: whether several of the models were trained from the parent.
        left_out: what does not count, and why, a sentence each.
    """

    probe: str
    run: str
    lines: tuple[Line, ...]
    at: tuple[float, ...]
    axis: Axis
    has_parent: bool = False
    siblings: bool = False
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def name(self) -> str:
        """What a sentence calls it: ``facts along runs/sft``."""
        return visible(f"{self.probe} along {self.run}" if self.run else self.probe)

    @property
    def start(self) -> str:
        """What a sentence calls the first line: ``the parent runs/base``."""
        return f"the parent {shown(self.lines[0])}" if self.has_parent else "the first checkpoint"

    def label(self, place: int) -> str:
        """Name a line in a table by where it stands: ``400``, or the name of its stage."""
        line = self.lines[place]
        if place == 0 and self.has_parent:
            return "parent"
        if self.axis in ("stage", "order"):
            return visible(line.stage) or shown(line)
        return f"{self.at[place]:,.10g}"

    def over(self, axis: Axis) -> Series:
        """Return the same lines along another axis, in its order.

        Raises:
            HistoryError: a line does not tell where it stands there.
        """
        if axis == self.axis:
            return self
        first = int(self.has_parent)
        rest = self.lines[first:]
        if axis in ("stage", "order"):
            if axis == "stage" and not all(line.stage for line in rest):
                raise HistoryError(_unknown(self.name, rest, axis))
            at = tuple(float(k) for k in range(len(self)))
            return replace(self, at=at, axis=axis)
        if any(getattr(line, axis) is None for line in rest):
            raise HistoryError(_unknown(self.name, rest, axis))
        ordered = sorted(rest, key=lambda line: _at(line, axis))
        at = (*[0.0] * first, *(_at(line, axis) for line in ordered))
        return replace(self, lines=(*self.lines[:first], *ordered), at=at, axis=axis)

    def numbers(self, metric: str) -> list[Number | None]:
        """Return (K,) a metric of each line; None where it has none."""
        return [line.metrics.get(metric) for line in self.lines]

    def predictions(self, history: History) -> list[Predictions | None]:
        """Return (K,) the items of each line; None where none are kept.

        Raises:
            HistoryError: a file of items is damaged.
        """
        return [history.predictions(line) for line in self.lines]


def all_series(
    lines: Iterable[Line], *, probe: str | None = None, run: str | None = None
) -> list[Series]:
    """Return the series that lines make: one for each run and probe, in order of the file.

    - Checkpoints of one folder, or revisions of one name on the hub, are a run; of a checkpoint
      that was measured several times, the last line counts.
    - All other models, stages for one, make up a series in order of the file. One model measured
      again and again, say at every commit, has a point for each; of several, each has one. Where
      several of them were trained from one, these and what was trained from them are a series.
    - The parent of these lines stands at 0.
    - What was asked otherwise than the last line of a series is left out, and said.

    Args:
        lines: of a history.
        probe: its series only.
        run: its series only.

    Raises:
        HistoryError: there is no such probe or run.
    """
    lines = list(lines)
    folders = {run_of(line.model, line.revision) for line in lines}
    single = [line for line in lines if not _run(line, folders)]
    branches = _branches(single)
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        branch = branches.get(line.model_text, "")
        name = _run(line, folders) or (branch and f"models from {branch}")
        groups.setdefault((name, line.probe), []).append(line)
    parents = {(line.model_text, line.probe): line for line in lines}
    for what, wanted, known in (
        ("probe", probe, {line.probe: None for line in lines}),
        ("run", run, dict.fromkeys(name for name, _ in groups)),
    ):
        if wanted is not None and wanted not in known:
            names = ", ".join(map(visible, filter(None, known))) or "none"
            raise HistoryError(
                f"the history has no {what} {wanted!r}{suggestion(wanted, known)}; it has {names}."
            )
    out = [
        _series(name, one, group, parents, branches)
        for (name, one), group in groups.items()
        if probe in (None, one) and run in (None, name)
    ]
    # A parent stands in the series of its children; alone it is none.
    children = {(line.parent, line.probe) for line in lines}
    alone = [
        one
        for one in out
        if not one.has_parent and {(line.model_text, one.probe) for line in one.lines} <= children
    ]
    return [one for one in out if run is not None or one not in alone]


def _run(line: Line, folders: set[str]) -> str:
    """Return the run of a line; the last model, beside its checkpoints, belongs to their run."""
    if line.step is None and line.epoch is None:
        return ""
    run = run_of(line.model, line.revision)
    if run or line.revision:
        return run
    above = run_of(f"{line.model}-step0")
    return above if above in folders else ""


def _branches(lines: list[Line]) -> dict[str, str]:
    """Return for models the nearest ancestor from which several models were trained."""
    parent = {line.model_text: line.parent for line in lines if line.parent}
    children = Counter(parent.values())
    found = {}
    for model in parent:
        seen, above = {model}, parent.get(model, "")
        while above and children[above] < 2 and above not in seen:
            seen.add(above)
            above = parent.get(above, "")
        if children[above] > 1:
            found[model] = above
    return found


def _series(
    run: str,
    probe: str,
    lines: list[Line],
    parents: dict[tuple[str, str], Line],
    branches: dict[str, str],
) -> Series:
    last = lines[-1]
    branch = branches.get(last.model_text, "")
    siblings = bool(branch) and run == f"models from {branch}"
    alike = [line for line in lines if line.signature == last.signature]
    left_out = []
    if len(alike) < len(lines):
        left_out.append(
            f"{counted(len(lines) - len(alike), 'line')} of {probe} left out: asked otherwise than "
            f"{shown(last)} (another signature)."
        )
    points = list(_last_of_each(alike)) if run or len(_models(alike)) > 1 else alike
    parent = branch if siblings else next((p.parent for p in reversed(points) if p.parent), "")
    first = parents.get((parent, probe))
    seen = {parent}
    # Of stages, the first one: what the parent of the last was trained from.
    while not run and first is not None and first.parent and first.parent not in seen:
        parent = first.parent
        first = parents.get((parent, probe))
        seen.add(parent)
    points = [line for line in points if line is not first and line.model_text != parent]
    if parent and first is None:
        left_out.append(f"the parent {visible(parent)} was not measured on {probe}.")
    elif first is not None and first.signature != last.signature:
        left_out.append(
            f"the parent {shown(first)} left out: asked otherwise than {shown(last)} (another "
            "signature)."
        )
        first = None
    axis = _axis(points) if run and not siblings else "order"
    if axis != "order":
        points.sort(key=lambda line: _at(line, axis))
    start = [] if first is None else [first]
    at = [_at(line, axis) for line in points]
    if axis == "order":
        at = [float(i) for i in range(len(start), len(start) + len(points))]
    return Series(
        probe=probe,
        run=run,
        lines=(*start, *points),
        at=(*([0.0] if start else []), *at),
        axis=axis,
        has_parent=bool(start),
        siblings=siblings,
        left_out=tuple(left_out),
    )


def _models(lines: list[Line]) -> set[str]:
    return {line.model_text for line in lines}


def _last_of_each(lines: list[Line]) -> Iterable[Line]:
    """Return the last line of each model, in the order of the first ones."""
    return {line.model_text: line for line in lines}.values()


def _axis(lines: list[Line]) -> Axis:
    if all(line.step is not None for line in lines):
        return "step"
    return "epoch" if all(line.epoch is not None for line in lines) else "order"


def _unknown(name: str, lines: Iterable[Line], axis: Axis) -> str:
    line = next(line for line in lines if not getattr(line, axis))
    what = "name a stage" if axis == "stage" else f"know its {axis}"
    return f"{name} has no axis of {axis}: {shown(line)} does not {what}; choose another --over."


def _at(line: Line, axis: Axis) -> float:
    value = getattr(line, axis, None)
    return 0.0 if value is None else float(value)
