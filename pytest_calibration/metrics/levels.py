"""The distinct confidences in order, with what happened at each: equal values are never split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_calibration.predictions import FloatArray, IntArray, Predictions


@dataclass(frozen=True)
class Levels:
    """What happened at each distinct confidence, the smallest first.

    Attributes:
        confidence: (m,) distinct confidences.
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
