"""Slices in a terminal: aligned, escaped, counted."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.diagnosis.slices import SliceMeasurement, SliceShift
from pytest_calibration.reports.model import SliceRow
from pytest_calibration.reports.terminal import slices_table

NOW = SliceMeasurement("x", 60, 60, 5, 0.65, 0.951, 0.301, 0.2, 0.4, 0.3, 0.05, 0.1)
SHIFT = SliceShift("x", 60, 60, 0.7, 0.65, -0.012, 0.301, 0.313, 0.06, 0.132, 0.5, 0.5, "")


def standing(name: str = "x", n: int = 60, **fields: Any) -> SliceRow:
    """A slice that is 0.3 over-confident, without a baseline."""
    return SliceRow(replace(NOW, name=name, n=n, **fields))


def shift(name: str = "x", n: int = 60, q: float | None = 0.5, **fields: Any) -> SliceRow:
    """A slice that went from balanced to 0.3 over-confident, or as the fields say."""
    change = "worse" if q is not None and q <= 0.05 else ""
    moved = replace(SHIFT, name=name, n=n, q_value=q, **{"change": change, **fields})
    return SliceRow(replace(NOW, name=name, n=n), moved)


def untested(name: str, n: int = 3) -> SliceRow:
    """A slice too small to test."""
    return shift(name, n, None)


def columns(text: str) -> int:
    """Columns of a terminal, wide characters counted twice."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def test_a_table_of_slices_as_it_is_printed() -> None:
    """Size, both accuracies, both gaps, shift, margin, q, a mark on what moved, and a count."""
    rows = [
        shift("capital", 1060, 0.0001),
        shift("currency", 48, 0.913, gap_before=0.031, gap_after=0.0119, shift=-0.0191),
        untested("river"),
    ]
    assert list(slices_table(rows)) == [
        "slice          n        accuracy        signed gap   shift    +/-       q",
        "capital    1,060  0.700 -> 0.650  -0.012 -> +0.301  +0.313  0.132  <0.001  <- worse",
        "currency      48  0.700 -> 0.650  +0.031 -> +0.012  -0.019  0.132   0.913",
        "river          3  0.700 -> 0.650  -0.012 -> +0.301  +0.313  0.132       -",
        "1 too small to test; 1 moved (false discovery rate 5 %)",
    ]


@pytest.mark.parametrize("rows", [[], [shift(q=0.001)]])
def test_fewer_than_two_slices_are_no_table(rows: list[SliceRow]) -> None:
    """One slice is the whole probe, which is reported already."""
    assert list(slices_table(rows)) == []


def test_slices_too_small_to_test_are_no_table() -> None:
    """Five hundred documents of three items each would fill a page and say nothing."""
    small = [untested(f"document {i}") for i in range(5)]
    assert list(slices_table(small)) == []
    assert len(list(slices_table([*small, shift("capital", q=0.001)], most=2))) == 4


def test_what_is_left_out_is_counted() -> None:
    """Ten of 1 234 slices are shown, the first ones; the rest are counted over all slices."""
    rows = [shift(f"s{i}", q=0.01) for i in range(12)]
    rows += [shift(f"s{i}") for i in range(12, 1000)] + [untested(f"s{i}") for i in range(234)]
    lines = list(slices_table(rows))
    assert len(lines) == 12
    assert [line.split()[0] for line in lines[1:-1]] == [f"s{i}" for i in range(10)]
    assert lines[-1] == (
        "1,224 of 1,234 slices not shown; 234 too small to test; "
        "12 moved (false discovery rate 5 %)"
    )
    assert len(list(slices_table(rows, most=3))) == 5


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"q": 0.01}, "<- worse"),
        ({"q": 0.01, "change": "better"}, "<- better"),
        ({"q": 0.01, "change": "moved"}, "<- moved"),
        ({"q": 0.051}, "0.051"),
    ],
)
def test_only_what_moved_is_marked(fields: dict[str, Any], mark: str) -> None:
    """The mark says what became of it; without significance the line ends in q."""
    assert list(slices_table([shift(**fields), shift()]))[1].endswith(mark)


@pytest.mark.parametrize(
    ("q", "printed"),
    [
        (0.05, "0.050"),
        (0.0503, "0.0503"),
        (0.0499, "0.0499"),
        (0.0006, "0.001"),
        (0.0004, "<0.001"),
        (1.0, "1.000"),
    ],
)
def test_digits_show_on_which_side_of_the_rate_a_q_lies(q: float, printed: str) -> None:
    """A q of 0.0503 is not printed as 0.050, which would be marked."""
    line = list(slices_table([shift(q=q), shift()]))[1]
    assert line.split("  <- ")[0].endswith(f" {printed}")
    assert ("<- worse" in line) is (q <= 0.05)


def test_names_are_escaped_and_cut() -> None:
    """No control character reaches the terminal, no name takes more than 24 columns."""
    names = ["bad\x1b[31m\n\u202e", "", "high_school_european_history", "x" * 24]
    lines = list(slices_table([shift(name) for name in names]))
    assert [line[:24].rstrip() for line in lines[1:-1]] == [
        r"bad\x1b[31m\n\u202e",
        "(none)",
        "high_school_european_...",
        "x" * 24,
    ]


def test_wide_names_keep_the_columns() -> None:
    """A full-width or Chinese character takes two columns, a combining accent none."""
    head, *rows, _ = slices_table(
        [shift(n) for n in ("首都", "\uff21\uff22", "cafe\u0301", "abcd")]
    )
    narrow = rows[3].index(" 60 ")
    assert [line.index(" 60 ") - narrow for line in rows] == [-2, -2, 1, 0]
    assert len(head) == len(rows[3].split("  <-")[0])


@given(st.lists(st.text(max_size=40), min_size=2, max_size=15), st.integers(1, 10))
def test_any_names_keep_the_columns(names: list[str], most: int) -> None:
    """Whatever slices are called, lines are printable, few, and their columns end together."""
    names = [unicodedata.normalize("NFC", n) for n in names]
    names = ["".join(c for c in n if not unicodedata.combining(c)) for n in names]
    head, *rows, last = slices_table([shift(name) for name in names], most=most)
    assert len(rows) == min(most, len(names))
    assert columns(head) <= 89
    for line in (head, *rows, last):
        assert line.isprintable()
    for line in rows:
        assert columns(line) == columns(head)
    assert len(names) <= most or last.startswith(f"{len(names) - most} of {len(names)} slices")


def test_without_a_baseline_each_slice_stands_with_its_interval() -> None:
    """Accuracy, signed gap and its 95 % interval; what is left out is counted."""
    rows = [standing("capital", 1060), standing("river", signed_gap=-0.0001, low=-0.1, high=0.1)]
    assert list(slices_table(rows, left_out=7)) == [
        "slice         n  accuracy  signed gap  95 % interval",
        "capital   1,060     0.650      +0.301  [+0.200, +0.400]",
        "river        60     0.650      +0.000  [-0.100, +0.100]",
        "7 of 9 slices not shown",
    ]


def test_slices_that_were_left_out_before_are_counted_too() -> None:
    """The closing line counts over all slices, not over those that were kept."""
    assert list(slices_table([shift("a"), shift("b")], left_out=5))[-1] == (
        "5 of 7 slices not shown; 0 moved (false discovery rate 5 %)"
    )
