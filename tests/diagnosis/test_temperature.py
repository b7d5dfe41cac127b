"""The temperature against formulas, scipy, scikit-learn and models whose temperature is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from known_calibration import calibrated, d1, d3, four_way, sharpened, softmax

from pytest_calibration.diagnosis import apply_temperature, fit_temperature
from pytest_calibration.diagnosis.findings import TemperatureFit
from pytest_calibration.diagnosis.temperature import (
    COLDEST,
    HOTTEST,
    Logits,
    Target,
    minimise,
    scale_of,
)
from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import nll
from pytest_calibration.predictions import FloatArray, Predictions

temperatures = st.floats(0.05, 20)


def fitted(p: Any) -> TemperatureFit:
    """The fit, which is there."""
    fit = fit_temperature(p)
    assert fit is not None
    return fit


@st.composite
def tables(draw: st.DrawFn) -> Predictions:
    """Small tables of every kind: ties, zeros, certainty, two options and more."""
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    cells = st.sampled_from([0.0, 0.0, 1e-300, 1e-12, 0.1, 0.25, 0.5, 1.0, 3.0])
    rows = draw(st.lists(st.lists(cells, min_size=k, max_size=k), min_size=n, max_size=n))
    table = np.array(rows)
    table[table.max(axis=1) < 0.1, 0] = 1.0
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return Predictions.from_probabilities(table / table.sum(axis=1, keepdims=True), labels)


@st.composite
def pairs(draw: st.DrawFn) -> Predictions:
    """Confidence and correctness alone, with certainties."""
    confidence = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
    rows = draw(st.lists(st.tuples(confidence, st.booleans()), min_size=1, max_size=40))
    return Predictions.from_confidence([c for c, _ in rows], np.array([h for _, h in rows]))


# --- applying it ---------------------------------------------------------------------------------


@given(st.one_of(tables(), pairs()), st.one_of(temperatures, st.sampled_from([1e-9, 1e9, 1e308])))
def test_no_temperature_changes_an_answer(p: Predictions, t: float) -> None:
    """Correctness and the likeliest option are the same, and every number is one."""
    q = apply_temperature(p, t)
    assert np.array_equal(q.correct, p.correct)
    assert np.array_equal(q.item_ids, p.item_ids)
    assert np.all((q.confidence >= 0) & (q.confidence <= 1))
    if p.probabilities is not None:
        assert q.probabilities is not None
        assert np.array_equal(q.probabilities.argmax(axis=1), p.probabilities.argmax(axis=1))
        assert np.array_equal(q.probabilities.max(axis=1), q.confidence)
        assert np.all(q.probabilities[p.probabilities == 0] == 0)
        assert q.probabilities.sum(axis=1) == pytest.approx(1)
        assert q.label_logprobs is not None
        assert np.all(np.isfinite(q.label_logprobs))
        assert scale_of(q) == "logits"


def test_a_rival_that_rounding_makes_level_stays_second() -> None:
    """At T = 1e9 both options are 1/2 to the last digit; the answer is the second all the same."""
    p = Predictions.from_probabilities([[0.4, 0.6], [0.6, 0.4]], [1, 1])
    q = apply_temperature(p, 1e18)
    assert q.probabilities is not None
    assert q.probabilities.argmax(axis=1).tolist() == [1, 0]
    assert q.correct.tolist() == [True, False]


@given(temperatures)
def test_it_divides_the_logits(t: float) -> None:
    """Probabilities and log-probabilities are those of softmax(z / T)."""
    logits, labels = four_way(50, 3)
    q = apply_temperature(Predictions.from_logits(logits, labels), t)
    expected = softmax(logits / t)
    assert q.probabilities == pytest.approx(expected, abs=1e-9)
    assert q.label_logprobs == pytest.approx(np.log(expected[np.arange(50), labels]), abs=1e-7)


@given(temperatures)
@example(1.0)
def test_it_divides_the_log_odds(t: float) -> None:
    """Without a table c becomes 1 / (1 + ((1 - c) / c)^(1/T)); for T ≠ 1 what NLL needs is gone."""
    c = np.array([0.0, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
    p = Predictions.from_confidence(c, np.array([True] * 7))
    q = apply_temperature(replace(p, label_logprobs=np.log(np.maximum(c, 1e-9))), t)
    inner = 1 / (1 + ((1 - c[1:-1]) / c[1:-1]) ** (1 / t))
    assert q.confidence == pytest.approx(np.concatenate([[0], inner, [1]]), abs=1e-12)
    assert (q.label_logprobs is None) is (t != 1)


@given(temperatures, temperatures)
def test_two_temperatures_are_their_product(a: float, b: float) -> None:
    """Dividing twice is dividing once by both."""
    for p in (calibrated(30, 1), Predictions.from_confidence(*d1()).take(np.arange(30))):
        once, twice = apply_temperature(p, a * b), apply_temperature(apply_temperature(p, a), b)
        # A confidence that has come within 1e-12 of 1 has lost digits.
        same = (once.confidence < 1 - 1e-6) & (apply_temperature(p, a).confidence < 1 - 1e-6)
        assert twice.confidence[same] == pytest.approx(once.confidence[same], abs=1e-7)


def test_one_leaves_everything_as_it_is() -> None:
    """T = 1 returns what it was given, rows that were stored rounded too."""
    p = Predictions.from_probabilities([[0.333, 0.333, 0.333]], [0])
    assert apply_temperature(p, 1) is p


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (0, "a temperature must be a finite number above 0, got 0."),
        (-1.5, "a temperature must be a finite number above 0, got -1.5."),
        (math.nan, "a temperature must be a finite number above 0, got nan."),
        (math.inf, "a temperature must be a finite number above 0, got inf."),
        ("2", "a temperature must be a number above 0, got '2'."),
        (True, "a temperature must be a number above 0, got True."),
    ],
)
def test_what_is_no_temperature_is_refused(t: Any, message: str) -> None:
    """The message says what came."""
    with pytest.raises(MetricError) as error:
        apply_temperature(calibrated(5, 1), t)
    assert str(error.value) == message


# --- which scale ---------------------------------------------------------------------------------


def test_a_table_that_is_not_what_the_confidence_came_from_is_not_used() -> None:
    """Logits where table, labels, confidence and correctness agree, else log-odds."""
    p = calibrated(40, 1)
    assert scale_of(p) == "logits"
    assert scale_of(replace(p, confidence=p.confidence.astype(np.float32))) == "logits"
    assert scale_of(replace(p, labels=None)) == "log-odds"
    assert scale_of(replace(p, confidence=p.confidence * 0.9)) == "log-odds"
    assert scale_of(replace(p, correct=~p.correct)) == "log-odds"
    assert p.labels is not None
    assert scale_of(replace(p, labels=p.labels + 4)) == "log-odds"
    assert scale_of(Predictions.from_confidence(*d1())) == "log-odds"
    nothing = np.zeros((40, 4))
    empty = replace(p, probabilities=nothing, confidence=np.zeros(40), correct=p.labels == 0)
    assert scale_of(empty) == "log-odds"


# --- fitting it ----------------------------------------------------------------------------------


@given(st.one_of(tables(), pairs()))
def test_nll_is_least_at_the_fit(p: Predictions) -> None:
    """NLL never rises, and is no lower a little to either side; everything is finite."""
    fit = fit_temperature(p)
    if fit is None:
        return
    assert COLDEST <= fit.value <= HOTTEST
    assert math.isfinite(fit.nll_before)
    assert 0 <= fit.nll_after <= fit.nll_before
    assert fit.at_limit == (fit.low is None) == (fit.high is None) or p.n == 1
    if fit.low is not None and fit.high is not None:
        assert COLDEST <= fit.low <= fit.value <= fit.high <= HOTTEST
    if not fit.impossible:
        least = _loss(p, fit.value)
        assert fit.nll_after == pytest.approx(least, abs=1e-7)
        for factor in (0.98, 1.02):
            if COLDEST <= fit.value * factor <= HOTTEST:
                assert _loss(p, fit.value * factor) >= least - 1e-9


def _loss(p: Predictions, t: float) -> float:
    """NLL at a temperature, by the formula."""
    with np.errstate(divide="ignore"):
        if scale_of(p) == "logits":
            assert p.probabilities is not None
            assert p.labels is not None
            z, gold = np.log(p.probabilities) / t, p.labels
        else:
            z = np.log(np.stack([p.confidence, 1 - p.confidence], axis=1)) / t
            gold = np.where(p.correct, 0, 1)
    total = np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z.max(axis=1)
    return float((total - z[np.arange(p.n), gold]).mean())


@pytest.mark.parametrize("t", [0.3, 0.8, 1.0, 2.3, 5.0, 30.0])
def test_a_known_temperature_is_recovered(t: float) -> None:
    """A calibrated model whose logits are multiplied by T: T, within its interval."""
    fit = fitted(sharpened(20_000, 5, t))
    assert fit.scale == "logits"
    assert not fit.at_limit
    assert fit.value == pytest.approx(t, rel=0.05)
    assert fit.low is not None
    assert fit.high is not None
    assert fit.low <= t <= fit.high
    # The interval is as wide as the data say, and no wider: T moves with the logits, to the digit.
    assert fit.value == pytest.approx(t * fitted(sharpened(20_000, 5, 1.0)).value, rel=1e-6)
    assert fit.high / fit.low < 1.2


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.6, 4.0])
def test_the_fit_is_scipys(factor: float) -> None:
    """A bounded scalar minimiser of the formula finds the same T and the same NLL."""
    optimize = pytest.importorskip("scipy.optimize")
    for p in (
        sharpened(800, 2, factor),
        Predictions.from_confidence(*d1()),
        sharpened(12, 1, factor),
    ):
        known = optimize.minimize_scalar(
            lambda b, p=p: _loss(p, 1 / b), bounds=(0.01, 20), options={"xatol": 1e-10}
        )
        fit = fitted(p)
        assert fit.value == pytest.approx(1 / known.x, rel=1e-4)
        assert fit.nll_after == pytest.approx(known.fun, abs=1e-10)
        assert fit.nll_before == pytest.approx(_loss(p, 1.0), abs=1e-12)


def test_on_log_odds_it_is_a_logistic_regression_through_the_origin() -> None:
    """1/T is the coefficient of scikit-learn's, without intercept and without a penalty."""
    linear = pytest.importorskip("sklearn.linear_model")
    c, correct = d1()
    known = linear.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12)
    known.fit(np.log(c / (1 - c))[:, None], correct)
    fit = fitted((c, correct))
    assert fit.scale == "log-odds"
    assert fit.value == pytest.approx(1 / float(known.coef_[0, 0]), rel=1e-4)


