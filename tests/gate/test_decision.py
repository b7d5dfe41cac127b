"""The rule of the gate on paired data, against ``compare`` and against simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import two_runs

from pytest_calibration.gate.components import Component, Paired
from pytest_calibration.gate.decision import State, decide, p_value_of
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.predictions import Predictions


@given(
    st.integers(0, 10**6),
    st.integers(40, 600),
    st.floats(0.7, 2.0),
    st.floats(0.0, 0.1),
    st.floats(0.001, 0.3),
)
def test_a_verdict_has_the_decision_on_the_pair(
    seed: int, n: int, factor: float, tolerance: float, alpha: float
) -> None:
    """A verdict has the state, the bounds, the level and the n of the decision on the pair."""
    before, after = two_runs(n, seed, factor)
    v = compare(after, before, tolerance=tolerance, alpha=alpha)
    d = decide(Paired.of(before, after), Strictness(tolerance, alpha))
    assert (v.state, v.n_needed, v.improved) == (d.state, d.n_needed, d.improved)
    assert v.level == min(c.level for c in d.components if not c.unavailable)
    for a, b in zip(v.components, d.components, strict=True):
        assert (a.name, a.fired, a.unavailable) == (b.name, b.fired, b.unavailable)
        assert a.bound == pytest.approx(b.bound, nan_ok=True)
    assert 1 - v.level <= alpha + 1e-12


@given(st.integers(0, 10**6), st.integers(50, 400), st.sampled_from([0.5, 1.0, 2.0]))
def test_raised_bounds_are_worsening_minus_z_errors(seed: int, n: int, factor: float) -> None:
    """Every bound but an exact one lies the same number of standard errors below its worsening."""
    before, after = two_runs(n, seed, factor)
    d = decide(Paired.of(before, after), Strictness(accuracy_tolerance=None))
    z = {
        round((c.worsening - c.bound) / c.standard_error, 6)
        for c in d.components
        if not c.unavailable
    }
    assert len(z) == 1
    assert min(z) >= 1.6448


def test_a_move_through_zero_that_is_not_established_is_inconclusive() -> None:
    """From -0.005 to +0.03 on 1,000 items, the same answers but 35: it is told, and how many do.

    The candidate's own standard error is 0.5/sqrt(1000); it must be 2.33 of them from zero.
    """
    confidence = np.full(1000, 0.5)
    sides = [
        Predictions.from_confidence(confidence, np.arange(1000) < right) for right in (505, 470)
    ]
    decision = decide(Paired.of(*sides), Strictness(accuracy_tolerance=None))
    assert decision.state is State.INCONCLUSIVE
    assert decision.reason == (
        "signed gap moved from -0.005 to +0.030, through zero; so few items do not show that it "
        "errs by more than before."
    )
    error = math.sqrt(0.47 * 0.53 / 999)
    assert decision.n_needed == math.ceil(1000 * (2.326348 * error / 0.03) ** 2)


def test_the_p_value_is_the_false_alarm_rate_at_the_clearest_worsening() -> None:
    """Equal runs have 1; where the gate fires it is at most what it allows an unchanged model."""
    before, after = two_runs(1000, 3, 1.0)
    assert decide(Paired.of(before, before)).p_value == 1.0
    assert decide(Paired.of(before, after)).p_value > 0.0075
    fired = decide(Paired.of(*two_runs(1000, 3, 2.0)))
    assert fired.state is State.REGRESSED
    assert fired.p_value <= 0.0075


def test_the_p_value_is_the_clearest_tail_over_its_share() -> None:
    """P(Z > 2 + 1) of a worsening two errors beyond a tolerance of one error; twice if two-sided.

    Each kind of component may raise a share of the false alarms, so that its tail counts
    1 / share times; the smaller of both counts, and never more than 1.
    """
    accuracy = Component("accuracy", 0.8, 0.74, 0.06, 0.02, math.nan, 0.02)
    confident = Component("confident answers", 0.0, 0.06, 0.06, 0.02, math.nan, 0.02)
    # Of ten million units, Student's quantiles are the normal ones.
    units, tail = 10**7, NormalDist().cdf(-3)
    for share in (0.25, 0.75, 1.0):
        assert p_value_of(((accuracy,), share), units=units) == pytest.approx(tail / share)
        assert p_value_of(((confident,), share), units=units) == pytest.approx(2 * tail / share)
    both = p_value_of(((accuracy,), 0.75), ((confident,), 0.25), units=units)
    assert both == pytest.approx(tail / 0.75)
    assert p_value_of(((confident,), 0.25), ((accuracy,), 0.75), units=units) == both
    assert p_value_of(((accuracy,), tail / 2), units=units) == 1.0


@pytest.mark.parametrize(
    "change",
    [{"unavailable": "few"}, {"grew": False}, {"standard_error": 0.0}, {"worsening": math.nan}],
    ids=str,
)
def test_what_cannot_get_worse_says_nothing_of_chance(change: dict[str, Any]) -> None:
    """A component that does not apply, did not grow, or has no error leaves the p-value at 1."""
    clear = Component("accuracy", 0.8, 0.2, 0.6, 0.02, math.nan, 0.02)
    assert p_value_of(((clear,), 1.0), units=1000) < 1e-6
    assert p_value_of(((replace(clear, **change),), 1.0), units=1000) == 1.0
    assert p_value_of(((clear,), 0.0), units=1000) == 1.0


@pytest.mark.parametrize(("n", "allowed"), [(150, 0.02), (1000, 0.0075)])
def test_tolerance_zero_raises_few_false_alarms(n: int, allowed: float) -> None:
    """Even with no tolerance an unchanged model fails no more often than promised.

    The bound is min(0.4, 150 / n)·alpha; the count may exceed it by three standard deviations.
    """
    trials, strict = 400, Strictness(tolerance=0.0, accuracy_tolerance=0.0)
    failed = sum(
        decide(Paired.of(*two_runs(n, seed)), strict).state is State.REGRESSED
        for seed in range(trials)
    )
    assert failed <= trials * allowed + 3 * math.sqrt(trials * allowed)


def test_what_fails_and_what_decides() -> None:
    """Four states fail a test; all but two mean that something was compared or stored."""
    assert {s.value for s in State if s.fails} == {
        "regressed",
        "above_limit",
        "not_comparable",
        "no_baseline",
    }
    assert [s.value for s in State if not s.decides] == ["inconclusive", "not_recorded"]
