"""Slices against formulas, other programs, exact enumeration and simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import two_runs

from pytest_calibration.diagnosis.slices import (
    FDR,
    MIN_UNITS,
    SliceShift,
    benjamini_hochberg,
    by_slice,
    shifts,
)
from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Paired, gap_component
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import accuracy, ece, mean_confidence, signed_gap
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile


def sliced(
    confidence: Any, correct: Any, slices: Any = None, groups: Any = None, ids: Any = None
) -> Predictions:
    """Predictions with slices, groups and ids as given."""
    p = Predictions.from_confidence(confidence, correct, groups=groups, item_ids=ids, probe="probe")
    return p if slices is None else replace(p, slices=np.array([str(s) for s in slices]))


def cut(p: Predictions, names: Sequence[object]) -> Predictions:
    """The same predictions with these slices."""
    return replace(p, slices=np.array([str(name) for name in names]))


def only(rows: Sequence[SliceShift], name: str) -> SliceShift:
    """The one row of this name."""
    (row,) = [r for r in rows if r.name == name]
    return row


def near(values: Any) -> Any:
    """Equal but for the rounding of confidences to float32."""
    return pytest.approx(values, abs=1e-6)


# --- one model -----------------------------------------------------------------------------------


def test_a_slice_is_measured_as_if_it_were_all_there_is() -> None:
    """Accuracy, confidence, gap, ECE and floor of a slice are those of its items alone."""
    p, _ = two_runs(600, 5)
    names = np.array(["a", "b", "c", "d"])[np.random.default_rng(1).integers(0, 4, 600)]
    rows = by_slice(cut(p, list(names)), bins=4)
    assert sorted(r.name for r in rows) == ["a", "b", "c", "d"]
    for row in rows:
        part = p.take(names == row.name)
        assert (row.n, row.units, row.bins) == (part.n, part.n, 4)
        assert row.accuracy == pytest.approx(accuracy(part))
        assert row.mean_confidence == pytest.approx(mean_confidence(part))
        assert row.signed_gap == pytest.approx(signed_gap(part))
        assert row.ece == pytest.approx(ece(part, 4))
        whole = measure(part, bins=4)
        assert row.noise_floor == pytest.approx(whole.noise_floor)
        assert row.noise_floor_high == pytest.approx(whole.noise_floor_high)


def test_the_default_is_five_bins() -> None:
    """Without bins given, the ECE of a slice is over five."""
    p, _ = two_runs(300, 5)
    (row,) = by_slice(cut(p, ["all"] * 300))
    assert row.bins == 5
    assert row.ece == pytest.approx(ece(p, 5))


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927): the roots of (share - p)² = z²·p(1 - p)/n."""
    a, b, c = 1 + z * z / n, -2 * share - z * z / n, share * share
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=300))
def test_the_interval_is_the_wider_of_students_and_wilsons(rows: list[tuple[float, bool]]) -> None:
    """At each end stands the outer of gap ± t·s/√n and mean confidence minus Wilson's accuracy."""
    p = sliced([c for c, _ in rows], [h for _, h in rows], ["x"] * len(rows))
    (row,) = by_slice(p)
    z = upper_quantile(0.025, p.n)
    half = z * float(p.gap.std(ddof=1)) / math.sqrt(p.n)
    least, most = wilson(row.accuracy, p.n, z)
    assert row.low == pytest.approx(
        max(-1.0, min(row.signed_gap - half, row.mean_confidence - most)), abs=1e-7
    )
    assert row.high == pytest.approx(
        min(1.0, max(row.signed_gap + half, row.mean_confidence - least)), abs=1e-7
    )
    assert row.low <= row.signed_gap <= row.high


def test_ten_right_answers_are_no_proof_of_under_confidence() -> None:
    """With 10 of 10 right at 0.96 nothing varies, and the interval still holds a gap of 0."""
    (row,) = by_slice(sliced([0.96] * 10, [True] * 10, ["x"] * 10))
    assert row.signed_gap == pytest.approx(-0.04)
    assert row.low == pytest.approx(-0.04)
    z = 2.2621572  # Student's t with 9 degrees of freedom
    assert row.high == pytest.approx(0.96 - 1 / (1 + z * z / 10), abs=1e-6)


