"""Standard errors by hand and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

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
def test_copies_within_a_group_add_no_certainty(values: list[float], times: int) -> None:
    """Items repeated within their group leave the standard error where it was."""
    array = np.array(values)
    once = standard_error(array)
    clusters = np.repeat(np.arange(len(values)), times)
    assert standard_error(np.repeat(array, times), clusters) == pytest.approx(once, abs=1e-12)


def test_one_unit_has_no_standard_error() -> None:
    """One item, or one group, says nothing about its own error: NaN."""
    assert math.isnan(standard_error(np.array([0.5])))
    assert math.isnan(standard_error(np.array([0.5, 0.1]), np.array([0, 0])))


def test_cluster_codes_count_from_zero() -> None:
    """Group names become codes; without groups there are none."""
    p = of([0.5] * 3, [True] * 3, groups=["b", "a", "b"])
    codes = cluster_codes(p)
    assert codes is not None
    assert codes.tolist() == [1, 0, 1]
    assert cluster_codes(of([0.5], [True])) is None
