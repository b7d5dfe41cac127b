"""Which questions go to a replica together.

Questions that begin alike (a header, solved examples) are scored together: a replica computes what
they share once. So the questions are sorted, and the sorted line is cut where neighbours have least
in common: until every replica has its part, and then, where little is computed twice, into smaller
batches, so that a replica that is done sooner gets more, and one that dies has lost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

BATCHES: Final = 4
"""Batches for each replica."""
_REPEATED: Final = 1 / 8
"""The share of a batch that its beginning, computed once more, may be."""


def batches(texts: Sequence[str], replicas: int, more: Sequence[float] = ()) -> list[list[int]]:
    """Return the indices of the texts of each batch, the most expensive batch first.

    A text costs the characters that neither of its neighbours, in order, begins with.

    Args:
        texts: n texts.
        replicas: how many replicas there are.
        more: (n,) what each text costs beside its characters; nothing by default.
    """
    if not texts:
        return [[]]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    line = _Line(texts, order, more)
    parts = line.packed(line.cut(replicas), line.cost(0, len(order)) / (replicas * BATCHES))
    parts.sort(key=lambda part: -line.cost(*part))
    return [order[a:b] for a, b in parts]


class _Line:
    """Texts in order, and what parts of the line cost."""

    def __init__(self, texts: Sequence[str], order: Sequence[int], more: Sequence[float]) -> None:
        # Of each text, how many characters the text before it begins with as well.
        self._shared = np.array(
            [0, *(_begin_alike(texts[a], texts[b]) for a, b in pairwise(order))]
        )
        alike = np.maximum(self._shared, [*self._shared[1:], 0])
        # Every text costs something, so that a part of equal ones does, too.
        own = np.array([len(texts[i]) + 1 + (more[i] if more else 0) for i in order]) - alike
        self._total: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(own)])

    def cost(self, a: int, b: int) -> float:
        """Return what the texts from a to b cost, b not included."""
        return float(self._total[b] - self._total[a])

    def cut(self, replicas: int) -> list[tuple[int, int]]:
        """Return parts in order."""
        whole = self.cost(0, len(self._shared))
        most, least = whole / replicas, whole / (replicas * BATCHES)
        parts, waiting = [], [(0, len(self._shared))]
        while waiting:
            a, b = waiting.pop()
            cost, here = self.cost(a, b), self._shared[a + 1 : b]
            if cost <= least or not len(here) or (cost <= most and here.min() > cost * _REPEATED):
                parts.append((a, b))
                continue
            # Of the places that are as good, the one nearest to the middle.
            places = a + 1 + np.flatnonzero(here == here.min())
            middle = (self._total[a] + self._total[b]) / 2
            place = int(places[np.abs(self._total[places] - middle).argmin()])
            waiting += [(place, b), (a, place)]
        return parts

    def packed(self, parts: list[tuple[int, int]], most: float) -> list[tuple[int, int]]:
        """Join neighbouring parts as long as they cost at most so much together."""
        out = parts[:1]
        for a, b in parts[1:]:
            first = out[-1][0]
            if self.cost(first, b) <= most:
                out[-1] = first, b
            else:
                out.append((a, b))
        return out


def _begin_alike(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
