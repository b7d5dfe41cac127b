"""Isotonic regression against its definition and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.predictions import FloatArray
from pytest_calibration.uncertainty.isotonic import isotonic

grid = st.lists(
    st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=1, max_size=200
)
real = st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 5)), min_size=1, max_size=200)


def arrays(points: list[tuple[float, float]]) -> tuple[FloatArray, FloatArray]:
    """The two columns."""
    return np.array([x for x, _ in points]), np.array([float(y) for _, y in points])


@given(st.one_of(grid, real))
def test_the_fit_is_scikit_learns(points: list[tuple[float, float]]) -> None:
    """At, between and beyond the points."""
    sklearn = pytest.importorskip("sklearn.isotonic")
    x, y = arrays(points)
    at, value = isotonic(x, y)
    # scikit-learn merges values closer than about 1e-10.
    if len(at) > 1 and np.diff(at).min() < 1e-7:
        return
    expected = sklearn.IsotonicRegression(out_of_bounds="clip").fit(x, y)
    new = np.concatenate([x, np.linspace(-0.2, 1.2, 57)])
    assert np.interp(new, at, value) == pytest.approx(expected.predict(new), abs=1e-9)


@given(st.one_of(grid, real))
def test_the_fit_is_monotone_keeps_the_mean_and_is_a_fixed_point(
    points: list[tuple[float, float]],
) -> None:
    """Non-decreasing; the sum is that of the data; fitting it again changes nothing."""
    x, y = arrays(points)
    at, value = isotonic(x, y)
    assert np.all(np.diff(value) >= 0)
    assert np.all(np.diff(at) > 0)
    fitted = np.interp(x, at, value)
    assert fitted.sum() == pytest.approx(y.sum(), abs=1e-9)
    assert isotonic(at, value)[1] == pytest.approx(value, abs=1e-12)
    order = np.random.default_rng(len(x)).permutation(len(x))
    assert isotonic(x[order], y[order])[1] == pytest.approx(value, abs=1e-12)


@given(grid)
def test_no_monotone_function_is_closer(points: list[tuple[float, float]]) -> None:
    """Least squares: (y - f)·(g - f) ≤ 0 for every non-decreasing g (projection on a cone)."""
    x, y = arrays(points)
    fitted = np.interp(x, *isotonic(x, y))
    rng = np.random.default_rng(len(x))
    for _ in range(5):
        knots = np.sort(rng.normal(size=21))
        other = knots[np.round(20 * x).astype(int)]
        assert (y - fitted) @ (other - fitted) <= 1e-9


def test_by_hand() -> None:
    """0.1 right, 0.2 wrong, 0.3 half right, 0.4 right: the first two are pooled."""
    x, y = np.array([0.4, 0.1, 0.2, 0.3, 0.3]), np.array([1.0, 1, 0, 1, 0])
    at, value = isotonic(x, y)
    assert at.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert value.tolist() == [0.5, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["noise", "falling", "one violation a round"])
def test_a_million_points_are_fitted(kind: str) -> None:
    """A quadratic algorithm would not end: a pass over the points one by one is the worst case."""
    n = 1_000_000
    x = np.arange(n) / n
    if kind == "noise":
        y = (np.random.default_rng(0).random(n) < x).astype(float)
    elif kind == "falling":
        y = -x
    else:
        # Rising values with a last one so low that every block is pooled into it, one a round.
        y = np.append(x[:-1], -1e9)
    at, value = isotonic(x, y)
    assert len(at) == n
    assert np.all(np.diff(value) >= -1e-9)
