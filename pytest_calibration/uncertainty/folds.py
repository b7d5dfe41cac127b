"""Folds for cross-fitting that never split a group."""

from __future__ import annotations

import numpy as np

from pytest_calibration.predictions import IdArray, IntArray


def unit_ids(item_ids: IdArray, clusters: IntArray | None) -> IdArray:
    """Return the id of each item's unit (n,): the smallest of its group, else its own.

    Args:
        item_ids: (n,) distinct ids.
        clusters: (n,) group codes from 0, or None where items are independent.
    """
    if clusters is None:
        return item_ids
    first = np.full(int(clusters.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(first, clusters, item_ids)
    return first[clusters]


def folds_by_id(item_ids: IdArray, clusters: IntArray | None, count: int) -> IntArray:
    """Assign each unit to a fold by its id alone, whatever the other items.

    Returns:
        (n,) fold of each item, from 0 to ``count - 1``, the same for all items of a group.
    """
    return (unit_ids(item_ids, clusters) % np.uint64(count)).astype(np.int64)


def balanced_folds(item_ids: IdArray, clusters: IntArray | None, count: int) -> IntArray:
    """Assign the units to folds in turn, in the order of their ids: sizes differ by one at most.

    The order of the items does not matter.

    Returns:
        (n,) fold of each item, from 0 to ``count - 1``, the same for all items of a group.
    """
    _, rank = np.unique(unit_ids(item_ids, clusters), return_inverse=True)
    return (rank % count).astype(np.int64)
