"""Calibration errors without bins: smoothed, and cumulative."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.levels import levels_of
from pytest_calibration.predictions import (
    FloatArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)

# Cells of the grid on which gaps are smoothed. An item is shared by the two nodes around it, which
# widens the kernel by at most half a cell: nothing beside a bandwidth of 0.005 or more.
CELLS: Final = 4096
HALVINGS: Final = 40


def smooth_ece(predictions: PredictionsLike, sigma: float | None = None) -> float:
    """Smooth calibration error: ∫ |(1/n) Σ_i K_σ(t, conf_i) · (conf_i − correct_i)| dt, in [0, 1].

    K_σ is the Gaussian kernel of deviation σ on [0, 1], reflected at both ends, so that confidences
    of exactly 0 and 1 count as much as any other. The error falls as σ grows; without a ``sigma``
    it is taken where the error equals its own bandwidth, which leaves nothing to choose.

    There are no bins, and ties are as good as neighbours. Never below the absolute signed gap, nor
    above the ECE of the distinct values. Gaps are smoothed on a grid of 4096 cells, in time and
    memory linear in n, which moves values by less than 1e-5 at bandwidths of 0.005 or more.

    Source: Błasiok & Nakkiran 2024 (smECE).

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        sigma: fixed bandwidth above 0, in units of confidence; None for the automatic one.

    Raises:
        MetricError: a bandwidth that is not a finite number above 0.
    """
    if sigma is not None and not (math.isfinite(sigma) and sigma > 0):
        raise MetricError(f"sigma must be a finite number above 0, got {sigma}.")
    field = _SmoothedGaps(as_predictions(predictions))
    if sigma is not None:
        return field.size(sigma)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if field.size(middle) > middle else (low, middle)
    return field.size(high)


def deposit(position: FloatArray, weight: FloatArray, cells: int) -> FloatArray:
    """Sum weights at the nodes of a grid of [0, 1]; each is shared by the two around its position.

    Args:
        position: (n,) in [0, 1].
        weight: (n,) what lies there.
        cells: number of cells of the grid.

    Returns:
        (cells + 1,) what the nodes hold.
    """
    scaled = position * cells
    cell = np.minimum(scaled.astype(np.int64), cells - 1)
    upper = weight * (scaled - cell)
    nodes = np.bincount(cell, weights=weight - upper, minlength=cells + 1).astype(np.float64)
    nodes[1:] += np.bincount(cell, weights=upper, minlength=cells)
    return nodes


class _SmoothedGaps:
    """Gaps on a grid of [0, 1], and what remains of them after smoothing."""

    def __init__(self, predictions: Predictions) -> None:
        nodes = deposit(predictions.confidence, predictions.gap, CELLS)
        # Reflection makes a circle of twice the length. An end node is its own mirror image, and
        # takes its mass twice, as any other node has it twice.
        circle = np.concatenate([nodes, nodes[-2:0:-1]]) / predictions.n
        circle[[0, CELLS]] *= 2
        self._waves = np.fft.rfft(circle)
        # Diffusion from node to node: its kernel is never negative, whatever the bandwidth, and is
        # the Gaussian one from a few cells on.
        self._decay = -2 * (CELLS * np.sin(np.pi * np.arange(CELLS + 1) / (2 * CELLS))) ** 2

    def size(self, sigma: float) -> float:
        """∫ |smoothed gap| over [0, 1]."""
        smoothed = np.fft.irfft(self._waves * np.exp(sigma * sigma * self._decay))
        return float(np.abs(smoothed).sum() / 2)


def ks_ce(predictions: PredictionsLike) -> float:
    """Kolmogorov–Smirnov calibration error: max_t |Σ of gaps at confidences up to t| / n.

    The largest distance between the cumulated confidences and the cumulated correct answers, with
    items sorted by confidence. Items of equal confidence enter together, so their order does not
    matter; there are no bins. Between the absolute signed gap and the ECE of the distinct values,
    in [0, 1].

    Source: Gupta et al. 2021; the maximum absolute deviation of Arrieta-Ibarra et al. 2022.
    """
    predictions = as_predictions(predictions)
    levels = levels_of(predictions)
    cumulated: FloatArray = np.cumsum(levels.confidence * levels.count - levels.right)
    return float(np.abs(cumulated).max() / predictions.n)
