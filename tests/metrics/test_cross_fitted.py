"""The cross-fitted ECE against enumeration, quadrature and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, two_runs

from pytest_calibration.metrics import bin_index, cross_fitted_ece, ece
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL

of = Predictions.from_confidence


def _all_half_splits(gap: FloatArray) -> float:
    """Return the mean over all splits into halves of sign(half)·other half, both ways."""
    n = len(gap)
    first = np.array([gap[list(half)].sum() for half in itertools.combinations(range(n), n // 2)])
    second = gap.sum() - first
    return float((np.sign(first) * second + np.sign(second) * first).mean())


@pytest.mark.parametrize("mean", [0.0, 0.02, -0.05, 0.1, -0.2, 0.5], ids=str)
def test_cross_fitting_is_the_mean_over_all_half_splits(mean: float) -> None:
    """One bin of 16 gaps: the closed form is the mean over all 12 870 splits into halves."""
    shape = np.array([NORMAL.inv_cdf((i + 0.5) / 16) for i in range(16)])
    gap = mean + 0.3 * shape
    fitted = cross_fitted(gap, np.zeros(16, dtype=np.int64)).value
    # In the closed form the total of a half has variance Σr²/4, over exact halves 16/15 of that.
    halves = mean + 0.3 * math.sqrt(15 / 16) * shape
    assert fitted == pytest.approx(_all_half_splits(halves) / 16, abs=0.003)


@given(st.floats(-20, 20), st.floats(0.1, 10))
def test_cross_fitting_formula_by_quadrature(total: float, spread: float) -> None:
    """|S|(2Φ(a)-1) - 2sφ(a) is E[2 sign(S/2+D)(S/2-D)] for D normal with deviation s/2."""
    # Two items with this sum and this sum of squared residuals.
    half = spread / math.sqrt(2)
    gap = np.array([total / 2 + half, total / 2 - half])
    x = np.linspace(-9, 9, 360_001)
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    d = spread / 2 * x
    integrand = 2 * np.sign(total / 2 + d) * (total / 2 - d) * density
    expected = float(integrand.sum() * (x[1] - x[0]))
    fitted = cross_fitted(gap, np.zeros(2, dtype=np.int64))
    assert fitted.value * 2 == pytest.approx(expected, abs=2e-3)


def test_cross_fitting_over_random_halves_of_a_real_bin_table() -> None:
    """On 1000 items in 15 bins the closed form is the mean over random halves of each bin."""
    p = two_runs(1000, 3, 1.5)[1]
    bins = bin_index(p.confidence, 15)
    rng = np.random.default_rng(0)
    total = 0.0
    for b in np.unique(bins):
        gap = p.gap[bins == b]
        splits = rng.random((4000, len(gap))).argsort(axis=1)[:, : len(gap) // 2]
        first = gap[splits].sum(axis=1)
        second = gap.sum() - first
        total += float((np.sign(first) * second + np.sign(second) * first).mean())
    assert cross_fitted(p.gap, bins).value == pytest.approx(total / 1000, abs=1.5e-3)


def test_cross_fitted_ece_of_calibrated_models_is_about_zero() -> None:
    """Its mean over 400 calibrated models is at most a tenth of that of plain ECE."""
    models = [calibrated(1000, seed) for seed in range(400)]
    fitted = np.array([cross_fitted_ece(p) for p in models])
    plain = np.mean([ece(p) for p in models])
    error = fitted.std() / math.sqrt(len(models))
    assert abs(fitted.mean()) < 3 * error
    assert abs(fitted.mean()) < 0.1 * plain


def test_cross_fitted_ece_approaches_the_plain_one_when_miscalibrated() -> None:
    """With a gap of 0.2 in every bin the debiased and the plain ECE are both 0.2."""
    p = exact(dict.fromkeys((0.5, 0.7, 0.9), 0.2), each=1000)
    assert ece(p) == pytest.approx(0.2)
    assert cross_fitted_ece(p) == pytest.approx(0.2, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=80))
def test_cross_fitted_ece_never_exceeds_the_plain_one(rows: list[tuple[float, bool]]) -> None:
    """Removing the noise only lowers ECE, for any data and binning."""
    p = of([c for c, _ in rows], [h for _, h in rows])
    for bins in (1, 5, 15):
        assert cross_fitted_ece(p, bins) <= ece(p, bins) + 1e-12


def test_the_influence_is_the_signed_gap() -> None:
    """The influence of an item is sign of the bin · gap, whose mean is the plug-in ECE."""
    p = calibrated(500, 4)
    bins = bin_index(p.confidence, 15)
    sums = np.bincount(bins, weights=p.gap)
    influence = cross_fitted(p.gap, bins).influence
    assert influence.tolist() == (np.where(sums[bins] < 0, -1, 1) * p.gap).tolist()
    assert influence.mean() == pytest.approx(ece(p))


def test_a_bin_in_balance_is_still_uncertain() -> None:
    """With exactly calibrated counts every item keeps its gap as influence, with sign 1."""
    p = exact({0.25: 0.0}, each=400)
    influence = cross_fitted(p.gap, bin_index(p.confidence, 15)).influence
    assert np.abs(influence).tolist() == np.abs(p.gap).tolist()
    assert influence.std() == pytest.approx(math.sqrt(0.25 * 0.75))


def test_groups_of_one_change_nothing_in_cross_fitting() -> None:
    """With a group per item, the value is that without groups."""
    p = calibrated(300, 2)
    q = of(p.confidence, p.correct, groups=[f"{i:03d}" for i in range(300)])
    assert cross_fitted_ece(q) == pytest.approx(cross_fitted_ece(p), rel=1e-12)


def test_copies_within_groups_change_nothing_in_cross_fitting() -> None:
    """Five copies of each item, grouped, have the value of the items."""
    p = calibrated(300, 2)
    q = of(
        np.repeat(p.confidence, 5),
        np.repeat(p.correct, 5),
        groups=[str(i) for i in np.repeat(np.arange(300), 5)],
    )
    assert cross_fitted_ece(q) == pytest.approx(cross_fitted_ece(p), rel=1e-9)
