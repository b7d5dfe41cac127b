"""Intervals of means and shares against formulas, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import grouped, sample
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated

from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.means import (
    RARE,
    effective_number,
    mean_interval,
    share_interval,
    wilson,
)
from pytest_calibration.uncertainty.quantiles import NORMAL
from pytest_calibration.uncertainty.standard_errors import standard_error

of = Predictions.from_confidence
Z = NORMAL.inv_cdf(0.975)


def test_the_interval_of_a_mean_is_z_standard_errors_wide() -> None:
    """Mean ± 1.96·sd/sqrt(n) where unseen items need no wider interval."""
    p = calibrated(500, 7)
    low, high = mean_interval(p.confidence, sample(p))
    margin = 1.959964 * p.confidence.std(ddof=1) / math.sqrt(500)
    expected = (p.confidence.mean() - margin, p.confidence.mean() + margin)
    assert (low, high) == pytest.approx(expected, rel=1e-6)


def test_groups_have_a_cluster_robust_standard_error() -> None:
    """Over 250 groups of two the margin is 1.96 cluster-robust standard errors."""
    p = grouped(calibrated(500, 7), 2)
    low, high = mean_interval(p.gap, sample(p), lowest=-1.0)
    error = standard_error(p.gap, np.arange(500) // 2)
    assert high - low == pytest.approx(2 * Z * error)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_values_have_an_interval_with_a_width(value: float) -> None:
    """With 100 equal values, 1 - 0.025^(1/100) of the population may lie at either end."""
    p = of([0.5] * 100, [True] * 100)
    unseen = 1 - 0.025**0.01
    low, high = mean_interval(np.full(100, value), sample(p))
    assert low == pytest.approx(value - unseen * value)
    assert high == pytest.approx(value + unseen * (1 - value))


@given(st.integers(1, 2000), st.data())
def test_wilson_solves_its_equation(n: int, data: st.DataObject) -> None:
    """(share - p)² = z²·p(1 - p)/n at both ends, unless near 0 or 1."""
    right = data.draw(st.integers(0, n))
    share = right / n
    low, high = wilson(share, n, Z)
    if min(right, n - right) > 3:
        for end in (low, high):
            assert (share - end) ** 2 == pytest.approx(Z * Z * end * (1 - end) / n, abs=1e-12)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12


@given(st.integers(1, 500), st.data())
def test_wilson_is_symmetric(n: int, data: st.DataObject) -> None:
    """The interval of the wrong share mirrors that of the right share."""
    right = data.draw(st.integers(0, n))
    low, high = wilson(right / n, n, Z)
    other = wilson((n - right) / n, n, Z)
    if 2 * right != n:
        assert (1 - high, 1 - low) == pytest.approx(other, abs=1e-12)


def test_rare_events_have_the_lower_bound_of_poisson() -> None:
    """1, 2 or 3 events: the mean at which at least this many occur in 5 % of samples."""
    for seen, mean in enumerate(RARE, start=1):
        fewer = sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(seen))
        assert 1 - fewer == pytest.approx(0.05, abs=1e-7)
        assert wilson(seen / 1000, 1000, Z)[0] == pytest.approx(mean / 1000)
    assert wilson(4 / 1000, 1000, Z)[0] > 1.3 / 1000


@pytest.mark.parametrize("share", [1e-4, 1e-3, 0.01, 0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [200, 500, 2000])
def test_the_interval_of_a_share_covers(n: int, share: float) -> None:
    """Exact coverage over all outcomes is 93 % or more, also for rare events."""
    stats = pytest.importorskip("scipy.stats")
    weight = stats.binom.pmf(np.arange(n + 1), n, share)
    likely = np.flatnonzero(weight > 1e-7).tolist()
    covered = 0.0
    for k in likely:
        low, high = wilson(k / n, n, Z)
        covered += weight[k] * (low <= share <= high)
    assert covered >= 0.93


def test_a_grouped_share_has_an_effective_number_of_items() -> None:
    """A share with standard error e counts share(1 - share)/e² items, at most n."""
    p = grouped(calibrated(600, 3), 3)
    error = standard_error(p.correct.astype(float), np.arange(600) // 3)
    share = float(p.correct.mean())
    effective = min(600.0, share * (1 - share) / error**2)
    assert effective_number(share, error, sample(p), 1.0) == pytest.approx(effective)
    assert share_interval(p.correct, sample(p)) == pytest.approx(wilson(share, effective, Z))


def test_a_share_of_equal_groups_counts_groups() -> None:
    """50 groups of ten, all right: 1 - 0.025^(1/50) of all groups may be wrong."""
    p = grouped(of([0.9] * 500, [True] * 500), 10)
    low, high = share_interval(p.correct, sample(p))
    assert high == 1
    assert low <= 0.025 ** (1 / 50)
    one = grouped(of([0.9] * 500, [False] + [True] * 499), 10)
    # One wrong answer alone does not show how dependent the items of a group are.
    margin = (1 - 0.025 ** (1 / 50)) * 0.9
    assert share_interval(one.correct, sample(one))[0] == pytest.approx(0.998 - margin)
    assert wilson(0.998, 500, Z)[0] > 0.98
