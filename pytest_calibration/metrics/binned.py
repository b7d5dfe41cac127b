"""Calibration errors over bins: the gap between confidence and accuracy, bin by bin.

Equal confidences share a bin, so no error depends on the order of the items; empty bins count
nothing. With few items per bin an error is mostly noise: compare it with its noise floor.
"""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy, bin_sums, bin_sums_of_pairs
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import PredictionsLike, as_predictions


def ece(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Expected calibration error: Σ_b (n_b / n) · |acc_b − conf_b|, in [0, 1].

    Source: Naeini et al. 2015; Guo et al. 2017.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.abs(sums["gap"]).sum() / sums.n)


def equal_mass_ece(predictions: PredictionsLike, bins: int = DEFAULT_BINS) -> float:
    """ECE over quantile bins, also called adaptive ECE (Nguyen & O'Connor 2015). In [0, 1].

    Equal confidences share a bin: where values repeat there are fewer bins, of unequal size.

    Raises:
        MetricError: bins below 1.
    """
    return ece(predictions, bins, "equal_mass")


def mce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Maximum calibration error: max_b |acc_b − conf_b| over the non-empty bins, in [0, 1].

    A bin of one item counts like any other. Source: Naeini et al. 2015.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    return float(np.abs(bin_sums(predictions, bins, strategy, "count", "gap").mean_gap).max())


def rms_ce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Root mean square calibration error: sqrt(Σ_b (n_b / n) · (acc_b − conf_b)²), in [0, 1].

    Never below ECE on the same bins. Source: Nguyen & O'Connor 2015; Hendrycks et al. 2019.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "count", "gap")
    return math.sqrt(float(sums["gap"] @ sums.mean_gap) / sums.n)


def debiased_squared_ce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Squared RMS calibration error without the bias from noise, in [-1, 1].

    With g = confidence − correct: Σ_b (n_b / n) · [(Σg)² − Σg²] / (n_b (n_b − 1)), the mean product
    of the gaps of two different items of a bin. Given the bins its expectation is
    Σ_b (n_b / n) · E[g | b]²: 0 for a calibrated model, whose estimate is negative about half the
    time. A bin of one item counts 0.

    Source: Kumar, Liang & Ma 2019, the same estimator where all confidences of a bin are equal;
    products of pairs as in Lee et al. 2023 (T-Cal).

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "count", "gap", "squared_gap")
    pairs = (sums["gap"] ** 2 - sums["squared_gap"]) / np.maximum(sums["count"] - 1, 1)
    return float(pairs.sum() / sums.n)


def debiased_rms_ce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Square root of :func:`debiased_squared_ce`, or 0 where that is negative. In [0, 1].

    Source: Kumar, Liang & Ma 2019.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    return math.sqrt(max(0.0, debiased_squared_ce(predictions, bins, strategy)))


def classwise_ece(predictions: PredictionsLike, bins: int = DEFAULT_BINS) -> float:
    """Mean over the k options of their one-against-rest ECE, in [0, 1].

    For option j the confidence is p_j, and ``label == j`` is correct; equal-width bins. Options
    that are never right count like the others, so with many options the number is small.

    Source: Kull et al. 2019; static calibration error of Nixon et al. 2019.

    Raises:
        MetricError: bins below 1, or predictions without probabilities or labels.
    """
    predictions = as_predictions(predictions)
    table = probabilities_of(predictions, "classwise_ece")
    labels = labels_of(predictions, "classwise_ece")
    total = 0.0
    for option in range(table.shape[1]):
        sums = bin_sums_of_pairs(table[:, option], labels == option, bins, "equal_width", "gap")
        total += float(np.abs(sums["gap"]).sum())
    return total / table.size


def overconfidence(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Part of ECE from over-confident bins: Σ_b (n_b / n) · max(0, conf_b − acc_b), in [0, 1].

    Plus :func:`underconfidence` it is ECE; minus it, the signed gap.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.maximum(sums["gap"], 0).sum() / sums.n)


def underconfidence(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Part of ECE from under-confident bins: Σ_b (n_b / n) · max(0, acc_b − conf_b), in [0, 1].

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.maximum(-sums["gap"], 0).sum() / sums.n)
