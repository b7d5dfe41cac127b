"""The components of a comparison against formulas, other programs and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, four_way, two_runs

from pytest_calibration.gate.components import (
    EXACT_BELOW,
    Component,
    Paired,
    accuracy_component,
    calibration_components,
    confident_component,
    ece_component,
    gap_component,
    shape_component,
    slope_component,
)
from pytest_calibration.metrics import ece, signed_gap
from pytest_calibration.predictions import IntArray, Predictions
from pytest_calibration.uncertainty.quantiles import binomial_lower_bound, upper_quantile
from pytest_calibration.uncertainty.standard_errors import standard_error

of = Predictions.from_confidence


def pair_of(
    gaps0: dict[float, float], gaps1: dict[float, float], groups: IntArray | None = None
) -> Paired:
    """Pair two runs with known gaps per confidence."""
    pair = Paired.of(exact(gaps0), exact(gaps1))
    return replace(pair, clusters=groups)


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
    least = math.sqrt(3) / len(d)
    assert c.standard_error == pytest.approx(max(d.std(ddof=1) / math.sqrt(len(d)), least))
    assert c.bound == pytest.approx(c.worsening - 1.645 * c.standard_error)
    if abs(abs(after) - abs(before)) > 1e-6:
        assert c.grew is (abs(after) > abs(before))


def test_a_move_through_zero_to_a_smaller_size_is_no_regression() -> None:
    """From -0.15 to +0.10 the shift is 0.25, and the component does not fire: it got smaller."""
    pair = pair_of(dict.fromkeys(LEVELS, -0.1), dict.fromkeys(LEVELS, 0.05))
    c = gap_component(pair, 0.02, 1.645)
    assert c.bound > 0.1
    assert not c.fired


@pytest.mark.parametrize(
    ("levels", "weights"),
    # 6·(c - 0.7) is 1.2 at the ends, and cut; 10·(c - 0.7) is 1.
    [(LEVELS, (1, 0.6, 0, 0.6, 1)), ((0.6, 0.8), (1, 1))],
)
def test_slope_component_counts_linear_miscalibration_in_ece_units(levels, weights) -> None:
    """A gap of 0.5·(c - mean) has mean 0; the slope is its ECE, but for what is cut at 1."""
    twist = {c: round(0.5 * (c - 0.7), 10) for c in levels}
    pair = pair_of(dict.fromkeys(levels, 0.0), twist)
    c = slope_component(pair, 0.02, 1.645)
    assert c.after == pytest.approx(
        np.dot(np.abs([*twist.values()]), weights) / len(levels), abs=1e-6
    )
    assert c.after <= ece(exact(twist)) + 1e-6
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
    grouped = replace(pair, clusters=clusters)
    d = (pair.confidence1 - pair.correct1) - (pair.confidence0 - pair.correct0)
    totals = np.bincount(clusters, weights=d - d.mean())
    expected = math.sqrt(100 / 99 * (totals**2).sum()) / 600
    assert gap_component(grouped, 0.02, 1.6).standard_error == pytest.approx(expected)
    assert grouped.units == 100
    singles = replace(pair, clusters=np.arange(600))
    for component in (gap_component, slope_component, shape_component, ece_component):
        plain, alone = component(pair, 0.02, 1.6), component(singles, 0.02, 1.6)
        assert alone.standard_error == pytest.approx(plain.standard_error, rel=1e-9)
        assert alone.worsening == pytest.approx(plain.worsening, rel=1e-9, abs=1e-12)


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
    """A NaN bound does not fire; the comparison must raise instead."""
    assert not Component("x", 0, 0, 0, 0, math.nan, 0.02).fired


# --- the learned direction ----------------------------------------------------------------------

FINE = tuple(round(0.30 + 0.05 * i, 2) for i in range(12))
# One period of a bow: over-confident at both ends, under-confident in the middle.
BOW = dict(zip(FINE, (0.1,) * 3 + (-0.1,) * 6 + (0.1,) * 3, strict=True))


def test_shape_sees_a_bow_that_has_neither_mean_nor_tilt() -> None:
    """Gaps of +0.1, -0.1, +0.1 along the confidence: shape fires, and finds most of the ECE."""
    pair = pair_of(dict.fromkeys(FINE, 0.0), BOW)
    assert not gap_component(pair, 0.02, 1.645).fired
    assert not slope_component(pair, 0.02, 1.645).fired
    c = shape_component(pair, 0.02, 1.645)
    assert c.fired
    assert c.before == pytest.approx(0.0, abs=0.005)
    assert 0.07 < c.after <= ece(exact(BOW)) + 1e-6


def test_an_error_that_only_changes_sides_is_no_larger_shape() -> None:
    """A bow turned upside down has the same size: each side is measured along its own direction."""
    pair = pair_of(BOW, {c: -gap for c, gap in BOW.items()})
    c = shape_component(pair, 0.02, 1.645)
    assert c.before == pytest.approx(c.after, abs=0.005)
    assert c.before > 0.07
    assert not c.fired


def test_shape_takes_no_noise_for_miscalibration() -> None:
    """Over calibrated models the learned growth is 0 on average; without folds it is not."""
    growth, careless = [], []
    for seed in range(150):
        before, after = two_runs(300, seed)
        pair = Paired.of(before, after)
        growth.append(shape_component(pair, 0.02, 1.645).worsening)
        # The same direction, learned on the items it is measured on: every fold holds all.
        whole = Paired.of(before, after)
        twice = replace(
            whole,
            confidence0=np.tile(whole.confidence0, 10),
            correct0=np.tile(whole.correct0, 10),
            confidence1=np.tile(whole.confidence1, 10),
            correct1=np.tile(whole.correct1, 10),
            folds=np.repeat(np.arange(10), 300),
        )
        careless.append(shape_component(twice, 0.02, 1.645).worsening)
    error = np.std(growth) / math.sqrt(len(growth))
    assert abs(np.mean(growth)) < 3 * error
    assert np.mean(careless) > 4 * error


def test_shape_of_equal_runs_is_nothing() -> None:
    """The same predictions twice: no growth, no failure, the least of errors."""
    before, _ = two_runs(300, 3, 1.5)
    c = shape_component(Paired.of(before, before), 0.0, 1.645)
    assert (c.worsening, c.fired) == (0.0, False)
    assert c.standard_error == pytest.approx(math.sqrt(3) / 300)


def test_shape_needs_units_to_learn_from() -> None:
    """Below 50 independent units, items or groups, the direction is not learned, with a reason.

    The ten bins of the cross-fitted ECE ask for 500.
    """
    before, after = two_runs(49, 1)
    c = shape_component(Paired.of(before, after), 0.02, 1.645)
    assert c.unavailable == "fewer than 50 independent units to learn it from"
    before, after = two_runs(499, 1)
    c = ece_component(Paired.of(before, after), 0.02, 1.645)
    assert c.unavailable == "fewer than 500 independent units for 10 bins"
    grouped = replace(Paired.of(*two_runs(600, 1)), clusters=np.arange(600) // 15)
    assert shape_component(grouped, 0.02, 1.645).unavailable
    assert ece_component(replace(grouped, clusters=None), 0.02, 1.645).unavailable == ""


@given(st.integers(0, 10**6), st.integers(2, 7))
def test_names_and_order_of_groups_change_no_component(seed: int, size: int) -> None:
    """Groups under other names, and items in another order, give the same components."""
    n = 60 * size
    rng = np.random.default_rng(seed)
    before, after = two_runs(n, seed, 1.3)
    group = np.arange(n) // size
    renamed = rng.permutation(60)[group]
    order = rng.permutation(n)

    def components(names: IntArray, rows: IntArray) -> list[Component]:
        first, second = (
            of(p.confidence, p.correct, groups=list(names), item_ids=list(range(n))).take(rows)
            for p in (before, after)
        )
        return list(calibration_components(Paired.of(first, second), 0.02, 1.645))

    straight = components(group, np.arange(n))
    other = components(renamed, order)
    for a, b in zip(straight, other, strict=True):
        assert a.worsening == pytest.approx(b.worsening, abs=1e-9, nan_ok=True)
        assert a.standard_error == pytest.approx(b.standard_error, abs=1e-9, nan_ok=True)


@given(st.integers(0, 10**6))
def test_groups_are_never_torn_between_folds(seed: int) -> None:
    """All items of a group are in one fold: half a document must not teach the other half."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 40, 200)
    p = of(rng.random(200), rng.random(200) < 0.5, groups=list(group))
    folds = Paired.of(p, p).folds
    for g in np.unique(group):
        assert len({*folds[group == g].tolist()}) == 1
    assert folds.min() >= 0
    assert folds.max() <= 9


