"""Item text: whatever it holds, it is shown as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE

from pytest_calibration.predictions import Predictions
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.text.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("\u202eabc", r"\u202eabc"),
        ("two\nlines\tand a tab", r"two\nlines\tand a tab"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\ud800", r"\ud800"),
        ("nbsp\u00a0and\u3000wide", "nbsp\u00a0and\u3000wide"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("首都 é", "首都 é"),
        ("\u2028", r"\u2028"),
        ("", ""),
        ("::add-mask::x", r"\x3a:add-mask::x"),
        ("  ::error::x", r"  \x3a:error::x"),
        ("std::move", "std::move"),
        ("a ##[stop-commands]x", r"a #\x23[stop-commands]x"),
        ("## [a](b)", "## [a](b)"),
    ],
)
def test_what_cannot_be_seen_is_written_as_an_escape_sequence(text: str, shown: str) -> None:
    """Control and bidirectional characters are spelt out; letters, spaces and joiners stay."""
    assert visible(text) == shown


@given(st.text())
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    """Nothing in it moves a cursor or ends a line, and showing it again changes nothing."""
    shown = visible(text)
    allowed = {c for c in shown if not c.isprintable()}
    assert all(c.isspace() or c in "\u200c\u200d" for c in allowed)
    assert shown.splitlines() in ([], [shown])
    assert visible(shown) == shown


@given(st.text(max_size=60), st.integers(8, 40))
def test_long_text_is_cut_in_the_middle(text: str, most: int) -> None:
    """Beginning and end stay, and never more characters than asked for, before escaping."""
    shown = visible(text, most)
    if len(text) <= most:
        assert shown == visible(text)
    else:
        head, _, tail = shown.partition(" ... ")
        assert visible(text).startswith(head) or " ... " in text[:most]
        assert visible(text).endswith(tail) or " ... " in text
        assert len(visible("a" * len(text), most)) == most


def test_line_breaks_may_be_kept() -> None:
    """A report that has room for lines keeps them, and nothing else that is not seen."""
    assert visible("a\n\tb\r\x07", keep_breaks=True) == "a\n\tb\\r\\x07"


def test_hostile_text_shows_all_it_holds() -> None:
    """Every visible part is still there."""
    shown = visible(HOSTILE)
    for part in ("<script>alert('x')</script>", "right to left", r"\x1b[31mred", "::error::no"):
        assert part in shown


def test_texts_are_made_when_asked_for_and_follow_their_items() -> None:
    """Taking items takes their texts; only what is asked for is made."""
    made: list[int] = []

    def of(row: int) -> ItemText:
        made.append(row)
        return ItemText(prompt=f"question {row}")

    texts = ItemTexts(of, np.arange(10))
    p = Predictions("x", np.full(10, 0.5), np.ones(10, bool), np.arange(10), texts=texts)
    last = p.take(np.array([7, 2])).take(np.array([False, True]))
    assert last.texts is not None
    assert made == []
    assert last.texts[0].prompt == "question 2"
    assert made == [2]


def test_ids_that_a_caller_gives_are_its_items_names() -> None:
    """A report can name an item as its owner does, though a baseline stores a hash."""
    p = Predictions.from_confidence([0.5, 0.6], [True, False], item_ids=["q-17", 4])
    assert p.texts is not None
    assert [p.texts[i].name for i in range(2)] == ["q-17", "4"]
    assert Predictions.from_confidence([0.5], [True]).texts is None
