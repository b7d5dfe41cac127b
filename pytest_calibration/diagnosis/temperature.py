"""The temperature of a model: one number by which all its logits are divided.

Dividing the logits z by T lowers confidences (T > 1) or raises them (T < 1) and leaves every
answer as it is (Guo et al. 2017). In β = 1/T both NLL and KL are convex, with the derivative
E_β[z] − E_target[z] and the curvature Var_β[z] per item, so that T is found to the last digits in a
few steps, without a learning rate.

An option of probability 0 has no logit; it stays at 0 at every temperature. A correct option (or
outcome) of probability 0 adds the same to NLL at every temperature, so the fit leaves it out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from pytest_calibration.diagnosis.findings import Scale, TemperatureFit
from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.standard_errors import standard_error

COLDEST: Final = 0.01
HOTTEST: Final = 100.0
TINY: Final = float(np.finfo(np.float64).tiny)
# How far a confidence may lie from the table's largest entry: what storing it as float32 does.
SAME: Final = 1e-6
# A β beyond it would make 0·β of what is possible NaN.
LARGEST: Final = 1e300
STEPS: Final = 100
PRECISION: Final = 1e-11


def scale_of(predictions: Predictions) -> Scale:
    """Return the scale of a temperature: the logits of a table of options, else the log-odds.

    A table counts where its correct options are known, and where confidence and correctness are
    those of the table.
    """
    table, labels = predictions.probabilities, predictions.labels
    if table is None or labels is None:
        return "log-odds"
    answer = table.argmax(axis=1)
    own = table[np.arange(predictions.n), answer]
    same = own.min() > 0 and np.abs(own - predictions.confidence).max() <= SAME
    known = labels.min() >= 0 and labels.max() < table.shape[1]
    own_outcomes = same and known and np.array_equal(answer == labels, predictions.correct)
    return "logits" if own_outcomes else "log-odds"


@dataclass(frozen=True)
class Logits:
    """The logits of k options of n items.

    Attributes:
        z: (k, n) log-probabilities less the largest of the item; 0 where the probability is 0.
        possible: (k, n) whether the probability is above 0; None where all are.
        answer: (n,) the model's own option.
    """

    z: FloatArray
    possible: BoolArray | None
    answer: IntArray

    @classmethod
    def of(cls, table: FloatArray, answer: IntArray) -> Logits:
        """Take the logarithms of a table (k, n) of probabilities."""
        possible: BoolArray | None = table > 0
        assert possible is not None
        if possible.all():
            z, possible = np.log(table), None
        else:
            z = np.log(np.where(possible, table, 1.0))
        z -= np.log(table.max(axis=0))
        if possible is not None:
            z[~possible] = 0.0
        return cls(z, possible, answer)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.answer)

    @cached_property
    def flat(self) -> bool:
        """Whether all possible options of each item are equal, so that no temperature matters."""
        return not self.z.any()

    def take(self, index: IntArray) -> Logits:
        """Return the items at these positions."""
        possible = None if self.possible is None else self.possible[:, index]
        return Logits(self.z[:, index], possible, self.answer[index])

    def weights(self, beta: float) -> FloatArray:
        """(k, n) exp(β·z), 0 where an option is impossible."""
        with np.errstate(over="ignore"):
            out = np.exp(beta * self.z)
        if self.possible is not None:
            out *= self.possible
        return out

    def moments(self, beta: float) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance (n,), (n,) of z under softmax(β·z)."""
        weight = self.weights(beta)
        total = weight.sum(axis=0)
        weight *= self.z
        mean = weight.sum(axis=0) / total
        weight *= self.z
        return mean, np.maximum(weight.sum(axis=0) / total - mean * mean, 0.0)

    def log_total(self, beta: float) -> FloatArray:
        """(n,) log Σ_j exp(β·z_j)."""
        return np.asarray(np.log(self.weights(beta).sum(axis=0)))

    def probabilities(self, beta: float) -> FloatArray:
        """(k, n) softmax(β·z), of which the largest is still that of the own answer."""
        out = self.weights(beta)
        out /= out.sum(axis=0)
        rows = np.arange(self.n)
        # Rounding may bring a rival level with the answer; argmax would then name the first.
        level = out.argmax(axis=0) != self.answer
        if level.any():
            best = out.max(axis=0)[level]
            out[self.answer[level], rows[level]] = np.nextafter(best, 2.0)
        return out


