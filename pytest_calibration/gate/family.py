"""Several comparisons at once: which failures remain after a correction for their number."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float], levels: Sequence[float]) -> list[bool]:
    """Return which comparisons fail when all of them together may raise one false alarm.

    From the clearest to the least clear of m comparisons, the i-th must have a p-value of at most
    its level / (m − i), i from 0; the first that has not ends the search. The probability that any
    comparison without a change fails is then at most the level, however they depend on each other.

    Args:
        p_values: (m,) upper bounds of how often an unchanged model differs as clearly.
        levels: (m,) probability of a false alarm that each comparison allows.

    Source: Holm 1979.
    """
    m = len(p_values)
    ratios = [p / level for p, level in zip(p_values, levels, strict=True)]
    kept = [False] * m
    for i, place in enumerate(sorted(range(m), key=ratios.__getitem__)):
        if not ratios[place] * (m - i) <= 1:
            break
        kept[place] = True
    return kept
