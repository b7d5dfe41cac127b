"""The A/A check: its population, its unchanged pairs, its worse candidates, its result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from known_calibration import calibrated, d3, exact, two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.aa import AAResult, AASettings, Rate, aa_check
from pytest_calibration.gate.aa.curve import Curve, fit_curve
from pytest_calibration.gate.aa.unchanged_pairs import (
    RedrawnPairs,
    SwappedPairs,
    UnitSampler,
    logit,
    sigmoid,
)
from pytest_calibration.gate.aa.worse_candidates import worse_candidates
from pytest_calibration.gate.components import FOLDS, Paired, as_stored
from pytest_calibration.gate.decision import Decision, State, decide
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.metrics import cross_fitted_ece, ece
from pytest_calibration.predictions import FloatArray, Predictions, Signature
from pytest_calibration.uncertainty.isotonic import isotonic

of = Predictions.from_confidence
SEEDS = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> np.random.Generator:
    """Return random numbers for a test."""
    return np.random.default_rng(seed)


def check(predictions: Any, other: Any = None, progress: Any = None, **settings: Any) -> AAResult:
    """Run an A/A check with these settings, those of the gate among them."""
    names = vars(Strictness()).keys() & settings.keys()
    strictness = Strictness(**{name: settings.pop(name) for name in names})
    return aa_check(predictions, other, AASettings(strictness=strictness, **settings), progress)


def one_set(predictions: Predictions, changed: float = 0.15, jitter: float = 0.3) -> RedrawnPairs:
    """Return pairs redrawn from one set."""
    return RedrawnPairs(predictions, changed, jitter, generator())


def draws(
    source: RedrawnPairs | SwappedPairs, trials: int, units: int | None = None
) -> list[Paired]:
    """Draw pairs."""
    rng = generator(1)
    return [source.draw(rng, len(source.units) if units is None else units) for _ in range(trials)]


def in_groups(n: int, seed: int, share: float, size: int = 4) -> Predictions:
    """Return calibrated predictions in groups; two outcomes of a group correlate by ``share``.

    An item takes its uniform number from its group with the root of that probability, so a pair
    shares one with probability ``share``; confidences are the same throughout a group.
    """
    rng = generator(seed)
    group = np.repeat(np.arange(n // size), size)
    confidence = rng.uniform(0.3, 0.95, n // size)[group]
    common = rng.random(n) < math.sqrt(share)
    uniform = np.where(common, rng.random(n // size)[group], rng.random(n))
    return of(confidence, uniform < confidence, groups=group)


def as_sides(pair: Paired) -> tuple[Predictions, Predictions]:
    """Return the two sides of a pair as predictions, with ids that fall into the pair's folds."""
    ids = np.arange(len(pair.folds), dtype=np.uint64) * np.uint64(FOLDS)
    ids += pair.folds.astype(np.uint64)
    groups = None if pair.clusters is None else pair.clusters.astype(np.str_)
    return (
        Predictions("aa", pair.confidence0, pair.correct0 == 1, ids, groups=groups),
        Predictions("aa", pair.confidence1, pair.correct1 == 1, ids, groups=groups),
    )


# --- the curve -----------------------------------------------------------------------------------


def test_curve_is_between_the_diagonal_and_the_fit() -> None:
    """Share 0 is the diagonal, share 1 the fit, linear between its points, constant beyond."""
    at, value = np.array([0.4, 0.8]), np.array([0.2, 0.6])
    asked = np.array([0.0, 0.6, 1.0])
    assert Curve(at, value, 0.0)(asked) == pytest.approx(asked)
    assert Curve(at, value, 1.0)(asked) == pytest.approx([0.2, 0.4, 0.6])
    assert Curve(at, value, 0.5)(asked) == pytest.approx([0.1, 0.5, 0.8])


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.6, 0.7])
def test_curve_is_as_miscalibrated_as_the_debiased_estimate(factor: float) -> None:
    """Mean distance of curve from diagonal = cross-fitted ECE, where that is above 0."""
    for seed in range(5):
        predictions = two_runs(1500, seed, factor)[1]
        curve = fit_curve(predictions)
        distance = np.abs(curve(predictions.confidence) - predictions.confidence).mean()
        debiased = max(0.0, cross_fitted_ece(predictions))
        at, value = isotonic(predictions.confidence, predictions.correct.astype(np.float64))
        farthest = np.abs(value - at).mean()
        assert distance == pytest.approx(min(debiased, farthest), abs=1e-12)
        assert distance == pytest.approx(debiased, abs=0.005)


