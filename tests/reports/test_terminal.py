"""Plain text for a terminal: tables that can be read, aligned and checked by eye."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from datasets import DATASETS, exact
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.metrics import Strategy, bin_table
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.terminal import (
    counts_line,
    reliability_table,
    slices_table,
    summary_table,
)
from pytest_calibration.slices import SliceShift

of = Predictions.from_confidence


def test_a_table_as_it_is_printed() -> None:
    """Range, count, mean confidence, accuracy, gap and one sign per 0.025 of gap."""
    p = exact({0.35: 0.15, 0.55: -0.25, 0.95: 0.0}, each=100)
    assert list(reliability_table(bin_table(p, 10))) == [
        "  confidence          n   mean    acc     gap",
        "  (0.30, 0.40]      100  0.350  0.200  +0.150  ++++++",
        "  (0.50, 0.60]      100  0.550  0.800  -0.250  ----------",
        "  (0.90, 1.00]      100  0.950  0.950  -0.000"
        if bin_table(p, 10).gap[9] < 0
        else "  (0.90, 1.00]      100  0.950  0.950  +0.000",
    ]


@pytest.mark.parametrize("strategy", ["equal_width", "equal_mass"])
def test_the_first_bin_alone_is_closed_on_the_left(strategy: Strategy) -> None:
    """The first bin holds 0 and opens with a square bracket, all others with a round one."""
    p = of([0.0] * 30 + [0.01] * 5 + [0.5] * 30 + [1.0] * 30, [True] * 95)
    rows = list(reliability_table(bin_table(p, 10, strategy)))[1:]
    assert rows[0].lstrip()[0] == "["
    assert {row.lstrip()[0] for row in rows[1:]} == {"("}
    assert rows[-1].split("]")[0].endswith("1.00")


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_the_bins_that_hold_something(name: str) -> None:
    """One row per non-empty bin, in order; the counts add up to n and the gaps to ECE."""
    p = of(*DATASETS[name]())
    table = bin_table(p)
    rows = [line.split() for line in list(reliability_table(table))[1:]]
    counts = [int(row[2].replace(",", "")) for row in rows]
    assert counts == [c for c in table.count.tolist() if c]
    assert sum(counts) == p.n
    gaps = np.array([float(row[5]) for row in rows])
    assert (np.abs(gaps) * counts).sum() / p.n == pytest.approx(
        (np.abs(table.gap) * table.count).sum() / p.n, abs=5e-4
    )


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 30),
    st.sampled_from(["equal_width", "equal_mass"]),
)
def test_columns_are_aligned(rows: list[tuple[float, bool]], bins: int, strategy: Strategy) -> None:
    """Every row ends its columns where the header does, has no trailing space, and is ASCII."""
    p = of([c for c, _ in rows], [h for _, h in rows])
    head, *lines = reliability_table(bin_table(p, bins, strategy))
    for line in lines:
        assert line.isascii()
        assert line == line.rstrip()
        assert re.fullmatch(r"  [\[(]\d\.\d\d, \d\.\d\d\].*", line)
        assert line[len(head) :].strip("+- ") == ""
        mean, acc, gap = (float(x) for x in line[: len(head)].split()[3:])
        assert gap == pytest.approx(mean - acc, abs=0.00151)


def test_the_bar_is_capped() -> None:
    """A gap of 0.9 shows 20 signs, not 36."""
    (_, line) = reliability_table(bin_table(of([0.9] * 10, [False] * 10)))
    assert line.endswith("  " + "+" * 20)


def test_thousands_are_grouped() -> None:
    """A count of 12 345 is printed as 12,345."""
    (_, line) = reliability_table(bin_table(of([0.9] * 12_345, [True] * 12_345)))
    assert " 12,345 " in line


def test_a_summary_is_aligned_and_leaves_out_empty_columns() -> None:
    """Columns nobody fills are left out; text is left-aligned, numbers right-aligned."""
    rows = [
        {"probe": "facts", "n": "1,000", "value": "0.050", "state": "passed"},
        {"probe": "a", "n": "20", "state": "no_baseline"},
    ]
    assert list(summary_table(rows)) == [
        "probe      n  value  state",
        "facts  1,000  0.050  passed",
        "a         20         no_baseline",
    ]


def test_a_summary_of_nothing_is_one_empty_line() -> None:
    """No rows give no columns."""
    assert list(summary_table([])) == [""]


def test_states_are_counted_in_the_order_they_come() -> None:
    """Counts stand in the order of first appearance, in words."""
    states = ["passed", "not_comparable", "passed", "no_baseline"]
    assert counts_line(states) == "2 passed, 1 not comparable, 1 no baseline"
    assert counts_line([]) == ""


# --- slices --------------------------------------------------------------------------------------


def shift(name: str = "x", n: int = 60, q: float = 0.5, **fields: Any) -> SliceShift:
    """A slice that went from balanced to 0.3 over-confident, or as the fields say."""
    row: dict[str, Any] = {
        "accuracy_before": 0.7,
        "accuracy_after": 0.65,
        "gap_before": -0.012,
        "gap_after": 0.301,
        "shift": 0.313,
        "margin": 0.132,
        "p_value": q / 2,
        "untested": "",
        **fields,
    }
    return SliceShift(name=name, n=n, units=n, standard_error=0.07, q_value=q, **row)


def untested(name: str, n: int = 3) -> SliceShift:
    """A slice too small to test."""
    nan = math.nan
    return shift(name, n, nan, p_value=nan, untested="3 items are too few to test")


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
        "  slice          n        accuracy        signed gap   shift    +/-       q",
        "  capital    1,060  0.700 -> 0.650  -0.012 -> +0.301  +0.313  0.132  <0.001  <- worse",
        "  currency      48  0.700 -> 0.650  +0.031 -> +0.012  -0.019  0.132   0.913",
        "  river          3  0.700 -> 0.650  -0.012 -> +0.301  +0.313  0.132       -",
        "  1 too small to test; 1 moved (false discovery rate 5 %)",
    ]


@pytest.mark.parametrize("rows", [[], [shift(q=0.001)]])
def test_fewer_than_two_slices_are_no_table(rows: list[SliceShift]) -> None:
    """One slice is the whole probe, which is reported already."""
    assert list(slices_table(rows)) == []


def test_slices_too_small_to_test_are_no_table() -> None:
    """Five hundred documents of three items each would fill a page and say nothing."""
    small = [shift(f"document {i}", n=3, untested="fewer than 10 units") for i in range(5)]
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
        "  1,224 of 1,234 slices not shown; 234 too small to test; "
        "12 moved (false discovery rate 5 %)"
    )
    assert len(list(slices_table(rows, most=3))) == 5


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"q": 0.01}, "<- worse"),
        ({"q": 0.01, "gap_before": 0.5, "gap_after": 0.1}, "<- better"),
        ({"q": 0.01, "gap_before": -0.15, "gap_after": 0.16}, "<- moved"),
        ({"q": 0.051}, "0.051"),
    ],
)
def test_only_what_moved_is_marked(fields: dict[str, float], mark: str) -> None:
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
    assert [line[2:26].rstrip() for line in lines[1:-1]] == [
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
    assert columns(head) <= 91
    for line in (head, *rows, last):
        assert line.isprintable()
    for line in rows:
        assert columns(line) == columns(head)
    assert len(names) <= most or last.startswith(f"  {len(names) - most} of {len(names)} slices")
