"""How the ECE of a probe drifted: what was stored before, then what this session measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.gate.verdict import Past
    from pytest_calibration.reports.model import (
        Detail,
        DriftCourse,
        DriftReading,
        Number,
        Result,
        Results,
    )

# A verdict that fails for another reason, such as a missing baseline, does not mark its number.
JUDGED: Final = frozenset({"regressed", "above_limit", "inconclusive"})
# What a number in the name of a model must follow to be the step of a training.
STEP: Final = re.compile(
    r"(?:checkpoint|ckpt|step|epoch|iter)[-_= ]?(\d{1,18})(?!\d)", re.IGNORECASE
)


@dataclass(frozen=True)
class Point:
    """One measurement of a probe.

    Attributes:
        model: name of the model; empty where it is not known.
        kind: ``replaced``, ``baseline``, ``history`` or ``this run``, and what else is to be said.
        n: number of items.
        ece: its ECE.
        accuracy: share of correct answers.
        low: lower end of the 95 % interval of the ECE, where it is known.
        high: upper end.
        floor: what a calibrated model would show on average, where it is known.
        reason: why it was replaced.
        verdict: number of the first verdict on it in this session; None for what was stored.
        fails: whether a verdict fails for what it measured; in a history, whether it is worse than
            the first beyond doubt.
        follows: position of the point that it came after; None where that is not known.
    """

    model: str
    kind: str
    n: int
    ece: float
    accuracy: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    reason: str = ""
    verdict: int | None = None
    fails: bool = False
    follows: int | None = None


@dataclass(frozen=True)
class Drift:
    """The measurements of one probe, in order.

    Attributes:
        probe: its name.
        points: two or more.
        run: the training run, of a history; else empty.
        sentences: what a history comes to.
    """

    probe: str
    points: tuple[Point, ...]
    run: str = ""
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Measured:
    """A verdict with its number, and what it measured.

    Attributes:
        place: number of the verdict in the session, from 1.
        result: the verdict.
        detail: what stands behind it.
        ece: the ECE among its metrics.
    """

    place: int
    result: Result
    detail: Detail
    ece: Number


def all_drifts(results: Results) -> list[Drift]:
    """Return what the history holds; of probes that are not in it, what this session saw."""
    kept = [_of_history(course, results.results) for course in results.drifts]
    known = {drift.probe for drift in kept}
    return [*kept, *(drift for drift in drifts(results.results) if drift.probe not in known)]


def _of_history(course: DriftCourse, results: Sequence[Result]) -> Drift:
    points = []
    for i, r in enumerate(course.readings):
        kind = "this run" if r.now else "history"
        marks = [", worse than the first"] * r.worse + [", best"] * r.best
        points.append(
            Point(
                r.model if r.label == "parent" else _placed(course.axis, r.label),
                kind + "".join(marks),
                r.n,
                r.ece,
                r.accuracy,
                r.low,
                r.high,
                r.noise_floor,
                verdict=_verdict_on(r, course.probe, results) if r.now else None,
                fails=r.worse,
                follows=i - 1 if i else None,
            )
        )
    return Drift(course.probe, tuple(points), course.run, course.sentences)


def _placed(axis: str, label: str) -> str:
    return f"{axis} {label}" if axis in ("step", "epoch") else label


def _verdict_on(reading: DriftReading, probe: str, results: Sequence[Result]) -> int | None:
    """Return the number of the first verdict on what was measured; None where there is none."""
    for place, result in enumerate(results, start=1):
        if result.probe == probe and result.detail is not None:
            ece = result.detail.candidate.metrics.get("ece")
            # The history keeps six digits.
            if ece is not None and math.isclose(ece.value, reading.ece, rel_tol=1e-5):
                return place
    return None


def drifts(results: Iterable[Result]) -> list[Drift]:
    """Return a drift for each probe of which there are two measurements or more.

    Measurements are compared where they are of one probe with the same settings that must agree,
    and do not belong to different stored histories.
    """
    by_probe: dict[tuple[object, ...], list[_Measured]] = {}
    for place, result in enumerate(results, start=1):
        if result.detail is not None and "ece" in result.detail.candidate.metrics:
            side = result.detail.candidate
            key = (result.probe, *sorted(side.hard.items()))
            measured = _Measured(place, result, result.detail, side.metrics["ece"])
            by_probe.setdefault(key, []).append(measured)
    found = []
    for members in by_probe.values():
        pasts = [*dict.fromkeys(m.detail.past for m in members if m.detail.past)]
        if len(pasts) <= 1:
            found.append(_drift(members, pasts[0] if pasts else ()))
            continue
        for past in (*pasts, ()):
            found.append(_drift([m for m in members if m.detail.past == past], past))
    return [drift for drift in found if len(drift.points) > 1]


def _drift(members: Sequence[_Measured], past: Iterable[Past]) -> Drift:
    stored = [
        Point(
            p.model,
            "replaced" if p.replaced else "baseline",
            p.n,
            p.ece,
            p.accuracy,
            reason=p.replaced,
        )
        for p in past
    ]
    # Several verdicts may be about one measurement.
    same: dict[tuple[object, ...], list[_Measured]] = {}
    for m in members:
        key = (m.result.source, m.detail.candidate.n, m.ece, m.result.accuracy)
        same.setdefault(key, []).append(m)
    measured = [
        Point(
            first.result.source,
            "this run",
            first.detail.candidate.n,
            first.ece.value,
            first.result.accuracy,
            first.ece.low,
            first.ece.high,
            first.ece.noise_floor,
            verdict=first.place,
            fails=any(m.result.fails and m.result.state in JUDGED for m in (first, *others)),
        )
        for first, *others in same.values()
    ]
    points = _in_time(stored, measured)
    return Drift(members[0].result.probe if members else "", points)


def _in_time(stored: Sequence[Point], measured: Sequence[Point]) -> tuple[Point, ...]:
    """Return all points, each with the one that it came after.

    What was stored is a history. Models of one run are siblings: each came after the stored
    baseline, and not after the other, unless their names differ only in the number of a step, which
    grows: the checkpoints of one training.
    """
    points = [replace(p, follows=i - 1 if i else None) for i, p in enumerate(stored)]
    # Name without its step: the last step, and the position of its point.
    latest: dict[str, tuple[int, int]] = {}
    for p in measured:
        name, step = _step(p.model)
        step_before, at = latest.get(name, (-1, len(stored) - 1))
        follows = at if step is not None and step > step_before else len(stored) - 1
        points.append(replace(p, follows=follows if follows >= 0 else None))
        if step is not None:
            latest[name] = step, len(points) - 1
    return tuple(points)


def _step(model: str) -> tuple[str, int | None]:
    """Return a name without the step of a training, and the step: of ``checkpoint-400``, 400."""
    found = STEP.search(model)
    if found is None:
        return model, None
    return f"{model[: found.start(1)]}#{model[found.end(1) :]}", int(found[1])
