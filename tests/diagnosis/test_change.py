"""What moved: the split of the gap, the parent's temperature, the regime, the collapse."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, four_way, sharpened, softmax, two_runs

from pytest_calibration.diagnosis import diagnose
from pytest_calibration.diagnosis.change import base_temperature, change_of, shared_items
from pytest_calibration.diagnosis.collapse import collapse_of, option_mass_of
from pytest_calibration.diagnosis.estimates import mean_of, sample_of
from pytest_calibration.diagnosis.findings import BaseTemperature, Interval
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import (
    answer_histogram,
    label_histogram,
    mean_entropy,
    share_confident,
)
from pytest_calibration.predictions import FloatArray, Predictions

# --- the split -----------------------------------------------------------------------------------

sides = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(sides, st.integers(0, 6))
def test_the_gap_moved_by_confidence_less_accuracy(
    rows: list[tuple[float, bool, float, bool]], groups: int
) -> None:
    """Exactly, for any two runs; each part is the difference of the means, and in its interval."""
    c0, h0, c1, h1 = (np.array(column) for column in zip(*rows, strict=True))
    names = None if not groups else [i % groups for i in range(len(rows))]
    before = Predictions.from_confidence(c0, h0, groups=names)
    after = Predictions.from_confidence(c1, h1, groups=names)
    c = change_of(after, before)
    assert c.signed_gap.value == c.confidence.value - c.accuracy.value
    assert c.accuracy.value == pytest.approx(h1.mean() - h0.mean(), abs=1e-12)
    assert c.confidence.value == pytest.approx(c1.mean() - c0.mean(), abs=1e-12)
    assert (c.accuracy_before, c.accuracy_after) == (h0.mean(), h1.mean())
    assert (c.confidence_before, c.confidence_after) == (c0.mean(), c1.mean())
    for part in (c.accuracy, c.confidence, c.signed_gap):
        assert math.isfinite(part.low)
        assert part.low <= part.value <= part.high


def test_the_intervals_are_paired() -> None:
    """Mean difference ± 1.96 standard errors of the differences, not of the two means."""
    before, after = two_runs(2000, 4, 1.5)
    c = change_of(after, before)
    for part, d in (
        (c.accuracy, after.correct.astype(float) - before.correct),
        (c.confidence, after.confidence - before.confidence),
        (c.signed_gap, after.gap - before.gap),
    ):
        half = 1.959964 * float(d.std(ddof=1)) / math.sqrt(2000)
        assert (part.low, part.high) == pytest.approx((part.value - half, part.value + half))


def test_the_intervals_are_over_groups() -> None:
    """Ten copies of each item, in groups: as wide as without the copies."""
    before, after = two_runs(300, 4, 1.5)
    many = np.repeat(np.arange(300), 10)

    def copied(p: Predictions) -> Predictions:
        return Predictions.from_confidence(p.confidence[many], p.correct[many], groups=list(many))

    a, b = change_of(after, before), change_of(copied(after), copied(before))
    for one, ten in ((a.accuracy, b.accuracy), (a.confidence, b.confidence)):
        assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_one_group_says_nothing_of_its_own_spread() -> None:
    """Its interval is the whole range, and holds the value."""
    p = Predictions.from_confidence([0.2, 0.4], [True, False], groups=["a", "a"])
    found = mean_of(np.array([0.2, 0.4]), sample_of(p))
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), -1.0, 1.0)
    assert change_of(p, p).signed_gap == Interval(0.0, -2.0, 2.0)


def test_few_wrong_answers_are_as_uncertain_as_they_are_few() -> None:
    """With 3 wrong of 1,000 the quantile is Student's with 5 degrees of freedom, not normal."""
    correct = np.arange(1000) >= 3
    p = Predictions.from_confidence(np.full(1000, 0.9), correct)
    values = correct - 0.9
    error = float(values.std(ddof=1)) / math.sqrt(1000)
    found = mean_of(values, sample_of(p), of_outcomes=True)
    assert found.value - found.low == pytest.approx(2.570582 * error)
    plain = mean_of(values, sample_of(p))
    assert plain.value - plain.low < 2.0 * error


