"""ECE after recalibration, measured on held-out items.

The items are split into five folds by their ids, whole groups at a time. The confidences of a fold
are recalibrated by a fit to the other four, and ECE is measured over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final, TypeAlias

import numpy as np

from pytest_calibration.diagnosis.findings import EceReading, Recalibrated
from pytest_calibration.diagnosis.temperature import (
    Logits,
    Target,
    confidence_at,
    logits_of,
    minimise,
    outcomes_of,
    scale_of,
)
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.folds import balanced_folds
from pytest_calibration.uncertainty.isotonic import isotonic
from pytest_calibration.uncertainty.standard_errors import cluster_codes

FOLDS: Final = 5
# With fewer independent units a fold learns from too few, and noise hides what is left.
MIN_UNITS: Final = 50
# A fold learns from at most so many items; more would change no printed digit.
LEARN_FROM: Final = 100_000
# Part of the excess over the noise floor that may remain where a problem counts as corrected.
RESIDUE: Final = 0.2

# (items to learn from, items to recalibrate) -> confidence of the latter.
Learn: TypeAlias = Callable[[IntArray, IntArray], FloatArray]


def read_ece(predictions: Predictions, bins: int) -> EceReading:
    """Measure ECE, and compare it with its noise floor."""
    m = measure(predictions, "ece", bins=bins)
    at_floor = m.value <= m.noise_floor_high
    return EceReading(m.value, m.low, m.high, m.noise_floor, m.noise_floor_high, at_floor)


def out_of_fold(predictions: Predictions, learn: Learn) -> FloatArray:
    """Recalibrate each fold by a fit to the others.

    Args:
        predictions: n items.
        learn: given the positions to learn from and those to recalibrate, returns the confidences
            of the latter.

    Returns:
        (n,) confidences, each made without its own item or any other of its group.
    """
    ids = predictions.item_ids
    fold = balanced_folds(ids, cluster_codes(predictions), FOLDS)
    confidence = predictions.confidence.copy()
    for held in range(FOLDS):
        inside, outside = np.flatnonzero(fold == held), np.flatnonzero(fold != held)
        if len(outside) > LEARN_FROM:
            # Those of the smallest ids, as a limit takes them: the order of the items is no matter.
            outside = outside[np.argpartition(ids[outside], LEARN_FROM)[:LEARN_FROM]]
        if len(inside):
            confidence[inside] = learn(outside, inside)
    return confidence


def with_confidence(predictions: Predictions, confidence: FloatArray) -> Predictions:
    """Return the same answers with these confidences, and nothing that would contradict them."""
    return replace(
        predictions,
        confidence=np.clip(confidence, 0.0, 1.0),
        probabilities=None,
        labels=None,
        label_logprobs=None,
        option_mass=None,
        texts=None,
    )


def tempered(predictions: Predictions) -> Predictions:
    """Return the predictions after temperature scaling, out of fold."""
    scale = scale_of(predictions)
    logits = logits_of(predictions, scale)
    target = outcomes_of(predictions, scale, logits)
    some = np.arange(min(logits.n, LEARN_FROM))
    start = minimise(logits.take(some), target.take(some)).beta

    def learn(train: IntArray, held: IntArray) -> FloatArray:
        return confidence_at(logits.take(held), _learned(logits, target, train, start), scale)

    return with_confidence(predictions, out_of_fold(predictions, learn))


def _learned(logits: Logits, target: Target, train: IntArray, start: float) -> float:
    return minimise(logits.take(train), target.take(train), start).beta


def straightened(predictions: Predictions) -> Predictions:
    """Return the predictions after isotonic regression of correctness on confidence, out of fold.

    Between the confidences that were learned from, the fit is linear; beyond them it is constant
    (as in scikit-learn). Source: Zadrozny & Elkan 2002.
    """
    correct = predictions.correct.astype(np.float64)

    def learn(train: IntArray, held: IntArray) -> FloatArray:
        at, value = isotonic(predictions.confidence[train], correct[train])
        return np.asarray(np.interp(predictions.confidence[held], at, value))

    return with_confidence(predictions, out_of_fold(predictions, learn))


def judge_recalibrated(before: EceReading, predictions: Predictions, bins: int) -> Recalibrated:
    """Return the ECE after recalibration, and how much of the excess over the floor remains."""
    after = read_ece(predictions, bins)
    excess = before.value - before.noise_floor
    rest = after.value - after.noise_floor
    corrected = after.at_floor or rest <= RESIDUE * excess
    remains = not corrected and after.beyond_noise
    return Recalibrated(**asdict(after), corrected=corrected, remains=remains)
