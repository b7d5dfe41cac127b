"""What a probe does by itself: known movements are found, and what they mean is concluded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_calibration import exact

from pytest_calibration.errors import ProbeError
from pytest_calibration.gate.aa.disturbed_runs import (
    Conclusion,
    Disturbance,
    Finding,
    NoiseReport,
    noise_report,
)
from pytest_calibration.gate.planning import smallest_visible_unpaired
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.predictions import ItemTexts, Predictions, Signature
from pytest_calibration.predictions.item_text import ItemText

N = 400
LOOSE = Strictness(tolerance=0.02)


def run(confidence: float = 0.75, right: int = 300, **more: Any) -> Predictions:
    """Return N items of one confidence, of which the first so many are right."""
    return Predictions.from_confidence(
        np.full(N, confidence), np.arange(N) < right, item_ids=range(N), probe="quiz", **more
    )


def report(
    disturbed: dict[Disturbance, Sequence[Predictions]],
    undisturbed: Predictions | None = None,
    strictness: Strictness = LOOSE,
) -> NoiseReport:
    """Report on some runs."""
    base = run() if undisturbed is None else undisturbed
    return noise_report(base, disturbed, strictness, {})


def only(found: NoiseReport, finding: Finding) -> Conclusion:
    """Return the one conclusion of this sort."""
    (one,) = (c for c in found.conclusions if c.finding is finding)
    return one


def test_movements_are_those_that_were_made() -> None:
    """Every confidence moves by 0.1 in one run and by 0.2 in the other, and 40 answers turn in one.

    With one confidence c there is one bin, so that ECE is |c - accuracy|: 0, then 0.2 and 0.2.
    """
    runs = [run(0.85, 260), run(0.95, 300)]
    (noise,) = report({Disturbance.BATCH: runs}).noises
    assert noise.runs == 2
    assert noise.confidence_mean == pytest.approx(0.15)
    assert noise.confidence_largest == pytest.approx(0.2)
    assert noise.outcomes == pytest.approx(40 / N / 2)
    assert noise.ece.mean == pytest.approx(0.2)
    assert noise.ece.spread == pytest.approx(0.0, abs=1e-12)
    assert noise.signed_gap.largest == pytest.approx(0.2)
    assert (noise.accuracy.mean, noise.accuracy.largest) == pytest.approx((-0.05, 0.1))
    # The standard deviation of two numbers is their distance over the root of 2.
    assert noise.accuracy.spread == pytest.approx(0.1 / math.sqrt(2))
    assert noise.levels == pytest.approx((0.0, 0.4 / 3, 0.2))


def test_one_run_has_no_spread() -> None:
    """A standard deviation takes two."""
    (noise,) = report({Disturbance.REPEAT: [run()]}).noises
    assert math.isnan(noise.ece.spread)
    assert noise.is_none


def test_the_gate_judges_as_it_does_in_a_test() -> None:
    """The states are those of ``compare`` with the undisturbed run as baseline."""
    base = exact({0.55: 0.55, 0.95: 0.95}, each=200)
    worse = replace(base, confidence=np.minimum(base.confidence + 0.1, 1.0))
    runs = [base, worse, replace(base, confidence=base.confidence - 0.001)]
    for strictness in (LOOSE, Strictness(tolerance=0.2), Strictness(max_undetected=0.0)):
        found = report({Disturbance.BATCH: runs}, base, strictness)
        expected = [compare(one, base, **strictness.arguments()).state for one in runs]
        assert found.noises[0].states == {s: expected.count(s) for s in set(expected)}
    assert report({Disturbance.BATCH: runs}, base).noises[0].failed == 1


def test_tolerance_and_smallest_shift_stand_beside() -> None:
    """The smallest visible shift is that of a record; ECE is measured with its interval."""
    strictness = Strictness(tolerance=0.03, alpha=0.1)
    found = report({Disturbance.REPEAT: [run()]}, strictness=strictness)
    assert found.smallest_visible == smallest_visible_unpaired(run(), 0.03, 0.1)
    assert found.measurement.n == N
    assert found.measurement.low <= found.measurement.value <= found.measurement.high


def test_items_are_paired_by_id() -> None:
    """A run whose items come in another order is the same run; other items are an error."""
    turned = run().take(np.arange(N)[::-1])
    assert report({Disturbance.REPEAT: [turned]}).noises[0].is_none
    for other in (run().take(np.arange(N - 1)), replace(run(), item_ids=np.arange(N) + 7)):
        words = rf"asked once more \(repeat\), it had {len(other)} items that are not the 400"
        with pytest.raises(ProbeError, match=words):
            report({Disturbance.REPEAT: [other]})


# --- answers -------------------------------------------------------------------------------------


def with_texts(answers: Sequence[str], right: int = 300) -> Predictions:
    """Return a run with these answers."""
    texts = [ItemText("q", "a", answer) for answer in answers]
    return replace(run(right=right), texts=ItemTexts.from_list(texts))


def test_answers_that_change_are_counted_by_their_text() -> None:
    """Also where a wrong one takes the place of a wrong one; outcomes then stay."""
    base, other = ["a"] * N, ["a"] * (N - 30) + ["b"] * 30
    found = report({Disturbance.OPTIONS: [with_texts(other)]}, with_texts(base))
    assert found.noises[0].answers == pytest.approx(30 / N)
    assert found.noises[0].outcomes == 0


def test_answers_by_column_where_there_is_no_text() -> None:
    """The most likely column is the answer."""
    labels = np.zeros(N, dtype=np.int64)
    table = np.tile([0.6, 0.3, 0.1], (N, 1))
    moved = table.copy()
    moved[:20] = [0.1, 0.6, 0.3]
    base, other = (Predictions.from_probabilities(one, labels) for one in (table, moved))
    found = report({Disturbance.BATCH: [other]}, base)
    assert found.noises[0].answers == found.noises[0].outcomes == 20 / N


def test_answers_that_nobody_knows_are_not_called_the_same() -> None:
    """A model that does not say its answers leaves their share open."""
    assert report({Disturbance.REPEAT: [run()]}).noises[0].answers is None
    empty = with_texts([""] * N)
    assert report({Disturbance.REPEAT: [empty]}, empty).noises[0].answers is None


# --- conclusions ---------------------------------------------------------------------------------


def test_nothing_moves() -> None:
    """Equal runs take none of the tolerance, and another order has no effect."""
    found = report({d: [run(), run()] for d in (Disturbance.REPEAT, Disturbance.OPTIONS)})
    assert [(c.finding, c.disturbances) for c in found.conclusions] == [
        (Finding.NOTHING_BETWEEN_RUNS, (Disturbance.REPEAT,)),
        (Finding.NO_EFFECT, (Disturbance.OPTIONS,)),
    ]


def test_below_and_above_the_tolerance() -> None:
    """The tolerance is compared with the largest movement of ECE or of the signed gap."""
    runs = {Disturbance.REPEAT: [run(), run(0.7505)], Disturbance.BATCH: [run(0.746)]}
    below = only(report(runs), Finding.BELOW_TOLERANCE)
    assert (below.disturbances, below.runs) == ((Disturbance.REPEAT, Disturbance.BATCH), 3)
    assert below.amount == pytest.approx(0.004)
    assert below.times == pytest.approx(5)
    above = report(runs, strictness=Strictness(tolerance=0.003))
    one = only(above, Finding.ABOVE_TOLERANCE)
    assert (one.amount, one.times) == pytest.approx((0.004, 0.75))


def test_only_what_comes_between_runs_takes_from_the_tolerance() -> None:
    """Order and examples are the same on both sides: they say how arbitrary the level is."""
    for disturbance in Disturbance:
        found = report({disturbance: [run(0.95), run(0.85)]})
        level = disturbance in (Disturbance.OPTIONS, Disturbance.SHOTS)
        assert (Finding.ABOVE_TOLERANCE in [c.finding for c in found.conclusions]) != level
        if level:
            one = only(found, Finding.LEVEL)
            assert one.ece == pytest.approx((0.0, 0.1, 0.2))
            assert one.amount == pytest.approx(0.2)


def test_an_unchanged_model_that_the_gate_fails_is_told() -> None:
    """With the share of the runs, all disturbances between runs together."""
    found = report({Disturbance.REPEAT: [run()], Disturbance.DRAWS: [run(0.95), run(), run()]})
    one = only(found, Finding.GATE_FAILS)
    assert (one.share, one.disturbances) == (0.25, (Disturbance.DRAWS,))
    assert only(found, Finding.ABOVE_TOLERANCE).share == 0.25


def test_too_few_items_to_decide_are_told() -> None:
    """Also where nothing moves."""
    few = run().take(np.arange(20))
    one = only(report({Disturbance.REPEAT: [few, few]}, few), Finding.UNDECIDED)
    assert one.share == 1.0


@pytest.mark.parametrize(
    ("repeat", "batch", "told"),
    [(0.0, 2e-3, True), (0.0, 5e-4, False), (2e-3, 3e-3, False), (1e-3, 3e-3, True)],
)
def test_batches_that_move_more_than_rounding_does_hint_at_a_fault(
    repeat: float, batch: float, told: bool
) -> None:
    """Above 1e-3, and above twice what a repeat moves."""
    base = replace(run(), signature=Signature({}, {"dtype": "float32"}))
    runs = {Disturbance.REPEAT: [run(0.75 + repeat)], Disturbance.BATCH: [run(0.75 - batch)]}
    found = report(runs, base)
    assert (Finding.BEYOND_ROUNDING in [c.finding for c in found.conclusions]) == told
    if told:
        one = only(found, Finding.BEYOND_ROUNDING)
        assert (one.amount, one.dtype) == (pytest.approx(batch), "float32")