@pytest.mark.parametrize(("level", "n"), [(0.97, 10), (0.95, 20), (0.9, 40), (0.6, 40)])
def test_intervals_of_small_slices_cover(level: float, n: int) -> None:
    """At least 94 % of the intervals of calibrated slices hold 0, near accuracy 1 too."""
    rng = np.random.default_rng(n)
    k = 1500
    confidence = np.clip(level + 0.02 * rng.standard_normal(k * n), 0, 1)
    p = sliced(confidence, rng.random(k * n) < confidence, np.repeat(np.arange(k), n))
    rows = by_slice(p)
    assert np.mean([r.low <= 0 <= r.high for r in rows]) >= 0.94
    if level > 0.9:
        student = np.mean(
            [
                abs(g.mean()) <= upper_quantile(0.025, n) * g.std(ddof=1) / math.sqrt(n)
                for g in p.gap.reshape(k, n)
            ]
        )
        assert student < 0.75


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_of_an_item_are_one_unit(copies: int) -> None:
    """Every item asked five times as one group gives the interval and the floor of asking once."""
    p, _ = two_runs(60, 11)
    names = np.arange(60) % 2
    once = by_slice(cut(p, list(names)))
    c, h = np.repeat(p.confidence, copies), np.repeat(p.correct, copies)
    groups = np.repeat(np.arange(60), copies)
    many = by_slice(sliced(c, h, np.repeat(names, copies), groups))
    for one, other in zip(once, many, strict=True):
        assert (other.name, other.n, other.units) == (one.name, copies * one.n, one.n)
        assert other.low == pytest.approx(one.low)
        assert other.high == pytest.approx(one.high)
        assert other.noise_floor == pytest.approx(one.noise_floor)
        assert other.noise_floor_high == pytest.approx(one.noise_floor_high)


def test_wrong_answers_that_come_by_document_widen_the_interval() -> None:
    """Where all answers of a document are wrong together, documents count, not answers."""
    correct = np.repeat([True] * 17 + [False] * 3, 6)
    groups = np.repeat(np.arange(20), 6)
    together = by_slice(sliced([0.85] * 120, correct, ["x"] * 120, groups))[0]
    apart = by_slice(sliced([0.85] * 120, correct, ["x"] * 120, np.tile(np.arange(20), 6)))[0]
    assert together.units == apart.units == 20
    least, most = wilson(0.85, 20, upper_quantile(0.025, 20))
    assert together.low <= 0.85 - most + 1e-9
    assert together.high >= 0.85 - least - 1e-9
    assert apart.high - apart.low < 0.6 * (together.high - together.low)


def test_without_a_wrong_answer_the_documents_count() -> None:
    """With all right nobody knows how wrong answers would come, so each document counts once."""
    groups = np.repeat(np.arange(12), 5)
    (row,) = by_slice(sliced([0.9] * 60, [True] * 60, ["x"] * 60, groups))
    assert row.high == pytest.approx(0.9 - wilson(1.0, 12, upper_quantile(0.025, 12))[0])


def test_of_one_unit_nothing_is_known() -> None:
    """A slice of one item, or of one document, has the interval [-1, 1]."""
    rows = by_slice(sliced([0.9] * 9, [True] * 9, ["one"] + ["doc"] * 8, ["a"] + ["b"] * 8))
    assert {r.name: (r.units, r.low, r.high) for r in rows} == {
        "one": (1, -1.0, 1.0),
        "doc": (1, -1.0, 1.0),
    }


def test_the_surest_error_comes_first() -> None:
    """Rows go by how far their interval lies from 0, not by a gap that three items can show."""
    names = ["tiny"] * 3 + ["big"] * 400 + ["fine"] * 100
    confidence = [0.9] * 3 + [0.8] * 400 + [0.5] * 100
    correct = [False] * 3 + [True] * 260 + [False] * 140 + [True, False] * 50
    rows = by_slice(sliced(confidence, correct, names))
    assert [r.name for r in rows] == ["big", "tiny", "fine"]
    assert rows[1].signed_gap > rows[0].signed_gap > 0


def test_bins_below_one_are_refused() -> None:
    """No bins at all is an error, not an ECE of 0."""
    with pytest.raises(MetricError, match="bins must be at least 1, got 0"):
        by_slice(sliced([0.5], [True], ["a"]), bins=0)


