"""What a perfectly calibrated model would show: the noise floor of each error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.bins import BinTotals
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.smoothing import smooth_noise_floor
from pytest_calibration.uncertainty.standard_errors import design_effects

# One-sided 95 % point of the normal distribution.
ONE_SIDED: Final = 1.645
# Mean absolute value of a standard normal variable.
FOLDED: Final = math.sqrt(2 / math.pi)
# Standard deviation of a cross-fitted bin, |x|·(2Φ(|x|) − 1) − 2φ(x), for standard normal x.
CROSS_FITTED: Final = 0.8372
# Mean of the root of a standard normal variable, 0 where it is negative.
ROOT_OF_NORMAL: Final = 2**0.25 * math.gamma(0.75) / math.sqrt(4 * math.pi)
# Mean of the largest absolute value of Brownian motion on [0, 1].
BROWNIAN_MEAN: Final = math.sqrt(math.pi / 2)
# With less variance than this, the number of right answers in a bin is counted exactly.
SPARSE: Final = 100.0
# Middles of a thousand steps from 0 to 1.
GRID: Final = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class NoiseFloor:
    """An error of a perfectly calibrated model with the same confidences.

    Attributes:
        mean: what it would show on average, without its sign.
        high: what it would stay below 95 % of the time; NaN where that is not known.
    """

    mean: float
    high: float = math.nan


@dataclass(frozen=True)
class NullBins:
    """Bins of a model of which P(correct) is the confidence.

    Attributes:
        variance: (b,) of Σ gap. Items of one group err together, by as much as the outcomes show.
        effect: (b,) how many times larger grouping makes it.
        count: (b,) number of items.
        confidence: (b,) their mean confidence, 0 in an empty bin.
    """

    variance: FloatArray
    effect: FloatArray
    count: IntArray
    confidence: FloatArray

    @classmethod
    def of(
        cls, confidence: FloatArray, correct: BoolArray, index: IntArray, clusters: IntArray | None
    ) -> NullBins:
        """Sort (n,) pairs into the bins of ``index``."""
        totals = BinTotals(confidence - correct, correct, index, clusters)
        alone = np.bincount(index, weights=confidence * (1 - confidence))
        effect = np.ones(totals.size)
        if clusters is not None:
            effect = design_effects(totals.residual, index, totals.size, clusters)
        mean = np.bincount(index, weights=confidence) / np.maximum(totals.count, 1)
        return cls(alone * effect, effect, totals.count, mean)

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.count.sum())

    @property
    def noise(self) -> FloatArray:
        """(b,) what each bin adds to the mean squared error on average."""
        return np.asarray(self.variance / np.maximum(self.count, 1) / self.n)

    @property
    def squared_error(self) -> float:
        """Standard deviation of the squared error."""
        return math.sqrt(2 * float(self.noise @ self.noise))

    def ece(self) -> NoiseFloor:
        """Floor of ECE: a bin's |Σ gap| has mean s·sqrt(2/π) and variance s²·(1 − 2/π)."""
        mean = FOLDED * float(np.sqrt(self.variance).sum()) / self.n
        deviation = math.sqrt((1 - 2 / math.pi) * float(self.variance.sum())) / self.n
        return NoiseFloor(mean, mean + ONE_SIDED * deviation)

    def cross_fitted(self) -> NoiseFloor:
        """Floor of the cross-fitted ECE, which is 0 on average with either sign."""
        deviation = CROSS_FITTED * math.sqrt(float(self.variance.sum())) / self.n
        return NoiseFloor(FOLDED * deviation, ONE_SIDED * deviation)

    def rms(self) -> NoiseFloor:
        """Floor of the RMS error: the root of the mean square, less what its bend takes off."""
        square = float(self.noise.sum())
        if square == 0:
            return NoiseFloor(0.0)
        return NoiseFloor(math.sqrt(square) * (1 - (self.squared_error / square) ** 2 / 8))

    def mce(self) -> NoiseFloor:
        """Floor of MCE: ∫ 1 − Π_b P(|gap_b| ≤ t) dt over [0, 1]."""
        inside = np.ones_like(GRID)
        for b in np.flatnonzero(self.count).tolist():
            count, effect = int(self.count[b]), float(self.effect[b])
            variance = float(self.variance[b])
            # Of count / effect independent items, which have the same mean gap.
            if variance / effect**2 < SPARSE:
                inside *= _within(max(1, round(count / effect)), float(self.confidence[b]))
            else:
                inside *= _normal_within(math.sqrt(variance) / count)
        return NoiseFloor(float((1 - inside).mean()))


