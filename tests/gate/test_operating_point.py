"""Comparisons at an operating point against formulas, other programs and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_calibration.errors import MetricError
from pytest_calibration.gate import operating_point
from pytest_calibration.gate.components import Component, Paired
from pytest_calibration.gate.decision import Decision, State
from pytest_calibration.gate.operating_point import decide_at
from pytest_calibration.gate.power import allowed_false_alarms
from pytest_calibration.gate.strictness import OperatingPoint, Strictness
from pytest_calibration.gate.verdict import compare_at, compare_at_points
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import binomial_lower_bound, upper_quantile

of = Predictions.from_confidence
Z80 = 0.8416212335729143


def run(answered: int, wrong: int, n: int = 1000, first: int = 0) -> Predictions:
    """So many sure answers, of which some wrong from the first on; the others are unsure."""
    i = np.arange(n)
    confidence = np.where(i < answered, 0.95, 0.5)
    correct = np.where(i < answered, (i < first) | (i >= first + wrong), i % 2 == 0)
    return of(confidence, correct.astype(bool), item_ids=range(n))


def decided(before: Predictions, after: Predictions, **point: float | None) -> Decision:
    """The decision on two runs."""
    return decide_at(Paired.of(before, after), OperatingPoint(**point))  # type: ignore[arg-type]


def component(decision: Decision, name: str) -> Component:
    """A component by its name."""
    return next(c for c in decision.components if c.name == name)


def test_both_sides_are_counted_from_the_threshold_on() -> None:
    """Precision is the accuracy, coverage the share, of the answers with at least so much."""
    found = decided(run(400, 20), run(300, 24))
    precision, coverage = found.components
    assert (precision.before, precision.after) == (1 - 20 / 400, 1 - 24 / 300)
    assert (coverage.before, coverage.after) == (0.4, 0.3)
    assert precision.worsening == pytest.approx(24 / 300 - 20 / 400)
    assert (precision.n, precision.above, precision.tolerance) == (300, 0.9, 0.02)
    assert precision.among == "of the 300 answers at or above 0.9"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.9, 0.7, 1.0])
def test_an_answer_at_the_threshold_is_acted_on(kind: type, threshold: float) -> None:
    """At least the threshold, in float32: a 0.9 of a record, which is below 0.9, counts."""
    confidence = np.full(200, threshold, dtype=kind)
    confidence[100:] = np.nextafter(np.float32(threshold), np.float32(0))
    runs = of(confidence, np.ones(200, dtype=bool))
    assert component(decided(runs, runs, threshold=threshold), "coverage").before == 0.5


@pytest.mark.parametrize(("wrong0", "wrong1"), [(0, 0), (0, 9), (3, 3), (12, 30), (150, 150)])
@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.1])
def test_the_rates_of_the_score_test_are_the_most_likely_ones(
    wrong0: int, wrong1: int, tolerance: float
) -> None:
    """No other pair of rates that are the tolerance apart is likelier (on a grid of 1e-5)."""
    rate = operating_point._restricted_rate(wrong0, 150, wrong1, 200, tolerance)
    grid = np.linspace(0, 1 - tolerance, 100_001)

    def log_likelihood(q: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [
                np.where(k > 0, k * np.log(rate), 0.0)
                for k, rate in (
                    (wrong0, q), (150 - wrong0, 1 - q),
                    (wrong1, q + tolerance), (200 - wrong1, 1 - q - tolerance),
                )
            ]  # fmt: skip
        return np.asarray(sum(parts))

    assert rate == pytest.approx(grid[np.nanargmax(log_likelihood(grid))], abs=2e-5)


def test_the_standard_error_is_that_of_the_score_test() -> None:
    """Different items wrong on either side, so that pairing changes nothing: Farrington & Manning.

    300 answers each, 6 and 15 wrong: the error rates that are most likely 0.02 apart.
    """
    before = run(300, 6)
    after = before.correct.copy()
    after[:6], after[20:35] = True, False
    found = component(decided(before, replace(before, correct=after)), "precision")
    q0 = operating_point._restricted_rate(6, 300, 15, 300, 0.02)
    q1 = q0 + 0.02
    expected = (q0 * (1 - q0) + q1 * (1 - q1)) / 300
    # Independent errors of disjoint items pair with a small negative covariance, -q0·q1 / 300.
    p0, p1 = 6 / 300, 15 / 300
    apart = (p0 * (1 - p0) + p1 * (1 - p1) + 2 * p0 * p1) / (p0 * (1 - p0) + p1 * (1 - p1))
    assert found.standard_error == pytest.approx(math.sqrt(expected * apart), rel=2e-3)
    assert found.bound == pytest.approx(0.03 - upper_quantile(0.05, 1000) * found.standard_error)
    visible = 0.02 + (upper_quantile(0.05, 1000) + Z80) * found.standard_error
    assert found.smallest_visible == pytest.approx(visible)


@pytest.mark.parametrize("answers", [10, 40, 200])
def test_no_wrong_answer_is_no_certainty(answers: int) -> None:
    """Where every answer is right on both sides, the error is that of three, or of the tolerance.

    Three changed answers among m; 2 % wrong in one of two samples of m.
    """
    same = run(answers, 0)
    found = component(decided(same, same), "precision")
    least = max(math.sqrt(3) / answers, math.sqrt(0.02 * 0.98 / answers))
    assert found.standard_error == pytest.approx(least)


def test_few_answers_that_cross_are_counted_exactly() -> None:
    """20 answers fall below the threshold and 2 rise above it: McNemar's exact bound."""
    before = run(300, 6)
    confidence = before.confidence.copy()
    confidence[100:120], confidence[300:302] = 0.4, 0.99
    found = component(decided(before, replace(before, confidence=confidence)), "coverage")
    share = binomial_lower_bound(20, 22, 0.05)
    assert found.bound == pytest.approx(22 * (2 * share - 1) / 1000)
    assert found.worsening == pytest.approx(0.018)


