"""Totals of bins, and the intervals of errors that are sums over bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import ends, grouped, grouped_tables, sample
from hypothesis import given
from known_calibration import calibrated, exact, two_runs

from pytest_calibration.metrics import METRICS, bin_index, cross_fitted_ece, ece
from pytest_calibration.metrics.cross_fitted import debiased_size
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.bins import BinTotals, totals_of
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile

of = Predictions.from_confidence
Z = NORMAL.inv_cdf(0.975)


def rule_of_three(count: int, units: int) -> float:
    """Variance of Σ gap where all answers of a bin agree."""
    return (count * (1 - 0.025 ** (1 / units)) / Z) ** 2


# --- totals ---------------------------------------------------------------------------------------


def test_a_bin_by_hand() -> None:
    """Gaps 0.5, -0.5, -0.5, -0.5 at 0.5: total -1, squares of residuals 0.75 · 4/3 = 1."""
    totals = totals_of(sample(of([0.5] * 4, [False, True, True, True])))
    b = bin_index(np.array([0.5]), 15)[0]
    assert totals.total[b] == pytest.approx(-1)
    assert totals.variance[b] == pytest.approx(1)
    assert totals.sign[b] == -1
    assert (totals.count[b], totals.right[b], totals.units[b]) == (4, 3, 4)


def test_a_bin_of_groups_by_hand() -> None:
    """Groups {wrong, wrong}, {right, right}: totals ±1 of residuals, so (1 + 1)·2/1 = 4."""
    p = of([0.5] * 4, [False, False, True, True], groups=["a", "a", "b", "b"])
    totals = totals_of(sample(p))
    b = bin_index(np.array([0.5]), 15)[0]
    assert totals.total[b] == pytest.approx(0)
    assert totals.units[b] == 2
    assert totals.variance[b] == pytest.approx(4)


def test_bins_of_equal_answers_have_the_variance_of_the_rule_of_three() -> None:
    """20 right answers at 0.9: up to 20·(1 - 0.025^(1/20)) of 20 such answers may be wrong."""
    totals = totals_of(sample(of([0.9] * 20, [True] * 20)))
    b = bin_index(np.array([0.9]), 15)[0]
    assert totals.seen_variance[b] == pytest.approx(0, abs=1e-20)
    assert totals.variance[b] == pytest.approx(rule_of_three(20, 20))
    assert Z * math.sqrt(totals.variance[b]) == pytest.approx(20 * (1 - 0.025**0.05))
    groups = totals_of(sample(grouped(of([0.9] * 20, [True] * 20), 5)))
    assert groups.variance[b] == pytest.approx(rule_of_three(20, 4))


def test_the_variance_of_a_bin_of_one_item() -> None:
    """The larger of its squared gap and the rule of three."""
    totals = totals_of(sample(of([0.9, 0.1], [False, False])))
    wrong, right = bin_index(np.array([0.9, 0.1]), 15)
    assert totals.variance[wrong] == pytest.approx(0.81)
    assert totals.variance[right] == pytest.approx(rule_of_three(1, 1))


@given(grouped_tables())
def test_totals_are_those_of_the_metric(p: Predictions) -> None:
    """The plug-in sum is ECE; empty bins have 0; the variance is at least that of the residuals."""
    totals = totals_of(sample(p))
    assert totals.plug_in == pytest.approx(ece(p), abs=1e-12)
    empty = totals.count == 0
    assert not totals.total[empty].any()
    assert not totals.variance[empty].any()
    assert (totals.variance >= totals.seen_variance).all()


@given(grouped_tables(groups=True))
def test_the_debiased_total_never_exceeds_the_metric(p: Predictions) -> None:
    """Its variance is larger, so it is at most the metric, which uses the residuals alone."""
    assert totals_of(sample(p)).debiased <= cross_fitted_ece(p) + 1e-12


def test_debiased_size_falls_with_the_spread() -> None:
    """Without noise it is the size; it falls as noise grows; at 0 it is -2sφ(0)."""
    spread = np.linspace(0, 5, 50)
    sizes = debiased_size(np.full(50, 1.5), spread)
    assert sizes[0] == 1.5
    assert (np.diff(sizes) <= 0).all()
    assert (np.diff(sizes[5:]) < 0).all()
    assert debiased_size(np.zeros(1), np.ones(1))[0] == pytest.approx(-2 / math.sqrt(2 * math.pi))


def test_the_error_of_weighted_totals_is_that_of_their_mean() -> None:
    """Where the answers of every bin differ, it is sd(weight·gap)/sqrt(n)."""
    p = exact(dict.fromkeys((0.4, 0.6, 0.8), 0.1), each=100)
    totals = totals_of(sample(p))
    weight = np.arange(totals.size) / 3.0
    expected = np.std(weight[totals.index] * p.gap, ddof=1) / math.sqrt(300)
    assert totals.error(weight) == pytest.approx(expected)


# --- ECE ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [150, 800])
def test_ece_interval_by_formula(n: int) -> None:
    """From cross-fitted ECE - z·SE to plug-in ECE + z·SE, with n_b/(n_b - 1) in each variance."""
    p = two_runs(n, 1, 2.0)[1]
    low, high = ends(p, "ece")
    bins = bin_index(p.confidence, 15)
    debiased, extra = 0.0, 0.0
    signed = p.gap.copy()
    for b in np.unique(bins):
        inside = bins == b
        gap, count = p.gap[inside], int(inside.sum())
        total = gap.sum()
        signed[inside] *= -1 if total < 0 else 1
        seen = total**2 if count == 1 else count * gap.var(ddof=1)
        right = int(p.correct[inside].sum())
        variance = max(seen, rule_of_three(count, count)) if right in (0, count) else seen
        extra += variance - seen
        a = abs(total) / math.sqrt(variance)
        tail = 2 * math.sqrt(variance) * math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        debiased += abs(total) * math.erf(a / math.sqrt(2)) - tail
    error = math.sqrt(signed.var(ddof=1) / n + extra / n**2)
    z = upper_quantile(0.025, n)
    assert (z > 1.97) is (n < 200)
    assert low == pytest.approx(max(0.0, debiased / n - z * error))
    assert high == pytest.approx(ece(p) + z * error)


def test_equal_mass_has_its_own_bins() -> None:
    """The interval of the equal-mass ECE is that of ECE on quantile bins."""
    p = calibrated(700, 2)
    q = Predictions.from_confidence(np.argsort(np.argsort(p.confidence)) / 700, p.correct)
    assert METRICS["equal_mass_ece"].strategy == "equal_mass"
    assert ends(p, "equal_mass_ece") != ends(p, "ece")
    # For ranks equal-width bins are equal-mass bins.
    wide, mass = ends(q, "ece", 7), ends(q, "equal_mass_ece", 7)
    assert mass == pytest.approx(wide, abs=2e-3)


# --- its parts ------------------------------------------------------------------------------------


def test_the_parts_of_a_clear_case_are_ece() -> None:
    """All bins over-confident: over-confidence has the interval of ECE, the other part about 0."""
    p = exact(dict.fromkeys((0.6, 0.7, 0.8, 0.9), 0.3), each=400)
    assert ends(p, "overconfidence") == pytest.approx(ends(p, "ece"), abs=1e-9)
    low, high = ends(p, "underconfidence")
    assert low == 0
    assert 0 < high < 0.003


def test_the_parts_swap_when_outcomes_are_inverted() -> None:
    """With 1 - c and inverted outcomes, over-confidence becomes under-confidence."""
    p = two_runs(600, 4, 1.4)[1]
    # No confidence is on an edge, so 1 - c lies in the mirror image of the bin of c.
    inverted = of(1 - p.confidence, ~p.correct)
    assert ends(inverted, "underconfidence", 16) == pytest.approx(
        ends(p, "overconfidence", 16), abs=1e-9
    )


# --- class-wise -----------------------------------------------------------------------------------


def test_classwise_of_two_options_is_ece_of_either() -> None:
    """With two options, p and 1 - p have the same error: the interval is that of option 0."""
    rng = np.random.default_rng(3)
    p0 = rng.uniform(0.02, 0.98, 400)
    labels = (rng.random(400) > p0**1.5).astype(int)
    both = Predictions.from_probabilities(np.column_stack([p0, 1 - p0]), labels)
    alone = of(p0, labels == 0)
    # 16 bins are symmetric about an edge at 1/2; no confidence is there.
    assert ends(both, "classwise_ece", 16) == pytest.approx(ends(alone, "ece", 16), abs=1e-9)


def test_classwise_standard_error_is_that_of_sums_over_options() -> None:
    """Per item Σ_j sign(bin)·(p_j - y_j) / k; its standard deviation gives the upper end."""
    p = two_runs(1500, 2, 2.0)[1]
    assert p.probabilities is not None
    assert p.labels is not None
    summed: FloatArray = np.zeros(1500)
    plug_in = 0.0
    for k in range(4):
        column = np.ascontiguousarray(p.probabilities[:, k])
        index = bin_index(column, 15)
        totals = BinTotals(column - (p.labels == k), p.labels == k, index, None)
        plug_in += totals.plug_in
        summed += totals.sign[index] * totals.gap
    assert summed.mean() == pytest.approx(plug_in)
    high = ends(p, "classwise_ece")[1]
    least = plug_in / 4 + Z * summed.std(ddof=1) / math.sqrt(1500) / 4
    assert least <= high < least * 1.05
