"""Folds: groups stay whole, ids alone decide, and sizes are balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.predictions import hash_ids, positional_ids
from pytest_calibration.uncertainty.folds import balanced_folds, folds_by_id, unit_ids


@given(st.integers(1, 300), st.integers(1, 40), st.integers(2, 10), st.integers(0, 99))
def test_a_group_lies_in_one_fold(n: int, groups: int, count: int, seed: int) -> None:
    """All items of a group share a fold."""
    codes = np.unique(np.random.default_rng(seed).integers(0, groups, n), return_inverse=True)[1]
    ids = hash_ids(range(n), f"salt {seed}")
    for fold in (folds_by_id(ids, codes, count), balanced_folds(ids, codes, count)):
        assert set(fold.tolist()) <= set(range(count))
        for code in range(codes.max() + 1):
            assert len(set(fold[codes == code].tolist())) == 1


@given(st.integers(1, 300), st.integers(2, 10), st.permutations(range(20)))
def test_the_order_of_the_items_changes_nothing(n: int, count: int, order: list[int]) -> None:
    """An item has the same fold at any position."""
    ids = positional_ids(n)
    shuffled = np.random.default_rng(order[0]).permutation(n)
    for folds in (folds_by_id, balanced_folds):
        assert np.array_equal(folds(ids[shuffled], None, count), folds(ids, None, count)[shuffled])


def test_folds_by_id_depend_on_the_id_alone() -> None:
    """Without the other items an item has the same fold."""
    ids = positional_ids(50)
    assert np.array_equal(folds_by_id(ids[::3], None, 10), folds_by_id(ids, None, 10)[::3])
    assert np.array_equal(folds_by_id(ids, None, 10), ids % np.uint64(10))


@pytest.mark.parametrize("step", [1, 5, 10])
def test_balanced_folds_are_balanced_whatever_the_ids(step: int) -> None:
    """Ids that are all multiples of the number of folds still fill every fold equally."""
    ids = np.arange(0, 103 * step, step, dtype=np.uint64)
    sizes = np.bincount(balanced_folds(ids, None, 5), minlength=5)
    assert sizes.max() - sizes.min() <= 1


def test_the_unit_of_a_group_is_its_smallest_id() -> None:
    """Ids 7, 3 | 9, 4 in two groups: 3 and 4 are their ids."""
    ids = np.array([7, 9, 3, 4], dtype=np.uint64)
    assert unit_ids(ids, np.array([0, 1, 0, 1])).tolist() == [3, 4, 3, 4]
    assert unit_ids(ids, None).tolist() == [7, 9, 3, 4]