def test_curve_of_what_is_exactly_calibrated_is_the_diagonal() -> None:
    """No miscalibration: the curve is the diagonal, and nothing is divided by 0."""
    predictions = exact()
    assert fit_curve(predictions)(predictions.confidence) == pytest.approx(predictions.confidence)


# --- what is drawn -------------------------------------------------------------------------------


@given(SEEDS, st.integers(2, 40), st.integers(1, 60))
def test_groups_are_drawn_whole(seed: int, groups: int, units: int) -> None:
    """Each draw brings all items of one group, once each, under a label of its own."""
    rng = generator(seed)
    labels = np.concatenate([np.arange(groups), rng.integers(groups, size=3 * groups)])
    predictions = of(rng.random(len(labels)), labels % 2 == 0, groups=labels)
    sampler = UnitSampler(predictions)
    position, draw = sampler.draw(rng, units)
    assert len(sampler) == groups
    assert set(draw) == set(range(units))
    items = sampler.order[position]
    for number in range(units):
        drawn = items[draw == number]
        (label,) = {int(labels[i]) for i in drawn}
        assert sorted(drawn) == np.flatnonzero(labels == label).tolist()


@given(SEEDS, st.integers(2, 50), st.integers(2, 120))
def test_items_are_drawn_with_replacement(seed: int, n: int, units: int) -> None:
    """Without groups a trial has as many items as asked for, whatever there are."""
    predictions = of(np.linspace(0.1, 0.9, n), np.arange(n) % 3 == 0)
    position, draw = UnitSampler(predictions).draw(generator(seed), units)
    assert len(position) == units
    assert draw.tolist() == list(range(units))
    assert set(position) <= set(range(n))


def test_every_unit_is_drawn_equally_often() -> None:
    """Over many draws of small groups, each comes up as often as the others (chi-square)."""
    predictions = of(np.full(10, 0.5), [True] * 10, groups=[0, 0, 1, 2, 2, 2, 3, 3, 3, 3])
    units, rng = UnitSampler(predictions), generator()
    starts = np.concatenate([units.draw(rng, 4)[0] for _ in range(2000)])
    counts = np.array([np.sum(starts == first) for first in units.starts])
    # P(chi-square with 3 degrees of freedom > 16.3) = 0.001
    assert ((counts - 2000) ** 2 / 2000).sum() < 16.3


@given(SEEDS, st.booleans())
def test_copies_of_a_unit_share_the_fold_that_the_gate_gives_it(seed: int, grouped: bool) -> None:
    """The gate must not measure an item on what it learned from a copy of it."""
    rng = generator(seed)
    groups = rng.integers(12, size=60) if grouped else None
    predictions = of(rng.random(60), rng.random(60) < 0.5, groups=groups)
    units = UnitSampler(predictions)
    gates = Paired.of(predictions, predictions).folds
    assert units.folds.tolist() == gates[units.order].tolist()
    pair = one_set(predictions).draw(rng, 30)
    assert set(pair.folds) <= set(gates)


@given(SEEDS, st.booleans())
def test_order_of_items_and_labels_of_groups_change_nothing(seed: int, grouped: bool) -> None:
    """The same items in another order, their groups renamed, give the very same pairs."""
    rng = generator(seed)
    ids, groups = [f"item {i}" for i in range(80)], rng.integers(20, size=80)
    confidence, correct = rng.random(80), rng.random(80) < 0.6
    order, names = rng.permutation(80), rng.permutation(20)
    first = of(confidence, correct, item_ids=ids, groups=groups if grouped else None)
    second = of(
        confidence[order],
        correct[order],
        item_ids=[ids[i] for i in order],
        groups=names[groups][order] if grouped else None,
    )
    for one, other in zip(draws(one_set(first), 3), draws(one_set(second), 3), strict=True):
        for name in ("confidence0", "correct0", "confidence1", "correct1", "folds"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-7)


# --- one set -------------------------------------------------------------------------------------


def z_score(values: FloatArray) -> float:
    """How many standard errors a mean lies from 0."""
    return float(values.mean() / (values.std(ddof=1) / math.sqrt(len(values))))


@pytest.mark.parametrize("grouped", [False, True], ids=["items", "groups"])
def test_two_sides_of_one_set_are_exchangeable(grouped: bool) -> None:
    """Neither confidence, accuracy nor gap tells the baseline from the candidate."""
    predictions = in_groups(600, 1, 0.4) if grouped else two_runs(600, 1, 1.3)[1]
    pairs = draws(one_set(predictions), 300)
    for side in ("confidence", "correct", "gap"):
        difference = [
            (getattr(p, f"{side}1") - getattr(p, f"{side}0")).mean() for p in pairs
        ]  # fmt: skip
        assert abs(z_score(np.array(difference))) < 3.5


