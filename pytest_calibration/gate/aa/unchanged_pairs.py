"""Pairs of runs between which nothing changed, drawn from a population like the user's data.

:class:`RedrawnPairs`, from one set of predictions
    The population has their confidences, and P(correct | confidence) along their curve. Each side
    of a pair adds noise to the logit of an item's confidence, and draws the outcome from the curve.
    The outcomes of the two sides are correlated so that a given share of them differs.
:class:`SwappedPairs`, from two sets of predictions
    The population is the data themselves. Items are drawn with both their answers, and the two
    sides swap at random: the differences are the real ones.

Either way nothing tells the baseline from the candidate. Groups are drawn whole, and a group that
is drawn twice counts as two groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from pytest_calibration.gate.aa.curve import Curve, fit_curve
from pytest_calibration.gate.components import FOLDS, Paired, as_stored
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.folds import folds_by_id, unit_ids
from pytest_calibration.uncertainty.isotonic import isotonic
from pytest_calibration.uncertainty.quantiles import NORMAL
from pytest_calibration.uncertainty.standard_errors import cluster_codes

# Points of the population on which shares and worsenings are computed.
POPULATION: Final = 20_000
# Confidences with so many values or fewer (words, tenths, twentieths) keep to these values.
GRID_UP_TO: Final = 101
# A table of the standard normal distribution function, for interpolation within 1e-6.
_Z: Final = np.linspace(-8.0, 8.0, 3201)
_PHI: Final = np.array([NORMAL.cdf(z) for z in _Z])


class UnitSampler:
    """Draws independent units (groups, or items) with replacement.

    The order of the items and the names of the groups change nothing.

    Args:
        predictions: the items.

    Attributes:
        order: (n,) positions that bring the items of a unit together.
        starts: (units,) where each unit begins in that order.
        sizes: (units,) number of items of each.
        folds: (n,) fold in which the gate puts each item, in that order.
        grouped: whether the units are groups.
    """

    def __init__(self, predictions: Predictions) -> None:
        ids, codes = predictions.item_ids, cluster_codes(predictions)
        unit = unit_ids(ids, codes)
        self.grouped = codes is not None
        self.order: IntArray = np.lexsort((ids, unit))
        self.sizes: IntArray = np.unique(unit, return_counts=True)[1]
        self.starts: IntArray = np.cumsum(self.sizes) - self.sizes
        self.folds = folds_by_id(ids, codes, FOLDS)[self.order]

    def __len__(self) -> int:
        return len(self.sizes)

    def draw(self, rng: np.random.Generator, units: int) -> tuple[IntArray, IntArray]:
        """Draw units with replacement.

        Returns:
            For each of the m items drawn, its position in ``order``, and the number of the draw it
            belongs to, from 0.
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
        """Pair two sides, each (confidence, correct), of the items drawn.

        All copies of a unit are in one fold: the gate must not measure a copy of what it learned
        from.
        """
        return Paired(
            as_stored(baseline[0]),
            baseline[1].astype(np.float64),
            as_stored(candidate[0]),
            candidate[1].astype(np.float64),
            draw if self.grouped else None,
            self.folds[position],
        )


