"""Rows as a forest: every row is one path, every position is read once, nothing is there twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration.models.backends.transformers import sharing
from pytest_calibration.models.backends.transformers.shared_path import _split_by_kept
from pytest_calibration.models.backends.transformers.sharing import (
    MIN_SHARE,
    MIN_TOKENS,
    Segment,
    batches,
    forest,
    in_order,
    tokens_of,
)
from pytest_calibration.models.causal.rows import Row, ScoreTable

pytestmark = pytest.mark.torch

# Few tokens, so that much is shared, some beyond one byte, so that bytes must sort as numbers do.
TOKENS = st.sampled_from([0, 1, 2, 255, 256, 70_000])


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    """Rows with common beginnings, duplicates, rows that others begin with, positions twice."""
    stems = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=30), min_size=1, max_size=4))
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        stem = draw(st.sampled_from(stems))
        ids = stem[: draw(st.integers(1, len(stem)))] + draw(st.lists(TOKENS, max_size=8))
        at = draw(st.lists(st.integers(0, len(ids) - 1), max_size=6))
        rows.append(Row(ids, at, [draw(st.integers(0, 99)) for _ in at]))
    return rows


def segments_of(roots: list[Segment]) -> list[Segment]:
    """Return all segments, parents before children."""
    found, todo = [], list(roots)
    while todo:
        found.append(todo.pop(0))
        todo += found[-1].children
    return found


def path_to(segment: Segment) -> list[int]:
    """Return the tokens from the root to the end of a segment."""
    parts = [segment, *segment.ancestors][::-1]
    return [int(i) for part in parts for i in part.ids]


def check(rows: list[Row], roots: list[Segment], which: list[int], most: int) -> None:
    """Check what holds of every forest."""
    answers = ScoreTable(rows)
    segments = segments_of(roots)
    read: dict[int, tuple[list[int], int]] = {}
    for segment in segments:
        assert 1 <= len(segment) <= most
        assert segment.start == sum(len(part) for part in segment.ancestors)
        assert segment.end == segment.start + len(segment)
        assert all(child.parent is segment for child in segment.children)
        assert len(segment.offsets) == len(segment.targets) == len(segment.slots)
        path = path_to(segment)
        for offset, target, slot in zip(
            segment.offsets.tolist(), segment.targets.tolist(), segment.slots.tolist(), strict=True
        ):
            assert slot not in read, "a slot is read twice"
            assert 0 <= offset < len(segment)
            read[slot] = (path[: segment.start + offset + 1], target)
    assert all(root.parent is None for root in roots)
    paths = {tuple(path_to(segment)) for segment in segments}
    expected = {}
    for i in which:
        assert tuple(rows[i].ids) in paths, "a row is no path from a root"
        for slot, at, target in zip(
            answers.slots(i).tolist(), rows[i].positions, rows[i].targets, strict=True
        ):
            expected[slot] = (rows[i].ids[: at + 1], target)
    assert read == expected
    beginnings = {tuple(rows[i].ids[: n + 1]) for i in which for n in range(len(rows[i].ids))}
    total = sum(map(len, segments))
    assert tokens_of(roots) == total
    assert len(beginnings) <= total <= sum(len(rows[i].ids) for i in which)


@given(rows=some_rows(), most=st.integers(1, 40), data=st.data())
def test_every_row_is_one_path_and_every_position_is_read_once(
    rows: list[Row], most: int, data: st.DataObject
) -> None:
    """The tokens before a position are those of its row, whatever is shared and however cut."""
    which = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    check(rows, forest(rows, ScoreTable(rows), which, most=most), which, most)


@given(rows=some_rows(), most=st.integers(1, 40))
def test_where_sharing_always_pays_nothing_is_there_twice(rows: list[Row], most: int) -> None:
    """The tokens of the forest are then the nodes of the rows' prefix tree, no more and no less."""
    every = list(range(len(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "MIN_TOKENS", 1)
        patch.setattr(sharing, "MIN_SHARE", 0.0)
        roots = forest(rows, ScoreTable(rows), every, most=most)
    check(rows, roots, every, most)
    nodes = {tuple(row.ids[: n + 1]) for row in rows for n in range(len(row.ids))}
    assert tokens_of(roots) == len(nodes)


def test_no_rows_make_no_forest() -> None:
    """Where there is nothing to score there is nothing to compute."""
    assert forest([Row([1], [0], [2])], ScoreTable([]), [], most=8) == []
    assert tokens_of([]) == 0


@pytest.mark.parametrize("shared", [MIN_TOKENS - 1, MIN_TOKENS])
def test_a_beginning_of_few_tokens_is_not_shared(shared: int) -> None:
    """One more piece of attention for every token after it costs more than a few tokens save."""
    rows = [Row([*range(shared), 100 + i, 200], [shared], [0]) for i in range(2)]
    roots = forest(rows, ScoreTable(rows), [0, 1], most=1 << 20)
    saved = sum(len(row.ids) for row in rows) - tokens_of(roots)
    assert saved == (shared if shared >= MIN_TOKENS else 0)


@pytest.mark.parametrize("after", [100, 200])
def test_a_beginning_that_is_little_beside_the_rest_is_not_shared(after: int) -> None:
    """Sharing has to save a share of all tokens: of 2 (12 + n) tokens it saves 12."""
    rows = [Row([*range(12), *[20 + i] * after], [12 + after - 1], [0]) for i in range(2)]
    saves = MIN_SHARE * 2 * (12 + after) <= 12
    assert saves is (after == 100), "the two sizes lie on either side of the rule"
    roots = forest(rows, ScoreTable(rows), [0, 1], most=1 << 20)
    assert tokens_of(roots) == 2 * (12 + after) - (12 if saves else 0)


@pytest.mark.parametrize("least", [39, 40, 41])
def test_a_beginning_that_spares_too_little_is_not_shared(least: int) -> None:
    """Where steps cost more than arithmetic, sharing 20 tokens among three rows spares 40."""
    rows = [Row([*range(20), 100 + i], [20], [0]) for i in range(3)]
    roots = forest(rows, ScoreTable(rows), [0, 1, 2], most=1 << 20, least=least)
    assert tokens_of(roots) == (63 if least > 40 else 23)


def test_a_small_common_beginning_does_not_hide_larger_ones() -> None:
    """Subjects that share a header of three tokens still share their own examples."""
    rows = [
        Row([1, 2, 3, *[10 + subject] * 40, 60 + question], [43], [0])
        for subject in range(3)
        for question in range(4)
    ]
    roots = forest(rows, ScoreTable(rows), range(len(rows)), most=1 << 20)
    assert tokens_of(roots) == 3 * (43 + 4)


def test_five_shot_questions_compute_their_examples_once() -> None:
    """Subjects, questions and options of several tokens: three levels, nothing computed twice."""
    rows = []
    for subject in range(3):
        for question in range(5):
            head = [subject] * 200 + [100 + question] * 30
            rows += [Row([*head, 50 + option, 60], [229, 230], [1, 2]) for option in range(4)]
    roots = forest(rows, ScoreTable(rows), range(len(rows)), most=1 << 20)
    assert tokens_of(roots) == 3 * (200 + 5 * (30 + 4 * 2))
    assert len(roots) == 3


@given(sizes=st.lists(st.integers(1, 30), max_size=20), budget=st.integers(1, 60))
def test_batches_keep_the_order_and_the_budget(sizes: list[int], budget: int) -> None:
    """Each batch is within the budget, or one segment; no two neighbours would fit into one."""
    segments = [Segment(np.zeros(n, dtype=np.int64), 0) for n in sizes]
    made = list(batches(segments, budget))
    assert [id(s) for batch in made for s in batch] == [id(s) for s in segments]
    totals = [sum(map(len, batch)) for batch in made]
    assert all(
        total <= budget or len(batch) == 1 for batch, total in zip(made, totals, strict=True)
    )
    assert all(a + len(b[0]) > budget for a, b in zip(totals, made[1:], strict=False))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans()), min_size=1, max_size=20
    )
)
def test_in_order_keeps_siblings_together(given_: list[tuple[int, int, bool]]) -> None:
    """Parents come as they came; of one parent those that others need first, then by length."""
    parents = [None, *(Segment(np.zeros(1, dtype=np.int64), 0) for _ in range(3))]
    segments = []
    for parent, n, needed in given_:
        segment = Segment(np.zeros(n, dtype=np.int64), 0, parents[parent])
        if needed:
            segment.children.append(Segment(np.zeros(1, dtype=np.int64), n, segment))
        segments.append(segment)
    made = in_order(segments)
    assert {id(s) for s in made} == {id(s) for s in segments}
    assert len(made) == len(segments)
    firsts = list(dict.fromkeys(s.parent for s in segments))
    ranks = [firsts.index(s.parent) for s in made]
    assert ranks == sorted(ranks)
    for a, b in pairwise(made):
        if a.parent is b.parent:
            assert (not a.children, -len(a)) <= (not b.children, -len(b))


