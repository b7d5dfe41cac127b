"""Smooth and KS calibration errors against integrals, limits and known models."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from drawn import Rows, answers, built, grid
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import DATASETS, calibrated, exact, two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import ece, ks_ce, signed_gap, smooth_ece
from pytest_calibration.predictions import Predictions

of = Predictions.from_confidence


def integral(p: Predictions, sigma: float, points: int = 4000) -> float:
    """Return ∫ |(1/n) Σ K(t, c)·(c − h)| dt, with a sum over all reflections of each item."""
    t = (np.arange(points) + 0.5) / points
    total = np.zeros(points)
    for value in np.unique(p.confidence):
        gap = p.gap[p.confidence == value].sum() / len(p)
        for k in range(-6, 7):
            for image in (value + 2 * k, -value + 2 * k):
                if not -9 * sigma < image < 1 + 9 * sigma:
                    continue
                z = (t - image) / sigma
                total += gap * np.exp(-0.5 * z * z) / (sigma * math.sqrt(2 * math.pi))
    return float(np.abs(total).mean())


def by_value(p: Predictions) -> float:
    """Return ECE with a bin for each distinct confidence."""
    _, index = np.unique(p.confidence, return_inverse=True)
    return float(np.abs(np.bincount(index, weights=p.gap)).sum() / len(p))


# --- smooth ECE ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("name", DATASETS)
def test_smooth_error_is_its_integral(name: str, sigma: float) -> None:
    """The value on the grid is the integral within 1e-5."""
    p = of(*DATASETS[name]())
    assert smooth_ece(p, sigma) == pytest.approx(integral(p, sigma), abs=1e-5)


def test_smooth_error_is_nearly_its_integral_at_a_narrow_bandwidth() -> None:
    """At a bandwidth of 0.001, four cells, it is the integral within 0.1 %."""
    p = calibrated(200, 1)
    assert smooth_ece(p, 0.001) == pytest.approx(integral(p, 0.001, 10_000), rel=1e-3)


def test_certainty_counts_in_full() -> None:
    """Half the items at confidence 1 (or 0.999) and 60 % right, half calibrated: the error is 0.2.

    A kernel that is cut off at the ends would halve it.
    """
    for top, expected in ((1.0, 0.2), (0.999, 0.1995)):
        p = of([top] * 100 + [0.5] * 100, [i % 5 < 3 for i in range(100)] + [0, 1] * 50)
        assert smooth_ece(p, 0.05) == pytest.approx(expected, abs=1e-6)
        assert smooth_ece(p) == pytest.approx(expected, abs=1e-3)
    bottom = of([0.0] * 100 + [0.5] * 100, [i % 5 < 2 for i in range(100)] + [0, 1] * 50)
    assert smooth_ece(bottom, 0.05) == pytest.approx(0.2, abs=1e-6)


@given(grid)
def test_the_automatic_bandwidth_is_the_error_itself(rows: Rows) -> None:
    """With s the automatic error, the error at bandwidth s is s."""
    p = built(rows)
    value = smooth_ece(p)
    if value > 1e-6:
        assert smooth_ece(p, value) == pytest.approx(value, abs=1e-9)


@given(answers, st.lists(st.floats(1e-4, 3), min_size=2, max_size=4))
def test_the_error_falls_with_the_bandwidth(rows: Rows, widths: list[float]) -> None:
    """It stays between |signed gap| and the ECE of the distinct confidences."""
    p = built(rows)
    values = [smooth_ece(p, sigma) for sigma in sorted(widths)]
    for narrow, wide in itertools.pairwise(values):
        assert wide <= narrow + 1e-12
    for value in (*values, smooth_ece(p)):
        assert abs(signed_gap(p)) <= value + 1e-12
        assert value <= by_value(p) + 1e-12


@given(grid)
def test_limits_of_the_smooth_error(rows: Rows) -> None:
    """A very narrow kernel gives the ECE of the values, a very wide one |signed gap|."""
    p = built(rows)
    assert smooth_ece(p, 1e-3) == pytest.approx(by_value(p), abs=1e-6)
    assert smooth_ece(p, 10.0) == pytest.approx(abs(signed_gap(p)), abs=1e-6)


@given(grid)
def test_smoothing_cancels_nothing_where_all_gaps_have_one_sign(rows: Rows) -> None:
    """With all answers wrong, the error is the mean confidence at any bandwidth."""
    p = of([c for c, _ in rows], [False] * len(rows))
    for sigma in (None, 0.01, 0.3):
        assert smooth_ece(p, sigma) == pytest.approx(signed_gap(p), abs=1e-9)


def test_smooth_error_of_known_gaps() -> None:
    """Distant gaps of +0.2 and -0.2: 0.2 with a narrow kernel, 0 with a wide one."""
    p = exact({0.2: 0.2, 0.8: -0.2}, each=100)
    assert smooth_ece(p, 0.01) == pytest.approx(0.2, abs=1e-9)
    assert smooth_ece(p, 5.0) == pytest.approx(0.0, abs=1e-9)


def test_smooth_error_has_less_noise_than_ece() -> None:
    """It is lower for calibrated models, and equal for many items of a miscalibrated one."""
    for n in (200, 1000):
        models = [calibrated(n, seed) for seed in range(60)]
        assert np.mean([smooth_ece(p) for p in models]) < 0.9 * np.mean([ece(p) for p in models])
    p = two_runs(20_000, 0, 1.5)[1]
    assert smooth_ece(p) == pytest.approx(ece(p), abs=0.005)
    assert ece(p) > 0.09


@pytest.mark.parametrize("sigma", [0.0, -0.1, math.nan, math.inf])
def test_invalid_bandwidths_are_refused(sigma: float) -> None:
    """A bandwidth must be a finite number above 0."""
    with pytest.raises(MetricError, match=f"sigma must be a finite number above 0, got {sigma}"):
        smooth_ece(of([0.5], [True]), sigma)


# --- KS -----------------------------------------------------------------------------------------


def test_ks_by_hand() -> None:
    """Gaps 0.4, -0.4, -0.1 in order of confidence cumulate to 0.4, 0.0, -0.1; of three items."""
    p = of([0.9, 0.4, 0.6], [1, 0, 1])
    assert ks_ce(p) == pytest.approx(0.4 / 3)


def test_ks_does_not_split_ties() -> None:
    """Ten right and ten wrong at 0.5 cancel, in any order."""
    right_first = [True] * 10 + [False] * 10
    for order in (right_first, right_first[::-1], [True, False] * 10):
        assert ks_ce(of([0.5] * 20, order)) == 0


@given(grid)
def test_ks_is_the_largest_distance_of_two_sums(rows: Rows) -> None:
    """In fractions: the largest |Σ (c − h)| over the items with a confidence up to t, over n."""
    exactly = [(Fraction(round(c * 20), 20), h) for c, h in rows]
    largest = max(abs(sum((c - h for c, h in exactly if c <= t), Fraction(0))) for t, _ in exactly)
    assert ks_ce(built(rows)) == pytest.approx(float(largest / len(rows)), abs=1e-12)


@given(answers)
def test_ks_lies_between_gap_and_error_of_values(rows: Rows) -> None:
    """At least |signed gap|, at most the ECE of the distinct confidences."""
    p = built(rows)
    assert abs(signed_gap(p)) <= ks_ce(p) + 1e-12
    assert ks_ce(p) <= by_value(p) + 1e-12


@given(answers)
def test_ks_bounds_the_error_of_any_range(rows: Rows) -> None:
    """The gaps summed over a range of confidences are at most twice the KS error."""
    p = built(rows)
    low, high = np.quantile(p.confidence, [0.25, 0.75])
    inside = (p.confidence > low) & (p.confidence <= high)
    assert abs(p.gap[inside].sum()) / len(p) <= 2 * ks_ce(p) + 1e-12
