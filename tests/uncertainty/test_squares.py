"""Intervals of squared errors: their centre, their variance and their quadratic form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import copied, ends, grouped, grouped_tables, jackknife_error, sample
from hypothesis import given
from known_calibration import calibrated, exact, two_runs

from pytest_calibration.metrics import (
    bin_index,
    brier_reliability,
    brier_resolution,
    debiased_squared_ce,
)
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.bins import totals_of
from pytest_calibration.uncertainty.squares import noise_of_form, reliability_interval

Z = 1.959964


def without(p: Predictions, i: int) -> Predictions:
    """Return all items but one."""
    return p.take(np.delete(np.arange(len(p)), i))


@given(grouped_tables())
def test_the_squared_errors_share_an_interval(p: Predictions) -> None:
    """Reliability, the debiased square, and the squares of both RMS errors: one interval."""
    low, high = ends(p, "brier_reliability")
    assert ends(p, "debiased_squared_ce") == pytest.approx((low, high), abs=1e-12)
    for name in ("rms_ce", "debiased_rms_ce"):
        squared = [end**2 for end in ends(p, name)]
        assert squared == pytest.approx([low, high], abs=1e-9)


@pytest.mark.parametrize("name", ["brier_reliability", "brier_resolution"])
def test_far_from_zero_the_lower_end_is_that_of_the_jackknife(name: str) -> None:
    """Where the square is large: the debiased value minus z jackknife standard errors."""
    metric = {"brier_reliability": brier_reliability, "brier_resolution": brier_resolution}[name]
    rng = np.random.default_rng(4)
    confidence = rng.random(900)
    p = Predictions.from_confidence(confidence, rng.random(900) < 0.1 + 0.5 * confidence)
    error = jackknife_error(np.array([metric(without(p, i)) for i in range(len(p))]))
    if name == "brier_reliability":
        debiased = debiased_squared_ce(p)
    else:
        # Noise adds σ²/n for all bins but one, since the mean accuracy is estimated too.
        bins = bin_index(p.confidence, 15)
        noise = 0.0
        for b in np.unique(bins):
            right = p.correct[bins == b]
            noise += right.var(ddof=1) / 900 * (1 - len(right) / 900) if len(right) > 1 else 0.0
        debiased = metric(p) - noise
    low, _ = ends(p, name)
    assert low == pytest.approx(debiased - Z * error, abs=0.04 * Z * error)


def test_at_calibration_the_variance_is_that_of_noise() -> None:
    """With exact counts in one bin, s² = n·σ²: the ends solve the documented quadratic."""
    p = exact({0.75: 0.0}, each=400)
    low, high = reliability_interval(sample(p))
    v = 0.75 * 0.25 / 399  # variance of the mean gap
    # The debiased form is 0 - v, its noise 2v², and its variance grows by 4v for each unit of Q.
    assert low == pytest.approx(-v - Z * math.sqrt(2) * v, rel=1e-6)
    left = (high + v) ** 2
    assert left == pytest.approx(Z**2 * (2 * v * v + 4 * v * high), rel=0.01)


def test_the_lower_end_is_rarely_above_zero_at_calibration() -> None:
    """With a true error of 0, at most 2.5 % of calibrated models have a lower end above it."""
    wrong = [ends(calibrated(500, seed), "rms_ce")[0] > 0 for seed in range(300)]
    assert np.mean(wrong) <= 0.025


def test_groups_are_debiased_as_groups() -> None:
    """Copies within groups keep the ends, though the ungrouped debiased square grows."""
    few = calibrated(300, 8)
    many = copied(few, 5)
    assert debiased_squared_ce(many) > debiased_squared_ce(few) + 0.002
    assert ends(many, "brier_reliability") == pytest.approx(
        ends(few, "brier_reliability"), abs=1e-9
    )


def test_one_bin_has_no_resolution() -> None:
    """With one bin the resolution is 0 by definition, and the interval starts there."""
    p = two_runs(400, 2)[1]
    low, high = ends(p, "brier_resolution", 1)
    assert low == 0
    assert high < 0.02


def test_noise_of_independent_bins_by_hand() -> None:
    """Three bins of variance 1, 2, 3 and weight 1: mean 6 and variance 2·(1 + 4 + 9)."""
    totals = totals_of(sample(calibrated(60, 1), 3))
    moments = noise_of_form(totals, np.array([1.0, 2.0, 3.0]), np.eye(3))
    assert moments == pytest.approx((6, 28))
    # Minus the square of the sum: (A Σ)² has cross terms.
    form = np.eye(3) - 1 / 3
    sigma = np.diag([1.0, 2.0, 3.0])
    expected = (np.trace(form @ sigma), 2 * np.trace(form @ sigma @ form @ sigma))
    assert noise_of_form(totals, np.diag(sigma), form) == pytest.approx(expected)


def test_noise_of_bins_that_share_groups() -> None:
    """Pairs with equal outcomes, one item in each of two bins: the totals are fully dependent."""
    rng = np.random.default_rng(2)
    outcome = rng.random(300) < 0.5
    p = Predictions.from_confidence(np.tile([0.3, 0.8], 300), outcome.repeat(2))
    independent, dependent = (
        noise_of_form(totals, totals.variance, np.eye(totals.size))
        for totals in (totals_of(sample(p)), totals_of(sample(grouped(p, 2))))
    )
    assert dependent[0] == pytest.approx(independent[0])
    # Of (x, x) the square has variance 2·(2s²)², of (x, y) only 2·2·s⁴.
    assert dependent[1] == pytest.approx(2 * independent[1], rel=0.01)


def test_resolution_is_debiased_by_one_bin_less() -> None:
    """Two bins of equal accuracy: noise adds a(1 - a)/n, one variance and not two."""
    p = exact({0.3: -0.2, 0.8: 0.3}, each=200)
    v = 0.25 / 200 / 400 * 200 / 199  # s² / (n·n_b), in each bin
    weights = np.diag([1 / (400 * 200)] * 2) - 1 / 400**2
    totals = totals_of(sample(p))
    full = np.flatnonzero(totals.count)
    form = np.zeros((totals.size, totals.size))
    form[np.ix_(full, full)] = weights
    mean, variance = noise_of_form(totals, totals.variance, form)
    assert mean == pytest.approx(v * 200, rel=1e-6)
    assert variance == pytest.approx(2 * mean**2, rel=1e-6)
    high = ends(p, "brier_resolution")[1]
    assert high == pytest.approx(ends_of_one_degree(mean), rel=0.02)


def ends_of_one_degree(v: float) -> float:
    """Upper end of a square that is -v after debiasing, with noise 2v² and slope 4v."""
    middle = -v + Z * Z * 4 * v / 2
    return middle + math.sqrt(middle**2 - v * v + Z * Z * 2 * v * v)
