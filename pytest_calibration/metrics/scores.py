"""Averages over items: accuracy, confidence and their gap, the Brier score and its parts, NLL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.binning import ALL_SUMS, DEFAULT_BINS, Strategy, bin_sums
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import PredictionsLike, as_predictions


def accuracy(predictions: PredictionsLike) -> float:
    """Share of correct answers, in [0, 1]."""
    return float(as_predictions(predictions).correct.mean())


def mean_confidence(predictions: PredictionsLike) -> float:
    """Mean confidence, in [0, 1]."""
    return float(as_predictions(predictions).confidence.mean())


def signed_gap(predictions: PredictionsLike) -> float:
    """Mean confidence minus accuracy, in [-1, 1]; positive means over-confident."""
    return float(as_predictions(predictions).gap.mean())


def brier(predictions: PredictionsLike) -> float:
    """Top-label Brier score: mean of (confidence − correct)², in [0, 1] (Brier 1950)."""
    return float(np.mean(as_predictions(predictions).gap ** 2))


def brier_multiclass(predictions: PredictionsLike) -> float:
    """Brier score over all options: mean of Σ_j (p_j − [label = j])², in [0, 2] (Brier 1950).

    It is not halved: with two options it is twice the score of either.

    Raises:
        MetricError: predictions without probabilities or labels.
    """
    predictions = as_predictions(predictions)
    table = probabilities_of(predictions, "brier_multiclass")
    labels = labels_of(predictions, "brier_multiclass")
    right = table[np.arange(len(table)), labels]
    # Summed per item first: rounding cannot make a perfect score negative.
    others = np.einsum("ij,ij->i", table, table) - right * right
    return float(np.mean(np.maximum(others, 0) + (1 - right) ** 2))


@dataclass(frozen=True)
class BrierDecomposition:
    """The four parts of the top-label Brier score.

    ``score == reliability − resolution + uncertainty + within``, but for rounding.

    Attributes:
        reliability: Σ_b (n_b / n) (conf_b − acc_b)², the squared RMS calibration error; lower is
            better.
        resolution: Σ_b (n_b / n) (acc_b − acc)², how well bins separate right from wrong; higher
            is better.
        uncertainty: acc (1 − acc), which depends on accuracy alone.
        within: variance of the confidences within bins, minus twice their covariance with
            correctness; 0 where all confidences of a bin are equal.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def score(self) -> float:
        """The Brier score."""
        return self.reliability - self.resolution + self.uncertainty + self.within


def brier_decomposition(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> BrierDecomposition:
    """Split the top-label Brier score into reliability, resolution, uncertainty and within.

    Source: Murphy 1973; Stephenson, Coelho & Jolliffe 2008 for the part within bins.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, *ALL_SUMS)
    n, share = sums.n, float(sums["correct"].sum() / sums.n)
    right = sums["correct"] / np.maximum(sums["count"], 1)
    squares = sums["gap"] * sums.mean_gap
    return BrierDecomposition(
        reliability=float(squares.sum() / n),
        resolution=float((sums["count"] * (right - share) ** 2).sum() / n),
        uncertainty=share * (1 - share),
        within=float((sums["squared_gap"] - squares - sums["correct"] * (1 - right)).sum() / n),
    )


def brier_reliability(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Reliability part of the Brier score, in [0, 1]; see :func:`brier_decomposition`."""
    return brier_decomposition(predictions, bins, strategy).reliability


def brier_resolution(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Resolution part of the Brier score, in [0, 1/4]; see :func:`brier_decomposition`."""
    return brier_decomposition(predictions, bins, strategy).resolution


def brier_uncertainty(predictions: PredictionsLike) -> float:
    """Uncertainty part of the Brier score: accuracy · (1 − accuracy), in [0, 1/4]; without bins."""
    share = accuracy(predictions)
    return share * (1 - share)


def nll(predictions: PredictionsLike) -> float:
    """Negative log-likelihood of the right answer: mean of −log P(label), in nats, ≥ 0.

    Nothing is clipped, unlike in scikit-learn's ``log_loss``, which takes no probability for less
    than 2⁻⁵²: one right answer of a tiny probability may dominate the mean. A probability of
    exactly 0 counts as the smallest normal float64 (708 nats), so the mean stays finite.

    Raises:
        MetricError: the predictions have no probability of the right answer; confidence and
            correctness alone do not determine it.
    """
    predictions = as_predictions(predictions)
    if predictions.label_logprobs is None:
        raise MetricError(
            f"nll needs the probability of the right answer, and the predictions of probe "
            f"{predictions.probe!r} have confidence and correctness only; use brier instead."
        )
    return float(-predictions.label_logprobs.mean())
