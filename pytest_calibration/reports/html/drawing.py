"""The arithmetic of the drawings; the shapes are in ``templates/drawings.svg.jinja``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Scale:
    """A straight map from numbers to coordinates.

    Attributes:
        low: the number at ``start``.
        high: the number at ``end``.
        start: a coordinate.
        end: another one.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a number; one beyond the ends lies at the end."""
        width = self.high - self.low
        part = (value - self.low) / width if width else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)


def span(*columns: Iterable[float | None]) -> tuple[float, float]:
    """Return the range of all these numbers and 0, without None; it is never empty."""
    values = [0.0, *(v for v in chain(*columns) if v is not None)]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1)


def widened(values: Iterable[float], least: float = 0.1) -> tuple[float, float]:
    """Return the range of these shares, at least ``least`` wide: a small move must look small."""
    shares = [*values]
    low, high = min(shares), max(shares)
    if high - low >= least:
        return low, high
    centre = min(max((low + high) / 2, least / 2), 1 - least / 2)
    return centre - least / 2, centre + least / 2


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most ``most`` round numbers in a range, evenly spaced (by 1, 2 or 5 × 10^k)."""
    width = high - low
    if not width > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(width))
    for step in (factor * power * scale for scale in (0.1, 1.0, 10.0) for factor in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(i * step, 12) for i in range(first, last + 1)]
    return [low]