def test_a_coverage_that_rises_is_no_regression() -> None:
    """Twice as many answers, as precise, are better; so are as many that are more precise."""
    more = decided(run(300, 15), run(600, 30))
    assert (more.state, more.improved) == (State.PASSED, True)
    better = decided(run(600, 90), run(600, 30))
    assert (better.state, better.improved) == (State.PASSED, True)


def test_coverage_and_precision_fail_apart() -> None:
    """Each beyond its own tolerance; a tolerance of None allows any fall of coverage."""
    fewer = decided(run(600, 30), run(450, 22))
    assert [c.name for c in fewer.components if c.fired] == ["coverage"]
    assert fewer.state is State.REGRESSED
    assert decided(run(600, 30), run(450, 22), coverage_tolerance=0.3).state is State.PASSED
    allowed = decided(run(600, 30), run(450, 22), coverage_tolerance=None)
    assert [c.name for c in allowed.components] == ["precision"]
    assert allowed.state is State.PASSED
    worse = decided(run(600, 30), run(600, 90))
    assert [c.name for c in worse.components if c.fired] == ["precision"]
    assert decided(run(600, 30), run(600, 90), tolerance=0.2).state is State.PASSED


@pytest.mark.parametrize(
    ("before", "after", "side", "state"),
    [
        (0, 0, "either side", State.INCONCLUSIVE),
        (0, 300, "the baseline", State.INCONCLUSIVE),
        (30, 0, "the candidate", State.INCONCLUSIVE),
        (300, 0, "the candidate", State.REGRESSED),
    ],
)
def test_a_threshold_above_all_confidences_never_passes(
    before: int, after: int, side: str, state: State
) -> None:
    """Without answers there is no precision; a coverage that is gone fails where it was there."""
    found = decided(run(before, 0), run(after, 0))
    assert found.state is state
    reason = f"no answer of {side} has a confidence of at least 0.9"
    assert component(found, "precision").unavailable == reason
    if state is State.INCONCLUSIVE:
        assert (found.reason, found.n_needed) == (f"{reason}.", 0)
    assert decided(run(before, 0), run(0, 0), coverage_tolerance=None).state is State.INCONCLUSIVE


