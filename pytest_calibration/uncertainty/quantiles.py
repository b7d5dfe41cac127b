"""Quantiles: normal, Student's t for few units, and exact bounds of a proportion."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final


class _StandardNormal(NormalDist):
    def cdf(self, x: float) -> float:
        # That of the standard library is 0 below -8.3.
        return math.erfc(-x / math.sqrt(2)) / 2


NORMAL: Final = _StandardNormal()
SMALL_SAMPLE: Final = 200


def _t_cdf(t: float, dof: int) -> float:
    """Student-t distribution function for whole degrees of freedom (A&S 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(dof))
    cosine2 = math.cos(theta) ** 2
    total, term = 0.0, 1.0
    first = 1 if dof % 2 else 0
    for k in range(first, dof - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * cosine2
    if dof % 2:
        inner = theta + math.sin(theta) * math.cos(theta) * total
        return 0.5 + inner / math.pi
    return 0.5 + math.sin(theta) * total / 2


@lru_cache(maxsize=256)
def upper_quantile(alpha: float, clusters: int) -> float:
    """Return q with P(X > q) = alpha.

    X is normal; below 200 independent units it is Student-t with ``clusters - 1`` degrees of
    freedom, which is wider.
    """
    if clusters >= SMALL_SAMPLE:
        return -NORMAL.inv_cdf(alpha)
    dof = max(clusters - 1, 1)
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, dof) < 1 - alpha else (low, middle)
    return (low + high) / 2


def upper_tail(x: float, clusters: int) -> float:
    """Return P(X > x) for x ≥ 0, with X as in :func:`upper_quantile`."""
    if clusters >= SMALL_SAMPLE:
        return NORMAL.cdf(-x)
    return max(0.0, 1 - _t_cdf(x, max(clusters - 1, 1)))


def binomial_lower_bound(k: int, n: int, alpha: float) -> float:
    """Return the exact (Clopper–Pearson) one-sided lower bound of a proportion, k of n."""
    if k == 0:
        return 0.0

    def tail(p: float) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < alpha else (low, middle)
    return (low + high) / 2
