"""What several metrics read: probabilities of all options, labels, and distinct confidences."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

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
        place: (n,) position of each item's confidence among them.
    """

    confidence: FloatArray
    count: IntArray
    right: FloatArray
    place: IntArray

    @property
    def wrong(self) -> FloatArray:
        """(m,) number of wrong answers."""
        return np.asarray(self.count - self.right)


# Sorting a million confidences takes longer than any metric of them.
_LEVELS: WeakKeyDictionary[Predictions, Levels] = WeakKeyDictionary()


def levels_of(predictions: Predictions) -> Levels:
    """Count items and correct answers at each distinct confidence, in O(n log n)."""
    if predictions not in _LEVELS:
        _LEVELS[predictions] = _counted(predictions)
    return _LEVELS[predictions]


def _counted(predictions: Predictions) -> Levels:
    order = np.argsort(predictions.confidence)
    confidence = predictions.confidence[order]
    first = np.concatenate([[True], confidence[1:] != confidence[:-1]])
    starts = np.flatnonzero(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(first) - 1
    return Levels(
        confidence=confidence[starts],
        count=np.diff(starts, append=len(confidence)),
        right=np.add.reduceat(predictions.correct[order].astype(np.float64), starts),
        place=place,
    )
