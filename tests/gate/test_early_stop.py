"""The rule at each look of a comparison that may stop before all items are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_calibration import two_runs

from pytest_calibration import State, compare
from pytest_calibration.gate.components import Paired
from pytest_calibration.gate.decision import Decision, decide
from pytest_calibration.gate.early_stop import decide_at_look
from pytest_calibration.gate.looks import LEAST_POWER, SHARES, Look, look_levels
from pytest_calibration.gate.power import allowed_false_alarms
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.predictions import Predictions


def first(predictions: Predictions, share: float) -> Predictions:
    """The items of the smallest ids."""
    return predictions.limited(round(share * len(predictions)))


def look_at(whole: Predictions, number: int) -> Look:
    """One of four equal looks."""
    n = len(whole)
    sizes = tuple(round(share * n) for share in SHARES[:number])
    return Look(number, 4, sizes[-1], n, np.sort(whole.item_ids), sizes, SHARES[number:])


def decided(n: int, seed: int, factor: float, number: int, **settings: float) -> Decision:
    """What a look at two simulated runs comes to."""
    before, after = two_runs(n, seed, factor)
    share = SHARES[number - 1]
    pair = Paired.of(first(before, share), first(after, share))
    return decide_at_look(pair, look_at(after, number), Strictness(**settings))


def test_a_large_worsening_stops_at_the_first_look() -> None:
    """It fails at a quarter of the items, at the level of that look."""
    found = decided(4000, 1, 2.0, 1)
    assert found.state is State.REGRESSED
    assert found.look is not None
    assert (found.look.stopped, found.look.early, found.look.asked) == (True, True, 1000)
    (fired, *_) = [c for c in found.components if c.fired]
    assert 1 - fired.level == pytest.approx(look_levels(0.05, SHARES)[0], rel=0.05)
    assert found.look.chance == pytest.approx(1.0, abs=1e-3)


def test_an_unchanged_model_stops_as_passed() -> None:
    """Where a full run would hardly fail, though it were worse by the least that it sees."""
    found = decided(4000, 2, 1.0, 3)
    assert (found.state, found.reason, found.n_needed) == (State.PASSED, "", 0)
    assert found.look is not None
    assert found.look.stopped
    assert found.look.chance is not None
    assert 0 <= found.look.chance < LEAST_POWER


def test_what_may_still_fail_stays_open() -> None:
    """A worsening between both bounds is left to the next look, and decided at the last."""
    found = decided(1000, 3, 1.25, 1)
    assert (found.state, found.look and found.look.stopped) == (State.INCONCLUSIVE, False)
    last = decided(1000, 3, 1.25, 4)
    assert last.look is not None
    assert (last.look.stopped, last.look.early, last.look.chance) == (True, False, None)


def test_the_last_look_is_the_usual_rule_at_its_level() -> None:
    """Of all items, only the level differs from a comparison that is looked at once."""
    before, after = two_runs(2000, 4, 1.25)
    pair = Paired.of(before, after)
    last = decide_at_look(pair, look_at(after, 4))
    usual = decide(pair, Strictness(alpha=look_levels(0.05, SHARES)[-1]))
    assert last.state is usual.state
    gap, usual_gap = last.components[0], usual.components[0]
    assert gap.worsening == usual_gap.worsening
    assert gap.bound <= usual_gap.bound + 1e-12
    alone = decide_at_look(pair, Look(1, 1, 2000, 2000, after.item_ids, (2000,), ()))
    bounds = [c.bound for c in decide(pair).components]
    assert [c.bound for c in alone.components] == pytest.approx(bounds, nan_ok=True)


def test_a_component_that_is_still_to_come_keeps_it_open() -> None:
    """Of 1,200 items a full run has a cross-fitted ECE, and a quarter of them has none."""
    found = decided(1200, 5, 1.0, 1)
    assert any(c.unavailable for c in found.components if c.name == "cross-fitted ECE")
    assert found.look is not None
    assert not found.look.stopped


def test_fewer_than_fifty_units_decide_nothing() -> None:
    """Whatever they show."""
    found = decided(160, 6, 3.0, 1)
    assert (found.state, found.look and found.look.stopped) == (State.INCONCLUSIVE, False)


def test_a_part_that_could_decide_nothing_makes_no_later_look_stricter() -> None:
    """Of 60 items no part has 50: the last look is that of a comparison that has no other."""
    before, after = two_runs(60, 7, 1.5)
    pair = Paired.of(before, after)
    last = decide_at_look(pair, look_at(after, 4), Strictness())
    alone = decide(pair)
    assert last.state is alone.state
    assert [c.bound for c in last.components] == pytest.approx(
        [c.bound for c in alone.components], nan_ok=True
    )
    assert last.false_alarm_rate == pytest.approx(alone.false_alarm_rate)
    assert look_at(two_runs(100, 7, 1.0)[1], 4).fractions(50) == ((0.5, 0.75, 1.0), 2)


@pytest.mark.parametrize("name", ["confidence0", "confidence1"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_nothing_stops_on_what_is_no_number(name: str, number: int) -> None:
    """A NaN leaves the comparison open."""
    before, after = two_runs(4000, 2, 1.0)
    share = SHARES[number - 1]
    pair = Paired.of(first(before, share), first(after, share))
    spoilt = getattr(pair, name).copy()
    spoilt[7] = np.nan
    found = decide_at_look(replace(pair, **{name: spoilt}), look_at(after, number))
    assert found.look is not None
    assert (found.state, found.look.stopped) == (State.INCONCLUSIVE, False)


def test_nothing_stops_as_passed_where_a_full_run_would_be_inconclusive() -> None:
    """A run that could miss too much is not cut shorter still."""
    for number in (1, 2, 3):
        found = decided(4000, 2, 1.0, number, max_undetected=0.0)
        assert found.look is not None
        assert not found.look.stopped


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_a_verdict_claims_is_of_all_looks_together(number: int) -> None:
    """The false alarms are at most those allowed; the smallest visible is a full run's."""
    found = decided(2000, 7, 1.0, number)
    assert 0 < found.false_alarm_rate <= allowed_false_alarms(0.05, 2000) + 1e-12
    whole = decided(2000, 7, 1.0, 4)
    assert found.smallest_visible == pytest.approx(whole.smallest_visible, rel=0.15)


