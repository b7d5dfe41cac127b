"""Verdicts as plain data."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import samples
from samples import predictions, results, turned, verdicts

from pytest_calibration.diagnosis.slices import by_slice, shifts
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.verdict import Verdict, compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import METRICS
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.model import (
    MOST_SLICES,
    Results,
    Turned,
    from_plain,
    item_of,
    plain,
    result_of,
    slice_rows,
    turned_of,
    worst_items,
)

CASES = verdicts()


@pytest.mark.parametrize("verdict", CASES, ids=lambda v: str(v.state))
def test_a_result_says_what_the_verdict_says(verdict: Verdict) -> None:
    """State, numbers and text are the verdict's own."""
    result = result_of(verdict, detailed=False)
    assert result.state == verdict.state
    assert result.fails == verdict.state.fails
    assert [result.headline, *(f"  {line}" for line in result.explanation)] == [
        line if i == 0 else f"  {line.removeprefix('  ')}"
        for i, line in enumerate(verdict.explain().splitlines())
    ]
    assert result.number.value == verdict.measurement.value
    assert (result.baseline is None) == (verdict.baseline is None)
    assert [c.name for c in result.components] == [c.name for c in verdict.components]
    assert result.fired == tuple(c.name for c in verdict.components if c.fired)
    assert result.detail is None


def test_results_survive_json() -> None:
    """What goes through JSON, or from a worker to the controller, comes back equal."""
    whole = results()
    text = json.dumps(plain(whole), allow_nan=False)
    assert from_plain(Results, json.loads(text)) == whole


def test_plain_values_are_builtin() -> None:
    """Numbers of numpy become Python's; what is not finite becomes nothing."""
    numbers = (np.float64(0.5), np.int64(3), np.bool_(True), math.nan, -math.inf, State.PASSED)
    values = plain({"a": numbers})["a"]
    assert values == [0.5, 3, True, None, None, "passed"]
    assert [type(value) for value in values[:3]] == [float, int, bool]
    assert type(values[-1]) is str


def test_a_session_is_green_unless_something_fails() -> None:
    """A failing verdict, an error or a run that did not finish: each makes it red."""
    fine = result_of(CASES[0], detailed=False)
    green = Results("1", "now", 1, True, (fine,))
    assert green.green
    assert not replace(green, results=(fine, replace(fine, fails=True))).green
    assert not replace(green, errors=("x",)).green
    assert not replace(green, finished=False).green


def test_expected_false_alarms_are_added_up() -> None:
    """The bounds of all comparisons; a limit is none."""
    rates = [v.false_alarm_rate for v in CASES if not math.isnan(v.false_alarm_rate)]
    assert results(detailed=False).expected_false_alarms == pytest.approx(sum(rates))
    limit = result_of(judge(measure(predictions()), 0.5))
    assert Results("1", "now", 1, True, (limit,)).expected_false_alarms is None


def test_states_are_counted_in_words() -> None:
    """In the order in which they are first seen; a floor is not a ceiling."""
    low = result_of(judge(measure(predictions(), "accuracy"), 0.99, above=True))
    assert low.state_name == "below limit"
    assert list(results(detailed=False).counts) == [
        "passed",
        "regressed",
        "inconclusive",
        "above limit",
        "not comparable",
        "no baseline",
    ]


def test_the_worst_items_are_the_surest_of_the_wrong() -> None:
    """Sorted by confidence, wrong ones only; as many as asked for."""
    p = predictions(sharpen=2)
    items = worst_items(p, most=7)
    wrong = np.sort(p.confidence[~p.correct])[::-1]
    assert [item.confidence for item in items] == wrong[:7].tolist()
    assert not any(item.correct for item in items)
    assert worst_items(p.take(p.correct)) == ()
    assert len(worst_items(p, most=10**6)) == int((~p.correct).sum())


def test_equally_sure_items_stand_in_the_order_of_their_ids() -> None:
    """The order does not depend on how the items come."""
    p = Predictions.from_confidence([0.9] * 50, [False] * 50, item_ids=range(50))
    mixed = p.take(np.random.default_rng(0).permutation(50))
    assert worst_items(p) == worst_items(mixed)


def test_an_item_tells_what_the_baseline_said_of_it() -> None:
    """Confidence and truth before stand beside those of now."""
    p, before = predictions(sharpen=2), predictions()
    item = item_of(p, 3, before)
    assert item.confidence_before == before.confidence[3]
    assert item.correct_before == before.correct[3]
    assert item_of(p, 3).confidence_before is None


def test_item_text_is_given_only_where_it_may_be_shown() -> None:
    """Ids stay, words go; no word of an item is anywhere in the plain values."""
    p = predictions(sharpen=2)
    assert worst_items(p, item_text=False)[0].text is None
    item = worst_items(p, item_text=True)[0]
    assert item.text is not None
    assert item.text.options == p.texts[0].options  # type: ignore[index]
    secret = replace(p, texts=type(p.texts).from_list(  # type: ignore[union-attr]
        [replace(p.texts[i], prompt=f"secret {i}", gold="secret", answer="secret",  # type: ignore[index]
                 options=("secret",)) for i in range(p.n)]))  # fmt: skip
    silent = plain(result_of(compare(secret, predictions()), item_text=False))
    assert "secret" not in json.dumps(silent)
    assert "secret" in json.dumps(plain(result_of(compare(secret, predictions()), item_text=True)))


def test_items_without_text_are_named_by_their_hash() -> None:
    """The title is the source's id, else the id that a baseline stores."""
    p = predictions()
    assert item_of(p, 1).title == p.texts[1].name  # type: ignore[index]
    assert item_of(p, 0).title == f"#{int(p.item_ids[0]):016x}"


