"""The input of intervals: units, quantiles, bins, and the share that a sample may miss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import grouped, sample
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated

from pytest_calibration.metrics import bin_index
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.sample import unseen_share

of = Predictions.from_confidence


@given(st.integers(1, 10**6))
def test_the_unseen_share_is_missed_by_one_sample_in_forty(units: int) -> None:
    """A share p is missing from (1 - p)^n of samples; at the returned share that is 2.5 %."""
    assert (1 - unseen_share(units)) ** units == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("n", [60, 199, 200, 1000])
def test_independent_items_are_the_units(n: int) -> None:
    """Without groups n items are n units, and the quantile is that of n units."""
    e = sample(calibrated(n, 1))
    assert (e.units, e.clusters) == (n, None)
    assert e.z == pytest.approx(upper_quantile(0.025, n))
    assert e.unseen == unseen_share(n)


def test_groups_of_one_size_are_the_units() -> None:
    """600 items in groups of four are 150 units, with Student's quantile of 149."""
    e = sample(grouped(calibrated(600, 1), 4))
    assert e.units == 150
    assert e.z == pytest.approx(upper_quantile(0.025, 150))


def test_groups_of_unequal_size_count_as_fewer() -> None:
    """One group of 90 and ten of one: 11 units, worth 100² / (90² + 10) = 1.2 for the quantile."""
    names = ["large"] * 90 + [f"small{i}" for i in range(10)]
    e = sample(of([0.5] * 100, [True] * 100, groups=names))
    assert e.units == 11
    assert e.z == pytest.approx(upper_quantile(0.025, 1))
    sizes = np.array([10, 20, 30])
    e = sample(of([0.5] * 60, [True] * 60, groups=np.repeat(np.arange(3), sizes).tolist()))
    assert e.z == pytest.approx(upper_quantile(0.025, int(60**2 / (sizes**2).sum())))


@pytest.mark.parametrize("wrong", [0, 1, 5, 40, 350])
def test_few_wrong_answers_have_a_quantile_of_their_number(wrong: int) -> None:
    """With k wrong (or right) of 400: k + 2 degrees of freedom; with groups k counts groups."""
    p = of([0.9] * 400, [i >= wrong for i in range(400)])
    rarer = min(wrong, 400 - wrong)
    assert sample(p).rarer_units == rarer
    assert sample(p).outcome_z == pytest.approx(upper_quantile(0.025, rarer + 3))
    pairs = sample(grouped(p, 2))
    assert pairs.rarer_units == math.ceil(rarer / 2)
    assert pairs.outcome_z == pytest.approx(upper_quantile(0.025, math.ceil(rarer / 2) + 3))


def test_few_units_keep_their_own_quantile() -> None:
    """20 items, half of them wrong: 12 degrees of freedom, fewer than those of 20 items."""
    p = of([0.5] * 20, [i < 10 for i in range(20)])
    assert sample(p).outcome_z == pytest.approx(upper_quantile(0.025, 13))
    assert sample(p).outcome_z > sample(p).z


@pytest.mark.parametrize("wrong", [1, 2, 3, 5, 10, 20])
def test_the_quantile_of_few_is_close_to_poissons_end(wrong: int) -> None:
    """Between k + 1.96·sqrt(k), which is too low, and the exact upper end of a Poisson mean."""
    stats = pytest.importorskip("scipy.stats")
    exact_end = stats.chi2.ppf(0.975, 2 * wrong + 2) / 2
    p = of([0.9] * 1000, [i >= wrong for i in range(1000)])
    near = wrong + sample(p).outcome_z * math.sqrt(wrong)
    assert wrong + 1.96 * math.sqrt(wrong) < near < exact_end
    assert near > 0.75 * exact_end


def test_items_are_binned_as_asked() -> None:
    """The bin of each item is that of the metric."""
    p = calibrated(200, 1)
    np.testing.assert_array_equal(sample(p, 7).index, bin_index(p.confidence, 7))
    mass = sample(p, 7, "equal_mass").index
    np.testing.assert_array_equal(mass, bin_index(p.confidence, 7, "equal_mass"))