def test_nll_is_that_of_the_metric() -> None:
    """Before and after are ``nll`` of the predictions and of those at the temperature."""
    p = sharpened(500, 3, 2.0)
    fit = fitted(p)
    assert fit.nll_before == pytest.approx(nll(p))
    assert fit.nll_after == pytest.approx(nll(apply_temperature(p, fit.value)))


def test_options_that_are_not_there_do_not_count() -> None:
    """A column of zeros, as rows with fewer options have it, changes no fit."""
    p = sharpened(300, 4, 1.7)
    assert p.probabilities is not None
    padded = np.concatenate([p.probabilities, np.zeros((300, 2))], axis=1)
    q = Predictions.from_probabilities(padded, p.labels)
    assert fitted(q) == fitted(p)
    assert np.all(apply_temperature(q, 3.0).probabilities[:, 4:] == 0)  # type: ignore[index]


def test_what_is_impossible_has_no_say() -> None:
    """Items whose right option has probability 0 are counted, and change nothing else."""
    p = sharpened(300, 4, 1.7)
    assert p.probabilities is not None
    assert p.labels is not None
    table = np.concatenate([p.probabilities, [[0.0, 0.7, 0.3, 0.0]] * 3])
    q = Predictions.from_probabilities(table, np.append(p.labels, [0, 3, 0]))
    fit, known = fitted(q), fitted(p)
    assert (fit.impossible, known.impossible) == (3, 0)
    assert fit.value == pytest.approx(known.value, rel=1e-9)
    assert (fit.nll_before, fit.nll_after) == pytest.approx((known.nll_before, known.nll_after))


