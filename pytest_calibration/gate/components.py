"""The ways in which a candidate can be worse than its baseline, item by item, in ECE's own units.

Each way is a *direction*: a weight w(c) in [-1, 1] for every confidence. The statistic is the mean
of w(c)·(confidence - correct), candidate minus baseline, with a paired standard error. ECE is the
largest such mean over all directions, so each of them is a lower bound of it. Two directions are
fixed (all confidences alike; a tilt). One is learned from the candidate on other items than those
it is then measured on. The cross-fitted ECE takes the sign of each of ten bins.

Closed form and deterministic: no random numbers. The item ids decide which folds learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.conditional import ConditionalMean
from pytest_calibration.uncertainty.folds import folds_by_id
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound, upper_quantile
from pytest_calibration.uncertainty.standard_errors import (
    cluster_codes,
    equal_units,
    standard_error,
)

GATE_BINS: Final = 10
EXACT_BELOW: Final = 25
# With fewer units than this the ten bins hold too few items for their signs to mean anything.
BINS_FROM: Final = 500
SHAPE_FROM: Final = 50
# With fewer confident answers on a side than this their mean gap means nothing.
CONFIDENT_FROM: Final = 50
FOLDS: Final = 10
# A constant, a tilt, a bow and a wave: what is learned has at most three changes of sign.
SHAPE_TERMS: Final = 4
# The learned direction is +1 or -1 where the fit exceeds this many standard errors of a term.
FULL_WEIGHT_AT: Final = 2.0
RANK_CELLS: Final = 1000
# One-sided confidence (99 %, in standard errors) from which on a side counts as miscalibrated in
# one direction: a calibrated model is drawn on either side of zero.
ESTABLISHED: Final = NORMAL.inv_cdf(0.99)


@dataclass(frozen=True)
class Component:
    """One way in which calibration can get worse, in ECE's own units.

    Attributes:
        name: ``signed gap``, ``slope``, ``shape``, ``cross-fitted ECE``, ``confident answers`` or
            ``accuracy``; at an operating point ``precision`` or ``coverage``.
        before: value of the baseline.
        after: value of the candidate.
        worsening: how much worse the candidate is; negative is better.
        standard_error: of the worsening, paired.
        bound: one-sided lower bound of the worsening at level 1 - alpha.
        tolerance: the component fires where the bound is above it.
        grew: whether the candidate, as measured, is further from calibration than the baseline.
            A move towards zero, or through zero to a smaller size, is no worsening. After a move
            through zero the candidate must be established to err where it now does; where the
            baseline was to err the other way, it must be further by the tolerance.
        unavailable: why the component does not apply; empty where it does.
        level: one-sided confidence of the bound.
        above: the values are those among items with more confidence than this, for precision at
            least this; NaN for all items.
        n: number of items of the candidate that are meant; 0 for all.
        error_of_after: standard error of ``after`` where, after a move through zero, the candidate
            errs by more than the baseline as measured, and is not established to; else 0.
        smallest_visible: smallest worsening that is seen with 80 % power; known at an operating
            point only, else NaN.
    """

    name: str
    before: float
    after: float
    worsening: float
    standard_error: float
    bound: float
    tolerance: float
    grew: bool = True
    unavailable: str = ""
    level: float = 0.95
    above: float = math.nan
    n: int = 0
    error_of_after: float = 0.0
    smallest_visible: float = math.nan

    @property
    def fired(self) -> bool:
        """The one predicate of the gate: the worsening is beyond the tolerance, and is one."""
        return not self.unavailable and self.grew and self.bound > self.tolerance

    @property
    def among(self) -> str:
        """Which answers are meant: ``of the 130 answers above 0.9``; empty for all."""
        if math.isnan(self.above):
            return ""
        beyond = "at or above" if self.name == "precision" else "above"
        return f"of the {self.n:,} answers {beyond} {self.above:.9g}"

    @property
    def changed_sides(self) -> bool:
        """Whether it moved by more than the tolerance, through zero, and to no larger size."""
        moved = not self.unavailable and not self.grew and self.bound > self.tolerance
        return moved and not self.error_of_after

    @property
    def undecided(self) -> bool:
        """Whether it moved by more than the tolerance, through zero, to a size that is unsure."""
        return self.error_of_after > 0 and self.bound > self.tolerance


def as_stored(confidence: FloatArray) -> FloatArray:
    """Round to float32, as in a record, so that a stored run equals itself."""
    return confidence.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Paired:
    """Baseline and candidate on the same items in the same order, as the components read them.

    Attributes:
        confidence0: (n,) of the baseline.
        correct0: (n,) 0 or 1.
        confidence1: (n,) of the candidate.
        correct1: (n,) 0 or 1.
        clusters: (n,) group codes from 0, or None where items are independent.
        folds: (n,) fold of each item, the same for all items of a group.
    """

    confidence0: FloatArray
    correct0: FloatArray
    confidence1: FloatArray
    correct1: FloatArray
    clusters: IntArray | None
    folds: IntArray

    @classmethod
    def of(cls, baseline: Predictions, candidate: Predictions) -> Paired:
        """Pair two aligned predictions, both in float32 as a record has them."""
        clusters = cluster_codes(baseline if candidate.groups is None else candidate)
        return cls(
            as_stored(baseline.confidence),
            baseline.correct.astype(np.float64),
            as_stored(candidate.confidence),
            candidate.correct.astype(np.float64),
            clusters,
            folds_by_id(candidate.item_ids, clusters, FOLDS),
        )

    @cached_property
    def equal_units(self) -> int:
        """Number of units of equal size with as uncertain a standard error.

        It determines the quantile of the bounds.
        """
        return equal_units(len(self.confidence0), self.clusters)

    @property
    def units(self) -> int:
        """Number of independent units."""
        return len(self.confidence0) if self.clusters is None else int(self.clusters.max()) + 1

    @cached_property
    def gap0(self) -> FloatArray:
        """(n,) confidence minus correct of the baseline."""
        return self.confidence0 - self.correct0

    @cached_property
    def gap1(self) -> FloatArray:
        """(n,) confidence minus correct of the candidate."""
        return self.confidence1 - self.correct1

    @cached_property
    def pooled(self) -> FloatArray:
        """(2n,) the confidences of both sides, sorted."""
        return np.sort(np.concatenate([self.confidence0, self.confidence1]))

    def reversed(self) -> Paired:
        """Return the comparison the other way round: what is worse here is better there."""
        return replace(
            self,
            confidence0=self.confidence1,
            correct0=self.correct1,
            confidence1=self.confidence0,
            correct1=self.correct0,
        )


def paired_error(u0: FloatArray, u1: FloatArray, pair: Paired, share: float = 1.0) -> float:
    """Return the standard error of the mean of u1 - u0, at least that of three changed answers.

    Where no answer changed, up to three in n may change (rule of three): a sample without
    variation does not show that nothing varies. ``share`` of the items is meant.
    """
    return max(standard_error(u1 - u0, pair.clusters), math.sqrt(3) / (share * len(u0)))


def component_of(
    name: str,
    u0: FloatArray,
    u1: FloatArray,
    pair: Paired,
    tol: float,
    z: float,
    sign: float = 0.0,
    share: float = 1.0,
    chance: float = 0.0,
) -> Component:
    """Compare the means of one direction's weighted gaps, u0 of the baseline, u1 of the candidate.

    ``sign`` is that of an error that grows; by default that of the candidate's mean.
    """
    return shift_of(
        name,
        float(u0.mean()),
        float(u1.mean()),
        paired_error(u0, u1, pair, share),
        lambda: (standard_error(u0, pair.clusters), max(standard_error(u1, pair.clusters), chance)),
        tol,
        z,
        sign,
    )


def shift_of(
    name: str,
    before: float,
    after: float,
    error: float,
    errors_of_sides: Callable[[], tuple[float, float]],
    tol: float,
    z: float,
    sign: float = 0.0,
) -> Component:
    """Judge a shift of a signed mean with its standard error, and those of both sides."""
    sign = sign or (1.0 if after >= 0 else -1.0)
    worsening = sign * (after - before)
    grew, undecided = abs(after) > abs(before), 0.0
    if grew and sign * before < 0:
        # Pairing says little about the *size* of an error that changed its sign. The candidate must
        # be established to err where it now does. Where the baseline was established to err the
        # other way, the measured size must have grown by the tolerance.
        error0, error1 = errors_of_sides()
        was_other = -sign * before > ESTABLISHED * error0
        is_this = sign * after > ESTABLISHED * error1
        further = not was_other or abs(after) - abs(before) > tol
        grew, undecided = is_this and further, error1 * (further and not is_this)
    bound = worsening - z * error
    return Component(
        name, before, after, worsening, error, bound, tol, grew=grew, error_of_after=undecided
    )


def gap_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Shift of the signed gap: scaling of all confidences, over- or under-confidence."""
    return component_of("signed gap", pair.gap0, pair.gap1, pair, tolerance, z)


