"""What several metrics read: probabilities of all options, labels, and distinct confidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import FloatArray, IntArray, Predictions


def probabilities_of(predictions: Predictions, metric: str) -> FloatArray:
    """Return the (n, k) probabilities of all options.

    Raises:
        MetricError: the predictions have none.
    """
    if predictions.probabilities is None:
        raise _missing(predictions, metric, "the probabilities of all options")
    return predictions.probabilities


def labels_of(predictions: Predictions, metric: str) -> IntArray:
    """Return the (n,) index of each right option.

    Raises:
        MetricError: the predictions have none.
    """
    if predictions.labels is None:
        raise _missing(predictions, metric, "the index of each right option")
    return predictions.labels


def _missing(predictions: Predictions, metric: str, what: str) -> MetricError:
    return MetricError(
        f"{metric} needs {what}, and the predictions of probe {predictions.probe!r} have none; "
        "build them with Predictions.from_probabilities."
    )


@dataclass(frozen=True)
class Levels:
    """The m distinct confidences, with the outcomes at each. Ties are never split.

    Attributes:
        confidence: (m,) distinct confidences, ascending.
        count: (m,) number of items.
        right: (m,) number of correct answers.
    """

    confidence: FloatArray
    count: IntArray
    right: FloatArray

    @property
    def wrong(self) -> FloatArray:
        """(m,) number of wrong answers."""
        return np.asarray(self.count - self.right)


def levels_of(predictions: Predictions) -> Levels:
    """Count items and correct answers at each distinct confidence, in O(n log n)."""
    order = np.argsort(predictions.confidence)
    confidence = predictions.confidence[order]
    first = np.concatenate([[True], confidence[1:] != confidence[:-1]])
    starts = np.flatnonzero(first)
    return Levels(
        confidence=confidence[starts],
        count=np.diff(starts, append=len(confidence)),
        right=np.add.reduceat(predictions.correct[order].astype(np.float64), starts),
    )
