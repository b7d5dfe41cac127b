"""What is told of a comparison that passed: slices that got worse, and a fall of AUROC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_calibration import Predictions, compare
from pytest_calibration.diagnosis.passing import (
    SAME_ANSWERS,
    auroc_fall,
    caution_on_small_mass,
    cautions_on_a_pass,
)
from pytest_calibration.gate.decision import State
from pytest_calibration.metrics import auroc
from pytest_calibration.metrics.sharpness import sharpness
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
    """Neither of a growth within the tolerance, nor of an improvement."""
    before, after = made(slice_shift=0.09)
    assert not [*cautions_on_a_pass(after, before, 0.2)]
    assert not [*cautions_on_a_pass(before, after, 0.02)]


def test_a_model_that_is_compared_with_itself_is_told() -> None:
    """Equal to the digits that a record keeps; one other answer or confidence is another."""
    before, _ = made()
    stored = replace(before, confidence=before.confidence.astype(np.float32).astype(float))
    assert [*cautions_on_a_pass(before, stored, 0.02)] == [SAME_ANSWERS]
    confidence, correct = before.confidence.copy(), before.correct.copy()
    confidence[0] += 1e-3
    correct[1] ^= True
    for change in ({"confidence": confidence}, {"correct": correct}):
        assert not [*cautions_on_a_pass(replace(before, **change), stored, 0.02)]


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [(0.01, None, True), (0.01, 0.9, True), (0.01, 0.01, False), (0.9, None, False)],
)
def test_options_that_hold_little_are_told(now: float, then: float | None, told: bool) -> None:
    """Unless those of the baseline held as little: here item by item, in a record as its mean."""
    before, after = (replace(one, option_mass=np.full(one.n, now)) for one in made())
    stored = None if then is None else sharpness(replace(before, option_mass=np.full(2000, then)))
    assert bool([*caution_on_small_mass(after, None, stored)]) is told
    if then is not None:
        before = replace(before, option_mass=np.full(2000, then))
        assert bool([*caution_on_small_mass(after, before, None)]) is told


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
