"""The A/A check: draw pairs, let the gate decide on each, count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.aa.unchanged_pairs import RedrawnPairs, SwappedPairs
from pytest_calibration.gate.aa.worse_candidates import WorseCandidate, worse_candidates
from pytest_calibration.gate.components import as_stored
from pytest_calibration.gate.decision import Decision, State, decide
from pytest_calibration.gate.planning import CHANGED, EXCESSES, worsenings
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.verdict import align
from pytest_calibration.predictions import Predictions, PredictionsLike, Unit, as_predictions
from pytest_calibration.uncertainty.means import score_interval
from pytest_calibration.uncertainty.quantiles import NORMAL

MOST: Final = 1_000_000
MAX_JITTER: Final = 10


@dataclass(frozen=True)
class AASettings:
    """What an A/A check draws and how strict the gate is.

    Attributes:
        n: items per trial; None for as many as there are. Groups are drawn whole.
        trials: number of pairs.
        strictness: of the gate.
        changed: share of the items that only one of two unchanged runs answers correctly, in
            [0, 1]; as near to it as the confidences allow. Not for two sets.
        jitter: standard deviation of the noise of a run, on the logit of the confidence. Not for
            two sets.
        excesses: how far beyond the tolerance the worsenings of candidates lie; none counts false
            alarms alone, and is faster.
        seed: of the random numbers; None for one made from the item ids.

    Raises:
        MetricError: a value outside its range.
    """

    n: int | None = None
    trials: int = 400
    strictness: Strictness = DEFAULT
    changed: float = CHANGED
    jitter: float = 0.3
    excesses: tuple[float, ...] = EXCESSES
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("n", self.n, 2, MOST),
            ("trials", self.trials, 1, MOST),
            ("changed", self.changed, 0, 1),
            ("jitter", self.jitter, 0, MAX_JITTER),
            *(("each of excesses", excess, 0, 1) for excess in self.excesses),
            ("seed", self.seed, 0, 2**64 - 1),
        ):
            if value is not None and not low <= value <= high:
                raise MetricError(f"{name} must lie between {low:,} and {high:,}, got {value}.")


@dataclass(frozen=True)
class Rate:
    """In how many of the trials something happened, with the 95 % interval of Wilson (1927).

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
    def interval(self) -> tuple[float, float]:
        """Both ends of its interval."""
        low, high = score_interval(self.share, self.trials, NORMAL.inv_cdf(0.975))
        return float(low), float(high)


@dataclass(frozen=True)
class AAResult:
    """How the gate behaves on data like these.

    Attributes:
        probe: name of the probe.
        unit: what an item is.
        strictness: of the gate.
        n: items per trial (about, where groups are of unequal size).
        units: independent units per trial: groups, or items where there are none.
        seed: of the random numbers.
        two_sets: whether two sets of predictions swapped sides, instead of one being redrawn.
        ece: of the population, like ``accuracy`` and ``mean_confidence``.
        changed: share of the items that only one of the two sides answers correctly.
        within_groups: correlation of the outcomes of a group, beyond what confidences explain; None
            for two sets, which have their own.
        false_alarms: how often the gate fails although nothing changed.
        components: by name, how often each component is among the reasons.
        inconclusive: how often a pair without a change is too small to decide.
        bound: upper bound of the false alarms in closed form, as a verdict states it (mean over
            the trials); None where no trial had enough units.
        power: candidates that are worse, and how often the gate fails each; None if out of reach.
    """

    probe: str
    unit: Unit
    strictness: Strictness
    n: int
    units: int
    seed: int
    two_sets: bool
    ece: float
    accuracy: float
    mean_confidence: float
    changed: float
    within_groups: float | None
    false_alarms: Rate
    components: Mapping[str, Rate]
    inconclusive: Rate
    bound: float | None
    power: tuple[tuple[WorseCandidate, Rate | None], ...]