@pytest.mark.parametrize("factor", [1.0, 1.5, 0.7])
def test_outcomes_follow_the_curve_on_both_sides(factor: float) -> None:
    """P(correct | confidence) of each side is the curve: below, between and above."""
    source = one_set(two_runs(1000, 2, factor)[1])
    pairs = draws(source, 100)
    for side in "01":
        confidence = np.concatenate([getattr(p, f"confidence{side}") for p in pairs])
        residual = np.concatenate([getattr(p, f"correct{side}") for p in pairs])
        residual = residual - source.curve(confidence)
        for part in np.array_split(np.argsort(confidence), 8):
            assert abs(z_score(residual[part])) < 4


@pytest.mark.parametrize("changed", [0.08, 0.15, 0.3])
def test_outcomes_differ_as_often_as_asked(changed: float) -> None:
    """The share of items that only one side answers rightly is the one asked for."""
    source = one_set(calibrated(1000, 3), changed)
    assert source.changed == pytest.approx(changed, abs=1e-3)
    seen = np.mean([np.mean(p.correct0 != p.correct1) for p in draws(source, 100)])
    # 100 000 items and 20 000 points of the population: standard error below 0.004.
    assert seen == pytest.approx(changed, abs=0.012)


def test_outcomes_differ_as_far_as_confidences_allow() -> None:
    """A share that cannot be had is met as near as can be: outcomes as like, or independent."""
    predictions = exact({0.9: 0.0}, each=1000)
    assert one_set(predictions, 1.0).changed == pytest.approx(2 * 0.9 * 0.1, abs=0.01)
    assert one_set(predictions, 0.0).changed == 0.0


@pytest.mark.parametrize("jitter", [0.0, 0.2, 0.5])
def test_jitter_is_noise_between_two_readings_of_the_same_spread(jitter: float) -> None:
    """Logits of the two sides differ by noise of jitter·√2; each side is spread as the data are."""
    predictions = calibrated(4000, 4)
    (pair,) = draws(one_set(predictions, jitter=jitter), 1)
    side0, side1 = logit(pair.confidence0), logit(pair.confidence1)
    assert (side1 - side0).std() == pytest.approx(jitter * math.sqrt(2), rel=0.05, abs=1e-6)
    assert (side1 - side0).mean() == pytest.approx(0, abs=0.05)
    spread = logit(predictions.confidence)
    for side in (side0, side1):
        assert side.mean() == pytest.approx(spread.mean(), abs=0.06)
        assert side.std() == pytest.approx(spread.std(), rel=0.05)


def test_noise_is_no_more_than_the_spread_there_is() -> None:
    """Confidences close together stay so: two readings are then unlike, not wider."""
    confidence = 0.7 + 0.02 * np.sin(np.arange(1000))
    (pair,) = draws(one_set(of(confidence, np.arange(1000) % 10 < 7)), 1)
    assert pair.confidence0.std() == pytest.approx(confidence.std(), rel=0.1)
    assert abs(np.corrcoef(pair.confidence0, pair.confidence1)[0, 1]) < 0.15


def test_confidences_of_a_grid_stay_on_it() -> None:
    """Verbal confidences, multiples of 0.05, are as coarse in every pair."""
    confidence, correct = d3()
    (pair,) = draws(one_set(of(confidence, correct)), 1)
    grid = np.unique(confidence).astype(np.float32).astype(np.float64)
    for side in (pair.confidence0, pair.confidence1):
        assert np.isin(side, grid).all()
    assert np.mean(pair.confidence0 != pair.confidence1) > 0.05


def test_certainty_stays_certain() -> None:
    """A confidence of exactly 0 or 1 has no logit to jitter, and stays."""
    rng = generator()
    confidence = np.where(rng.random(400) < 0.3, np.round(rng.random(400)), rng.random(400))
    (pair,) = draws(one_set(of(confidence, rng.random(400) < confidence)), 1)
    certain0, certain1 = (np.isin(c, (0, 1)) for c in (pair.confidence0, pair.confidence1))
    assert 50 < certain0.sum() < 200
    assert (certain0 == certain1).all()
    assert (pair.confidence0[certain0] == pair.confidence1[certain0]).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_outcomes_of_a_group_go_together_as_in_the_data(share: float) -> None:
    """The correlation within groups is found, and each side of a pair has it."""
    predictions = in_groups(4000, 6, share)
    source = one_set(predictions)
    assert source.within_groups == pytest.approx(share, abs=0.06)
    totals, singles = [], []
    for pair in draws(source, 40):
        assert pair.clusters is not None
        expected = source.curve(pair.confidence1)
        residual = (pair.correct1 - expected) / np.sqrt(expected * (1 - expected))
        totals.append(np.mean(np.bincount(pair.clusters, weights=residual) ** 2))
        singles.append(np.mean(residual**2))
    # Four items a group: variance of a total = 4 + 4·3·r in units of one.
    correlation = (np.mean(totals) / np.mean(singles) - 4) / 12
    assert correlation == pytest.approx(source.within_groups, abs=0.04)


