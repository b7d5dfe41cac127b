"""What is told of a comparison that passed: slices that got worse, and a fall of AUROC."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_calibration import Predictions, compare
from pytest_calibration.diagnosis.passing import auroc_fall, cautions_on_a_pass
from pytest_calibration.gate.decision import State
from pytest_calibration.metrics import auroc
from pytest_calibration.reports.model import result_of


def made(n: int = 2000, slice_shift: float = 0.0) -> tuple[Predictions, Predictions]:
    """A calibrated baseline, and a candidate over-confident in one slice of five."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 0.85, n)
    correct = rng.random(n) < confidence
    names = [f"s{i % 5}" for i in range(n)]
    shifted = confidence + slice_shift * (np.arange(n) % 5 == 2)
    return (
        Predictions.from_confidence(confidence, correct, item_ids=range(n), slices=names),
        Predictions.from_confidence(shifted, correct, item_ids=range(n), slices=names),
    )


def test_a_slice_that_got_worse_is_told_though_the_whole_passed() -> None:
    """By name, with both gaps; and it stands among the cautions of the result."""
    before, after = made(slice_shift=0.09)
    verdict = compare(after, before)
    assert verdict.state is State.PASSED
    (sentence,) = cautions_on_a_pass(after, before, 0.02)
    assert sentence.startswith("calibration got worse in a slice, by signed gap: s2 (")
    assert sentence in result_of(verdict).cautions


def test_nothing_is_told_where_nothing_got_worse() -> None:
    """Neither of equal sides, nor of a growth within the tolerance, nor of an improvement."""
    before, after = made(slice_shift=0.09)
    assert not [*cautions_on_a_pass(before, before, 0.02)]
    assert not [*cautions_on_a_pass(after, before, 0.2)]
    assert not [*cautions_on_a_pass(before, after, 0.02)]


def test_confidence_that_tells_nothing_any_more_is_told() -> None:
    """All confidences equal to the accuracy: ECE is 0, and AUROC falls to a half."""
    before, _ = made()
    after = Predictions.from_confidence(
        np.full(before.n, before.correct.mean()), before.correct, item_ids=range(before.n)
    )
    assert auroc_fall(after, before) == pytest.approx((auroc(before), 0.5))
    assert any("AUROC" in sentence for sentence in cautions_on_a_pass(after, before, 0.02))
    assert auroc_fall(before, after) is None
    assert auroc_fall(before, before) is None


def test_where_all_answers_are_right_there_is_no_auroc() -> None:
    """Nothing is said of it."""
    one = Predictions.from_confidence([0.5, 0.6], [True, True])
    assert auroc_fall(one, one) is None


def test_a_fall_by_chance_is_rarely_told() -> None:
    """Two independent readings of one model: in none of 200 pairs of 300 items."""
    rng = np.random.default_rng(2)
    told = 0
    for _ in range(200):
        truth = rng.uniform(0.3, 0.9, 300)
        correct = rng.random(300) < truth
        sides = [
            Predictions.from_confidence(
                np.clip(truth + 0.05 * rng.standard_normal(300), 0, 1), correct
            )
            for _ in range(2)
        ]
        told += auroc_fall(*sides) is not None
    assert told <= 2
