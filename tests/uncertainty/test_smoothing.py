"""The smoothing grid against the integral, and the interval of the smooth ECE."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import copied, ends, jackknife_error, sample
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, two_runs

from pytest_calibration.metrics import smooth_ece
from pytest_calibration.metrics.binless import automatic_bandwidth, deposit
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.smoothing import (
    CELLS,
    HALVINGS,
    NODES,
    SMALLEST_SIGMA,
    TRAPEZIUM,
    SmoothedGaps,
    density,
    smoothed,
    squared_density,
)

of = Predictions.from_confidence


def kernel(t: FloatArray, c: float, sigma: float) -> FloatArray:
    """Return the Gaussian kernel on [0, 1], with all reflections at both ends."""
    images = [c + 2 * k for k in range(-4, 5)] + [-c + 2 * k for k in range(-4, 5)]
    return np.asarray(
        sum(np.exp(-((t - x) ** 2) / (2 * sigma**2)) for x in images)
        / (sigma * math.sqrt(2 * math.pi))
    )


# --- the grid -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=30))
def test_deposits_keep_mass_and_place(items: list[tuple[float, float]]) -> None:
    """Total weight and mean position on the grid are those of the items."""
    position, weight = np.array(items).T
    nodes = deposit(position, weight, CELLS)
    assert nodes.sum() == pytest.approx(weight.sum(), abs=1e-9)
    assert nodes @ NODES == pytest.approx(weight @ position, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("c", [0.0, 0.02, 0.31, 0.5, 0.97, 1.0])
def test_the_density_of_a_point_is_the_reflected_kernel(c: float, sigma: float) -> None:
    """K_σ(t, c) and its square at all nodes, the ends included."""
    one = deposit(np.array([c]), np.ones(1), CELLS)
    expected = kernel(NODES, c, sigma)
    np.testing.assert_allclose(density(one, sigma), expected, atol=0.004 * expected.max())
    squared = squared_density(one, sigma)
    assert np.abs(squared - expected**2).max() < 0.01 * (expected**2).max()
    assert density(one, sigma) @ TRAPEZIUM == pytest.approx(1)


def test_a_field_is_smoothed_by_the_same_kernel() -> None:
    """The smoothed sign at c is ∫ sign(t)·K_σ(t, c) dt."""
    field = np.where(NODES < 0.4, 1.0, -1.0)
    for c in (0.0, 0.3, 0.42, 0.9):
        expected = float((field * kernel(NODES, c, 0.05)) @ TRAPEZIUM)
        assert np.interp(c, NODES, smoothed(field, 0.05)) == pytest.approx(expected, abs=0.01)


# --- size, standard error, debiasing --------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.2])
def test_the_size_is_that_of_the_metric(sigma: float) -> None:
    """On the coarser grid the error is that of the metric, to three digits."""
    p = two_runs(2000, 1, 1.5)[1]
    expected = smooth_ece(p, sigma)
    gaps = SmoothedGaps(sample(p))
    assert gaps.size(sigma) == pytest.approx(expected, abs=2e-4)
    assert gaps.at(sigma)[0] == pytest.approx(gaps.size(sigma))
    assert automatic_bandwidth(gaps.size, SMALLEST_SIGMA, HALVINGS) == pytest.approx(
        smooth_ece(p), abs=1e-3
    )


@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_the_error_is_that_of_the_jackknife(sigma: float) -> None:
    """At a fixed bandwidth, leaving out each item in turn gives the same standard error."""
    p = two_runs(500, 4, 2.5)[1]
    keep = np.arange(500)
    left = np.array([smooth_ece(p.take(np.delete(keep, i)), sigma) for i in keep])
    error = SmoothedGaps(sample(p)).at(sigma)[2]
    assert error == pytest.approx(jackknife_error(left), rel=0.02)


def test_the_debiased_size_by_direct_sums() -> None:
    """|r| without noise at each point, from the sample variance of gap·K there."""
    p, sigma = calibrated(300, 3), 0.06
    table = np.array([kernel(NODES, c, sigma) for c in p.confidence])
    terms = table * p.gap[:, None]
    field, spread = terms.mean(axis=0), terms.std(axis=0) / math.sqrt(300)
    expected = float(debiased_size(field, spread) @ TRAPEZIUM)
    assert SmoothedGaps(sample(p)).at(sigma)[1] == pytest.approx(expected, abs=2e-4)


def test_what_does_not_vary_is_not_debiased() -> None:
    """Equal answers at one confidence have no variance, so that nothing is taken off their gap."""
    gaps = SmoothedGaps(sample(of(np.full(100, 0.3), np.ones(100, dtype=bool))))
    assert gaps.at(0.3) == pytest.approx((0.7, 0.7, 0.0), abs=1e-6)


def test_debiased_calibrated_models_average_zero() -> None:
    """Over 300 calibrated models the mean debiased size is at most a tenth of the plain one."""
    sizes = np.array([SmoothedGaps(sample(calibrated(500, s))).at(0.05) for s in range(300)])
    assert abs(sizes[:, 1].mean()) < 0.1 * sizes[:, 0].mean()


def test_groups_are_debiased_as_groups() -> None:
    """Copies within groups have the debiased size and the standard error of the items."""
    p = two_runs(300, 6, 1.6)[1]
    alone = SmoothedGaps(sample(p)).at(0.05)
    together = SmoothedGaps(sample(copied(p, 4))).at(0.05)
    assert together == pytest.approx(alone, abs=0.003)


# --- the interval ---------------------------------------------------------------------------------


def test_the_interval_is_that_at_the_automatic_bandwidth() -> None:
    """Debiased - 1.96·SE and plug-in + 1.96·SE, where the size equals the bandwidth."""
    p = two_runs(1000, 2, 2.0)[1]
    gaps = SmoothedGaps(sample(p))
    plug_in, debiased, error = gaps.at(automatic_bandwidth(gaps.size, SMALLEST_SIGMA, HALVINGS))
    low, high = ends(p, "smooth_ece")
    assert low == pytest.approx(debiased - 1.959964 * error)
    assert high == pytest.approx(plug_in + 1.959964 * error)
    assert low < smooth_ece(p) < high


def test_a_constant_gap_has_the_interval_of_a_mean() -> None:
    """With a gap of 0.25 at every confidence the ends are close to those of the signed gap."""
    p = exact(dict.fromkeys((0.55, 0.65, 0.75, 0.85), 0.25), each=200)
    gap = ends(p, "signed_gap")
    assert ends(p, "smooth_ece") == pytest.approx(gap, abs=0.01)


def test_a_tiny_error_has_an_ordered_interval() -> None:
    """Below the smallest bandwidth of the grid low is still below high."""
    p = of([0.9995] * 4000, [i < 3998 for i in range(4000)])
    low, high = ends(p, "smooth_ece")
    assert CELLS == 1024
    assert 0 == low < high < 0.005
