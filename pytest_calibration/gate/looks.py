"""Looks at a comparison while its items are still being asked: how strict each of them is.

A comparison that is looked at several times must be stricter at each look, else its false alarms
add up. The error level is spent little by little, by a function of the share of the items that is
known (Lan & DeMets 1983), nearly nothing at first (O'Brien & Fleming 1979). Light: what needs
numpy loads it when it is called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pytest_calibration.uncertainty.quantiles import NORMAL

if TYPE_CHECKING:
    from pytest_calibration.predictions import IdArray

# The share of the items that is asked before each look, whole groups at a time.
SHARES: Final = (0.25, 0.5, 0.75, 1.0)
# A comparison stops as passed where a full run would fail with a smaller probability than this,
# though each component be worse by the smallest worsening that a full run sees.
LEAST_POWER: Final = 0.2
# Share of an error level that is spent evenly: at no look is it nothing, however few items.
_EVENLY: Final = 1e-9
# Nodes of each panel on which a density is integrated, and the least number of panels.
_NODES, _PANELS = 8, 16
# Looks nearly coincide where a step is less than this, in standard deviations of the statistic:
# it is taken for one of this size.
_SMALLEST_STEP: Final = 0.03
# Standard deviations beyond which there is no mass.
_REACH: Final = 8


@dataclass(frozen=True)
class Look:
    """One look at a comparison, as it is planned.

    Attributes:
        number: of the look, from 1.
        looks: number of looks, if none stops.
        asked: number of the candidate's items that are asked by then.
        planned: number of items of a full run.
        item_ids: ids of the items that count, in the order in which they are asked.
        sizes: how many of these are known at each look up to this one.
        later: share of the items that is planned to be known at each look after it.
    """

    number: int
    looks: int
    asked: int
    planned: int
    item_ids: IdArray
    sizes: tuple[int, ...]
    later: tuple[float, ...]

    def among(self, item_ids: IdArray) -> Look:
        """Return the look at a comparison with a side that has these items alone."""
        import numpy as np

        there = np.isin(self.item_ids, item_ids)
        sizes = tuple(int(there[:size].sum()) for size in self.sizes)
        return replace(self, item_ids=self.item_ids[there], sizes=sizes)

    @property
    def waits(self) -> bool:
        """Whether none of the items is known, though there are some."""
        return len(self.item_ids) > 0 and not self.sizes[-1]

    def left_open(self) -> AtLook:
        """Return what a look comes to at which nothing can be decided."""
        return AtLook(self.number, self.looks, self.asked, self.planned, stopped=False)

    @property
    def fraction(self) -> float:
        """Share of the items that is known."""
        return self.sizes[-1] / len(self.item_ids)

    @property
    def is_last(self) -> bool:
        """Whether all items are known."""
        return self.sizes[-1] >= len(self.item_ids)

    def fractions(self, least: int) -> tuple[tuple[float, ...], int]:
        """Share of the items that is known at each look, and the place of this one in these.

        As they are up to this look, as they are planned after it; rising to 1.

        Args:
            least: number of items without which an earlier look could decide nothing: it is none.
        """
        counted = {size for size in self.sizes if size >= least} | {self.sizes[-1]}
        known = sorted(size / len(self.item_ids) for size in counted)
        later = [share for share in self.later if share > self.fraction]
        return (*known, *later), len(known) - 1


@dataclass(frozen=True)
class AtLook:
    """What a look came to.

    Attributes:
        number: of the look, from 1.
        looks: number of looks, if none stops.
        asked: number of items that were asked.
        planned: number of items of a full run.
        stopped: whether the comparison is decided, and nothing more is asked.
        chance: probability that a full run fails. After a pass: at most, were each component worse
            by the smallest worsening that a full run sees; after a failure: were it as much worse
            as measured. None at the last look, and where nothing is decided.
    """

    number: int
    looks: int
    asked: int
    planned: int
    stopped: bool
    chance: float | None = None

    @property
    def early(self) -> bool:
        """Whether it stopped before all items were asked."""
        return self.stopped and self.asked < self.planned


@dataclass(frozen=True)
class Level:
    """How strict one look is.

    Attributes:
        alpha: one-sided error level of each bound at this look, taken by itself.
        allowed: how often an unchanged model may fail at this look.
        before: how often it may fail at the looks before.
    """

    alpha: float
    allowed: float
    before: float


def spent(alpha: float, fraction: float) -> float:
    """Return how much of an error level may be spent while this share of the items is known.

    2·(1 − Φ(z / √t)) with z the quantile of level alpha / 2: the bounds are close to those of
    O'Brien & Fleming (1979). Source: Lan & DeMets 1983.
    """
    z, known = -NORMAL.inv_cdf(alpha / 2), min(fraction, 1.0)
    return 2 * (1 - _EVENLY) * NORMAL.cdf(-z / math.sqrt(known)) + _EVENLY * alpha * known


@lru_cache(maxsize=128)
def look_levels(alpha: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Return the error level of each look, taken by itself, that spends a level over all of them.

    A statistic with independent increments crosses at look k, and at none before, with the
    probability that :func:`spent` grows by. Computed by recursive integration of its density where
    it has crossed no bound (Armitage, McPherson & Rowe 1969).

    Args:
        alpha: one-sided error level of all looks together, in (0, 0.5).
        fractions: share of the items known at each look, rising to at most 1.
    """
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    steps = [
        max(_SMALLEST_STEP * math.sqrt(now), math.sqrt(now - before))
        for before, now in zip((0.0, *fractions), fractions, strict=False)
    ]
    # Where the statistic, t times the estimate over its full standard error, is before the look.
    places, masses = np.zeros(1), np.ones(1)
    levels: list[float] = []
    already = 0.0
    for k, (fraction, step) in enumerate(zip(fractions, steps, strict=True)):
        due = spent(alpha, fraction) - already
        low, high = -8.0, 40.0
        for _ in range(64):
            middle = (low + high) / 2
            above = sum(
                mass * NORMAL.cdf((place - middle) / step)
                for place, mass in zip(places.tolist(), masses.tolist(), strict=True)
            )
            low, high = (middle, high) if above > due else (low, middle)
        levels.append(NORMAL.cdf(-high / math.sqrt(fraction)))
        begin, end = -_REACH * math.sqrt(fraction), min(high, _REACH * math.sqrt(fraction))
        # Fine enough for this step and the next: a density changes over a step.
        finest = min(steps[k : k + 2])
        panels = max(_PANELS, math.ceil((end - begin) / (4 * finest)))
        half = (end - begin) / (2 * panels)
        middles = begin + half * (2 * np.arange(panels) + 1)
        inside = (middles[:, None] + half * nodes).ravel()
        distance = (inside[:, None] - places) / step
        density = np.exp(-(distance**2) / 2) @ masses / (step * math.sqrt(2 * math.pi))
        places, masses = inside, density * np.tile(weights, panels) * half
        already = spent(alpha, fraction)
    return tuple(levels)


def level_at(alpha: float, fractions: tuple[float, ...], number: int, allowed: float) -> Level:
    """Return how strict a look is.

    Args:
        alpha: one-sided error level of each bound, over all looks.
        fractions: share of the items known at each look.
        number: position of the look in these.
        allowed: how often an unchanged model may fail, over all looks.
    """
    before = spent(alpha, fractions[number - 1]) if number else 0.0
    share = (spent(alpha, fractions[number]) - before) / alpha
    return Level(look_levels(alpha, fractions)[number], share * allowed, before / alpha * allowed)


def conditional_power(
    worsening: float, error: float, fraction: float, tolerance: float, z: float, truth: float
) -> float:
    """Return the probability that a full run finds a component beyond the tolerance.

    Args:
        worsening: as measured on the items that are known.
        error: standard error that a full run is expected to have.
        fraction: share of the items that is known, below 1.
        tolerance: allowed worsening.
        z: standard errors from a worsening to its bound in a full run.
        truth: worsening of the items that are not known yet.
    """
    expected = fraction * worsening + (1 - fraction) * truth
    distance = expected - (tolerance + z * error)
    return NORMAL.cdf(distance / (math.sqrt(1 - fraction) * error))