def slope_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Shift of the calibration slope (Cox 1958), scaled to ECE units: a tilt at an unchanged mean.

    w·gap with w = k·(c − m), cut to [−1, 1], m the pooled mean confidence and
    k = mean|c − m| / var(c). Without the cut, a miscalibration that is linear in the confidence
    counts as much as it adds to ECE; with it, a few confidences far from the mean count no more
    than others.
    """
    weights0, weights1 = (slope_weights(pair, c) for c in (pair.confidence0, pair.confidence1))
    if weights0 is None or weights1 is None:
        reason = "all confidences are equal, so there is no slope"
        return unavailable("slope", reason, tolerance)
    u0, u1 = weights0 * pair.gap0, weights1 * pair.gap1
    return component_of("slope", u0, u1, pair, tolerance, z)


def slope_weights(pair: Paired, confidence: FloatArray) -> FloatArray | None:
    """Return the weight of each confidence in the slope; None where all are equal."""
    centre, variance = float(pair.pooled.mean()), float(pair.pooled.var())
    if variance < 1e-12:
        return None
    k = float(np.abs(pair.pooled - centre).mean()) / variance
    return np.asarray(np.clip(k * (confidence - centre), -1, 1))


def shape_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Growth of the miscalibration along a smooth direction learned from the candidate.

    The candidate's gap is fitted by Legendre polynomials up to the third degree in the rank of the
    confidence (pooled over both sides), each coefficient shrunk by its own noise (James & Stein).
    The direction is the sign of the fit, weaker where the fit is small against its standard error.
    The baseline is measured along the same direction, so that noise shared by both sides cancels.
    Where the baseline is established to err in some direction, it is measured along that one: an
    error that has only changed sides is not a larger one.
    There are ten folds: the items of a fold are measured along the direction of the other nine, so
    that noise is not taken for miscalibration.
    """
    if pair.units < SHAPE_FROM:
        reason = f"fewer than {SHAPE_FROM} independent units to learn it from"
        return unavailable("shape", reason, tolerance)
    cells0, cells1, rank = _rank_cells(pair)
    scale = np.sqrt(2.0 * np.arange(SHAPE_TERMS) + 1)
    terms = scale[:, None] * np.polynomial.legendre.legvander(2 * rank - 1, SHAPE_TERMS - 1).T
    fit1, noise1 = _smooth_fit(pair, pair.gap1, cells1, terms)
    fit0, noise0 = _smooth_fit(pair, pair.gap0, cells0, terms)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.nan_to_num(1 - noise1 / fit1**2, nan=0.0, neginf=0.0).clip(0)
    curve1 = (kept * fit1) @ terms
    full = FULL_WEIGHT_AT * math.sqrt(float(noise1.mean()))
    weights1 = np.sign(curve1) if full == 0 else np.clip(curve1 / full, -1, 1)
    curve0 = fit0 @ terms
    established = np.abs(curve0) > ESTABLISHED * np.sqrt(noise0 @ terms**2)
    weights0 = np.where(established, np.sign(curve0), weights1)
    u0 = weights0[pair.folds, cells0] * pair.gap0
    u1 = weights1[pair.folds, cells1] * pair.gap1
    # Along a direction made from a side's own errors, larger is always worse.
    return component_of("shape", u0, u1, pair, tolerance, z, sign=1.0)


