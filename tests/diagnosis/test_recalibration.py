"""Recalibration out of fold: what it learns from, what it brings, and what it is called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, d1, sharpened

from pytest_calibration.diagnosis import apply_temperature, diagnose, fit_temperature, recalibration
from pytest_calibration.diagnosis.diagnosing import problem_of
from pytest_calibration.diagnosis.findings import EceReading, Interval, Recalibrated, TemperatureFit
from pytest_calibration.diagnosis.recalibration import (
    FOLDS,
    MIN_UNITS,
    judge_recalibrated,
    out_of_fold,
    read_ece,
    straightened,
    tempered,
)
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import auroc
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.folds import balanced_folds
from pytest_calibration.uncertainty.isotonic import isotonic
from pytest_calibration.uncertainty.standard_errors import cluster_codes


def folds_of(p: Predictions) -> IntArray:
    """The fold of each item."""
    return balanced_folds(p.item_ids, cluster_codes(p), FOLDS)


# --- out of fold ---------------------------------------------------------------------------------


@given(st.integers(1, 120), st.integers(0, 30), st.integers(0, 99))
def test_no_item_learns_from_itself_or_from_its_group(n: int, groups: int, seed: int) -> None:
    """A planted leak, which looks up the outcome of a group it knows, finds none."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, groups, n) if groups else np.arange(n)
    p = Predictions.from_confidence(
        rng.random(n),
        rng.random(n) < 0.5,
        groups=list(names),
        item_ids=[f"{seed} {i}" for i in range(n)],
    )

    def leak(train: IntArray, held: IntArray) -> FloatArray:
        known = {*names[train].tolist()}
        return np.array([1.0 if names[i] in known else 0.25 for i in held])

    assert out_of_fold(p, leak).tolist() == [0.25] * n


def test_every_item_is_recalibrated_once_by_the_four_other_folds() -> None:
    """The five calls cover the items, and each learns from all it does not recalibrate."""
    p = calibrated(503, 1)
    seen: list[int] = []

    def learn(train: IntArray, held: IntArray) -> FloatArray:
        assert sorted([*train, *held]) == list(range(503))
        seen.extend(held.tolist())
        return np.zeros(len(held))

    assert not out_of_fold(p, learn).any()
    assert sorted(seen) == list(range(503))


def test_temperature_is_learned_on_the_other_folds() -> None:
    """Each fold has the confidences that the temperature of the rest gives it."""
    p = sharpened(400, 3, 2.0)
    fold, out = folds_of(p), tempered(p)
    for held in range(FOLDS):
        inside = np.flatnonzero(fold == held)
        fit = fit_temperature(p.take(np.flatnonzero(fold != held)))
        assert fit is not None
        expected = apply_temperature(p.take(inside), fit.value).confidence
        assert out.confidence[inside] == pytest.approx(expected, abs=1e-8)
    assert np.array_equal(out.correct, p.correct)
    assert out.probabilities is None


def test_the_isotonic_map_is_learned_on_the_other_folds() -> None:
    """Each fold has the confidences that scikit-learn's map of the rest gives it."""
    sklearn = pytest.importorskip("sklearn.isotonic")
    p = Predictions.from_confidence(*d1())
    fold, out = folds_of(p), straightened(p)
    for held in range(FOLDS):
        inside, rest = fold == held, fold != held
        known = sklearn.IsotonicRegression(out_of_bounds="clip")
        known.fit(p.confidence[rest], p.correct[rest].astype(float))
        expected = known.predict(p.confidence[inside])
        assert out.confidence[inside] == pytest.approx(expected, abs=1e-9)


def test_noise_is_not_learned() -> None:
    """Where confidence says nothing, a map seems to rank the items it was fitted to, no others."""
    rng = np.random.default_rng(2)
    p = Predictions.from_confidence(rng.random(600), rng.random(600) < 0.5)
    fitted = np.interp(p.confidence, *isotonic(p.confidence, p.correct.astype(float)))
    assert auroc((fitted, p.correct)) > 0.52
    assert auroc(straightened(p)) < 0.5


