"""The Brier scores and their parts, and NLL."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn import Rows, answers, built, grid, strategies, tables
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import exact

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    Strategy,
    accuracy,
    bin_index,
    brier,
    brier_decomposition,
    brier_multiclass,
    brier_reliability,
    brier_resolution,
    brier_uncertainty,
    nll,
    rms_ce,
)
from pytest_calibration.predictions import Predictions

of = Predictions.from_confidence


def test_brier_by_hand() -> None:
    """0.9 right, 0.6 wrong: (0.01 + 0.36) / 2; over three options the whole row counts."""
    assert brier(of([0.9, 0.6], [True, False])) == pytest.approx(0.185)
    p = Predictions.from_probabilities([[0.6, 0.3, 0.1]], [1])
    assert brier_multiclass(p) == pytest.approx(0.36 + 0.49 + 0.01)
    assert brier(p) == pytest.approx(0.36)


@given(tables())
def test_brier_of_all_options_is_the_sum_over_options(p: Predictions) -> None:
    """It is the sum over options of mean (p_j - [label = j])²."""
    assert p.probabilities is not None
    assert p.labels is not None
    columns = range(p.probabilities.shape[1])
    each = [np.mean((p.probabilities[:, j] - (p.labels == j)) ** 2) for j in columns]
    value = brier_multiclass(p)
    assert value == pytest.approx(sum(each), abs=1e-12)
    assert 0 <= value <= 2


def test_extremes_of_the_brier_scores() -> None:
    """Certain and right: exactly 0. Certain and wrong: 1 for the answer, 2 for all options."""
    right = Predictions.from_probabilities(np.eye(3), [0, 1, 2])
    wrong = Predictions.from_probabilities(np.eye(3), [1, 2, 0])
    assert (brier(right), brier_multiclass(right)) == (0, 0)
    assert (brier(wrong), brier_multiclass(wrong)) == (1, 2)


def test_decomposition_by_hand() -> None:
    """Ten at 0.8, 6 of them right, and ten at 0.3, 3 of them right."""
    p = of([0.8] * 10 + [0.3] * 10, [i < 6 for i in range(10)] + [i < 3 for i in range(10)])
    parts = brier_decomposition(p)
    assert parts.reliability == pytest.approx(0.5 * 0.2**2)
    assert parts.resolution == pytest.approx(0.15**2)
    assert parts.uncertainty == pytest.approx(0.45 * 0.55)
    assert parts.within == pytest.approx(0)


@given(answers, st.integers(1, 30), strategies)
def test_the_parts_are_the_brier_score(rows: Rows, bins: int, strategy: Strategy) -> None:
    """Reliability - resolution + uncertainty + within is Brier, for all data and binnings."""
    p = built(rows)
    parts = brier_decomposition(p, bins, strategy)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(brier(p), abs=1e-12)
    assert parts.score == whole
    assert parts.reliability == pytest.approx(rms_ce(p, bins, strategy) ** 2, abs=1e-12)
    assert parts.resolution <= parts.uncertainty + 1e-12


@given(answers, st.integers(1, 30), strategies)
def test_the_part_within_bins_by_formula(rows: Rows, bins: int, strategy: Strategy) -> None:
    """The variance of the confidences within bins, minus twice the covariance."""
    p = built(rows)
    index = bin_index(p.confidence, bins, strategy)
    total = 0.0
    for b in np.unique(index):
        confidence, correct = p.confidence[index == b], p.correct[index == b].astype(float)
        centred = confidence - confidence.mean()
        total += float((centred**2 - 2 * centred * (correct - correct.mean())).sum())
    within = brier_decomposition(p, bins, strategy).within
    assert within == pytest.approx(total / len(p), abs=1e-12)


@given(grid, st.sampled_from([20, 40]))
def test_one_confidence_per_bin_has_no_part_within(rows: Rows, bins: int) -> None:
    """For multiples of 0.05 in 20 or 40 bins the part within bins is 0."""
    p = built([(max(c, 0.05), h) for c, h in rows])
    assert brier_decomposition(p, bins).within == pytest.approx(0, abs=1e-12)


def test_the_parts_are_metrics() -> None:
    """Each part has a function with the same bins."""
    p = exact({0.4: 0.1, 0.7: -0.1, 0.9: 0.2}, each=50)
    parts = brier_decomposition(p, 7)
    assert brier_reliability(p, 7) == parts.reliability
    assert brier_resolution(p, 7) == parts.resolution
    assert brier_uncertainty(p) == pytest.approx(parts.uncertainty)
    assert brier_uncertainty(p) == pytest.approx(accuracy(p) * (1 - accuracy(p)))


def test_nll_is_the_mean_negative_log_probability_of_the_label() -> None:
    """Probabilities 1/2, 1/4 and 1/8 of the right class give (1 + 2 + 3) ln 2 / 3 nats."""
    table = [[0.5, 0.5, 0], [0.25, 0.75, 0], [0.125, 0.375, 0.5]]
    p = Predictions.from_probabilities(table, [0, 0, 0])
    assert nll(p) == pytest.approx(2 * np.log(2))


def test_nll_of_the_impossible_is_finite() -> None:
    """A probability of 0 counts as the smallest normal float64: 708.4 nats, not infinity."""
    p = Predictions.from_probabilities([[1.0, 0.0]], [1])
    assert nll(p) == pytest.approx(-math.log(2.0**-1022))


def test_nll_needs_the_probability_of_the_label() -> None:
    """The error says what is missing, and suggests brier."""
    with pytest.raises(MetricError, match=r"nll needs .* probe 'confidence' .* use brier instead"):
        nll(of([0.5], [True]))


def test_brier_of_all_options_needs_a_table() -> None:
    """The error names the metric and what is missing."""
    with pytest.raises(MetricError, match=r"brier_multiclass needs the probabilities of all"):
        brier_multiclass(of([0.5], [True]))