def test_items_are_matched_by_id() -> None:
    """Order and strangers do not matter; without a shared item nothing is compared, with a note."""
    before, after = two_runs(400, 4, 1.5)
    rng = np.random.default_rng(1)
    d = diagnose(after.take(rng.permutation(400)), before.take(rng.permutation(400)))
    assert d.change is not None
    known = change_of(after, before)
    assert d.change.accuracy.value == pytest.approx(known.accuracy.value)
    assert d.change.confidence.low == pytest.approx(known.confidence.low)

    part = diagnose(after.take(np.arange(300)), before.take(np.arange(100, 400)))
    assert part.change is not None
    assert part.change.n == 200
    assert part.n == 300
    assert "Compared with the baseline on the 200 of 300 items that it has too." in part.notes

    none = diagnose(after.take(np.arange(200)), before.take(np.arange(200, 400)))
    assert none.change is None
    assert none.reference == ""
    assert "The baseline shares no item with these, so nothing is compared." in none.notes


def test_shared_items_are_in_the_order_of_the_first() -> None:
    """Of 5, 3, 9, 1 and 1, 9, 7: 9 before 1."""

    def of(ids: list[int]) -> Predictions:
        p = Predictions.from_confidence([0.5] * len(ids), [True] * len(ids))
        return replace(p, item_ids=np.array(ids, dtype=np.uint64))

    shared = shared_items(of([5, 3, 9, 1]), of([1, 9, 7]))
    assert shared is not None
    assert [side.item_ids.tolist() for side in shared] == [[9, 1], [9, 1]]


# --- the parent's temperature --------------------------------------------------------------------


def temperature(p: Predictions, base: Predictions) -> BaseTemperature:
    """The base-referenced temperature, which is there."""
    found = base_temperature(p, base, 15)
    assert found is not None
    return found


@given(st.floats(0.1, 20), st.integers(0, 5))
def test_a_parent_sharpened_by_s_is_flattened_by_s(s: float, seed: int) -> None:
    """softmax(z·s) needs T = s to be the parent again, exactly, and KL is then 0."""
    logits, labels = four_way(60, seed)
    found = temperature(
        Predictions.from_logits(s * logits, labels), Predictions.from_logits(logits, labels)
    )
    assert found.value == pytest.approx(s, rel=1e-6)
    assert found.kl_after == pytest.approx(0, abs=1e-9)
    assert found.kl_after <= found.kl_before


def test_the_least_kl_is_scipys() -> None:
    """Mean KL(base ‖ softmax(z / T)) by its formula is least where a scalar minimiser has it."""
    optimize = pytest.importorskip("scipy.optimize")
    base, p = two_runs(300, 8, 1.5)
    assert base.probabilities is not None
    assert p.probabilities is not None
    b, z = base.probabilities, np.log(p.probabilities)

    def kl(beta: float) -> float:
        q: FloatArray = softmax(beta * z)
        return float((b * (np.log(b) - np.log(q))).sum(axis=1).mean())

    known = optimize.minimize_scalar(kl, bounds=(0.01, 20), options={"xatol": 1e-9})
    found = temperature(p, base)
    assert found.value == pytest.approx(1 / known.x, rel=1e-4)
    assert found.kl_before == pytest.approx(kl(1.0))
    assert found.kl_after == pytest.approx(known.fun)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_labels_have_no_part_in_it() -> None:
    """Shuffled labels change the ECE at that temperature, not the temperature."""
    base, after = calibrated(500, 1), sharpened(500, 1, 2.0)
    assert after.labels is not None
    rng = np.random.default_rng(1)
    wrong = Predictions.from_probabilities(after.probabilities, rng.permutation(after.labels))
    a, b = temperature(after, base), temperature(wrong, base)
    assert (a.value, a.kl_after) == (b.value, b.kl_after)
    assert a.ece.at_floor
    assert not b.ece.at_floor
    assert a.ece.value == pytest.approx(measure(base, "ece").value, abs=1e-6)


