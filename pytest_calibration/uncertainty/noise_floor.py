"""The noise floor of each error: its mean for a calibrated model with the same confidences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from pytest_calibration.metrics.binning import bin_index
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray
from pytest_calibration.uncertainty.bins import BinTotals
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.smoothing import smooth_noise_floor
from pytest_calibration.uncertainty.standard_errors import correlation_of_bins, design_effects

# One-sided 95 % point of the normal distribution.
ONE_SIDED: Final = 1.645
# Mean absolute value of a standard normal variable.
FOLDED: Final = math.sqrt(2 / math.pi)
# Standard deviation of a cross-fitted bin, |x|·(2Φ(|x|) − 1) − 2φ(x), for standard normal x.
CROSS_FITTED: Final = 0.8372
# Mean of sqrt(max(0, X)) for standard normal X.
ROOT_OF_NORMAL: Final = 2**0.25 * math.gamma(0.75) / math.sqrt(4 * math.pi)
# Mean of the largest absolute value of Brownian motion on [0, 1].
BROWNIAN_MEAN: Final = math.sqrt(math.pi / 2)
# Below this variance the exact binomial distribution is used for a bin.
SPARSE: Final = 100.0
# Midpoints of 1000 steps from 0 to 1.
GRID: Final = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class NoiseFloor:
    """The error that a calibrated model with the same confidences shows from noise alone.

    Attributes:
        mean: mean of its absolute value.
        high: its 95 % quantile; NaN where that is not known.
    """

    mean: float
    high: float = math.nan


@dataclass(frozen=True)
class NullBins:
    """Bins of a calibrated model: P(correct) is the confidence.

    Attributes:
        variance: (b,) variance of Σ gap, design effect included.
        effect: (b,) design effect: variance over that of independent items.
        count: (b,) number of items.
        confidence: (b,) their mean confidence, 0 in an empty bin.
        correlation: (b, b) of Σ gap between bins; None where items are independent.
    """

    variance: FloatArray
    effect: FloatArray
    count: IntArray
    confidence: FloatArray
    correlation: FloatArray | None = None

    @classmethod
    def of(
        cls, confidence: FloatArray, correct: BoolArray, index: IntArray, clusters: IntArray | None
    ) -> NullBins:
        """Return the bins of (n,) items, sorted by ``index``."""
        totals = BinTotals(confidence - correct, correct, index, clusters)
        alone = np.bincount(index, weights=confidence * (1 - confidence))
        mean = np.bincount(index, weights=confidence) / np.maximum(totals.count, 1)
        effect, correlation = np.ones(totals.size), None
        if clusters is not None:
            effect = design_effects(totals.residual, index, totals.size, clusters)
            variance = alone * effect
            correlation = correlation_of_bins(totals.residual, index, variance, clusters)
        return cls(alone * effect, effect, totals.count, mean, correlation)

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.count.sum())

    @property
    def noise(self) -> FloatArray:
        """(b,) expected contribution of each bin to the mean squared error."""
        return np.asarray(self.variance / np.maximum(self.count, 1) / self.n)

    @property
    def squared_error(self) -> float:
        """Standard deviation of the squared error."""
        return math.sqrt(2 * float(self.noise @ self.noise))

    @property
    def spread(self) -> float:
        """Standard deviation of Σ_b |Σ gap| over that of one |Σ gap| of variance 1.

        For two normal variables with correlation r, that of their absolute values is
        (√(1 − r²) + r·asin r − 1) / (π/2 − 1).
        """
        deviation = np.sqrt(self.variance)
        if self.correlation is None:
            return math.sqrt(float(deviation @ deviation))
        r = self.correlation
        folded = (np.sqrt(1 - r**2) + r * np.arcsin(r) - 1) / (math.pi / 2 - 1)
        return math.sqrt(float(deviation @ folded @ deviation))

    def ece(self) -> NoiseFloor:
        """Floor of ECE: a bin's |Σ gap| has mean s·sqrt(2/π) and variance s²·(1 − 2/π)."""
        mean = FOLDED * float(np.sqrt(self.variance).sum()) / self.n
        deviation = math.sqrt(1 - 2 / math.pi) * self.spread / self.n
        return NoiseFloor(mean, mean + ONE_SIDED * deviation)

    def cross_fitted(self) -> NoiseFloor:
        """Floor of the cross-fitted ECE, which has mean 0 and either sign."""
        deviation = CROSS_FITTED * self.spread / self.n
        return NoiseFloor(FOLDED * deviation, ONE_SIDED * deviation)

    def rms(self) -> NoiseFloor:
        """Floor of the RMS error: root of the mean square, with a second-order correction."""
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
            # As for count / effect independent items with the same mean gap.
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
    # Each log-probability from its neighbour; outcomes beyond low and high are negligible.
    steps = np.log((n - k) / (k + 1)) + math.log(share / (1 - share))
    log = np.concatenate([[0.0], np.cumsum(steps)])
    weight = np.exp(log - log.max())
    distance = np.abs(share - np.arange(low, high + 1) / n)
    order = np.argsort(distance)
    position = np.searchsorted(distance[order], GRID + 1e-12, side="right")
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(cumulative[position] / cumulative[-1])


