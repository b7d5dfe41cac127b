"""Errors of bins: what confidence and accuracy differ by, bin by bin.

All of them put ties together and leave empty bins out, so none depends on the order of the items.
With one item per bin they say nothing about calibration: see the noise floor beside each number.
"""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.metrics.binning import (
    DEFAULT_BINS,
    Strategy,
    bin_sums,
    bin_sums_of_pairs,
)
from pytest_calibration.metrics.needs import labels_of, probabilities_of
from pytest_calibration.predictions import PredictionsLike, as_predictions


def ece(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Expected calibration error: Σ_b (n_b / n) · |acc_b − conf_b|, in [0, 1].

    Source: Naeini et al. 2015; Guo et al. 2017. Empty bins count nothing.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.abs(sums.gap).sum() / sums.n)


def equal_mass_ece(predictions: PredictionsLike, bins: int = DEFAULT_BINS) -> float:
    """ECE over quantile bins, also called adaptive ECE (Nguyen & O'Connor 2015). In [0, 1].

    Equal confidences stay in one bin, so bins may be fewer, and unequal in number, where values
    repeat.

    Raises:
        MetricError: bins below 1.
    """
    return ece(predictions, bins, "equal_mass")


def mce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Maximum calibration error: max_b |acc_b − conf_b| over the non-empty bins, in [0, 1].

    Source: Naeini et al. 2015. A bin of one item counts like any other.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    return float(np.abs(bin_sums(predictions, bins, strategy, "count", "gap").mean_gap).max())


def rms_ce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Root mean square calibration error: sqrt(Σ_b (n_b / n) · (acc_b − conf_b)²), in [0, 1].

    Source: Nguyen & O'Connor 2015; Hendrycks et al. 2019. Never below ECE on the same bins.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "count", "gap")
    return math.sqrt(float(sums.gap @ sums.mean_gap) / sums.n)


def debiased_squared_ce(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Square of the RMS error without the part that noise adds; below 0 about half the time.

    With g = confidence − correct: Σ_b (n_b / n) · [(Σg)² − Σg²] / (n_b (n_b − 1)), the mean product
    of the gaps of two different items of a bin. Given the bins its expectation is
    Σ_b (n_b / n) · E[g | b]², and 0 for a calibrated model. A bin of one item counts 0. In [-1, 1].

    Source: Kumar, Liang & Ma 2019, whose estimator it is where all confidences of a bin are equal;
    the form by products of pairs is that of Lee et al. 2023 (T-Cal).

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "count", "gap", "squared_gap")
    pairs = (sums.gap**2 - sums.squared_gap) / np.maximum(sums.count - 1, 1)
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
    """Mean over the k options of the ECE of their probability against their being right.

    Option j is treated as a yes-or-no question of its own: p_j is the confidence, ``label == j`` is
    correct; equal-width bins. Options that are never right count like the others, so with many
    options the number is small. In [0, 1].

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
        total += float(np.abs(sums.gap).sum())
    return total / table.size


def overconfidence(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Share of ECE from bins that are too sure: Σ_b (n_b / n) · max(0, conf_b − acc_b), in [0, 1].

    Together with :func:`underconfidence` it is ECE; their difference is the signed gap.

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.maximum(sums.gap, 0).sum() / sums.n)


def underconfidence(
    predictions: PredictionsLike, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Share of ECE from bins not sure enough: Σ_b (n_b / n) · max(0, acc_b − conf_b), in [0, 1].

    Raises:
        MetricError: bins below 1 or an unknown strategy.
    """
    sums = bin_sums(predictions, bins, strategy, "gap")
    return float(np.maximum(-sums.gap, 0).sum() / sums.n)
