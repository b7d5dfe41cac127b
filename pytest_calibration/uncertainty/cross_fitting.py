"""The cross-fitted ECE with its standard error."""

from __future__ import annotations

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error


def cross_fitted_ece(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> tuple[float, float]:
    """Return (cross-fitted ECE, its standard error)."""
    clusters = cluster_codes(predictions)
    index = bin_index(predictions.confidence, bins, strategy)
    fitted = cross_fitted(predictions.gap, index, clusters)
    return fitted.value, standard_error(fitted.influence, clusters)
