"""Escaping: any text is shown as text, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE

from pytest_calibration.text.visible import visible


@pytest.mark.parametrize(
    ("text", "escaped"),
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
def test_invisible_characters_are_escaped(text: str, escaped: str) -> None:
    """Control and bidirectional characters and CI commands; letters, spaces and joiners stay."""
    assert visible(text) == escaped


@given(st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    """Nothing in it moves a cursor or ends a line, and escaping it again changes nothing."""
    escaped = visible(text)
    unprintable = {c for c in escaped if not c.isprintable()}
    assert all(c.isspace() or c in "\u200c\u200d" for c in unprintable)
    assert escaped.splitlines() in ([], [escaped])
    assert visible(escaped) == escaped


@given(st.text(max_size=60), st.integers(8, 40))
def test_long_text_is_cut_in_the_middle(text: str, most: int) -> None:
    """Beginning and end stay, and never more characters than asked for, before escaping."""
    escaped = visible(text, most)
    if len(text) <= most:
        assert escaped == visible(text)
    else:
        head, _, tail = escaped.partition(" ... ")
        assert visible(text).startswith(head) or " ... " in text[:most]
        assert visible(text).endswith(tail) or " ... " in text
        assert len(visible("a" * len(text), most)) == most


def test_line_breaks_may_be_kept() -> None:
    """Line breaks and tabs may stay as they are; all else is escaped."""
    assert visible("a\n\tb\r\x07", keep_breaks=True) == "a\n\tb\\r\\x07"


def test_hostile_text_keeps_its_visible_parts() -> None:
    """Every visible part is still there."""
    escaped = visible(HOSTILE)
    for part in ("<script>alert('x')</script>", "right to left", r"\x1b[31mred", "::error::no"):
        assert part in escaped