@pytest.mark.parametrize("kind", ["table", "confidence", "groups"])
def test_the_order_of_the_items_changes_nothing(kind: str) -> None:
    """The same items in any order have the same diagnosis, to rounding."""
    p = sharpened(300, 5, 1.8)
    if kind == "confidence":
        p = Predictions.from_confidence(p.confidence, p.correct)
    if kind == "groups":
        p = replace(p, groups=np.array([f"g{i // 4}" for i in range(300)]))
    order = np.random.default_rng(1).permutation(300)
    a, b = diagnose(p), diagnose(p.take(order))
    assert a.paragraph == b.paragraph
    assert list(a.lines()) == list(b.lines())


# --- what is left --------------------------------------------------------------------------------


def test_a_reading_is_the_measurement() -> None:
    """Value, interval and floors are those of ``measure``; at the floor is below its 95 % point."""
    for p in (calibrated(700, 2), sharpened(700, 2, 2.0)):
        m, r = measure(p, "ece", bins=10), read_ece(p, 10)
        assert (r.value, r.low, r.high) == (m.value, m.low, m.high)
        assert (r.noise_floor, r.noise_floor_high) == (m.noise_floor, m.noise_floor_high)
        assert r.at_floor == (m.value <= m.noise_floor_high)
    assert not r.at_floor


def test_what_is_left_is_measured_on_all_items() -> None:
    """The ECE after temperature scaling is that of the recalibrated items, with its own floor."""
    p = sharpened(1500, 4, 2.2)
    d = diagnose(p, bins=12)
    m = measure(tempered(p), "ece", bins=12)
    assert d.after_temperature is not None
    assert (d.after_temperature.value, d.after_temperature.low, d.after_temperature.high) == (
        m.value,
        m.low,
        m.high,
    )
    assert d.after_isotonic is not None
    assert d.after_isotonic.value == measure(straightened(p), "ece", bins=12).value


def test_corrected_is_at_the_floor_or_four_fifths_gone() -> None:
    """Above its floor, what is left may be a fifth of what was there; beyond, it is left."""
    before = replace(read_ece(sharpened(2000, 1, 2.5), 15), value=0.22, noise_floor=0.02)
    p = calibrated(40_000, 3)
    floor = read_ece(p, 15)

    def shifted(by: float) -> Predictions:
        return replace(
            Predictions.from_confidence(np.clip(p.confidence + by, 0, 1), p.correct),
            item_ids=p.item_ids,
        )

    at = judge_recalibrated(before, p, 15)
    assert (
        (at.at_floor, at.corrected, at.remains)
        == (floor.at_floor, True, False)
        == (True, True, False)
    )
    little = judge_recalibrated(before, shifted(0.03), 15)
    assert (little.at_floor, little.corrected, little.remains) == (False, True, False)
    much = judge_recalibrated(before, shifted(0.07), 15)
    assert (much.at_floor, much.corrected, much.remains) == (False, False, True)
    few = calibrated(200, 3)
    assert measure(few, "ece").value > measure(few, "ece").noise_floor_high
    assert measure(few, "ece").low == 0
    open_ = judge_recalibrated(replace(before, value=0.12), few, 15)
    assert (open_.at_floor, open_.corrected, open_.remains) == (False, False, False)


def test_too_few_units_are_not_recalibrated() -> None:
    """Below 50 items, or 50 groups of any size, there is a reason instead of a number."""
    few = diagnose(calibrated(MIN_UNITS - 1, 1))
    assert few.after_temperature is few.after_isotonic is None
    assert few.problem == "undecided"
    assert any("49 independent units, and 50 are needed" in note for note in few.notes)
    p = sharpened(980, 1, 2.0)
    grouped = replace(p, groups=np.array([f"{i // 20}" for i in range(980)]))
    assert diagnose(grouped).after_isotonic is None
    assert diagnose(grouped).problem == "undecided"
    assert diagnose(p.take(np.arange(MIN_UNITS))).after_isotonic is not None


