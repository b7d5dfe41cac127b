"""Measuring, cutting, padding and wrapping text by terminal columns."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.text.layout import columns, fitted, padded, wrapped
from pytest_calibration.text.visible import visible


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("首都", 4), ("cafe\u0301", 4), ("\uff21", 2)]
)
def test_columns_are_those_of_a_terminal(text: str, width: int) -> None:
    """Wide characters take two columns, combining marks none."""
    assert columns(text) == width


@given(st.text(max_size=50), st.integers(3, 40))
def test_fitted_text_fits(text: str, width: int) -> None:
    """At most the width, printable, whole where it fits, else the longest beginning with dots."""
    line = fitted(text, width)
    assert columns(line) <= width
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in line)
    plain = visible(text)
    if columns(plain) <= width:
        assert line == plain
    else:
        kept = line.removesuffix("...")
        assert plain.startswith(kept)
        assert columns(plain[: len(kept) + 1]) > width - 3


def test_padding_counts_columns() -> None:
    """A wide name is followed by fewer spaces."""
    assert padded("首都", 6) == "首都  "
    assert padded("ab", 6, ">") == "    ab"
    assert padded("too long", 3) == "too long"


@given(st.text("ab ", max_size=200), st.integers(20, 60))
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    """All words, in order, none broken; lines of shorter words keep to the width."""
    lines = list(wrapped(text, width, "  ", "    "))
    assert " ".join(lines).split() == text.split()
    for line in lines:
        assert len(line) <= width or len(line.split()) == 1
    assert all(line.startswith("    ") for line in lines[1:])
