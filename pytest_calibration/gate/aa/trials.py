"""The A/A check: draw pairs, hold each against the gate, count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.aa.pairs import OneSet, TwoSets, stored
from pytest_calibration.gate.aa.worse import worse_candidates
from pytest_calibration.gate.decision import (
    ALPHA,
    MAX_UNDETECTED,
    TOLERANCE,
    Decision,
    State,
    decide,
)
from pytest_calibration.gate.planning import CHANGED
from pytest_calibration.gate.verdict import align, compare
from pytest_calibration.predictions import Predictions, PredictionsLike, Unit, as_predictions
from pytest_calibration.uncertainty.means import score_interval
from pytest_calibration.uncertainty.quantiles import NORMAL

TRIALS: Final = 400
JITTER: Final = 0.3
EXCESSES: Final = (0.02, 0.035, 0.06, 0.1)
MOST: Final = 1_000_000
MAX_JITTER: Final = 10


@dataclass(frozen=True)
class Rate:
    """How many of the trials, with the 95 % interval of Wilson (1927).

    Attributes:
        count: trials in which it happened.
        trials: all trials, at least one.
    """

    count: int
    trials: int

    @property
    def share(self) -> float:
        """The share of the trials."""
        return self.count / self.trials

    @property
    def low(self) -> float:
        """Lower end of its interval."""
        return self._interval()[0]

    @property
    def high(self) -> float:
        """Upper end of its interval."""
        return self._interval()[1]

    def _interval(self) -> tuple[float, float]:
        low, high = score_interval(self.share, self.trials, NORMAL.inv_cdf(0.975))
        return float(low), float(high)


@dataclass(frozen=True)
class Caught:
    """What the gate makes of a candidate that is worse by a known amount.

    Attributes:
        how: ``sharpened`` (surer of everything) or ``flattened`` (nearer to the mean confidence,
            which stays what it is).
        worsening: growth of the population's ECE that was asked for.
        largest: the largest that this kind of change can make here.
        setting: factor on the logit, or on the distance from the mean; None if out of reach.
        rate: how often the gate fails it; None if out of reach.
        components: by name, how often each component is among the reasons.
    """

    how: str
    worsening: float
    largest: float
    setting: float | None
    rate: Rate | None
    components: Mapping[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """What this gate does on data like these.

    Attributes:
        probe: name of the probe.
        unit: what an item is.
        n: items per trial (about, where groups are of unequal size).
        units: independent units per trial: groups, or items where there are none.
        trials: number of pairs drawn.
        seed: of the random numbers.
        two_sets: whether two sets of predictions change places, instead of one being redrawn.
        tolerance: allowed worsening in ECE units.
        alpha: one-sided error level of each bound.
        ece: of the population.
        accuracy: of the population.
        mean_confidence: of the population.
        changed: share of the items that only one of the two sides answers rightly.
        within_groups: correlation of the outcomes of a group, beyond what confidences say; None for
            two sets, which have their own.
        false_alarms: how often the gate fails although nothing changed.
        components: by name, how often each component is among the reasons.
        inconclusive: how often a pair without change is too little to decide.
        bound: at most how often it fails, in closed form as a verdict has it (mean over the
            trials); None where no trial had enough units.
        power: what it makes of candidates that are worse.
    """

    probe: str
    unit: Unit
    n: int
    units: int
    trials: int
    seed: int
    two_sets: bool
    tolerance: float
    alpha: float
    ece: float
    accuracy: float
    mean_confidence: float
    changed: float
    within_groups: float | None
    false_alarms: Rate
    components: Mapping[str, Rate]
    inconclusive: Rate
    bound: float | None
    power: tuple[Caught, ...]


def check(
    predictions: PredictionsLike,
    other: PredictionsLike | None = None,
    *,
    n: int | None = None,
    trials: int = TRIALS,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    accuracy_tolerance: float | None = TOLERANCE,
    max_undetected: float = MAX_UNDETECTED,
    changed: float = CHANGED,
    jitter: float = JITTER,
    excesses: Sequence[float] = EXCESSES,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Check:
    """Count how often the gate fails a model that did not change, and catches one that did.

    Args:
        predictions: what the population is made like; predictions or a pair of arrays.
        other: a second set on the same items (another run, the parent). The two change places at
            random then, and ``changed`` and ``jitter`` count for nothing.
        n: items per trial; by default as many as there are. Groups are drawn whole.
        trials: number of pairs, at least 1.
        tolerance: as for :func:`~pytest_calibration.gate.verdict.compare`, like the next three.
        alpha: one-sided error level of each bound.
        accuracy_tolerance: allowed loss of accuracy; None switches this guard off.
        max_undetected: how much beyond the tolerance may stay invisible.
        changed: share of the items that only one of two unchanged runs answers rightly, in
            [0, 1]; as near to it as the confidences allow.
        jitter: standard deviation of the noise of a run, on the logit of the confidence.
        excesses: how far beyond the tolerance the worsenings lie that a candidate is given; none
            counts false alarms alone, and is faster.
        seed: of the random numbers, at least 0; by default made from the ids of the items.
        progress: called after each trial with the number of trials done.

    Raises:
        MetricError: a value outside its range, fewer than two independent units, or two sets that
            the gate would not compare.
    """
    predictions = as_predictions(predictions)
    second = None if other is None else as_predictions(other)
    _check_range("trials", trials, 1, MOST)
    _check_range("changed", changed, 0, 1)
    _check_range("jitter", jitter, 0, MAX_JITTER)
    for excess in excesses:
        _check_range("each of excesses", excess, 0, 1)
    if n is not None:
        _check_range("n", n, 2, MOST)
    if seed is not None:
        _check_range("seed", seed, 0, 2**64 - 1)
    # The gate itself says whether these settings make sense, and whether the sets can be compared.
    verdict = compare(
        predictions,
        predictions if second is None else second,
        tolerance=tolerance,
        alpha=alpha,
        accuracy_tolerance=accuracy_tolerance,
        max_undetected=max_undetected,
        reference="other set",
    )
    if verdict.state is State.NOT_COMPARABLE:
        raise MetricError(f"probe {predictions.probe!r} cannot be compared: {verdict.reason}")
    if second is not None:
        predictions, second = _aligned(predictions, second)
    if predictions.n_clusters < 2:
        raise MetricError(
            f"probe {predictions.probe!r} has one independent unit; an A/A check needs at least 2."
        )
    seed = int(predictions.items_digest, 16) if seed is None else seed
    rng = np.random.default_rng(seed)
    source: OneSet | TwoSets
    if second is None:
        source = OneSet(predictions, changed, jitter, rng)
    else:
        source = TwoSets(predictions, second)
    truth = source.curve(source.population)
    n = predictions.n if n is None else n
    units = max(2, round(n * len(source.units) / predictions.n))
    asked = (round(tolerance + excess, 9) for excess in excesses)
    worse = [
        (one, _Tally())
        for one in worse_candidates(source.population, truth, tuple(w for w in asked if w < 1))
    ]
    unchanged = _Tally()
    decided = partial(
        decide,
        tolerance=tolerance,
        alpha=alpha,
        accuracy_tolerance=accuracy_tolerance,
        max_undetected=max_undetected,
    )
    for trial in range(trials):
        pair = source.draw(rng, units)
        unchanged.add(decided(pair))
        for one, tally in worse:
            if one.change is not None:
                tally.add(decided(replace(pair, confidence1=stored(one.change(pair.confidence1)))))
        if progress is not None:
            progress(trial + 1)
    return Check(
        probe=predictions.probe,
        unit=predictions.unit,
        n=n,
        units=units,
        trials=trials,
        seed=seed,
        two_sets=second is not None,
        tolerance=tolerance,
        alpha=alpha,
        ece=float(np.abs(source.population - truth).mean()),
        accuracy=float(truth.mean()),
        mean_confidence=float(source.population.mean()),
        changed=source.changed,
        within_groups=source.within_groups,
        false_alarms=unchanged.rate(State.REGRESSED),
        components=unchanged.components(),
        inconclusive=unchanged.rate(State.INCONCLUSIVE),
        bound=unchanged.bound(),
        power=tuple(
            Caught(
                one.how,
                one.worsening,
                one.largest,
                one.setting,
                None if one.change is None else tally.rate(State.REGRESSED),
                tally.components(),
            )
            for one, tally in worse
        ),
    )


class _Tally:
    """Counts what many comparisons came to."""

    def __init__(self) -> None:
        self._states: Counter[State] = Counter()
        self._fired: Counter[str] = Counter()
        self._bounds: list[float] = []

    def add(self, decision: Decision) -> None:
        self._states[decision.state] += 1
        failed = decision.state is State.REGRESSED
        self._fired.update({c.name: int(failed and c.fired) for c in decision.components})
        if not math.isnan(decision.false_alarm_rate):
            self._bounds.append(decision.false_alarm_rate)

    def rate(self, state: State) -> Rate:
        return Rate(self._states[state], self._states.total())

    def components(self) -> dict[str, Rate]:
        return {name: Rate(count, self._states.total()) for name, count in self._fired.items()}

    def bound(self) -> float | None:
        return math.fsum(self._bounds) / len(self._bounds) if self._bounds else None


def _aligned(predictions: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """Return the items of both sets in one order, with the groups that the gate would take."""
    ours, theirs, _ = align(predictions, other)
    assert ours is not None
    assert theirs is not None
    first, second = predictions.take(ours), other.take(theirs)
    return replace(first, groups=second.groups if first.groups is None else first.groups), second


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise MetricError(f"{name} must lie between {low:,} and {high:,}, got {value}.")
