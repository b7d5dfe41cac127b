"""How well confidence separates right from wrong answers: AUROC, selective accuracy and risk, AURC.

A strictly increasing transformation of the confidences changes none of these: they do not measure
calibration. Where confidences are equal, the value is the mean over all orders of the ties.

Coverage and precision are what a fixed confidence gives from which on answers are acted on.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.inputs import Levels, levels_of
from pytest_calibration.predictions import (
    BoolArray,
    FloatArray,
    PredictionsLike,
    as_predictions,
)

DEFAULT_COVERAGE: Final = 0.8


def auroc(predictions: PredictionsLike) -> float:
    """Probability that a right answer has a higher confidence than a wrong one; ties count half.

    Area under the ROC curve of confidence as a classifier of correctness, in [0, 1]; 1/2 for
    uninformative confidence. Source: Hanley & McNeil 1982.

    Raises:
        MetricError: all answers are right, or all wrong.
    """
    predictions = as_predictions(predictions)
    levels = levels_of(predictions)
    wrong = levels.wrong
    pairs = float(levels.right.sum()) * float(wrong.sum())
    if not pairs:
        which = "right" if predictions.correct[0] else "wrong"
        raise MetricError(
            f"auroc needs right and wrong answers, and all {predictions.n:,} answers of probe "
            f"{predictions.probe!r} are {which}."
        )
    below = np.cumsum(wrong) - wrong / 2
    # Not a dot product: its rounding depends on the number of threads of the library.
    return float((levels.right * below).sum() / pairs)


def selective_accuracy(predictions: PredictionsLike, coverage: float = DEFAULT_COVERAGE) -> float:
    """Accuracy on the most confident share of the items, in [0, 1].

    Where the share ends within a level of equal confidences, or within one item, the level counts
    in proportion: the mean accuracy over all orders of the ties. At coverage 1 it is accuracy.

    Source: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        coverage: share of the items that are answered, above 0 and at most 1.

    Raises:
        MetricError: a coverage outside (0, 1].
    """
    if not 0 < coverage <= 1:
        raise MetricError(f"coverage must be above 0 and at most 1, got {coverage}.")
    predictions = as_predictions(predictions)
    levels = _most_confident_first(levels_of(predictions))
    answered = coverage * predictions.n
    count, right = np.cumsum(levels.count), np.cumsum(levels.right)
    last = int(np.searchsorted(count, answered))
    beyond = (count[last] - answered) / levels.count[last]
    return float((right[last] - beyond * levels.right[last]) / answered)


def selective_risk(predictions: PredictionsLike, coverage: float = DEFAULT_COVERAGE) -> float:
    """One minus :func:`selective_accuracy`, in [0, 1].

    Raises:
        MetricError: a coverage outside (0, 1].
    """
    return 1 - selective_accuracy(predictions, coverage)


def aurc(predictions: PredictionsLike) -> float:
    """Area under the risk-coverage curve: mean selective risk over the n coverages 1/n … 1.

    In [0, 1]; lower is better. Without ties it is (1/n) Σ_m (wrong among the m most confident) / m;
    with ties, the mean over all their orders. The n coverages are part of the definition, so that
    repeating the data changes the value a little.

    Source: Geifman & El-Yaniv 2017; Geifman, Uziel & El-Yaniv 2019.
    """
    predictions = as_predictions(predictions)
    levels = _most_confident_first(levels_of(predictions))
    wrong, ends = levels.wrong, np.cumsum(levels.count)
    # With N items and W wrong answers before a level whose error rate is w, the expected risk at
    # its j-th item is (W + j·w) / (N + j). With the harmonic numbers H, the sum over the level is
    # w·count + (W − N·w)·(H(N + count) − H(N)).
    before = np.cumsum(wrong) - wrong - (ends - levels.count) * (wrong / levels.count)
    harmonic = np.cumsum(1 / np.arange(1, predictions.n + 1))[ends - 1]
    risk = wrong + before * np.diff(harmonic, prepend=0.0)
    return float(risk.sum() / predictions.n)


def answered(confidence: FloatArray, threshold: float) -> BoolArray:
    """Return which answers are acted on: those with a confidence of at least the threshold.

    Both are compared in float32, as records store confidences: 0.9 as float32 is below 0.9.

    Args:
        confidence: (n,)
        threshold: in [0, 1].

    Raises:
        MetricError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise MetricError(f"the threshold must lie in [0, 1], got {threshold}.")
    return np.asarray(confidence.astype(np.float32) >= np.float32(threshold))


def coverage(predictions: PredictionsLike, threshold: float) -> float:
    """Share of the answers that are acted on: those with at least this confidence, in [0, 1].

    Raises:
        MetricError: a threshold outside [0, 1].
    """
    return float(np.mean(answered(as_predictions(predictions).confidence, threshold)))


def precision(predictions: PredictionsLike, threshold: float) -> float:
    """Accuracy of the answers with at least this confidence, in [0, 1].

    Raises:
        MetricError: there is no such answer, or a threshold outside [0, 1].
    """
    predictions = as_predictions(predictions)
    which = answered(predictions.confidence, threshold)
    if not which.any():
        raise MetricError(
            f"no answer of probe {predictions.probe!r} has a confidence of at least "
            f"{threshold:.9g}, so there is no precision; the highest is "
            f"{predictions.confidence.max():.9g}."
        )
    return float(predictions.correct[which].mean())


def _most_confident_first(levels: Levels) -> Levels:
    last = len(levels.confidence) - 1
    return Levels(
        levels.confidence[::-1], levels.count[::-1], levels.right[::-1], last - levels.place
    )