# --- what to cut by ------------------------------------------------------------------------------

N = 24
PLAIN = sliced(np.full(N, 0.7), np.arange(N) % 3 > 0)
GROUPED = sliced(PLAIN.confidence, PLAIN.correct, groups=[f"g{i // 6}" for i in range(N)])
BOTH = cut(GROUPED, [f"s{i % 2}" for i in range(N)])


@pytest.mark.parametrize(
    ("predictions", "names", "units"),
    [
        (BOTH, ["s0", "s1"], 4),
        (GROUPED, ["g0", "g1", "g2", "g3"], 6),
        (PLAIN, [], 0),
        (sliced([0.5, 0.6], [True, False], groups=["a", "b"]), [], 0),
    ],
)
def test_slices_are_those_named_or_the_groups(
    predictions: Predictions, names: list[str], units: int
) -> None:
    """Units are groups within a slice; where groups of several items are slices, their items."""
    for rows in (by_slice(predictions), shifts(predictions, predictions)):
        assert sorted(row.name for row in rows) == names
        assert all(row.units == units for row in rows)


# --- two models: the numbers ---------------------------------------------------------------------


def by_hand(
    before: Predictions, after: Predictions, member: np.ndarray[Any, Any]
) -> tuple[float, float, float]:
    """Shift, its standard error and the effective number of units of one slice, item by item."""
    rise = after.confidence[member] - before.confidence[member]
    moved = rise - after.correct[member] + before.correct[member].astype(float)
    groups = np.arange(len(rise)) if after.groups is None else after.groups[member]
    totals: dict[Any, float] = {}
    sizes: dict[Any, int] = {}
    for group, value in zip(groups.tolist(), moved.tolist(), strict=True):
        totals[group] = totals.get(group, 0.0) + value
        sizes[group] = sizes.get(group, 0) + 1
    n = len(rise)
    seen = sum(t * t for t in totals.values())
    alone = sum(v * v for v in moved.tolist())
    step = abs(rise.sum()) / n
    least = n * step * (1 - step) * max(1.0, seen / alone if alone else 1.0)
    effective = n * n / sum(k * k for k in sizes.values())
    return moved.sum() / n, math.sqrt(max(seen, least)) / n, effective


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_shift_is_what_the_formula_says(seed: int, grouped: bool) -> None:
    """Shift, standard error and p-value of every slice agree with a loop over its items."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    before, after = two_runs(700, seed, 1.0 + 0.2 * seed)
    groups = np.array([f"d{g}" for g in rng.integers(0, 90, 700)])
    if grouped:
        before, after = replace(before, groups=groups), replace(after, groups=groups)
    names = rng.integers(0, 6, 700)
    rows = shifts(cut(after, list(names)), before)
    assert len(rows) == 6
    for row in rows:
        member = names == int(row.name)
        shift, error, effective = by_hand(before, after, member)
        assert row.n == member.sum()
        assert row.units == (len(set(groups[member])) if grouped else row.n)
        assert row.shift == near(shift)
        assert row.standard_error == near(error)
        z = abs(shift) / error
        reference = stats.t(int(effective) - 1) if grouped else stats.norm
        assert row.p_value == pytest.approx(2 * reference.sf(z), rel=1e-4)
        assert row.margin == pytest.approx(reference.isf(0.025) * error, rel=1e-5)
        parts = before.take(member), after.take(member)
        assert (row.gap_before, row.gap_after) == near(tuple(map(signed_gap, parts)))
        assert (row.accuracy_before, row.accuracy_after) == near(tuple(map(accuracy, parts)))


def test_one_slice_of_everything_is_the_signed_gap_of_the_comparison() -> None:
    """With a single slice the worsening is that of the component, and q is p."""
    for factor in (1.3, 0.7):
        before, after = two_runs(500, 2, factor)
        (row,) = shifts(cut(after, ["all"] * 500), before)
        component = gap_component(Paired.of(before, after), 0.02, 1.645)
        towards_worse = 1 if row.gap_after >= 0 else -1
        assert towards_worse * row.shift == pytest.approx(component.worsening)
        assert (row.gap_before, row.gap_after) == pytest.approx((component.before, component.after))
        # About 0, and over n; the component's is about the mean, and over n - 1.
        squares = 499 * component.standard_error**2 + row.shift**2
        assert row.standard_error == pytest.approx(math.sqrt(squares / 500))
        assert row.q_value == row.p_value


@given(st.integers(0, 10_000), st.booleans())
def test_the_other_way_round_everything_shifts_back(seed: int, grouped: bool) -> None:
    """Exchanging the sides negates each shift and leaves every p-value and the order as it was."""
    before, after = two_runs(120, seed, 1.4)
    rng = np.random.default_rng(seed)
    names = list(rng.integers(0, 4, 120))
    if grouped:
        groups = rng.integers(0, 50, 120).astype(str)
        before, after = replace(before, groups=groups), replace(after, groups=groups)
    there, back = shifts(cut(after, names), before), shifts(cut(before, names), after)
    for row in there:
        other = only(back, row.name)
        assert other.shift == pytest.approx(-row.shift)
        assert other.p_value == pytest.approx(row.p_value)
        assert other.q_value == pytest.approx(row.q_value)
        assert other.gap_after == pytest.approx(row.gap_before)


@given(st.integers(0, 10_000))
def test_the_order_of_items_changes_nothing(seed: int) -> None:
    """Both sides shuffled alike give the same rows."""
    before, after = two_runs(100, seed)
    after = cut(after, [i % 3 for i in range(100)])
    order = np.random.default_rng(seed).permutation(100)
    for one, other in zip(
        shifts(after, before), shifts(after.take(order), before.take(order)), strict=True
    ):
        assert one.name == other.name
        assert (one.shift, one.p_value, one.margin) == pytest.approx(
            (other.shift, other.p_value, other.margin)
        )


def test_a_group_for_every_item_is_no_group() -> None:
    """Groups of one item each change no number."""
    before, after = two_runs(200, 4, 1.2)
    names = [i % 5 for i in range(200)]
    alone = np.arange(200).astype(str)
    grouped = shifts(cut(replace(after, groups=alone), names), replace(before, groups=alone))
    assert grouped == shifts(cut(after, names), before)


def test_groups_are_groups_within_a_slice() -> None:
    """A document with items in two slices is one unit in each."""
    groups = [f"d{i // 4}" for i in range(80)]
    p = sliced(np.full(80, 0.6), np.arange(80) % 2 == 0, [i % 2 for i in range(80)], groups)
    assert [r.units for r in shifts(p, p)] == [20, 20]


def test_a_stored_baseline_has_no_slices_and_groups_by_number() -> None:
    """Names come from the candidate alone; what the baseline calls its parts is not looked at."""
    stored = replace(BOTH, slices=None, groups=np.array([str(i // 6) for i in range(N)]))
    other = cut(BOTH, ["elsewhere"] * N)
    expected = repr(shifts(BOTH, BOTH))
    assert repr(shifts(BOTH, stored)) == expected
    assert repr(shifts(BOTH, other)) == expected
    named = replace(PLAIN, slices=BOTH.slices)
    assert {r.units for r in shifts(named, GROUPED)} == {4}


def test_what_a_record_rounds_has_not_moved() -> None:
    """A candidate equal to its float32 record shifts by exactly 0, with p-value 1."""
    p, _ = two_runs(90, 3)
    rounded = replace(p, confidence=p.confidence.astype(np.float32).astype(np.float64))
    for row in shifts(cut(p, [i % 3 for i in range(90)]), rounded):
        assert (row.shift, row.standard_error, row.margin) == (0.0, 0.0, 0.0)
        assert (row.p_value, row.q_value) == (1.0, 1.0)
        assert not row.change
        assert row.change == ""


@pytest.mark.parametrize("same", [slice(0, 23), slice(None, None, -1)])
def test_sides_that_are_not_paired_are_refused(same: slice) -> None:
    """Other items, or the same in another order, are an error and not a difference."""
    index = np.arange(N)[same]
    with pytest.raises(
        MetricError,
        match=rf"slices of probe 'probe' are compared item by item, and the two sides \(24 and "
        rf"{len(index)} items\) are not the same items in the same order; take from both what "
        "they share",
    ):
        shifts(BOTH, BOTH.take(index))


# --- two models: small slices --------------------------------------------------------------------


def test_confidence_that_rises_where_all_is_right_is_no_proof() -> None:
    """From 0.95 to 0.97 on 40 right answers, accuracy could have followed: p is far from small."""
    names = ["x"] * 40
    before = sliced([0.95] * 40, [True] * 40)
    (row,) = shifts(sliced([0.97] * 40, [True] * 40, names), before)
    assert row.shift == near(0.02)
    assert row.standard_error == near(math.sqrt(0.02 * 0.98 / 40))
    assert row.p_value == pytest.approx(math.erfc(0.02 / math.sqrt(2 * 0.02 * 0.98 / 40)), rel=1e-4)
    assert row.p_value > 0.3


def test_a_rise_that_is_the_same_everywhere_is_still_tested() -> None:
    """0.5 to 0.8 on 60 items with not one other answer is named, though nothing varies."""
    right = np.arange(60) % 2 == 0
    (row,) = shifts(sliced([0.8] * 60, right, ["x"] * 60), sliced([0.5] * 60, right))
    assert row.shift / row.standard_error == pytest.approx(0.3 * math.sqrt(60 / (0.3 * 0.7)))
    assert row.change
    assert row.change == "worse"


def test_a_rise_on_whole_documents_counts_the_documents() -> None:
    """If accuracy followed document by document, 12 documents of 5 would say no more than 12."""
    right = np.ones(60, dtype=bool)
    groups = np.repeat(np.arange(12), 5)
    before = sliced([0.6] * 60, right, groups=groups)
    (row,) = shifts(sliced([0.8] * 60, right, ["x"] * 60, groups), before)
    assert row.standard_error == near(math.sqrt(0.2 * 0.8 / 12))


def test_documents_that_even_out_make_nothing_surer_than_their_items() -> None:
    """Where each document gains an answer and loses one, the rise still has its own variance."""
    before, after = np.tile([False, True], 30), np.tile([True, False], 30)
    groups = np.repeat(np.arange(30), 2)
    first = sliced([0.5] * 60, before, groups=groups)
    (row,) = shifts(sliced([0.55] * 60, after, ["x"] * 60, groups), first)
    assert row.shift == near(0.05)
    assert row.standard_error == near(math.sqrt(0.05 * 0.95 / 60))


@pytest.mark.parametrize("n", [12, 20, 40])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_the_exact_size_of_the_test(n: int, alpha: float) -> None:
    """All outcomes enumerated: where answers flip either way alike, p ≤ α at most 1.1·α often."""
    names, before, after, ways = [], [], [], []
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            names += [len(ways)] * n
            before += [False] * gained + [True] * lost + [True] * (n - gained - lost)
            after += [True] * gained + [False] * lost + [True] * (n - gained - lost)
            ways.append((gained, lost))
    c = np.full(len(names), 0.8)
    p = {int(r.name): r.p_value for r in shifts(sliced(c, after, names), sliced(c, before))}
    for flip in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        size = sum(
            math.comb(n, g)
            * math.comb(n - g, k)
            * (flip / 2) ** (g + k)
            * (1 - flip) ** (n - g - k)
            for i, (g, k) in enumerate(ways)
            if p[i] <= alpha
        )
        assert size <= 1.1 * alpha


def test_fewer_than_ten_units_are_listed_and_not_tested() -> None:
    """Nine items get no p-value, stand last, and do not enter the q-values."""
    assert MIN_UNITS == 10
    rng = np.random.default_rng(0)
    names = ["nine"] * 9 + ["ten"] * 10 + ["many"] * 40
    first, second = rng.random(59), rng.random(59)
    before, after = sliced(first, first < 0.5), sliced(second, first < 0.5, names)
    rows = shifts(after, before)
    assert {r.name for r in rows[:2]} == {"ten", "many"}
    small = rows[2]
    assert small.name == "nine"
    assert (small.p_value, small.q_value, small.change) == (None, None, "")
    assert small.shift == near((second - first)[:9].mean())
    tested = np.array([r.p_value for r in rows[:2]])
    assert [r.q_value for r in rows[:2]] == list(benjamini_hochberg(tested))


def test_uneven_groups_count_for_less_than_their_number() -> None:
    """Eleven documents of one item and one of 40 weigh as 51²/(11 + 40²) = 1.6 units."""
    groups = [f"d{i}" for i in range(11)] + ["long"] * 40
    p = sliced(np.full(51, 0.6), np.arange(51) % 2 == 0, ["x"] * 51, groups)
    (row,) = shifts(p, p)
    assert row.units == 12
    assert row.p_value is None


def test_untested_slices_go_by_size() -> None:
    """What could not be tested is listed from many items to few, equals by name."""
    names = ["b"] * 3 + ["a"] * 3 + ["c"] * 7 + ["only"] * 12
    p = sliced(np.full(25, 0.5), np.arange(25) % 2 == 0, names)
    assert [r.name for r in shifts(p, p)] == ["only", "c", "a", "b"]


def test_slices_that_moved_more_surely_come_first() -> None:
    """Tested slices go by p-value; where those are rounded to 0, by the size of the score."""
    before, after = two_runs(32_000, 8)
    names = np.arange(32_000) % 8
    confidence = np.clip(after.confidence + 0.1 * names, 0, 1)
    rows = shifts(cut(replace(after, confidence=confidence), list(names)), before)
    assert rows[0].p_value == rows[1].p_value == 0.0
    scores = [abs(r.shift) / r.standard_error for r in rows]
    assert all(one >= other for one, other in pairwise(scores))
    assert all(one.p_value <= other.p_value for one, other in pairwise(rows))


@pytest.mark.parametrize("units", [10, 30, 80, 150])
def test_a_p_value_is_a_probability_however_small(units: int) -> None:
    """What is certain beyond double precision has a p-value of at least 0."""
    right, groups = np.arange(40 * units) % 2 == 0, np.arange(40 * units) % units
    before = sliced([0.5] * len(right), right, groups=groups)
    (row,) = shifts(sliced([1.0] * len(right), right, ["x"] * len(right), groups), before)
    assert 0 <= row.p_value <= 0.02


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (0.0, 0.3, "worse"),
        (-0.3, -0.5, "worse"),
        (0.5, 0.1, "better"),
        (-0.5, -0.1, "better"),
        (-0.2, 0.22, "moved"),
        (0.22, -0.2, "moved"),
        (-0.05, 0.4, "worse"),
        (0.0, 0.01, ""),
    ],
)
def test_what_became_of_a_slice(before: float, after: float, change: str) -> None:
    """A gap that grew is worse, one that shrank is better, one that changed sides has moved."""
    right = np.arange(200) % 2 == 0
    first, second = np.full(200, 0.5 + before), np.full(200, 0.5 + after)
    (row,) = shifts(sliced(second, right, ["x"] * 200), sliced(first, right))
    assert row.change == change


# --- many slices ---------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_values_are_scipys(p: list[float]) -> None:
    """Benjamini-Hochberg as in scipy.stats.false_discovery_control."""
    stats = pytest.importorskip("scipy.stats")
    assert benjamini_hochberg(np.array(p)) == pytest.approx(
        stats.false_discovery_control(p, method="bh")
    )


def test_q_values_of_the_paper() -> None:
    """Benjamini and Hochberg 1995, section 3.2: of these 15 p-values four are discoveries."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    q = benjamini_hochberg(np.array(p))
    assert (q <= 0.05).tolist() == [True] * 4 + [False] * 11
    assert q[3] == pytest.approx(0.0095 * 15 / 4)