# --- what it is called ---------------------------------------------------------------------------


FAR = EceReading(0.2, 0.15, 0.25, 0.02, 0.03, False)
NEAR = replace(FAR, value=0.025, at_floor=True)
OFF, OPEN = Interval(0.1, 0.05, 0.15), Interval(0.01, -0.02, 0.04)
RANKS, BLIND, WEAK = (
    Interval(0.7, 0.6, 0.8),
    Interval(0.5, 0.45, 0.55),
    Interval(0.55, 0.52, 0.58),
)
T2 = TemperatureFit(2.0, 1.8, 2.2, "logits", 1.2, 1.0, False, 0)
T1 = replace(T2, value=1.05, low=0.9)


def rest(value: float, corrected: bool, remains: bool) -> Recalibrated:
    """What is left after recalibration."""
    return Recalibrated(value, 0.0, 0.3, 0.02, 0.03, False, corrected, remains)


GONE, UNCLEAR, LEFT = rest(0.03, True, False), rest(0.08, False, False), rest(0.15, False, True)
WORSE = rest(0.21, True, False)


@pytest.mark.parametrize(
    ("gap", "ece", "auroc", "fit", "by_temperature", "by_isotonic", "word"),
    [
        (OPEN, NEAR, RANKS, T1, GONE, GONE, "none"),
        (Interval(0.0, -0.1, 0.1), NEAR, RANKS, T1, GONE, GONE, "undecided"),
        (OFF, NEAR, RANKS, T2, GONE, GONE, "undecided"),
        (OFF, NEAR, RANKS, T2, rest(0.02, True, False), GONE, "scaling"),
        (OFF, FAR, RANKS, T2, GONE, GONE, "scaling"),
        (OPEN, FAR, RANKS, T2, GONE, LEFT, "scaling"),
        (OFF, FAR, WEAK, T2, GONE, GONE, "scaling"),
        (OFF, FAR, BLIND, T2, GONE, GONE, "ranking"),
        (OFF, FAR, BLIND, T2, GONE, LEFT, "scaling"),
        (OFF, FAR, RANKS, T1, GONE, GONE, "undecided"),
        (OFF, FAR, RANKS, T2, WORSE, GONE, "undecided"),
        (OFF, FAR, RANKS, T2, UNCLEAR, GONE, "undecided"),
        (OFF, FAR, RANKS, T2, LEFT, GONE, "shape"),
        (OFF, FAR, WEAK, T2, LEFT, GONE, "ranking"),
        (OFF, FAR, None, T2, LEFT, GONE, "ranking"),
        (OFF, FAR, RANKS, T2, LEFT, UNCLEAR, "undecided"),
        (OFF, FAR, RANKS, T2, LEFT, WORSE, "undecided"),
        (OFF, FAR, RANKS, T2, LEFT, LEFT, "not corrected"),
        (OFF, FAR, RANKS, T2, UNCLEAR, LEFT, "undecided"),
        (OFF, FAR, RANKS, None, None, GONE, "shape"),
        (OFF, FAR, RANKS, None, None, LEFT, "not corrected"),
        (OFF, FAR, RANKS, T2, None, None, "undecided"),
    ],
)
def test_the_word_follows_from_what_is_left(
    gap: Interval,
    ece: EceReading,
    auroc: Interval | None,
    fit: TemperatureFit | None,
    by_temperature: Recalibrated | None,
    by_isotonic: Recalibrated | None,
    word: str,
) -> None:
    """Every way through: corrected, remaining, ranking, undecided."""
    assert problem_of(gap, ece, auroc, fit, by_temperature, by_isotonic) == word