class Target(NamedTuple):
    """The target of a fit.

    Attributes:
        z: (n,) mean of z under the target; 0 where the item does not count.
        counts: (n,) whether the item counts; None where all do.
        entropy: (n,) of the target in nats, which no temperature changes; None where it is 0.
    """

    z: FloatArray
    counts: BoolArray | None
    entropy: FloatArray | None = None

    def take(self, index: IntArray) -> Target:
        """Return the items at these positions, without their entropy."""
        return Target(self.z[index], None if self.counts is None else self.counts[index])


def logits_of(predictions: Predictions, scale: Scale) -> Logits:
    """Return the logits of a table, or those of "the answer is correct" and "it is not"."""
    if scale == "logits":
        assert predictions.probabilities is not None
        table = predictions.probabilities
        return Logits.of(np.ascontiguousarray(table.T), table.argmax(axis=1))
    confidence = predictions.confidence
    answer = np.where(confidence >= 0.5, 0, 1)
    return Logits.of(np.stack([confidence, 1 - confidence]), answer)


def outcomes_of(predictions: Predictions, scale: Scale, logits: Logits) -> Target:
    """Return the outcomes as a target: the correct option, or whether the answer is correct."""
    if scale == "logits":
        assert predictions.labels is not None
        outcome = predictions.labels
    else:
        outcome = np.where(predictions.correct, 0, 1)
    rows = np.arange(logits.n)
    if logits.possible is None:
        return Target(logits.z[outcome, rows], None)
    counts = logits.possible[outcome, rows]
    return Target(np.where(counts, logits.z[outcome, rows], 0.0), None if counts.all() else counts)


def residual(logits: Logits, target: Target, beta: float) -> tuple[FloatArray, FloatArray]:
    """Return derivative and curvature (n,), (n,) of each item's loss in β."""
    mean, variance = logits.moments(beta)
    first = mean - target.z
    if target.counts is not None:
        first = np.where(target.counts, first, 0.0)
        variance = np.where(target.counts, variance, 0.0)
    return first, variance


def loss(logits: Logits, target: Target, beta: float) -> float:
    """Return mean −log P of the outcome, or KL divergence from the target, in nats.

    Over the items that count.
    """
    terms = logits.log_total(beta) - beta * target.z
    if target.entropy is not None:
        terms -= target.entropy
    return max(0.0, float(terms.mean() if target.counts is None else terms[target.counts].mean()))


class Minimum(NamedTuple):
    """The minimum of a loss.

    Attributes:
        beta: 1/T.
        at_limit: whether the loss still falls there.
    """

    beta: float
    at_limit: bool


def minimise(logits: Logits, target: Target, start: float = 1.0) -> Minimum:
    """Return the β of least loss, by Newton's steps within a bracket.

    Args:
        logits: of the items.
        target: of the fit.
        start: where to begin.
    """
    lowest, highest = 1 / HOTTEST, 1 / COLDEST
    counted = target.z if target.counts is None else target.z[target.counts]
    if not counted.any():
        # The outcome is the likeliest everywhere: larger β is always better.
        return Minimum(highest, True)
    low, high = lowest, highest
    tried: set[float] = set()
    beta = min(max(start, lowest), highest)
    for _ in range(STEPS):
        first, second = (float(values.sum()) for values in residual(logits, target, beta))
        if (beta == lowest and first >= 0) or (beta == highest and first <= 0):
            return Minimum(beta, True)
        if abs(first) <= PRECISION * beta * second:
            return Minimum(beta, False)
        low, high = (low, beta) if first > 0 else (beta, high)
        tried.add(beta)
        step = -first / second if second > 0 else -math.copysign(math.inf, first)
        beta += step
        if not low < beta < high:
            # An end is where the minimum is if it is not between; else halve what is left.
            end = low if beta <= low else high
            beta = math.sqrt(low * high) if end in tried else end
    return Minimum(beta, False)


