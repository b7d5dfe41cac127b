"""Quantiles and exact bounds against published tables, formulas and scipy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, binomial_lower_bound, upper_quantile

of = Predictions.from_confidence


# NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2: upper critical values of
# Student's t, by degrees of freedom, for one-sided 0.05, 0.025 and 0.01.
STUDENT = {
    1: (6.314, 12.706, 31.821),
    2: (2.920, 4.303, 6.965),
    3: (2.353, 3.182, 4.541),
    5: (2.015, 2.571, 3.365),
    9: (1.833, 2.262, 2.821),
    10: (1.812, 2.228, 2.764),
    29: (1.699, 2.045, 2.462),
    30: (1.697, 2.042, 2.457),
    60: (1.671, 2.000, 2.390),
    100: (1.660, 1.984, 2.364),
}


@pytest.mark.parametrize(("dof", "values"), STUDENT.items(), ids=map(str, STUDENT))
def test_student_quantiles_are_those_of_the_table(
    dof: int, values: tuple[float, float, float]
) -> None:
    """With fewer than 200 units the quantile is Student's with one degree of freedom less."""
    for alpha, published in zip((0.05, 0.025, 0.01), values, strict=True):
        assert upper_quantile(alpha, dof + 1) == pytest.approx(published, abs=5.1e-4)


@pytest.mark.parametrize(
    ("alpha", "published"), [(0.05, 1.645), (0.025, 1.960), (0.01, 2.326), (0.005, 2.576)]
)
def test_normal_quantiles_are_those_of_the_table(alpha: float, published: float) -> None:
    """From 200 units on the quantile is the normal one (same handbook, table 1.3.6.7.1)."""
    assert upper_quantile(alpha, 200) == pytest.approx(published, abs=5.1e-4)
    assert upper_quantile(alpha, 10**6) == upper_quantile(alpha, 200)


@given(st.integers(2, 199), st.floats(0.001, 0.499))
def test_quantiles_agree_with_scipy(clusters: int, alpha: float) -> None:
    """Student quantiles are scipy's."""
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.isf(alpha, clusters - 1)
    assert upper_quantile(alpha, clusters) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(st.integers(2, 400), st.floats(0.001, 0.45))
def test_fewer_units_are_never_more_certain(clusters: int, alpha: float) -> None:
    """The quantile never grows with the number of units, also across the change at 200."""
    assert upper_quantile(alpha, clusters) >= upper_quantile(alpha, clusters + 1) - 1e-9
    assert upper_quantile(alpha, clusters) >= NORMAL.inv_cdf(1 - alpha) - 1e-9


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.01])
@pytest.mark.parametrize("n", [1, 5, 10, 24])
def test_exact_bound_has_closed_forms_at_the_ends(n: int, alpha: float) -> None:
    """Clopper-Pearson: 0 of n is 0, n of n is α^(1/n), 1 of n is 1 - (1 - α)^(1/n)."""
    assert binomial_lower_bound(0, n, alpha) == 0
    assert binomial_lower_bound(n, n, alpha) == pytest.approx(alpha ** (1 / n))
    assert binomial_lower_bound(1, n, alpha) == pytest.approx(1 - (1 - alpha) ** (1 / n))


@pytest.mark.parametrize(
    ("k", "n", "published"), [(5, 10, 0.2224), (8, 10, 0.4931), (10, 20, 0.3020), (15, 20, 0.5444)]
)
def test_exact_bound_is_that_of_the_tables(k: int, n: int, published: float) -> None:
    """Lower ends of the 90 % Clopper-Pearson intervals, as tabulated."""
    assert binomial_lower_bound(k, n, 0.05) == pytest.approx(published, abs=6e-5)


@given(st.integers(1, 24), st.data())
def test_exact_bound_is_a_beta_quantile(n: int, data: st.DataObject) -> None:
    """Clopper-Pearson is scipy's beta quantile."""
    stats = pytest.importorskip("scipy.stats")
    k = data.draw(st.integers(1, n))
    expected = stats.beta.ppf(0.05, k, n - k + 1)
    assert binomial_lower_bound(k, n, 0.05) == pytest.approx(expected, rel=1e-7)