def _normal_within(deviation: float) -> FloatArray:
    """P(|X| ≤ t) on the grid for X normal with mean 0."""
    scale = deviation * math.sqrt(2)
    return np.array([math.erf(t / scale) for t in GRID])


def _within(n: int, share: float) -> FloatArray:
    """P(|share − K/n| ≤ t) on the grid for K binomial with this share."""
    if not 0 < share < 1:
        return np.ones_like(GRID)
    spread = math.sqrt(n * share * (1 - share))
    low = max(0, math.floor(n * share - 10 * spread - 20))
    high = min(n, math.ceil(n * share + 10 * spread + 20))
    k = np.arange(low, high)
    # Each probability from its neighbour, on the scale of logarithms; the rest is nothing.
    steps = np.log((n - k) / (k + 1)) + math.log(share / (1 - share))
    log = np.concatenate([[0.0], np.cumsum(steps)])
    weight = np.exp(log - log.max())
    distance = np.abs(share - np.arange(low, high + 1) / n)
    order = np.argsort(distance)
    reached = np.searchsorted(distance[order], GRID + 1e-12, side="right")
    cumulated = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(cumulated[reached] / cumulated[-1])


def noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> NoiseFloor:
    """Return the noise floor of ECE, from the normal approximation per bin."""
    return floor_of("ece", Evidence(predictions, bins, strategy))


def mce_noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Return E[max_b |gap_b|] of a calibrated model; sparse bins are counted exactly."""
    return floor_of("mce", Evidence(predictions, bins, strategy)).mean


def floor_of(metric: str, evidence: Evidence) -> NoiseFloor:
    """Return the noise floor of a metric: NaN where it is no error."""
    if metric not in FLOORS:
        return NoiseFloor(math.nan)
    return FLOORS[metric](evidence)


def _bins(evidence: Evidence) -> NullBins:
    p = evidence.predictions
    return NullBins.of(p.confidence, p.correct, evidence.index, evidence.clusters)


def _total_error(evidence: Evidence) -> float:
    """Standard deviation of the mean gap."""
    p = evidence.predictions
    one_bin = np.zeros(p.n, dtype=np.int64)
    bins = NullBins.of(p.confidence, p.correct, one_bin, evidence.clusters)
    return math.sqrt(float(bins.variance[0])) / p.n


def _classwise(evidence: Evidence) -> NoiseFloor:
    p = evidence.predictions
    table, labels = probabilities_of(p, "classwise_ece"), labels_of(p, "classwise_ece")
    total = 0.0
    for option in range(table.shape[1]):
        confidence = np.ascontiguousarray(table[:, option])
        index = bin_index(confidence, evidence.bins)
        bins = NullBins.of(confidence, labels == option, index, evidence.clusters)
        total += bins.ece().mean
    return NoiseFloor(total / table.shape[1])


def _half_ece(evidence: Evidence) -> NoiseFloor:
    return NoiseFloor(_bins(evidence).ece().mean / 2)


FLOORS: Final[dict[str, Callable[[Evidence], NoiseFloor]]] = {
    "ece": lambda evidence: _bins(evidence).ece(),
    "equal_mass_ece": lambda evidence: _bins(evidence).ece(),
    "cross_fitted_ece": lambda evidence: _bins(evidence).cross_fitted(),
    "mce": lambda evidence: _bins(evidence).mce(),
    "rms_ce": lambda evidence: _bins(evidence).rms(),
    "debiased_rms_ce": lambda evidence: NoiseFloor(
        ROOT_OF_NORMAL * math.sqrt(_bins(evidence).squared_error)
    ),
    "debiased_squared_ce": lambda evidence: NoiseFloor(FOLDED * _bins(evidence).squared_error),
    "classwise_ece": _classwise,
    "overconfidence": _half_ece,
    "underconfidence": _half_ece,
    "smooth_ece": lambda evidence: NoiseFloor(smooth_noise_floor(evidence)),
    "ks_ce": lambda evidence: NoiseFloor(BROWNIAN_MEAN * _total_error(evidence)),
    "brier_reliability": lambda evidence: NoiseFloor(float(_bins(evidence).noise.sum())),
    "signed_gap": lambda evidence: NoiseFloor(FOLDED * _total_error(evidence)),
}