def test_options_the_model_rules_out_do_not_make_it_infinite() -> None:
    """The parent counts as far as it speaks of what the model holds possible."""
    base = Predictions.from_probabilities([[0.4, 0.35, 0.25]] * 4, [0, 1, 2, 0])
    p = Predictions.from_probabilities([[0.8, 0.2, 0.0]] * 4, [0, 1, 2, 0])
    found = temperature(p, base)
    # 0.8 : 0.2 is to become 0.4 : 0.35.
    assert found.value == pytest.approx(math.log(4) / math.log(0.4 / 0.35))
    assert found.kl_after == pytest.approx(0, abs=1e-12)


def test_it_needs_two_tables_of_equal_width() -> None:
    """Confidences alone, or another number of options: None; and only a parent is asked."""
    base, p = calibrated(80, 1), sharpened(80, 1)
    assert p.probabilities is not None
    padded = np.concatenate([p.probabilities, np.zeros((80, 1))], axis=1)
    bare = Predictions.from_confidence(p.confidence, p.correct)
    assert base_temperature(bare, base, 15) is None
    assert base_temperature(p, bare, 15) is None
    assert base_temperature(Predictions.from_probabilities(padded, p.labels), base, 15) is None
    flat = Predictions.from_probabilities([[0.25] * 4] * 80, p.labels)
    assert base_temperature(flat, base, 15) is None
    assert diagnose(p, base).base_temperature is None
    assert diagnose(p, base, base_model=True).base_temperature is not None


# --- the regime ----------------------------------------------------------------------------------


def memoriser(n: int, seed: int, share: float = 0.5) -> tuple[Predictions, Predictions]:
    """A calibrated parent, and a child that knows a share of the answers by heart."""
    logits, labels = four_way(n, seed)
    known = np.random.default_rng(seed).random(n) < share
    learned = logits.copy()
    learned[known] = -3.0
    learned[known, labels[known]] = 3.0
    return Predictions.from_logits(2 * learned, labels), Predictions.from_logits(logits, labels)


def regimes(pairs: Iterable[tuple[Predictions, Predictions]]) -> list[str]:
    """The regime of each child against its calibrated parent."""
    return [diagnose(p, base, base_model=True).regime.name for p, base in pairs]


def test_a_memoriser_is_non_calibratable_with_its_parents_beliefs() -> None:
    """Accuracy above what a calibrated parent believed: by the paired difference, with its ends."""
    p, base = memoriser(2000, 0)
    r = diagnose(p, base, base_model=True, reference="parent base").regime
    assert r.name == "non-calibratable"
    own = measure(base, "ece").value
    assert r.reference == (
        f"mean confidence of parent base, whose own ECE ({own:.3f}) is at its noise floor"
    )
    assert r.margin is not None
    d = p.correct - base.confidence
    half = 1.959964 * float(d.std(ddof=1)) / math.sqrt(2000)
    assert r.margin.value == pytest.approx(float(d.mean()))
    assert r.margin.low == pytest.approx(float(d.mean()) - half, rel=0.02)
    assert r.margin.high == pytest.approx(float(d.mean()) + half, rel=0.02)
    assert "no proof" in r.caveat


def test_memorisers_are_told_from_their_calibrated_parents() -> None:
    """Of 30, none the other way; but a calibrated parent is refused now and then."""
    names = regimes(memoriser(2000, seed) for seed in range(30))
    assert names.count("non-calibratable") >= 27
    assert "calibratable" not in names