def test_every_metric_that_applies_is_there() -> None:
    """With a table all of them, without one those that need none; each equals its measurement."""
    for table in (True, False):
        p = predictions(table=table, n=200)
        detail = result_of(compare(p, p)).detail
        assert detail is not None
        side = detail.candidate
        assert set(side.metrics) == {n for n, m in METRICS.items() if m.applies_to(p)}
        for name, number in side.metrics.items():
            assert number.value == measure(p, name).value


def test_slices_stand_with_their_shifts() -> None:
    """Each slice is measured and compared, in the order of the shifts; else of the measurements."""
    p, before = predictions(sharpen=2.5), predictions()
    rows = slice_rows(p, before)
    assert tuple(row.shift for row in rows) == shifts(p, before)
    assert sorted(by_slice(p), key=str) == sorted((row.now for row in rows), key=str)
    assert all(row.now.name == row.shift.name for row in rows if row.shift)
    assert [row.now for row in slice_rows(p, None)] == list(by_slice(p))
    assert {row.shift for row in slice_rows(p, None)} == {None}


def test_slices_beyond_the_most_are_counted() -> None:
    """A report holds so many slices, and says how many more there are."""
    p = replace(predictions(n=900), slices=np.array([f"s{i // 3}" for i in range(900)]))
    detail = result_of(compare(p, p)).detail
    assert detail is not None
    assert (len(detail.slices), detail.slices_left_out) == (MOST_SLICES, 300 - MOST_SLICES)


def test_a_verdict_without_items_has_no_detail() -> None:
    """A number held against a limit is all there is."""
    assert result_of(judge(measure(samples.predictions()), 0.5)).detail is None


def test_the_parent_is_taken_for_the_model_before() -> None:
    """Its reference is in the diagnosis; what was stored before is in the detail."""
    by_reference = {r.reference: r for r in results().results if r.state == "regressed"}
    assert set(by_reference) == {"baseline", "parent base"}
    past = by_reference["baseline"].detail
    assert past is not None
    assert [step.model for step in past.past] == ["first", "base"]


# --- what turned ---------------------------------------------------------------------------------


def test_answers_that_turned_are_counted_and_named() -> None:
    """Correct before and wrong now, the most confident first; the others are only counted."""
    before = predictions(hostile=False)
    after = turned(predictions(hostile=False, sharpen=2.0))
    result = result_of(compare(after, before))
    assert result.detail is not None
    found = result.detail.turned
    assert found is not None
    rows = [i for i in range(before.n) if before.correct[i] and not after.correct[i]]
    assert found.wrong == len(rows) > 20
    assert found.right == sum(~before.correct & after.correct) > 0
    rows.sort(key=lambda i: (-after.confidence[i], after.item_ids[i]))
    assert [int(item.id, 16) for item in found.items] == after.item_ids[rows[:20]].tolist()
    for item, i in zip(found.items, rows, strict=False):
        assert (item.correct_before, item.correct) == (True, False)
        assert (item.confidence_before, item.confidence) == (
            before.confidence[i],
            after.confidence[i],
        )
    title, items = result.detail.named
    assert title.startswith(f"{len(rows)} answers turned wrong, {found.right} turned right; ")
    assert items == found.items


def test_where_no_answer_turned_wrong_the_surest_are_named() -> None:
    """The numbers say that none did; without a baseline there are no such numbers."""
    before = predictions(hostile=False)
    detail = result_of(compare(predictions(hostile=False, sharpen=2.0), before)).detail
    assert detail is not None
    title = "0 answers turned wrong, 0 turned right; most confident wrong answers"
    assert detail.named == (title, detail.worst)
    limit = replace(judge(measure(before), 0.01), candidate=before)
    alone = result_of(limit).detail
    assert alone is not None
    assert alone.turned is None
    assert alone.named == ("most confident wrong answers", alone.worst)


@pytest.mark.parametrize(
    ("wrong", "count"), [(1, "1 answer"), (2, "2 answers"), (1234, "1,234 answers")]
)
def test_what_turned_is_a_sentence(wrong: int, count: str) -> None:
    """Both counts, in English."""
    assert Turned(wrong, 5, ()).sentence == f"{count} turned wrong, 5 turned right"


def test_text_of_what_turned_is_shown_only_where_it_may_be() -> None:
    """As with the surest wrong answers: without leave an item is its id."""
    before = predictions(hostile=False)
    for item_text in (True, False):
        made = turned_of(turned(before), before, item_text=item_text)
        assert {item.text is not None for item in made.items} == {item_text}


def test_what_turned_is_counted_on_the_items_of_both() -> None:
    """An item that one side lacks has not turned."""
    before = predictions(hostile=False)
    few = turned(before).take(np.arange(590))
    detail = result_of(compare(few, before)).detail
    assert detail is not None
    assert detail.turned is not None
    assert detail.turned.wrong == int((before.correct[:590] & ~few.correct).sum())


def test_metrics_are_measured_only_where_they_are_wanted() -> None:
    """Without them the bins, the slices, the items and the diagnosis are the same."""
    verdict = compare(predictions(n=300, sharpen=2.5), predictions(n=300))
    whole, part = (result_of(verdict, metrics=wanted) for wanted in (True, False))
    assert whole.detail is not None
    assert part.detail is not None
    assert whole.detail.candidate.metrics
    assert not part.detail.candidate.metrics
    sides = {"candidate": part.detail.candidate, "baseline": part.detail.baseline}
    assert replace(whole, detail=replace(whole.detail, **sides)) == part
    assert replace(whole.detail.candidate, metrics={}) == part.detail.candidate
