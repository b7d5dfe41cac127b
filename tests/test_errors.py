"""Errors that a user can cause: how their messages are shown."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import errors
from pytest_calibration.errors import CalibrationError, ItemError, MissingExtra, UsageError
from pytest_calibration.text.visible import MOST_OF_A_MESSAGE, MOST_QUOTED, quoted

CLASSES = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, CalibrationError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_is_one_visible_line(kind: type[CalibrationError]) -> None:
    """Whatever a file put into it: escapes, line breaks, commands of CI, half a pair."""
    text = str(kind("::error::a\x1b[31m\u202e\r\n::error::b\n##[error]\ud83d\0 é 日"))
    assert text == (r"\x3a:error::a\x1b[31m\u202e\r\n::error::b\n#\x23[error]\ud83d\x00 é 日")


def test_a_long_message_keeps_both_ends() -> None:
    """What is wrong stands at its beginning, what to do at its end."""
    text = str(UsageError(f"{'a' * 10**6}: do this."))
    assert len(text) == MOST_OF_A_MESSAGE
    assert text.startswith("aaa")
    assert text.endswith("aaa: do this.")


@given(st.text(max_size=30))
def test_a_message_within_a_message_is_escaped_once(text: str) -> None:
    """An error may quote another."""
    inner = str(ItemError(f"x {text}"))
    assert str(UsageError(f"y: {inner}")) == f"y: {inner}"


def test_an_error_survives_the_way_between_processes() -> None:
    """As itself: its class, and what was said."""
    problem = pickle.loads(pickle.dumps(MissingExtra("a\nb")))
    assert (type(problem), problem.args, str(problem)) == (MissingExtra, ("a\nb",), r"a\nb")


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, [["x"] * 10**5], 10**5000, {"a": "y" * 999}],
    ids=["text", "list", "number", "mapping"],
)
def test_a_value_is_quoted_in_part(value: object) -> None:
    """At most 200 characters of any value, and of a number that Python does not write its type."""
    assert len(quoted(value)) <= MOST_QUOTED


def test_a_short_value_is_quoted_whole() -> None:
    """As Python writes it."""
    assert [quoted(v) for v in ("a'b", 1.5, None, [1])] == ['"a\'b"', "1.5", "None", "[1]"]
