"""The rule of the gate on paired data, against ``compare`` and against simulation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import two_runs

from pytest_calibration.gate.components import Paired
from pytest_calibration.gate.decision import State, decide
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare


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