def bow(n: int, seed: int) -> tuple[FloatArray, np.ndarray]:
    """A model whose truth bends away from its confidence as no temperature does."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.05, 0.98, n)
    truth = np.clip(confidence + 0.17 * np.sin(2 * np.pi * confidence) - 0.05, 0, 1)
    return confidence, rng.random(n) < truth


@pytest.mark.parametrize("factor", [0.5, 1.6, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_multiplied_logits_are_a_scaling_problem(factor: float, seed: int) -> None:
    """Sharpened or flattened by a factor: a temperature brings ECE to its floor, out of fold."""
    d = diagnose(sharpened(3000, seed, factor))
    assert d.problem == "scaling"
    assert d.direction == ("over-confident" if factor > 1 else "under-confident")
    assert d.after_temperature is not None
    assert d.after_temperature.corrected
    assert d.after_temperature.value < d.ece.value / 2


@pytest.mark.parametrize("seed", range(4))
def test_a_bend_is_a_problem_of_shape(seed: int) -> None:
    """A curved truth: ECE remains after the best temperature, and is gone after a monotone map."""
    d = diagnose(bow(5000, seed))
    assert d.problem == "shape"
    assert d.after_temperature is not None
    assert d.after_temperature.remains
    assert d.after_isotonic is not None
    assert d.after_isotonic.corrected


@pytest.mark.parametrize("seed", range(3))
def test_confidence_that_says_nothing_is_a_problem_of_ranking(seed: int) -> None:
    """Confidence drawn apart from correctness: only one confidence for all would be calibrated."""
    rng = np.random.default_rng(seed)
    d = diagnose((rng.uniform(0.3, 1, 2000), rng.random(2000) < 0.4))
    assert d.problem == "ranking"
    for right in (True, False):
        certain = diagnose((rng.uniform(0.5, 1, 300), np.full(300, right)))
        assert certain.problem == "ranking"
        assert certain.auroc is None


def test_differences_between_folds_are_not_corrected() -> None:
    """Where each fold has an accuracy of its own, what the others teach is wrong for it."""
    rng = np.random.default_rng(0)
    p = Predictions.from_confidence(rng.uniform(0.1, 0.9, 4000), rng.random(4000) < 0.5)
    share = np.array([0.95, 0.75, 0.5, 0.25, 0.05])[folds_of(p)]
    odds = p.confidence / (1 - p.confidence) * share / (1 - share)
    p = replace(p, correct=rng.random(4000) < odds / (1 + odds))
    p = replace(p, confidence=p.confidence**4)
    d = diagnose(p)
    assert d.problem == "not corrected"
    assert d.after_isotonic is not None
    assert d.after_isotonic.remains


def test_calibrated_models_are_rarely_said_to_have_a_problem() -> None:
    """Of 100 calibrated models at most 10 are named anything but fine or undecided."""
    words = [diagnose(calibrated(1500, seed)).problem for seed in range(100)]
    assert words.count("none") >= 85
    assert sum(word not in ("none", "undecided") for word in words) <= 10


def test_few_items_of_a_calibrated_model_are_undecided() -> None:
    """A model that might be off by 0.05 unseen does not count as free of problems."""
    d = diagnose(calibrated(200, 4))
    assert d.ece.at_floor
    assert d.signed_gap.sign == 0
    assert (d.problem, d.direction) == ("undecided", "undetermined")


def test_a_fold_learns_from_a_limited_number_of_items(monkeypatch) -> None:
    """Beyond it, from those of the smallest ids, whatever their order; all are recalibrated."""
    monkeypatch.setattr(recalibration, "LEARN_FROM", 60)
    p = calibrated(300, 1)
    learned: list[set[bytes]] = []

    def learn(train, held):
        learned.append({id_.tobytes() for id_ in p.item_ids[train]})
        return np.full(len(held), 0.5)

    assert out_of_fold(p, learn).tolist() == [0.5] * 300
    assert {len(ids) for ids in learned} == {60}
    first = learned
    p, learned = p.take(np.arange(300)[::-1]), []
    out_of_fold(p, learn)
    assert learned == first
