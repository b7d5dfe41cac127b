"""Calibration errors over bins: formulas, known models, and properties."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import STRATEGIES, Rows, answers, built, grid, strategies, tables
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import DATASETS, calibrated, exact, two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    Strategy,
    accuracy,
    bin_table,
    brier,
    classwise_ece,
    debiased_rms_ce,
    debiased_squared_ce,
    ece,
    equal_mass_ece,
    mce,
    mean_confidence,
    overconfidence,
    rms_ce,
    signed_gap,
    underconfidence,
)
from pytest_calibration.predictions import Predictions

of = Predictions.from_confidence


# --- formulas -----------------------------------------------------------------------------------


def test_errors_by_hand() -> None:
    """Two bins of 3 and 1: (3/4)|0.9 - 2/3| + (1/4)|0.3 - 1| = 0.175 + 0.175."""
    p = of([0.9, 0.9, 0.9, 0.3], [1, 1, 0, 1])
    assert ece(p, 10) == pytest.approx(0.35)
    assert overconfidence(p, 10) == pytest.approx(0.175)
    assert underconfidence(p, 10) == pytest.approx(0.175)
    assert mce(p, 10) == pytest.approx(0.7)
    assert rms_ce(p, 10) == pytest.approx(math.sqrt(0.75 * (0.9 - 2 / 3) ** 2 + 0.25 * 0.7**2))
    assert signed_gap(p) == pytest.approx(0.0)
    assert accuracy(p) == 0.75
    assert mean_confidence(p) == pytest.approx(0.75)
    assert brier(p) == pytest.approx((0.01 + 0.01 + 0.81 + 0.49) / 4)


def test_debiased_error_by_hand() -> None:
    """Products of pairs of the gaps -0.1, -0.1, 0.9: 0.01, -0.09, -0.09; one item has none."""
    p = of([0.9, 0.9, 0.9, 0.3], [1, 1, 0, 1])
    assert debiased_squared_ce(p, 10) == pytest.approx(0.75 * (0.01 - 0.09 - 0.09) / 3)
    assert debiased_rms_ce(p, 10) == 0
    q = of([0.8, 0.8, 0.8, 0.8], [1, 0, 0, 0])
    # Gaps -0.2 once and 0.8 three times: three products of -0.16 and three of 0.64.
    assert debiased_squared_ce(q, 10) == pytest.approx((3 * -0.16 + 3 * 0.64) / 6)
    assert debiased_rms_ce(q, 10) == pytest.approx(math.sqrt(0.24))


def test_classwise_error_by_hand() -> None:
    """Three classes, two items: absolute gaps per class and bin, over 2 items and 3 classes."""
    p = Predictions.from_probabilities([[0.7, 0.2, 0.1], [0.15, 0.7, 0.15]], [0, 2])
    # Class 0: 0.7 right (gap -0.3), 0.15 not (0.15). Class 1: 0.2 (0.2), 0.7 (0.7).
    # Class 2: 0.1 not (0.1), and 0.15 right (-0.85), in bins of their own.
    assert classwise_ece(p, 10) == pytest.approx((0.3 + 0.15 + 0.2 + 0.7 + 0.1 + 0.85) / 6)
    # In 5 bins the last two share (0, 0.2]: |0.25 - 1|; those of other classes share no bin.
    assert classwise_ece(p, 5) == pytest.approx((0.3 + 0.15 + 0.2 + 0.7 + 0.75) / 6)


def test_classwise_error_is_the_mean_over_classes() -> None:
    """Of the ECE with p_j as confidence and label == j as outcome."""
    p = two_runs(500, 3, 1.6)[1]
    assert p.probabilities is not None
    assert p.labels is not None
    each = [ece(of(p.probabilities[:, j], p.labels == j), 12) for j in range(4)]
    assert classwise_ece(p, 12) == pytest.approx(np.mean(each), rel=1e-12)


def test_confidence_one_lies_in_the_last_bin() -> None:
    """0.95 right and 1.0 wrong share the last of 10 bins: |0.975 - 0.5| = 0.475, not 0.525."""
    p = of([0.95, 1.0], [1, 0])
    assert ece(p, 10) == pytest.approx(0.475, abs=1e-15)
    assert ece(of(np.array([0.95, 1.0], np.float32), [1, 0]), 10) == pytest.approx(0.475, abs=1e-7)


def test_more_items_than_one_block_are_all_counted() -> None:
    """100,000 items are summed in blocks, and each is counted."""
    p = exact({0.45: 0.1, 0.75: -0.2}, each=50_000)
    assert bin_table(p).n == 100_000
    assert ece(p) == pytest.approx(0.15)
    assert mce(p) == pytest.approx(0.2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_gaps_give_known_errors(strategy: Strategy) -> None:
    """With gaps of 0.1, -0.2 and 0.05 in equal shares every error is known."""
    p = exact({0.45: 0.1, 0.75: -0.2, 0.95: 0.05}, each=100)
    assert ece(p, 15, strategy) == pytest.approx((0.1 + 0.2 + 0.05) / 3)
    assert overconfidence(p, 15, strategy) == pytest.approx((0.1 + 0.05) / 3)
    assert underconfidence(p, 15, strategy) == pytest.approx(0.2 / 3)
    assert mce(p, 15, strategy) == pytest.approx(0.2)
    assert rms_ce(p, 15, strategy) == pytest.approx(math.sqrt((0.01 + 0.04 + 0.0025) / 3))
    assert signed_gap(p) == pytest.approx((0.1 - 0.2 + 0.05) / 3)


def test_one_bin_is_the_absolute_gap() -> None:
    """With a single bin ECE, MCE and RMS error are |mean confidence - accuracy|."""
    p = of(*DATASETS["D1"]())
    for metric in (ece, mce, rms_ce):
        assert metric(p, 1) == pytest.approx(abs(signed_gap(p)))


@given(st.integers(1, 60), st.integers(0, 60), strategies)
def test_errors_at_confidence_one(n: int, wrong: int, strategy: Strategy) -> None:
    """At confidence 1 every error is the share of wrong answers."""
    wrong = min(wrong, n)
    p = of([1.0] * n, [i >= wrong for i in range(n)])
    errors = (ece, mce, rms_ce, overconfidence)
    for value in (*(e(p, 15, strategy) for e in errors), brier(p), signed_gap(p)):
        assert value == pytest.approx(wrong / n)
    assert underconfidence(p, 15, strategy) == 0


# --- known models -------------------------------------------------------------------------------


def test_calibrated_models_have_the_known_null_distribution() -> None:
    """ECE15 of calibrated four-way models: mean .078, .050, .036 at n = 200, 500, 1000."""
    for n, published in ((200, 0.078), (500, 0.050), (1000, 0.036)):
        values = [ece(calibrated(n, seed)) for seed in range(300)]
        assert np.mean(values) == pytest.approx(published, rel=0.04)


@pytest.mark.parametrize("bins", [5, 15])
def test_debiased_square_has_mean_zero_at_calibration(bins: int) -> None:
    """Its mean over calibrated models is within 3 standard errors of 0, unlike the plain square."""
    models = [calibrated(200, seed) for seed in range(600)]
    debiased = np.array([debiased_squared_ce(p, bins) for p in models])
    plain = np.array([rms_ce(p, bins) ** 2 for p in models])
    error = debiased.std() / math.sqrt(len(models))
    assert abs(debiased.mean()) < 3 * error
    assert plain.mean() > 20 * error
    assert 0.4 < np.mean(debiased < 0) < 0.7


def test_debiased_square_is_unbiased_where_miscalibrated() -> None:
    """At confidence 0.8 and a true accuracy of 0.7 its mean over samples of 40 is 0.01."""
    rng = np.random.default_rng(0)
    values = [debiased_squared_ce(of([0.8] * 40, rng.random(40) < 0.7)) for _ in range(4000)]
    assert np.mean(values) == pytest.approx(0.01, abs=3 * float(np.std(values)) / math.sqrt(4000))


def test_debiased_error_is_the_plain_one_for_many_items() -> None:
    """For 100,000 items of a miscalibrated model the two agree to 0.001."""
    p = two_runs(100_000, 0, 1.5)[1]
    assert debiased_rms_ce(p) == pytest.approx(rms_ce(p), abs=1e-3)
    assert rms_ce(p) > 0.1


# --- properties ---------------------------------------------------------------------------------


@given(answers, st.integers(1, 40), strategies)
def test_order_of_the_errors(rows: Rows, bins: int, strategy: Strategy) -> None:
    """0 <= |signed gap| <= ECE <= RMS <= MCE <= 1, for all data and binnings."""
    p = built(rows)
    chain = [0.0, abs(signed_gap(p)), ece(p, bins, strategy), rms_ce(p, bins, strategy)]
    chain += [mce(p, bins, strategy), 1.0]
    for smaller, larger in itertools.pairwise(chain):
        assert smaller <= larger + 1e-9


@given(answers, st.integers(1, 40), strategies)
def test_over_and_underconfidence_split_ece(rows: Rows, bins: int, strategy: Strategy) -> None:
    """Their sum is ECE, their difference the signed gap."""
    p = built(rows)
    over, under = overconfidence(p, bins, strategy), underconfidence(p, bins, strategy)
    assert over >= 0
    assert under >= 0
    assert over + under == pytest.approx(ece(p, bins, strategy), abs=1e-12)
    assert over - under == pytest.approx(signed_gap(p), abs=1e-12)


@given(answers, st.integers(1, 40), strategies)
def test_debiasing_only_lowers(rows: Rows, bins: int, strategy: Strategy) -> None:
    """The debiased square is at most the plain one."""
    p = built(rows)
    square = debiased_squared_ce(p, bins, strategy)
    assert -1 <= square <= rms_ce(p, bins, strategy) ** 2 + 1e-12
    assert debiased_rms_ce(p, bins, strategy) == pytest.approx(math.sqrt(max(0.0, square)))


@given(answers)
def test_a_bin_of_one_item_adds_nothing_to_the_debiased_error(rows: Rows) -> None:
    """With one item per bin there is no pair, and the error is exactly 0."""
    distinct = list({c: (c, h) for c, h in rows}.values())
    # In 100 bins, confidences 0.01 apart are in different bins.
    alone = [(k / 100, h) for k, (_, h) in enumerate(distinct, start=1)]
    assert debiased_squared_ce(built(alone), 100) == 0


@given(grid, st.integers(1, 20), st.integers(1, 5))
def test_finer_bins_never_lower_an_error(rows: Rows, bins: int, factor: int) -> None:
    """Each error over k·B bins is at least that over B bins."""
    p = built(rows)
    for metric in (ece, rms_ce, overconfidence, underconfidence):
        assert metric(p, bins * factor) >= metric(p, bins) - 1e-9


@given(grid, st.integers(1, 40))
def test_classwise_error_of_two_classes(rows: Rows, bins: int) -> None:
    """With [1 - c, c] it is the mean of the ECE of c and of 1 - c."""
    confidence = np.array([c for c, _ in rows])
    label = np.array([h for _, h in rows])
    table = np.column_stack([1 - confidence, confidence])
    both = ece(of(confidence, label), bins) + ece(of(1 - confidence, ~label), bins)
    value = classwise_ece((table, label.astype(int)), bins)
    assert value == pytest.approx(both / 2, abs=1e-12)
    mirrored = classwise_ece((table[:, ::-1], 1 - label), bins)
    assert mirrored == pytest.approx(value, abs=1e-12)


def test_off_the_edges_two_classes_have_equal_errors() -> None:
    """No confidence of D1 is on an edge, so both classes have the same error."""
    confidence, correct = DATASETS["D1"]()
    table = np.column_stack([1 - confidence, confidence])
    value = classwise_ece((table, correct.astype(int)))
    assert value == pytest.approx(ece(of(confidence, correct)), abs=1e-12)


@given(tables())
def test_a_single_option_has_no_error(p: Predictions) -> None:
    """With one option of probability 1 the class-wise error is 0."""
    only, right = np.ones((len(p), 1)), np.zeros(len(p), dtype=np.int64)
    one = replace(p, probabilities=only, labels=right)
    assert classwise_ece(one) == 0


# --- missing fields -----------------------------------------------------------------------------


def test_classwise_error_needs_a_table() -> None:
    """The error says what is missing, and how to build predictions that have it."""
    with pytest.raises(
        MetricError,
        match=r"classwise_ece needs the probabilities of all options, and the predictions of probe "
        r"'confidence' have none; build them with Predictions\.from_probabilities\.",
    ):
        classwise_ece(of([0.5], [True]))
    bare = Predictions("bare", [0.5], [True], [1], probabilities=[[0.5, 0.5]])
    with pytest.raises(MetricError, match=r"classwise_ece needs the index of each right option"):
        classwise_ece(bare)


def test_equal_mass_is_ece_over_quantile_bins() -> None:
    """Both names give the same number, as does the table of its bins."""
    p = calibrated(300, 1)
    table = bin_table(p, 10, "equal_mass")
    expected = (table.count * np.abs(table.gap)).sum() / table.n
    assert equal_mass_ece(p, 10) == ece(p, 10, "equal_mass")
    assert equal_mass_ece(p, 10) == pytest.approx(expected, abs=1e-12)
