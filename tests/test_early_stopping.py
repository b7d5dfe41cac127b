"""Assertions on predictions that are asked in parts: what stops early, and what asks for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_calibration import two_runs

from pytest_calibration import (
    Baselines,
    Predictions,
    Verdict,
    assert_accuracy_above,
    assert_ece_below,
    assert_metric_below,
    assert_no_regression,
    assert_no_regression_at,
    assert_not_overconfident,
)
from pytest_calibration.baselines import Policy
from pytest_calibration.errors import PredictionsError
from pytest_calibration.gate.strictness import OperatingPoint, Strictness
from pytest_calibration.predictions import PredictionsInParts, first_units
from pytest_calibration.predictions.arrays import IdArray
from pytest_calibration.reports.model import Result, result_of
from pytest_calibration.sink import SINK

SHARES = (0.25, 0.5, 0.75, 1.0)


class Asked:
    """Predictions asked in parts, that count what was asked."""

    def __init__(self, whole: Predictions) -> None:
        self.shares = [SHARES[0]]
        self._whole = whole
        first = self._ask(SHARES[0])
        self.shares.clear()
        self.predictions = PredictionsInParts.of(whole.probe, self._ask, SHARES, first)

    def _ask(self, share: float) -> tuple[Predictions, IdArray]:
        self.shares.append(share)
        taken = first_units(self._whole.item_ids, None, share)
        return self._whole.take(taken), self._whole.item_ids


@pytest.fixture(scope="module")
def runs() -> dict[float, tuple[Predictions, Predictions]]:
    """Baseline and candidate of 2,000 items, by the factor on the candidate's logits."""
    return {factor: two_runs(2000, 11, factor) for factor in (1.0, 1.15, 2.0)}


def failing(judge: Callable[[], object]) -> str:
    """The text of the failure."""
    with pytest.raises(AssertionError) as caught:
        judge()
    return str(caught.value)


def test_a_clear_regression_asks_for_no_more(runs) -> None:
    """A quarter of the items fails it; the text says so, and what a full run would add."""
    before, after = runs[2.0]
    asked = Asked(after)
    text = failing(lambda: assert_no_regression(asked.predictions, before))
    assert "stopped early, at look 1 of 4." in text
    assert "a full run would add 1,500 items" in text
    assert asked.shares == []


def test_an_unchanged_model_is_asked_until_it_passes(runs) -> None:
    """The verdict holds both sides on the items that were asked, and no others."""
    before, after = runs[1.0]
    asked = Asked(after)
    verdict = assert_no_regression(asked.predictions, before)
    assert verdict.look is not None
    assert (verdict.state, verdict.look.early) == ("passed", True)
    assert asked.shares == list(SHARES[1 : verdict.look.number])
    assert verdict.candidate is not None
    assert verdict.baseline_items is not None
    assert np.array_equal(verdict.candidate.item_ids, verdict.baseline_items.item_ids)
    assert verdict.n == verdict.look.asked == SHARES[verdict.look.number - 1] * 2000


def test_a_verdict_does_not_depend_on_what_else_was_asked(runs) -> None:
    """A limit asks for all items; the comparison after it is decided at the same look."""
    before, after = runs[1.0]
    alone = assert_no_regression(Asked(after).predictions, before)
    asked = Asked(after)
    limit = assert_ece_below(asked.predictions, 0.5)
    assert asked.shares == [1.0]
    assert any(note.startswith("all 2,000 items were asked: only a") for note in limit.notes)
    then = assert_no_regression(asked.predictions, before)
    assert alone.look is not None
    assert then.look == alone.look
    assert then.explain() == alone.explain()


@pytest.mark.parametrize(
    "judge",
    [
        lambda p, _: assert_ece_below(p, 0.5),
        lambda p, _: assert_metric_below(p, "brier", 0.9),
        lambda p, _: assert_accuracy_above(p, 0.1),
        lambda p, _: assert_not_overconfident(p, 0.5),
        lambda p, before: assert_no_regression_at(p, before, 0.8),
    ],
)
def test_what_is_no_comparison_of_all_answers_asks_for_all(
    runs, judge: Callable[[Predictions, Predictions], Verdict]
) -> None:
    """Limits and operating points are about all items, and say that these were asked."""
    before, after = runs[1.0]
    asked = Asked(after)
    verdict = judge(asked.predictions, before)
    assert (verdict.n, verdict.look, asked.shares) == (2000, None, [1.0])
    assert "all 2,000 items were asked" in verdict.explain()


def test_a_baseline_may_be_asked_in_parts_too(runs) -> None:
    """It is read whole, and both sides are compared on what is known of the candidate."""
    before, after = runs[2.0]
    other = Asked(before)
    failing(lambda: assert_no_regression(Asked(after).predictions, other.predictions))
    assert other.shares == [1.0]


@pytest.mark.parametrize("policy", [Policy(record=True), Policy(accept="better"), Policy()])
def test_what_may_be_stored_is_asked_whole(runs, tmp_path: Path, policy: Policy) -> None:
    """A store that records or accepts gets all items, also where the comparison would stop."""
    before, after = runs[2.0]
    if policy.accept:
        Baselines(tmp_path).record(before)
    store = Baselines(tmp_path, policy=policy)
    asked = Asked(after)
    if policy == Policy():
        failing(lambda: assert_no_regression(asked.predictions, store))
        assert asked.shares == []
        return
    verdict = assert_no_regression(asked.predictions, store)
    assert (verdict.state, asked.shares) == ("recorded", [1.0])
    assert store.load(after.probe).n == 2000


