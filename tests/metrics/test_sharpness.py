"""Share of confident items, entropy, and histograms of answers and labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import Rows, built, grid, tables
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    accuracy,
    answer_histogram,
    label_histogram,
    mean_entropy,
    share_confident,
)
from pytest_calibration.metrics.sharpness import Sharpness, sharpness
from pytest_calibration.predictions import Predictions

of = Predictions.from_confidence


@given(grid, st.integers(0, 20))
def test_share_confident_includes_the_threshold(rows: Rows, step: int) -> None:
    """A confidence equal to the threshold counts, as float64 and as float32."""
    threshold = step / 20
    expected = sum(round(20 * c) >= step for c, _ in rows) / len(rows)
    p = built(rows)
    assert share_confident(p, threshold) == pytest.approx(expected)
    stored = of(p.confidence.astype(np.float32), p.correct)
    assert share_confident(stored, threshold) == pytest.approx(expected)


def test_the_default_threshold_is_nine_tenths() -> None:
    """0.9 and 0.95 count, 0.89 does not."""
    assert share_confident(of([0.89, 0.9, 0.95, 1.0], [1, 1, 1, 1])) == 0.75


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_invalid_thresholds_are_refused(threshold: float) -> None:
    """A threshold is in [0, 1]."""
    with pytest.raises(MetricError, match=rf"the threshold must lie in \[0, 1\], got {threshold}"):
        share_confident(of([0.5], [True]), threshold)


def test_entropy_by_hand() -> None:
    """Two equal options: log 2 nats; certainty: 0; half and two quarters: 1.5 log 2."""
    assert mean_entropy(([[0.5, 0.5]], [0])) == pytest.approx(math.log(2))
    assert mean_entropy(([[1.0, 0.0]], [0])) == 0
    assert mean_entropy(([[0.5, 0.25, 0.25]], [0])) == pytest.approx(1.5 * math.log(2))
    assert mean_entropy(([[0.5, 0.5], [1.0, 0.0]], [0, 0])) == pytest.approx(0.5 * math.log(2))
    small = -0.001 * math.log(0.001) - 0.999 * math.log(0.999)
    assert mean_entropy(([[0.999, 0.001]], [0])) == pytest.approx(small)


@given(tables())
def test_entropy_is_between_zero_and_log_k(p: Predictions) -> None:
    """0 for certainty, log k for equal probabilities."""
    assert p.probabilities is not None
    assert 0 <= mean_entropy(p) <= math.log(p.probabilities.shape[1]) + 1e-12


def test_entropy_needs_a_table() -> None:
    """Confidence alone does not determine it: rows with equal confidence differ."""
    one = mean_entropy(([[0.5, 0.5, 0.0]], [0]))
    two = mean_entropy(([[0.5, 0.25, 0.25]], [0]))
    assert two > one + 0.3
    with pytest.raises(MetricError, match="mean_entropy needs the probabilities of all options"):
        mean_entropy(of([0.5], [True]))


def test_histograms_by_hand() -> None:
    """Four items: answers A, A, A, C; labels A, B, A, C."""
    p = Predictions.from_probabilities(
        [[0.5, 0.3, 0.2], [0.4, 0.2, 0.4], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]], [0, 1, 0, 2]
    )
    assert answer_histogram(p).tolist() == [0.75, 0, 0.25]
    assert label_histogram(p).tolist() == [0.5, 0.25, 0.25]


@given(tables())
def test_histograms_are_shares_of_all_options(p: Predictions) -> None:
    """One entry per option, summing to 1."""
    assert p.probabilities is not None
    for histogram in (answer_histogram(p), label_histogram(p)):
        assert len(histogram) == p.probabilities.shape[1]
        assert histogram.sum() == pytest.approx(1)
        assert (histogram >= 0).all()
    # The overlap of the two is at least the accuracy.
    overlap = np.minimum(answer_histogram(p), label_histogram(p)).sum()
    assert overlap >= accuracy(p) - 1e-12


@pytest.mark.parametrize("call", [answer_histogram, label_histogram], ids=lambda f: f.__name__)
def test_histograms_need_a_table(call: object) -> None:
    """Without probabilities or labels the error names what is missing."""
    assert callable(call)
    with pytest.raises(MetricError, match="needs the probabilities of all options"):
        call(of([0.5], [True]))
    bare = Predictions("bare", [0.5], [True], [1], probabilities=[[0.5, 0.5]])
    assert answer_histogram(bare).tolist() == [1, 0]
    with pytest.raises(MetricError, match="label_histogram needs the index of each right option"):
        label_histogram(bare)


def test_sharpness_has_the_numbers_that_apply() -> None:
    """Each is the value of its metric; the others are None or empty."""
    table = np.array([[0.95, 0.05], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    p = replace(
        Predictions.from_probabilities(table, [0, 1, 1, 0]),
        option_mass=np.array([0.5, 0.7, 0.9, 0.9]),
    )
    s = sharpness(p)
    assert s.share_confident == 0.25
    assert s.mean_entropy == mean_entropy(p)
    assert s.option_mass == pytest.approx(0.75)
    assert s.answers == (0.75, 0.25)
    bare = sharpness(Predictions.from_confidence([0.95, 0.5], [True, False]))
    assert bare == Sharpness(0.5)


def test_the_options_of_a_large_classifier_are_not_listed() -> None:
    """Up to 26 options, one letter each, are listed; more are not."""
    for k, listed in ((26, 26), (27, 0)):
        table = np.full((3, k), 1 / k)
        assert len(sharpness(Predictions.from_probabilities(table, [0, 1, 2])).answers) == listed
