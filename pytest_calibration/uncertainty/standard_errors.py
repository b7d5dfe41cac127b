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
    since single bins have too few such pairs. For a bin of n_b items, n_gb of them in group g, the
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
    count = np.maximum(np.bincount(index, minlength=size), 1)
    squares = np.bincount(bin_of, weights=pairs**2, minlength=size)
    variance = np.bincount(index, weights=residual**2, minlength=size) / count
    expected = float(variance @ (squares - np.bincount(index, minlength=size)))
    correlation = min(max(together / expected, 0.0), 1.0) if expected > 0 else 0.0
    return np.asarray(1 + correlation * np.maximum(squares / count - 1, 0))
