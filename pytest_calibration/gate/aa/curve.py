"""P(correct | confidence), fitted to predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pytest_calibration.metrics.binning import DEFAULT_BINS, bin_index
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.isotonic import isotonic
from pytest_calibration.uncertainty.standard_errors import cluster_codes


class Curve(NamedTuple):
    """P(correct | confidence), between the diagonal and an isotonic fit.

    Attributes:
        at: (m,) confidences, ascending.
        value: (m,) isotonic fit there; linear between them, constant beyond.
        share: how far it goes from the diagonal (0) to the fit (1).
    """

    at: FloatArray
    value: FloatArray
    share: float

    def __call__(self, confidence: FloatArray) -> FloatArray:
        """Return P(correct) at these confidences."""
        fitted = np.interp(confidence, self.at, self.value)
        return confidence + self.share * (fitted - confidence)


def fit_curve(predictions: Predictions) -> Curve:
    """Fit P(correct | confidence) so that the ECE of the curve is the cross-fitted ECE.

    An isotonic fit follows the noise too, and would call a calibrated model miscalibrated. It is
    drawn back towards the diagonal until its distance from it is the debiased estimate.
    """
    at, value = isotonic(predictions.confidence, predictions.correct.astype(np.float64))
    fitted = np.interp(predictions.confidence, at, value)
    distance = float(np.abs(predictions.confidence - fitted).mean())
    index = bin_index(predictions.confidence, DEFAULT_BINS)
    debiased = cross_fitted(predictions.gap, index, cluster_codes(predictions)).value
    return Curve(at, value, min(1.0, max(0.0, debiased) / distance) if distance > 0 else 0.0)
