"""What a probe does by itself: one model asked again, and asked otherwise, with nothing changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import numpy as np

from pytest_calibration.errors import ProbeError
from pytest_calibration.gate.components import Paired
from pytest_calibration.gate.decision import State, decide
from pytest_calibration.gate.planning import smallest_visible_unpaired
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.metrics import accuracy, ece, signed_gap
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.predictions.item_text import ItemText

# What rounding in float32 moves no confidence by.
ROUNDING: Final = 1e-3
# What no difference of two sums in float64 is below, but 0.
SMALLEST: Final = 1e-15
AnswerNamed = Callable[[ItemText], str]


class Disturbance(StrEnum):
    """What is otherwise in a run, while model and items are the same."""

    REPEAT = "repeat"
    BATCH = "batch"
    DRAWS = "draws"
    OPTIONS = "options"
    SHOTS = "shots"

    @property
    def between_runs(self) -> bool:
        """Whether baseline and candidate differ in it, so that it takes from the tolerance.

        The order of the options and the examples are the same on both sides. A seed is, too, but
        another model draws other answers with it.
        """
        return self not in (Disturbance.OPTIONS, Disturbance.SHOTS)


@dataclass(frozen=True)
class Movement:
    """How far a number moved from the run that was not disturbed.

    Attributes:
        mean: mean change over the runs.
        spread: standard deviation of the change; NaN for one run.
        largest: the largest change, without its sign.
    """

    mean: float
    spread: float
    largest: float

    @classmethod
    def of(cls, before: float, after: Sequence[float]) -> Movement:
        """Compare the values of some runs with that of another."""
        changes = np.array(after) - before
        spread = float(changes.std(ddof=1)) if len(changes) > 1 else math.nan
        return cls(float(changes.mean()), spread, float(np.abs(changes).max()))


@dataclass(frozen=True)
class Noise:
    """How far one disturbance moves what a probe measures.

    Attributes:
        disturbance: what was otherwise.
        runs: in how many runs.
        confidence_mean: mean change of an item's confidence, without its sign.
        confidence_largest: the largest one, of all items and runs.
        answers: share of the answers that are others; None where the answers are not known.
        outcomes: share of the outcomes that turned, from right to wrong or back.
        ece: of the ECE.
        signed_gap: of mean confidence minus accuracy.
        accuracy: of the accuracy.
        states: in how many runs the gate came to each state, with the undisturbed run as baseline.
        levels: least, mean and largest ECE of all runs, the undisturbed one among them.
    """

    disturbance: Disturbance
    runs: int
    confidence_mean: float
    confidence_largest: float
    answers: float | None
    outcomes: float
    ece: Movement
    signed_gap: Movement
    accuracy: Movement
    states: Mapping[State, int]
    levels: tuple[float, float, float]

    @property
    def is_none(self) -> bool:
        """Whether no confidence and no outcome moved at all."""
        return self.confidence_largest == 0 and self.outcomes == 0

    @property
    def calibration(self) -> float:
        """How far ECE or the signed gap moved, whichever is more."""
        return max(self.ece.largest, self.signed_gap.largest)

    @property
    def failed(self) -> int:
        """Number of runs that the gate fails although nothing changed."""
        return self.states.get(State.REGRESSED, 0)


class Finding(StrEnum):
    """What the noise of a probe means; :class:`Conclusion` has the numbers."""

    NOTHING_BETWEEN_RUNS = "nothing between runs"
    BELOW_TOLERANCE = "below the tolerance"
    ABOVE_TOLERANCE = "above the tolerance"
    GATE_FAILS = "the gate fails"
    UNDECIDED = "undecided"
    BEYOND_ROUNDING = "beyond rounding"
    NO_EFFECT = "no effect"
    LEVEL = "level"


@dataclass(frozen=True)
class Conclusion:
    """One conclusion, as values.

    Attributes:
        finding: what it says.
        disturbances: which it is about.
        runs: in how many runs it was seen.
        amount: how far ECE or the signed gap move (a confidence, for ``BEYOND_ROUNDING``).
        share: of the answers that change (``LEVEL``; None where answers are not known), of the runs
            that the gate fails (``ABOVE_TOLERANCE``, ``GATE_FAILS``) or does not decide
            (``UNDECIDED``).
        times: the tolerance over the amount (``BELOW_TOLERANCE``, ``ABOVE_TOLERANCE``).
        ece: least, mean and largest ECE of all runs, the undisturbed one among them (``LEVEL``).
        dtype: of the model, where it is known (``BEYOND_ROUNDING``).
    """

    finding: Finding
    disturbances: tuple[Disturbance, ...]
    runs: int
    amount: float = math.nan
    share: float | None = None
    times: float = math.nan
    ece: tuple[float, float, float] | None = None
    dtype: str = ""

    @classmethod
    def on(cls, finding: Finding, noises: Sequence[Noise], **values: Any) -> Self:
        """Return a conclusion about some disturbances."""
        names = tuple(noise.disturbance for noise in noises)
        return cls(finding, names, sum(noise.runs for noise in noises), **values)


@dataclass(frozen=True)
class NoiseReport:
    """What a probe does by itself, and what that means for the gate.

    Attributes:
        measurement: ECE of the undisturbed run.
        strictness: of the gate.
        smallest_visible: the smallest shift that the gate sees on such items with 80 % power,
            before a candidate is known.
        noises: what each disturbance moves.
        not_applied: disturbances that this probe cannot have, and why.
        dtype: of the model, where it is known.
        notes: what the probe noted in the undisturbed run.
    """

    measurement: Measurement
    strictness: Strictness
    smallest_visible: float
    noises: tuple[Noise, ...]
    not_applied: Mapping[Disturbance, str]
    dtype: str
    notes: tuple[str, ...]

    @property
    def conclusions(self) -> tuple[Conclusion, ...]:
        """What follows, the answer to whether the tolerance is above the noise first."""
        return (*self._between_runs(), *self._batch(), *self._levels())

    def _between_runs(self) -> list[Conclusion]:
        between = [noise for noise in self.noises if noise.disturbance.between_runs]
        if not between:
            return []
        runs, failing = sum(noise.runs for noise in between), [n for n in between if n.failed]
        failed = sum(noise.failed for noise in failing) / runs
        out = [self._moving(between, failed)]
        if failing:
            # Of all runs: each was a chance to fail.
            names = tuple(noise.disturbance for noise in failing)
            out.append(Conclusion(Finding.GATE_FAILS, names, runs, share=failed))
        undecided = sum(noise.states.get(State.INCONCLUSIVE, 0) for noise in between)
        if undecided:
            out.append(Conclusion.on(Finding.UNDECIDED, between, share=undecided / runs))
        return out

    def _moving(self, between: Sequence[Noise], failed: float) -> Conclusion:
        """Compare what moves between two runs with the tolerance."""
        if all(noise.is_none for noise in between):
            return Conclusion.on(Finding.NOTHING_BETWEEN_RUNS, between, amount=0.0)
        amount, tolerance = max(n.calibration for n in between), self.strictness.tolerance
        moved = {"amount": amount, "times": tolerance / max(amount, SMALLEST)}
        if amount < tolerance:
            return Conclusion.on(Finding.BELOW_TOLERANCE, between, **moved)
        return Conclusion.on(Finding.ABOVE_TOLERANCE, between, **moved, share=failed)

    def _batch(self) -> list[Conclusion]:
        """Say where the batch moves a confidence by more than rounding, or a repeat, does."""
        by_name = {noise.disturbance: noise for noise in self.noises}
        batch, repeat = (by_name.get(one) for one in (Disturbance.BATCH, Disturbance.REPEAT))
        by_itself = 0.0 if repeat is None else repeat.confidence_largest
        if batch is None or batch.confidence_largest <= max(ROUNDING, 2 * by_itself):
            return []
        moved = batch.confidence_largest
        return [Conclusion.on(Finding.BEYOND_ROUNDING, [batch], amount=moved, dtype=self.dtype)]

    def _levels(self) -> list[Conclusion]:
        return [_level(noise) for noise in self.noises if not noise.disturbance.between_runs]


def _level(noise: Noise) -> Conclusion:
    """Say how arbitrary the level is that one order, or one choice of examples, gives."""
    if noise.is_none:
        return Conclusion.on(Finding.NO_EFFECT, [noise], amount=0.0)
    return Conclusion.on(
        Finding.LEVEL, [noise], amount=noise.calibration, share=noise.answers, ece=noise.levels
    )


def noise_report(
    undisturbed: Predictions,
    disturbed: Mapping[Disturbance, Sequence[Predictions]],
    strictness: Strictness,
    not_applied: Mapping[Disturbance, str],
    answer_named: AnswerNamed = lambda text: text.answer,
) -> NoiseReport:
    """Compare runs of one model, each with the one that was not disturbed.

    Args:
        undisturbed: the probe as it is.
        disturbed: the runs of each disturbance, at least one of each.
        strictness: of the gate.
        not_applied: disturbances without runs, and why.
        answer_named: gives an answer a name that does not depend on how it was asked.

    Raises:
        ProbeError: a run did not have the items of the first.
    """
    noises = []
    for disturbance, runs in disturbed.items():
        aligned = [_aligned(one, undisturbed, disturbance) for one in runs]
        noises.append(_noise(disturbance, undisturbed, aligned, strictness, answer_named))
    tolerance, alpha = strictness.tolerance, strictness.alpha
    return NoiseReport(
        measure(undisturbed),
        strictness,
        smallest_visible_unpaired(undisturbed, tolerance, alpha),
        tuple(noises),
        dict(not_applied),
        undisturbed.signature.soft.get("dtype", ""),
        undisturbed.notes,
    )


def _aligned(run: Predictions, undisturbed: Predictions, disturbance: Disturbance) -> Predictions:
    """Return a run with its items in the order of the first one."""
    ours, theirs = run.item_ids, undisturbed.item_ids
    if np.array_equal(ours, theirs):
        return run
    mine, place = np.argsort(ours, kind="stable"), np.argsort(np.argsort(theirs, kind="stable"))
    if not np.array_equal(np.sort(ours), np.sort(theirs)):
        raise ProbeError(
            f"probe {run.probe!r}: asked once more ({disturbance}), it had {len(run):,} items that "
            f"are not the {len(undisturbed):,} of the first run; a probe asks the same items each "
            "time."
        )
    return run.take(mine[place])


def _noise(
    disturbance: Disturbance,
    undisturbed: Predictions,
    runs: Sequence[Predictions],
    strictness: Strictness,
    answer_named: AnswerNamed,
) -> Noise:
    moved: FloatArray = np.abs([one.confidence - undisturbed.confidence for one in runs])
    turned = np.array([one.correct != undisturbed.correct for one in runs])
    every = [ece(one) for one in (undisturbed, *runs)]
    return Noise(
        disturbance=disturbance,
        runs=len(runs),
        confidence_mean=float(moved.mean()),
        confidence_largest=float(moved.max()),
        answers=_others(undisturbed, runs, answer_named),
        outcomes=float(turned.mean()),
        ece=Movement.of(every[0], every[1:]),
        signed_gap=Movement.of(signed_gap(undisturbed), [signed_gap(one) for one in runs]),
        accuracy=Movement.of(accuracy(undisturbed), [accuracy(one) for one in runs]),
        states=Counter(decide(Paired.of(undisturbed, one), strictness).state for one in runs),
        levels=(min(every), float(np.mean(every)), max(every)),
    )


def _others(
    undisturbed: Predictions, runs: Sequence[Predictions], answer_named: AnswerNamed
) -> float | None:
    """Return the share of the answers of some runs that are not those of the first."""
    before = _answers(undisturbed, answer_named)
    after = [_answers(one, answer_named) for one in runs]
    if before is None or None in after:
        return None
    return float(np.mean(np.array(after) != np.array(before)))


def _answers(predictions: Predictions, answer_named: AnswerNamed) -> list[str] | None:
    """Return the answer to each item; None where the model does not say what they are."""
    if predictions.texts is not None:
        texts = predictions.texts
        answers = [answer_named(texts[i]) for i in range(len(predictions))]
        if any(answers):
            return answers
    if predictions.probabilities is not None:
        return [str(i) for i in predictions.probabilities.argmax(axis=1)]
    return None