def interval_of(
    logits: Logits, target: Target, found: Minimum, sample: Sample
) -> tuple[float | None, float | None]:
    """Return the ends of the 95 % interval of T; None where the minimum is at a limit.

    log T ± z·se(β)/β with the sandwich standard error of β (Huber 1967), over groups where there
    are any; Student's quantile where few groups, or few correct or wrong answers, limit it.
    """
    if found.at_limit or sample.units < 2:
        return None, None
    first, second = residual(logits, target, found.beta)
    curvature = float(second.mean())
    if curvature <= 0:
        return None, None
    error = standard_error(first, sample.clusters) / curvature / found.beta
    half = min(sample.outcome_z * error, math.log(HOTTEST / COLDEST))
    value = 1 / found.beta
    return max(value * math.exp(-half), COLDEST), min(value * math.exp(half), HOTTEST)


def fit_temperature(predictions: PredictionsLike) -> TemperatureFit | None:
    """Return the temperature that minimises the negative log-likelihood.

    With a table of options (and their labels) the loss is −log softmax(z/T) of the correct one.
    Without, only the confidence in the own answer is known: T then divides its log-odds, and the
    loss is that of the answer being correct or not. The two need not agree: with more than two
    options the log-odds of the largest do not scale in proportion.

    Args:
        predictions: n items.

    Returns:
        The temperature with its interval, or None where no temperature changes anything (all
        options of each item equally likely).

    Source: Guo et al. 2017.
    """
    predictions = as_predictions(predictions)
    scale = scale_of(predictions)
    logits = logits_of(predictions, scale)
    target = outcomes_of(predictions, scale, logits)
    if logits.flat or (target.counts is not None and not target.counts.any()):
        return None
    found = minimise(logits, target)
    low, high = interval_of(logits, target, found, Sample(predictions, 1, "equal_width"))
    before = loss(logits, target, 1.0)
    return TemperatureFit(
        value=1 / found.beta,
        low=low,
        high=high,
        scale=scale,
        nll_before=before,
        nll_after=min(before, loss(logits, target, found.beta)),
        at_limit=found.at_limit,
        impossible=0 if target.counts is None else int((~target.counts).sum()),
    )


def confidence_at(logits: Logits, beta: float, scale: Scale) -> FloatArray:
    """(n,) confidence in the own answer at temperature 1/β."""
    weight = logits.weights(beta)
    total = weight.sum(axis=0)
    own = logits.answer if scale == "logits" else np.zeros(logits.n, dtype=np.int64)
    return np.asarray(weight[own, np.arange(logits.n)] / total)


def apply_temperature(predictions: PredictionsLike, t: float) -> Predictions:
    """Divide the logits by t: the same answers with other confidences.

    With a table of options, probabilities, confidence and ``label_logprobs`` are those of
    softmax(log p / t); options of probability 0 keep it. Without, the log-odds of the confidence
    are divided, and ``label_logprobs``, which does not follow from them, is dropped. ``correct``
    is the same array, and the likeliest option stays the likeliest even where rounding would make
    two of them equal.

    Args:
        predictions: n items.
        t: temperature, above 0; 1 leaves them as they are.

    Raises:
        MetricError: a temperature that is not a finite number above 0.
    """
    predictions = as_predictions(predictions)
    if isinstance(t, bool) or not isinstance(t, int | float | np.number):
        raise MetricError(f"a temperature must be a number above 0, got {t!r}.")
    if not (math.isfinite(t) and t > 0):
        raise MetricError(f"a temperature must be a finite number above 0, got {float(t):g}.")
    if t == 1:
        return predictions
    scale, beta = scale_of(predictions), min(1 / float(t), LARGEST)
    logits = logits_of(predictions, scale)
    if scale == "log-odds":
        confidence = confidence_at(logits, beta, scale)
        return replace(
            predictions,
            confidence=confidence,
            probabilities=None,
            labels=None,
            label_logprobs=None,
        )
    table = logits.probabilities(beta)
    target = outcomes_of(predictions, scale, logits)
    with np.errstate(over="ignore"):
        logprobs = beta * target.z - logits.log_total(beta)
    if target.counts is not None:
        logprobs = np.where(target.counts, logprobs, math.log(TINY))
    return replace(
        predictions,
        confidence=table[logits.answer, np.arange(logits.n)],
        probabilities=table.T,
        label_logprobs=np.maximum(logprobs, math.log(TINY)),
    )
