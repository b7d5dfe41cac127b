"""The noise floor against hand calculation and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import calibrated, exact
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.metrics import ece, mce
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.noise_floor import mce_noise_floor, noise_floor

of = Predictions.from_confidence


def test_noise_floor_by_hand() -> None:
    """One bin of 100 at 0.8: s = sqrt(100·0.16) = 4, mean 4·sqrt(2/π)/100."""
    floor = noise_floor(exact({0.8: 0.0}, each=100))
    assert floor.mean == pytest.approx(0.04 * math.sqrt(2 / math.pi))
    deviation = 0.04 * math.sqrt(1 - 2 / math.pi)
    assert floor.high == pytest.approx(floor.mean + 1.645 * deviation)


@pytest.mark.parametrize(
    ("n", "mean", "high"),
    [(200, 0.078, 0.111), (500, 0.050, 0.071), (1000, 0.036, 0.052), (2000, 0.026, 0.037)],
)
def test_noise_floor_is_the_simulated_null(n: int, mean: float, high: float) -> None:
    """The closed form gives mean and 95 % point of ECE15 over simulated calibrated models."""
    models = [calibrated(n, seed) for seed in range(200)]
    floors = [noise_floor(p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(mean, rel=0.04)
    assert np.mean([f.high for f in floors]) == pytest.approx(high, rel=0.05)
    values = [ece(p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(np.mean(values), rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_noise_floor_is_what_redrawn_outcomes_show(seed: int) -> None:
    """For any confidences, outcomes redrawn from them average the floor's ECE."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 2, 800)
    values = [ece(of(confidence, rng.random(800) < confidence)) for _ in range(400)]
    floor = noise_floor(of(confidence, confidence > 0.5))
    assert floor.mean == pytest.approx(np.mean(values), rel=0.04)
    assert floor.high == pytest.approx(np.quantile(values, 0.95), rel=0.07)


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_noise_floor_depends_on_the_confidences_alone(correct: list[bool]) -> None:
    """What the model got right does not move the floor."""
    confidence = np.linspace(0.3, 0.99, 40)
    other = noise_floor(of(confidence, [True] * 40))
    assert noise_floor(of(confidence, correct)) == other


def test_noise_floor_falls_with_the_root_of_n() -> None:
    """Four times the items halve the floor."""
    p = calibrated(300, 1)
    four = of(np.tile(p.confidence, 4), np.tile(p.correct, 4))
    assert noise_floor(four).mean == pytest.approx(noise_floor(p).mean / 2)
    assert noise_floor(four).high == pytest.approx(noise_floor(p).high / 2)


def test_copies_within_groups_do_not_lower_the_floor() -> None:
    """Five copies of each item, grouped, have at least the floor of the items."""
    p = calibrated(300, 1)
    q = of(
        np.repeat(p.confidence, 5),
        np.repeat(p.correct, 5),
        groups=[str(i) for i in np.repeat(np.arange(300), 5)],
    )
    assert noise_floor(q).mean == pytest.approx(noise_floor(p).mean, rel=1e-6)


def test_certain_confidences_have_no_floor() -> None:
    """Confidences of 0 and 1 leave no room for noise."""
    floor = noise_floor(of([0.0, 1.0] * 30, [False, True] * 30))
    assert (floor.mean, floor.high) == (0.0, 0.0)


def test_mce_floor_is_what_redrawn_outcomes_show() -> None:
    """For well filled bins, the floor of MCE is the mean over outcomes redrawn."""
    rng = np.random.default_rng(0)
    confidence = np.repeat(np.arange(8) / 15 + 0.45, 100)
    values = [mce(of(confidence, rng.random(800) < confidence)) for _ in range(400)]
    floor = mce_noise_floor(of(confidence, confidence > 0.5))
    assert floor == pytest.approx(np.mean(values), rel=0.04)


def test_mce_floor_of_one_bin_is_the_mean_absolute_gap() -> None:
    """With one bin the floor is E|N(0, s²)| = s·sqrt(2/π)."""
    floor = mce_noise_floor(exact({0.8: 0.0}, each=100))
    assert floor == pytest.approx(0.04 * math.sqrt(2 / math.pi), abs=1e-5)