def test_groups_of_one_item_are_items() -> None:
    """Where every group has one item, there is nothing to go together."""
    source = one_set(of([0.2, 0.6, 0.9], [False, True, True], groups=["a", "b", "c"]))
    assert source.within_groups == 0.0


# --- two sets ------------------------------------------------------------------------------------


@given(SEEDS, st.booleans())
def test_two_sets_change_places_unit_by_unit(seed: int, grouped: bool) -> None:
    """Each unit drawn has one set's reading on one side and the other's on the other, whole."""
    rng = generator(seed)
    n = 60
    groups = np.sort(rng.integers(15, size=n)) if grouped else None
    # Even steps here, odd steps there: a confidence says which set and which item it comes from.
    first = of(np.arange(0, 2 * n, 2) / 256, rng.random(n) < 0.5, groups=groups)
    second = of(np.arange(1, 2 * n, 2) / 256, rng.random(n) < 0.5, groups=groups)
    source = SwappedPairs(first, second)
    pair = source.draw(rng, len(source.units))
    step0, step1 = (np.rint(c * 256).astype(int) for c in (pair.confidence0, pair.confidence1))
    assert (step0 // 2 == step1 // 2).all()
    assert (step0 % 2 != step1 % 2).all()
    for step, correct in ((step0, pair.correct0), (step1, pair.correct1)):
        known = np.where(step % 2, second.correct[step // 2], first.correct[step // 2])
        assert (correct == known).all()
    if pair.clusters is not None:
        for number in range(len(source.units)):
            assert len({*(step0[pair.clusters == number] % 2)}) == 1


def test_two_sets_swap_half_of_the_time() -> None:
    """Either reading is the baseline in half of the draws, though one is surer throughout."""
    first, second = of(np.full(300, 0.5), [True] * 300), of(np.full(300, 0.75), [True] * 300)
    pairs = draws(SwappedPairs(first, second), 100)
    share = np.mean([np.mean(p.confidence0 == 0.75) for p in pairs])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(30_000))


def test_two_sets_know_how_much_they_differ() -> None:
    """The share of answers that only one set has right is counted; the curve is of both."""
    first, second = exact({0.6: 0.2}, each=100), exact({0.6: 0.0}, each=100)
    source = SwappedPairs(first, second)
    assert source.changed == pytest.approx(0.2)
    assert source.curve.value == pytest.approx([0.5])
    assert source.within_groups is None


def test_the_population_of_two_sets_is_the_data() -> None:
    """Accuracy and mean confidence are those of both sets; the curve is their isotonic fit."""
    first, second = two_runs(500, 7, 1.4)
    source = SwappedPairs(first, second)
    confidence = np.concatenate([first.confidence, second.confidence])
    assert source.population.mean() == pytest.approx(confidence.mean(), abs=1e-3)
    accuracy = (first.correct.mean() + second.correct.mean()) / 2
    assert source.curve(source.population).mean() == pytest.approx(accuracy, abs=1e-3)
    correct = np.concatenate([first.correct, second.correct]).astype(np.float64)
    at, value = isotonic(confidence, correct)
    assert source.curve(at) == pytest.approx(value)


# --- candidates that are worse -------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_worse_candidates_are_worse_by_what_was_asked(factor: float) -> None:
    """On two million outcomes of the population, 50 bins find ECE grown by what was asked."""
    source = one_set(two_runs(1500, 8, factor)[1])
    truth = source.curve(source.population)
    rng = generator(9)
    many = np.tile(source.population, 100)
    correct = rng.random(len(many)) < np.tile(truth, 100)

    def ece_of(confidence: FloatArray) -> float:
        return cross_fitted_ece(of(confidence, correct), 50, "equal_mass")

    before = ece_of(many)
    candidates = list(worse_candidates(source.population, truth, (0.03, 0.08)))
    assert [(one.kind, one.worsening) for one in candidates] == [
        ("sharpened", 0.03), ("sharpened", 0.08), ("flattened", 0.03), ("flattened", 0.08),
    ]  # fmt: skip
    for one in candidates:
        assert one.change is not None
        assert ece_of(one.change(many)) - before == pytest.approx(one.worsening, abs=0.003)


def test_changes_keep_order_and_flattening_keeps_the_mean() -> None:
    """Both kinds rise with the confidence and stay in [0, 1]; flattened ones keep their mean."""
    source = one_set(calibrated(1000, 10))
    c = np.sort(source.population)
    for one in worse_candidates(c, source.curve(c), (0.02, 0.05, 0.1)):
        assert one.change is not None
        changed = one.change(c)
        assert (np.diff(changed) >= 0).all()
        assert changed.min() >= 0
        assert changed.max() <= 1
        if one.kind == "flattened":
            assert changed.mean() == pytest.approx(c.mean(), abs=1e-12)
            assert changed - c.mean() == pytest.approx(one.setting * (c - c.mean()))
        else:
            assert one.setting > 1
            assert np.mean(changed > c) > 0.97


def test_sharpening_two_classes_is_a_temperature() -> None:
    """Where the lowest confidence is 1/2, the logit is multiplied: softmax at 1 / factor."""
    c = np.linspace(0.5, 0.95, 1001)
    (one,) = (w for w in worse_candidates(c, c, (0.05,)) if w.kind == "sharpened")
    assert one.change is not None
    # The pivot is the 1 % quantile, at most 1/2.
    pivot = min(0.0, float(logit(np.quantile(c, 0.01))))
    assert pivot == 0.0
    assert one.change(c) == pytest.approx(sigmoid(one.setting * logit(c)))


@pytest.mark.parametrize(
    ("confidence", "out_of_reach"),
    [(np.ones(100), {"sharpened", "flattened"}), (np.full(100, 0.8), {"flattened"})],
    ids=["certain", "all-alike"],
)
def test_a_worsening_out_of_reach_has_no_change(
    confidence: FloatArray, out_of_reach: set[str]
) -> None:
    """A worsening that a kind cannot make has neither change nor setting, but its largest."""
    candidates = list(worse_candidates(confidence, confidence, (0.1,)))
    assert {one.kind for one in candidates if one.change is None} == out_of_reach
    for one in candidates:
        assert (one.setting is None) == (one.change is None)
        assert (one.largest < 0.1) == (one.change is None)


def test_the_largest_worsening_of_a_kind() -> None:
    """Two calibrated confidences 0.2 and 0.8 can be flattened to their mean: ECE 0.98·0.3."""
    c = np.repeat([0.2, 0.8], 50)
    flattened = [w for w in worse_candidates(c, c, (0.29, 0.3)) if w.kind == "flattened"]
    assert [one.change is None for one in flattened] == [False, True]
    assert flattened[1].largest == pytest.approx(0.98 * 0.3)


# --- the check -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(SEEDS, st.booleans(), st.floats(1, 3), st.sampled_from([None, 0.02, 0.1]))
def test_its_decision_is_the_one_of_compare(
    seed: int, grouped: bool, factor: float, guard: float | None
) -> None:
    """On every pair, changed or not, ``compare`` of the two sides says the same, part by part."""
    predictions = in_groups(600, seed, 0.3) if grouped else calibrated(300, seed)
    pair = one_set(predictions).draw(generator(seed), 120)
    pair = replace(pair, confidence1=as_stored(sigmoid(factor * logit(pair.confidence1))))
    strictness = Strictness(tolerance=0.01, alpha=0.1, accuracy_tolerance=guard)
    decision = decide(pair, strictness)
    baseline, candidate = as_sides(pair)
    verdict = compare(candidate, baseline, **strictness.arguments())
    assert decision.state == verdict.state
    assert decision.false_alarm_rate == pytest.approx(verdict.false_alarm_rate, nan_ok=True)
    for ours, theirs in zip(decision.components, verdict.components, strict=True):
        assert (ours.name, ours.fired) == (theirs.name, theirs.fired)
        assert ours.bound == pytest.approx(theirs.bound, nan_ok=True, abs=1e-12)


def test_counts_are_those_of_the_pairs_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are counted over every pair: with the gate replaced, its decisions come back."""
    seen: list[Paired] = []

    def gate(pair: Paired, strictness: Strictness) -> Decision:
        seen.append(pair)
        changed = len(seen) % 9 != 1  # the first of nine is the pair without change
        state = State.REGRESSED if changed or len(seen) % 27 == 1 else State.INCONCLUSIVE
        return replace(decide(pair, strictness), state=state)

    monkeypatch.setattr("pytest_calibration.gate.aa.trials.decide", gate)
    result = check(calibrated(1000, 1), n=200, trials=9)
    assert len(seen) == 9 * 9
    assert (result.false_alarms.count, result.inconclusive.count) == (3, 6)
    assert [rate and rate.count for _, rate in result.power] == [9] * 8
    # The candidates of a trial are the same pair but for the candidate's confidences.
    for one in seen[1:9]:
        assert (one.correct1 == seen[0].correct1).all()
        assert (one.confidence0 == seen[0].confidence0).all()
        assert (one.confidence1 != seen[0].confidence1).any()


def test_same_input_same_answer() -> None:
    """The seed comes from the ids: same items, same result; another seed, another draw."""
    predictions = calibrated(300, 1)
    first, again = check(predictions, trials=20), check(predictions, trials=20)
    assert first == again
    assert first.seed == int(predictions.items_digest, 16)
    other = check(predictions, trials=20, seed=5)
    assert other.seed == 5
    assert other.power != first.power


def test_global_random_state_is_left_alone() -> None:
    """Nothing is drawn from numpy's global generator."""
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    check(calibrated(100, 1), trials=2)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(("n", "units"), [(None, 100), (40, 10), (2000, 500), (2, 2)])
def test_n_is_what_was_asked(n: int | None, units: int) -> None:
    """A trial has so many items; groups come whole, so many of them as hold that many."""
    sizes = []
    result = check(in_groups(400, 1, 0.2), n=n, trials=3, progress=sizes.append)
    assert (result.n, result.units) == (400 if n is None else n, units)
    assert sizes == [1, 2, 3]


def test_more_items_see_more() -> None:
    """Power grows with n, and what was inconclusive decides."""
    few = check(calibrated(400, 1), n=120, trials=60)
    many = check(calibrated(400, 1), n=1500, trials=60)
    assert few.inconclusive.share > 0.9
    assert many.inconclusive.share == 0
    for (_, small), (_, large) in zip(few.power, many.power, strict=True):
        assert small is not None
        assert large is not None
        assert large.count >= small.count


def test_settings_reach_the_gate() -> None:
    """Tolerance, alpha, accuracy guard and max_undetected are those of the gate."""
    predictions = calibrated(400, 2)
    strict = check(predictions, trials=80, tolerance=0.0, alpha=0.45)
    assert strict.false_alarms.share > 0.04
    assert [candidate.worsening for candidate, _ in strict.power[:4]] == [0.02, 0.035, 0.06, 0.1]
    assert strict.strictness == Strictness(tolerance=0.0, alpha=0.45)
    guarded = check(predictions, trials=80, tolerance=0.5, accuracy_tolerance=0.0, alpha=0.45)
    assert guarded.components["accuracy"].count == guarded.false_alarms.count > 4
    free = check(predictions, trials=80, tolerance=0.5, accuracy_tolerance=None)
    assert free.false_alarms.count == 0
    assert "accuracy" not in free.components
    assert check(predictions, trials=20, max_undetected=0.01).inconclusive.share == 1


def test_a_false_alarm_names_its_components() -> None:
    """Each failure has at least one component, and none fires without a failure."""
    result = check(calibrated(300, 3), trials=100, tolerance=0.0, alpha=0.45)
    counts = [rate.count for rate in result.components.values()]
    assert 0 < max(counts) <= result.false_alarms.count <= sum(counts)


def test_two_sets_are_paired_by_id() -> None:
    """A second set in another order, with items of its own, is compared on the shared part."""
    before, after = two_runs(400, 1)
    names = [f"q{i}" for i in range(400)]
    first = of(after.confidence, after.correct, item_ids=names)
    order = generator().permutation(400)
    second = of(before.confidence[order], before.correct[order], item_ids=[names[i] for i in order])
    whole = check(first, second, trials=10)
    assert whole.two_sets
    assert whole.changed == np.mean(before.correct != after.correct)
    part = check(first, second.take(np.arange(300)), trials=10)
    assert part.n == 300
    straight = of(before.confidence, before.correct, item_ids=names)
    assert check(first, straight, trials=10) == whole


def test_two_sets_take_groups_from_either() -> None:
    """As for the gate, the groups are the candidate's, or the baseline's where it has none."""
    first = in_groups(400, 1, 0.3)
    second = replace(first, groups=None)
    for one, other in ((first, second), (second, first)):
        assert check(one, other, trials=2).units == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "trials must lie between 1 and 1,000,000, got 0."),
        ({"n": 1}, "n must lie between 2 and 1,000,000, got 1."),
        ({"changed": 1.5}, "changed must lie between 0 and 1, got 1.5."),
        ({"changed": math.nan}, "changed must lie between 0 and 1, got nan."),
        ({"jitter": -1}, "jitter must lie between 0 and 10, got -1."),
        ({"excesses": (0.1, -0.02)}, "each of excesses must lie between 0 and 1, got -0.02."),
        ({"seed": -1}, "seed must lie between 0 and 18,446,744,073,709,551,615, got -1."),
        ({"other": calibrated(51, 9)}, "probe 'probabilities' cannot be compared: the probe is "),
    ],
)
def test_a_value_out_of_range_is_one_sentence(arguments: dict[str, Any], message: str) -> None:
    """A value out of range, or a set that cannot be compared, is one sentence with the value."""
    with pytest.raises(MetricError) as problem:
        check(calibrated(50, 1), **arguments)
    assert str(problem.value).startswith(message)
    assert len(str(problem.value).splitlines()) == 1


