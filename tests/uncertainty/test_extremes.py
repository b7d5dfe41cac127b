"""Intervals of errors that are a maximum: MCE and KS."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import copied, ends, grouped
from known_calibration import calibrated, exact

from pytest_calibration.metrics import ks_ce, mce
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.extremes import BROWNIAN
from pytest_calibration.uncertainty.means import wilson
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound

of = Predictions.from_confidence


def within(x: float) -> float:
    """P(max |B| ≤ x) of Brownian motion on [0, 1], by its series (Feller 1971)."""
    terms = [
        (-1) ** k / (2 * k + 1) * math.exp(-((2 * k + 1) ** 2) * math.pi**2 / (8 * x * x))
        for k in range(50)
    ]
    return 4 / math.pi * math.fsum(terms)


def test_the_quantile_of_brownian_motion_is_that_of_its_series() -> None:
    """The largest absolute value stays below the constant with probability 0.95."""
    assert within(BROWNIAN) == pytest.approx(0.95, abs=1e-7)


# --- MCE ------------------------------------------------------------------------------------------


def test_mce_of_one_bin_is_wilsons_interval() -> None:
    """400 items at 0.5, 140 of them right: 0.5 minus the interval of their accuracy."""
    p = exact({0.5: 0.15}, each=400)
    least, most = wilson(0.35, 400, NORMAL.inv_cdf(0.975))
    assert ends(p, "mce") == pytest.approx((0.5 - most, 0.5 - least))


def test_mce_of_few_items_has_exact_simultaneous_bounds() -> None:
    """Two bins of 10: each accuracy lies within Clopper and Pearson's ends at 0.05/2/2."""
    p = of([0.9] * 10 + [0.1] * 10, [True] * 2 + [False] * 18)
    low, high = ends(p, "mce")
    alpha = 0.05 / 2 / 2
    most = 1 - binomial_lower_bound(8, 10, alpha)
    least = binomial_lower_bound(2, 10, alpha)
    assert low == pytest.approx(0.9 - most)
    assert high == pytest.approx(0.9 - least)


def test_one_wrong_answer_proves_nothing() -> None:
    """One wrong answer of two at 0.95: MCE 0.45, and the lower end is 0."""
    p = of([0.95, 0.95], [False, True])
    assert mce(p) == pytest.approx(0.45)
    assert ends(p, "mce")[0] == 0


def test_mce_of_groups() -> None:
    """Copies within groups count once; groups of independent items count their items."""
    p = calibrated(300, 2)
    assert ends(copied(p, 4), "mce") == pytest.approx(ends(p, "mce"), abs=0.02)
    rng = np.random.default_rng(1)
    independent = exact({0.8: 0.2}, each=900).take(rng.permutation(900))
    low, high = ends(independent, "mce")
    low3, high3 = ends(grouped(independent, 3), "mce")
    assert high3 - low3 == pytest.approx(high - low, rel=0.1)


def test_mce_of_a_wide_bin_includes_the_variance_of_confidence() -> None:
    """Where accuracy falls as confidence rises, gaps vary more than outcomes: a wider interval."""
    rng = np.random.default_rng(0)
    confidence = rng.random(2000)
    p = of(confidence, rng.random(2000) > confidence)
    high = ends(p, "mce", 1)[1]
    share = float(p.correct.mean())
    z = NORMAL.inv_cdf(0.975)
    half = z * float(p.gap.std()) / math.sqrt(2000)
    assert p.gap.var() > 1.5 * share * (1 - share)
    assert high == pytest.approx(abs(p.gap.mean()) + half, rel=0.02)


# --- KS -------------------------------------------------------------------------------------------


def test_ks_interval_by_formula() -> None:
    """With sd² = Σ gap²/n²: value - 2.2414·sd and value + 1.96·sd."""
    p = exact(dict.fromkeys((0.5, 0.7, 0.9), 0.2), each=200)
    deviation = math.sqrt(float((p.gap**2).sum())) / 600
    low, high = ends(p, "ks_ce")
    assert low == pytest.approx(ks_ce(p) - BROWNIAN * deviation, rel=1e-5)
    assert high == pytest.approx(ks_ce(p) + 1.959964 * deviation, rel=1e-5)


def test_ks_of_groups_whose_gaps_cancel_is_uncertain() -> None:
    """Groups of two opposite gaps at different confidences: only their total is certain."""
    rng = np.random.default_rng(0)
    outcome = rng.random(300) < 0.5
    confidence = np.where(np.arange(600) % 2 == 0, 0.3, 0.7)
    correct = np.where(np.arange(600) % 2 == 0, outcome.repeat(2), ~outcome.repeat(2))
    p = grouped(of(confidence, correct), 2)
    low, high = ends(p, "ks_ce")
    assert high - low > 0.04
    totals = np.bincount(np.arange(600) // 2, weights=p.gap)
    assert np.abs(totals).max() < 1e-12
