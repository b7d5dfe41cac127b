"""The numbers of a reliability diagram: accuracy of each bin, its interval and its noise band."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_table
from pytest_calibration.predictions import PredictionsLike, as_predictions
from pytest_calibration.uncertainty.means import score_interval
from pytest_calibration.uncertainty.noise_floor import NullBins
from pytest_calibration.uncertainty.sample import NORMAL_TAIL, Sample

HISTOGRAM_BINS: Final = 20


@dataclass(frozen=True)
class ReliabilityBin:
    """One non-empty bin of a reliability diagram.

    Attributes:
        lower: left edge, open (closed where it is 0).
        upper: right edge, closed.
        n: number of items.
        confidence: their mean confidence.
        accuracy: share of right answers.
        low: lower end of the 95 % interval of the accuracy (Wilson's).
        high: upper end.
        calibrated_low: lower end of the noise band, which contains the accuracy of a calibrated
            model with these confidences 95 % of the time.
        calibrated_high: upper end.
    """

    lower: float
    upper: float
    n: int
    confidence: float
    accuracy: float
    low: float
    high: float
    calibrated_low: float
    calibrated_high: float

    @property
    def gap(self) -> float:
        """Mean confidence minus accuracy; positive means over-confident."""
        return self.confidence - self.accuracy

    @property
    def beyond_noise(self) -> bool:
        """Whether the accuracy is outside the noise band."""
        return not self.calibrated_low <= self.accuracy <= self.calibrated_high


def reliability(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> tuple[ReliabilityBin, ...]:
    """Return the non-empty bins, in order of confidence.

    Interval and band are widened by the design effect of the groups, estimated from the outcomes.

    Raises:
        MetricError: bins below 1, or an unknown strategy.
    """
    predictions = as_predictions(predictions)
    table = bin_table(predictions, bins, strategy)
    sample = Sample(predictions, bins, strategy)
    null = NullBins.of(predictions.confidence, predictions.correct, sample.index, sample.clusters)
    out = []
    for b in range(len(table)):
        n = int(table.count[b])
        if not n:
            continue
        confidence, accuracy = float(table.confidence[b]), float(table.accuracy[b])
        low, high = score_interval(accuracy, n / float(null.effect[b]), NORMAL_TAIL)
        margin = NORMAL_TAIL * math.sqrt(float(null.variance[b])) / n
        out.append(
            ReliabilityBin(
                lower=float(table.lower[b]),
                upper=float(table.upper[b]),
                n=n,
                confidence=confidence,
                accuracy=accuracy,
                low=float(low),
                high=float(high),
                calibrated_low=max(0.0, confidence - margin),
                calibrated_high=min(1.0, confidence + margin),
            )
        )
    return tuple(out)


@dataclass(frozen=True)
class ConfidenceBar:
    """One bar of a histogram of confidence.

    Attributes:
        lower: left edge, open (closed where it is 0).
        upper: right edge, closed.
        right: number of right answers.
        wrong: number of wrong answers.
    """

    lower: float
    upper: float
    right: int
    wrong: int


def confidence_histogram(
    predictions: PredictionsLike, bins: int = HISTOGRAM_BINS
) -> tuple[ConfidenceBar, ...]:
    """Count right and wrong answers over equal-width bins of confidence, empty ones too."""
    table = bin_table(as_predictions(predictions), bins)
    right = [round(total) for total in table.sum_correct.tolist()]
    return tuple(
        ConfidenceBar(float(table.lower[b]), float(table.upper[b]), k, int(table.count[b]) - k)
        for b, k in enumerate(right)
    )