def test_the_ends_of_a_range_belong_to_it() -> None:
    """What the message names may be given."""
    most = {"n": 10**6, "trials": 10**6, "changed": 1.0, "jitter": 10.0, "seed": 2**64 - 1}
    assert AASettings(**most, excesses=(0.0, 1.0)).trials == 10**6
    assert AASettings(n=2, trials=1, changed=0.0, jitter=0.0, seed=0).n == 2


def test_incomparable_sets_are_refused() -> None:
    """Signatures that differ, or other items, are refused in the words of the gate."""
    first = of([0.5] * 60, [True] * 60, signature=Signature({"shots": "0"}))
    second = of([0.5] * 60, [True] * 60, signature=Signature({"shots": "3"}))
    with pytest.raises(MetricError, match="shots is 0, the other set has 3"):
        check(first, second)
    third = of([0.5] * 60, [True] * 60, item_ids=range(60), signature=Signature({"shots": "0"}))
    with pytest.raises(MetricError, match="the items are not the same: 0 of the 60 items"):
        check(first, third)


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_unit_is_too_few(groups: list[str] | None) -> None:
    """One item, or one group, leaves nothing to draw from."""
    with pytest.raises(MetricError, match="probe 'confidence' has one independent unit"):
        check(of([0.5], [True], groups=groups))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("confidence", "correct"),
    [
        (np.ones(100), np.ones(100)),
        (np.zeros(100), np.zeros(100)),
        (np.arange(100) % 2, np.arange(100) % 3 == 0),
        (np.linspace(0, 1, 100), np.ones(100)),
        (np.linspace(0, 1, 100), np.linspace(1, 0, 100) > 0.5),
        (np.linspace(0, 1e-9, 100), np.arange(100) % 2),
        ([0.3, 0.8], [True, False]),
    ],
    ids=["sure", "hopeless", "all-or-nothing", "right", "inverse", "tiny", "two"],
)
def test_extreme_data_give_numbers(confidence: Any, correct: Any) -> None:
    """Whatever the data, shares are shares, and nothing is divided by 0."""
    result = check(of(confidence, correct), trials=5)
    for number in (result.ece, result.accuracy, result.mean_confidence, result.changed):
        assert 0 <= number <= 1
    assert result.false_alarms.trials == 5
    assert all(rate is None or rate.trials == 5 for _, rate in result.power)


