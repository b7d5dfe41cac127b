"""Intervals of squared errors over bins: RMS calibration error, Brier reliability and resolution.

With S the totals of the bins, each of these is a quadratic form S'AS. Noise with covariance Σ adds
the bias tr(AΣ), which is subtracted, and the variance 2·tr(AΣAΣ), the only variance at calibration
(Sun et al. 2024).
"""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.bins import BinTotals, totals_of
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.standard_errors import standard_error


def reliability_interval(sample: Sample) -> Ends:
    """Ends of the squared RMS calibration error, which is the reliability of the Brier score."""
    totals = totals_of(sample)
    weights = np.diag(1 / (len(totals.gap) * np.maximum(totals.count, 1)))
    return _form_interval(totals, weights, sample.z)


def rms_interval(sample: Sample) -> Ends:
    """Square roots of the ends of the squared error."""
    low, high = reliability_interval(sample)
    return math.sqrt(max(0.0, low)), math.sqrt(high)


def resolution_interval(sample: Sample) -> Ends:
    """Ends of Σ_b π_b·(a_b − a)², with a_b the accuracy of bin b and a that of all items."""
    p = sample.predictions
    correct = p.correct.astype(np.float64)
    totals = BinTotals(correct - correct.mean(), p.correct, sample.index, sample.clusters)
    # The overall accuracy is estimated too: subtract its square.
    weights = np.diag(1 / (p.n * np.maximum(totals.count, 1))) - 1 / p.n**2
    return _form_interval(totals, weights, sample.z)


def _form_interval(totals: BinTotals, weights: FloatArray, z: float) -> Ends:
    """Ends of the quadratic form of the true totals, given the weights A, (b, b).

    The lower end is the debiased form minus z standard errors. The variance of the form grows with
    the form, so the upper end is the largest Q that is z of its own standard errors away from the
    debiased form: (Q − form)² = z²·(noise + Q·slope).
    """
    n = len(totals.gap)
    mean = totals.total / np.maximum(totals.count, 1)
    plug_in = float(totals.total @ mean) / n
    own = mean[totals.index]
    # This estimate includes the variance of the noise twice.
    first_order = standard_error((2 * totals.gap - own) * own, totals.clusters) ** 2
    first_order += 4 * float(mean**2 @ totals.room) / n**2
    seen_bias, seen_noise = noise_of_form(totals, totals.seen_variance, weights)
    bias, noise = noise_of_form(totals, totals.variance, weights)
    variance = max(first_order + noise - seen_noise, noise)
    low = plug_in - bias - z * math.sqrt(variance)
    centre = plug_in - seen_bias
    slope = first_order / plug_in if plug_in > 0 else 4 * float(totals.variance.sum()) / n**2
    middle = centre + z * z * slope / 2
    reach = math.sqrt(max(0.0, middle**2 - centre**2 + z * z * noise))
    return low, max(middle + reach, plug_in)


def noise_of_form(
    totals: BinTotals, variance: FloatArray, weights: FloatArray
) -> tuple[float, float]:
    """Return mean and variance of the quadratic form of normal noise alone.

    Args:
        totals: the bins; their totals covary where groups have items in several of them.
        variance: (b,) variance of each total.
        weights: (b, b) weights of the form.
    """
    if totals.unit_totals is None:
        covariance = np.diag(variance)
    else:
        groups = len(totals.unit_totals)
        covariance = totals.unit_totals.T @ totals.unit_totals * (groups / (groups - 1))
        np.fill_diagonal(covariance, variance)
    product = weights @ covariance
    return float(np.trace(product)), 2 * float(np.sum(product * product.T))
