"""How sure a model is, and of what."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import Rows, built, said, tables
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


@given(said, st.integers(0, 20))
def test_share_confident_counts_what_reaches_the_threshold(rows: Rows, step: int) -> None:
    """The threshold itself counts, as float64 and as float32."""
    threshold = step / 20
    expected = sum(round(20 * c) >= step for c, _ in rows) / len(rows)
    p = built(rows)
    assert share_confident(p, threshold) == pytest.approx(expected)
    stored = of(p.confidence.astype(np.float32), p.correct)
    assert share_confident(stored, threshold) == pytest.approx(expected)


def test_share_confident_asks_for_nine_tenths_by_default() -> None:
    """0.9 and 0.95 count, 0.89 does not."""
    assert share_confident(of([0.89, 0.9, 0.95, 1.0], [1, 1, 1, 1])) == 0.75


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    """A threshold is a confidence."""
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
def test_entropy_lies_between_certainty_and_even_odds(p: Predictions) -> None:
    """From 0 to log k, never below."""
    assert p.probabilities is not None
    assert 0 <= mean_entropy(p) <= math.log(p.probabilities.shape[1]) + 1e-12


def test_entropy_is_not_that_of_the_confidence() -> None:
    """The same confidence with one rival or with two: other entropies, so a table is needed."""
    one = mean_entropy(([[0.5, 0.5, 0.0]], [0]))
    two = mean_entropy(([[0.5, 0.25, 0.25]], [0]))
    assert two > one + 0.3
    with pytest.raises(MetricError, match="mean_entropy needs the probabilities of all options"):
        mean_entropy(of([0.5], [True]))


def test_histograms_by_hand() -> None:
    """Four items: A is answered three times, C once, B never; each but A is right once, A twice."""
    p = Predictions.from_probabilities(
        [[0.5, 0.3, 0.2], [0.4, 0.2, 0.4], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]], [0, 1, 0, 2]
    )
    assert answer_histogram(p).tolist() == [0.75, 0, 0.25]
    assert label_histogram(p).tolist() == [0.5, 0.25, 0.25]


@given(tables())
def test_histograms_are_shares_of_all_options(p: Predictions) -> None:
    """One entry per option, summing to 1, whichever options occur."""
    assert p.probabilities is not None
    for histogram in (answer_histogram(p), label_histogram(p)):
        assert len(histogram) == p.probabilities.shape[1]
        assert histogram.sum() == pytest.approx(1)
        assert (histogram >= 0).all()
    # What is answered and what is right can overlap no less than accuracy.
    overlap = np.minimum(answer_histogram(p), label_histogram(p)).sum()
    assert overlap >= accuracy(p) - 1e-12


@pytest.mark.parametrize("call", [answer_histogram, label_histogram], ids=lambda f: f.__name__)
def test_histograms_need_a_table(call: object) -> None:
    """Without probabilities there are no options to count."""
    assert callable(call)
    with pytest.raises(MetricError, match="needs the probabilities of all options"):
        call(of([0.5], [True]))
    bare = Predictions("bare", [0.5], [True], [1], probabilities=[[0.5, 0.5]])
    assert answer_histogram(bare).tolist() == [1, 0]
    with pytest.raises(MetricError, match="label_histogram needs the index of each right option"):
        label_histogram(bare)


def test_sharpness_gathers_what_there_is() -> None:
    """Each part is its own metric's; what does not apply is left out."""
    table = np.array([[0.95, 0.05], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    p = replace(
        Predictions.from_probabilities(table, [0, 1, 1, 0]),
        option_mass=np.array([0.5, 0.7, 0.9, 0.9]),
    )
    held = sharpness(p)
    assert held.share_confident == 0.25
    assert held.mean_entropy == mean_entropy(p)
    assert held.option_mass == pytest.approx(0.75)
    assert held.answers == (0.75, 0.25)
    bare = sharpness(Predictions.from_confidence([0.95, 0.5], [True, False]))
    assert bare == Sharpness(0.5)


def test_the_options_of_a_large_classifier_are_not_listed() -> None:
    """Twenty-six letters are a histogram to read, a thousand classes are none."""
    for k, listed in ((26, 26), (27, 0)):
        table = np.full((3, k), 1 / k)
        assert len(sharpness(Predictions.from_probabilities(table, [0, 1, 2])).answers) == listed
