"""A diagnosis finds no fault in a calibrated model, and nothing the wrong way round."""

from __future__ import annotations

import numpy as np

from pytest_calibration.diagnosis import diagnose
from pytest_calibration.predictions import Predictions


def test_a_calibrated_classifier_of_skewed_classes_has_no_favourite() -> None:
    """The likeliest class is answered too often by any argmax; that is no collapse."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        share = 1 / (1 + np.exp(-(rng.normal(size=1500) * 1.2 + 1.4)))
        labels = (rng.random(1500) < share).astype(int)
        found = diagnose((np.column_stack([1 - share, share]), labels))
        assert found.collapse.answered is not None
        assert found.collapse.correct is not None
        assert found.collapse.answered[1] > found.collapse.correct[1] + 0.05
        assert found.collapse.favourite is None


def test_a_model_that_is_pulled_to_one_option_has_a_favourite() -> None:
    """Logits moved by 1.5 towards C: it is answered too often, and believed in too much."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (1500, 4))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [rng.choice(4, p=row) for row in honest]
    found = diagnose(Predictions.from_logits(logits + np.array([0, 0, 1.5, 0]), labels))
    assert found.collapse.favourite is not None
    assert found.collapse.favourite.option == 2


def test_ties_are_no_favourite() -> None:
    """Where all options are equal the first is the answer by rule, not by preference."""
    labels = np.arange(400) % 4
    assert diagnose((np.full((400, 4), 0.25), labels)).collapse.favourite is None


def test_reversed_confidence_is_named() -> None:
    """An AUROC far below 1/2 separates correct answers from wrong ones well, and backwards."""
    rng = np.random.default_rng(1)
    confidence = rng.random(1000)
    text = diagnose((confidence, rng.random(1000) < 1 - confidence)).paragraph
    assert "is reversed: the higher it is, the more answers are wrong" in text
    assert "hardly separates" not in text


def test_an_under_confident_model_is_not_to_divide() -> None:
    """Dividing logits takes confidence away."""
    rng = np.random.default_rng(2)
    truth = rng.random(1500)
    found = diagnose((truth * 0.6, rng.random(1500) < truth))
    assert found.direction == "under-confident"
    assert "ividing" not in found.paragraph
