"""The smallest threshold that holds a precision, with an error level that counts the choice.

The smallest threshold whose measured precision is high enough is a lucky one: its true precision
is too low about half of the time. So thresholds are *tested*, in an order that their outcomes do
not decide (Learn then Test: Angelopoulos, Bates, Candès, Jordan & Lei 2021): from high to low, each
for the hypothesis that its precision is too low. A test that rejects hands its error level on to
the next, so that the probability to reject any true hypothesis stays below ``alpha`` (the fallback
procedure, Wiens 2003). The level starts in halves at two places, since too few answers show
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.power import POWER
from pytest_calibration.gate.strictness import ALPHA, range_error
from pytest_calibration.metrics.selective import answered
from pytest_calibration.predictions import (
    FloatArray,
    IntArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.uncertainty.conditional import ConditionalMean, design_effect_of
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_tail
from pytest_calibration.uncertainty.standard_errors import cluster_codes, equal_units

# From one tested threshold to the next, so many more answers.
STEP: Final = 1.1
# Where the error level starts, in units of the fewest answers that could show the precision. Of
# the starts, steps and splits that were tried on the sources of benchmarks/generators.py, these
# find a threshold most often without losing coverage.
STARTS: Final = (2, 8)


@dataclass(frozen=True)
class Answers:
    """The answers from a threshold on.

    Attributes:
        threshold: the confidence, exact in float32.
        n: number of answers with at least this confidence.
        wrong: how many of them are wrong.
        coverage: their share of all items.
        precision: their accuracy.
    """

    threshold: float
    n: int
    wrong: int
    coverage: float
    precision: float


@dataclass(frozen=True)
class ChosenThreshold:
    """What :func:`choose_threshold` found.

    Attributes:
        wanted: the precision that must hold.
        alpha: how often the chosen threshold may have a lower one.
        n: number of items.
        units: number of independent units.
        chosen: the smallest threshold that holds it; None where none is shown to.
        as_measured: the smallest whose measured precision is high enough, which is right about half
            of the time only; None where there is none.
        best: of those that could show it, the one that comes nearest.
        n_needed: number of items like these on which 80 % of all choices find a threshold; 0 where
            one was found, or where no measured precision is high enough.
    """

    wanted: float
    alpha: float
    n: int
    units: int
    chosen: Answers | None
    as_measured: Answers | None
    best: Answers
    n_needed: int


def choose_threshold(
    predictions: PredictionsLike, precision: float, *, alpha: float = ALPHA
) -> ChosenThreshold:
    """Return the smallest threshold whose precision is at least the wanted one.

    With probability 1 - alpha over the items it is, for answers like these, although the threshold
    was chosen on the same items. An answer counts where its confidence is at least the threshold,
    both in float32.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        precision: the wanted accuracy of the answers from the threshold on, in (0, 1).
        alpha: how often the true precision may be lower, in (0, 0.5).

    Raises:
        MetricError: a precision or an alpha outside its range.
    """
    predictions = as_predictions(predictions)
    if isinstance(precision, bool) or not isinstance(precision, int | float | np.number):
        raise MetricError(f"precision must be a number between 0 and 1, got {precision!r:.60}.")
    if not 0 < precision < 1:
        raise MetricError(
            f"precision must be above 0 and below 1, got {precision}; 95 per cent is 0.95."
        )
    if problem := range_error("alpha", alpha):
        raise MetricError(f"alpha {problem}.")
    tests = _Tests.of(predictions, precision, alpha)
    # A quotient rounds as the wanted precision was: nine of ten are 0.9.
    fits = np.flatnonzero((tests.ends - tests.wrong_at_ends) / tests.ends >= precision)
    shown = tests.last_shown()
    z = (tests.expected_wrong - tests.wrong) / np.sqrt(tests.variance)
    found = ChosenThreshold(
        wanted=float(precision),
        alpha=float(alpha),
        n=predictions.n,
        units=predictions.n_clusters,
        chosen=None if shown is None else tests.answers(tests.counts[shown]),
        as_measured=tests.answers(tests.ends[fits[-1]]) if len(fits) else None,
        best=tests.answers(tests.counts[int(np.argmax(z))]),
        n_needed=0,
    )
    return found if shown is not None else replace(found, n_needed=tests.needed())


@dataclass(frozen=True)
class _Tests:
    """The thresholds that are tested, from the highest on.

    Attributes:
        predictions: the items.
        wanted: the precision.
        alpha: error level of all tests together.
        confidence: (n,) in float32, the highest first.
        ends: (e,) number of answers from each distinct confidence on.
        wrong_at_ends: (e,) how many of them are wrong.
        counts: (j,) number of answers from each tested threshold on; a part of ``ends``.
        wrong: (j,) how many of them are wrong.
        effects: (j,) design effect of their groups, 1 without.
        units: (j,) number of equal units among them.
        fewest: how many answers, all right, would show the precision.
    """

    predictions: Predictions
    wanted: float
    alpha: float
    confidence: FloatArray
    ends: IntArray
    wrong_at_ends: IntArray
    counts: IntArray
    wrong: IntArray
    effects: FloatArray
    units: IntArray
    fewest: int

    @classmethod
    def of(cls, predictions: Predictions, wanted: float, alpha: float) -> _Tests:
        stored = predictions.confidence.astype(np.float32)
        order = np.argsort(-stored, kind="stable")
        confidence = stored[order].astype(np.float64)
        ends = np.flatnonzero(np.append(np.diff(confidence) != 0, True)) + 1
        wrong_at_ends = np.cumsum((~predictions.correct[order]).astype(np.int64))[ends - 1]
        fewest = math.ceil(math.log(alpha) / math.log(wanted))
        n = len(confidence)
        steps = [min(fewest, n)]
        while steps[-1] < n:
            steps.append(min(n, math.ceil(STEP * steps[-1])))
        # Equal confidences stay together.
        places = np.unique(np.searchsorted(ends, steps))
        counts = ends[places]
        effects, units = _groups(predictions, [float(confidence[m - 1]) for m in counts])
        return cls(
            predictions, wanted, alpha, confidence, ends, wrong_at_ends, counts,
            wrong_at_ends[places], effects, units, fewest,
        )  # fmt: skip

    @property
    def expected_wrong(self) -> FloatArray:
        """(j,) number of wrong answers at exactly the wanted precision."""
        return np.asarray((1 - self.wanted) * self.counts)

    @property
    def variance(self) -> FloatArray:
        """(j,) of the number of wrong answers at exactly the wanted precision."""
        return np.asarray(self.effects * self.counts * self.wanted * (1 - self.wanted))

    def answers(self, count: int) -> Answers:
        """Return what is known of so many answers."""
        p, threshold = self.predictions, float(self.confidence[count - 1])
        right = p.correct.astype(np.float64)
        found = ConditionalMean.of(right, answered(p.confidence, threshold), None)
        wrong = round(found.n * (1 - found.value))
        return Answers(threshold, found.n, wrong, found.share, found.value)

    def p_values(self) -> FloatArray:
        """(j,) of the hypotheses that precision is below the wanted one.

        Exact (binomial) for independent items. With groups a score test with a correction for
        continuity and Student's quantiles, which is stricter on few wrong answers.
        """
        if cluster_codes(self.predictions) is None:
            return _at_most(self.wrong, self.counts, 1 - self.wanted)
        z = (self.expected_wrong - self.wrong - 0.5) / np.sqrt(self.variance)
        pairs = zip(z.tolist(), self.units.tolist(), strict=True)
        return np.array([upper_tail(x, units) if x > 0 else 1.0 for x, units in pairs])

    def last_shown(self) -> int | None:
        """Return the last test that rejects by the fallback procedure; None where none does."""
        starts = [s * self.fewest for s in STARTS if s * self.fewest <= self.counts[-1]]
        level = np.zeros(len(self.counts))
        for start in starts or [int(self.counts[-1])]:
            place = int(np.argmin(np.abs(np.log(self.counts / start))))
            level[place] += self.alpha / max(len(starts), 1)
        handed_on, last = 0.0, None
        for j, p_value in enumerate(self.p_values()):
            own = handed_on + float(level[j])
            handed_on, last = (own, j) if p_value <= own else (0.0, last)
        return last

    def needed(self) -> int:
        """Return on how many items one of these thresholds would be shown; 0 where on none.

        At the measured precision, drawn a little to one half, with 80 % power at the level of one
        start; more than there are. Where all answers are right, so many that the first test shows
        it.
        """
        n, counts, wrong = len(self.confidence), self.ends, self.wrong_at_ends
        q = (wrong + 1) / (counts + 2)
        gain = (1 - self.wanted) - q
        sure = -NORMAL.inv_cdf(self.alpha / len(STARTS)) * math.sqrt(self.wanted - self.wanted**2)
        with np.errstate(divide="ignore"):
            answers = ((sure + NORMAL.inv_cdf(POWER) * np.sqrt(q * (1 - q))) / gain) ** 2
        items = answers * np.interp(counts, self.counts, self.effects) * n / counts
        enough = items[gain > 0]
        if not wrong[-1]:
            enough = np.array([STARTS[0] * self.fewest])
        return math.ceil(max(enough.min(), STEP * n)) if len(enough) else 0


def _groups(predictions: Predictions, thresholds: list[float]) -> tuple[FloatArray, IntArray]:
    """Return design effect and number of equal units of the answers from each threshold on."""
    clusters, right = cluster_codes(predictions), predictions.correct.astype(np.float64)
    effects, units = [], []
    for threshold in thresholds:
        which = answered(predictions.confidence, threshold)
        effects.append(design_effect_of(right, which, clusters))
        own = None if clusters is None else np.unique(clusters[which], return_inverse=True)[1]
        units.append(equal_units(int(which.sum()), own))
    return np.array(effects), np.array(units)


def _at_most(k: IntArray, n: IntArray, rate: float) -> FloatArray:
    """Return P(X ≤ k) of binomial numbers X of n trials, exactly."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max() + 1)))])
    right, wrong = math.log1p(-rate), math.log(rate)
    out = []
    for some, total in zip(k.tolist(), n.tolist(), strict=True):
        i = np.arange(some + 1)
        ways = log_factorial[total] - log_factorial[i] - log_factorial[total - i]
        out.append(min(1.0, float(np.exp(ways + i * wrong + (total - i) * right).sum())))
    return np.array(out)
