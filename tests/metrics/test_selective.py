"""AUROC, selective accuracy and the risk-coverage curve against enumeration in fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from drawn import Rows, answers, built, grid
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import calibrated, two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import (
    accuracy,
    answered,
    aurc,
    auroc,
    coverage,
    precision,
    selective_accuracy,
    selective_risk,
)
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.means import wilson

of = Predictions.from_confidence
few = st.lists(
    st.tuples(st.sampled_from([0.2, 0.5, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6
)


def orders(rows: Rows) -> list[tuple[bool, ...]]:
    """Return the outcomes, most confident first, for every order of the ties."""
    ways = itertools.permutations(rows)
    return [
        tuple(h for _, h in way)
        for way in ways
        if all(a[0] >= b[0] for a, b in itertools.pairwise(way))
    ]


def mean(values: list[Fraction]) -> Fraction:
    """Return the mean of some fractions."""
    return sum(values, Fraction(0)) / len(values)


# --- AUROC --------------------------------------------------------------------------------------


@given(grid)
def test_auroc_is_the_share_of_pairs_in_order(rows: Rows) -> None:
    """Over all pairs of a right and a wrong answer: 1 for more confidence, 1/2 for as much."""
    right, wrong = [c for c, h in rows if h], [c for c, h in rows if not h]
    assume(right and wrong)
    pairs = [Fraction(a > b) + Fraction(a == b, 2) for a, b in itertools.product(right, wrong)]
    assert auroc(built(rows)) == pytest.approx(float(mean(pairs)), abs=1e-12)


def test_auroc_of_perfect_inverse_and_constant_confidence() -> None:
    """All right answers above all wrong ones: 1; below: 0; all equal: 1/2."""
    assert auroc(of([0.9, 0.8, 0.3], [1, 1, 0])) == 1
    assert auroc(of([0.9, 0.8, 0.3], [0, 0, 1])) == 0
    assert auroc(of([0.7] * 5, [1, 1, 0, 0, 1])) == 0.5


@given(grid)
def test_auroc_of_inverted_outcomes(rows: Rows) -> None:
    """With right and wrong exchanged, the two values sum to 1."""
    outcomes = {h for _, h in rows}
    assume(len(outcomes) == 2)
    inverted = built([(c, not h) for c, h in rows])
    assert auroc(built(rows)) + auroc(inverted) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("outcome", "word"), [(True, "right"), (False, "wrong")])
def test_auroc_needs_right_and_wrong_answers(outcome: bool, word: str) -> None:
    """The error says which of the two is missing."""
    with pytest.raises(
        MetricError,
        match=rf"auroc needs right and wrong answers, and all 1,200 answers of probe 'confidence' "
        rf"are {word}\.",
    ):
        auroc(of([0.5] * 1200, [outcome] * 1200))


# --- selective accuracy -------------------------------------------------------------------------


def test_selective_accuracy_by_hand() -> None:
    """Three of the four most confident of five answers are right."""
    p = of([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0])
    assert selective_accuracy(p) == pytest.approx(3 / 4)
    assert selective_accuracy(p, 0.4) == pytest.approx(1.0)
    assert selective_accuracy(p, 0.6) == pytest.approx(2 / 3)
    # Half of five items are two and a half: the third counts half.
    assert selective_accuracy(p, 0.5) == pytest.approx(2 / 2.5)


@given(few)
def test_selective_accuracy_is_the_mean_over_orders_of_ties(rows: Rows) -> None:
    """For every number of items: the mean accuracy over all orders of the ties."""
    for kept in range(1, len(rows) + 1):
        expected = mean([Fraction(sum(way[:kept]), kept) for way in orders(rows)])
        value = selective_accuracy(built(rows), kept / len(rows))
        assert value == pytest.approx(float(expected), abs=1e-12)


@given(answers, st.floats(0.01, 1))
def test_risk_and_accuracy_sum_to_one(rows: Rows, coverage: float) -> None:
    """Both are in [0, 1]; at coverage 1 the accuracy is that of all items."""
    p = built(rows)
    value = selective_accuracy(p, coverage)
    assert -1e-12 <= value <= 1 + 1e-12
    assert selective_risk(p, coverage) == pytest.approx(1 - value, abs=1e-12)
    assert selective_accuracy(p, 1.0) == pytest.approx(accuracy(p), abs=1e-12)


@pytest.mark.parametrize("coverage", [0.0, -0.2, 1.0001, math.nan])
def test_invalid_coverages_are_refused(coverage: float) -> None:
    """A coverage is above 0 and at most 1."""
    for call in (selective_accuracy, selective_risk):
        with pytest.raises(MetricError, match=rf"above 0 and at most 1, got {coverage}"):
            call(of([0.5], [True]), coverage)


# --- risk and coverage --------------------------------------------------------------------------


def test_aurc_by_hand() -> None:
    """Right, wrong, right, most confident first: risks 0, 1/2, 1/3 and their mean."""
    assert aurc(of([0.9, 0.8, 0.7], [1, 0, 1])) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


@given(few)
def test_aurc_is_the_mean_over_orders_of_ties(rows: Rows) -> None:
    """In fractions: the mean risk over all coverages and all orders of the ties."""
    every = []
    for way in orders(rows):
        risks = [Fraction(way[:m].count(False), m) for m in range(1, len(way) + 1)]
        every.append(mean(risks))
    assert aurc(built(rows)) == pytest.approx(float(mean(every)), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_aurc_without_ties_is_the_mean_of_running_risks(outcomes: list[bool]) -> None:
    """With all confidences distinct: (1/n) Σ (wrong among the first m) / m."""
    n = len(outcomes)
    running = np.cumsum(~np.array(outcomes)) / np.arange(1, n + 1)
    p = of(np.linspace(0.95, 0.05, n), outcomes)
    assert aurc(p) == pytest.approx(running.mean(), abs=1e-12)


@given(grid)
def test_aurc_of_constant_confidence_is_the_error_rate(rows: Rows) -> None:
    """With equal confidences every coverage has the same expected risk."""
    p = of([0.7] * len(rows), [h for _, h in rows])
    assert aurc(p) == pytest.approx(1 - accuracy(p), abs=1e-12)


@given(grid)
def test_aurc_lies_between_the_best_and_the_worst_order(rows: Rows) -> None:
    """Right answers first gives the minimum, wrong answers first the maximum."""
    outcomes = sorted((h for _, h in rows), reverse=True)
    grid = np.linspace(0.9, 0.1, len(rows))
    least, most = aurc(of(grid, outcomes)), aurc(of(grid, outcomes[::-1]))
    assert least - 1e-12 <= aurc(built(rows)) <= most + 1e-12


# --- only the order of confidences matters ------------------------------------------------------


@given(grid, st.lists(st.floats(0, 1), min_size=21, max_size=21, unique=True))
def test_increasing_transformations_change_nothing(rows: Rows, values: list[float]) -> None:
    """Other confidences in the same order have the same AUROC, AURC and selective accuracy."""
    levels = sorted(values)
    mapped = built([(levels[round(20 * c)], h) for c, h in rows])
    metrics = [aurc, selective_accuracy, lambda p: selective_accuracy(p, 0.37)]
    if len({h for _, h in rows}) == 2:
        metrics.append(auroc)
    for metric in metrics:
        assert metric(mapped) == metric(built(rows))


def test_squared_confidences_rank_as_well() -> None:
    """Squaring confidences changes calibration and no ranking metric."""
    p = calibrated(2000, 1)
    squared = of(p.confidence**2, p.correct)
    for metric in (auroc, aurc, selective_accuracy):
        assert metric(squared) == metric(p)
    assert 0.6 < auroc(p) < 0.8
    assert selective_accuracy(p) > accuracy(p)
    assert aurc(p) < 1 - accuracy(p)
    assert auroc(two_runs(2000, 1)[0]) == pytest.approx(auroc(p), abs=0.05)


# --- at a threshold ------------------------------------------------------------------------------


def test_coverage_and_precision_by_hand() -> None:
    """Share and accuracy of the answers with at least the threshold."""
    p = Predictions.from_confidence([0.5, 0.9, 0.9, 0.95, 1.0], [True, True, False, True, True])
    assert (coverage(p, 0.9), precision(p, 0.9)) == (0.8, 0.75)
    assert (coverage(p, 0.95), precision(p, 0.95)) == (0.4, 1.0)
    assert (coverage(p, 0.0), precision(p, 0.0)) == (1.0, 0.8)


def test_a_threshold_means_the_same_in_float32_and_float64() -> None:
    """0.9 as float32 is below 0.9, and is meant by it; the number below is not."""
    confidence = np.array([0.9], dtype=np.float32)
    assert answered(confidence, 0.9).tolist() == [True]
    assert answered(confidence.astype(np.float64), 0.9).tolist() == [True]
    assert answered(np.nextafter(confidence, np.float32(0)), 0.9).tolist() == [False]


def test_without_answers_there_is_coverage_and_no_precision() -> None:
    """The error names the highest confidence there is."""
    p = Predictions.from_confidence([0.5, 0.75], [True, False], probe="quiz")
    assert coverage(p, 0.9) == 0.0
    with pytest.raises(MetricError, match=r"no answer of probe 'quiz' .* at least 0\.9, .* 0\.75"):
        precision(p, 0.9)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    """It lies in [0, 1]."""
    p = Predictions.from_confidence([0.5], [True])
    for function in (coverage, precision):
        with pytest.raises(MetricError, match=r"the threshold must lie in \[0, 1\]"):
            function(p, threshold)


def test_metrics_at_a_threshold_have_names() -> None:
    """``precision@0.9`` is measured, with Wilson's interval of the answers meant."""
    confidence = np.repeat([0.5, 0.95], 100)
    p = Predictions.from_confidence(confidence, np.arange(200) % 10 > 0)
    found = measure(p, "precision@0.90")
    assert (found.metric, found.label, found.value) == ("precision@0.9", "precision at 0.9", 0.9)
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 100, 1.959964), abs=1e-6)
    covered = measure(p, "coverage@0.9")
    assert (covered.low, covered.high) == pytest.approx(wilson(0.5, 200, 1.959964), abs=0.001)
    for name in ("precision@", "coverage@2", "precision@x"):
        with pytest.raises(MetricError, match=f"threshold of '{name}' must be a number"):
            measure(p, name)
    with pytest.raises(MetricError, match=r"unknown metric 'recall@0\.9'"):
        measure(p, "recall@0.9")


def test_a_precision_interval_knows_groups() -> None:
    """Five copies in a group: about the interval of one copy, not that of five items."""
    rng = np.random.default_rng(0)
    right, n = rng.random(300) < 0.9, 300
    ends = []
    for copies in (1, 5):
        groups = np.repeat(np.arange(n), copies)
        p = Predictions.from_confidence(
            np.full(n * copies, 0.95), np.repeat(right, copies), groups=groups
        )
        ends.append(measure(p, "precision@0.9"))
    assert (ends[1].low, ends[1].high) == pytest.approx((ends[0].low, ends[0].high), abs=0.01)
