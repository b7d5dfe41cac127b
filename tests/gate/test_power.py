"""What a comparison can detect, against hand calculation and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import two_runs

from pytest_calibration.gate.components import Component, Paired, gap_component
from pytest_calibration.gate.decision import State, decide
from pytest_calibration.gate.power import (
    RELATIVE_ERRORS,
    bound_quantile,
    false_alarm_rate,
    scaled,
    smallest_visible,
)
from pytest_calibration.uncertainty.quantiles import upper_quantile


def test_smallest_visible_by_hand() -> None:
    """Tolerance + (z_.95 + z_.80)·largest error = 0.02 + (1.6449 + 0.8416)·0.02."""
    parts = [
        Component("signed gap", 0, 0, 0, 0.01, 0, 0.02),
        Component("slope", 0, 0, 0, 0.02, 0, 0.02),
        Component("cross-fitted ECE", 0, 0, 0, 9.0, 0, 0.02),
        Component("accuracy", 0, 0, 0, 9.0, 0, 0.02),
    ]
    expected = 0.02 + (1.644854 + 0.841621) * 0.02
    assert smallest_visible(parts, 0.02, 1.644854) == pytest.approx(expected, abs=1e-6)
    flat = replace(parts[1], unavailable="all confidences are equal")
    assert smallest_visible([parts[0], flat], 0.02, 1.644854) == pytest.approx(
        0.02 + (1.644854 + 0.841621) * 0.01, abs=1e-6
    )


def test_a_shift_of_the_smallest_visible_size_is_seen_in_four_of_five_runs() -> None:
    """A true shift of the gap by tolerance + 2.49 errors fires the component 80 % of the time."""
    rng = np.random.default_rng(1)
    n, tolerance, fired, trials = 1000, 0.02, 0, 600
    z = upper_quantile(0.05, n)
    # Independent outcomes at 0.7: the paired difference has variance 2·0.7·0.3.
    error = math.sqrt(2 * 0.21 / n)
    shift = tolerance + (z + 0.8416) * error
    for _ in range(trials):
        before, after = rng.random((2, n)) < [[0.7], [0.7 - shift]]
        pair = Paired(
            np.full(n, 0.7), before * 1.0, np.full(n, 0.7), after * 1.0, None, np.arange(n) % 10
        )
        fired += gap_component(pair, tolerance, z).fired
    assert fired / trials == pytest.approx(0.80, abs=0.05)


def test_what_more_units_are_expected_to_show_by_hand() -> None:
    """Errors fall with the root of the number, to that of three changed answers at least.

    The cross-fitted ECE applies from 500 units on: until then its error is 1.6 of the signed gap's.
    """
    few = [
        Component("signed gap", 0, 0, 0, 0.02, 0, 0.02),
        Component("accuracy", 0, 0, 0, 1e-5, 0, 0.02),
        Component("cross-fitted ECE", 0, 0, 0, math.nan, 0, 0.02, unavailable="few units"),
        Component("slope", 0, 0, 0, math.nan, 0, 0.02, unavailable="all are equal"),
    ]
    gap, accuracy, ece, slope = scaled(few, 300, 1200)
    assert gap.standard_error == pytest.approx(0.01)
    assert accuracy.standard_error == pytest.approx(math.sqrt(3) / 1200)
    assert (ece.unavailable, ece.standard_error) == ("", pytest.approx(0.016))
    assert RELATIVE_ERRORS["cross-fitted ECE"] == 1.6
    assert slope.unavailable
    assert [c.unavailable for c in scaled(few, 300, 499)][2] == "few units"
    assert [c.unavailable for c in scaled(few, 300, 500)][2] == ""
    # Four items to a unit: three changed answers among four times as many.
    assert scaled(few, 300, 1200, 4.0)[1].standard_error == pytest.approx(math.sqrt(3) / 4800)


# --- false alarms -------------------------------------------------------------------------------


def test_false_alarm_rate_by_hand() -> None:
    """The tails beyond z + tolerance / error, twice where the direction comes from the data."""
    parts = [
        Component("signed gap", 0, 0, 0, 0.01, 0, 0.02),
        Component("accuracy", 0, 0, 0, 0.02, 0, 0.02),
        Component("slope", math.nan, 0, 0, 0.02, 0, 0.02, unavailable="none"),
        Component("shape", 0, 0, 0, 0.0, 0, 0.02),
    ]
    # P(Z > 1.6449 + 2) = 0.000134, P(Z > 1.6449 + 1) = 0.004087
    assert false_alarm_rate(parts, 1.644854, 1000) == pytest.approx(
        2 * 0.00013377 + 0.0040868, rel=1e-3
    )


@pytest.mark.parametrize("n", [200, 500])
def test_false_alarms_stay_below_their_bound(n: int) -> None:
    """Over unchanged models no more comparisons fail than their bounds sum up to."""
    trials = 400
    decisions = [decide(Paired.of(*two_runs(n, seed))) for seed in range(trials)]
    failed = sum(d.state is State.REGRESSED for d in decisions)
    bound = sum(d.false_alarm_rate for d in decisions)
    # Two standard deviations of a Poisson count above the bound.
    assert failed <= bound + 2 * math.sqrt(bound)
    assert 0.001 * trials < bound < 0.06 * trials


@given(
    st.lists(st.floats(0.0, 0.2), min_size=5, max_size=5),
    st.floats(0.0, 0.1),
    st.floats(0.001, 0.3),
    st.integers(50, 5000),
)
def test_bounds_are_as_strict_as_false_alarms_ask(
    errors: list[float], tolerance: float, alpha: float, units: int
) -> None:
    """At most min(0.4, 150 / units)·alpha false alarms; just so many where bounds were raised."""
    names = ("signed gap", "slope", "shape", "cross-fitted ECE", "accuracy")
    parts = [
        Component(name, 0, 0, 0, error, 0, tolerance)
        for name, error in zip(names, errors, strict=True)
    ]
    z = bound_quantile(parts, alpha, units)
    rate = false_alarm_rate(parts, z, units)
    allowed = min(0.4, 150 / units) * alpha
    assert rate <= allowed
    least = upper_quantile(alpha, units)
    assert z == least or (z > least and rate == pytest.approx(allowed, rel=1e-3))
