"""What a perfectly calibrated model would show: the noise floor of ECE and MCE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_calibration.metrics import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.standard_errors import cluster_codes


@dataclass(frozen=True)
class NoiseFloor:
    """ECE of a perfectly calibrated model with the same confidences.

    Attributes:
        mean: what it would show on average.
        high: what it would stay below 95 % of the time.
    """

    mean: float
    high: float


def _null_spread(
    predictions: Predictions, bins: int, strategy: Strategy
) -> tuple[FloatArray, IntArray]:
    """Standard deviation of each bin's Σ gap if P(correct) were the confidence; and counts."""
    index = bin_index(predictions.confidence, bins, strategy)
    variance = predictions.confidence * (1 - predictions.confidence)
    clusters = cluster_codes(predictions)
    null = np.bincount(index, weights=variance)
    if clusters is not None:
        # Items of one group err together; scale by how much the observed group totals exceed
        # independence, never below it.
        gap = predictions.gap
        size = len(null)
        residual = (
            gap - (np.bincount(index, weights=gap) / np.maximum(np.bincount(index), 1))[index]
        )
        sums = np.bincount(clusters * size + index, weights=residual)
        seen = np.bincount(np.arange(len(sums)) % size, weights=sums**2, minlength=size)
        alone = np.bincount(index, weights=residual**2, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            null = null * np.maximum(np.nan_to_num(seen / alone, nan=1.0, posinf=1.0), 1.0)
    return np.sqrt(null), np.bincount(index)


def noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> NoiseFloor:
    """Return the noise floor of ECE, from the normal approximation per bin.

    A bin's Σ gap has standard deviation s_b = sqrt(Σ c (1 − c)) when confidences c are right, so
    its absolute value has mean s_b·sqrt(2/π) and variance s_b²·(1 − 2/π).
    """
    spread, _ = _null_spread(predictions, bins, strategy)
    mean = math.sqrt(2 / math.pi) * float(spread.sum()) / predictions.n
    deviation = math.sqrt((1 - 2 / math.pi) * float(spread @ spread)) / predictions.n
    return NoiseFloor(mean, mean + 1.645 * deviation)


def mce_noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Return E[max_b |gap_b|] of a calibrated model: ∫ 1 − Π_b P(|gap_b| ≤ t) dt over [0, 1]."""
    spread, count = _null_spread(predictions, bins, strategy)
    sigma = (spread / np.maximum(count, 1))[count > 0]
    grid = np.linspace(0.0, 1.0, 1001)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sigma > 0, grid[:, None] / sigma, np.inf)
    inside = np.vectorize(math.erf)(z / math.sqrt(2)).prod(axis=1)
    outside = 1 - inside
    return float((outside[1:] + outside[:-1]).sum() / 2 * (grid[1] - grid[0]))