class Session:
    """The sink of a session that may have a parent, and operating points.

    Args:
        parent: its answers.
        thresholds: of the points.
    """

    width, verbose = 90, False

    def __init__(self, parent: Predictions | None = None, *thresholds: float) -> None:
        self.known = [] if parent is None else [("base", parent)]
        self.thresholds = thresholds
        self.results: list[Result] = []

    def named(self, predictions: Predictions) -> Predictions:
        """As they are."""
        return predictions

    def dump(self, *_: object) -> None:
        """Nothing is dumped."""

    def measured(self, *_: object) -> None:
        """No history is kept."""

    def add(self, verdict: Verdict) -> Result:
        """Keep it."""
        self.results.append(result_of(verdict, detailed=False))
        return self.results[-1]

    def parents(self, _: Predictions) -> list[tuple[str, Predictions]]:
        """The one, if there is one."""
        return self.known

    def strictness(self, _: Predictions) -> Strictness:
        """As by default."""
        return Strictness()

    def points(self, _: Predictions) -> tuple[OperatingPoint, ...]:
        """The same for every probe."""
        return tuple(map(OperatingPoint, self.thresholds))

    def store(self, baselines: Baselines) -> Baselines:
        """As it is."""
        return baselines

    def raised(self, *_: object) -> None:
        """Nothing to know."""


@contextmanager
def in_session(sink: Session) -> Iterator[None]:
    """Let assertions send their verdicts there."""
    outer = SINK.set(sink)  # type: ignore[arg-type]
    try:
        yield
    finally:
        SINK.set(outer)


def test_operating_points_ask_for_all(runs) -> None:
    """They are compared on few answers; the comparison beside them is that of a full run."""
    before, after = runs[1.0]
    sink, asked = Session(None, 0.8), Asked(after)
    with in_session(sink):
        assert_no_regression(asked.predictions, before)
    assert asked.shares == [1.0]
    assert [(r.n, r.look, r.point is None) for r in sink.results] == [
        (2000, None, True),
        (2000, None, False),
    ]
    assert "all 2,000 items were asked" in " ".join(sink.results[0].notes)


def test_each_of_several_comparisons_keeps_the_look_that_decided_it(runs, tmp_path: Path) -> None:
    """Worse than the parent at once, no worse than the record later: both are told so."""
    before, after = runs[2.0]
    Baselines(tmp_path).record(after)
    sink = Session(before)
    asked = Asked(after)
    with in_session(sink):
        failing(lambda: assert_no_regression(asked.predictions, Baselines(tmp_path)))
    parent, record = sink.results
    assert (parent.against, parent.state, record.against) == ("parent", "regressed", "baseline")
    assert record.state == "passed"
    assert parent.look is not None
    assert record.look is not None
    assert (parent.look.number, parent.look.stopped, record.look.stopped) == (1, True, True)
    assert asked.shares == list(SHARES[1 : record.look.number])


def test_a_stored_baseline_is_restricted_to_the_items_that_were_asked(runs, tmp_path) -> None:
    """The record stays what it is."""
    before, after = runs[2.0]
    Baselines(tmp_path).record(before)
    text = failing(lambda: assert_no_regression(Asked(after).predictions, Baselines(tmp_path)))
    assert "stopped early, at look 1 of 4." in text
    assert Baselines(tmp_path).load(after.probe).n == 2000


def test_another_set_of_items_is_not_comparable_at_the_first_look(runs) -> None:
    """Nothing more is asked, and the reason is that of a full run."""
    before, after = runs[1.0]
    part = after.take(np.argsort(after.item_ids)[500:])
    asked = Asked(part)
    text = failing(lambda: assert_no_regression(asked.predictions, before))
    assert "only 75 % of the baseline is here" in text
    assert asked.shares == []


def test_drift_since_the_anchor_has_looks_of_its_own(runs, tmp_path: Path) -> None:
    """Two accepted steps of which none fails: both comparisons go on until both are decided."""
    before, after = runs[1.0]
    store = Baselines(tmp_path)
    store.record(before)
    for step in ("first", "second"):
        store.record(replace(after, confidence=np.minimum(after.confidence, 0.99)), reason=step)
        store.record(after, reason=f"{step} again")
    asked = Asked(after)
    verdict = assert_no_regression(asked.predictions, store)
    drift = verdict.since_anchor
    assert drift is not None
    assert drift.look is not None
    assert verdict.look is not None
    assert (drift.look.stopped, verdict.look.stopped) == (True, True)
    last = max(drift.look.number, verdict.look.number)
    assert asked.shares == list(SHARES[1:last])


def test_a_part_is_not_judged_for_the_whole(runs) -> None:
    """What a verdict holds of a comparison that stopped early is neither candidate nor baseline."""
    before, after = runs[1.0]
    part = assert_no_regression(Asked(after).predictions, before).candidate
    assert part is not None
    for judge in (
        lambda: assert_ece_below(part, 0.9),
        lambda: assert_no_regression(part, before),
        lambda: assert_no_regression(before, part),
    ):
        with pytest.raises(PredictionsError, match=r"all items, and 1,000 of 2,000 were asked"):
            judge()
