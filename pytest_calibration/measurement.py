"""One number with everything that must stand beside it: interval, n, noise floor, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    DEFAULT_BINS,
    Strategy,
    accuracy,
    bin_table,
    ece,
    mce,
    mean_confidence,
    metric_named,
)
from pytest_calibration.predictions import FloatArray, Predictions, PredictionsLike, as_predictions
from pytest_calibration.uncertainty.cross_fitting import cross_fitted_ece
from pytest_calibration.uncertainty.noise_floor import mce_noise_floor, noise_floor
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound, upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

CONFIDENCE_LEVEL: Final = 0.95
EXACT_UP_TO: Final = 30
# One interval serves them all.
ECES: Final = frozenset({"ece", "equal_mass_ece", "cross_fitted_ece"})


@dataclass(frozen=True)
class Measurement:
    """A calibration number of one model on one probe.

    Attributes:
        metric: name of the metric.
        value: the number itself.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        n: number of items.
        n_clusters: number of independent units (groups, or items where there are none).
        noise_floor: ECE that a perfectly calibrated model with these confidences would show on
            average (for ``mce``: that MCE; for ``signed_gap``: that absolute gap).
        noise_floor_high: what that model would stay below 95 % of the time (ECE only, else NaN).
        bins: number of bins asked for; binning is part of the number.
        strategy: ``equal_width`` or ``equal_mass``.
        probe: name of the probe.
        unit: what an item is.
        model: name of the model, where the signature has one.
        accuracy: share of correct answers.
        mean_confidence: mean confidence.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    n_clusters: int
    noise_floor: float
    noise_floor_high: float
    bins: int
    strategy: Strategy
    probe: str
    unit: str
    model: str
    accuracy: float
    mean_confidence: float

    @property
    def signed_gap(self) -> float:
        """Mean confidence minus accuracy; positive means over-confident."""
        return self.mean_confidence - self.accuracy

    @property
    def label(self) -> str:
        """Name and binning of the number, as printed: ``ECE (15 equal-width bins)``."""
        metric = metric_named(self.metric)
        if not metric.binned:
            return metric.label
        return f"{metric.label} ({self.bins} {self.strategy.replace('_', '-')} bins)"

    def items_to_test(self, limit: float) -> int:
        """Return the n at which a calibrated model stays below ``limit`` 95 % of the time."""
        floor_high = self.noise_floor_high
        return math.ceil(self.n * (floor_high / limit) ** 2)


def measure(
    predictions: PredictionsLike,
    metric: str = "ece",
    *,
    bins: int = DEFAULT_BINS,
    strategy: Strategy = "equal_width",
) -> Measurement:
    """Measure one metric with its 95 % interval and noise floor.

    The interval of ECE runs from the cross-fitted ECE minus z standard errors (a lower bound that
    holds near calibration too) to the plug-in ECE plus z standard errors. MCE takes simultaneous
    bounds over its bins, accuracy Wilson's interval, the other means the normal (below 200 units
    Student) interval. ``cross_fitted_ece`` is the debiased ECE with the same ends.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        metric: a name of ``metrics.METRICS``.
        bins: number of bins of a binned metric.
        strategy: binning of a binned metric; ``equal_mass_ece`` fixes it.

    Raises:
        MetricError: an unknown metric or binning, or a metric these predictions cannot give.
    """
    predictions = as_predictions(predictions)
    if metric == "equal_mass_ece":
        strategy = "equal_mass"
    value, low, high = _interval(predictions, metric, bins, strategy)
    for number in (value, low, high):
        if math.isnan(number) and len(predictions) > 1:
            raise MetricError(
                f"{metric} of probe {predictions.probe!r} is NaN on {len(predictions)} items."
            )
    floor = noise_floor(predictions, bins, strategy)
    floor_mean = floor.mean
    if metric == "mce":
        floor_mean = mce_noise_floor(predictions, bins, strategy)
    elif metric == "signed_gap":
        spread = predictions.confidence * (1 - predictions.confidence)
        floor_mean = math.sqrt(2 / math.pi * float(spread.sum())) / len(predictions)
    return Measurement(
        metric=metric,
        value=value,
        low=low,
        high=high,
        n=len(predictions),
        n_clusters=predictions.n_clusters,
        noise_floor=floor_mean,
        noise_floor_high=floor.high if metric in ECES else math.nan,
        bins=bins,
        strategy=strategy,
        probe=predictions.probe,
        unit=predictions.unit,
        model=predictions.signature.soft.get("model", ""),
        accuracy=accuracy(predictions),
        mean_confidence=mean_confidence(predictions),
    )


def _interval(
    predictions: Predictions, metric: str, bins: int, strategy: Strategy
) -> tuple[float, float, float]:
    """Return (value, low, high) of the metric."""
    z = upper_quantile((1 - CONFIDENCE_LEVEL) / 2, predictions.n_clusters)
    if metric in ECES:
        plug_in = ece(predictions, bins, strategy)
        fitted, error = cross_fitted_ece(predictions, bins, strategy)
        if math.isnan(error):
            error = 1.0
        low, high = max(0.0, fitted - z * error), min(1.0, plug_in + z * error)
        return (fitted if metric == "cross_fitted_ece" else plug_in), low, high
    if metric == "mce":
        return _mce_interval(predictions, bins, strategy)
    if metric == "accuracy" and predictions.groups is None:
        return _wilson(accuracy(predictions), len(predictions), z)
    known = metric_named(metric)
    value = known(predictions)
    per_item: dict[str, FloatArray] = {
        "accuracy": predictions.correct.astype(np.float64),
        "mean_confidence": predictions.confidence,
        "signed_gap": predictions.gap,
        "brier": predictions.gap**2,
    }
    if metric == "nll" and predictions.label_logprobs is not None:
        per_item["nll"] = -predictions.label_logprobs
    if metric not in per_item:
        raise MetricError(
            f"{metric} has no interval, so it is not measured; metrics.{metric}(predictions) gives "
            "its value."
        )
    margin = z * standard_error(per_item[metric], cluster_codes(predictions))
    return value, max(known.lowest, value - margin), min(known.highest, value + margin)


def _wilson(share: float, n: int, z: float) -> tuple[float, float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def _mce_interval(
    predictions: Predictions, bins: int, strategy: Strategy
) -> tuple[float, float, float]:
    """Bounds that hold for all non-empty bins at once (Bonferroni), from each bin's accuracy.

    A bin's accuracy lies within Wilson's interval, or with few items within the exact one: there a
    single wrong answer at confidence 0.95 must not count as proof.
    """
    table = bin_table(predictions, bins, strategy)
    full = table.count > 0
    z = NORMAL.inv_cdf(1 - (1 - CONFIDENCE_LEVEL) / 2 / int(full.sum()))
    low = high = 0.0
    for confidence, right, count in zip(
        table.confidence[full].tolist(),
        table.sum_correct[full].astype(int).tolist(),
        table.count[full].tolist(),
        strict=True,
    ):
        if count <= EXACT_UP_TO:
            alpha = 1 - NORMAL.cdf(z)
            least = binomial_lower_bound(right, count, alpha)
            most = 1 - binomial_lower_bound(count - right, count, alpha)
        else:
            _, least, most = _wilson(right / count, count, z)
        low = max(low, confidence - most, least - confidence)
        high = max(high, confidence - least, most - confidence)
    return mce(predictions, bins, strategy), low, min(1.0, high)