def test_certain_and_wrong_stays_certain_and_wrong() -> None:
    """On log-odds, of 140 verbal certainties the 38 wrong ones are named, and kept."""
    c, correct = d3()
    fit = fitted((c, correct))
    ruled_out = int(((c == 1) & ~correct).sum() + ((c == 0) & correct).sum())
    assert fit.impossible == ruled_out > 0
    assert np.all(apply_temperature((c, correct), fit.value).confidence[c == 1] == 1)


@pytest.mark.parametrize(
    ("confidence", "correct", "value"),
    [
        ([0.6, 0.7, 0.9], [True, True, True], COLDEST),
        ([0.6, 0.7, 0.9], [False, False, False], HOTTEST),
        ([0.8] * 10, [True] * 4 + [False] * 6, HOTTEST),
        ([0.6, 0.3], [True, False], COLDEST),
    ],
)
def test_a_temperature_that_runs_away_says_so(
    confidence: list[float], correct: list[bool], value: float
) -> None:
    """All right, all wrong, worse than chance, separable: at its limit, and no interval."""
    fit = fitted((np.array(confidence), np.array(correct)))
    assert (fit.value, fit.at_limit, fit.low, fit.high) == (value, True, None, None)
    assert not fit.differs_from_one


def test_a_fit_that_starts_too_sure_to_see_anything_still_runs_away() -> None:
    """At β = 50 all but the answer has underflowed; what is right everywhere is at its limit."""
    table = np.array([[1 - 1e-100, 1e-100]] * 3)
    logits = Logits.of(np.ascontiguousarray(table.T), np.zeros(3, dtype=np.int64))
    assert minimise(logits, Target(np.zeros(3), None), 50.0) == (1 / COLDEST, True)