def test_a_child_that_lost_accuracy_is_calibratable() -> None:
    """Pulled towards one letter and sharpened: below what its parent believed attainable."""

    def child(seed: int) -> tuple[Predictions, Predictions]:
        logits, labels = four_way(2000, seed)
        changed = 2 * logits
        changed[:, 1] += 3
        return Predictions.from_logits(changed, labels), Predictions.from_logits(logits, labels)

    names = regimes(child(seed) for seed in range(30))
    assert names.count("calibratable") >= 27
    assert "non-calibratable" not in names


def test_a_sharpened_child_is_of_no_regime_and_a_scaling_problem() -> None:
    """The same answers as its parent, surer: accuracy is what the parent believed, but for 5 %."""
    found = [
        diagnose(sharpened(2000, seed, 2.0), calibrated(2000, seed), base_model=True)
        for seed in range(60)
    ]
    assert sum(d.regime.name != "undetermined" for d in found) <= 8
    assert all(d.problem == "scaling" for d in found)


def test_without_a_parent_no_regime_is_named() -> None:
    """A memoriser's own scaled confidence follows its accuracy, so it says nothing of learning."""
    p, base = memoriser(2000, 0)
    assert diagnose(p, base, base_model=True).regime.name == "non-calibratable"
    for d in (diagnose(p), diagnose(p, base)):
        assert d.regime.name == "undetermined"
        assert d.regime.reference == (
            "mean confidence of this model after cross-fitted temperature scaling"
        )
        assert d.regime.margin is not None
        assert abs(d.regime.margin.value) < 0.03
        assert "names no regime" in d.regime.caveat


def test_a_parent_that_is_not_calibrated_is_no_reference() -> None:
    """Then, or on fewer than 50 units, the model stands for itself, and a note says why."""
    p, base = memoriser(2000, 1)
    off = sharpened(2000, 1, 2.0)
    d = diagnose(p, off, base_model=True, reference="parent base")
    assert d.regime.name == "undetermined"
    assert d.regime.reference.startswith("mean confidence of this model")
    (note,) = [n for n in d.notes if "no reference" in n]
    assert note.startswith("The parent base is no reference for the regime: its own ECE, 0.1")
    assert note.endswith(f"is more than noise makes (up to {measure(off).noise_floor_high:.3f}).")
    few = diagnose(p.take(np.arange(49)), base.take(np.arange(49)), base_model=True)
    assert few.regime.name == "undetermined"
    assert few.regime.margin is None


# --- the collapse --------------------------------------------------------------------------------


def pulled(n: int, seed: int, by: float, option: int = 1) -> Predictions:
    """A calibrated model, pulled towards one option."""
    logits, labels = four_way(n, seed)
    logits[:, option] += by
    return Predictions.from_logits(logits, labels)


def test_its_numbers_are_those_of_the_metrics() -> None:
    """Share of 0.9 and above, entropy and histograms, each beside the baseline's."""
    base, after = two_runs(800, 3, 2.0)
    c = collapse_of(after, base)
    assert c.mean_entropy is not None
    for found, metric in (
        (c.share_confident, share_confident),
        (c.mean_entropy, mean_entropy),
    ):
        assert found.value == pytest.approx(metric(after))
        assert found.baseline == pytest.approx(metric(base))
        assert found.change is not None
        assert found.change.value == pytest.approx(metric(after) - metric(base))
        assert found.change.low < found.change.value < found.change.high
    assert c.answered == pytest.approx(answer_histogram(after))
    assert c.correct == pytest.approx(label_histogram(after))
    assert c.answered_before == pytest.approx(answer_histogram(base))
    alone = collapse_of(after, None)
    assert alone.mean_entropy is not None
    assert alone.mean_entropy.baseline is alone.mean_entropy.change is None
    assert alone.answered_before is None


