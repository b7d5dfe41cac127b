"""Standard errors of means, over items or over the groups they come in."""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.predictions import FloatArray, IntArray, Predictions


def cluster_codes(predictions: Predictions) -> IntArray | None:
    """Return the group of each item as numbers from 0, or None where items are independent."""
    if predictions.groups is None:
        return None
    return np.unique(predictions.groups, return_inverse=True)[1].astype(np.int64)


def standard_error(values: FloatArray, clusters: IntArray | None = None) -> float:
    """Standard error of the mean of ``values`` (n,); NaN below two independent units."""
    n = len(values)
    residual = values - values.mean()
    if clusters is not None:
        residual = np.bincount(clusters, weights=residual)
    units = len(residual)
    if units < 2:
        return math.nan
    return math.sqrt(units / (units - 1) * float(residual @ residual)) / n
