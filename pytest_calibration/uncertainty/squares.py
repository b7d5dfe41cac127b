"""Intervals of squared errors over bins: RMS calibration error, Brier reliability, resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.bins import BinTotals, totals_of
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.standard_errors import standard_error


def square_interval(totals: BinTotals, evidence: Evidence, *, centred: bool = False) -> Ends:
    """Ends of Σ_b π_b·μ_b² with μ_b the mean gap of bin b and π_b its share of the population."""
    n = len(totals.gap)
    count = np.maximum(totals.count, 1)
    mean = totals.total / count
    plug_in = float(totals.total @ mean) / n
    first = standard_error((2 * totals.gap - mean[totals.index]) * mean[totals.index], totals.clusters)
    def parts(variance):
        if totals.unit_totals is None:
            cov = np.diag(variance)
        else:
            k = totals.unit_totals
            cov = k.T @ k * (len(k) / (len(k) - 1))
            cov[np.diag_indices(len(cov))] = variance
        form = np.diag(1 / (n * count))
        if centred:
            form = form - 1 / n**2
        prod = form @ cov
        return float(np.trace(prod)), 2 * float(np.sum(prod * prod.T))
    bias, second = parts(totals.seen_variance)
    bias_f, second_f = parts(totals.variance)
    total_var = max(first**2 - second, 0) + second_f
    z = evidence.z
    low = plug_in - bias_f - z * math.sqrt(total_var)
    # score-like upper end
    centre = plug_in - bias
    c = 4 * float(totals.variance.sum()) / n / n
    b = centre + z * z * c / 2
    q = b + math.sqrt(max(b * b - centre * centre + z * z * second_f, 0))
    high = max(centre + z * math.sqrt(total_var), q, plug_in)
    return max(0.0, low), high


def reliability_interval(evidence: Evidence) -> Ends:
    if evidence.units < 2:
        return 0.0, 1.0
    low, high = square_interval(totals_of(evidence), evidence)
    return low, min(1.0, high)


def rms_interval(evidence: Evidence) -> Ends:
    low, high = reliability_interval(evidence)
    return math.sqrt(low), math.sqrt(high)


def resolution_interval(evidence: Evidence) -> Ends:
    if evidence.units < 2:
        return 0.0, 0.25
    p = evidence.predictions
    correct = p.correct.astype(np.float64)
    totals = BinTotals(correct - correct.mean(), p.correct, evidence.index, evidence.clusters)
    low, high = square_interval(totals, evidence, centred=True)
    return low, min(0.25, high)
