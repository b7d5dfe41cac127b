"""The noise floor against hand calculation and simulation."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from drawn_samples import copied, floor, grouped
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact

from pytest_calibration.metrics import METRICS, ece, mce
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.noise_floor import (
    CROSS_FITTED,
    FLOORS,
    ROOT_OF_NORMAL,
)

of = Predictions.from_confidence


def test_noise_floor_by_hand() -> None:
    """One bin of 100 at 0.8: s = sqrt(100·0.16) = 4, mean 4·sqrt(2/π)/100."""
    null = floor("ece", exact({0.8: 0.0}, each=100))
    assert null.mean == pytest.approx(0.04 * math.sqrt(2 / math.pi))
    deviation = 0.04 * math.sqrt(1 - 2 / math.pi)
    assert null.high == pytest.approx(null.mean + 1.645 * deviation)


@pytest.mark.parametrize(
    ("n", "mean", "high"),
    [(200, 0.078, 0.111), (500, 0.050, 0.071), (1000, 0.036, 0.052), (2000, 0.026, 0.037)],
)
def test_noise_floor_is_the_simulated_null(n: int, mean: float, high: float) -> None:
    """The closed form gives mean and 95 % point of ECE15 over simulated calibrated models."""
    models = [calibrated(n, seed) for seed in range(200)]
    floors = [floor("ece", p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(mean, rel=0.04)
    assert np.mean([f.high for f in floors]) == pytest.approx(high, rel=0.05)
    values = [ece(p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(np.mean(values), rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_noise_floor_is_the_mean_over_redrawn_outcomes(seed: int) -> None:
    """For any confidences, the mean ECE over outcomes drawn from them is the floor."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 2, 800)
    values = [ece(of(confidence, rng.random(800) < confidence)) for _ in range(400)]
    null = floor("ece", of(confidence, confidence > 0.5))
    assert null.mean == pytest.approx(np.mean(values), rel=0.04)
    assert null.high == pytest.approx(np.quantile(values, 0.95), rel=0.07)


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_noise_floor_depends_on_the_confidences_alone(correct: list[bool]) -> None:
    """The outcomes do not change the floor."""
    confidence = np.linspace(0.3, 0.99, 40)
    other = floor("ece", of(confidence, [True] * 40))
    assert floor("ece", of(confidence, correct)) == other


def test_noise_floor_falls_with_the_root_of_n() -> None:
    """Four times the items halve the floor."""
    p = calibrated(300, 1)
    four = of(np.tile(p.confidence, 4), np.tile(p.correct, 4))
    assert floor("ece", four).mean == pytest.approx(floor("ece", p).mean / 2)
    assert floor("ece", four).high == pytest.approx(floor("ece", p).high / 2)


def test_copies_within_groups_do_not_lower_the_floor() -> None:
    """Five copies of each item, grouped, have at least the floor of the items."""
    p = calibrated(300, 1)
    q = of(
        np.repeat(p.confidence, 5),
        np.repeat(p.correct, 5),
        groups=[str(i) for i in np.repeat(np.arange(300), 5)],
    )
    assert floor("ece", q).mean == pytest.approx(floor("ece", p).mean, rel=1e-6)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.error])
def test_certain_confidences_have_no_floor(name: str) -> None:
    """Confidences of 0 and 1 leave no room for noise."""
    p = Predictions.from_probabilities([[0.0, 1.0], [1.0, 0.0]] * 30, [1, 0] * 30)
    assert floor(name, p).mean == 0
    null = floor("ece", of([0.0, 1.0] * 30, [False, True] * 30))
    assert (null.mean, null.high) == (0.0, 0.0)


def test_mce_floor_of_one_bin_is_the_mean_absolute_gap() -> None:
    """With one bin the floor is E|K/n - 0.8| of a binomial K; with many items s·sqrt(2/π)."""
    stats = pytest.importorskip("scipy.stats")
    k = np.arange(101)
    expected = float(np.abs(k / 100 - 0.8) @ stats.binom.pmf(k, 100, 0.8))
    assert floor("mce", exact({0.8: 0.0}, each=100)).mean == pytest.approx(expected, abs=1e-4)
    many = math.sqrt(0.16 / 40_000) * math.sqrt(2 / math.pi)
    assert floor("mce", exact({0.8: 0.0}, each=40_000)).mean == pytest.approx(many, abs=1e-4)


@pytest.mark.parametrize("n", [15, 40, 120, 800])
def test_mce_floor_is_the_mean_over_redrawn_outcomes(n: int) -> None:
    """Also with few items per bin, the floor of MCE is the mean over redrawn outcomes."""
    rng = np.random.default_rng(n)
    confidence = rng.beta(3, 1, n)
    values = [mce(of(confidence, rng.random(n) < confidence)) for _ in range(1500)]
    null = floor("mce", of(confidence, confidence > 0.5))
    assert null.mean == pytest.approx(np.mean(values), rel=0.03)


