"""What some metrics need beside confidence and correctness, with a sentence where it is missing."""

from __future__ import annotations

from pytest_calibration.errors import MetricError
from pytest_calibration.predictions import FloatArray, IntArray, Predictions


def probabilities_of(predictions: Predictions, metric: str) -> FloatArray:
    """Return the (n, k) probabilities of all options.

    Raises:
        MetricError: the predictions carry none.
    """
    if predictions.probabilities is None:
        raise MetricError(_sentence(predictions, metric, "the probabilities of all options"))
    return predictions.probabilities


def labels_of(predictions: Predictions, metric: str) -> IntArray:
    """Return the (n,) index of each right option.

    Raises:
        MetricError: the predictions carry none.
    """
    if predictions.labels is None:
        raise MetricError(_sentence(predictions, metric, "the index of each right option"))
    return predictions.labels


def _sentence(predictions: Predictions, metric: str, what: str) -> str:
    return (
        f"{metric} needs {what}, and the predictions of probe {predictions.probe!r} carry none; "
        "build them with Predictions.from_probabilities."
    )
