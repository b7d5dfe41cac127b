"""What a comparison could see, said after it was made or before."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.components import GATE_BINS, Component, Paired
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.cross_fitting import cross_fitted
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.standard_errors import standard_error

POWER: Final = 0.8


def smallest_visible(
    components: list[Component], tolerance: float, alpha: float, units: int
) -> float:
    """Return the smallest worsening, of any shape, that would be seen at 80 % power."""
    widest = max((c.standard_error for c in components if not c.unavailable), default=math.nan)
    return tolerance + (upper_quantile(alpha, units) + NORMAL.inv_cdf(POWER)) * widest


def unpaired_visible(
    predictions: Predictions, tolerance: float = 0.02, alpha: float = 0.05
) -> float:
    """Return the smallest worsening visible at 80 % power before any candidate is known.

    As if the candidate's errors were independent of the baseline's: pairing only makes it smaller.
    """
    pair = Paired.of(predictions, predictions)
    clusters = pair.clusters
    gap = pair.confidence0 - pair.correct0
    pool = pair.confidence0
    errors = [standard_error(gap, clusters)]
    if float(pool.var()) > 1e-12:
        k = float(np.abs(pool - pool.mean()).mean()) / float(pool.var())
        errors.append(standard_error(k * (pool - pool.mean()) * gap, clusters))
    edges = np.unique(np.quantile(pool, np.arange(1, GATE_BINS) / GATE_BINS))
    fitted = cross_fitted(gap, np.searchsorted(edges, pool), clusters)
    errors.append(standard_error(fitted.influence, clusters))
    if math.isnan(errors[0]):
        return 1.0
    reach = upper_quantile(alpha, pair.units) + NORMAL.inv_cdf(POWER)
    return min(1.0, tolerance + reach * math.sqrt(2) * max(errors))
