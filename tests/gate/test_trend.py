"""The trend over checkpoints against formulas, a brute-force covariance, and properties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_calibration import exact, four_way

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import (
    Paired,
    accuracy_component,
    ece_component,
    gap_component,
    slope_component,
)
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.trend import TrendVerdict, decide_trend, trend
from pytest_calibration.predictions import FloatArray, Predictions, Signature
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)


def off(*gaps: float, each: int = 400, **signature: str) -> list[Predictions]:
    """Checkpoints with exactly these gaps at every confidence, on the same items."""
    return [
        exact(dict.fromkeys(LEVELS, gap), each=each).with_signature(model=f"step-{k}", **signature)
        for k, gap in enumerate(gaps)
    ]


def readings(
    many: int, n: int = 600, seed: int = 0, groups: int = 0, drift: float = 0.0
) -> list[Predictions]:
    """Noisy readings of the same truth; logits grow by ``drift`` from one to the next."""
    logits, labels = four_way(n, seed)
    rng = np.random.default_rng(seed + 1)
    names = None if not groups else rng.integers(groups, size=n)
    return [
        Predictions.from_logits(
            (1 + drift * k) * (logits + 0.3 * rng.standard_normal(logits.shape)),
            labels,
            item_ids=range(n),
            groups=names,
        )
        for k in range(many)
    ]


def named(verdict: TrendVerdict) -> dict[str, Any]:
    """The components by name."""
    return {c.name: c for c in verdict.courses}


# --- two checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [0, 80], ids=["items", "groups"])
@pytest.mark.parametrize("steps", [(0, 1), (300, 1700)])
def test_two_checkpoints_are_the_paired_comparison(groups: int, steps: tuple[int, int]) -> None:
    """Every component of the line has the numbers of the comparison of these two."""
    first, last = readings(2, groups=groups, drift=0.2)
    found = named(trend(steps, [first, last]))
    pair = Paired.of(first, last)
    expected = [
        gap_component(pair, 0.02, 1.0),
        slope_component(pair, 0.02, 1.0),
        accuracy_component(pair, 0.02, 0.05),
    ]
    if not groups:
        expected.append(ece_component(pair, 0.02, 1.0))
    for c in expected:
        for name in ("before", "after", "worsening", "standard_error"):
            assert getattr(found[c.name], name) == pytest.approx(getattr(c, name), abs=1e-12), name
        assert found[c.name].grew == c.grew
        assert math.isnan(found[c.name].scatter)


def test_two_checkpoints_need_more_certainty_than_three() -> None:
    """Without scatter, a trend may raise a tenth of the false alarms."""
    two, three = (trend(range(k), readings(k, n=1000)) for k in (2, 3))
    assert two.level > three.level
    assert two.explanation[-1].startswith("with two checkpoints noise of training looks like drift")
    assert two.false_alarm_rate <= 0.1 * 0.05 * 0.15 * (1 + 1e-6)
    assert trend((0, 1), off(0.0, 0.2)).state is State.REGRESSED


# --- against brute force ------------------------------------------------------------------------


def brute_force(
    steps: Sequence[float], values: FloatArray, groups: Any
) -> tuple[float, float, float, float]:
    """Start, end, and standard errors of the drift: from the items' covariance, and from scatter.

    Args:
        steps: (K,).
        values: (K, n) per item.
        groups: (n,) names, or None.
    """
    x = np.array(steps, dtype=np.float64)
    means, n = values.mean(axis=1), values.shape[1]
    slope, intercept = np.polyfit(x, means, 1)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum() * (x[-1] - x[0])
    residual = values - means[:, None]
    names = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((len(x), names.max() + 1))
    for k in range(len(x)):
        np.add.at(sums[k], names, residual[k])
    units = sums.shape[1]
    covariance = units / (units - 1) * (sums @ sums.T) / n**2
    error = math.sqrt(weights @ covariance @ weights)
    left = means - intercept - slope * x
    of_slope = math.sqrt((left**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    ends = intercept + slope * x[0], intercept + slope * x[-1]
    return *ends, error, of_slope * (x[-1] - x[0])


@pytest.mark.parametrize("groups", [0, 90], ids=["items", "groups"])
@pytest.mark.parametrize("steps", [(0, 1, 2), (0, 100, 150, 400, 1000), tuple(range(11))], ids=len)
def test_the_standard_error_holds_every_covariance(groups: int, steps: tuple[int, ...]) -> None:
    """It equals aᵀ·Cov·a with the (K, K) covariance of the checkpoints' means over the groups."""
    runs = readings(len(steps), groups=groups, drift=0.05, seed=3)
    found = named(trend(steps, runs))
    confidence = np.array([r.confidence.astype(np.float32).astype(float) for r in runs])
    correct = np.array([r.correct for r in runs], dtype=float)
    centre = confidence.mean()
    k = np.abs(confidence - centre).mean() / confidence.var()
    weights = np.clip(k * (confidence - centre), -1, 1)
    for name, values in (
        ("signed gap", confidence - correct),
        ("slope", weights * (confidence - correct)),
        ("accuracy", correct),
    ):
        before, after, error, scatter = brute_force(steps, values, runs[0].groups)
        c = found[name]
        assert (c.before, c.after) == pytest.approx((before, after), abs=1e-9), name
        assert c.standard_error == pytest.approx(error), name
        assert c.scatter == pytest.approx(scatter, abs=1e-12), name
        assert c.scatter_quantile == upper_quantile(0.025, len(steps) - 1)
        assert c.values == pytest.approx(values.mean(axis=1))
        sizes = [1] * 600 if not groups else np.unique(runs[0].groups, return_counts=True)[1]
        units = int(600**2 / np.square(sizes).sum())
        z = (c.worsening - c.bound) / c.standard_error
        assert 1 - c.level == pytest.approx(upper_tail(z, units), abs=1e-9)