def aa_check(
    predictions: PredictionsLike,
    other: PredictionsLike | None = None,
    settings: AASettings = AASettings(),
    progress: Callable[[int], None] | None = None,
) -> AAResult:
    """Count how often the gate fails a model that did not change, and one that got worse.

    Args:
        predictions: what the population is made like; predictions or a pair of arrays.
        other: a second set on the same items (another run, the parent). The two sets then swap
            sides at random.
        settings: what is drawn, and how strict the gate is.
        progress: called after each trial with the number of trials done.

    Raises:
        MetricError: fewer than two independent units, or two sets that the gate would not compare.
    """
    predictions, second = _aligned(as_predictions(predictions), other)
    if predictions.n_clusters < 2:
        raise MetricError(
            f"probe {predictions.probe!r} has one independent unit; an A/A check needs at least 2."
        )
    seed = int(predictions.items_digest, 16) if settings.seed is None else settings.seed
    n = predictions.n if settings.n is None else settings.n
    rng = np.random.default_rng(seed)
    pairs = (
        RedrawnPairs(predictions, settings.changed, settings.jitter, rng)
        if second is None
        else SwappedPairs(predictions, second)
    )
    units = max(2, round(n * len(pairs.units) / predictions.n))
    truth = pairs.curve(pairs.population)
    amounts = worsenings(settings.strictness.tolerance, settings.excesses)
    candidates = list(worse_candidates(pairs.population, truth, amounts))
    unchanged, worse = _run_trials(pairs, candidates, units, settings, rng, progress)
    return AAResult(
        probe=predictions.probe,
        unit=predictions.unit,
        strictness=settings.strictness,
        n=n,
        units=units,
        seed=seed,
        two_sets=second is not None,
        ece=float(np.abs(pairs.population - truth).mean()),
        accuracy=float(truth.mean()),
        mean_confidence=float(pairs.population.mean()),
        changed=pairs.changed,
        within_groups=pairs.within_groups,
        false_alarms=unchanged.rate(State.REGRESSED),
        components=unchanged.components(),
        inconclusive=unchanged.rate(State.INCONCLUSIVE),
        bound=unchanged.mean_bound(),
        power=tuple(
            (candidate, tally.rate(State.REGRESSED) if candidate.change else None)
            for candidate, tally in zip(candidates, worse, strict=True)
        ),
    )


def _aligned(
    first: Predictions, other: PredictionsLike | None
) -> tuple[Predictions, Predictions | None]:
    """Return the items of both sets in one order, with the groups that the gate would take."""
    if other is None:
        return first, None
    second = as_predictions(other)
    ours, theirs, remark = align(first, second, "the other set")
    if ours is None or theirs is None:
        raise MetricError(f"probe {first.probe!r} cannot be compared: {remark}")
    first, second = first.take(ours), second.take(theirs)
    return replace(first, groups=second.groups if first.groups is None else first.groups), second


def _run_trials(
    pairs: RedrawnPairs | SwappedPairs,
    candidates: list[WorseCandidate],
    units: int,
    settings: AASettings,
    rng: np.random.Generator,
    progress: Callable[[int], None] | None,
) -> tuple[_Tally, list[_Tally]]:
    """Return the decisions on unchanged pairs, and those on each worse candidate."""
    unchanged, worse = _Tally(), [_Tally() for _ in candidates]
    for trial in range(settings.trials):
        pair = pairs.draw(rng, units)
        unchanged.add(decide(pair, settings.strictness))
        for candidate, tally in zip(candidates, worse, strict=True):
            if candidate.change is not None:
                confidence = as_stored(candidate.change(pair.confidence1))
                tally.add(decide(replace(pair, confidence1=confidence), settings.strictness))
        if progress is not None:
            progress(trial + 1)
    return unchanged, worse


class _Tally:
    """Counts the decisions on many comparisons."""

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

    def mean_bound(self) -> float | None:
        return math.fsum(self._bounds) / len(self._bounds) if self._bounds else None
