"""How text fits a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.text.layout import columns, fitted, padded, wrapped


@pytest.mark.parametrize(
    ("text", "wide"), [("", 0), ("abc", 3), ("首都", 4), ("cafe\u0301", 4), ("\uff21", 2)]
)
def test_columns_are_those_of_a_terminal(text: str, wide: int) -> None:
    """Wide characters take two, what combines with the last takes none."""
    assert columns(text) == wide


@given(st.text(max_size=50), st.integers(3, 40))
def test_what_is_fitted_fits(text: str, width: int) -> None:
    """At most so many columns, printable, and whole where it fits."""
    shown = fitted(text, width)
    assert columns(shown) <= width
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)


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