@given(st.integers(0, 10**6), st.floats(0.5, 2.0))
def test_no_direction_weighs_more_than_one(seed: int, factor: float) -> None:
    """A weighted gap is never larger than the mean absolute gap: |w(c)| ≤ 1."""
    before, after = two_runs(200, seed, factor)
    pair = Paired.of(before, after)
    c = shape_component(pair, 0.02, 1.645)
    assert abs(c.after) <= np.abs(pair.gap1).mean() + 1e-12
    assert abs(c.before) <= np.abs(pair.gap0).mean() + 1e-12


# --- moves through zero -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "fails"),
    [
        (-0.05, 0.055, False),  # changed sides, hardly larger
        (-0.05, 0.08, True),  # changed sides, and larger by more than the tolerance
        (0.05, -0.055, False),
        (0.05, -0.08, True),
        (-0.05, -0.055, False),  # same side: the growth itself is below the tolerance
        (0.0, 0.055, True),
    ],
)
def test_a_move_through_zero_must_grow_by_the_tolerance(
    before: float, after: float, fails: bool
) -> None:
    """From an established error to one on the other side, the size must grow by the tolerance."""
    levels = dict.fromkeys(LEVELS, before), dict.fromkeys(LEVELS, after)
    c = gap_component(Paired.of(exact(levels[0], 4000), exact(levels[1], 4000)), 0.02, 1.645)
    assert c.worsening == pytest.approx(
        abs(after) - abs(before) if before * after >= 0 else abs(after - before), abs=1e-6
    )
    assert c.fired is fails