def test_without_a_table_there_are_no_options() -> None:
    """The share of 0.9 remains; a baseline without a table lacks only its part."""
    base, after = two_runs(200, 3, 2.0)
    bare = Predictions.from_confidence(after.confidence, after.correct)
    c = collapse_of(bare, base)
    assert c.mean_entropy is c.answered is c.correct is c.favourite is None
    assert c.share_confident.baseline is not None
    half = collapse_of(after, Predictions.from_confidence(base.confidence, base.correct))
    assert half.mean_entropy is not None
    assert half.mean_entropy.baseline is None
    assert half.answered_before is None
    assert half.share_confident.change is not None


@pytest.mark.parametrize("option", range(4))
def test_a_favourite_letter_is_found(option: int) -> None:
    """Pulled towards one option by 2: answered much more often than it is right."""
    base, after = calibrated(1500, 2), pulled(1500, 2, 2.0, option)
    found = collapse_of(after, base).favourite
    assert found is not None
    assert (found.option, found.options) == (option, 4)
    assert found.answered == pytest.approx(answer_histogram(after)[option])
    assert found.correct == pytest.approx(label_histogram(after)[option])
    assert found.baseline == pytest.approx(answer_histogram(base)[option])
    d = (after.probabilities.argmax(axis=1) == option) * 1.0 - (after.labels == option)  # type: ignore[union-attr]
    half = 2.497705 * float(d.std(ddof=1)) / math.sqrt(1500)  # 0.025 / 4 on either side
    assert found.excess.value == pytest.approx(float(d.mean()))
    assert found.excess.low == pytest.approx(float(d.mean()) - half)


def test_a_letter_that_is_right_that_often_is_no_favourite() -> None:
    """Answers that follow skewed labels are no collapse; nor is what noise may be."""
    rng = np.random.default_rng(1)
    labels = rng.choice(4, 1500, p=[0.7, 0.1, 0.1, 0.1])
    logits = rng.standard_normal((1500, 4))
    logits[np.arange(1500), labels] += 4
    assert collapse_of(Predictions.from_logits(logits, labels), None).favourite is None
    assert all(collapse_of(calibrated(400, s), None).favourite is None for s in range(30))
    assert collapse_of(pulled(12, 2, 1.0), None).favourite is None


# --- the mass of the options ---------------------------------------------------------------------


def with_mass(mass: Any, seed: int = 1) -> Predictions:
    """Predictions with this option mass."""
    return replace(calibrated(len(mass), seed), option_mass=np.asarray(mass, dtype=float))


@pytest.mark.parametrize(
    ("mass", "below", "small"),
    [
        ([0.9] * 40, 0.0, False),
        ([0.3] * 40, 1.0, True),
        ([0.9] * 29 + [0.1] * 11, 0.275, True),
        ([0.9] * 31 + [0.1] * 9, 0.225, False),
        ([0.5] * 40, 0.0, False),
    ],
)
def test_option_mass_is_small_on_average_or_on_a_quarter(
    mass: list[float], below: float, small: bool
) -> None:
    """Mean, share below a half, and whether the two make it small."""
    found = option_mass_of(with_mass(mass), None)
    assert found is not None
    assert found.mean.value == pytest.approx(np.mean(mass))
    assert found.mean.low <= found.mean.value <= found.mean.high <= 1
    assert found.share_below_half == pytest.approx(below)
    assert found.small is small
    assert found.contrast is None


def test_option_mass_stands_beside_the_baselines() -> None:
    """On the items both have; rounding above 1 counts as 1; unknown stays unknown."""
    after, base = with_mass(np.full(60, 0.4)), with_mass(np.full(60, 1.0001))
    found = diagnose(after, base).option_mass
    assert found is not None
    assert found.contrast is not None
    assert (found.contrast.value, found.contrast.baseline) == pytest.approx((0.4, 1.0))
    assert found.contrast.change is not None
    assert found.contrast.change.value == pytest.approx(-0.6)
    assert diagnose(calibrated(60, 1), base).option_mass is None
    alone = diagnose(after, calibrated(60, 1)).option_mass
    assert alone is not None
    assert alone.contrast is None