def test_a_straight_line_is_read_exactly() -> None:
    """Gaps of 0, 0.05, 0.1 at steps 0, 100, 200: a drift of 0.1, and no scatter at all."""
    found = named(trend((0, 100, 200), off(0.0, 0.05, 0.1)))["signed gap"]
    assert (found.before, found.after) == pytest.approx((0.0, 0.1), abs=1e-6)
    assert found.worsening == pytest.approx(0.1, abs=1e-6)
    assert found.scatter == pytest.approx(0, abs=1e-6)
    assert found.among.startswith("over 1,000 > 12.7 times the scatter of 3 checkpoints")


# --- what fails, and what does not --------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "state"),
    [
        ((0.0, 0.05, 0.1, 0.15), State.REGRESSED),
        ((0.0, -0.05, -0.1, -0.15), State.REGRESSED),
        ((0.15, 0.1, 0.05, 0.0), State.PASSED),
        ((-0.15, -0.1, -0.05, 0.0), State.PASSED),
        ((0.0, 0.0, 0.0, 0.0), State.PASSED),
        # Through zero, to a smaller size.
        ((-0.15, -0.05, 0.0, 0.05), State.PASSED),
        # As large as a drift, but no line.
        ((0.0, 0.15, -0.05, 0.1), State.PASSED),
    ],
)
def test_it_fails_where_the_line_leads_away_from_calibration(
    gaps: tuple[float, ...], state: State
) -> None:
    """Over- and under-confidence that grow fail; what shrinks, stays or scatters does not."""
    strictness = Strictness(accuracy_tolerance=None)
    assert trend(range(len(gaps)), off(*gaps), strictness).state is state


def test_scatter_alone_does_not_fail() -> None:
    """The drift is certain on these items, yet checkpoints scatter as much about the line."""
    verdict = trend(range(4), off(0.0, 0.15, -0.05, 0.1), Strictness(accuracy_tolerance=None))
    c = named(verdict)["signed gap"]
    assert c.bound > c.tolerance
    assert not c.stands_out
    assert not c.fired
    assert c.worsening / c.scatter <= c.scatter_quantile
    assert f"<= {c.scatter_quantile:.1f} times the scatter of 4 checkpoints" in verdict.explain()


def test_accuracy_that_falls_fails_as_accuracy() -> None:
    """A model that answers fewer questions, and knows it, has drifted in accuracy alone."""
    runs = [exact({level - 0.05 * k: 0.0 for level in (0.6, 0.7, 0.8)}, each=400) for k in range(4)]
    verdict = trend(range(4), runs)
    assert [c.name for c in verdict.failing] == ["accuracy"]
    assert verdict.headline == "accuracy drifted: probe exact"
    assert trend(range(4), runs, Strictness(accuracy_tolerance=None)).state is State.PASSED


@pytest.mark.parametrize("tolerance", [0.05, 0.12])
def test_one_predicate_decides(tolerance: float) -> None:
    """It fails exactly where a bound of a growing component lies beyond the tolerance."""
    verdict = trend(range(4), off(0.0, 0.03, 0.07, 0.1), Strictness(tolerance, 0.05, None))
    c = named(verdict)["signed gap"]
    assert (verdict.state is State.REGRESSED) is (c.bound > tolerance)
    assert c.tolerance == verdict.tolerance == tolerance