def test_noise_about_zero_is_no_established_error() -> None:
    """At 2 standard errors below zero it may be calibrated; at 2.5 it is established to err."""
    n = 2000

    def side(confidence: float, right: int) -> Predictions:
        return of([confidence] * n, [i < right for i in range(n)])

    error = math.sqrt(0.7 * 0.3 / n)
    for sigmas, fires in ((2.0, True), (2.5, False)):
        # The candidate errs a little more to the other side than the baseline did to this one.
        before = side(0.7, round((0.7 + sigmas * error) * n))
        after = side(0.7, round((0.7 - sigmas * error - 0.015) * n))
        c = gap_component(Paired.of(before, after), 0.02, 1.645)
        assert c.bound > 0.02
        assert c.fired is fires


def accuracy_pair(n: int, lost: int, gained: int, both: int = 0) -> Paired:
    """N items of which the candidate lost some, gained some, and both had some right."""
    before = np.zeros(n)
    after = np.zeros(n)
    before[:lost] = 1
    after[lost : lost + gained] = 1
    before[lost + gained : lost + gained + both] = 1
    after[lost + gained : lost + gained + both] = 1
    return Paired(np.full(n, 0.5), before, np.full(n, 0.5), after, None, np.arange(n) % 10)


@given(st.integers(0, 24), st.data(), st.sampled_from([0.05, 0.01]))
def test_few_discordant_items_are_decided_by_mcnemars_exact_test(
    discordant: int, data: st.DataObject, alpha: float
) -> None:
    """At tolerance 0 the guard fires exactly when the one-sided binomial tail is below α."""
    lost = data.draw(st.integers(0, discordant))
    tail = sum(math.comb(discordant, i) for i in range(lost, discordant + 1)) / 2**discordant
    c = accuracy_component(accuracy_pair(200, lost, discordant - lost), 0.0, alpha)
    assert c.fired is (tail < alpha)
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
    grouped = replace(pair, clusters=groups)
    c = accuracy_component(grouped, 0.02, 0.05)
    loss = pair.correct0 - pair.correct1
    totals = np.bincount(groups, weights=loss - loss.mean())
    error = math.sqrt(60 / 59 * (totals**2).sum()) / 120
    assert c.standard_error == pytest.approx(error)
    assert c.bound == pytest.approx(10 / 120 - upper_quantile(0.05, 60) * error)


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


