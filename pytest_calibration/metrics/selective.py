"""Whether confidence tells right from wrong: what is gained by answering only when sure.

None of these changes when confidences are transformed by a strictly increasing function, so none
of them says anything about calibration. Items of equal confidence count as their expectation over
all orders in which they could stand.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.levels import Levels, levels_of
from pytest_calibration.predictions import PredictionsLike, as_predictions

DEFAULT_COVERAGE: Final = 0.8


def auroc(predictions: PredictionsLike) -> float:
    """Chance that a right answer has more confidence than a wrong one, ties counting half.

    Area under the ROC curve of confidence as a classifier of correctness, in [0, 1]; 1/2 says that
    confidence is no guide. Source: Hanley & McNeil 1982.

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
    # No dot product: that of a threaded library depends on the number of its threads.
    return float((levels.right * below).sum() / pairs)


def selective_accuracy(predictions: PredictionsLike, coverage: float = DEFAULT_COVERAGE) -> float:
    """Accuracy on the most confident share of the items, in [0, 1].

    Where the share ends within items of equal confidence, or within one item, that level counts in
    proportion: the expected accuracy over all orders of the ties. At coverage 1 it is accuracy.

    Source: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        coverage: share of the items that is answered, above 0 and at most 1.

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
    """Share of wrong answers among the most confident share of the items, in [0, 1].

    One minus :func:`selective_accuracy`.

    Raises:
        MetricError: a coverage outside (0, 1].
    """
    return 1 - selective_accuracy(predictions, coverage)


def aurc(predictions: PredictionsLike) -> float:
    """Area under the risk-coverage curve: mean selective risk over the n coverages 1/n … 1.

    In [0, 1]; lower is better, and without ties it is (1/n) Σ_m (wrong among the m most
    confident) / m. Ties count as the mean over all orders in which they could stand. The n
    coverages are part of the definition, so repeating the data changes it a little.

    Source: Geifman & El-Yaniv 2017; Geifman, Uziel & El-Yaniv 2019.
    """
    predictions = as_predictions(predictions)
    levels = _most_confident_first(levels_of(predictions))
    wrong, ends = levels.wrong, np.cumsum(levels.count)
    # At the j-th item of a level, (W + j·w) / (N + j) are wrong, of N items and W wrong answers
    # before it: with H the harmonic numbers, the sum over the level is
    # w·count + (W − N·w)·(H(N + count) − H(N)).
    before = np.cumsum(wrong) - wrong - (ends - levels.count) * (wrong / levels.count)
    harmonic = np.cumsum(1 / np.arange(1, predictions.n + 1))[ends - 1]
    risk = wrong + before * np.diff(harmonic, prepend=0.0)
    return float(risk.sum() / predictions.n)


def _most_confident_first(levels: Levels) -> Levels:
    return Levels(levels.confidence[::-1], levels.count[::-1], levels.right[::-1])
