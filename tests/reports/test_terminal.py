"""Plain text for a terminal: tables that can be read, aligned and checked by eye."""

from __future__ import annotations

import re

import numpy as np
import pytest
from datasets import DATASETS, exact
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.metrics import Strategy, bin_table
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.terminal import counts_line, reliability_table, summary_table

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