def test_no_p_values_give_no_q_values() -> None:
    """Nothing tested is nothing found."""
    assert benjamini_hochberg(np.array([])).shape == (0,)


TRIALS = 200


def layout(seed: int, k: int = 50) -> tuple[np.random.Generator, list[int]]:
    """A generator, and the slice of each item: k slices of 10 to 60 items."""
    rng = np.random.default_rng(seed)
    return rng, np.repeat(np.arange(k), rng.integers(10, 61, k)).tolist()


def t_named(before: Predictions, after: Predictions, names: list[int]) -> bool:
    """Whether a paired t-test per slice, with Benjamini-Hochberg, names any."""
    stats = pytest.importorskip("scipy.stats")
    d: FloatArray = after.gap - before.gap
    index = np.array(names)
    p = []
    for k in range(index.max() + 1):
        values = d[index == k]
        error = values.std(ddof=1) / math.sqrt(len(values))
        p.append(
            2 * stats.t.sf(abs(values.mean()) / error, len(values) - 1)
            if error > 1e-9
            else float(abs(values.mean()) < 1e-9)
        )
    return bool((benjamini_hochberg(np.array(p)) <= FDR).any())


def test_two_noisy_runs_name_no_slice() -> None:
    """Fifty slices of 10 to 60 items that did not move: at most 5 % of the runs name any."""
    false = 0
    for seed in range(TRIALS):
        _, names = layout(seed)
        before, after = two_runs(len(names), seed)
        false += any(r.change for r in shifts(cut(after, names), before))
    assert false / TRIALS <= 0.05


