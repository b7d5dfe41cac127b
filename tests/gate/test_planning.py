"""Plans against hand calculation, and against what a comparison then shows."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import two_runs

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import (
    Paired,
    ece_component,
    gap_component,
    slope_component,
)
from pytest_calibration.gate.decision import decide
from pytest_calibration.gate.planning import plan, smallest_visible_unpaired
from pytest_calibration.gate.power import smallest_visible
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile

of = Predictions.from_confidence


def test_smallest_visible_unpaired_is_an_upper_bound_of_the_paired_one() -> None:
    """Pairing detects at least as much as the plan without a candidate."""
    before, after = two_runs(1000, 2)
    pair = Paired.of(before, after)
    z = upper_quantile(0.05, 1000)
    parts = [f(pair, 0.02, z) for f in (gap_component, slope_component, ece_component)]
    unpaired = smallest_visible_unpaired(before)
    assert smallest_visible(parts, 0.02, z) <= unpaired
    four_times = of(np.tile(before.confidence, 4), np.tile(before.correct, 4))
    assert smallest_visible_unpaired(four_times) - 0.02 == pytest.approx(
        (unpaired - 0.02) / 2, rel=0.01
    )


def _crowded(n: int, seed: int) -> Paired:
    """Two runs of a strong model: four answers of five nearly certain, half of the others anew."""
    rng = np.random.default_rng(seed)
    odds = np.where(rng.random(n) < 0.8, 4.5, 0.3) + 0.8 * rng.standard_normal(n)
    luck, sides = rng.random(n), []
    for again in (0.0, 0.25):
        truth = 1 / (1 + np.exp(-odds - 0.3 * rng.standard_normal(n)))
        mine = np.where(rng.random(n) < again, rng.random(n), luck)
        sides.append(of(truth, mine < truth))
    return Paired.of(*sides)


@pytest.mark.parametrize("kind", ["spread", "crowded"])
def test_the_gate_decides_where_a_plan_says(kind: str) -> None:
    """Well below that number few unchanged pairs are decided, well above it most.

    The share of changed answers is that of the pairs themselves.
    """

    def pair(n: int, seed: int) -> Paired:
        return Paired.of(*two_runs(n, seed)) if kind == "spread" else _crowded(n, seed)

    large = pair(100_000, 1)
    changed = float((large.correct0 != large.correct1).mean())
    needed = plan(1000, changed=changed)
    for n, least, most in (
        (round(0.75 * needed.n_needed), 0.0, 0.2),
        (round(1.33 * needed.n_needed), 0.8, 1.0),
    ):
        decided = [decide(pair(n, seed)).state.decides for seed in range(40)]
        assert least <= np.mean(decided) <= most, (n, changed)


def test_one_unit_sees_nothing() -> None:
    """A baseline of one item, or one group, can show no worsening below 1."""
    assert smallest_visible_unpaired(of([0.5], [True])) == 1.0
    assert smallest_visible_unpaired(of([0.5, 0.7], [True, False], groups=["a", "a"])) == 1.0


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
    """On 300 items the bounds lie further out: so far that five tails sum to 0.015.

    A quarter of the 0.02 allowed is kept for the confident answers.
    """
    p = plan(300)
    error = math.sqrt(0.15 / 300)
    tail = NormalDist().cdf

    # Signed gap, slope and shape count twice; the cross-fitted ECE asks for 500 items.
    def sum_of_tails(z: float) -> float:
        twice = sum(tail(-z - 0.02 / (r * error)) for r in (1, 0.75, 0.55))
        return 2 * twice + tail(-z - 0.02 / error)

    z = bisect_left(range(10**8), -0.015, key=lambda i: -sum_of_tails(4e-8 * i)) * 4e-8
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


def test_the_accuracy_guard_of_a_plan_can_be_switched_off() -> None:
    """Without it the false alarms are fewer by its tail, where bounds are not made stricter."""
    guarded, free = plan(5000), plan(5000, accuracy_tolerance=None)
    assert free.smallest_visible == guarded.smallest_visible
    error = math.sqrt(0.15 / 5000)
    tail = NormalDist().cdf(-NormalDist().inv_cdf(0.95) - 0.02 / error)
    assert guarded.false_alarm_rate - free.false_alarm_rate == pytest.approx(tail, rel=1e-6)


def test_groups_count_as_units() -> None:
    """500 items in 100 groups see, at worst, what 100 items see, and need as many times more."""
    grouped, alone = plan(500, groups=100), plan(100)
    assert grouped.smallest_visible == alone.smallest_visible
    assert grouped.n_needed == pytest.approx(5 * alone.n_needed, abs=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 1}, "n must be at least 2, got 1."),
        ({"n": "500"}, "n must be a whole number, got '500'."),
        ({"n": 500.5}, "n must be a whole number, got 500.5."),
        ({"n": 500, "groups": "50"}, "groups must be a whole number, got '50'."),
        ({"n": 100, "groups": 101}, "groups must be between 2 and n = 100, got 101."),
        ({"n": 100, "groups": 1}, "groups must be between 2 and n = 100, got 1."),
        ({"n": 100, "tolerance": -0.1}, "tolerance must be a number of at least 0 and below 1, "),
        ({"n": 100, "changed": 0.0}, "changed must be above 0 and at most 1, got 0.0."),
        ({"n": 100, "max_undetected": 0.0}, "max_undetected must be above 0; at 0 nothing is dec"),
    ],
)
def test_a_value_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    """Each value outside its range is named with what it may be."""
    with pytest.raises(MetricError, match=re.escape(message)):
        plan(**settings)