def test_too_few_items_decide_nothing() -> None:
    """Below 50 independent units, however bad; above, where a fall could be missed."""
    few = decided(run(40, 0, n=40), run(40, 40, n=40))
    assert (few.state, few.n_needed) == (State.INCONCLUSIVE, 50)
    assert few.reason == "40 items are too few to compare; 50 are not."
    one = decided(run(1, 0, n=1), run(1, 1, n=1))
    assert one.reason == "1 item is too few to compare; 50 are not."
    # 60 items in 20 groups: 50 groups take 150 items.
    sides = [replace(run(40, wrong, n=60), groups=np.arange(60) // 3) for wrong in (0, 40)]
    grouped = decided(*sides)
    assert (grouped.state, grouped.n_needed) == (State.INCONCLUSIVE, 150)
    assert grouped.reason == "20 groups are too few to compare; 50 are not."
    missed = decided(run(100, 10, n=300), run(100, 10, n=300, first=10))
    visible = component(missed, "precision").smallest_visible
    assert missed.state is State.INCONCLUSIVE
    assert f"a fall of precision by up to {visible:.3f} could have been missed" in missed.reason
    k = math.ceil(missed.n_needed / 30)
    enough = decided(run(10 * k, k, n=30 * k), run(10 * k, k, n=30 * k, first=k))
    assert enough.state is State.PASSED
    k -= 2
    less = decided(run(10 * k, k, n=30 * k), run(10 * k, k, n=30 * k, first=k))
    assert less.state is State.INCONCLUSIVE


def test_no_fall_is_larger_than_what_there_is() -> None:
    """Where one answer is acted on, any fall could be missed."""
    found = decided(run(1, 0), run(1, 0))
    assert found.reason.startswith("any fall of precision could have been missed (80 % power)")


def test_groups_count_once() -> None:
    """Five copies of each item in one group tell what one copy tells."""
    rng = np.random.default_rng(3)
    confidence, right = rng.uniform(0.5, 1, 600), rng.random(600) < 0.95
    again = np.where(rng.random(600) < 0.1, rng.random(600) < 0.95, right)
    pairs = []
    for copies in (1, 5):
        groups = np.repeat(np.arange(600), copies)
        runs = [of(np.repeat(confidence, copies), np.repeat(r, copies), groups=groups)
                for r in (right, again)]  # fmt: skip
        pairs.append(decide_at(Paired.of(*runs), OperatingPoint()).components[0])
    assert pairs[1].standard_error == pytest.approx(pairs[0].standard_error, rel=1e-2)


def test_points_share_the_error_level() -> None:
    """Each of four has a quarter of it, and of the false alarms of an unchanged model."""
    strictness = Strictness(alpha=0.08)
    first, second = run(600, 30, n=2000), run(600, 36, n=2000)
    points = [OperatingPoint(t) for t in (0.6, 0.7, 0.8, 0.9)]
    verdicts = compare_at_points(second, first, points, strictness)
    assert [v.level for v in verdicts] == pytest.approx([0.98] * 4)
    rates = [v.false_alarm_rate for v in verdicts]
    assert all(rate <= allowed_false_alarms(0.02, 2000) + 1e-12 for rate in rates)
    assert verdicts[0].notes == ("one of 4 operating points, which share the error level: 0.02.",)
    (alone,) = compare_at_points(second, first, points[:1], strictness)
    assert (alone.level, alone.notes) == (pytest.approx(0.92), ())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 0.75, 0.9, 1.0]))
