"""P(correct | confidence), fitted to predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.cross_fitting import cross_fitted_ece


def isotonic(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the non-decreasing function of least squares, by pool-adjacent-violators.

    Equal values of ``x`` get one value, whatever the order of their ``y`` (Ayer et al. 1955;
    Barlow et al. 1972).

    Args:
        x: (n,) where.
        y: (n,) what was seen there.

    Returns:
        The m distinct values of x, ascending, and the fitted values (m,).
    """
    at, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=y) / counts
    values: list[float] = []
    weights: list[int] = []
    lengths: list[int] = []
    for value, weight in zip(means.tolist(), counts.tolist(), strict=True):
        values.append(value)
        weights.append(weight)
        lengths.append(1)
        while len(values) > 1 and values[-2] >= values[-1]:
            value1, weight1 = values.pop(), weights.pop()
            values[-1] = (values[-1] * weights[-1] + value1 * weight1) / (weights[-1] + weight1)
            weights[-1] += weight1
            lengths[-2:] = [sum(lengths[-2:])]
    return at, np.repeat(values, lengths)


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
    debiased, _ = cross_fitted_ece(predictions)
    return Curve(at, value, min(1.0, max(0.0, debiased) / distance) if distance > 0 else 0.0)
