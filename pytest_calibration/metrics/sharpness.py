"""How concentrated probabilities are, and on which options: confidence, entropy, histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.predictions import FloatArray, PredictionsLike, as_predictions

SURE: Final = 0.9


def share_confident(predictions: PredictionsLike, threshold: float = SURE) -> float:
    """Share of items with a confidence of at least ``threshold``, in [0, 1].

    The threshold is lowered by 1e-6, so that a 0.9 stored as float32 counts.

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

    0 log 0 is 0. Rows that were stored rounded are not renormalised. Source: Shannon 1948.

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

    The answer is the most probable option, the first of equals. Compared with
    :func:`label_histogram` it shows a preference for one option.

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


# Options are named by letters; a histogram over more classes is unreadable.
MOST_OPTIONS: Final = 26


@dataclass(frozen=True)
class Sharpness:
    """How sure a model is, and which options it answers; fine-tuning can make both collapse.

    Attributes:
        share_confident: share of items with a confidence of 0.9 or above.
        mean_entropy: of the options' probabilities in nats; None without them.
        option_mass: mean total probability of all options, before renormalisation; None where it
            is not known.
        answers: (k,) share of the items for which each option is the answer; empty without
            probabilities, and for more than 26 options.
    """

    share_confident: float
    mean_entropy: float | None = None
    option_mass: float | None = None
    answers: tuple[float, ...] = ()


def sharpness(predictions: PredictionsLike) -> Sharpness:
    """Return the numbers that these predictions have."""
    p = as_predictions(predictions)
    table = p.probabilities
    listed = table is not None and table.shape[1] <= MOST_OPTIONS
    return Sharpness(
        share_confident=share_confident(p),
        mean_entropy=None if table is None else mean_entropy(p),
        option_mass=None if p.option_mass is None else float(p.option_mass.mean()),
        answers=tuple(answer_histogram(p).tolist()) if listed else (),
    )
