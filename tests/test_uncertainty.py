"""Quantiles, standard errors, floors and components against tables, formulas and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from datasets import calibrated, exact, four_way, two_runs
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.metrics import bin_index, ece, mce, signed_gap
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty import (
    EXACT_BELOW,
    NORMAL,
    Component,
    Paired,
    accuracy_component,
    binomial_lower_bound,
    cluster_codes,
    cross_fitted,
    cross_fitted_ece,
    ece_component,
    gap_component,
    mce_noise_floor,
    noise_floor,
    slope_component,
    smallest_visible,
    standard_error,
    unpaired_visible,
    upper_quantile,
)

of = Predictions.from_confidence

# --- quantiles ----------------------------------------------------------------------------------

# NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2: upper critical values of
# Student's t, by degrees of freedom, for one-sided 0.05, 0.025 and 0.01.
STUDENT = {
    1: (6.314, 12.706, 31.821),
    2: (2.920, 4.303, 6.965),
    3: (2.353, 3.182, 4.541),
    5: (2.015, 2.571, 3.365),
    9: (1.833, 2.262, 2.821),
    10: (1.812, 2.228, 2.764),
    29: (1.699, 2.045, 2.462),
    30: (1.697, 2.042, 2.457),
    60: (1.671, 2.000, 2.390),
    100: (1.660, 1.984, 2.364),
}


@pytest.mark.parametrize(("dof", "values"), STUDENT.items(), ids=map(str, STUDENT))
def test_student_quantiles_are_those_of_the_table(
    dof: int, values: tuple[float, float, float]
) -> None:
    """With fewer than 200 units the quantile is Student's with one degree of freedom less."""
    for alpha, published in zip((0.05, 0.025, 0.01), values, strict=True):
        assert upper_quantile(alpha, dof + 1) == pytest.approx(published, abs=5.1e-4)


@pytest.mark.parametrize(
    ("alpha", "published"), [(0.05, 1.645), (0.025, 1.960), (0.01, 2.326), (0.005, 2.576)]
)
def test_normal_quantiles_are_those_of_the_table(alpha: float, published: float) -> None:
    """From 200 units on the quantile is the normal one (same handbook, table 1.3.6.7.1)."""
    assert upper_quantile(alpha, 200) == pytest.approx(published, abs=5.1e-4)
    assert upper_quantile(alpha, 10**6) == upper_quantile(alpha, 200)


@given(st.integers(2, 199), st.floats(0.001, 0.499))
def test_quantiles_agree_with_scipy(clusters: int, alpha: float) -> None:
    """Student quantiles are scipy's."""
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.isf(alpha, clusters - 1)
    assert upper_quantile(alpha, clusters) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(st.integers(2, 400), st.floats(0.001, 0.45))
def test_fewer_units_are_never_more_certain(clusters: int, alpha: float) -> None:
    """The quantile never grows with the number of units, also across the change at 200."""
    assert upper_quantile(alpha, clusters) >= upper_quantile(alpha, clusters + 1) - 1e-9
    assert upper_quantile(alpha, clusters) >= NORMAL.inv_cdf(1 - alpha) - 1e-9


# --- standard errors ----------------------------------------------------------------------------


def test_standard_error_by_hand() -> None:
    """Of 1, 2, 3, 6: sd = sqrt(14/3), so the error of the mean is sqrt(14/3)/2."""
    assert standard_error(np.array([1.0, 2, 3, 6])) == pytest.approx(math.sqrt(14 / 3) / 2)


def test_clustered_standard_error_by_hand() -> None:
    """Groups {1, 2}, {3}, {6}, mean 3: totals -3, 0, 3, so sqrt(3/2 · 18) / 4."""
    clusters = np.array([0, 0, 1, 2])
    expected = math.sqrt(3 / 2 * 18) / 4
    assert standard_error(np.array([1.0, 2, 3, 6]), clusters) == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_groups_of_one_are_items(values: list[float], random: object) -> None:
    """With a group per item the clustered standard error is the plain one."""
    array = np.array(values)
    codes = np.random.default_rng(len(values)).permutation(len(values))
    plain = np.std(array, ddof=1) / math.sqrt(len(array))
    assert standard_error(array) == pytest.approx(plain, abs=1e-12)
    assert standard_error(array, codes) == pytest.approx(plain, abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(2, 6))