def test_few_units_are_inconclusive() -> None:
    """On 40 items, or on 40 groups, nothing is decided; the text says how many would do."""
    runs = [run.take(np.arange(0, 2000, 50)) for run in off(0.0, 0.1, 0.2)]
    verdict = trend(range(3), runs)
    assert (verdict.state, verdict.n_needed) == (State.INCONCLUSIVE, 50)
    assert verdict.reason == "40 items are too few for a trend; at least 50 are needed."
    assert not verdict.failing
    grouped = [replace(run, groups=np.arange(2000) // 50) for run in off(0.0, 0.1, 0.2)]
    assert trend(range(3), grouped).reason.startswith("40 groups are too few")


def test_one_checkpoint_is_no_trend() -> None:
    """It is neither good nor bad: inconclusive."""
    verdict = trend([0], off(0.3))
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.reason == "one checkpoint is no trend; a second makes it one."


def test_a_trend_that_could_miss_too_much_is_inconclusive() -> None:
    """80 items show no drift below the tolerance plus 0.05; the n that would is named."""
    verdict = trend(range(3), readings(3, n=80))
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.smallest_visible > 0.07
    assert verdict.n_needed > 80
    assert "could have been missed (80 % power)" in verdict.reason


# --- invariances --------------------------------------------------------------------------------

RUNS = readings(6, n=300, groups=70, drift=0.08, seed=5)
NUMBERS = ("before", "after", "worsening", "standard_error", "scatter", "bound")


def numbers(steps: Sequence[float], runs: Sequence[Predictions]) -> list[float]:
    """All numbers of all components that apply."""
    components = trend(steps, runs).courses
    return [getattr(c, name) for c in components if not c.unavailable for name in NUMBERS]


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(6)),
    scale=st.floats(1e-6, 1e9),
    origin=st.floats(-1e6, 1e6),
    seed=st.integers(0, 99),
)
def test_neither_order_nor_units_of_steps_matter(
    order: list[int], scale: float, origin: float, seed: int
) -> None:
    """Checkpoints and items may come in any order, and steps be counted in tokens or epochs."""
    steps = [0.0, 1.0, 3.0, 4.0, 7.0, 10.0]
    expected = numbers(steps, RUNS)
    turned = np.random.default_rng(seed).permutation(300)
    moved = [scale * steps[k] for k in order]
    assert numbers(moved, [RUNS[k].take(turned) for k in order]) == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )
    shifted = [origin + step for step in steps]
    assert numbers(shifted, RUNS) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=8), st.integers(0, 9))
def test_the_verdict_fits_its_numbers(gaps: list[float], seed: int) -> None:
    """Failing means: a component is certain, grew, stands out; and there is no NaN."""
    rng = np.random.default_rng(seed)
    confidence = np.clip(rng.uniform(0.4, 0.95, 200), 0, 1)
    luck = rng.random(200)
    runs = [Predictions.from_confidence(confidence, luck < confidence - gap) for gap in gaps]
    decision = decide_trend(range(len(runs)), runs)
    fired = [
        c
        for c in trend(range(len(runs)), runs).courses
        if not c.unavailable
        and c.bound > c.tolerance
        and c.grew
        and (len(runs) < 3 or c.worsening > c.scatter_quantile * c.scatter)
    ]
    assert (decision.state is State.REGRESSED) is bool(fired)
    for c in decision.components:
        assert c.unavailable or math.isfinite(c.bound)


# --- items --------------------------------------------------------------------------------------


