"""Properties of the interval of every metric, and its coverage."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from drawn_samples import DEBIASED, copied, ends, grouped, grouped_tables
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, four_way, two_runs

from pytest_calibration.measurement import measure
from pytest_calibration.metrics import METRICS
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.intervals import INTERVALS, SIGNED

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "intervals.md"
names = st.sampled_from(sorted(METRICS))


def one_outcome(p: Predictions) -> bool:
    """Whether all answers are right, or all wrong: then there is no AUROC."""
    return len({*p.correct.tolist()}) == 1


def test_every_metric_has_an_interval() -> None:
    """The table of intervals has a row for each metric, and no other."""
    assert list(INTERVALS) == list(METRICS)
    assert set(METRICS) >= SIGNED


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not part of this copy")
def test_the_documentation_lists_every_metric() -> None:
    """Every metric is once in the first table of the page on intervals, and in those below."""
    methods, _, coverage = PAGE.read_text(encoding="utf-8").partition("## Measured coverage")
    rows = [line.split("|")[1] for line in methods.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(METRICS)
    for name in METRICS:
        assert f"\n| {name} |" in coverage


# --- for all data ---------------------------------------------------------------------------


@given(grouped_tables(), names)
def test_an_interval_contains_its_value_and_stays_in_range(p: Predictions, name: str) -> None:
    """Finite ends in order, within the range of the estimand, around the measured value."""
    metric = METRICS[name]
    assume(name != "auroc" or not one_outcome(p))
    low, high = ends(p, name)
    assert math.isfinite(low)
    assert low <= high
    assert high <= metric.highest
    assert low >= (metric.lowest if name in SIGNED else 0)
    if name != "nll" or p.groups is None or len({*p.groups.tolist()}) > 1:
        assert math.isfinite(high)
    value = metric(p)
    assert value <= high + 1e-12
    if name not in DEBIASED:
        assert low <= value + 1e-12


@given(grouped_tables(), names, st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_no_interval(
    p: Predictions, name: str, random: Random
) -> None:
    """Shuffled items have the same interval."""
    assume(name != "auroc" or not one_outcome(p))
    order = list(range(len(p)))
    random.shuffle(order)
    shuffled = p.take(np.array(order))
    assert ends(shuffled, name) == pytest.approx(ends(p, name), abs=1e-7)


@given(grouped_tables(groups=False), names)
def test_groups_of_one_are_items(p: Predictions, name: str) -> None:
    """A group per item changes nothing, to the last digit."""
    assume(name != "auroc" or not one_outcome(p))
    assert ends(grouped(p, 1), name) == ends(p, name)
    alone, together = measure(grouped(p, 1), name), measure(p, name)
    assert repr(alone) == repr(together)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("p", [calibrated(400, 3), two_runs(400, 5, 1.6)[1]], ids=["flat", "sure"])
def test_copies_within_groups_do_not_narrow_the_interval(p: Predictions, name: str) -> None:
    """Items copied within their group have the interval of the items, never a narrower one."""
    low, high = ends(p, name)
    low5, high5 = ends(copied(p, 5), name)
    slack = 0.05 * (high - low)
    if name in ("smooth_ece", "ks_ce"):
        # For groups the variance is a bound, for items exact: never narrower.
        assert low5 <= low + slack
        assert high5 >= high - slack
    else:
        assert (low5, high5) == pytest.approx((low, high), abs=slack)
    assert high5 - low5 > 0.95 * (high - low)


@pytest.mark.parametrize("name", METRICS)
def test_more_items_narrow_the_interval(name: str) -> None:
    """Nine times as many independent items: at most about half the width."""
    logits, labels = four_way(300, 2)
    few = Predictions.from_logits(1.5 * logits, labels)
    many = Predictions.from_logits(1.5 * np.tile(logits, (9, 1)), np.tile(labels, 9))
    narrow, wide = ends(many, name), ends(few, name)
    assert narrow[1] - narrow[0] < 0.55 * (wide[1] - wide[0])


@pytest.mark.parametrize("name", METRICS)
def test_dependent_groups_widen_the_interval(name: str) -> None:
    """Ten equal answers as a group give a wider interval than as independent items."""
    p = copied(calibrated(200, 4), 10)
    alone = Predictions(
        p.probe, p.confidence, p.correct, p.item_ids, p.probabilities, p.labels, p.label_logprobs
    )
    dependent, independent = ends(p, name), ends(alone, name)
    assert dependent[1] - dependent[0] > 1.5 * (independent[1] - independent[0])


@pytest.mark.parametrize("name", METRICS)
def test_one_unit_has_the_whole_range(name: str) -> None:
    """The interval of one item, or one group, is the whole range."""
    p = calibrated(30, 1)
    one_group = grouped(p, 30)
    whole = (-1.0 if name in SIGNED else 0.0, METRICS[name].highest)
    assert ends(one_group, name) == whole
    if name != "auroc":
        assert ends(p.take(np.array([0])), name) == whole


# --- a model that is always certain and right -----------------------------------------------------

ERRORS = (
    *("ece", "equal_mass_ece", "cross_fitted_ece", "mce", "rms_ce", "overconfidence"),
    *("underconfidence", "smooth_ece", "ks_ce", "brier", "signed_gap", "selective_risk", "aurc"),
)


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("n", [100, 1000])
def test_certain_and_right_has_a_width_for_unseen_answers(n: int, name: str) -> None:
    """Certain right answers: up to 1 - 0.025^(1/n) of all may be wrong (the rule of three)."""
    p = Predictions.from_confidence([1.0] * n, [True] * n)
    low, high = ends(p, name)
    unseen = 1 - 0.025 ** (1 / n)
    assert low <= 0
    assert unseen <= high * 1.02
    assert high < 2.1 * unseen
    assert 3.4 / n < unseen < 3.7 / n


@pytest.mark.parametrize("name", ["ece", "overconfidence", "smooth_ece", "ks_ce", "signed_gap"])
def test_nearly_certain_and_all_right(name: str) -> None:
    """500 right answers at 0.999 may be a calibrated model: the interval contains 0."""
    low, high = ends(Predictions.from_confidence([0.999] * 500, [True] * 500), name)
    assert low <= 0 < high


def test_all_right_at_a_half() -> None:
    """500 right answers at 0.5: the error is 0.5 ± the rule of three."""
    low, high = ends(Predictions.from_confidence([0.5] * 500, [True] * 500), "ece")
    unseen = 1 - 0.025 ** (1 / 500)
    assert (low, high) == pytest.approx((0.5 - unseen, 0.5 + unseen), rel=1e-3)


def test_all_wrong_at_zero() -> None:
    """300 wrong answers at 0: unseen right answers would give a signed gap below 0."""
    low, high = ends(Predictions.from_confidence([0.0] * 300, [False] * 300), "signed_gap")
    unseen = 1 - 0.025 ** (1 / 300)
    assert (low, high) == pytest.approx((-unseen, unseen))


def test_nll_of_right_answers_allows_for_an_unseen_wrong_one() -> None:
    """All right at 0.99: an unseen wrong answer adds -log 0.01."""
    p = Predictions.from_probabilities([[0.99, 0.01]] * 300, [0] * 300)
    unseen = 1 - 0.025 ** (1 / 300)
    seen = -math.log(0.99)
    high = ends(p, "nll")[1]
    assert high == pytest.approx(seen + unseen * (math.log(100) - seen), rel=1e-6)


def test_bins_in_balance_are_uncertain_on_both_sides() -> None:
    """With exactly calibrated counts both parts are 0, with an upper end above 0."""
    p = exact({0.25: 0.0, 0.75: 0.0})
    for name in ("overconfidence", "underconfidence"):
        low, high = ends(p, name)
        assert low == 0
        assert 0.02 < high < 0.06


def test_brier_uncertainty_is_the_image_of_accuracy() -> None:
    """a(1 - a) over the interval of accuracy: its maximum 1/4 where that contains 1/2."""
    for right in (40, 200, 205, 360):
        p = Predictions.from_confidence([0.5] * 400, [i < right for i in range(400)])
        least, most = ends(p, "accuracy")
        low, high = ends(p, "brier_uncertainty")
        grid = np.linspace(least, most, 10_001)
        values = grid * (1 - grid)
        assert (low, high) == pytest.approx((values.min(), values.max()), abs=1e-7)


# --- coverage -------------------------------------------------------------------------------------

TRIALS = 200
# A nominal 95 % interval covers at least this often, but for one in 10,000 such tests.
LEAST = 0.95 - 3.7 * math.sqrt(0.95 * 0.05 / TRIALS)


def in_documents(n: int, seed: int) -> Predictions:
    """Return a calibrated model on documents of ten, whose items share a draw half of the time."""
    rng = np.random.default_rng((seed, n))
    confidence = 0.5 + rng.beta(3, 2, n // 10).repeat(10) / 2
    shared, own = rng.random(n // 10).repeat(10), rng.random(n)
    wrong = np.where(rng.random(n) < 0.5, shared, own) >= confidence
    table = np.column_stack([confidence, 1 - confidence])
    return grouped(Predictions.from_probabilities(table, wrong.astype(int)), 10)


MODELS: dict[str, Callable[[int, int], Predictions]] = {
    "calibrated": calibrated,
    "over-confident": lambda n, seed: two_runs(n, seed, 1.5)[1],
    "under-confident": lambda n, seed: two_runs(n, seed, 0.6)[1],
    "documents": in_documents,
}


@cache
def truth(model: str) -> dict[str, float]:
    """Return every metric on 400,000 items; an error of a calibrated model is 0."""
    p = MODELS[model](400_000, 1_000_000)
    zero = model in ("calibrated", "documents")
    return {n: 0.0 if zero and metric.error else metric(p) for n, metric in METRICS.items()}


@cache
def measured(model: str) -> list[Predictions]:
    """Return samples of 500 items."""
    return [MODELS[model](500, seed) for seed in range(TRIALS)]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("model", MODELS)
def test_the_interval_covers_the_truth(model: str, name: str) -> None:
    """On 500 items, in 95 % of samples or more, within the error of the simulation."""
    inside = 0
    for p in measured(model):
        low, high = ends(p, name)
        inside += low - 1e-9 <= truth(model)[name] <= high + 1e-9
    assert inside / TRIALS >= LEAST
