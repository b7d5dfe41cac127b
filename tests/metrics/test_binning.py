"""The bin of a confidence, and the sums per bin."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from drawn import STRATEGIES, Rows, answers, built, strategies
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    Strategy,
    bin_edges,
    bin_index,
    bin_table,
    classwise_ece,
    ece,
    equal_mass_ece,
    mce,
)
from pytest_calibration.predictions import Predictions

of = Predictions.from_confidence


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("bins", [5, 10, 15, 20, 25, 50, 100])
def test_two_decimal_confidences_are_binned_as_fractions(bins: int, dtype: type) -> None:
    """Each of the 101 two-decimal confidences has the bin of rational arithmetic."""
    expected = [max(0, -(-Fraction(k, 100) * bins // 1) - 1) for k in range(101)]
    confidence = (np.arange(101) / 100).astype(dtype).astype(np.float64)
    assert bin_index(confidence, bins).tolist() == expected


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 15, 33, 64, 1000, 2**25])
def test_edges_are_closed_on_the_right(bins: int) -> None:
    """The edge k/B is in the bin below it; 0 is in the first bin, 1 in the last."""
    some = np.unique(np.linspace(0, bins, 65).astype(np.int64))
    assert bin_index(some / bins, bins).tolist() == np.maximum(some - 1, 0).tolist()
    inside = (some[:-1] + 0.6) / bins
    assert bin_index(inside, bins).tolist() == some[:-1].tolist()


@given(answers, st.integers(1, 40))
def test_bins_are_those_of_the_formula(rows: Rows, bins: int) -> None:
    """The bin is clip(ceil(c·B − 1e-6) − 1, 0, B − 1)."""
    confidence = np.array([c for c, _ in rows])
    expected = np.clip(np.ceil(confidence * bins - 1e-6) - 1, 0, bins - 1)
    assert bin_index(confidence, bins).tolist() == expected.tolist()


@given(answers, st.integers(1, 40))
def test_equal_mass_edges_are_numpys_quantiles(rows: Rows, bins: int) -> None:
    """Bit for bit, so that a confidence on an edge has the bin of numpy and scikit-learn."""
    confidence = np.array([c for c, _ in rows])
    inner = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
    expected = [0.0, *inner[inner < 1], 1.0]
    assert bin_edges(confidence, bins, "equal_mass").tolist() == expected


@given(answers, st.integers(1, 40), strategies)
def test_the_printed_edges_enclose_their_items(rows: Rows, bins: int, strategy: Strategy) -> None:
    """Every confidence is within the edges of its bin, up to the snap, and all are counted."""
    p = built(rows)
    table, index = bin_table(p, bins, strategy), bin_index(p.confidence, bins, strategy)
    snap = 2e-6 if strategy == "equal_width" else 0.0
    assert (p.confidence <= table.upper[index] + snap).all()
    assert ((p.confidence > table.lower[index]) | (index == 0)).all()
    assert table.n == len(rows)
    assert table.lower[0] == 0
    assert table.upper[-1] == 1
    np.testing.assert_array_equal(table.lower[1:], table.upper[:-1])


@given(answers, st.integers(1, 40), strategies)
def test_sums_are_over_the_items_of_a_bin(rows: Rows, bins: int, strategy: Strategy) -> None:
    """Count, confidence, correct and squared gap are sums over the items of the bin."""
    p = built(rows)
    table, index = bin_table(p, bins, strategy), bin_index(p.confidence, bins, strategy)
    for b in range(len(table)):
        confidence, correct = p.confidence[index == b], p.correct[index == b]
        assert table.count[b] == len(confidence)
        assert table.sum_correct[b] == correct.sum()
        assert table.sum_confidence[b] == pytest.approx(confidence.sum(), abs=1e-12)
        squares = ((confidence - correct) ** 2).sum()
        assert table.sum_squared_gap[b] == pytest.approx(squares, abs=1e-12)


@given(answers, st.integers(1, 40), strategies)
def test_equal_confidences_share_a_bin(rows: Rows, bins: int, strategy: Strategy) -> None:
    """Bins are monotone in the confidence, and equal confidences are never split."""
    confidence = np.array([c for c, _ in rows + rows])
    index = bin_index(confidence, bins, strategy)
    np.testing.assert_array_equal(index[: len(rows)], index[len(rows) :])
    order = np.argsort(confidence)
    assert (np.diff(index[order]) >= 0).all()


def test_equal_mass_bins_have_equal_counts_without_ties() -> None:
    """600 distinct confidences in 15 bins: 40 each."""
    confidence = np.random.default_rng(0).permutation(np.linspace(0.2, 0.99, 600))
    table = bin_table(of(confidence, [True] * 600), 15, "equal_mass")
    assert table.count.tolist() == [40] * 15


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0], ids=str)
def test_equal_mass_of_one_value_is_one_bin(value: float) -> None:
    """With equal confidences one bin is filled, and ECE is the absolute gap."""
    p = of([value] * 20, [i < 7 for i in range(20)])
    table = bin_table(p, 15, "equal_mass")
    assert (table.count > 0).sum() == 1
    assert equal_mass_ece(p) == pytest.approx(abs(value - 7 / 20))


def test_equal_mass_drops_repeated_edges() -> None:
    """Repeated quantiles are one edge, so there are fewer bins than requested."""
    edges = bin_edges(np.array([0.1] * 50 + [0.9] * 50), 10, "equal_mass")
    assert len(np.unique(edges)) == len(edges)
    assert len(edges) < 11
    # No empty bin from 1 to 1 either.
    assert bin_edges(np.array([0.5] + [1.0] * 99), 10, "equal_mass").tolist() == [0, 1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_empty_bins_have_sums_of_zero(strategy: Strategy) -> None:
    """Two values in many bins: the sums of the bins between them are 0."""
    table = bin_table(of([0.1, 0.9], [True, False]), 7, strategy)
    assert table.n == 2
    assert sorted(table.count.tolist())[-2:] == [1, 1]
    assert table.sum_confidence[table.count == 0].tolist() == [0] * (len(table) - 2)
    assert table.sum_squared_gap.sum() == pytest.approx(1.62)


def test_empty_bins_have_no_means() -> None:
    """Mean confidence and accuracy are NaN, the gap is 0."""
    table = bin_table(of([0.95, 0.05], [1, 0]), 10)
    assert len(table) == 10
    assert np.isnan(table.confidence[5])
    assert np.isnan(table.accuracy[5])
    assert table.gap[5] == 0
    assert table.count.tolist() == [1] + [0] * 8 + [1]


@pytest.mark.parametrize("bins", [0, -3])
@pytest.mark.parametrize("call", [ece, mce, bin_table, equal_mass_ece], ids=lambda f: f.__name__)
def test_bins_below_one_are_refused(call: Callable[..., Any], bins: int) -> None:
    """The error shows the value."""
    with pytest.raises(MetricError, match=f"bins must be at least 1, got {bins}"):
        call(of([0.5], [True]), bins)


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        (10**9, "bins must be at most 33,554,432, got 1000000000"),
        (1.5, "bins must be a whole number, got 1.5"),
        (True, "bins must be a whole number, got True"),
    ],
)
def test_invalid_numbers_of_bins_are_refused(bins: Any, message: str) -> None:
    """Too many bins, and bins that are no whole number, are an error with the value."""
    with pytest.raises(MetricError, match=message):
        ece(of([0.5], [True]), bins)


def test_bins_of_options_are_checked_too() -> None:
    """Class-wise ECE has the same checks as ECE."""
    with pytest.raises(MetricError, match="bins must be at least 1, got 0"):
        classwise_ece(([[0.5, 0.5]], [0]), 0)


def test_unknown_strategy_is_refused() -> None:
    """The error names the two strategies."""
    for call in (ece, bin_table):
        with pytest.raises(MetricError, match="'quantile'; use 'equal_width' or 'equal_mass'"):
            call(of([0.5], [True]), 10, "quantile")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="unknown binning strategy 'quantile'"):
        bin_edges(np.array([0.5]), 10, "quantile")  # type: ignore[arg-type]
