"""The smallest threshold that holds a precision: its tests, its promise, and when there is none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pytest_calibration.errors import MetricError
from pytest_calibration.gate import chosen_threshold
from pytest_calibration.gate.chosen_threshold import choose_threshold
from pytest_calibration.predictions import FloatArray, Predictions

of = Predictions.from_confidence


def drawn(n: int, seed: int, share_known: float = 2.0) -> tuple[FloatArray, Predictions]:
    """Calibrated answers, so that the truth of each is its confidence."""
    rng = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-(share_known + 1.5 * rng.standard_normal(n))))
    return truth, of(truth, rng.random(n) < truth)


def precision_of(truth: FloatArray, threshold: float) -> float:
    """True precision from a threshold on."""
    return float(truth[truth.astype(np.float32) >= np.float32(threshold)].mean())


POPULATION = drawn(300_000, 0)[0]


def test_the_p_values_are_binomial() -> None:
    """P(X ≤ k) by the sum of exact fractions."""
    for k, n, rate in ((0, 59, 0.05), (3, 118, 0.05), (30, 200, 0.2)):
        exact = sum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1))
        (found,) = chosen_threshold._at_most(np.array([k]), np.array([n]), rate)
        assert found == pytest.approx(exact)


def test_the_true_precision_holds() -> None:
    """Of 200 choices at most 5 % (and three standard errors) promise too much; the naive half."""
    trials = 200
    too_low = naive = found = 0
    for seed in range(trials):
        chosen = choose_threshold(drawn(800, seed + 1)[1], 0.9)
        if chosen.chosen is not None:
            found += 1
            too_low += precision_of(POPULATION, chosen.chosen.threshold) < 0.9
        assert chosen.as_measured is not None
        naive += precision_of(POPULATION, chosen.as_measured.threshold) < 0.9
    assert too_low / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert naive / trials > 0.3
    assert found / trials > 0.9


def test_what_is_said_of_the_threshold_is_counted() -> None:
    """Number, wrong answers, coverage and precision of the answers from it on."""
    _, p = drawn(2000, 5)
    chosen = choose_threshold(p, 0.9).chosen
    assert chosen is not None
    which = p.confidence.astype(np.float32) >= np.float32(chosen.threshold)
    assert (chosen.n, chosen.wrong) == (which.sum(), (~p.correct[which]).sum())
    assert (chosen.coverage, chosen.precision) == (which.mean(), p.correct[which].mean())
    assert np.float32(float(f"{chosen.threshold:.9g}")) == np.float32(chosen.threshold)


def test_the_thresholds_that_are_tested_lie_a_tenth_apart() -> None:
    """From the 59 answers that can show 0.95 on, to all: each has at most a tenth more, rounded up.

    STARTS says where the level is spent: at 2 and 8 times that number.
    """
    counts = chosen_threshold._Tests.of(drawn(3000, 3)[1], 0.95, 0.05).counts.tolist()
    assert (counts[0], counts[-1]) == (59, 3000)
    for few, more in itertools.pairwise(counts):
        assert few < more <= math.ceil(1.1 * few)
    # ln(3000 / 59) / ln 1.1 steps, fewer by what is rounded up.
    assert 30 < len(counts) <= math.log(3000 / 59) / math.log(1.1) + 2


def test_equal_confidences_stay_together() -> None:
    """A threshold is one of the stated numbers, and has all answers that state it."""
    rng = np.random.default_rng(1)
    stated = rng.choice([0.6, 0.8, 0.9, 1.0], 2000)
    chosen = choose_threshold(of(stated, rng.random(2000) < stated), 0.85).chosen
    assert chosen is not None
    assert np.float32(chosen.threshold) in np.array([0.8, 0.9, 1.0], dtype=np.float32)
    assert chosen.n == (stated >= chosen.threshold - 1e-6).sum()


@pytest.mark.parametrize("n", [1, 58, 59])
def test_few_right_answers_show_nothing(n: int) -> None:
    """0.95^59 < 0.05 < 0.95^58: that many answers, all right, show a precision of 0.95."""
    found = choose_threshold(of(np.linspace(0.9, 1, n), np.ones(n, dtype=bool)), 0.95)
    assert (found.chosen is not None) == (n == 59)
    assert (found.n_needed == 0) == (n == 59)


def test_none_is_said_with_the_number_that_would_do() -> None:
    """Too few show none; on as many as are said most choices find one."""
    few = choose_threshold(drawn(150, 4)[1], 0.95)
    assert few.chosen is None
    assert few.n_needed > 150
    again = [choose_threshold(drawn(few.n_needed, seed)[1], 0.95).chosen for seed in range(20)]
    assert sum(one is not None for one in again) >= 10


def test_the_number_that_would_do_by_hand() -> None:
    """((z of alpha / 2)·sqrt(w(1 - w)) + z_0.8·sqrt(q(1 - q)))² / (1 - w - q)², q drawn to 1/2.

    Of 100 answers at one confidence 8 are wrong: q = 9 / 102.
    """
    found = choose_threshold(of(np.full(100, 0.9), np.arange(100) >= 8), 0.9)
    assert found.chosen is None
    q = 9 / 102
    root = 1.959964 * math.sqrt(0.09) + 0.841621 * math.sqrt(q * (1 - q))
    assert found.n_needed == pytest.approx((root / (0.1 - q)) ** 2, abs=1)
    # All right: two starts of ceil(log 0.05 / log 0.9) = 29 answers; more than there are.
    assert choose_threshold(of(np.full(20, 0.9), [True] * 20), 0.9).n_needed == 58


def test_a_model_that_guesses_has_none() -> None:
    """Confidence that tells nothing: no threshold holds, and no number of items is promised."""
    rng = np.random.default_rng(2)
    found = choose_threshold(of(rng.uniform(0.5, 1, 3000), rng.random(3000) < 0.6), 0.9)
    assert (found.chosen, found.n_needed) == (None, 0)


def test_copies_in_groups_show_no_more() -> None:
    """Six copies of each item, in one group, hold no lower threshold than one copy does."""
    _, p = drawn(700, 8)
    alone = choose_threshold(p, 0.9).chosen
    groups = np.repeat(np.arange(700), 6)
    copies = of(np.repeat(p.confidence, 6), np.repeat(p.correct, 6), groups=groups)
    together = choose_threshold(copies, 0.9).chosen
    pretended = choose_threshold(of(copies.confidence, copies.correct), 0.9).chosen
    assert alone is not None
    assert pretended is not None
    assert together is None or together.threshold >= alone.threshold
    assert pretended.threshold < alone.threshold


@pytest.mark.parametrize("precision", [0, 1, 95, math.nan, True, "0.9"])
def test_a_precision_out_of_range_is_refused(precision: object) -> None:
    """It lies between 0 and 1; both ends ask for nothing, or for everything."""
    with pytest.raises(MetricError, match="precision must be"):
        choose_threshold(drawn(100, 1)[1], precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "wrong", "n"), [(0.9, 1, 10), (0.8, 2, 10), (0.95, 1, 20)])
def test_a_precision_that_is_just_reached_is_reached(wanted: float, wrong: int, n: int) -> None:
    """Nine right answers of ten are a precision of 0.9, however 1 - 0.9 is rounded."""
    correct = np.arange(n) >= wrong
    found = choose_threshold((np.full(n, 0.5), correct), wanted).as_measured
    assert found is not None
    assert (found.n, found.wrong, found.precision) == (n, wrong, wanted)
