"""Verdicts: which state, by which component, on which numbers, and what the text says."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, four_way, two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import Setting
from pytest_calibration.gate.verdict import Difference, Verdict, align, compare, direction, judge
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.predictions import Predictions, Signature

of = Predictions.from_confidence
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
CALIBRATED = exact()


def lines(verdict: Verdict) -> list[str]:
    """The lines of the explanation, without indent."""
    return [line.strip() for line in verdict.explain().splitlines()]


def fired(verdict: Verdict) -> list[str]:
    """Names of the components that fired."""
    return [c.name for c in verdict.components if c.fired]


def component(verdict: Verdict, name: str) -> Component:
    """The component of this name."""
    return next(c for c in verdict.components if c.name == name)


# --- states -------------------------------------------------------------------------------------


def test_equal_runs_pass_even_without_tolerance() -> None:
    """A run compared with itself passes at tolerance 0; three changed answers could be missed."""
    v = compare(CALIBRATED, CALIBRATED, tolerance=0, accuracy_tolerance=0)
    assert v.state is State.PASSED
    assert v.difference == 0
    assert 0 < v.smallest_visible < 5 * math.sqrt(3) / 2000
    assert not v.improved
    assert not fired(v)


@pytest.mark.parametrize("gap", [0.1, -0.1], ids=["over-confident", "under-confident"])
def test_a_shift_of_the_gap_regresses(gap: float) -> None:
    """All confidences 0.1 off, in either direction: the signed gap fires and is named."""
    candidate = exact(dict.fromkeys(LEVELS, gap))
    v = compare(candidate, CALIBRATED, accuracy_tolerance=None)
    assert v.state is State.REGRESSED
    assert "signed gap" in fired(v)
    assert component(v, "signed gap").worsening == pytest.approx(0.1, abs=1e-6)
    text = lines(v)
    assert text[0] == "calibration regressed: probe exact"
    change = f"(0.000 -> {gap:.3f})"
    assert any(t.startswith(f"signed gap worsened by 0.100 {change}; at least 0.0") for t in text)
    word = "over-confident" if gap > 0 else "under-confident"
    accuracy = 0.7 - gap
    assert f"{word} by 0.100 (mean confidence 0.700, accuracy {accuracy:.3f})" in text


def test_a_twist_regresses_by_its_slope() -> None:
    """Shape distorted at an unchanged mean: the slope fires, the signed gap does not."""
    v = compare(exact({c: round(c - 0.7, 10) for c in LEVELS}), CALIBRATED)
    assert v.state is State.REGRESSED
    assert "slope" in fired(v)
    assert "signed gap" not in fired(v)
    assert "accuracy" not in fired(v)


def test_what_gap_and_slope_miss_regresses_by_the_cross_fitted_ece() -> None:
    """Gaps of alternating sign, without mean or slope, fire the cross-fitted ECE alone."""
    levels = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    wave = dict(zip(levels, (0.1, -0.1, -0.1, 0.1, 0.1, -0.1), strict=True))
    v = compare(exact(wave), exact(dict.fromkeys(levels, 0.0)))
    assert v.state is State.REGRESSED
    assert "cross-fitted ECE" in fired(v)
    assert "signed gap" not in fired(v)
    assert "accuracy" not in fired(v)


def test_better_than_the_baseline_passes_and_says_so() -> None:
    """From a gap of 0.1 to none: passed and improved; only a stored baseline may be accepted."""
    worse = exact(dict.fromkeys(LEVELS, 0.1))
    v = compare(CALIBRATED, worse, against="baseline")
    assert v.state is State.PASSED
    assert v.improved
    assert "better than the baseline beyond the tolerance; it may be accepted" in lines(v)
    other = compare(CALIBRATED, worse, against="parent", reference="parent base")
    assert "better than the parent base beyond the tolerance" in lines(other)
    assert not compare(worse, worse).improved


def test_a_difference_within_the_tolerance_passes() -> None:
    """A gap of 0.05 on 8000 items passes at tolerance 0.06 and regresses at 0.02."""
    before = exact(each=1600)
    after = exact(dict.fromkeys(LEVELS, 0.05), each=1600)
    assert compare(after, before, tolerance=0.06, accuracy_tolerance=None).state is State.PASSED
    v = compare(after, before, tolerance=0.02, accuracy_tolerance=None)
    assert v.state is State.REGRESSED


def test_each_side_of_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict turns exactly at the bound: tolerance = bound passes, a hair below fails."""
    candidate = exact(dict.fromkeys(LEVELS, 0.1))
    bound = compare(candidate, CALIBRATED, accuracy_tolerance=None).bound
    settings: dict[str, Any] = {"accuracy_tolerance": None, "max_undetected": 0.9}
    at = compare(candidate, CALIBRATED, tolerance=bound, **settings)
    assert at.state is State.PASSED
    below = compare(candidate, CALIBRATED, tolerance=math.nextafter(bound, 0), **settings)
    assert below.state is State.REGRESSED


