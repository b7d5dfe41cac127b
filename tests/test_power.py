"""What a comparison can see, against simulation."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from datasets import two_runs
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.components import (
    Component,
    Paired,
    ece_component,
    gap_component,
    slope_component,
)
from pytest_calibration.decision import State, decide
from pytest_calibration.errors import MetricError
from pytest_calibration.power import (
    bound_quantile,
    false_alarm_rate,
    plan,
    smallest_visible,
    unpaired_visible,
)
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile

of = Predictions.from_confidence


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


def test_unpaired_visible_is_an_upper_end_of_what_pairing_shows() -> None:
    """Before a candidate is known the promise is no better than what the pair then gives."""
    before, after = two_runs(1000, 2)
    pair = Paired.of(before, after)
    z = upper_quantile(0.05, 1000)
    parts = [f(pair, 0.02, z) for f in (gap_component, slope_component, ece_component)]
    promised = unpaired_visible(before)
    assert smallest_visible(parts, 0.02, z) <= promised
    four_times = of(np.tile(before.confidence, 4), np.tile(before.correct, 4))
    assert unpaired_visible(four_times) - 0.02 == pytest.approx((promised - 0.02) / 2, rel=0.01)


def test_one_unit_sees_nothing() -> None:
    """A baseline of one item, or one group, can show no worsening below 1."""
    assert unpaired_visible(of([0.5], [True])) == 1.0
    assert unpaired_visible(of([0.5, 0.7], [True, False], groups=["a", "a"])) == 1.0


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
def test_false_alarms_stay_below_what_is_said(n: int) -> None:
    """Over unchanged models no more comparisons fail than the verdicts said beforehand."""
    said, failed, trials = 0.0, 0, 400
    for seed in range(trials):
        before, after = two_runs(n, seed)
        decision = decide(Paired.of(before, after))
        said += decision.false_alarm_rate
        failed += decision.state is State.REGRESSED
    # Two standard deviations of a Poisson count above the bound.
    assert failed <= said + 2 * math.sqrt(said)
    assert 0.001 * trials < said < 0.06 * trials


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


# --- plans --------------------------------------------------------------------------------------


def test_plan_by_hand() -> None:
    """2,000 items, 15 % changed: the error is sqrt(0.15 / 2000), visible 0.02 + 2.4865 errors."""
    p = plan(2000)
    error = math.sqrt(0.15 / 2000)
    assert p.standard_error == pytest.approx(error)
    assert p.smallest_visible == pytest.approx(0.02 + 2.486475 * error, abs=1e-6)
    assert p.decides
    assert p.power(p.smallest_visible) == pytest.approx(0.8, abs=1e-6)
    assert p.power(0.02) == pytest.approx(0.05, abs=1e-6)


def test_a_small_plan_by_hand() -> None:
    """On 300 items the bounds lie further out: so far that five tails sum to 0.02."""
    p = plan(300)
    error = math.sqrt(0.15 / 300)
    optimize = pytest.importorskip("scipy.optimize")
    tail = NormalDist().cdf
    # Signed gap, slope and shape count twice; the cross-fitted ECE asks for 500 items.
    z = optimize.brentq(
        lambda z: (
            2 * sum(tail(-z - 0.02 / (r * error)) for r in (1, 0.95, 0.75))
            + tail(-z - 0.02 / error)
            - 0.02
        ),
        1,
        4,
    )
    assert z > 1.645
    assert p.smallest_visible == pytest.approx(0.02 + (z + 0.841621) * error, abs=1e-6)
    assert p.false_alarm_rate == pytest.approx(0.02, abs=1e-6)
    assert not p.decides


@given(st.floats(0.01, 0.4), st.floats(0.01, 0.2), st.floats(0.02, 1.0), st.floats(0.005, 0.1))
def test_the_n_a_plan_names_decides(
    alpha: float, max_undetected: float, changed: float, tolerance: float
) -> None:
    """A plan for the n it names decides, and one for an item less does not."""
    settings = {
        "alpha": alpha,
        "max_undetected": max_undetected,
        "changed": changed,
        "tolerance": tolerance,
    }
    needed = plan(500, **settings).n_needed
    assert plan(needed, **settings).decides
    if needed > 50:
        assert not plan(needed - 1, **settings).decides


def test_a_plan_agrees_with_the_comparison() -> None:
    """Fed with the share of answers that changed, a plan sees what the comparison then sees."""
    before, after = two_runs(2000, 5)
    v = decide(Paired.of(before, after))
    changed = float(np.mean(before.correct != after.correct))
    p = plan(2000, changed=changed)
    assert p.smallest_visible == pytest.approx(v.smallest_visible, abs=0.002)
    assert p.false_alarm_rate == pytest.approx(v.false_alarm_rate, abs=0.002)


def test_groups_count_as_units() -> None:
    """500 items in 100 groups see, at worst, what 100 items see, and need as many times more."""
    grouped, alone = plan(500, groups=100), plan(100)
    assert grouped.smallest_visible == alone.smallest_visible
    assert grouped.n_needed == pytest.approx(5 * alone.n_needed, abs=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 1}, "n must be at least 2, got 1."),
        ({"n": 100, "groups": 101}, "groups must be between 2 and n = 100, got 101."),
        ({"n": 100, "groups": 1}, "groups must be between 2 and n = 100, got 1."),
        ({"n": 100, "tolerance": -0.1}, "tolerance must be at least 0 and below 1, got -0.1."),
        ({"n": 100, "alpha": 0.5}, "alpha must be between 0 and 0.5, got 0.5."),
        ({"n": 100, "alpha": math.nan}, "alpha must be between 0 and 0.5, got nan."),
        ({"n": 100, "changed": 0.0}, "changed must be above 0 and at most 1, got 0.0."),
        ({"n": 100, "max_undetected": 0.0}, "max_undetected must be between 0 and 1, got 0.0."),
    ],
)
def test_a_plan_for_nothing_is_refused(settings: dict[str, float], message: str) -> None:
    """Each value outside its range is named with what it may be."""
    with pytest.raises(MetricError, match=re.escape(message)):
        plan(**settings)  # type: ignore[arg-type]