def test_pairs_of_arrays_will_do() -> None:
    """As everywhere, (confidence, correct) stands for predictions."""
    confidence, correct = calibrated(60, 1).confidence, calibrated(60, 1).correct
    assert check((confidence, correct), trials=2) == check(of(confidence, correct), trials=2)


# --- rates ---------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.floats(0, 1))
@example(60, 1.0)
@example(60, 0.0)
def test_interval_of_a_rate_is_wilsons(trials: int, share: float) -> None:
    """The ends are scipy's Wilson interval."""
    stats = pytest.importorskip("scipy.stats")
    rate = Rate(round(share * trials), trials)
    theirs = stats.binomtest(rate.count, trials).proportion_ci(0.95, method="wilson")
    low, high = rate.interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= rate.share <= high <= 1


# --- what it finds -------------------------------------------------------------------------------


def test_calibrated_model_of_1000_items() -> None:
    """With n = 1000, fewer than 2 % fail unchanged; tolerance + 0.1 is caught 95 % of the time."""
    result = check(calibrated(1000, 1))
    assert result.false_alarms.trials == 400
    assert result.false_alarms.share < 0.02
    assert result.inconclusive.share == 0
    assert result.power
    for one, rate in result.power:
        assert rate is not None
        if one.worsening == 0.12:
            assert rate.share > 0.95
    assert result.ece < 0.015
    assert result.accuracy == pytest.approx(calibrated(1000, 1).correct.mean(), abs=0.03)


