"""Isotonic regression by pool-adjacent-violators."""

from __future__ import annotations

from typing import Final

import numpy as np

from pytest_calibration.predictions import FloatArray, IntArray

# Pool all blocks at once while a round pools at least one block in this many.
WORTHWHILE: Final = 8


def isotonic(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the non-decreasing function of least squares, by pool-adjacent-violators.

    Equal values of ``x`` get one value, whatever the order of their ``y`` (Ayer et al. 1955;
    Barlow et al. 1972). O(n log n).

    Args:
        x: (n,) positions.
        y: (n,) observed values.

    Returns:
        The m distinct values of x, ascending, and the fitted values (m,).
    """
    at, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    total = np.bincount(index, weights=y).astype(np.float64)
    weight = counts.astype(np.float64)
    length = np.ones(len(at), dtype=np.int64)
    # A value that is not above its left neighbour gets the same fit, so that a whole non-increasing
    # run can be pooled at once.
    while True:
        mean = total / weight
        rises = mean[1:] > mean[:-1]
        if rises.all():
            return at, np.repeat(mean, length)
        starts = np.flatnonzero(np.concatenate([[True], rises]))
        few = (len(mean) - len(starts)) * WORTHWHILE < len(mean)
        total = np.add.reduceat(total, starts)
        weight = np.add.reduceat(weight, starts)
        length = np.add.reduceat(length, starts)
        if few:
            return at, _one_by_one(total, weight, length)


def _one_by_one(total: FloatArray, weight: FloatArray, length: IntArray) -> FloatArray:
    """Pool blocks from left to right; each is merged at most once."""
    totals: list[float] = []
    weights: list[float] = []
    lengths: list[int] = []
    for t, w, many in zip(total.tolist(), weight.tolist(), length.tolist(), strict=True):
        sum_, size, items = t, w, many
        while totals and totals[-1] / weights[-1] >= sum_ / size:
            sum_ += totals.pop()
            size += weights.pop()
            items += lengths.pop()
        totals.append(sum_)
        weights.append(size)
        lengths.append(items)
    return np.repeat(np.array(totals) / np.array(weights), lengths)