def _smooth_fit(
    pair: Paired, gap: FloatArray, cells: IntArray, terms: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit a gap by orthonormal terms of the rank.

    Returns:
        (folds, terms) coefficients from all items but those of the fold, and (terms,) the squared
        standard errors of such coefficients.
    """
    size, n = terms.shape[1], len(gap)
    sums = np.bincount(pair.folds * size + cells, gap, FOLDS * size).reshape(FOLDS, size)
    totals = sums @ terms.T
    rest = np.maximum(n - np.bincount(pair.folds, minlength=FOLDS), 1)
    fitted = (totals.sum(axis=0) - totals) / rest[:, None]
    errors = [standard_error(term[cells] * gap, pair.clusters) for term in terms]
    return fitted, np.square(errors) * FOLDS / (FOLDS - 1)


def _rank_cells(pair: Paired) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the cell of each confidence of either side, and the mid-rank in (0, 1) of each cell.

    There are up to a thousand cells; equal confidences are always in the same one.
    """
    pool = pair.pooled
    step = max(1, len(pool) // RANK_CELLS)
    edges = np.unique(pool[step - 1 :: step])
    above = np.searchsorted(pool, edges, side="right")
    ends = np.concatenate([[0], above, [len(pool)]]) / len(pool)
    rank = (ends[1:] + ends[:-1]) / 2
    return (
        np.searchsorted(edges, pair.confidence0, side="left"),
        np.searchsorted(edges, pair.confidence1, side="left"),
        rank,
    )


def ece_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Growth of the cross-fitted ECE on ten quantile bins of the pooled confidences.

    It detects what the smooth directions miss. Its standard error is the largest, since the signs
    of both sides are learned.
    """
    if pair.units < BINS_FROM:
        reason = f"fewer than {BINS_FROM} independent units for {GATE_BINS} bins"
        return unavailable("cross-fitted ECE", reason, tolerance)
    edges = np.unique(np.quantile(pair.pooled, np.arange(1, GATE_BINS) / GATE_BINS))
    fit0 = cross_fitted(pair.gap0, np.searchsorted(edges, pair.confidence0), pair.clusters)
    fit1 = cross_fitted(pair.gap1, np.searchsorted(edges, pair.confidence1), pair.clusters)
    before, after = fit0.value, fit1.value
    worsening, error = after - before, paired_error(fit0.influence, fit1.influence, pair)
    bound = worsening - z * error
    return Component("cross-fitted ECE", before, after, worsening, error, bound, tolerance)


def confident_component(pair: Paired, tolerance: float, z: float, above: float) -> Component:
    """Growth of the mean gap among the answers with more confidence than ``above``.

    The only component in units of its own: what it compares with the tolerance is the gap of these
    answers alone, however few they are. A damage to one item in ten moves every other component by
    a tenth of its size.
    """
    name = "confident answers"
    before, after = (
        ConditionalMean.of(gap, confidence > above, pair.clusters)
        for gap, confidence in ((pair.gap0, pair.confidence0), (pair.gap1, pair.confidence1))
    )
    if min(before.units, after.units) < CONFIDENT_FROM:
        reason = f"fewer than {CONFIDENT_FROM} independent units with confidence above {above:g}"
        return replace(unavailable(name, reason, tolerance), above=above, n=after.n)
    found = component_of(
        name,
        before.value + before.influence,
        after.value + after.influence,
        pair,
        tolerance,
        z,
        share=min(before.share, after.share),
        chance=_chance(pair.confidence1[pair.confidence1 > above]),
    )
    return replace(found, above=above, n=after.n)


def _chance(confidence: FloatArray) -> float:
    """Standard error of the mean gap of a calibrated model with these confidences."""
    return math.sqrt(float((confidence * (1 - confidence)).sum())) / len(confidence)


def unavailable(name: str, reason: str, tolerance: float) -> Component:
    """Return a component that does not apply, and why."""
    nan = math.nan
    return Component(name, nan, nan, nan, nan, nan, tolerance, unavailable=reason)


def accuracy_component(pair: Paired, tolerance: float, alpha: float) -> Component:
    """Loss of accuracy, paired; see :func:`loss_component`."""
    return loss_component("accuracy", pair.correct0, pair.correct1, pair, tolerance, alpha)


def loss_component(
    name: str,
    held0: FloatArray,
    held1: FloatArray,
    pair: Paired,
    tolerance: float,
    alpha: float,
    least_error: float = 0.0,
) -> Component:
    """Loss of a share, paired: normal bound, or exact McNemar with few discordant items.

    Of d discordant items, the number of those that only the baseline held is Binomial(d, π). Below
    25 the bound is d·(2π_L − 1)/n with π_L the exact (Clopper–Pearson) lower bound of π; with a
    tolerance of 0 this is McNemar's exact test. Grouped items always take the cluster-robust bound.

    Args:
        name: of the component.
        held0: (n,) 1 for the items of the baseline that have it, else 0.
        held1: (n,) the same of the candidate.
        pair: the n items.
        tolerance: allowed loss.
        alpha: one-sided error level of the bound.
        least_error: smallest standard error of a bound that is not exact.
    """
    loss = held0 - held1
    n = len(loss)
    before, after = float(held0.mean()), float(held1.mean())
    discordant = int(np.abs(loss).sum())
    error = max(standard_error(loss, pair.clusters), least_error)
    if discordant < EXACT_BELOW and pair.clusters is None:
        lost = int((loss > 0).sum())
        share = binomial_lower_bound(lost, discordant, alpha)
        bound = discordant * (2 * share - 1) / n if discordant else 0.0
    else:
        bound = float(loss.mean()) - upper_quantile(alpha, pair.equal_units) * error
    return Component(name, before, after, before - after, error, bound, tolerance)


def calibration_components(pair: Paired, tolerance: float, z: float) -> tuple[Component, ...]:
    """Return every component but accuracy: the ways in which calibration can get worse."""
    return (
        gap_component(pair, tolerance, z),
        slope_component(pair, tolerance, z),
        shape_component(pair, tolerance, z),
        ece_component(pair, tolerance, z),
    )