def test_checkpoints_are_compared_on_the_items_that_all_share() -> None:
    """A smaller limit of one of them is the set of all, and it is said."""
    runs = off(0.0, 0.05, 0.1)
    part = [runs[0], runs[1].limited(1500), runs[2].limited(1800)]
    verdict = trend(range(3), part)
    assert (verdict.n, verdict.candidate_n, verdict.baseline_n) == (1500, 1800, 2000)
    assert verdict.cautions == ("compared on the 1,500 items that all checkpoints have.",)
    expected = trend(range(3), [run.limited(1500) for run in runs])
    assert repr(verdict.components) == repr(expected.components)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (
            lambda run: replace(run, signature=Signature({"shots": "5"})),
            "step 2 cannot be compared with the first: the probe is not the same: shots is",
        ),
        (
            lambda run: replace(run, item_ids=run.item_ids + np.uint64(1)),
            "step 2 cannot be compared with the first: the items are not the same: 0 of the",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(last: Any, reason: str) -> None:
    """Other settings, or other items, of one checkpoint make the run not comparable."""
    *runs, worst = off(0.0, 0.0, 0.1)
    runs = [replace(run, signature=Signature({"shots": "3"})) for run in runs]
    verdict = trend(range(3), [*runs, last(replace(worst, signature=runs[0].signature))])
    assert verdict.state is State.NOT_COMPARABLE
    assert verdict.reason.startswith(reason)


def test_items_that_few_checkpoints_share_are_too_few() -> None:
    """Each holds 96 % of the first, and all together 76 %."""
    runs = off(*[0.0] * 7)
    keep = [np.arange(2000)] + [np.delete(np.arange(2000), slice(80 * k, 80 * k + 80)) for k in
                                range(6)]  # fmt: skip
    verdict = trend(range(7), [run.take(index) for run, index in zip(runs, keep, strict=True)],
                    Strictness(min_share=0.9))  # fmt: skip
    assert verdict.state is State.NOT_COMPARABLE
    assert verdict.reason == (
        "the 7 checkpoints share only 1,520 of 1,920 items; measure all of them on the same items."
    )


@pytest.mark.parametrize(
    ("steps", "gaps", "message"),
    [
        ([], (), "a trend needs checkpoints, got none."),
        ([0], (0.0, 0.1), "each checkpoint needs its step, got 1 for 2 checkpoints."),
        ([0, math.nan], (0.0, 0.1), "a step must be a finite number, got nan."),
        ([0, "100"], (0.0, 0.1), "a step must be a number, got '100'."),
        ([0, True], (0.0, 0.1), "a step must be a number, got True."),
        ([5, 5, 5], (0.0, 0.1, 0.1), "all 3 checkpoints stand at step 5; a trend needs two."),
    ],
)
def test_steps_that_make_no_line_are_refused(
    steps: list[Any], gaps: tuple[float, ...], message: str
) -> None:
    """One sentence: what is wrong, the value, what is needed."""
    with pytest.raises(MetricError) as caught:
        trend(steps, off(*gaps))
    assert str(caught.value) == message


def test_two_probes_have_no_trend() -> None:
    """They are named."""
    runs = [exact(probe="facts"), exact(probe="quiz")]
    with pytest.raises(MetricError, match=r"a trend is of one probe, got 'facts', 'quiz'\."):
        trend((0, 1), runs)


# --- what it says -------------------------------------------------------------------------------


def test_it_explains_itself() -> None:
    """Headline, the sentence with the digits that show it, the line, and every checkpoint."""
    verdict = trend((0, 100, 300, 1000), off(0.0, 0.05, 0.05, 0.15), Strictness(0.02, 0.05, None))
    c = named(verdict)["signed gap"]
    assert verdict.headline == "calibration drifted: probe exact on step-3"
    assert verdict.findings[0] == (
        f"signed gap worsened by {c.worsening:.3f} from step 0 to 1,000 along the line through 4 "
        f"checkpoints ({c.before:.3f} -> {c.after:.3f}); at least {c.bound:.3f} with 95 % "
        f"confidence: {c.bound:.3f} > tolerance 0.020; {c.worsening / c.scatter:.1f} > 4.3 times "
        "the scatter of 4 checkpoints about the line"
    )
    text = verdict.explain()
    assert "first checkpoint: ECE" in text
    for step, gap in (("0", "0.000"), ("100", "0.050"), ("300", "0.050"), ("1,000", "0.150")):
        (line,) = (ln for ln in verdict.explanation if ln.startswith(f"{step:<18}"))
        assert line.split()[1] == gap
    assert (verdict.against, verdict.reference) == ("run", "first checkpoint")
    assert verdict.steps == (0, 100, 300, 1000)


def test_settings_that_are_not_the_default_are_told() -> None:
    """A tolerance of its own stands beside the verdict, as beside every comparison."""
    verdict = trend(range(3), off(0.0, 0.05, 0.1), Strictness(tolerance=0.3))
    assert verdict.cautions == ("tolerance 0.3 instead of 0.02.",)


def test_false_alarms_over_ten_steps_are_few() -> None:
    """Of 40 unchanged runs of ten steps on 500 items, at most 4 are flagged at any step."""
    flagged = 0
    for seed in range(40):
        runs = [replace(r, confidence=0.97 * r.confidence) for r in readings(11, n=500, seed=seed)]
        states = (decide_trend(range(k), runs[:k]).state for k in range(2, 12))
        flagged += any(state is State.REGRESSED for state in states)
    assert flagged <= 4
