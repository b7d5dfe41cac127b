"""One number with everything that must stand beside it: interval, n, noise floor, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    DEFAULT_BINS,
    Strategy,
    accuracy,
    mean_confidence,
    metric_named,
)
from pytest_calibration.predictions import PredictionsLike, as_predictions
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.intervals import interval
from pytest_calibration.uncertainty.noise_floor import floor_of


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
        noise_floor: absolute value that a perfectly calibrated model with these confidences would
            show on average; NaN for a metric that is no error.
        noise_floor_high: what that model would stay below 95 % of the time (``ece``,
            ``equal_mass_ece`` and ``cross_fitted_ece``, else NaN).
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

    All intervals are closed form and hold for the value of the population, on the same bins. With
    groups, errors are computed over groups; below 200 units they count Student's quantiles.

    - ``accuracy``, ``share_confident``, ``selective_accuracy``, ``selective_risk``: Wilson's.
    - ``mean_confidence``, ``signed_gap``, ``brier``, ``brier_multiclass``, ``nll``,
      ``mean_entropy``: mean ± z standard errors, and room for what was not seen.
    - ``ece``, ``equal_mass_ece``, ``cross_fitted_ece``, ``overconfidence``, ``underconfidence``,
      ``classwise_ece``, ``smooth_ece``: from the cross-fitted value − z standard errors (a lower
      end that holds near calibration too) to the plug-in value + z standard errors.
    - ``rms_ce``, ``debiased_rms_ce``, ``debiased_squared_ce``, ``brier_reliability``,
      ``brier_resolution``: the debiased square, with the variance of its noise beside that of its
      influence.
    - ``mce``: bounds of the accuracy of all bins at once. ``ks_ce``: bounds of Brownian motion.
    - ``brier_uncertainty``: the image of the interval of accuracy.
    - ``auroc``: DeLong's error, ``aurc``: that of its influence, both on the scale of log-odds.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        metric: a name of ``metrics.METRICS``.
        bins: number of bins of a binned metric.
        strategy: binning of a binned metric, but for those that fix it.

    Raises:
        MetricError: an unknown metric or binning, or a metric these predictions cannot give.
    """
    predictions = as_predictions(predictions)
    known = metric_named(metric)
    strategy = known.strategy or strategy
    evidence = Evidence(predictions, bins, strategy)
    value = known(predictions, bins, strategy)
    low, high = interval(known, value, evidence)
    for number in (value, low, high):
        if math.isnan(number):
            raise MetricError(
                f"{metric} of probe {predictions.probe!r} is NaN on {len(predictions)} items."
            )
    floor = floor_of(metric, evidence)
    return Measurement(
        metric=metric,
        value=value,
        low=low,
        high=high,
        n=len(predictions),
        n_clusters=evidence.units,
        noise_floor=floor.mean,
        noise_floor_high=floor.high,
        bins=bins,
        strategy=strategy,
        probe=predictions.probe,
        unit=predictions.unit,
        model=predictions.signature.soft.get("model", ""),
        accuracy=accuracy(predictions),
        mean_confidence=mean_confidence(predictions),
    )
