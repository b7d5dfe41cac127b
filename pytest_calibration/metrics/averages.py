"""Accuracy, mean confidence, and the signed gap between them."""

from __future__ import annotations

from pytest_calibration.predictions import PredictionsLike, as_predictions


def accuracy(predictions: PredictionsLike) -> float:
    """Share of correct answers, in [0, 1]."""
    return float(as_predictions(predictions).correct.mean())


def mean_confidence(predictions: PredictionsLike) -> float:
    """Mean confidence, in [0, 1]."""
    return float(as_predictions(predictions).confidence.mean())


def signed_gap(predictions: PredictionsLike) -> float:
    """Mean confidence minus accuracy, in [-1, 1]; positive means over-confident."""
    return float(as_predictions(predictions).gap.mean())