# --- too little to decide -----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "few"), [(49, True), (50, False)])
def test_below_fifty_items_nothing_is_decided(n: int, few: bool) -> None:
    """49 items are inconclusive whatever they show, 50 are compared."""
    before, after = of([0.9] * n, [True] * n), of([0.9] * n, [False] * n)
    v = compare(after, before)
    assert (v.state is State.INCONCLUSIVE) is few
    if few:
        assert v.reason == "49 items are too few to compare; at least 50 are."
        assert v.n_needed == 50
        assert "about 50 items would decide it" in lines(v)
    else:
        assert v.state is State.REGRESSED


def test_below_fifty_groups_nothing_is_decided() -> None:
    """1000 items in 25 groups are inconclusive, and 2000 of their kind would decide."""
    groups = [i // 40 for i in range(1000)]
    before = of([0.9] * 1000, [True] * 1000, groups=groups)
    after = of([0.9] * 1000, [False] * 1000, groups=groups)
    v = compare(after, before)
    assert v.state is State.INCONCLUSIVE
    assert v.units == 25
    assert v.reason == "25 groups are too few to compare; at least 50 are."
    assert v.n_needed == 2000


def test_accuracy_is_no_part_of_what_could_have_been_missed() -> None:
    """The smallest visible worsening is of calibration, also where accuracy is the noisier."""
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(2):
        correct = rng.random(2000) < 0.5
        runs.append(of(np.where(correct, 0.6, 0.4), correct))
    v = compare(*runs, accuracy_tolerance=0.5)
    error = component(v, "signed gap").standard_error
    assert error < 0.9 * component(v, "accuracy").standard_error
    assert v.smallest_visible == pytest.approx(0.02 + (1.644854 + 0.841621) * error, abs=1e-6)


def test_what_could_have_been_missed_is_inconclusive() -> None:
    """Where a worsening of tolerance + 0.05 could hide, nothing is decided; the n is named."""
    before, after = two_runs(300, 1)
    v = compare(after, before)
    assert v.state is State.INCONCLUSIVE
    widest = max(c.standard_error for c in v.components if c.name in ("signed gap", "slope"))
    z = NormalDist().inv_cdf(v.level)
    assert v.level > 0.95
    assert v.smallest_visible == pytest.approx(0.02 + (z + 0.841621) * widest, abs=1e-6)
    assert v.smallest_visible > 0.07
    # With more items the bounds need be less strict, so fewer do than the root alone would ask.
    assert 300 < v.n_needed <= math.ceil(300 * ((v.smallest_visible - 0.02) / 0.05) ** 2)
    assert v.reason == (
        f"a shift of up to {v.smallest_visible:.3f} could have been missed (80 % power), "
        "more than the 0.070 that may be."
    )
    assert compare(after, before, max_undetected=0.2).state is State.PASSED


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 6])
def test_the_n_it_names_decides(seed: int) -> None:
    """Copies of the items decide once there are as many as an inconclusive verdict names."""
    before, after = two_runs(150, seed)
    needed = compare(after, before).n_needed
    assert needed > 150
    for copies in (needed // 150, needed // 150 + 1):
        rows = np.tile(np.arange(150), copies)
        v = compare(*(of(p.confidence[rows], p.correct[rows]) for p in (after, before)))
        # Student's quantile below 200 items makes the first estimate a little too large.
        if abs(copies * 150 - needed) > 0.05 * needed:
            assert (v.state is State.INCONCLUSIVE) is (copies * 150 < needed)


def test_nothing_allowed_to_hide_is_never_decided() -> None:
    """With max_undetected 0 a comparison with any noise is inconclusive, and names no n."""
    before, after = two_runs(300, 1)
    v = compare(after, before, max_undetected=0)
    assert v.state is State.INCONCLUSIVE
    assert v.n_needed == 0
    assert "would decide it" not in v.explain()


def test_a_regression_that_is_seen_needs_no_power() -> None:
    """What fires is a regression even where smaller ones could hide."""
    v = compare(*reversed(two_runs(300, 1, 3.0)))
    assert v.state is State.REGRESSED
    assert v.smallest_visible > 0.07


# --- components that do not apply, or are no numbers --------------------------------------------


def test_equal_confidences_have_no_slope_and_the_text_says_so() -> None:
    """With one confidence everywhere the slope is named as not applicable; the rest decides."""
    v = compare(exact({0.7: 0.0}, each=2000), exact({0.7: 0.0}, each=2000))
    assert v.state is State.PASSED
    (row,) = [t for t in lines(v) if t.startswith("slope")]
    assert re.sub(r"\s+", " ", row) == (
        "slope not applicable: all confidences are equal, so there is no slope"
    )
    worse = compare(exact({0.7: 0.1}, each=2000), exact({0.7: 0.0}, each=2000))
    assert worse.state is State.REGRESSED
    assert "slope" not in fired(worse)


@pytest.mark.parametrize("name", ["gap", "slope", "shape", "ece"])
def test_a_component_that_is_nan_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN in a component gives no verdict, and the error names it, the probe and n."""
    broken = Component("signed gap", 0, 0, math.nan, math.nan, math.nan, 0.02)
    monkeypatch.setattr(f"pytest_calibration.gate.components.{name}_component", lambda *_: broken)
    with pytest.raises(
        MetricError, match="the signed gap of probe 'exact' is NaN on 2000 items; no verdict"
    ):
        compare(CALIBRATED, CALIBRATED)


# --- the accuracy guard -------------------------------------------------------------------------


def guesser(n: int = 2000) -> Predictions:
    """Answers one of four at random and says so: confidence 0.25, accuracy 0.25, ECE 0."""
    return of([0.25] * n, [i % 4 == 0 for i in range(n)], probe="exact")


def test_a_model_that_guesses_fails_as_accuracy() -> None:
    """ECE 0 by guessing is no improvement: the guard fires, and is called accuracy."""
    v = compare(guesser(), CALIBRATED)
    assert v.measurement.value == pytest.approx(0, abs=1e-12)
    assert v.state is State.REGRESSED
    assert fired(v) == ["accuracy"]
    text = lines(v)
    assert text[0] == "accuracy regressed: probe exact"
    assert text[1].startswith("accuracy fell by 0.450 (0.700 -> 0.250); at least 0.4")
    assert "calibration regressed" not in v.explain()
    assert compare(guesser(), CALIBRATED, accuracy_tolerance=None).state is State.PASSED


def test_accuracy_is_named_beside_calibration_where_both_fall() -> None:
    """When calibration and accuracy both fire, the headline is calibration and both are named."""
    v = compare(exact(dict.fromkeys(LEVELS, 0.2)), CALIBRATED)
    assert {"signed gap", "accuracy"} <= set(fired(v))
    assert lines(v)[0].startswith("calibration regressed")
    assert any(t.startswith("accuracy fell by 0.200 (0.700 -> 0.500)") for t in lines(v))


def test_few_lost_answers_take_the_exact_bound() -> None:
    """30 answers lost of 2000 (below tolerance) pass; the loss must be supported to fail."""
    correct = CALIBRATED.correct.copy()
    right = np.flatnonzero(correct)
    few = correct.copy()
    few[right[:24]] = False
    v = compare(replace(CALIBRATED, correct=few), CALIBRATED)
    c = component(v, "accuracy")
    assert c.standard_error == pytest.approx(math.sqrt(24 / 2000 * (1 - 24 / 2000) / 1999))
    assert c.bound == pytest.approx(24 * (2 * 0.05 ** (1 / 24) - 1) / 2000)
    assert v.state is State.PASSED
    strict = compare(replace(CALIBRATED, correct=few), CALIBRATED, accuracy_tolerance=0.005)
    assert fired(strict) == ["accuracy"]


# --- what can be compared -----------------------------------------------------------------------


def with_ids(n: int, start: int = 0, **settings: Any) -> Predictions:
    """Items start … start + n - 1 of one long set."""
    logits, labels = four_way(3000, 5)
    pick = slice(start, start + n)
    return Predictions.from_logits(
        logits[pick], labels[pick], item_ids=[f"q{i}" for i in range(start, start + n)], **settings
    )


@pytest.mark.parametrize(("here", "there"), [(400, 1000), (1000, 400)], ids=["fewer", "more"])
def test_a_strict_subset_is_compared_on_what_both_have(here: int, there: int) -> None:
    """A subset on either side is compared on the intersection, and the text says so."""
    v = compare(with_ids(here), with_ids(there), min_share=0)
    assert v.state is State.PASSED
    assert v.n == v.measurement.n == 400
    assert (v.candidate_n, v.baseline_n) == (here, there)
    assert v.baseline is not None
    assert v.baseline.n == 400
    assert v.measurement.value == v.baseline.value
    shared = f"400 of the {here:,} items here are among the baseline's {there:,}"
    assert f"note: compared on the part both sides have: {shared}." in lines(v)


def test_a_part_that_flatters_is_not_comparable() -> None:
    """Whoever leaves out the items that were answered wrong has compared nothing."""
    before, after = two_runs(1500, 8, 1.5)
    rows = np.flatnonzero(after.correct)
    v = compare(after.take(rows), before)
    assert v.state is State.NOT_COMPARABLE
    assert v.reason.startswith(f"only {100 * len(rows) / 1500:.0f} % of the baseline is here")
    assert v.reason.endswith("the part that --calibration-limit or predictions.limited(n) takes.")
    assert (v.candidate_n, v.baseline_n) == (len(rows), 1500)


def test_rows_without_ids_are_as_many_on_both_sides() -> None:
    """Where one is missing, those after it would pair with others; labels tell, too."""
    before = of([0.7] * 100, [True] * 70 + [False] * 30)
    for n in (99, 101):
        v = compare(of([0.7] * n, [True] * n), before)
        assert v.state is State.NOT_COMPARABLE
        assert v.reason == (
            f"items pair by position, and here are {n} rows where the baseline has 100: which of "
            "them are missing cannot be known; give each item an id."
        )
    assert compare(before.limited(98), before).n == 98
    table = Predictions.from_probabilities([[0.3, 0.7]] * 100, [1] * 100)
    assert compare(table.take(np.arange(99)), table).n == 99


@pytest.mark.parametrize("share", [0.1, 0.5, 0.94, 0.95])
def test_a_part_that_a_limit_takes_is_comparable(share: float) -> None:
    """The items of the smallest ids were chosen by no answer; the text says that it is a part."""
    before, after = two_runs(1500, 8, 1.0)
    k = int(1500 * share)
    v = compare(after.limited(k), before)
    assert v.n == k
    assert v.state is not State.NOT_COMPARABLE
    (caution,) = v.cautions
    assert f"{k:,} of the {k:,} items here are among the baseline's 1,500" in caution
    assert f"note: {caution}" in lines(v)
    # One item of another place is no longer what a limit takes.
    left_out = np.argsort(before.item_ids)[np.r_[1 : k + 1]]
    other = compare(after.take(left_out), before)
    assert (other.state is State.NOT_COMPARABLE) is (k < 0.95 * 1500)


def test_what_is_not_the_default_is_told() -> None:
    """Settings and soft differences are values of the verdict, and sentences beside it."""
    p = with_ids(200).with_signature(model="base", dtype="float32", device="cpu")
    other = p.with_signature(model="sft", dtype="float16")
    v = compare(other, p, tolerance=0.99, accuracy_tolerance=None, alpha=0.01, max_undetected=0.5)
    assert v.differences == (Difference("dtype", "float16", "float32"),)
    assert v.settings == (
        Setting("tolerance", 0.99, 0.02),
        Setting("alpha", 0.01, 0.05),
        Setting("accuracy_tolerance", None, 0.02),
        Setting("max_undetected", 0.5, 0.05),
    )
    assert v.cautions == (
        "differs from the baseline in dtype float16 (float32).",
        "tolerance 0.99 instead of 0.02.",
        "alpha 0.01 instead of 0.05.",
        "accuracy tolerance off instead of 0.02.",
        "max undetected 0.5 instead of 0.05.",
    )
    assert compare(p, p).cautions == ()


def test_a_baseline_of_tokens_is_always_a_sample() -> None:
    """That a stored sample of tokens was compared is a note, and no caution in every run."""
    tokens = replace(with_ids(300), unit="token")
    v = compare(tokens, tokens.limited(200))
    assert v.cautions == ()
    assert "200 of the 300 tokens here are among the baseline's 200" in v.notes[0]
    v = compare(tokens.limited(100), tokens.limited(200))
    assert "100 of the 100 tokens here are among the baseline's 200" in v.cautions[0]


@pytest.mark.parametrize(("start", "comparable"), [(5, True), (6, False)], ids=["95 %", "94 %"])
def test_the_overlap_must_be_95_percent(start: int, comparable: bool) -> None:
    """Of 100 items each, 95 shared are compared on those, and 94 are not comparable."""
    v = compare(with_ids(100, start), with_ids(100))
    assert (v.state is not State.NOT_COMPARABLE) is comparable
    shared = f"{100 - start} of the 100 items here are among the baseline's 100"
    if comparable:
        assert v.n == 95
        assert f"note: compared on the part both sides have: {shared}." in lines(v)
    else:
        assert v.reason == f"the items are not the same: {shared}."
        assert lines(v)[:2] == ["not comparable: probe probabilities", v.reason]


@pytest.mark.parametrize(("n", "m"), [(100, 110), (110, 100)], ids=["larger there", "larger here"])
def test_the_overlap_is_a_share_of_the_larger_side(n: int, m: int) -> None:
    """96 shared items are 96 % of 100 and 87 % of 110: not comparable, whichever is larger."""
    start = max(n, m) - 96
    v = compare(with_ids(n, start if n < m else 0), with_ids(m, start if m < n else 0))
    assert v.state is State.NOT_COMPARABLE


def test_nothing_shared_is_not_comparable() -> None:
    """Disjoint items are not a subset of one another."""
    v = compare(with_ids(10, 1000), with_ids(1000))
    assert v.state is State.NOT_COMPARABLE
    assert "0 of the 10 items here are among the baseline's 1,000" in v.reason


@pytest.mark.parametrize("side", ["here", "there"])
def test_a_hard_difference_is_not_comparable_and_named(side: str) -> None:
    """A hard field that differs, or is missing on one side, is named with both values."""
    five = with_ids(100, signature=Signature({"shots": "5"}))
    none = with_ids(100)
    v = compare(five, none) if side == "here" else compare(none, five)
    ours, theirs = ("5", "(none)") if side == "here" else ("(none)", "5")
    assert v.state is State.NOT_COMPARABLE
    assert v.reason == (f"the probe is not the same: shots is {ours}, the baseline has {theirs}.")


def test_soft_differences_never_refuse() -> None:
    """Another model, dtype or device is what a comparison is for."""
    p = with_ids(100)
    other = p.with_signature(model="sft", dtype="bfloat16", device="cuda")
    assert compare(other, p).state is State.PASSED
    assert lines(compare(other, p))[0] == "passed: probe probabilities on sft"


def test_the_reference_is_named_in_the_text() -> None:
    """What the other side is called stands in the numbers and in the reasons."""
    p = with_ids(100)
    v = compare(p, p, reference="parent base")
    assert any(t.startswith("parent base: ECE (15 equal-width bins)") for t in lines(v))
    v = compare(with_ids(100, 50), p, reference="parent base")
    assert "among the parent base's 100" in v.reason


@given(st.permutations(range(60)), st.permutations(range(60)))
def test_pairing_does_not_depend_on_row_order(here: list[int], there: list[int]) -> None:
    """Rows in any order on either side give the same verdict, to the digit."""
    before, after = two_runs(60, 8, 1.5)
    ids = [f"q{i}" for i in range(60)]
    before = of(before.confidence, before.correct, item_ids=ids)
    after = of(after.confidence, after.correct, item_ids=ids)
    straight = compare(after, before)
    shuffled = compare(after.take(np.array(here)), before.take(np.array(there)))
    assert shuffled.explain() == straight.explain()
    for a, b in zip(shuffled.components, straight.components, strict=True):
        assert a.bound == pytest.approx(b.bound, abs=1e-12, nan_ok=True)
        assert a.worsening == pytest.approx(b.worsening, abs=1e-12, nan_ok=True)


@given(st.sets(st.integers(0, 80), min_size=1), st.sets(st.integers(0, 80), min_size=1))
def test_alignment_pairs_equal_ids_and_only_those(here: set[int], there: set[int]) -> None:
    """Positions point at equal ids, once each, or the overlap is too small and none are given."""
    a, b = sorted(here), sorted(there, reverse=True)
    p = of([0.5] * len(a), [True] * len(a), item_ids=a)
    q = of([0.5] * len(b), [True] * len(b), item_ids=b)
    ours, theirs, remark = align(p, q)
    shared = here & there
    # A limit takes the items of the smallest ids.
    limited = set(q.limited(len(a)).item_ids.tolist()) == set(p.item_ids.tolist())
    whole = bool(shared) and (there <= here or limited)
    enough = whole or 100 * len(shared) >= 95 * max(len(here), len(there))
    assert (ours is not None) is enough
    assert bool(remark) is (here != there)
    if ours is not None and theirs is not None:
        assert {a[i] for i in ours} == shared
        assert [a[i] for i in ours] == [b[j] for j in theirs]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 2}, "tolerance must be a number of at least 0 and below 1, got 2"),
        ({"alpha": "0.1"}, "alpha must be a number above 0 and below 0.5, got '0.1'"),
        ({"accuracy_tolerance": 1.0}, "accuracy_tolerance must be .* got 1.0"),
        ({"max_undetected": -1}, "max_undetected must be .* got -1"),
        ({"bins": 0}, "bins must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    """Each setting of a call is checked, and the error names it and its value."""
    with pytest.raises(MetricError, match=message):
        compare(CALIBRATED, CALIBRATED, **settings)


def test_bins_are_those_of_the_printed_ece() -> None:
    """The bins asked for are those of the printed ECE on both sides."""
    v = compare(CALIBRATED, CALIBRATED, bins=10)
    assert v.baseline is not None
    assert (v.measurement.bins, v.baseline.bins) == (10, 10)
    assert "ECE (10 equal-width bins)" in v.explain()


def test_a_stricter_alpha_asks_for_more_evidence() -> None:
    """The bound at alpha 0.01 is 2.326 errors below the worsening, and the text says 99 %."""
    candidate = exact(dict.fromkeys(LEVELS, 0.1))
    c = component(compare(candidate, CALIBRATED, alpha=0.01), "signed gap")
    assert c.bound == pytest.approx(c.worsening - 2.326348 * c.standard_error, abs=1e-6)
    v = compare(candidate, CALIBRATED, alpha=0.01)
    assert "with 99 % confidence" in v.explain()


# --- error rates --------------------------------------------------------------------------------


def test_no_change_raises_no_alarm() -> None:
    """Two noisy readings of the same model, n = 1000: at most 1 % of 300 comparisons regress."""
    verdicts = [compare(*reversed(two_runs(1000, seed))) for seed in range(300)]
    assert sum(v.state is State.REGRESSED for v in verdicts) <= 3


@pytest.mark.parametrize(("factor", "power"), [(1.5, 0.95), (1.25, 0.85)], ids=["x1.5", "x1.25"])
def test_a_sharpened_model_is_found(factor: float, power: float) -> None:
    """Logits times 1.5 (1.25) at n = 1000 regress in at least 95 % (85 %) of 200 comparisons."""
    verdicts = [compare(*reversed(two_runs(1000, seed, factor))) for seed in range(200)]
    seen = Counter(v.state for v in verdicts)
    assert seen[State.REGRESSED] >= power * 200
    over = [v for v in verdicts if v.state is State.REGRESSED]
    assert all(v.measurement.signed_gap > 0 for v in over)


def test_a_better_model_raises_no_alarm() -> None:
    """From an over-confident baseline to a calibrated candidate at most 1 % of 200 regress."""
    verdicts = []
    for seed in range(200):
        calm, sharp = two_runs(2000, seed, 1.5)
        verdicts.append(compare(calm, sharp))
    assert sum(v.state is State.REGRESSED for v in verdicts) <= 2
    assert sum(v.improved for v in verdicts) >= 190


# --- judging against a limit --------------------------------------------------------------------


def measured(value: float, metric: str = "ece", **changes: Any) -> Measurement:
    """A measurement with this value."""
    return replace(measure(CALIBRATED, metric), value=value, **changes)


@pytest.mark.parametrize(
    ("value", "limit", "above", "state"),
    [
        (0.05, 0.05, False, State.ABOVE_LIMIT),
        (math.nextafter(0.05, 0), 0.05, False, State.PASSED),
        (math.nextafter(0.05, 1), 0.05, False, State.ABOVE_LIMIT),
        (0.0, 0.0, False, State.ABOVE_LIMIT),
        (0.8, 0.8, True, State.PASSED),
        (math.nextafter(0.8, 0), 0.8, True, State.ABOVE_LIMIT),
        (0.9, 0.8, True, State.PASSED),
        (math.nan, 0.05, False, State.ABOVE_LIMIT),
        (math.nan, 0.05, True, State.ABOVE_LIMIT),
        (math.inf, 0.05, False, State.ABOVE_LIMIT),
    ],
)
def test_a_limit_decides_exactly(value: float, limit: float, above: bool, state: State) -> None:
    """Below a ceiling passes, at or above it fails; at or above a floor passes; NaN fails."""
    assert judge(measured(value), limit, above=above).state is state


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_the_digits_show_the_predicate(value: float, limit: float, above: bool) -> None:
    """The printed value and limit stand to each other as the numbers do, and as the sign says."""
    v = judge(measured(value), limit, above=above)
    (line,) = [t for t in lines(v) if "(must be" in t]
    match = re.fullmatch(r"ECE \(15 equal-width bins\): (\S+) ([<=>]) limit (\S+) \(must.*", line)
    assert match
    shown, sign, against = float(match[1]), match[2], float(match[3])
    assert {"<": shown < against, "=": shown == against, ">": shown > against}[sign]
    assert {"<": value < limit, "=": value == limit, ">": value > limit}[sign]
    passes = sign in "=>" if above else sign == "<"
    assert (v.state is State.PASSED) is passes
    assert v.difference == value - limit
    assert v.bound == value


@pytest.mark.parametrize("state", State)
def test_a_verdict_is_true_where_no_assertion_fails(state: State) -> None:
    """``assert compare(candidate, baseline)`` can fail."""
    verdict = judge(measure(exact()), 0.5)
    assert bool(replace(verdict, state=state)) is not state.fails


@pytest.mark.parametrize(
    ("value", "limit", "line"),
    [
        (0.0500001, 0.05, "0.0500001 > limit 0.0500000 (must be below the limit)"),
        (0.0499999, 0.05, "0.0499999 < limit 0.0500000 (must be below the limit)"),
        (0.05, 0.05, "0.050 = limit 0.050 (must be below the limit)"),
        (0.1, 0.05, "0.100 > limit 0.050 (must be below the limit)"),
    ],
    ids=["hair above", "hair below", "equal", "clear"],
)
def test_as_many_digits_as_it_takes(value: float, limit: float, line: str) -> None:
    """Three digits, and more where three would hide which number is larger."""
    assert f"ECE (15 equal-width bins): {line}" in lines(judge(measured(value), limit))


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf], ids=str)
def test_a_limit_must_be_a_finite_number(limit: float) -> None:
    """NaN or infinity as a limit is an error that shows it."""
    with pytest.raises(MetricError, match=rf"limit of ece must lie in \[0, 1\], got {limit}"):
        judge(measured(0.1), limit)


@pytest.mark.parametrize("limit", ["0.1", None, True], ids=repr)
def test_a_limit_must_be_a_number(limit: object) -> None:
    """Text or nothing as a limit is an error that shows it."""
    with pytest.raises(MetricError, match=f"the limit must be a number, got {limit!r}"):
        judge(measured(0.1), limit)  # type: ignore[arg-type]


def test_a_limit_under_the_noise_floor_has_a_note_with_the_n() -> None:
    """0.05 on 200 items lies under the floor: the text says so, with the n that would do."""
    m = measure(calibrated(200, 1))
    v = judge(m, 0.05)
    (note,) = [t for t in lines(v) if t.startswith("note:")]
    assert note == (
        f"note: the limit 0.050 lies under the noise floor {m.noise_floor:.3f}: a perfectly "
        f"calibrated model would show that much on 200 items; {m.items_to_test(0.05):,} items "
        "would make it testable."
    )
    assert "noise floor" not in "\n".join(judge(m, 0.3).notes)
    # Nothing makes a limit of 0 testable, and MCE has no 95 % point to compute an n from.
    for nothing in (0.0, 1e-200):
        assert "testable" not in judge(m, nothing).explain()
    worst = judge(measure(calibrated(200, 1), "mce"), 0.05)
    assert "lies under the noise floor" in worst.explain()
    assert "testable" not in worst.explain()


@pytest.mark.parametrize("metric", ["brier", "accuracy", "signed_gap", "cross_fitted_ece"])
def test_only_biased_errors_have_the_note(metric: str) -> None:
    """A limit on a number that noise does not inflate carries no such note."""
    assert not judge(measure(calibrated(200, 1), metric), 0.001).notes


def test_debiased_judges_by_the_lower_end_and_shows_both() -> None:
    """The lower end is compared with the limit; the estimate and its interval stay as they are."""
    m = measure(two_runs(1000, 1, 1.5)[1], "cross_fitted_ece")
    assert 0.02 < m.low < m.value
    fails = judge(m, m.low, debiased=True)
    assert fails.state is State.ABOVE_LIMIT
    assert fails.bound == m.low
    passes = judge(m, math.nextafter(m.low, 1), debiased=True)
    assert passes.state is State.PASSED
    assert passes.measurement == m
    text = fails.explain()
    assert f"lower end of its interval: {m.low:.3f} = limit {m.low:.3f}" in text
    assert f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" in text
    assert "note: judged by the cross-fitted ECE and the lower end of its interval" in text


def test_debiased_does_not_fail_on_noise() -> None:
    """On 200 items a limit of 0.05 fails most calibrated models, and hardly any debiased."""
    models = [calibrated(200, seed) for seed in range(200)]
    plain = [judge(measure(p), 0.05).state.fails for p in models]
    fitted = [judge(measure(p, "cross_fitted_ece"), 0.05, debiased=True) for p in models]
    assert np.mean(plain) > 0.9
    assert np.mean([v.state.fails for v in fitted]) <= 0.01


def test_a_floor_reads_as_one() -> None:
    """Below an accuracy floor the text says below, and what it must be."""
    v = judge(measure(CALIBRATED, "accuracy"), 0.8, above=True)
    assert v.state is State.ABOVE_LIMIT
    assert lines(v)[0] == "below the limit: probe exact"
    assert "accuracy: 0.700 < limit 0.800 (must be at least the limit)" in lines(v)


# --- text ---------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.sampled_from([0.6, 0.8, 1.0, 1.1, 1.25, 1.6]), st.floats(0, 0.15))
def test_the_table_shows_what_fires(seed: int, factor: float, tolerance: float) -> None:
    """A row is marked exactly where its component fired, and its digits show the inequality."""
    before, after = two_runs(150, seed, factor)
    v = compare(after, before, tolerance=tolerance)
    text = lines(v)
    for c in v.components:
        (row,) = [t for t in text if re.match(rf"{c.name}  +\S", t) and "by" not in t]
        if c.unavailable:
            assert row.endswith(c.unavailable)
            continue
        numbers = re.findall(r"-?\d+\.\d+", row)
        bound, allowed = float(numbers[3]), float(numbers[4])
        assert (bound > allowed) is (c.bound > c.tolerance)
        assert row.endswith("<- fails") is c.fired
        sentences = [t for t in text if t.startswith((f"{c.name} worsened", f"{c.name} fell"))]
        assert len(sentences) == c.fired
        if c.fired:
            shown = re.search(r"confidence: (\S+) > tolerance (\S+)$", sentences[0])
            assert shown
            assert float(shown[1]) > float(shown[2])
    assert (v.state is State.REGRESSED) is bool(fired(v))


def test_a_hair_beyond_the_tolerance_is_printed_as_such() -> None:
    """A bound one part in 10⁷ beyond the tolerance is printed with the digits that show it."""
    candidate = exact(dict.fromkeys(LEVELS, 0.1))
    bound = compare(candidate, CALIBRATED, accuracy_tolerance=None).bound
    v = compare(candidate, CALIBRATED, tolerance=bound - 1e-7, accuracy_tolerance=None)
    (sentence,) = [t for t in lines(v) if " worsened by " in t]
    shown = re.search(r"at least (\S+) with 95 % confidence: (\S+) > tolerance (\S+)$", sentence)
    assert shown
    assert shown[1] == shown[2]
    assert float(shown[2]) > float(shown[3])


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        (0.1, "over-confident by 0.100 (mean confidence 0.600, accuracy 0.500)"),
        (-0.1, "under-confident by 0.100 (mean confidence 0.600, accuracy 0.700)"),
    ],
)
def test_direction_is_a_sentence(gap: float, text: str) -> None:
    """The text says which way confidences err, by how much, and the two numbers."""
    assert direction(measure(exact({0.6: gap}, each=1000))) == text


def test_explanations_are_the_same_byte_for_byte() -> None:
    """The same predictions, built anew, explain themselves in the same bytes."""
    texts = {
        compare(*reversed(two_runs(500, 3, factor))).explain()
        for factor in (1.5, 1.5)
        for _ in range(2)
    }
    assert len(texts) == 1
    assert texts.pop().isprintable() is False


def test_groups_are_counted_in_the_text() -> None:
    """Where items are grouped the number of groups stands beside n."""
    groups = [i // 2 for i in range(2000)]
    grouped = of(CALIBRATED.confidence, CALIBRATED.correct, groups=groups)
    v = compare(grouped, grouped)
    assert v.units == 1000
    assert "n = 2,000 items in 1,000 groups" in v.explain()


def test_the_deciding_component_is_the_one_that_fired_furthest() -> None:
    """Difference and bound are those of the fired component with the largest excess."""
    v = compare(*reversed(two_runs(1000, 1, 1.5)))
    assert len(fired(v)) > 1
    largest = max((c for c in v.components if c.fired), key=lambda c: c.bound - c.tolerance)
    assert v.deciding == largest
    assert (v.difference, v.bound) == (largest.worsening, largest.bound)
    empty = Verdict(State.NO_BASELINE, measure(CALIBRATED))
    assert empty.deciding is None
    assert math.isnan(empty.difference)
    assert math.isnan(empty.bound)


# --- what a reader must not misread ---------------------------------------------------------------


def test_a_move_through_zero_says_why_it_passes() -> None:
    """From 0.1 under- to 0.1 over-confident: it passes, the row says why, and is not the bound."""
    v = compare(
        exact(dict.fromkeys(LEVELS, 0.1), each=2000),
        exact(dict.fromkeys(LEVELS, -0.1), each=2000),
        accuracy_tolerance=None,
    )
    assert v.state is State.PASSED
    (row,) = [line for line in lines(v) if line.startswith("signed gap ")]
    assert row.endswith("(changed sides, and is no larger)")
    assert v.bound <= v.tolerance
    assert v.deciding is not None
    assert v.deciding.name != "signed gap"


def test_an_undecided_comparison_claims_no_failure() -> None:
    """49 of 49 answers lost is too few to compare: no sentence says that anything failed."""
    v = compare(of(np.ones(49), np.zeros(49, bool)), of(np.ones(49), np.ones(49, bool)))
    assert v.state is State.INCONCLUSIVE
    text = v.explain()
    assert "worsened by" not in text
    assert "<- would fail" in text
    assert "<- fails" not in text


@pytest.mark.parametrize(("n", "state"), [(50, State.INCONCLUSIVE), (2000, State.PASSED)])
def test_a_lucky_draw_is_not_taken_for_certainty(n: int, state: State) -> None:
    """Where every answer is right on both sides, fifty items do not decide, two thousand do."""
    sure = of(np.full(n, 0.99), np.ones(n, bool))
    v = compare(sure, sure)
    assert v.state is state
    assert v.smallest_visible >= 0.02 + 2.48 * math.sqrt(3) / n


def test_few_items_cannot_pass_by_the_lower_end_of_an_interval() -> None:
    """A debiased limit on 49 wrong and certain answers is inconclusive, on 50 it fails."""
    for n, state in ((1, "inconclusive"), (2, "inconclusive"), (50, "above_limit")):
        wrong = of(np.ones(n), np.zeros(n, bool))
        v = judge(measure(wrong, "cross_fitted_ece"), 0.01, debiased=True)
        assert v.state == state
    one = judge(measure(of([1.0], [False]), "cross_fitted_ece"), 0.01, debiased=True)
    assert one.reason == (
        "1 item cannot show an ECE above the limit by the lower end of its interval; at least 50 "
        "are needed."
    )
    assert one.n_needed == 50
    # 60 items in 20 groups: 50 groups take 150 items.
    fair = of(np.full(60, 0.5), np.arange(60) % 2 == 0, groups=np.arange(60) // 3)
    grouped = judge(measure(fair, "cross_fitted_ece"), 0.2, debiased=True)
    assert (grouped.n_needed, grouped.units) == (150, 20)
    assert grouped.reason.startswith("20 groups cannot show an ECE above the limit")
