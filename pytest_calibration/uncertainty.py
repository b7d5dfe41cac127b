"""How far a calibration number can be trusted: quantiles, standard errors, floors, components.

Everything is closed form and deterministic: no resampling, no seed. Percentile-bootstrap intervals
of ECE are not used because ECE is biased upwards near calibration, where their lower bound covers
almost never. The cross-fitted ECE used here removes that bias bin by bin.

Where predictions carry groups, standard errors are computed over group totals (cluster-robust,
with the usual G/(G-1) factor), since the items of a group are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

from pytest_calibration.metrics import DEFAULT_BINS, Strategy, bin_index
from pytest_calibration.predictions import FloatArray, IntArray, Predictions

NORMAL: Final = NormalDist()
SMALL_SAMPLE: Final = 200
POWER: Final = 0.8
GATE_BINS: Final = 10
EXACT_BELOW: Final = 25


# --- quantiles ---------------------------------------------------------------------------------


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
        return NORMAL.inv_cdf(1 - alpha)
    dof = max(clusters - 1, 1)
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, dof) < 1 - alpha else (low, middle)
    return (low + high) / 2


# --- standard errors ---------------------------------------------------------------------------


def cluster_codes(predictions: Predictions) -> IntArray | None:
    """Return the group of each item as numbers from 0, or None where items are independent."""
    if predictions.groups is None:
        return None
    return np.unique(predictions.groups, return_inverse=True)[1].astype(np.int64)


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


# --- cross-fitted ECE --------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossFitted:
    """The debiased ECE of one model and the per-item values its standard error is made of.

    Attributes:
        value: about 0 when calibrated, about the plug-in ECE when not; may be negative.
        influence: (n,) sign of the item's bin times its gap.
    """

    value: float
    influence: FloatArray


def cross_fitted(gap: FloatArray, bins: IntArray, clusters: IntArray | None = None) -> CrossFitted:
    """Compute the cross-fitted ECE in closed form.

    With S_b = Σ gap and s_b its standard error in bin b, and a = |S_b| / s_b::

        ECE_cf = (1/n) Σ_b [ |S_b| (2 Φ(a) − 1) − 2 s_b φ(a) ]

    which is the expectation of choosing each bin's sign on one half of the data and measuring it on
    the other. s_b is computed over groups where there are any.

    Args:
        gap: (n,) confidence minus correct.
        bins: (n,) bin of each item.
        clusters: (n,) group codes, or None.
    """
    size = int(bins.max()) + 1
    total = np.bincount(bins, weights=gap, minlength=size)
    count = np.maximum(np.bincount(bins, minlength=size), 1)
    residual = gap - (total / count)[bins]
    if clusters is None:
        squares = np.bincount(bins, weights=residual**2, minlength=size)
    else:
        cell = clusters * size + bins
        sums = np.bincount(cell, weights=residual)
        squares = np.bincount(np.arange(len(sums)) % size, weights=sums**2, minlength=size)
    spread = np.sqrt(squares)
    size_of = np.abs(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.where(spread > 0, size_of / spread, np.inf)
    phi = np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    erf = np.array([math.erf(x / math.sqrt(2)) for x in a])  # 2 Φ(a) − 1
    value = float((size_of * erf - 2 * spread * phi).sum() / len(gap))
    # A bin that balances to exactly 0 is as uncertain as its neighbours: it takes a sign too.
    return CrossFitted(value, np.where(total < 0, -1.0, 1.0)[bins] * gap)


def cross_fitted_ece(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> tuple[float, float]:
    """Return (cross-fitted ECE, its standard error)."""
    clusters = cluster_codes(predictions)
    index = bin_index(predictions.confidence, bins, strategy)
    fitted = cross_fitted(predictions.gap, index, clusters)
    return fitted.value, standard_error(fitted.influence, clusters)


# --- noise floor -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoiseFloor:
    """ECE of a perfectly calibrated model with the same confidences.

    Attributes:
        mean: what it would show on average.
        high: what it would stay below 95 % of the time.
    """

    mean: float
    high: float


def _null_spread(
    predictions: Predictions, bins: int, strategy: Strategy
) -> tuple[FloatArray, IntArray]:
    """Standard deviation of each bin's Σ gap if P(correct) were the confidence; and counts."""
    index = bin_index(predictions.confidence, bins, strategy)
    variance = predictions.confidence * (1 - predictions.confidence)
    clusters = cluster_codes(predictions)
    null = np.bincount(index, weights=variance)
    if clusters is not None:
        # Items of one group err together; scale by how much the observed group totals exceed
        # independence, never below it.
        gap = predictions.gap
        size = len(null)
        residual = (
            gap - (np.bincount(index, weights=gap) / np.maximum(np.bincount(index), 1))[index]
        )
        sums = np.bincount(clusters * size + index, weights=residual)
        seen = np.bincount(np.arange(len(sums)) % size, weights=sums**2, minlength=size)
        alone = np.bincount(index, weights=residual**2, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            null = null * np.maximum(np.nan_to_num(seen / alone, nan=1.0, posinf=1.0), 1.0)
    return np.sqrt(null), np.bincount(index)


def noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> NoiseFloor:
    """Return the noise floor of ECE, from the normal approximation per bin.

    A bin's Σ gap has standard deviation s_b = sqrt(Σ c (1 − c)) when confidences c are right, so
    its absolute value has mean s_b·sqrt(2/π) and variance s_b²·(1 − 2/π).
    """
    spread, _ = _null_spread(predictions, bins, strategy)
    mean = math.sqrt(2 / math.pi) * float(spread.sum()) / predictions.n
    deviation = math.sqrt((1 - 2 / math.pi) * float(spread @ spread)) / predictions.n
    return NoiseFloor(mean, mean + 1.645 * deviation)


def mce_noise_floor(
    predictions: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> float:
    """Return E[max_b |gap_b|] of a calibrated model: ∫ 1 − Π_b P(|gap_b| ≤ t) dt over [0, 1]."""
    spread, count = _null_spread(predictions, bins, strategy)
    sigma = (spread / np.maximum(count, 1))[count > 0]
    grid = np.linspace(0.0, 1.0, 1001)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sigma > 0, grid[:, None] / sigma, np.inf)
    inside = np.vectorize(math.erf)(z / math.sqrt(2)).prod(axis=1)
    outside = 1 - inside
    return float((outside[1:] + outside[:-1]).sum() / 2 * (grid[1] - grid[0]))


# --- the components of a comparison ------------------------------------------------------------


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


def binomial_lower_bound(k: int, n: int, alpha: float) -> float:
    """Return the exact (Clopper–Pearson) one-sided lower bound of a proportion, k of n."""
    if k == 0:
        return 0.0

    def tail(p: float) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    return _bisect(lambda p: tail(p) < alpha, 0.0, 1.0)


def _bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def smallest_visible(
    components: list[Component], tolerance: float, alpha: float, units: int
) -> float:
    """Return the smallest worsening, of any shape, that would be seen at 80 % power."""
    widest = max((c.standard_error for c in components if not c.unavailable), default=math.nan)
    return tolerance + (upper_quantile(alpha, units) + NORMAL.inv_cdf(POWER)) * widest


def unpaired_visible(
    predictions: Predictions, tolerance: float = 0.02, alpha: float = 0.05
) -> float:
    """Return the smallest worsening visible at 80 % power before any candidate is known.

    As if the candidate's errors were independent of the baseline's: pairing only makes it smaller.
    """
    pair = Paired.of(predictions, predictions)
    clusters = pair.clusters
    gap = pair.confidence0 - pair.correct0
    pool = pair.confidence0
    errors = [standard_error(gap, clusters)]
    if float(pool.var()) > 1e-12:
        k = float(np.abs(pool - pool.mean()).mean()) / float(pool.var())
        errors.append(standard_error(k * (pool - pool.mean()) * gap, clusters))
    edges = np.unique(np.quantile(pool, np.arange(1, GATE_BINS) / GATE_BINS))
    fitted = cross_fitted(gap, np.searchsorted(edges, pool), clusters)
    errors.append(standard_error(fitted.influence, clusters))
    if math.isnan(errors[0]):
        return 1.0
    reach = upper_quantile(alpha, pair.units) + NORMAL.inv_cdf(POWER)
    return min(1.0, tolerance + reach * math.sqrt(2) * max(errors))
