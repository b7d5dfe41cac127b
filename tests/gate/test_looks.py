"""The error level of several looks at one comparison."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from pytest_calibration.gate.looks import (
    SHARES,
    conditional_power,
    level_at,
    look_levels,
    spent,
)

FRACTIONS = [
    SHARES,
    (1.0,),
    (0.5, 1.0),
    (0.3, 0.35, 0.9, 1.0),
    # A large group fills most of a share, or a baseline has few of the first items.
    (0.4999, 0.5, 0.75, 1.0),
    (0.74975, 0.75, 1.0),
    (0.00025, 0.3, 1.0),
]


def quantiles(levels: tuple[float, ...]) -> list[float]:
    """Standard errors above which a normal variable lies so often."""
    return [-NormalDist().inv_cdf(level) for level in levels]


def crossing(levels: tuple[float, ...], fractions: tuple[float, ...]) -> float:
    """Probability that Brownian motion crosses a bound at any look, by scipy's integration."""
    stats = pytest.importorskip("scipy.stats")
    z = np.array(quantiles(levels))
    t = np.array(fractions)
    correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    inside = stats.multivariate_normal.cdf(
        z, np.zeros(len(t)), correlation, allow_singular=True, abseps=2e-5, releps=1e-3
    )
    return float(1 - inside)


def test_four_equal_looks_have_the_published_bounds() -> None:
    """Spending 5 % as O'Brien and Fleming do: 3.75, 2.54, 2.02 and 1.72 standard errors."""
    assert quantiles(look_levels(0.05, SHARES)) == pytest.approx(
        [3.750, 2.540, 2.016, 1.720], abs=1e-3
    )


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("fractions", FRACTIONS, ids=str)
def test_all_looks_together_cross_at_the_level(alpha: float, fractions: tuple[float, ...]) -> None:
    """However the looks lie, a bound is crossed with the probability that was asked for."""
    levels = look_levels(alpha, fractions)
    assert crossing(levels, fractions) == pytest.approx(alpha, rel=5e-3)


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 0.05])
@pytest.mark.parametrize("fractions", [*FRACTIONS, (1e-6, 2e-6, 1.0)], ids=str)
def test_no_look_has_no_level(alpha: float, fractions: tuple[float, ...]) -> None:
    """However few items are known, and however strict: a bound is finite."""
    levels = [level_at(alpha, fractions, k, alpha) for k in range(len(fractions))]
    assert all(0 < level.alpha <= 1.001 * alpha for level in levels)
    assert all(level.allowed > 0 for level in levels)


def test_a_single_look_has_the_whole_level() -> None:
    """Without a look before, nothing is given up."""
    assert look_levels(0.05, (1.0,)) == (pytest.approx(0.05, abs=1e-9),)
    assert spent(0.05, 1.0) == pytest.approx(0.05)


@pytest.mark.parametrize("fractions", FRACTIONS, ids=str)
def test_the_allowed_false_alarms_are_shared_out(fractions: tuple[float, ...]) -> None:
    """What the looks may raise adds up to what is allowed, and each knows what went before."""
    levels = [level_at(0.05, fractions, k, 0.01) for k in range(len(fractions))]
    assert sum(level.allowed for level in levels) == pytest.approx(0.01)
    befores = np.cumsum([0.0, *(level.allowed for level in levels)])[:-1]
    assert [level.before for level in levels] == pytest.approx(befores.tolist(), abs=1e-12)


def test_conditional_power_is_the_share_of_full_runs_that_fail() -> None:
    """By simulation: what is known stays, what is not is drawn."""
    rng = np.random.default_rng(1)
    worsening, error, fraction, tolerance, z, truth = 0.01, 0.012, 0.5, 0.02, 1.72, 0.05
    later = truth + error / np.sqrt(1 - fraction) * rng.standard_normal(200_000)
    full = fraction * worsening + (1 - fraction) * later
    fails = float((full - z * error > tolerance).mean())
    found = conditional_power(worsening, error, fraction, tolerance, z, truth)
    assert found == pytest.approx(fails, abs=4e-3)