@pytest.mark.parametrize(
    "component", [gap_component, slope_component, shape_component, ece_component]
)
def test_what_did_not_vary_is_not_certain(component: Any) -> None:
    """Where no answer changed three in n still may: the error is at least sqrt(3) / n."""
    n = 600
    confidence = np.linspace(0.9, 0.98, n)
    before = of(confidence, np.ones(n, bool))
    after = of(confidence + 0.001, np.ones(n, bool))
    c = component(Paired.of(before, after), 0.02, 1.645)
    assert c.standard_error == pytest.approx(math.sqrt(3) / n, rel=1e-6)
    assert c.bound == pytest.approx(c.worsening - 1.645 * math.sqrt(3) / n, abs=1e-9)


# --- the confident answers ----------------------------------------------------------------------


def _with_tail(right0: int, right1: int, n: int = 100, groups: bool = False) -> Paired:
    """900 items below 0.9 that stay, and n at 0.97 of which so many are right."""
    low = np.repeat([0.5, 0.8], 450)
    right_low = np.concatenate([np.arange(450) < 225, np.arange(450) < 360])
    sides = [
        of(
            np.concatenate([low, np.full(n, 0.97)]),
            np.concatenate([right_low, np.arange(n) < right]),
            groups=[f"g{i // 2}" for i in range(900 + n)] if groups else None,
        )
        for right in (right0, right1)
    ]
    return Paired.of(*sides)


@pytest.mark.parametrize("groups", [False, True], ids=["items", "groups"])
def test_the_confident_answers_are_compared_in_units_of_their_own(groups: bool) -> None:
    """Of 100 answers at 0.97, 97 and then 82 right: the gap grows by 0.15, ECE by 0.015."""
    pair = _with_tail(97, 82, groups=groups)
    c = confident_component(pair, 0.02, 1.645, 0.9)
    assert (c.before, c.after, c.worsening) == pytest.approx((0.0, 0.15, 0.15), abs=1e-6)
    assert (c.n, c.above, c.among) == (100, 0.9, "of the 100 answers above 0.9")
    changed = np.zeros(1000)
    changed[982:997] = 10 * (1 - 0.15)
    changed[900:982] = changed[997:] = -10 * 0.15
    clusters = np.arange(1000) // 2 if groups else None
    assert c.standard_error == pytest.approx(standard_error(changed, clusters), rel=1e-6)
    assert c.fired


@pytest.mark.parametrize(
    ("right0", "right1", "fires"),
    # A gap that shrinks, one that moves through zero without being established, one that is.
    [(82, 97, False), (95, 100, False), (97, 97, False), (97, 70, True)],
)
def test_only_a_gap_that_grew_fires(right0: int, right1: int, fires: bool) -> None:
    """All right at 0.97 is what a calibrated model shows now and then."""
    assert confident_component(_with_tail(right0, right1), 0.02, 1.645, 0.9).fired is fires


def test_few_confident_answers_say_nothing() -> None:
    """From 50 a side on; the text says above which confidence."""
    c = confident_component(_with_tail(48, 30, n=49), 0.02, 1.645, 0.9)
    assert c.unavailable == "fewer than 50 independent units with confidence above 0.9"
    assert not c.fired
    assert not confident_component(_with_tail(49, 49, n=50), 0.02, 1.645, 0.9).unavailable


def test_a_move_through_zero_needs_a_candidate_that_surely_errs() -> None:
    """A calibrated model is drawn on either side: from -0.005 to +0.03 on 1,000 items is no error.

    With a hundred times the items it is.
    """
    for times, grew in ((1, False), (100, True)):
        confidence = np.full(1000 * times, 0.5)
        sides = [of(confidence, np.arange(1000 * times) < right * times) for right in (505, 470)]
        c = gap_component(Paired.of(*sides), 0.02, 1.645)
        assert (c.before, c.after) == pytest.approx((-0.005, 0.03))
        assert (c.grew, c.bound > 0.02) == (grew, True)
        # It is not passed either: on so few items it may err by more than before, or by less.
        assert (c.undecided, c.changed_sides, c.fired) == (not grew, False, grew)


def test_groups_of_unequal_size_count_for_fewer() -> None:
    """One group of 300 and 700 alone: 1000² / (300² + 700) equal units, 11."""
    groups = ["large"] * 300 + [str(i) for i in range(700)]
    side = of(np.full(1000, 0.5), np.arange(1000) % 2 == 0, groups=groups)
    pair = Paired.of(side, side)
    assert (pair.units, pair.equal_units) == (701, 11)