def test_copies_within_a_group_add_no_certainty(values: list[float], times: int) -> None:
    """Items repeated within their group leave the standard error where it was."""
    array = np.array(values)
    once = standard_error(array)
    clusters = np.repeat(np.arange(len(values)), times)
    assert standard_error(np.repeat(array, times), clusters) == pytest.approx(once, abs=1e-12)


def test_one_unit_has_no_standard_error() -> None:
    """One item, or one group, says nothing about its own error: NaN."""
    assert math.isnan(standard_error(np.array([0.5])))
    assert math.isnan(standard_error(np.array([0.5, 0.1]), np.array([0, 0])))


def test_cluster_codes_count_from_zero() -> None:
    """Group names become codes; without groups there are none."""
    p = of([0.5] * 3, [True] * 3, groups=["b", "a", "b"])
    codes = cluster_codes(p)
    assert codes is not None
    assert codes.tolist() == [1, 0, 1]
    assert cluster_codes(of([0.5], [True])) is None


# --- cross-fitted ECE ---------------------------------------------------------------------------


def _all_half_splits(gap: FloatArray) -> float:
    """Mean over all splits into halves of sign(half)·other half, both ways."""
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
    # The closed form gives a half's total the variance Σr²/4; over exact halves it is 16/15 of it.
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
    """Over 400 calibrated models it averages a tenth of what plain ECE does, or less."""
    models = [calibrated(1000, seed) for seed in range(400)]
    fitted = np.array([cross_fitted_ece(p)[0] for p in models])
    plain = np.mean([ece(p) for p in models])
    error = fitted.std() / math.sqrt(len(models))
    assert abs(fitted.mean()) < 3 * error
    assert abs(fitted.mean()) < 0.1 * plain


def test_cross_fitted_ece_approaches_the_plain_one_when_miscalibrated() -> None:
    """With a gap of 0.2 in every bin the debiased and the plain ECE are both 0.2."""
    p = exact(dict.fromkeys((0.5, 0.7, 0.9), 0.2), each=1000)
    assert ece(p) == pytest.approx(0.2)
    assert cross_fitted_ece(p)[0] == pytest.approx(0.2, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=80))
def test_cross_fitted_ece_never_exceeds_the_plain_one(rows: list[tuple[float, bool]]) -> None:
    """Removing the noise only lowers ECE, for any data and binning."""
    p = of([c for c, _ in rows], [h for _, h in rows])
    for bins in (1, 5, 15):
        assert cross_fitted_ece(p, bins)[0] <= ece(p, bins) + 1e-12


def test_its_standard_error_is_that_of_the_signed_gaps() -> None:
    """The error is sd(sign of the bin · gap)/sqrt(n), over groups where there are any."""
    p = calibrated(500, 4)
    bins = bin_index(p.confidence, 15)
    sums = np.bincount(bins, weights=p.gap)
    signed = np.where(sums[bins] < 0, -1, 1) * p.gap
    expected = signed.std(ddof=1) / math.sqrt(500)
    assert cross_fitted_ece(p)[1] == pytest.approx(expected, rel=1e-12)
    grouped = of(p.confidence, p.correct, groups=[f"g{i % 100}" for i in range(500)])
    totals = np.bincount(np.arange(500) % 100, weights=signed - signed.mean())
    expected = math.sqrt(100 / 99 * (totals**2).sum()) / 500
    assert cross_fitted_ece(grouped)[1] == pytest.approx(expected, rel=1e-12)


def test_a_bin_in_balance_is_still_uncertain() -> None:
    """Exactly calibrated counts give no zero error: it is sd(gap)/sqrt(n) as of any sample."""
    p = exact({0.25: 0.0}, each=400)
    expected = math.sqrt(0.25 * 0.75 * 400 / 399) / 20
    assert cross_fitted_ece(p)[1] == pytest.approx(expected)


