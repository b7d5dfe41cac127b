"""Conditional means against the delta method by hand and against resampling."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_calibration.uncertainty.conditional import ConditionalMean


def test_a_mean_among_some_has_an_influence_of_mean_zero() -> None:
    """Each selected item moves it by its distance from the mean over the share, others by 0."""
    values, selected = np.array([1.0, 0.0, 1.0, 5.0]), np.array([True, True, True, False])
    found = ConditionalMean.of(values, selected, None)
    assert (found.value, found.share, found.n, found.units) == (2 / 3, 0.75, 3, 3)
    assert found.influence.tolist() == pytest.approx([4 / 9, -8 / 9, 4 / 9, 0.0])


def test_nothing_selected_is_no_error() -> None:
    """There is no mean, and nobody moves it."""
    found = ConditionalMean.of(np.ones(3), np.zeros(3, dtype=bool), None)
    assert (found.value, found.share, found.n, found.units) == (0.0, 0.0, 0, 0)
    assert not found.influence.any()


def test_groups_are_counted_that_have_a_selected_item() -> None:
    """Two of three groups do."""
    selected = np.array([True, True, False, True, False])
    found = ConditionalMean.of(np.ones(5), selected, np.array([0, 0, 0, 1, 2]))
    assert (found.n, found.units) == (3, 2)


@pytest.mark.parametrize("grouped", [False, True])
def test_its_standard_error_is_that_of_resamples(grouped: bool) -> None:
    """Within a tenth of the spread over 2,000 resamples of whole units."""
    rng = np.random.default_rng(0)
    n, size = 600, 3 if grouped else 1
    clusters = np.arange(n) // size
    common = rng.standard_normal(n // size)[clusters] * grouped
    selected = rng.random(n) < 0.3
    values = rng.standard_normal(n) + common
    found = ConditionalMean.of(values, selected, clusters if grouped else None)
    units = [np.flatnonzero(clusters == u) for u in range(n // size)]
    means = []
    for _ in range(2000):
        items = np.concatenate([units[u] for u in rng.integers(len(units), size=len(units))])
        means.append(values[items][selected[items]].mean())
    error = found.standard_error(clusters if grouped else None)
    assert error == pytest.approx(np.std(means), rel=0.1)
