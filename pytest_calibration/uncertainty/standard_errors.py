"""Standard errors of means and design effects, over items or over their groups."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np

from pytest_calibration.predictions import FloatArray, IntArray, Predictions, coded

# Coding a million group names takes longer than any metric, so codes are kept per predictions.
_CODES: WeakKeyDictionary[Predictions, IntArray | None] = WeakKeyDictionary()


def cluster_codes(predictions: Predictions) -> IntArray | None:
    """Return the group of each item as numbers from 0, or None where items are independent.

    Where every item has a group of its own, items are independent.
    """
    if predictions not in _CODES:
        _CODES[predictions] = _coded(predictions)
    return _CODES[predictions]


def _coded(predictions: Predictions) -> IntArray | None:
    if predictions.groups is None:
        return None
    names, codes = coded(predictions.groups)
    if len(names) == predictions.n:
        return None
    codes.setflags(write=False)
    return codes


def equal_units(n: int, clusters: IntArray | None) -> int:
    """Return how many units of equal size would have as uncertain a standard error, at least 1.

    n² / Σ n_g²: a few large groups determine it poorly (Carter, Schnepel & Steigerwald 2017). It is
    the number of groups where all have the same size, and n where items are independent.
    """
    if clusters is None:
        return n
    sizes = np.bincount(clusters).astype(np.float64)
    return int(n**2 / float(sizes @ sizes) + 1e-9)


def standard_error(values: FloatArray, clusters: IntArray | None = None) -> float:
    """Standard error of the mean of ``values`` (n,); NaN below two independent units."""
    n = len(values)
    residual = values - values.mean()
    if clusters is not None:
        residual = np.bincount(clusters, weights=residual)
    units = len(residual)
    if units < 2:
        return math.nan
    return math.sqrt(units / (units - 1) * float(residual @ residual)) / n


def design_effects(
    residual: FloatArray, index: IntArray, size: int, clusters: IntArray | None
) -> FloatArray:
    """Return the design effect of each bin (size,): variance of its total over that without groups.

    One correlation ρ ≥ 0 of items that share a group and a bin is estimated from all bins together,
    since single bins have too few such pairs. What a large group takes from its own residuals, by
    moving the mean of its bin, is given back. For a bin of n_b items, n_gb of them in group g, the
    design effect is 1 + ρ·(Σ_g n_gb² / n_b − 1), at least 1 (Kish 1965).

    Args:
        residual: (n,) values minus the mean of their bin.
        index: (n,) bin of each item, below ``size``.
        size: number of bins.
        clusters: (n,) group codes from 0, or None.
    """
    if clusters is None:
        return np.ones(size)
    cell = clusters * size + index
    pairs = np.bincount(cell).astype(np.float64)
    together = float((np.bincount(cell, weights=residual) ** 2).sum() - residual @ residual)
    bin_of = np.arange(len(pairs)) % size
    items = np.bincount(index, minlength=size)
    count = np.maximum(items, 1)
    squares = np.bincount(bin_of, weights=pairs**2, minlength=size)
    cubes = np.bincount(bin_of, weights=pairs**3, minlength=size)
    variance = np.bincount(index, weights=residual**2, minlength=size) / count
    # A residual is e_i - mean(e): expected products of two residuals of a group, for e independent
    # and for e that is the same in a whole group.
    apart = np.where(items > 0, 1 - squares / count, 0.0)
    alike = squares - items - (2 * cubes - squares) / count + squares**2 / count**2
    expected = float(variance @ (alike - apart))
    extra = together - float(variance @ apart)
    correlation = min(max(extra / expected, 0.0), 1.0) if expected > 0 else 0.0
    return np.asarray(1 + correlation * np.maximum(squares / count - 1, 0))


def correlation_of_bins(
    residual: FloatArray, index: IntArray, variance: FloatArray, clusters: IntArray
) -> FloatArray:
    """Return the correlation of the totals of bins, (b, b): a group errs alike in all its bins.

    One correlation of items that share a group but no bin is estimated from all groups together.

    Args:
        residual: (n,) values minus the mean of their bin.
        index: (n,) bin of each item.
        variance: (b,) of the totals of the bins.
        clusters: (n,) group codes from 0.
    """
    size, groups = len(variance), int(clusters.max()) + 1
    cell = clusters * size + index
    count = np.maximum(np.bincount(index, minlength=size), 1)
    spread = np.sqrt(np.bincount(index, weights=residual**2, minlength=size) / count)
    unit = residual / np.where(spread > 0, spread, 1.0)[index]
    totals = np.bincount(cell, weights=unit, minlength=groups * size).reshape(groups, size)
    items = np.bincount(cell, minlength=groups * size).reshape(groups, size).astype(np.float64)
    shares = items / count
    shared, common = items.T @ items, shares.T @ shares
    # As in design_effects, a large group has moved the mean of its bins.
    alike = shared - 2 * (items * shares).T @ items + common * shared
    across = ~np.eye(size, dtype=bool)
    expected = float(alike[across].sum())
    together = float((totals.T @ totals)[across].sum())
    correlation = min(max(together / expected, 0.0), 1.0) if expected > 0 else 0.0
    deviation = np.sqrt(np.where(variance > 0, variance, 1.0))
    out = correlation * shared * np.outer(spread, spread) / np.outer(deviation, deviation)
    out[~across] = 1.0
    return np.asarray(out.clip(-1, 1))