@pytest.mark.parametrize("n", [200, 1000])
def test_false_alarms_keep_to_the_closed_form(n: int) -> None:
    """The rate that is counted is not above the bound that a verdict states."""
    result = check(calibrated(1000, 2), n=n, trials=1000, excesses=())
    assert result.false_alarms.interval[0] <= result.bound
    assert 0 < result.bound < 0.1
    assert result.power == ()


def test_two_real_runs_that_differ_are_no_false_alarm() -> None:
    """A candidate far worse than its baseline, swapped at random, fails no more than unchanged."""
    before, after = two_runs(1000, 3, 1.5)
    assert compare(after, before).state is State.REGRESSED
    result = check(after, before, trials=500, excesses=())
    assert result.false_alarms.share < 0.02
    both = (ece(before) + ece(after)) / 2
    assert result.ece == pytest.approx(both, abs=0.02)


def test_swapping_the_two_sets_leaves_the_rates() -> None:
    """Which set is named first says nothing: rates agree within their noise."""
    before, after = two_runs(500, 4, 1.2)
    strict: dict[str, Any] = {"trials": 600, "tolerance": 0.0, "alpha": 0.45, "excesses": ()}
    one, two = check(before, after, **strict), check(after, before, **strict)
    # Standard error of the difference: below 0.03.
    assert one.false_alarms.share == pytest.approx(two.false_alarms.share, abs=0.08)
    assert 0.02 < one.false_alarms.share < 0.7


