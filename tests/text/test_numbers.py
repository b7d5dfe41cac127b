"""Numbers in sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.text.numbers import counted, distinct


@pytest.mark.parametrize(
    ("many", "text"), [(0, "0 items"), (1, "1 item"), (2, "2 items"), (1500, "1,500 items")]
)
def test_a_count_takes_the_plural_but_for_one(many: int, text: str) -> None:
    """Only 1 is followed by the singular; thousands are separated."""
    assert counted(many, "item") == text


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=4))
def test_distinct_keeps_the_order(values: list[float]) -> None:
    """Formatted numbers are ordered as the numbers are, and equal only where they are equal."""
    texts = [float(text) for text in distinct(*values)]
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            assert (texts[i] < texts[j]) is (a < b)


def test_minus_zero_is_printed_as_zero() -> None:
    """A value that rounds to -0 is printed without its sign."""
    assert distinct(-0.0, 0.5) == ["0.000", "0.500"]


def test_decimals_have_a_smallest_and_a_largest_number() -> None:
    """At least ``digits`` decimals, at most ``most``; a plus sign where it is asked for."""
    assert distinct(0.5, 0.125, digits=1) == ["0.5", "0.1"]
    assert distinct(0.51, 0.52, digits=1) == ["0.51", "0.52"]
    assert distinct(0.12341, 0.12342, most=4) == ["0.123", "0.123"]
    assert distinct(0.1, -0.1, sign=True) == ["+0.100", "-0.100"]