class RedrawnPairs:
    """Unchanged pairs from one set of predictions.

    Args:
        predictions: what the population is made like.
        changed: share of the outcomes that differ between the two sides, if the confidences allow
            it; else as near to it as they do.
        jitter: standard deviation of the noise on each side's logit.
        rng: gives the noise of the population.

    Attributes:
        units: draws the items.
        curve: P(correct | confidence).
        population: (POPULATION,) confidences of one side.
        changed: the share of the outcomes that does differ.
        within_groups: correlation of the outcomes of a group, beyond what confidences explain.
    """

    def __init__(
        self, predictions: Predictions, changed: float, jitter: float, rng: np.random.Generator
    ) -> None:
        self.units = UnitSampler(predictions)
        self.curve = fit_curve(predictions)
        self._confidence = predictions.confidence[self.units.order]
        self._centre, self._shrinkage, self._jitter = _noise(self._confidence, jitter)
        distinct = np.unique(self._confidence)
        self._grid = distinct if len(distinct) <= min(GRID_UP_TO, len(predictions) / 2) else None
        base = spread(self._confidence)
        normals = rng.standard_normal((2, POPULATION))
        self.population = self._noisy(base, rng.standard_normal(POPULATION))
        other = self._noisy(base, rng.standard_normal(POPULATION))
        thresholds = self._threshold(self.population), self._threshold(other)

        def share_changed(correlation: float) -> float:
            first, second = _outcomes(normals, correlation, *thresholds)
            return float(np.mean(first != second))

        self._correlation = 1 - rising_to(changed, lambda lack: share_changed(1 - lack))
        self.changed = share_changed(self._correlation)
        self.within_groups = self._correlation_within(predictions.correct[self.units.order])
        self._shared = self._shared_within(normals, rng.permutation(self.population))

    def draw(self, rng: np.random.Generator, units: int) -> Paired:
        """Draw one pair of so many units."""
        position, draw = self.units.draw(rng, units)
        confidence = self._confidence[position]
        noise = rng.standard_normal((4, len(draw)))
        first, second = self._noisy(confidence, noise[0]), self._noisy(confidence, noise[1])
        normals = noise[2:]
        if self.units.grouped:
            common = rng.standard_normal((2, units))[:, draw]
            normals = math.sqrt(self._shared) * common + math.sqrt(1 - self._shared) * normals
        thresholds = self._threshold(first), self._threshold(second)
        correct = _outcomes(normals, self._correlation, *thresholds)
        return self.units.pair(position, draw, (first, correct[0]), (second, correct[1]))

    def _noisy(self, confidence: FloatArray, noise: FloatArray) -> FloatArray:
        """Add noise to the logits; confidences of a grid stay on it, 0 and 1 stay."""
        away = logit(confidence) - self._centre
        moved = sigmoid(self._centre + self._shrinkage * away + self._jitter * noise)
        if self._grid is None:
            return moved
        between = (self._grid[1:] + self._grid[:-1]) / 2
        return np.asarray(self._grid[np.searchsorted(between, moved)])

    def _threshold(self, confidence: FloatArray) -> FloatArray:
        """Return what a standard normal number is below with probability P(correct)."""
        return np.interp(self.curve(confidence), _PHI, _Z)

    def _correlation_within(self, correct: BoolArray) -> float:
        """Estimate the correlation of the outcomes of a group, by moments of all its pairs.

        Σ r_i r_j / Σ s_i s_j with r the residual of the curve and s its standard deviation.
        """
        if not self.units.grouped:
            return 0.0
        expected = self.curve(self._confidence)
        possible = self._sum_over_pairs(np.sqrt(expected * (1 - expected)))
        found = self._sum_over_pairs(correct - expected)
        return min(1.0, max(0.0, found / possible)) if possible else 0.0

    def _sum_over_pairs(self, values: FloatArray) -> float:
        """Sum v_i v_j over all i ≠ j of one unit; exactly 0 where there are none."""
        if len(self.units) == len(values):
            return 0.0
        totals = np.add.reduceat(values, self.units.starts)
        return float(totals @ totals - values @ values)

    def _shared_within(self, normals: FloatArray, partner: FloatArray) -> float:
        """Return the correlation of the normal numbers of a group that gives its outcomes theirs.

        Args:
            normals: (2, POPULATION) independent standard normal numbers.
            partner: (POPULATION,) confidences of other items of the population.
        """
        if not self.within_groups:
            return 0.0
        mine, theirs = self.curve(self.population), self.curve(partner)
        possible = float(np.sqrt(mine * (1 - mine)) @ np.sqrt(theirs * (1 - theirs)))
        thresholds = self._threshold(self.population), self._threshold(partner)

        def correlation(shared: float) -> float:
            first, second = _outcomes(normals, shared, *thresholds)
            return float((first - mine) @ (second - theirs)) / possible

        return rising_to(self.within_groups, correlation)


class SwappedPairs:
    """Unchanged pairs from two sets of predictions on the same items, whose sides swap.

    Args:
        predictions: one set.
        other: the other, its items in the same order.

    Attributes:
        units: draws the items.
        curve: P(correct | confidence) in both sets together.
        population: (POPULATION,) confidences of both sets together.
        changed: share of the items that only one of the two answers correctly.
        within_groups: None; the outcomes are the real ones.
    """

    within_groups = None

    def __init__(self, predictions: Predictions, other: Predictions) -> None:
        self.units = UnitSampler(predictions)
        order = self.units.order
        self._confidence = np.stack([predictions.confidence[order], other.confidence[order]])
        self._correct = np.stack([predictions.correct[order], other.correct[order]])
        confidence, correct = self._confidence.ravel(), self._correct.ravel().astype(np.float64)
        # No outcome is drawn from this curve, so it follows the data, noise included.
        self.curve = Curve(*isotonic(confidence, correct), share=1.0)
        self.population = spread(confidence)
        self.changed = float(np.mean(self._correct[0] != self._correct[1]))

    def draw(self, rng: np.random.Generator, units: int) -> Paired:
        """Draw one pair of so many units; the sides of each swap with probability 1/2."""
        position, draw = self.units.draw(rng, units)
        swapped = rng.integers(2, size=units)[draw]
        sides = [
            (self._confidence[side, position], self._correct[side, position])
            for side in (swapped, 1 - swapped)
        ]
        return self.units.pair(position, draw, sides[0], sides[1])


def _outcomes(
    normals: FloatArray, correlation: float, first: FloatArray, second: FloatArray
) -> tuple[BoolArray, BoolArray]:
    """Turn two standard normal numbers per item (2, m) into two correlated outcomes.

    An outcome is correct where its number is below its threshold, ``first`` or ``second`` (m,).
    """
    other = correlation * normals[0] + math.sqrt(1 - correlation**2) * normals[1]
    return normals[0] < first, other < second


def _noise(confidence: FloatArray, jitter: float) -> tuple[float, float, float]:
    """Return centre, shrinkage and noise of the logits of one side.

    The confidences contain the noise of a run already. More noise would spread them more than any
    run does, so their distance from the mean shrinks by what the noise adds to the variance.
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
    """Return where in [0, 1] a rising function reaches the target, else the nearer end."""
    low, high = 0.0, 1.0
    if function(low) >= target:
        return low
    if function(high) <= target:
        return high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2
