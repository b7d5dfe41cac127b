"""The cross-fitted ECE with its standard error."""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.metrics.cross_fitted import CrossFitted, cross_fitted
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

__all__ = ["CrossFitted", "cross_fitted", "cross_fitted_ece", "debiased_size"]

_ERF = np.frompyfunc(math.erf, 1, 1)


def erf(x: FloatArray) -> FloatArray:
    """Return the error function of each value."""
    return np.asarray(_ERF(x), dtype=np.float64)


def debiased_size(total: FloatArray, spread: FloatArray) -> FloatArray:
    """|total| less what noise adds to it: |S|(2Φ(a) − 1) − 2s·φ(a) with a = |S|/s.

    See :func:`pytest_calibration.metrics.cross_fitted.cross_fitted`.

    Args:
        total: noisy values, of any shape.
        spread: their standard deviations; 0 leaves the value as it is.
    """
    size = np.abs(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.where(spread > 0, size / spread, np.inf)
    density = np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    return np.asarray(size * erf(a / math.sqrt(2)) - 2 * spread * density)


def cross_fitted_ece(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> tuple[float, float]:
    """Return (cross-fitted ECE, its standard error)."""
    clusters = cluster_codes(predictions)
    index = bin_index(predictions.confidence, bins, strategy)
    fitted = cross_fitted(predictions.gap, index, clusters)
    return fitted.value, standard_error(fitted.influence, clusters)