def test_what_passes_was_measured(seed: int, threshold: float) -> None:
    """Nothing passes on a NaN, without answers, or where more than is allowed stays unseen."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    levels = rng.choice([0.0, 0.5, 0.75, 0.9, 1.0], size=int(rng.integers(1, 5)))
    rate = rng.choice([0.0, 0.5, 0.97, 1.0])
    groups = rng.integers(0, max(1, n // 3), n) if rng.random() < 0.3 else None
    before, after = (
        of(rng.choice(levels, n), rng.random(n) < rate, groups=groups, item_ids=range(n))
        for _ in range(2)
    )
    point = OperatingPoint(threshold, coverage_tolerance=rng.choice([None, 0.05]))
    found = decide_at(Paired.of(before, after), point)
    if found.state is State.PASSED:
        for c in found.components:
            assert not c.unavailable
            assert not c.bound > c.tolerance
            assert c.smallest_visible <= c.tolerance + 0.05
    same = decide_at(Paired.of(before, before), point)
    assert same.state is not State.REGRESSED


@pytest.mark.parametrize("answers", [60, 300])
def test_false_alarms_on_the_line_hold_the_level(answers: int) -> None:
    """Precision 0.985 that falls by the tolerance: at most 5 % fail, and three standard errors."""
    rng, fired = np.random.default_rng(answers), 0
    trials = 300
    for _ in range(trials):
        luck = rng.random(answers)
        again = np.where(rng.random(answers) < 0.5, rng.random(answers), luck)
        before, after = (of(np.full(answers, 0.95), r) for r in (luck < 0.985, again < 0.965))
        fired += decided(before, after).components[0].fired
    assert fired / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_verdict_says_what_fell() -> None:
    """Headline, both numbers of both sides, and the power, in one text."""
    verdict = compare_at(run(600, 90), run(600, 30))
    assert verdict.headline == "precision regressed at 0.9: probe confidence"
    text = verdict.explain()
    assert "precision fell by 0.100 (0.950 -> 0.850, of the 600 answers at or above 0.9)" in text
    assert "precision at 0.9 0.850 [" in text
    assert "baseline: coverage at 0.9 0.600 [" in text
    visible = ", ".join(f"of {c.name} {c.smallest_visible:.3f}" for c in verdict.components)
    assert f"smallest fall visible here at 80 % power: {visible}" in text
    both = compare_at(run(300, 90), run(600, 30))
    assert both.headline == "precision and coverage regressed at 0.9: probe confidence"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 1.5}, r"threshold must be a number of at least 0 and at most 1, got 1\.5"),
        ({"threshold": math.nan}, "threshold must be a number"),
        ({"tolerance": 1}, "tolerance must be a number of at least 0 and below 1, got 1"),
        ({"coverage_tolerance": "5"}, "coverage_tolerance must be a number"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], message: str) -> None:
    """By name, with the range and the value."""
    with pytest.raises(MetricError, match=message):
        compare_at(run(300, 6), run(300, 6), **setting)


def test_how_strict_a_comparison_at_a_threshold_is_reaches_its_rule() -> None:
    """What may stay undetected, the error level, and the share of the items that must be there."""
    before, after = run(100, 10, n=300), run(100, 10, n=300, first=10)
    usual = compare_at(after, before, 0.9)
    assert usual.state is State.INCONCLUSIVE
    assert compare_at(after, before, 0.9, max_undetected=0.9).state is State.PASSED
    lax = compare_at(after, before, 0.9, alpha=0.3)
    assert lax.smallest_visible < usual.smallest_visible
    assert (usual.alpha, lax.alpha) == (0.05, 0.3)
    # The last hundred are not what a limit takes.
    part = after.take(np.sort(np.argsort(after.item_ids)[100:]))
    assert compare_at(part, before, 0.9, min_share=0.9).state is State.NOT_COMPARABLE
    assert compare_at(part, before, 0.9, min_share=0.5).state is not State.NOT_COMPARABLE
    # Of several points each has a part of the level.
    assert compare_at(after, before, 0.9, points=3).smallest_visible > usual.smallest_visible