def test_the_floor_of_the_rms_error_is_corrected_for_the_root() -> None:
    """E sqrt(X) ≈ sqrt(m)·(1 - v/(8m²)): with k equal bins, m = k·q and v = 2k·q², 1 - 1/(4k)."""
    for gaps in ({0.8: 0.0}, dict.fromkeys((0.3, 0.7), 0.0)):
        p = exact(gaps, each=100)
        c = next(iter(gaps))
        mean_square = c * (1 - c) / 100
        null = floor("rms_ce", p).mean
        assert null == pytest.approx(math.sqrt(mean_square) * (1 - 1 / (4 * len(gaps))))


# --- every error ----------------------------------------------------------------------------------

ERRORS = [name for name, metric in METRICS.items() if metric.error]


def redrawn(p: Predictions, seed: int) -> Predictions:
    """Return labels drawn from the table: a calibrated model with the same confidences."""
    assert p.probabilities is not None
    rng = np.random.default_rng(seed)
    reached = rng.random((len(p), 1)) > p.probabilities.cumsum(axis=1)
    labels = reached.sum(axis=1).clip(0, p.probabilities.shape[1] - 1)
    return Predictions.from_probabilities(p.probabilities, labels)


def test_only_errors_have_a_floor() -> None:
    """The table of floors has a row for each error, and no other."""
    assert list(FLOORS) == ERRORS
    p = calibrated(50, 1)
    assert math.isnan(floor("brier", p).mean)


@cache
def models_of(n: int) -> tuple[list[Predictions], Predictions]:
    """Return calibrated models with the same confidences, and the one they are drawn from."""
    p = calibrated(n, 3)
    return [redrawn(p, seed) for seed in range(400)], p


@pytest.mark.parametrize("n", [300, 2000])
@pytest.mark.parametrize("name", ERRORS)
def test_each_floor_is_the_mean_over_redrawn_outcomes(name: str, n: int) -> None:
    """The mean absolute value over calibrated models with these confidences is the floor."""
    models, p = models_of(n)
    metric = METRICS[name]
    values = np.abs([metric(q) for q in models])
    null = floor(name, p).mean
    assert null == pytest.approx(values.mean(), rel=ROUGH.get(name, 0.06))


# Approximations: Brownian motion has more thresholds than there are items, and a sum of squares
# is not normal.
ROUGH = {"ks_ce": 0.1, "smooth_ece": 0.1, "cross_fitted_ece": 0.1}
ROUGH |= {"debiased_squared_ce": 0.1, "debiased_rms_ce": 0.15}


@pytest.mark.parametrize("name", ERRORS)
def test_copies_within_groups_have_the_floor_of_the_items(name: str) -> None:
    """Five copies of each item, grouped, have the same floor."""
    p = calibrated(300, 1)
    null = floor(name, p).mean
    together = floor(name, copied(p, 5)).mean
    assert together == pytest.approx(null, rel=0.03)


@pytest.mark.parametrize("name", ["ece", "mce", "signed_gap", "ks_ce"])
def test_groups_raise_the_floor(name: str) -> None:
    """Documents of ten with dependent outcomes: the floor is the mean over redrawn documents."""
    metric = METRICS[name]
    values, floors = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        confidence = rng.beta(3, 2, 60).repeat(10)
        draw = np.where(rng.random(600) < 0.7, rng.random(60).repeat(10), rng.random(600))
        p = grouped(of(confidence, draw < confidence), 10)
        values.append(abs(metric(p)))
        floors.append(floor(name, p).mean)
    alone = floor(name, of(p.confidence, p.correct)).mean
    assert np.mean(floors) == pytest.approx(np.mean(values), rel=0.1)
    assert np.mean(floors) > 1.5 * alone


def unequal(n: int, seed: int) -> Predictions:
    """A calibrated model whose outcomes go together in a group; one group holds half the items."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.zeros(n // 2, int), 1 + np.arange(n - n // 2) // 20])
    odds = 0.8 + 1.2 * rng.standard_normal(n)
    # The confidence is the mean over the effects that a group may have.
    at, weight = np.polynomial.hermite_e.hermegauss(21)
    chance = 1 / (1 + np.exp(-odds[:, None] - 0.5 * at)) @ (weight / weight.sum())
    effect = 0.5 * rng.standard_normal(groups[-1] + 1)[groups]
    return of(chance, rng.random(n) < 1 / (1 + np.exp(-odds - effect)), groups=groups)


def test_a_large_group_errs_alike_in_all_its_bins() -> None:
    """The 95 % point holds about 95 % of calibrated runs; without their correlation it holds 69."""
    runs = [unequal(1000, seed) for seed in range(150)]
    held = [ece(p) <= floor("ece", p).high for p in runs]
    assert np.mean(held) >= 0.88
    floors, values = [floor("ece", p).mean for p in runs], [ece(p) for p in runs]
    assert np.mean(floors) == pytest.approx(np.mean(values), rel=0.1)


def test_constants_are_integrals() -> None:
    """The deviation of a cross-fitted bin and the mean root of a normal variable, by quadrature."""
    x = np.linspace(-10, 10, 400_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    fitted = debiased_size(x, np.ones_like(x))
    assert (fitted * density).sum() == pytest.approx(0, abs=1e-9)
    assert math.sqrt((fitted**2 * density).sum()) == pytest.approx(CROSS_FITTED, abs=5e-5)
    assert (np.sqrt(np.maximum(x, 0)) * density).sum() == pytest.approx(ROOT_OF_NORMAL, abs=1e-6)
