"""Intervals of squared errors: their centre, their spread, and where they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import calibrated, exact, two_runs
from hypothesis import given
from samples import copied, ends, evidence, jackknife_error, samples

from pytest_calibration.metrics import (
    bin_index,
    brier_reliability,
    brier_resolution,
    debiased_squared_ce,
)
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.squares import reliability_interval

Z = 1.959964


def without(p: Predictions, i: int) -> Predictions:
    """All items but one."""
    return p.take(np.delete(np.arange(len(p)), i))


@given(samples())
def test_the_squared_errors_share_an_interval(p: Predictions) -> None:
    """Reliability, the debiased square, and the squares of both RMS errors: one interval."""
    low, high = ends(p, "brier_reliability")
    assert ends(p, "debiased_squared_ce") == pytest.approx((low, high), abs=1e-12)
    for name in ("rms_ce", "debiased_rms_ce"):
        squared = [end**2 for end in ends(p, name)]
        assert squared == pytest.approx([low, high], abs=1e-9)


@pytest.mark.parametrize("name", ["brier_reliability", "brier_resolution"])
def test_far_from_zero_the_lower_end_is_that_of_the_jackknife(name: str) -> None:
    """Where the square is large, it is z jackknife errors below the debiased value."""
    metric = {"brier_reliability": brier_reliability, "brier_resolution": brier_resolution}[name]
    rng = np.random.default_rng(4)
    confidence = rng.random(900)
    p = Predictions.from_confidence(confidence, rng.random(900) < 0.1 + 0.5 * confidence)
    error = jackknife_error(np.array([metric(without(p, i)) for i in range(len(p))]))
    if name == "brier_reliability":
        debiased = debiased_squared_ce(p)
    else:
        # Noise adds σ²/n for every bin but one, since the mean accuracy is known as well.
        bins = bin_index(p.confidence, 15)
        noise = 0.0
        for b in np.unique(bins):
            right = p.correct[bins == b]
            noise += right.var(ddof=1) / 900 * (1 - len(right) / 900) if len(right) > 1 else 0.0
        debiased = metric(p) - noise
    low, _ = ends(p, name)
    assert low == pytest.approx(debiased - Z * error, abs=0.04 * Z * error)


def test_at_calibration_the_spread_is_that_of_noise() -> None:
    """With exact counts in one bin, s² = n·σ²: the ends follow from the quadratic in the text."""
    p = exact({0.75: 0.0}, each=400)
    low, high = reliability_interval(evidence(p))
    v = 0.75 * 0.25 / 399  # variance of the mean gap
    # The debiased form is 0 - v, its noise 2v², and its variance grows by 4v for each unit of Q.
    assert low == pytest.approx(-v - Z * math.sqrt(2) * v, rel=1e-6)
    left = (high + v) ** 2
    assert left == pytest.approx(Z**2 * (2 * v * v + 4 * v * high), rel=0.01)


def test_the_lower_end_is_above_zero_for_few_calibrated_models() -> None:
    """True error 0: at most one calibrated model in forty shows a lower end above it."""
    wrong = [ends(calibrated(500, seed), "rms_ce")[0] > 0 for seed in range(300)]
    assert np.mean(wrong) <= 0.025


def test_groups_are_debiased_as_groups() -> None:
    """Copies within groups raise no lower end, though item by item the debiased square grows."""
    few = calibrated(300, 8)
    many = copied(few, 5)
    assert debiased_squared_ce(many) > debiased_squared_ce(few) + 0.002
    assert ends(many, "brier_reliability") == pytest.approx(
        ends(few, "brier_reliability"), abs=1e-9
    )


def test_one_bin_resolves_nothing() -> None:
    """With one bin the resolution is 0 by definition, and the interval starts there."""
    p = two_runs(400, 2)[1]
    low, high = ends(p, "brier_resolution", 1)
    assert low == 0
    assert high < 0.02