def test_the_p_value_counts_the_looks_before() -> None:
    """It is never below what could have failed before."""
    late = decided(2000, 8, 2.0, 3)
    early = decided(2000, 8, 2.0, 1)
    assert late.p_value > early.p_value
    assert late.p_value >= 0.11 * allowed_false_alarms(0.05, 2000)


def test_both_sides_are_compared_on_the_items_that_are_known() -> None:
    """The baseline is restricted to them; what a full run would add is said."""
    before, after = two_runs(4000, 1, 2.0)
    verdict = compare(first(after, 0.25), before, look=look_at(after, 1))
    assert (verdict.state, verdict.n, verdict.baseline_n) == (State.REGRESSED, 1000, 4000)
    assert verdict.baseline_items is not None
    assert set(verdict.baseline_items.item_ids) == set(first(after, 0.25).item_ids)
    assert verdict.cautions[0] == "stopped early, at look 1 of 4."
    assert "a full run would add 3,000 items" in verdict.notes[0]
    assert "with 99.99" in verdict.explain()


def test_whether_two_runs_can_be_compared_is_a_question_of_all_items() -> None:
    """Half of the baseline, asked in full, is not comparable at any look either."""
    before, after = two_runs(4000, 1, 1.0)
    keep = np.sort(np.argsort(after.item_ids)[2000:])
    half = after.take(keep)
    whole = compare(half, before)
    at_look = compare(first(half, 0.25), before, look=look_at(half, 1))
    assert at_look.state is whole.state is State.NOT_COMPARABLE
    assert at_look.reason == whole.reason
    assert at_look.look is None


def test_the_looks_are_at_shares_of_what_both_sides_have() -> None:
    """A baseline of the first 500 of 4,000 items is known whole at the first look."""
    before, after = two_runs(4000, 1, 1.0)
    small = before.limited(500)
    verdict = compare(first(after, 0.25), small, look=look_at(after, 1))
    assert verdict.look is not None
    assert (verdict.n, verdict.look.stopped, verdict.look.asked) == (500, True, 1000)
    assert "all items that both sides have are known, at look 1 of 4" in verdict.notes[0]
    alone = compare(after, small)
    assert verdict.state == alone.state
    assert [c.bound for c in verdict.components] == pytest.approx(
        [c.bound for c in alone.components], nan_ok=True
    )
    last = after.take(np.argsort(after.item_ids)[3900:])
    waiting = compare(first(after, 0.25), last, look=look_at(after, 1))
    assert (waiting.state, waiting.look and waiting.look.stopped) == (State.INCONCLUSIVE, False)
    later = look_at(after, 2).among(before.limited(2000).item_ids)
    assert later.fractions(50) == ((0.5, 1.0), 1)


@pytest.mark.parametrize("alpha", [0.05, 1e-6, 1e-12])
@pytest.mark.parametrize("known", [1, 20, 500])
def test_a_baseline_of_whose_items_few_are_known_is_waited_for(known: int, alpha: float) -> None:
    """A sliver of it decides nothing, at whatever level."""
    before, after = two_runs(2000, 1, 1.0)
    order = np.argsort(after.item_ids)
    small = before.take(np.concatenate([order[:known], order[-1500:]]))
    verdict = compare(first(after, 0.25), small, look=look_at(after, 1), alpha=alpha)
    assert verdict.n == known
    assert verdict.look is not None
    if known < 50:
        assert (verdict.state, verdict.look.stopped) == (State.INCONCLUSIVE, False)


@pytest.mark.parametrize("seed", range(6))
def test_grouped_items_are_looked_at_by_group(seed: int) -> None:
    """A look at whole groups is one of as many units; its share is that of the items."""
    before, after = two_runs(3000, seed, 2.0)
    groups = [f"g{i // 5}" for i in range(3000)]
    before, after = (replace(p, groups=groups) for p in (before, after))
    kept = np.arange(750)
    look = Look(1, 4, 750, 3000, after.item_ids, (750,), SHARES[1:])
    found = decide_at_look(Paired.of(before.take(kept), after.take(kept)), look)
    assert found.look is not None
    assert found.state in (State.REGRESSED, State.INCONCLUSIVE)
    assert found.look.stopped == (found.state is State.REGRESSED)
