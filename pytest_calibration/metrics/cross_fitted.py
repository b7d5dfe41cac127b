"""The cross-fitted ECE: without the bias from noise, bin by bin, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.predictions import (
    FloatArray,
    IntArray,
    PredictionsLike,
    as_predictions,
    coded,
)

_ERF = np.frompyfunc(math.erf, 1, 1)


def erf(x: FloatArray) -> FloatArray:
    """Return the error function of each value."""
    return np.asarray(_ERF(x), dtype=np.float64)


def debiased_size(total: FloatArray, spread: FloatArray) -> FloatArray:
    """|S| without the bias from noise: |S|(2Φ(a) − 1) − 2s·φ(a) with a = |S|/s.

    The expected result of choosing the sign on one half of the data and measuring with it on the
    other half.

    Args:
        total: noisy values S, of any shape.
        spread: their standard deviations s; 0 returns |S|.
    """
    size = np.abs(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.where(spread > 0, size / spread, np.inf)
    density = np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    return np.asarray(size * erf(a / math.sqrt(2)) - 2 * spread * density)


@dataclass(frozen=True)
class CrossFitted:
    """The cross-fitted ECE of one model, and the terms of its standard error.

    Attributes:
        value: about 0 when calibrated, about the plug-in ECE when not; may be negative.
        influence: (n,) sign of the item's bin times its gap.
    """

    value: float
    influence: FloatArray


def cross_fitted(gap: FloatArray, bins: IntArray, clusters: IntArray | None = None) -> CrossFitted:
    """Compute the cross-fitted ECE in closed form.

    With S_b = Σ gap and s_b its standard error in bin b, and a = |S_b| / s_b::

        ECE_cf = (1/n) Σ_b [ |S_b| (2 Φ(a) − 1) − 2 s_b φ(a) ]

    the expected result of choosing the sign of each bin on one half of the data and measuring with
    it on the other half. s_b is computed over groups where there are any.

    Args:
        gap: (n,) confidence minus correct.
        bins: (n,) bin of each item.
        clusters: (n,) group codes, or None.
    """
    size = int(bins.max()) + 1
    total = np.bincount(bins, weights=gap, minlength=size).astype(np.float64)
    count = np.maximum(np.bincount(bins, minlength=size), 1)
    residual = gap - (total / count)[bins]
    if clusters is None:
        squares = np.bincount(bins, weights=residual**2, minlength=size)
    else:
        cell = clusters * size + bins
        sums = np.bincount(cell, weights=residual)
        squares = np.bincount(np.arange(len(sums)) % size, weights=sums**2, minlength=size)
    value = float(debiased_size(total, np.sqrt(squares)).sum() / len(gap))
    # A bin whose total is exactly 0 is as uncertain as others: it gets a sign too.
    return CrossFitted(value, np.where(total < 0, -1.0, 1.0)[bins] * gap)


def cross_fitted_ece(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Cross-fitted ECE, see :func:`cross_fitted`; about 0 when calibrated, in [-1, 1].

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    predictions = as_predictions(predictions)
    groups = predictions.groups
    clusters = None if groups is None else coded(groups)[1]
    index = bin_index(predictions.confidence, bins, strategy)
    return cross_fitted(predictions.gap, index, clusters).value