@pytest.mark.parametrize(("low", "high"), [(0.95, 0.97), (0.8, 0.95)])
def test_accuracy_that_follows_the_confidence_names_no_slice(low: float, high: float) -> None:
    """Where both rise alike no slice moved; a t-test per slice names some in most runs."""
    false = fooled = 0
    for seed in range(TRIALS):
        rng, names = layout(seed)
        luck, n = rng.random(len(names)), len(names)
        before, after = sliced(np.full(n, low), luck < low), sliced(np.full(n, high), luck < high)
        false += any(r.change for r in shifts(cut(after, names), before))
        if seed < 20:
            fooled += t_named(before, after, names)
    assert false / TRIALS <= 0.05
    assert fooled >= 10


@pytest.mark.parametrize("across", [False, True])
def test_documents_that_err_together_name_no_slice(across: bool) -> None:
    """Outcomes shared by a document, within a slice or across slices: at most 5 % name any."""
    false = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        names = np.repeat(np.arange(20), rng.integers(60, 160, 20))
        n = len(names)
        groups = np.repeat(np.arange(n), rng.integers(1, 9, n))[:n]
        luck = rng.random(n)[groups]
        again = np.where(rng.random(n)[groups] < 0.7, luck, rng.random(n)[groups])
        if across:
            names = rng.permutation(names)
        before = sliced(np.full(n, 0.7), luck < 0.7, groups=groups)
        after = sliced(np.full(n, 0.75), again < 0.75, names, groups)
        false += any(r.change for r in shifts(after, before))
    # Three standard errors of 200 trials above 5 %.
    assert false / TRIALS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_the_one_slice_that_moved_is_named() -> None:
    """Sixty items 0.3 over-confident among 49 unchanged slices are named in most runs, alone."""
    named = others = 0
    for seed in range(100):
        _, names = layout(seed)
        moved = [-1] * 60 + names
        before, after = two_runs(len(moved), seed)
        rise = np.where(np.array(moved) == -1, 0.3, 0.0)
        after = replace(after, confidence=np.minimum(after.confidence + rise, 1))
        found = {r.name for r in shifts(cut(after, moved), before) if r.change == "worse"}
        named += "-1" in found
        others += bool(found - {"-1"})
    assert named >= 85
    assert others <= 10


def test_of_what_is_named_one_in_twenty_is_wrong() -> None:
    """With half of 40 slices moved, the mean share of wrong names stays within 5 %."""
    shares, hits = [], 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        names = np.repeat(np.arange(40), rng.integers(40, 121, 40))
        before, after = two_runs(len(names), seed)
        rise = np.where(names < 20, 0.2, 0.0)
        after = replace(after, confidence=np.minimum(after.confidence + rise, 1))
        found = [int(r.name) for r in shifts(cut(after, list(names)), before) if r.change]
        hits += sum(name < 20 for name in found)
        shares.append(np.mean([name >= 20 for name in found]) if found else 0.0)
    assert hits / (150 * 20) > 0.7
    assert np.mean(shares) <= 0.05


def test_many_slices_are_measured_together() -> None:
    """Two hundred thousand items in 20,000 slices and 40,000 documents are no loop over slices."""
    rng = np.random.default_rng(0)
    n = 200_000
    confidence = rng.random(n)
    p = sliced(
        confidence,
        rng.random(n) < confidence,
        rng.integers(0, 20_000, n),
        rng.integers(0, 40_000, n),
    )
    assert len(shifts(p, p)) == len(by_slice(p)) > 19_000