def test_reversed_pairs_fail_as_often() -> None:
    """Candidate and baseline exchanged, the gate fails as many pairs without change."""
    pairs = draws(one_set(two_runs(500, 5, 1.2)[1]), 400)
    strict = Strictness(tolerance=0.0, alpha=0.45)
    ahead = np.mean([decide(p, strict).state is State.REGRESSED for p in pairs])
    back = np.mean([decide(p.reversed(), strict).state is State.REGRESSED for p in pairs])
    assert ahead == pytest.approx(back, abs=0.08)
    assert 0.04 < ahead < 0.7


def test_power_agrees_with_simulated_runs() -> None:
    """What it promises from one run is what new pairs of another making show.

    The pairs come from a simulated four-way model read twice, one outcome in eight changing; their
    candidates are changed as the check says.
    """
    # As many answers change between the two runs as between these.
    changed = float(np.mean([np.mean(p.correct0 != p.correct1) for p in simulated(range(20))]))
    known = two_runs(1000, 100)[0]
    source = RedrawnPairs(known, changed, 0.3, generator())
    truth = source.curve(source.population)
    worse = list(worse_candidates(source.population, truth, (0.055,)))
    result = check(known, trials=400, changed=changed, excesses=(0.035,))
    promised = {candidate.kind: rate for candidate, rate in result.power}
    for one in worse:
        assert one.change is not None
        caught = [
            decide(replace(p, confidence1=one.change(p.confidence1))).state is State.REGRESSED
            for p in simulated(range(1000, 1200))
        ]
        rate = promised[one.kind]
        assert rate is not None
        assert 0.4 < rate.share < 0.99
        assert np.mean(caught) == pytest.approx(rate.share, abs=0.1)


def simulated(seeds: range) -> Iterator[Paired]:
    """Yield pairs of runs of a simulated model."""
    return (Paired.of(*two_runs(1000, seed)) for seed in seeds)


def test_clusters_are_not_taken_for_items() -> None:
    """250 questions asked four times over are 250: fewer false alarms than if they were 1000."""
    once = calibrated(250, 6)
    four = of(
        np.repeat(once.confidence, 4),
        np.repeat(once.correct, 4),
        groups=np.repeat(np.arange(250), 4),
    )
    result = check(four, trials=300, excesses=())
    assert result.units == 250
    assert result.within_groups > 0.9
    assert result.false_alarms.share < 0.05
    # The same pairs, judged as if their items were independent.
    pairs = draws(one_set(four), 300)
    naive = np.mean([decide(replace(p, clusters=None)).state is State.REGRESSED for p in pairs])
    assert naive > 3 * max(result.false_alarms.share, 0.01)