def test_a_constant_confidence_is_brought_to_the_accuracy() -> None:
    """Of 10 answers at 0.9, 8 right: log-odds 9 divided by T are those of 0.8."""
    fit = fitted((np.full(10, 0.9), np.array([True] * 8 + [False] * 2)))
    assert fit.value == pytest.approx(math.log(9) / math.log(4))


@pytest.mark.parametrize(
    "p",
    [
        Predictions.from_probabilities([[0.25] * 4] * 3, [0, 1, 2]),
        Predictions.from_probabilities([[1.0, 0.0]] * 3, [0, 1, 0]),
        Predictions.from_confidence([0.5, 0.5], [True, False]),
        Predictions.from_confidence([1.0, 1.0], [False, False]),
    ],
)
def test_where_no_temperature_matters_there_is_none(p: Predictions) -> None:
    """All options alike, or only one possible: no number is better than None."""
    assert fit_temperature(p) is None


# --- its interval --------------------------------------------------------------------------------


def _documents(rng: np.random.Generator, many: int, size: int, factor: float) -> Predictions:
    """Documents whose items are copies: each counts once, however many items it has."""
    z = 1.3 * rng.standard_normal((many, 4))
    labels = (rng.random((many, 1)) > softmax(z).cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return Predictions.from_logits(
        factor * np.repeat(z, size, axis=0),
        np.repeat(labels, size),
        groups=np.repeat(np.arange(many), size),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("size", [1, 10])
def test_the_interval_holds_the_temperature(size: int) -> None:
    """In 93 to 97.5 % of 600 samples, with items alone and in documents of ten copies."""
    rng = np.random.default_rng(size)
    held = 0
    for _ in range(600):
        fit = fitted(_documents(rng, 200, size, 1.6))
        assert fit.low is not None
        assert fit.high is not None
        held += fit.low <= 1.6 <= fit.high
    assert 0.93 <= held / 600 <= 0.98


def test_copies_in_groups_add_no_certainty() -> None:
    """The interval of documents of ten copies is that of the documents."""
    many = _documents(np.random.default_rng(1), 250, 10, 2.0)
    one = many.take(np.arange(0, 2500, 10))
    ungrouped = fitted(replace(many, groups=None))
    a, b = fitted(many), fitted(one)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-6)
    assert ungrouped.low is not None
    assert a.low is not None
    assert math.log(ungrouped.value / ungrouped.low) < 0.4 * math.log(a.value / a.low)


def test_the_interval_is_the_sandwich() -> None:
    """Log T ± 1.96·sqrt(Σ s²) / (β·Σ h), where s is an item's derivative and h its curvature."""
    p = sharpened(1000, 9, 1.5)
    fit = fitted(p)
    assert p.probabilities is not None
    beta, z = 1 / fit.value, np.log(p.probabilities)
    q: FloatArray = softmax(beta * z)
    mean = (q * z).sum(axis=1)
    s = mean - z[np.arange(p.n), p.labels]
    h = (q * z * z).sum(axis=1) - mean**2
    error = math.sqrt(1000 / 999 * float(s @ s)) / float(h.sum()) / beta
    expected = (fit.value * math.exp(-1.959964 * error), fit.value * math.exp(1.959964 * error))
    assert (fit.low, fit.high) == pytest.approx(expected, rel=1e-6)