@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 60),
)
def test_what_is_held_at_once_is_bounded(given_: list[tuple[int, bool]], most: int) -> None:
    """As many segments as may keep keys and values, at least one; the others come later."""
    segments = []
    for n, needed in given_:
        segment = Segment(np.zeros(n, dtype=np.int64), 0)
        if needed:
            segment.children.append(Segment(np.zeros(1, dtype=np.int64), n, segment))
        segments.append(segment)
    now, later = _split_by_kept(segments, most)
    assert [id(s) for s in (*now, *later)] == [id(s) for s in segments]
    kept = [len(s) if s.children else 0 for s in segments]
    assert len(now) == 1 or sum(kept[: len(now)]) <= most
    assert not later or sum(kept[: len(now) + 1]) > most


# --- answers -------------------------------------------------------------------------------------


@given(rows=some_rows(), data=st.data())
def test_answers_know_what_is_missing(rows: list[Row], data: st.DataObject) -> None:
    """A row is missing until all its positions are filled in; each keeps its own numbers."""
    answers = ScoreTable(rows)
    slots = [int(s) for i in range(len(rows)) for s in answers.slots(i)]
    assert slots == list(range(sum(len(row.positions) for row in rows)))
    filled = data.draw(st.lists(st.sampled_from(slots), unique=True) if slots else st.just([]))
    at = np.array(filled, dtype=np.int64)
    answers.count(at)
    answers.fill(at, -1.0 - at, -0.5 * at, 3 * at)
    missing = [i for i in range(len(rows)) if {*answers.slots(i).tolist()} - {*filled}]
    assert answers.rows_done == len(rows) - len(missing)
    assert answers.missing() == missing
    for i, score in enumerate(answers.scores()):
        for k, slot in enumerate(answers.slots(i).tolist()):
            if slot in filled:
                found = (score.target_logprob[k], score.top_logprob[k], score.top_id[k])
                assert found == (-1.0 - slot, -0.5 * slot, 3 * slot)
            else:
                assert np.isnan(score.target_logprob[k])
    # Rows that were read in part are read again as a whole.
    again = np.array([s for i in missing for s in answers.slots(i).tolist()], dtype=np.int64)
    answers.count(again)
    assert answers.rows_done == len(rows)
