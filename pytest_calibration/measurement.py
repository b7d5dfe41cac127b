"""A measurement: the value of a metric with its interval, n, noise floor and settings."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    DEFAULT_BINS,
    METRICS,
    Metric,
    Strategy,
    accuracy,
    mean_confidence,
    metric_named,
)
from pytest_calibration.predictions import Predictions, PredictionsLike, as_predictions
from pytest_calibration.uncertainty.intervals import interval
from pytest_calibration.uncertainty.noise_floor import floor_of
from pytest_calibration.uncertainty.sample import Sample


@dataclass(frozen=True)
class Measurement:
    """The value of a metric for one model on one probe, and what is needed to read it.

    Attributes:
        metric: name of the metric.
        value: value of the metric.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        n: number of items.
        n_clusters: number of independent units (groups, or items where there are none).
        noise_floor: mean absolute value for a calibrated model with the same confidences; NaN for
            a metric that is not a calibration error.
        noise_floor_high: 95 % quantile for that model (``ece``, ``equal_mass_ece`` and
            ``cross_fitted_ece``, else NaN).
        bins: requested number of bins; the binning is part of the number.
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
        """Printed name of the metric with its binning: ``ECE (15 equal-width bins)``."""
        metric = metric_named(self.metric)
        if not metric.binned:
            return metric.label
        return f"{metric.label} ({self.bins} {self.strategy.replace('_', '-')} bins)"

    def items_to_test(self, limit: float) -> int:
        """Return the n at which a calibrated model stays below ``limit`` 95 % of the time."""
        return math.ceil(self.n * (self.noise_floor_high / limit) ** 2)


def measure(
    predictions: PredictionsLike,
    metric: str = "ece",
    *,
    bins: int = DEFAULT_BINS,
    strategy: Strategy = "equal_width",
) -> Measurement:
    """Measure one metric with its 95 % interval and noise floor.

    All intervals are closed form and estimate the value of the population, on the same bins. With
    groups, standard errors are computed over groups; z is Student's quantile below 200 units.

    - ``accuracy``, ``share_confident``, ``selective_accuracy``, ``selective_risk``: Wilson's.
    - ``mean_confidence``, ``signed_gap``, ``brier``, ``brier_multiclass``, ``nll``,
      ``mean_entropy``: mean ± z standard errors, wider where unseen items may require it.
    - ``ece``, ``equal_mass_ece``, ``cross_fitted_ece``, ``overconfidence``, ``underconfidence``,
      ``classwise_ece``, ``smooth_ece``: from the cross-fitted value − z standard errors (a lower
      end that is valid near calibration too) to the plug-in value + z standard errors.
    - ``rms_ce``, ``debiased_rms_ce``, ``debiased_squared_ce``, ``brier_reliability``,
      ``brier_resolution``: the debiased square, with the variance of its noise and its influence.
    - ``mce``: simultaneous bounds for all bins. ``ks_ce``: bounds from Brownian motion.
    - ``brier_uncertainty``: the image of the interval of accuracy.
    - ``auroc``: DeLong's standard error; ``aurc``: that of its influence; both on log-odds.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        metric: a name of ``metrics.METRICS``.
        bins: number of bins of a binned metric.
        strategy: binning of a binned metric, unless the metric fixes it.

    Raises:
        MetricError: an unknown metric or binning, or predictions without what the metric needs.
    """
    entry = metric_named(metric)
    sample = Sample(as_predictions(predictions), bins, entry.strategy or strategy)
    return _measured(entry, sample)


def measure_all(predictions: Predictions, *, bins: int = DEFAULT_BINS) -> dict[str, Measurement]:
    """Measure every metric that applies, by name; what they share is computed once.

    Args:
        predictions: n items.
        bins: number of bins of the binned metrics.
    """
    samples: dict[Strategy, Sample] = {}
    out = {}
    for name, entry in METRICS.items():
        strategy = entry.strategy or "equal_width"
        sample = samples.setdefault(strategy, Sample(predictions, bins, strategy))
        if entry.applies_to(predictions):
            # There is no ranking of answers that are all correct, or all wrong.
            with contextlib.suppress(MetricError):
                out[name] = _measured(entry, sample)
    return out


def _measured(entry: Metric, sample: Sample) -> Measurement:
    predictions, bins, strategy = sample.predictions, sample.bins, sample.strategy
    value = entry(predictions, bins, strategy)
    low, high = interval(entry, value, sample)
    for number in (value, low, high):
        if math.isnan(number):
            raise MetricError(
                f"{entry.name} of probe {predictions.probe!r} is NaN on {len(predictions)} items."
            )
    floor = floor_of(entry.name, sample)
    return Measurement(
        metric=entry.name,
        value=value,
        low=low,
        high=high,
        n=len(predictions),
        n_clusters=sample.units,
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
