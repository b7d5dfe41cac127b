"""Interval and noise floor of the smooth ECE."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import deposit
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.standard_errors import design_effects, standard_error

# Coarser than the grid of the metric: here the third digit is enough.
CELLS: Final = 1024
NODES: Final = np.arange(CELLS + 1) / CELLS
# Integrates over [0, 1] what is given at the nodes.
TRAPEZIUM: Final = np.concatenate([[0.5], np.ones(CELLS - 1), [0.5]]) / CELLS
# A Gaussian of fewer cells than two is not one any more.
SMALLEST_SIGMA: Final = 2 / CELLS
DECAY: Final = CELLS**2 * (np.cos(np.pi * np.arange(CELLS + 1) / CELLS) - 1)
HALVINGS: Final = 12
# A smoothed gap in balance may come out as this much.
ROUNDING: Final = 1e-12


def smoothed(field: FloatArray, sigma: float) -> FloatArray:
    """Smooth values at the nodes, (CELLS + 1,), with the kernel that [0, 1] reflects."""
    circle = np.concatenate([field, field[-2:0:-1]])
    waves = np.fft.rfft(circle) * np.exp(sigma * sigma * DECAY)
    return np.asarray(np.fft.irfft(waves)[: CELLS + 1])


def density(masses: FloatArray, sigma: float) -> FloatArray:
    """Σ_i mass_i·K_σ(t, c_i) at the nodes t, from masses at the nodes."""
    # An end node stands for half a cell.
    return smoothed(masses / (TRAPEZIUM * CELLS), sigma) * CELLS


def squared_density(masses: FloatArray, sigma: float) -> FloatArray:
    """Σ_i mass_i·K_σ(t, c_i)² at the nodes t.

    The square of a Gaussian is a narrower one. The product of a Gaussian and its mirror image at an
    end is one factor of t times one of c.
    """
    out = density(masses, sigma / math.sqrt(2)) / (2 * sigma * math.sqrt(math.pi))
    for end in (0.0, 1.0):
        near = np.exp(-(((NODES - end) / sigma) ** 2))
        out += near * float(masses @ near) / (math.pi * sigma**2)
    return out


class SmoothedEvidence:
    """Gaps on the grid, with what their noise is made of."""

    def __init__(self, evidence: Evidence) -> None:
        p = evidence.predictions
        self.n = p.n
        self.evidence = evidence
        self._gaps = deposit(p.confidence, p.gap, CELLS)
        self._squares = deposit(p.confidence, p.gap**2, CELLS)

    @cached_property
    def _design_effect(self) -> float:
        """How many times larger grouping makes the variance; of all items as of one bin.

        Pairs of a group count however far apart their confidences lie, which is the safe side.
        """
        gap = self.evidence.predictions.gap
        one_bin = np.zeros(self.n, dtype=np.int64)
        return float(design_effects(gap - gap.mean(), one_bin, 1, self.evidence.clusters)[0])

    def at(self, sigma: float) -> tuple[float, float, float]:
        """Return (plug-in, cross-fitted, standard error) of the error at this bandwidth.

        As for ECE, with the sign of the smoothed gap at each point in place of the sign of a bin.
        """
        field = density(self._gaps, sigma) / self.n
        mean_square = squared_density(self._squares, sigma) / self.n
        variance = np.maximum(mean_square - field**2, 0.0) / self.n
        spread = np.sqrt(variance * self._design_effect)
        plug_in = float(np.abs(field) @ TRAPEZIUM)
        debiased = float(debiased_size(field, spread) @ TRAPEZIUM)
        # An item moves the error by its gap times the mean sign around it.
        weight = smoothed(np.where(field < -ROUNDING, -1.0, 1.0), sigma)
        if self.evidence.clusters is None:
            second = float(self._squares @ weight**2) / self.n
            error = math.sqrt(max(0.0, second - plug_in**2) / (self.n - 1))
        else:
            p = self.evidence.predictions
            influence = p.gap * np.interp(p.confidence, NODES, weight)
            error = standard_error(influence, self.evidence.clusters)
        return plug_in, debiased, error

    def size(self, sigma: float) -> float:
        """Smooth ECE at this bandwidth."""
        return float(np.abs(density(self._gaps, sigma)) @ TRAPEZIUM) / self.n

    def null_size(self, sigma: float) -> float:
        """Mean of it for a calibrated model with these confidences."""
        variance = np.maximum(squared_density(self._null_masses, sigma), 0.0) * self._design_effect
        return math.sqrt(2 / math.pi) * float(np.sqrt(variance) @ TRAPEZIUM) / self.n

    @cached_property
    def _null_masses(self) -> FloatArray:
        confidence = self.evidence.predictions.confidence
        return deposit(confidence, confidence * (1 - confidence), CELLS)


def own_bandwidth(size: Callable[[float], float]) -> float:
    """Return the bandwidth at which a falling error equals it."""
    low, high = SMALLEST_SIGMA, 1.0
    for _ in range(HALVINGS):
        sigma = (low + high) / 2
        low, high = (sigma, high) if size(sigma) > sigma else (low, sigma)
    return high


def smooth_ece_interval(evidence: Evidence) -> Ends:
    """From the cross-fitted smooth ECE − z standard errors to the plug-in one + z of them.

    Both at the bandwidth that the items choose. They hold for the error of the population with its
    own automatic bandwidth too, since the error falls as the bandwidth grows: where it is at least
    L at bandwidth σ, it is at least min(L, σ) where it equals its bandwidth.
    """
    gaps = SmoothedEvidence(evidence)
    sigma = own_bandwidth(gaps.size)
    plug_in, debiased, error = gaps.at(sigma)
    margin = evidence.z * error
    low = debiased - max(margin, evidence.unseen * (1 + plug_in))
    high = plug_in + max(margin, evidence.unseen * (1 - plug_in))
    return min(sigma, low), max(sigma, high)


def smooth_noise_floor(evidence: Evidence) -> float:
    """Return the smooth ECE that a calibrated model with these confidences would show."""
    gaps = SmoothedEvidence(evidence)
    return gaps.null_size(own_bandwidth(gaps.null_size))
