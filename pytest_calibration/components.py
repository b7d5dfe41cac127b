"""The ways in which a candidate can be worse than its baseline, item by item, in ECE's own units.

Closed form and deterministic: no resampling, no seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.cross_fitting import cross_fitted
from pytest_calibration.uncertainty.quantiles import binomial_lower_bound, upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

GATE_BINS: Final = 10
EXACT_BELOW: Final = 25


@dataclass(frozen=True)
class Component:
    """One way in which calibration can get worse, in ECE's own units.

    Attributes:
        name: ``signed gap``, ``slope``, ``cross-fitted ECE`` or ``accuracy``.
        before: value of the baseline.
        after: value of the candidate.
        worsening: how much worse the candidate is; negative is better.
        standard_error: of the worsening, paired; NaN where an exact bound is used.
        bound: one-sided lower bound of the worsening at level 1 - alpha.
        tolerance: what the bound is held against.
        grew: whether the candidate, as measured, is further from calibration than the baseline;
            a move towards zero, or through it to a smaller size, is no worsening.
        unavailable: why the component does not apply; empty where it does.
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

    @property
    def fired(self) -> bool:
        """The one predicate of the gate: the worsening is beyond the tolerance, and is one."""
        return not self.unavailable and self.grew and self.bound > self.tolerance


@dataclass(frozen=True)
class Paired:
    """Baseline and candidate on the same items in the same order, as the components read them."""

    confidence0: FloatArray
    correct0: FloatArray
    confidence1: FloatArray
    correct1: FloatArray
    clusters: IntArray | None

    @classmethod
    def of(cls, baseline: Predictions, candidate: Predictions) -> Paired:
        """Pair two aligned predictions, both in float32 as stored, so that equal means equal."""

        def stored(p: Predictions) -> FloatArray:
            return p.confidence.astype(np.float32).astype(np.float64)

        return cls(
            stored(baseline),
            baseline.correct.astype(np.float64),
            stored(candidate),
            candidate.correct.astype(np.float64),
            cluster_codes(baseline if candidate.groups is None else candidate),
        )

    @property
    def units(self) -> int:
        """Number of independent units."""
        return len(self.confidence0) if self.clusters is None else int(self.clusters.max()) + 1


def _signed(
    name: str, u0: FloatArray, u1: FloatArray, pair: Paired, tol: float, z: float
) -> Component:
    before, after = float(u0.mean()), float(u1.mean())
    direction = 1.0 if after >= 0 else -1.0
    worsening = direction * (after - before)
    error = standard_error(u1 - u0, pair.clusters)
    return Component(
        name,
        before,
        after,
        worsening,
        error,
        worsening - z * error,
        tol,
        grew=abs(after) > abs(before),
    )


def gap_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Shift of the signed gap: scaling of all confidences, over- or under-confidence."""
    u0, u1 = pair.confidence0 - pair.correct0, pair.confidence1 - pair.correct1
    return _signed("signed gap", u0, u1, pair, tolerance, z)


def slope_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Shift of the calibration slope (Cox 1958), scaled to ECE units: shape at an unchanged mean.

    k·(c − m)·gap with m the pooled mean confidence and k = mean|c − m| / var(c); a miscalibration
    that is linear in the confidence then counts what it adds to ECE.
    """
    pool = np.concatenate([pair.confidence0, pair.confidence1])
    centre, variance = float(pool.mean()), float(pool.var())
    if variance < 1e-12:
        nothing = math.nan
        return Component(
            "slope",
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            tolerance,
            unavailable="all confidences are equal, so there is no slope",
        )
    k = float(np.abs(pool - centre).mean()) / variance
    u0 = k * (pair.confidence0 - centre) * (pair.confidence0 - pair.correct0)
    u1 = k * (pair.confidence1 - centre) * (pair.confidence1 - pair.correct1)
    return _signed("slope", u0, u1, pair, tolerance, z)


def ece_component(pair: Paired, tolerance: float, z: float) -> Component:
    """Growth of the cross-fitted ECE on ten quantile bins of the pooled confidences."""
    pool = np.concatenate([pair.confidence0, pair.confidence1])
    edges = np.unique(np.quantile(pool, np.arange(1, GATE_BINS) / GATE_BINS))
    gap0, gap1 = pair.confidence0 - pair.correct0, pair.confidence1 - pair.correct1
    fit0 = cross_fitted(gap0, np.searchsorted(edges, pair.confidence0), pair.clusters)
    fit1 = cross_fitted(gap1, np.searchsorted(edges, pair.confidence1), pair.clusters)
    worsening = fit1.value - fit0.value
    error = standard_error(fit1.influence - fit0.influence, pair.clusters)
    return Component(
        "cross-fitted ECE",
        fit0.value,
        fit1.value,
        worsening,
        error,
        worsening - z * error,
        tolerance,
    )


def accuracy_component(pair: Paired, tolerance: float, alpha: float) -> Component:
    """Loss of accuracy, paired: normal bound, or exact McNemar with few discordant items.

    With d discordant items, the number the baseline alone had right is Binomial(d, π); below 25
    the bound is d·(2π_L − 1)/n with π_L the exact (Clopper–Pearson) lower bound of π, which for a
    tolerance of 0 is McNemar's exact test. Grouped items always take the cluster-robust bound.
    """
    loss = pair.correct0 - pair.correct1
    n = len(loss)
    before, after = float(pair.correct0.mean()), float(pair.correct1.mean())
    discordant = int(np.abs(loss).sum())
    if discordant < EXACT_BELOW and pair.clusters is None:
        lost = int((loss > 0).sum())
        share = binomial_lower_bound(lost, discordant, alpha)
        bound = discordant * (2 * share - 1) / n if discordant else 0.0
        error = math.nan
    else:
        error = standard_error(loss, pair.clusters)
        bound = float(loss.mean()) - upper_quantile(alpha, pair.units) * error
    return Component("accuracy", before, after, before - after, error, bound, tolerance)
