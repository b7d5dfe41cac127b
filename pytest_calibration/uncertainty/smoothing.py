"""Interval of the smooth ECE."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binless import smooth_ece
from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.cross_fitting import debiased_size
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.standard_errors import design_effects

CELLS: Final = 1024


def deposit(position: FloatArray, weight: FloatArray) -> FloatArray:
    """Share weights between the two nodes around each position: (CELLS + 1,)."""
    at = position * CELLS
    cell = np.minimum(at.astype(np.int64), CELLS - 1)
    upper = weight * (at - cell)
    nodes = np.bincount(cell, weights=weight - upper, minlength=CELLS + 1)
    nodes[1:] += np.bincount(cell, weights=upper, minlength=CELLS)
    return nodes


_DECAY = CELLS**2 * (np.cos(np.pi * np.arange(CELLS + 1) / CELLS) - 1)


def diffuse(nodes: FloatArray, sigma: float, *, field: bool = False) -> FloatArray:
    """Smooth with reflection. Masses in, density * (1/CELLS) out; or a field of values."""
    circle = np.concatenate([nodes, nodes[-2:0:-1]])
    if not field:
        circle[[0, CELLS]] *= 2
    smoothed = np.fft.irfft(np.fft.rfft(circle) * np.exp(sigma * sigma * _DECAY))
    return smoothed[: CELLS + 1]


class SmoothEvidence:
    def __init__(self, evidence: Evidence) -> None:
        p = evidence.predictions
        self.n = p.n
        self.evidence = evidence
        self.confidence, self.gap = p.confidence, p.gap
        self.gaps = deposit(p.confidence, p.gap)
        self.squares = deposit(p.confidence, p.gap**2)
        w = np.ones(CELLS + 1)
        w[[0, CELLS]] = 0.5
        self.w = w / CELLS
        self.deff = 1.0
        if evidence.clusters is not None:
            z = np.zeros(p.n, dtype=np.int64)
            self.deff = float(design_effects(p.gap - p.gap.mean(), z, 1, evidence.clusters)[0])

    def at(self, sigma: float) -> tuple[float, float, float]:
        """plug-in, debiased, SE at sigma."""
        n = self.n
        r = diffuse(self.gaps, sigma) * CELLS / n
        spread = np.sqrt(np.maximum(self.square_of_kernel(self.squares, sigma) / n - r * r, 0) / n * self.deff)
        plug = float(np.abs(r) @ self.w)
        deb = float(debiased_size(r, spread) @ self.w)
        sign = np.where(r < 0, -1.0, 1.0)
        weight = diffuse(sign, sigma, field=True)
        if self.evidence.clusters is None:
            mean = plug
            second = float(self.squares @ weight**2) / n
            se = math.sqrt(max(second - mean**2, 0) / (n - 1))
        else:
            infl = self.gap * np.interp(self.confidence, np.linspace(0, 1, CELLS + 1), weight)
            from pytest_calibration.uncertainty.standard_errors import standard_error
            se = standard_error(infl, self.evidence.clusters)
        return plug, deb, se

    def square_of_kernel(self, masses: FloatArray, sigma: float) -> FloatArray:
        """Σ mass_i K(t, c_i)²."""
        t = np.linspace(0, 1, CELLS + 1)
        base = diffuse(masses, sigma / math.sqrt(2)) * CELLS / (2 * sigma * math.sqrt(math.pi))
        out = base
        for end in (0.0, 1.0):
            near = np.exp(-((t - end) / sigma) ** 2)
            out = out + 2 * near * float(masses @ near) / (2 * math.pi * sigma**2)
        return out


def smooth_ece_interval(evidence: Evidence) -> Ends:
    if evidence.units < 2:
        return 0.0, 1.0
    s = SmoothEvidence(evidence)
    z = evidence.z
    value = smooth_ece(evidence.predictions)
    plug, deb, se = s.at(max(value, 2e-3))
    low = deb - max(z * se, evidence.unseen * (1 + plug))
    high = plug + max(z * se, evidence.unseen * (1 - plug))
    return max(0.0, min(low, value)), min(1.0, max(high, value))
