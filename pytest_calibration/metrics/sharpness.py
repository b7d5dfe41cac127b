"""How sure a model is, and of what: numbers that need no right answers."""

from __future__ import annotations

from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.needs import labels_of, probabilities_of
from pytest_calibration.predictions import FloatArray, PredictionsLike, as_predictions

SURE: Final = 0.9


def share_confident(predictions: PredictionsLike, threshold: float = SURE) -> float:
    """Share of items with a confidence of at least ``threshold``, in [0, 1].

    The threshold is lowered by 1e-6, so that 0.9 counts as 0.9 when it was stored as float32.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        threshold: in [0, 1].

    Raises:
        MetricError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise MetricError(f"the threshold must lie in [0, 1], got {threshold}.")
    return float(np.mean(as_predictions(predictions).confidence >= threshold - EDGE_SNAP))


def mean_entropy(predictions: PredictionsLike) -> float:
    """Mean entropy of the options' probabilities: −Σ_j p_j log p_j in nats, from 0 to log k.

    0 log 0 is 0. Probabilities are taken as they are: rows that were stored rounded are not made
    to sum to 1. Confidence alone does not determine it. Source: Shannon 1948.

    Raises:
        MetricError: predictions without probabilities.
    """
    predictions = as_predictions(predictions)
    table = probabilities_of(predictions, "mean_entropy")
    terms = np.where(table > 0, table, 1.0)
    np.log(terms, out=terms)
    terms *= table
    return abs(float(terms.sum())) / predictions.n


def answer_histogram(predictions: PredictionsLike) -> FloatArray:
    """Share of the items for which each option is the answer: (k,), summing to 1.

    The answer is the most probable option, the first of equals. Beside :func:`label_histogram` it
    shows a model that has come to prefer a letter.

    Raises:
        MetricError: predictions without probabilities.
    """
    table = probabilities_of(as_predictions(predictions), "answer_histogram")
    counts = np.bincount(table.argmax(axis=1), minlength=table.shape[1])
    return np.asarray(counts / len(table))


def label_histogram(predictions: PredictionsLike) -> FloatArray:
    """Share of the items for which each option is right: (k,), summing to 1.

    Raises:
        MetricError: predictions without probabilities or labels.
    """
    predictions = as_predictions(predictions)
    size = probabilities_of(predictions, "label_histogram").shape[1]
    labels = labels_of(predictions, "label_histogram")
    return np.asarray(np.bincount(labels, minlength=size) / predictions.n)
