"""Interval and noise floor of the smooth ECE."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import automatic_bandwidth, deposit
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.standard_errors import design_effects, standard_error

# Coarser than the grid of the metric: three correct digits are enough here.
CELLS: Final = 1024
NODES: Final = np.arange(CELLS + 1) / CELLS
# Trapezoidal rule: weights of the nodes in an integral over [0, 1].
TRAPEZIUM: Final = np.concatenate([[0.5], np.ones(CELLS - 1), [0.5]]) / CELLS
# A kernel narrower than two cells is not Gaussian.
SMALLEST_SIGMA: Final = 2 / CELLS
DECAY: Final = CELLS**2 * (np.cos(np.pi * np.arange(CELLS + 1) / CELLS) - 1)
HALVINGS: Final = 12
# Rounding error of a smoothed gap that is 0.
ROUNDING: Final = 1e-12


def smoothed(field: FloatArray, sigma: float) -> FloatArray:
    """Smooth values at the nodes, (CELLS + 1,), with the kernel reflected at 0 and 1."""
    circle = np.concatenate([field, field[-2:0:-1]])
    waves = np.fft.rfft(circle) * np.exp(sigma * sigma * DECAY)
    return np.asarray(np.fft.irfft(waves)[: CELLS + 1])


def density(masses: FloatArray, sigma: float) -> FloatArray:
    """Σ_i mass_i·K_σ(t, c_i) at the nodes t, from masses at the nodes."""
    # An end node stands for half a cell.
    return smoothed(masses / (TRAPEZIUM * CELLS), sigma) * CELLS


def squared_density(masses: FloatArray, sigma: float) -> FloatArray:
    """Σ_i mass_i·K_σ(t, c_i)² at the nodes t.

    The square of a Gaussian is a narrower Gaussian. The product of a Gaussian and its mirror image
    at an end is a factor of t times a factor of c.
    """
    out = density(masses, sigma / math.sqrt(2)) / (2 * sigma * math.sqrt(math.pi))
    for end in (0.0, 1.0):
        near = np.exp(-(((NODES - end) / sigma) ** 2))
        out += near * float(masses @ near) / (math.pi * sigma**2)
    return out


class SmoothedGaps:
    """The gaps of a sample on the grid, with the variance of their noise."""

    def __init__(self, sample: Sample) -> None:
        p = sample.predictions
        self.n = p.n
        self.sample = sample
        self._gaps = deposit(p.confidence, p.gap, CELLS)
        self._squares = deposit(p.confidence, p.gap**2, CELLS)

    @cached_property
    def _design_effect(self) -> float:
        """Design effect of the groups, over all items as one bin.

        All pairs of a group count, however different their confidences: a conservative choice.
        """
        gap = self.sample.predictions.gap
        one_bin = np.zeros(self.n, dtype=np.int64)
        return float(design_effects(gap - gap.mean(), one_bin, 1, self.sample.clusters)[0])

    def at(self, sigma: float) -> tuple[float, float, float]:
        """Return (plug-in, cross-fitted, standard error) of the error at this bandwidth.

        As for ECE, with the sign of the smoothed gap at each point instead of the sign of a bin.
        """
        field = density(self._gaps, sigma) / self.n
        mean_square = squared_density(self._squares, sigma) / self.n
        variance = np.maximum(mean_square - field**2, 0.0) / self.n
        spread = np.sqrt(variance * self._design_effect)
        plug_in = float(np.abs(field) @ TRAPEZIUM)
        debiased = float(debiased_size(field, spread) @ TRAPEZIUM)
        # The influence of an item is its gap times the smoothed sign at its confidence.
        weight = smoothed(np.where(field < -ROUNDING, -1.0, 1.0), sigma)
        if self.sample.clusters is None:
            second = float(self._squares @ weight**2) / self.n
            error = math.sqrt(max(0.0, second - plug_in**2) / (self.n - 1))
        else:
            p = self.sample.predictions
            influence = p.gap * np.interp(p.confidence, NODES, weight)
            error = standard_error(influence, self.sample.clusters)
        return plug_in, debiased, error

    def size(self, sigma: float) -> float:
        """Smooth ECE at this bandwidth."""
        return float(np.abs(density(self._gaps, sigma)) @ TRAPEZIUM) / self.n

    def null_size(self, sigma: float) -> float:
        """Mean smooth ECE of a calibrated model with these confidences, at this bandwidth."""
        variance = np.maximum(squared_density(self._null_masses, sigma), 0.0) * self._design_effect
        return math.sqrt(2 / math.pi) * float(np.sqrt(variance) @ TRAPEZIUM) / self.n

    @cached_property
    def _null_masses(self) -> FloatArray:
        confidence = self.sample.predictions.confidence
        return deposit(confidence, confidence * (1 - confidence), CELLS)


def smooth_ece_interval(sample: Sample) -> Ends:
    """From the cross-fitted smooth ECE − z standard errors to the plug-in one + z of them.

    Both at the automatic bandwidth σ of the sample. They also hold for the population's error at
    its own automatic bandwidth, since the error falls as the bandwidth grows: an error of at least
    L at bandwidth σ is at least min(L, σ) where it equals its bandwidth.
    """
    gaps = SmoothedGaps(sample)
    sigma = automatic_bandwidth(gaps.size, SMALLEST_SIGMA, HALVINGS)
    plug_in, debiased, error = gaps.at(sigma)
    margin = sample.z * error
    low = debiased - max(margin, sample.unseen * (1 + plug_in))
    high = plug_in + max(margin, sample.unseen * (1 - plug_in))
    return min(sigma, low), max(sigma, high)


def smooth_noise_floor(sample: Sample) -> float:
    """Return the mean smooth ECE of a calibrated model with these confidences."""
    gaps = SmoothedGaps(sample)
    return gaps.null_size(automatic_bandwidth(gaps.null_size, SMALLEST_SIGMA, HALVINGS))
