"""Pairs of runs between which nothing changed, drawn from a population like the user's data.

One set of predictions
    The population has their confidences, and P(correct | confidence) along their curve. Each side
    of a pair reads an item with noise of its own, a jitter of the logit, and has an outcome drawn
    from the curve; outcomes are as like as it takes for a given share of them to differ.
Two sets of predictions
    The population is the data themselves. Items are drawn with both their readings, and the two
    readings change places at random: the differences are the real ones.

Either way the two sides are exchangeable: nothing tells the baseline from the candidate. Groups are
drawn whole, and a group drawn twice is two groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from pytest_calibration.gate.aa.curve import Curve, fit_curve
from pytest_calibration.gate.components import FOLDS, Paired
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.isotonic import isotonic
from pytest_calibration.uncertainty.quantiles import NORMAL
from pytest_calibration.uncertainty.standard_errors import cluster_codes

# Points of the population on which shares and worsenings are computed.
POPULATION: Final = 20_000
# Confidences that take so many values or fewer (words, tenths, twentieths) keep to them.
GRID_UP_TO: Final = 101
# The standard normal distribution function, to be looked up: a chance is 1e-6 off at most.
_Z: Final = np.linspace(-8.0, 8.0, 3201)
_PHI: Final = np.array([NORMAL.cdf(z) for z in _Z])


class Units:
    """The independent units of a set of items, to be drawn with replacement.

    The order of the items, and what groups are called, change nothing.

    Args:
        predictions: the items.

    Attributes:
        order: (n,) positions that bring the items of a unit together.
        starts: (units,) where each begins in that order.
        sizes: (units,) items of each.
        folds: (n,) fold in which the gate puts each item, in that order.
        grouped: whether they are groups.
    """

    def __init__(self, predictions: Predictions) -> None:
        ids, codes = predictions.item_ids, cluster_codes(predictions)
        self.grouped = codes is not None
        if codes is None:
            codes = np.arange(len(ids))
        first = np.full(int(codes.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(first, codes, ids)
        rank = np.argsort(np.argsort(first))[codes]
        self.order: IntArray = np.lexsort((ids, rank))
        self.sizes: IntArray = np.bincount(rank)
        self.starts: IntArray = np.cumsum(self.sizes) - self.sizes
        folds = (np.sort(first) % np.uint64(FOLDS)).astype(np.int64)
        self.folds: IntArray = np.repeat(folds, self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def draw(self, rng: np.random.Generator, units: int) -> tuple[IntArray, IntArray]:
        """Draw units with replacement.

        Returns:
            For each of the m items drawn, its position in ``order``, and the number of the draw it
            came with, from 0.
        """
        drawn = rng.integers(len(self), size=units)
        sizes = self.sizes[drawn]
        draw = np.repeat(np.arange(units), sizes)
        within = np.arange(len(draw)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.starts[drawn][draw] + within, draw

    def pair(
        self,
        position: IntArray,
        draw: IntArray,
        baseline: tuple[FloatArray, BoolArray],
        candidate: tuple[FloatArray, BoolArray],
    ) -> Paired:
        """Pair two sides, each (confidence, correct), of items drawn.

        The gate learns on some folds and measures on others. All copies of a unit are in one fold,
        so that nothing is measured on what was learned from it.
        """
        return Paired(
            stored(baseline[0]),
            baseline[1].astype(np.float64),
            stored(candidate[0]),
            candidate[1].astype(np.float64),
            draw if self.grouped else None,
            self.folds[position],
        )


def stored(confidence: FloatArray) -> FloatArray:
    """Round to float32, as the gate has both sides."""
    return confidence.astype(np.float32).astype(np.float64)


class OneSet:
    """Pairs made from one set of predictions.

    Args:
        predictions: what the population is made like.
        changed: share of the outcomes that differ between the two sides, as near as can be.
        jitter: standard deviation of the noise on each side's logit.
        rng: gives the noise of the population.

    Attributes:
        units: what is drawn.
        curve: P(correct | confidence).
        population: (POPULATION,) confidences of one side.
        changed: the share of the outcomes that does differ.
        within_groups: correlation of the outcomes of a group, beyond what confidences say.
    """

    def __init__(
        self, predictions: Predictions, changed: float, jitter: float, rng: np.random.Generator
    ) -> None:
        self.units = Units(predictions)
        self.curve = fit_curve(predictions)
        self._confidence = predictions.confidence[self.units.order]
        self._centre, self._kept, self._jitter = _noise(self._confidence, jitter)
        distinct = np.unique(self._confidence)
        self._grid = distinct if len(distinct) <= min(GRID_UP_TO, len(predictions) / 2) else None
        base = spread(self._confidence)
        chance = rng.standard_normal((2, POPULATION))
        self.population = self._noisy(base, rng.standard_normal(POPULATION))
        other = self._noisy(base, rng.standard_normal(POPULATION))
        marks = self._mark(self.population), self._mark(other)

        def differ(likeness: float) -> float:
            first, second = _outcomes(chance, likeness, *marks)
            return float(np.mean(first != second))

        self._likeness = 1 - rising_to(changed, lambda unlike: differ(1 - unlike))
        self.changed = differ(self._likeness)
        self.within_groups = self._correlation(predictions.correct[self.units.order])
        self._shared = self._sharing(chance, rng.permutation(self.population))

    def draw(self, rng: np.random.Generator, units: int) -> Paired:
        """Draw one pair of so many units."""
        position, draw = self.units.draw(rng, units)
        confidence = self._confidence[position]
        noise = rng.standard_normal((4, len(draw)))
        first, second = self._noisy(confidence, noise[0]), self._noisy(confidence, noise[1])
        chance = noise[2:]
        if self.units.grouped:
            common = rng.standard_normal((2, units))[:, draw]
            chance = math.sqrt(self._shared) * common + math.sqrt(1 - self._shared) * chance
        correct = _outcomes(chance, self._likeness, self._mark(first), self._mark(second))
        return self.units.pair(position, draw, (first, correct[0]), (second, correct[1]))

    def _noisy(self, confidence: FloatArray, noise: FloatArray) -> FloatArray:
        """Move confidences by noise on their logit; those of a grid stay on it, 0 and 1 stay."""
        away = logit(confidence) - self._centre
        moved = sigmoid(self._centre + self._kept * away + self._jitter * noise)
        if self._grid is None:
            return moved
        between = (self._grid[1:] + self._grid[:-1]) / 2
        return np.asarray(self._grid[np.searchsorted(between, moved)])

    def _mark(self, confidence: FloatArray) -> FloatArray:
        """Return what a standard normal number stays below with probability P(correct)."""
        return np.interp(self.curve(confidence), _PHI, _Z)

    def _correlation(self, correct: BoolArray) -> float:
        """Estimate it from all pairs of items of a group: the residuals of the curve, by moments.

        Σ r_i r_j / Σ s_i s_j with r the residual and s its standard deviation by the curve.
        """
        if not self.units.grouped:
            return 0.0
        expected = self.curve(self._confidence)
        possible = self._pairs(np.sqrt(expected * (1 - expected)))
        return min(1.0, max(0.0, self._pairs(correct - expected) / possible)) if possible else 0.0

    def _pairs(self, values: FloatArray) -> float:
        """Sum v_i v_j over all i ≠ j of one unit; exactly 0 where there are none."""
        if len(self.units) == len(values):
            return 0.0
        totals = np.add.reduceat(values, self.units.starts)
        return float(totals @ totals - values @ values)

    def _sharing(self, chance: FloatArray, partner: FloatArray) -> float:
        """Return the correlation on the normal scale that gives the outcomes of a group theirs."""
        if not self.within_groups:
            return 0.0
        mine, theirs = self.curve(self.population), self.curve(partner)
        possible = float(np.sqrt(mine * (1 - mine)) @ np.sqrt(theirs * (1 - theirs)))
        marks = self._mark(self.population), self._mark(partner)

        def correlation(shared: float) -> float:
            first, second = _outcomes(chance, shared, *marks)
            return float((first - mine) @ (second - theirs)) / possible

        return rising_to(self.within_groups, correlation)


def _outcomes(
    chance: FloatArray, likeness: float, first: FloatArray, second: FloatArray
) -> tuple[BoolArray, BoolArray]:
    """Turn two standard normal numbers per item into two outcomes, as like as asked for.

    Args:
        chance: (2, m) the numbers.
        likeness: correlation of what the two outcomes are made of.
        first: (m,) what the number stays below where the first is right.
        second: (m,) the same of the second.
    """
    other = likeness * chance[0] + math.sqrt(1 - likeness**2) * chance[1]
    return chance[0] < first, other < second


class TwoSets:
    """Pairs made from two sets of predictions on the same items, whose sides change places.

    Args:
        predictions: one set.
        other: the other, its items in the same order.

    Attributes:
        units: what is drawn.
        curve: P(correct | confidence) in both sets together.
        population: (POPULATION,) confidences of both sets together.
        changed: share of the items that only one of the two answers rightly.
        within_groups: None; the outcomes are the real ones.
    """

    within_groups = None

    def __init__(self, predictions: Predictions, other: Predictions) -> None:
        self.units = Units(predictions)
        order = self.units.order
        self._confidence = np.stack([predictions.confidence[order], other.confidence[order]])
        self._correct = np.stack([predictions.correct[order], other.correct[order]])
        confidence, correct = self._confidence.ravel(), self._correct.ravel().astype(np.float64)
        # Nothing is drawn from the curve here: what it says is what is in the data, noise and all.
        self.curve = Curve(*isotonic(confidence, correct), share=1.0)
        self.population = spread(confidence)
        self.changed = float(np.mean(self._correct[0] != self._correct[1]))

    def draw(self, rng: np.random.Generator, units: int) -> Paired:
        """Draw one pair of so many units; in each, the readings swap with probability 1/2."""
        position, draw = self.units.draw(rng, units)
        swapped = rng.integers(2, size=units)[draw]
        sides = [
            (self._confidence[side, position], self._correct[side, position])
            for side in (swapped, 1 - swapped)
        ]
        return self.units.pair(position, draw, sides[0], sides[1])


def _noise(confidence: FloatArray, jitter: float) -> tuple[float, float, float]:
    """Return centre, share kept and noise of the logits of one side.

    The confidences given are a noisy reading themselves. Noise added to them would spread them more
    than any run does, so the distance from their mean shrinks by what noise adds to their variance.
    """
    logits = logit(confidence)
    logits = logits[np.isfinite(logits)]
    if not len(logits) or not logits.std() > 0:
        return 0.0, 1.0, 0.0
    jitter = min(jitter, float(logits.std()))
    return float(logits.mean()), math.sqrt(1 - (jitter / float(logits.std())) ** 2), jitter


def logit(p: FloatArray) -> FloatArray:
    """Return log(p / (1 - p)); infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def spread(confidence: FloatArray) -> FloatArray:
    """Return POPULATION values distributed like these."""
    index = np.arange(POPULATION) * len(confidence) // POPULATION
    return np.asarray(np.sort(confidence)[index])


def rising_to(target: float, function: Callable[[float], float]) -> float:
    """Return where in [0, 1] a rising function reaches the target; an end where it does not."""
    low, high = 0.0, 1.0
    if function(low) >= target:
        return low
    if function(high) <= target:
        return high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2