def floor_of(metric: str, sample: Sample) -> NoiseFloor:
    """Return the noise floor of a metric; NaN where it is not a calibration error."""
    if metric not in FLOORS:
        return NoiseFloor(math.nan)
    return FLOORS[metric](sample)


_BINS: WeakKeyDictionary[Sample, NullBins] = WeakKeyDictionary()


def _bins(sample: Sample) -> NullBins:
    if sample not in _BINS:
        p = sample.predictions
        _BINS[sample] = NullBins.of(p.confidence, p.correct, sample.index, sample.clusters)
    return _BINS[sample]


def _total_error(sample: Sample) -> float:
    """Standard deviation of the mean gap."""
    p = sample.predictions
    one_bin = np.zeros(p.n, dtype=np.int64)
    bins = NullBins.of(p.confidence, p.correct, one_bin, sample.clusters)
    return math.sqrt(float(bins.variance[0])) / p.n


def _classwise(sample: Sample) -> NoiseFloor:
    p = sample.predictions
    table, labels = probabilities_of(p, "classwise_ece"), labels_of(p, "classwise_ece")
    total = 0.0
    for option in range(table.shape[1]):
        confidence = np.ascontiguousarray(table[:, option])
        index = bin_index(confidence, sample.bins)
        bins = NullBins.of(confidence, labels == option, index, sample.clusters)
        total += bins.ece().mean
    return NoiseFloor(total / table.shape[1])


def _half_ece(sample: Sample) -> NoiseFloor:
    return NoiseFloor(_bins(sample).ece().mean / 2)


FLOORS: Final[dict[str, Callable[[Sample], NoiseFloor]]] = {
    "ece": lambda s: _bins(s).ece(),
    "equal_mass_ece": lambda s: _bins(s).ece(),
    "cross_fitted_ece": lambda s: _bins(s).cross_fitted(),
    "mce": lambda s: _bins(s).mce(),
    "rms_ce": lambda s: _bins(s).rms(),
    "debiased_rms_ce": lambda s: NoiseFloor(ROOT_OF_NORMAL * math.sqrt(_bins(s).squared_error)),
    "debiased_squared_ce": lambda s: NoiseFloor(FOLDED * _bins(s).squared_error),
    "classwise_ece": _classwise,
    "overconfidence": _half_ece,
    "underconfidence": _half_ece,
    "smooth_ece": lambda s: NoiseFloor(smooth_noise_floor(s)),
    "ks_ce": lambda s: NoiseFloor(BROWNIAN_MEAN * _total_error(s)),
    "brier_reliability": lambda s: NoiseFloor(float(_bins(s).noise.sum())),
    "signed_gap": lambda s: NoiseFloor(FOLDED * _total_error(s)),
}
