"""Standard errors by hand and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.standard_errors import (
    cluster_codes,
    correlation_of_bins,
    design_effects,
    standard_error,
)

of = Predictions.from_confidence


def test_standard_error_by_hand() -> None:
    """Of 1, 2, 3, 6: sd = sqrt(14/3), so the error of the mean is sqrt(14/3)/2."""
    assert standard_error(np.array([1.0, 2, 3, 6])) == pytest.approx(math.sqrt(14 / 3) / 2)


def test_clustered_standard_error_by_hand() -> None:
    """Groups {1, 2}, {3}, {6}, mean 3: totals -3, 0, 3, so sqrt(3/2 · 18) / 4."""
    clusters = np.array([0, 0, 1, 2])
    expected = math.sqrt(3 / 2 * 18) / 4
    assert standard_error(np.array([1.0, 2, 3, 6]), clusters) == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_groups_of_one_are_items(values: list[float], random: object) -> None:
    """With a group per item the clustered standard error is the plain one."""
    array = np.array(values)
    codes = np.random.default_rng(len(values)).permutation(len(values))
    plain = np.std(array, ddof=1) / math.sqrt(len(array))
    assert standard_error(array) == pytest.approx(plain, abs=1e-12)
    assert standard_error(array, codes) == pytest.approx(plain, abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(2, 6))
def test_copies_within_a_group_keep_the_standard_error(values: list[float], times: int) -> None:
    """Items repeated within their group do not change the standard error."""
    array = np.array(values)
    once = standard_error(array)
    clusters = np.repeat(np.arange(len(values)), times)
    assert standard_error(np.repeat(array, times), clusters) == pytest.approx(once, abs=1e-12)


def test_one_unit_has_no_standard_error() -> None:
    """The standard error of one item, or one group, is NaN."""
    assert math.isnan(standard_error(np.array([0.5])))
    assert math.isnan(standard_error(np.array([0.5, 0.1]), np.array([0, 0])))


def test_cluster_codes_count_from_zero() -> None:
    """Group names become codes; without groups there are none."""
    p = of([0.5] * 3, [True] * 3, groups=["b", "a", "b"])
    codes = cluster_codes(p)
    assert codes is not None
    assert codes.tolist() == [1, 0, 1]
    assert cluster_codes(of([0.5], [True])) is None


def test_groups_of_one_item_each_are_no_groups() -> None:
    """Where every item has a group of its own, items are independent: there are no codes."""
    assert cluster_codes(of([0.5] * 3, [True] * 3, groups=["b", "a", "c"])) is None


def test_codes_are_computed_once() -> None:
    """The same predictions give the same array; equal but distinct ones another."""
    p, q = (of([0.5] * 3, [True] * 3, groups=["b", "a", "b"]) for _ in range(2))
    assert cluster_codes(p) is cluster_codes(p)
    assert cluster_codes(p) is not cluster_codes(q)


# --- design effects -------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(2, 6))
def test_copies_have_the_design_effect_of_their_number(values: list[float], times: int) -> None:
    """Items that occur m times in one group have m times the variance."""
    array = np.array(values) - np.mean(values)
    if np.abs(array).max() < 1e-3:
        return
    clusters = np.repeat(np.arange(len(values)), times)
    bins = np.zeros(len(clusters), dtype=np.int64)
    effect = design_effects(np.repeat(array, times), bins, 1, clusters)
    assert effect == pytest.approx(times)


def test_without_groups_the_design_effect_is_one() -> None:
    """The design effect of independent items is 1 in every bin, also in an empty one."""
    bins = np.array([0, 2, 2])
    np.testing.assert_array_equal(design_effects(np.array([0.0, 1, -1]), bins, 4, None), np.ones(4))


def test_items_of_a_group_in_different_bins_do_not_count() -> None:
    """Pairs are those of a group and a bin: two items a group, one in each bin, make none."""
    rng = np.random.default_rng(0)
    value = rng.standard_normal(100)
    bins, clusters = np.tile([0, 1], 100), np.repeat(np.arange(100), 2)
    effect = design_effects(np.repeat(value, 2), bins, 2, clusters)
    np.testing.assert_array_equal(effect, [1, 1])


def test_the_correlation_of_bins_is_that_of_the_effects_of_groups() -> None:
    """Effects of variance 1 beside noise of variance 3: ρ is 1/4, in groups of two items a bin.

    A bin's total then has the variance 4·(1 + 1/4) an item, and covariance 2·1/4·4 with another.
    """
    rng = np.random.default_rng(2)
    clusters, index = np.repeat(np.arange(5000), 4), np.tile([0, 0, 1, 1], 5000)
    value = rng.standard_normal(5000)[clusters] + math.sqrt(3) * rng.standard_normal(20_000)
    for b in (0, 1):
        value[index == b] -= value[index == b].mean()
    variance = 10_000 * 4 * design_effects(value, index, 2, clusters)
    found = correlation_of_bins(value, index, variance, clusters)
    assert np.diag(found).tolist() == [1.0, 1.0]
    assert found[0, 1] == found[1, 0] == pytest.approx(2 * 0.25 / (1 + 0.25), rel=0.1)


def test_groups_that_share_no_effect_have_uncorrelated_bins() -> None:
    """Nothing is found where nothing is: at most noise."""
    rng = np.random.default_rng(3)
    clusters, index = np.repeat(np.arange(2000), 4), np.tile([0, 0, 1, 1], 2000)
    value = rng.standard_normal(8000)
    found = correlation_of_bins(value, index, np.array([4000.0, 4000.0]), clusters)
    assert 0 <= found[0, 1] <= 0.06


def test_negative_correlation_counts_as_independence() -> None:
    """A negative correlation within groups has the design effect 1."""
    value = np.tile([1.0, -1.0], 50)
    effect = design_effects(value, np.zeros(100, dtype=np.int64), 1, np.repeat(np.arange(50), 2))
    assert effect == pytest.approx(1)


def test_bins_with_larger_groups_have_a_larger_design_effect() -> None:
    """With correlation 1/2: 1 + (10 - 1)/2 in a bin of groups of ten, 1 + (2 - 1)/2 of two."""
    rng = np.random.default_rng(1)
    sizes = np.concatenate([np.full(400, 10), np.full(2000, 2)])
    clusters = np.repeat(np.arange(2400), sizes)
    bins = (clusters >= 400).astype(np.int64)
    value = rng.standard_normal(2400)[clusters] + rng.standard_normal(len(clusters))
    for b in (0, 1):
        value[bins == b] -= value[bins == b].mean()
    assert design_effects(value, bins, 2, clusters) == pytest.approx([5.5, 1.5], rel=0.1)


def test_the_correlation_is_at_most_one() -> None:
    """Three equal outliers in one group, nine single items: ρ is 1, the design effect 18/12."""
    value = np.array([1.0] * 3 + [-1 / 3] * 9)
    clusters = np.array([0] * 3 + list(range(1, 10)))
    effect = design_effects(value, np.zeros(12, dtype=np.int64), 1, clusters)
    assert effect == pytest.approx((3**2 + 9 * 1**2) / 12)