def test_groups_of_one_change_nothing_in_cross_fitting() -> None:
    """With a group per item, value and error are those without groups."""
    p = calibrated(300, 2)
    q = of(p.confidence, p.correct, groups=[f"{i:03d}" for i in range(300)])
    assert cross_fitted_ece(q) == pytest.approx(cross_fitted_ece(p), rel=1e-12)


def test_copies_within_groups_change_nothing_in_cross_fitting() -> None:
    """Five copies of each item, grouped, are no more evidence than the item itself."""
    p = calibrated(300, 2)
    q = of(
        np.repeat(p.confidence, 5),
        np.repeat(p.correct, 5),
        groups=[str(i) for i in np.repeat(np.arange(300), 5)],
    )
    assert cross_fitted_ece(q) == pytest.approx(cross_fitted_ece(p), rel=1e-9)


# --- noise floor --------------------------------------------------------------------------------


def test_noise_floor_by_hand() -> None:
    """One bin of 100 at 0.8: s = sqrt(100·0.16) = 4, mean 4·sqrt(2/π)/100."""
    floor = noise_floor(exact({0.8: 0.0}, each=100))
    assert floor.mean == pytest.approx(0.04 * math.sqrt(2 / math.pi))
    deviation = 0.04 * math.sqrt(1 - 2 / math.pi)
    assert floor.high == pytest.approx(floor.mean + 1.645 * deviation)


@pytest.mark.parametrize(
    ("n", "mean", "high"),
    [(200, 0.078, 0.111), (500, 0.050, 0.071), (1000, 0.036, 0.052), (2000, 0.026, 0.037)],
)
def test_noise_floor_is_the_simulated_null(n: int, mean: float, high: float) -> None:
    """The closed form gives mean and 95 % point of ECE15 over simulated calibrated models."""
    models = [calibrated(n, seed) for seed in range(200)]
    floors = [noise_floor(p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(mean, rel=0.04)
    assert np.mean([f.high for f in floors]) == pytest.approx(high, rel=0.05)
    values = [ece(p) for p in models]
    assert np.mean([f.mean for f in floors]) == pytest.approx(np.mean(values), rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_noise_floor_is_what_redrawn_outcomes_show(seed: int) -> None:
    """For any confidences, outcomes redrawn from them average the floor's ECE."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 2, 800)
    values = [ece(of(confidence, rng.random(800) < confidence)) for _ in range(400)]
    floor = noise_floor(of(confidence, confidence > 0.5))
    assert floor.mean == pytest.approx(np.mean(values), rel=0.04)
    assert floor.high == pytest.approx(np.quantile(values, 0.95), rel=0.07)


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_noise_floor_depends_on_the_confidences_alone(correct: list[bool]) -> None:
    """What the model got right does not move the floor."""
    confidence = np.linspace(0.3, 0.99, 40)
    other = noise_floor(of(confidence, [True] * 40))
    assert noise_floor(of(confidence, correct)) == other


def test_noise_floor_falls_with_the_root_of_n() -> None:
    """Four times the items halve the floor."""
    p = calibrated(300, 1)
    four = of(np.tile(p.confidence, 4), np.tile(p.correct, 4))
    assert noise_floor(four).mean == pytest.approx(noise_floor(p).mean / 2)
    assert noise_floor(four).high == pytest.approx(noise_floor(p).high / 2)


def test_copies_within_groups_do_not_lower_the_floor() -> None:
    """Five copies of each item, grouped, have at least the floor of the items."""
    p = calibrated(300, 1)
    q = of(
        np.repeat(p.confidence, 5),
        np.repeat(p.correct, 5),
        groups=[str(i) for i in np.repeat(np.arange(300), 5)],
    )
    assert noise_floor(q).mean == pytest.approx(noise_floor(p).mean, rel=1e-6)


def test_certain_confidences_have_no_floor() -> None:
    """Confidences of 0 and 1 leave no room for noise."""
    floor = noise_floor(of([0.0, 1.0] * 30, [False, True] * 30))
    assert (floor.mean, floor.high) == (0.0, 0.0)


def test_mce_floor_is_what_redrawn_outcomes_show() -> None:
    """For well filled bins, the floor of MCE is the mean over outcomes redrawn."""
    rng = np.random.default_rng(0)
    confidence = np.repeat(np.arange(8) / 15 + 0.45, 100)
    values = [mce(of(confidence, rng.random(800) < confidence)) for _ in range(400)]
    floor = mce_noise_floor(of(confidence, confidence > 0.5))
    assert floor == pytest.approx(np.mean(values), rel=0.04)


def test_mce_floor_of_one_bin_is_the_mean_absolute_gap() -> None:
    """With one bin the floor is E|N(0, s²)| = s·sqrt(2/π)."""
    floor = mce_noise_floor(exact({0.8: 0.0}, each=100))
    assert floor == pytest.approx(0.04 * math.sqrt(2 / math.pi), abs=1e-5)


# --- components ---------------------------------------------------------------------------------


def pair_of(
    gaps0: dict[float, float], gaps1: dict[float, float], groups: IntArray | None = None
) -> Paired:
    """Pair two runs with known gaps per confidence."""
    pair = Paired.of(exact(gaps0), exact(gaps1))
    return Paired(pair.confidence0, pair.correct0, pair.confidence1, pair.correct1, groups)


LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.parametrize("before", [0.0, 0.05, -0.05])
@pytest.mark.parametrize("after", [0.0, 0.1, -0.1, 0.05])
def test_gap_component_measures_the_shift_away_from_zero(before: float, after: float) -> None:
    """The worsening is the shift in the direction of where the candidate errs."""
    pair = pair_of(dict.fromkeys(LEVELS, before), dict.fromkeys(LEVELS, after))
    c = gap_component(pair, 0.02, 1.645)
    assert c.before == pytest.approx(before, abs=1e-6)
    assert c.after == pytest.approx(after, abs=1e-6)
    if after:
        assert c.worsening == pytest.approx(math.copysign(1, after) * (after - before), abs=1e-6)
    d = pair.confidence1 - pair.correct1 - pair.confidence0 + pair.correct0
    assert c.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)))
    assert c.bound == pytest.approx(c.worsening - 1.645 * c.standard_error)
    if abs(abs(after) - abs(before)) > 1e-6:
        assert c.grew is (abs(after) > abs(before))


def test_a_move_through_zero_to_a_smaller_size_is_no_regression() -> None:
    """From -0.15 to +0.10 the shift is 0.25, and the component does not fire: it got smaller."""
    pair = pair_of(dict.fromkeys(LEVELS, -0.1), dict.fromkeys(LEVELS, 0.05))
    c = gap_component(pair, 0.02, 1.645)
    assert c.bound > 0.1
    assert not c.fired


def test_slope_component_counts_linear_miscalibration_in_ece_units() -> None:
    """A gap of 0.2·(c - mean) has mean 0, ECE 0.2·mean|c - mean|, and the slope is that ECE."""
    twist = {c: round(0.5 * (c - 0.7), 10) for c in LEVELS}
    pair = pair_of(dict.fromkeys(LEVELS, 0.0), twist)
    c = slope_component(pair, 0.02, 1.645)
    expected = ece(exact(twist))
    assert expected == pytest.approx(0.5 * np.mean([0.2, 0.1, 0, 0.1, 0.2]))
    assert c.after == pytest.approx(expected, abs=1e-6)
    assert c.before == pytest.approx(0.0, abs=1e-6)
    assert gap_component(pair, 0.02, 1.645).worsening == pytest.approx(0.0, abs=1e-6)


def test_equal_confidences_have_no_slope() -> None:
    """With one confidence everywhere the slope does not apply, says so, and cannot fire."""
    c = slope_component(pair_of({0.7: 0.0}, {0.7: 0.2}), 0.02, 1.645)
    assert c.unavailable == "all confidences are equal, so there is no slope"
    assert not c.fired


def test_ece_component_sees_what_gap_and_slope_miss() -> None:
    """Gaps of +0.1 and -0.1 in turn, with neither mean nor slope, show in the cross-fitted ECE."""
    levels = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    wave = dict(zip(levels, (0.1, -0.1, -0.1, 0.1, 0.1, -0.1), strict=True))
    weights = np.array(list(wave.values()))
    assert weights.sum() == pytest.approx(0)
    pair = pair_of(dict.fromkeys(levels, 0.0), wave)
    assert not gap_component(pair, 0.02, 1.645).fired
    c = ece_component(pair, 0.02, 1.645)
    assert c.after == pytest.approx(0.1, abs=0.01)
    assert c.fired


def test_components_use_cluster_robust_errors() -> None:
    """The error of a component over groups is the hand formula over group totals."""
    before, after = two_runs(600, 1, 1.3)
    pair = Paired.of(before, after)
    clusters = np.arange(600) // 6
    grouped = Paired(pair.confidence0, pair.correct0, pair.confidence1, pair.correct1, clusters)
    d = (pair.confidence1 - pair.correct1) - (pair.confidence0 - pair.correct0)
    totals = np.bincount(clusters, weights=d - d.mean())
    expected = math.sqrt(100 / 99 * (totals**2).sum()) / 600
    assert gap_component(grouped, 0.02, 1.6).standard_error == pytest.approx(expected)
    assert grouped.units == 100
    singles = Paired(*(getattr(pair, f) for f in FIELDS), np.arange(600))
    for component in (gap_component, slope_component, ece_component):
        plain, alone = component(pair, 0.02, 1.6), component(singles, 0.02, 1.6)
        assert alone.standard_error == pytest.approx(plain.standard_error, rel=1e-9)
        assert alone.worsening == pytest.approx(plain.worsening, rel=1e-9, abs=1e-12)


FIELDS = ("confidence0", "correct0", "confidence1", "correct1")


def test_groups_named_on_either_side_count() -> None:
    """Where only the baseline knows its groups, they still make the standard error."""
    before, after = two_runs(120, 1)
    grouped = of(before.confidence, before.correct, groups=[i // 4 for i in range(120)])
    assert Paired.of(grouped, after).units == 30
    assert Paired.of(after, grouped).units == 30
    assert Paired.of(before, after).units == 120


def test_pairs_are_compared_as_stored() -> None:
    """Both sides go through float32, so that a stored run equals itself."""
    p = calibrated(100, 1)
    stored = of(p.confidence.astype(np.float32), p.correct)
    pair = Paired.of(stored, p)
    np.testing.assert_array_equal(pair.confidence0, pair.confidence1)


@given(st.floats(-1, 1), st.floats(0, 0.99), st.booleans(), st.booleans())
def test_one_predicate_fires(bound: float, tolerance: float, grew: bool, applies: bool) -> None:
    """A component fires when its bound exceeds the tolerance, it grew, and it applies."""
    c = Component("x", 0, 0, 0, 0, bound, tolerance, grew, "" if applies else "no slope")
    assert c.fired is (bound > tolerance and grew and applies)


def test_a_bound_that_is_no_number_never_fires() -> None:
    """A NaN bound does not fire; whoever decides must raise instead."""
    assert not Component("x", 0, 0, 0, 0, math.nan, 0.02).fired


# --- accuracy -----------------------------------------------------------------------------------


def accuracy_pair(n: int, lost: int, gained: int, both: int = 0) -> Paired:
    """N items of which the candidate lost some, gained some, and both had some right."""
    before = np.zeros(n)
    after = np.zeros(n)
    before[:lost] = 1
    after[lost : lost + gained] = 1
    before[lost + gained : lost + gained + both] = 1
    after[lost + gained : lost + gained + both] = 1
    return Paired(np.full(n, 0.5), before, np.full(n, 0.5), after, None)


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.01])
@pytest.mark.parametrize("n", [1, 5, 10, 24])
def test_exact_bound_has_closed_forms_at_the_ends(n: int, alpha: float) -> None:
    """Clopper-Pearson: 0 of n is 0, n of n is α^(1/n), 1 of n is 1 - (1 - α)^(1/n)."""
    assert binomial_lower_bound(0, n, alpha) == 0
    assert binomial_lower_bound(n, n, alpha) == pytest.approx(alpha ** (1 / n))
    assert binomial_lower_bound(1, n, alpha) == pytest.approx(1 - (1 - alpha) ** (1 / n))


@pytest.mark.parametrize(
    ("k", "n", "published"), [(5, 10, 0.2224), (8, 10, 0.4931), (10, 20, 0.3020), (15, 20, 0.5444)]
)
def test_exact_bound_is_that_of_the_tables(k: int, n: int, published: float) -> None:
    """Lower ends of the 90 % Clopper-Pearson intervals, as tabulated."""
    assert binomial_lower_bound(k, n, 0.05) == pytest.approx(published, abs=6e-5)


@given(st.integers(1, 24), st.data())
def test_exact_bound_is_a_beta_quantile(n: int, data: st.DataObject) -> None:
    """Clopper-Pearson is scipy's beta quantile."""
    stats = pytest.importorskip("scipy.stats")
    k = data.draw(st.integers(1, n))
    expected = stats.beta.ppf(0.05, k, n - k + 1)
    assert binomial_lower_bound(k, n, 0.05) == pytest.approx(expected, rel=1e-7)


@given(st.integers(0, 24), st.data(), st.sampled_from([0.05, 0.01]))
def test_few_discordant_items_are_decided_by_mcnemars_exact_test(
    discordant: int, data: st.DataObject, alpha: float
) -> None:
    """At tolerance 0 the guard fires exactly when the one-sided binomial tail is below α."""
    lost = data.draw(st.integers(0, discordant))
    tail = sum(math.comb(discordant, i) for i in range(lost, discordant + 1)) / 2**discordant
    c = accuracy_component(accuracy_pair(200, lost, discordant - lost), 0.0, alpha)
    assert c.fired is (tail < alpha)
    assert math.isnan(c.standard_error)
    assert c.worsening == pytest.approx((2 * lost - discordant) / 200)


def test_exact_branch_ends_at_25_discordant_items() -> None:
    """24 discordant items take the exact bound, 25 the normal one."""
    assert EXACT_BELOW == 25
    few = accuracy_component(accuracy_pair(400, 20, 4), 0.02, 0.05)
    many = accuracy_component(accuracy_pair(400, 20, 5), 0.02, 0.05)
    share = binomial_lower_bound(20, 24, 0.05)
    assert few.bound == pytest.approx(24 * (2 * share - 1) / 400)
    loss = np.array([1] * 20 + [-1] * 5 + [0] * 375)
    error = loss.std(ddof=1) / 20
    assert many.standard_error == pytest.approx(error)
    assert many.bound == pytest.approx(15 / 400 - 1.6448536 * error)


def test_the_two_branches_meet() -> None:
    """Just below 25 discordant of 1000 items the exact bound is within 0.004 of the normal one."""
    for lost in range(14, 25):
        exact_bound = accuracy_component(accuracy_pair(1000, lost, 24 - lost), 0.02, 0.05).bound
        loss = np.array([1] * lost + [-1] * (24 - lost) + [0] * (1000 - 24))
        normal = loss.mean() - 1.645 * loss.std(ddof=1) / math.sqrt(1000)
        assert exact_bound == pytest.approx(normal, abs=0.004)


def test_no_discordant_item_is_no_loss() -> None:
    """Same outcomes item by item: the bound of the loss is 0."""
    c = accuracy_component(accuracy_pair(100, 0, 0, both=60), 0.0, 0.05)
    assert c.bound == 0
    assert not c.fired


def test_grouped_items_take_the_clustered_bound() -> None:
    """With groups even few discordant items take the cluster-robust normal bound."""
    pair = accuracy_pair(120, 10, 0)
    groups = np.arange(120) // 2
    grouped = Paired(*(getattr(pair, f) for f in FIELDS), groups)
    c = accuracy_component(grouped, 0.02, 0.05)
    loss = pair.correct0 - pair.correct1
    totals = np.bincount(groups, weights=loss - loss.mean())
    error = math.sqrt(60 / 59 * (totals**2).sum()) / 120
    assert c.standard_error == pytest.approx(error)
    assert c.bound == pytest.approx(10 / 120 - upper_quantile(0.05, 60) * error)


# --- power --------------------------------------------------------------------------------------


def test_smallest_visible_by_hand() -> None:
    """Tolerance + (z_.95 + z_.80)·largest error = 0.02 + (1.6449 + 0.8416)·0.02."""
    parts = [
        Component("signed gap", 0, 0, 0, 0.01, 0, 0.02),
        Component("cross-fitted ECE", 0, 0, 0, 0.02, 0, 0.02),
        Component("slope", 0, 0, 0, 9.0, 0, 0.02, unavailable="none"),
    ]
    expected = 0.02 + (1.644854 + 0.841621) * 0.02
    assert smallest_visible(parts, 0.02, 0.05, 1000) == pytest.approx(expected, abs=1e-6)


def test_a_shift_of_the_smallest_visible_size_is_seen_in_four_of_five_runs() -> None:
    """A true shift of the gap by tolerance + 2.49 errors fires the component 80 % of the time."""
    rng = np.random.default_rng(1)
    n, tolerance, fired, trials = 1000, 0.02, 0, 600
    z = upper_quantile(0.05, n)
    # Independent outcomes at 0.7: the paired difference has variance 2·0.7·0.3.
    error = math.sqrt(2 * 0.21 / n)
    shift = tolerance + (z + 0.8416) * error
    for _ in range(trials):
        before, after = rng.random((2, n)) < [[0.7], [0.7 - shift]]
        pair = Paired(np.full(n, 0.7), before * 1.0, np.full(n, 0.7), after * 1.0, None)
        fired += gap_component(pair, tolerance, z).fired
    assert fired / trials == pytest.approx(0.80, abs=0.05)


def test_unpaired_visible_is_an_upper_end_of_what_pairing_shows() -> None:
    """Before a candidate is known the promise is no better than what the pair then gives."""
    before, after = two_runs(1000, 2)
    pair = Paired.of(before, after)
    z = upper_quantile(0.05, 1000)
    parts = [f(pair, 0.02, z) for f in (gap_component, slope_component, ece_component)]
    promised = unpaired_visible(before)
    assert smallest_visible(parts, 0.02, 0.05, 1000) <= promised
    four_times = of(np.tile(before.confidence, 4), np.tile(before.correct, 4))
    assert unpaired_visible(four_times) - 0.02 == pytest.approx((promised - 0.02) / 2, rel=0.01)


def test_one_unit_sees_nothing() -> None:
    """A baseline of one item, or one group, can show no worsening below 1."""
    assert unpaired_visible(of([0.5], [True])) == 1.0
    assert unpaired_visible(of([0.5, 0.7], [True, False], groups=["a", "a"])) == 1.0


def test_gap_bound_covers_the_truth() -> None:
    """The one-sided 95 % bound of the gap's shift lies below the true shift 95 % of the time."""
    big = [signed_gap(p) for p in two_runs(400_000, 0, 1.25)]
    truth = big[1] - big[0]
    covered = 0
    for seed in range(400):
        before, after = two_runs(500, seed, 1.25)
        covered += gap_component(Paired.of(before, after), 0.02, 1.645).bound <= truth
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_the_simulated_runs_are_what_the_published_rates_were_measured_on() -> None:
    """The truth follows the beliefs; noisy readings have accuracy .567 and flip 13.5 % of items."""
    p = Predictions.from_logits(*four_way(200_000, 9))
    assert abs(signed_gap(p)) < 3 * standard_error(p.gap)
    before, after = two_runs(200_000, 9)
    assert before.correct.mean() == pytest.approx(0.567, abs=0.004)
    assert (before.correct != after.correct).mean() == pytest.approx(0.135, abs=0.004)
    assert abs(signed_gap(before)) < 3 * standard_error(before.gap)
