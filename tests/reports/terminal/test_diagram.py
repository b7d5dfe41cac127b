"""The reliability diagram as text: numbers aligned, marks where the numbers say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import DATASETS, exact

from pytest_calibration.metrics import Strategy, bin_table
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.terminal import reliability_diagram
from pytest_calibration.uncertainty.reliability import ReliabilityBin, reliability

of = Predictions.from_confidence
HEAD = "confidence          n   mean    acc     gap"


def test_a_diagram_as_it_is_printed() -> None:
    """Range, count, confidence, accuracy and gap; then accuracy, confidence and band on an axis."""
    bins = [
        ReliabilityBin(0.0, 0.1, 10, 0.05, 0.10, 0.0, 0.4, 0.0, 0.20),
        ReliabilityBin(0.4, 0.5, 12_345, 0.45, 0.45, 0.4, 0.5, 0.44, 0.46),
        ReliabilityBin(0.9, 1.0, 250, 0.95, 0.50, 0.4, 0.6, 0.90, 1.00),
    ]
    assert list(reliability_diagram(bins, width=68)) == [
        "confidence          n   mean    acc     gap  0        .5         1",
        "[0.00, 0.10]       10  0.050  0.100  -0.050  -|o--",
        "(0.40, 0.50]   12,345  0.450  0.450  +0.000           o",
        "(0.90, 1.00]      250  0.950  0.500  +0.450            #       -|-",
        "o # accuracy, # where noise does not explain it; | mean confidence;",
        "- where a calibrated model's accuracy lies 95 % of the time",
    ]


@pytest.mark.parametrize("width", [47 + 21, 80, 88, 200])
@pytest.mark.parametrize("name", DATASETS)
def test_marks_stand_where_the_numbers_say(name: str, width: int) -> None:
    """Accuracy stands at its share of the axis, confidence too unless accuracy covers it."""
    bins = reliability(of(*DATASETS[name]()))
    head, *rows = list(reliability_diagram(bins, width=width))[: len(bins) + 1]
    axis = head[len(HEAD) + 2 :]
    assert (axis[0], axis[-1], axis[len(axis) // 2]) == ("0", "1", "5")
    last = len(axis) - 1
    for b, row in zip(bins, rows, strict=True):
        plot = row[len(HEAD) + 2 :].ljust(len(axis))
        mark = "#" if b.beyond_noise else "o"
        assert plot.index(mark) == round(b.accuracy * last)
        if round(b.confidence * last) != round(b.accuracy * last):
            assert plot.index("|") == round(b.confidence * last)
        band = {i for i, c in enumerate(plot) if c == "-"}
        left, right = round(b.calibrated_low * last), round(b.calibrated_high * last)
        assert band <= set(range(left, right + 1))
    assert max(map(len, rows)) <= width


@pytest.mark.parametrize("strategy", ["equal_width", "equal_mass"])
def test_the_first_bin_alone_is_closed_on_the_left(strategy: Strategy) -> None:
    """The first bin holds 0 and opens with a square bracket, all others with a round one."""
    p = of([0.0] * 30 + [0.01] * 5 + [0.5] * 30 + [1.0] * 30, [True] * 95)
    bins = reliability(p, 10, strategy)
    rows = list(reliability_diagram(bins))[1 : len(bins) + 1]
    assert rows[0][0] == "["
    assert {row[0] for row in rows[1:]} == {"("}
    (upper,) = list(reliability_diagram(reliability(of([0.5], [True]))))[1:2]
    assert upper[0] == "("


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_the_bins_that_hold_something(name: str) -> None:
    """One row per non-empty bin, in order; the counts add up to n and the gaps to ECE."""
    p = of(*DATASETS[name]())
    table = bin_table(p)
    bins = reliability(p)
    rows = [line.split() for line in list(reliability_diagram(bins))[1 : len(bins) + 1]]
    counts = [int(row[2].replace(",", "")) for row in rows]
    assert counts == [c for c in table.count.tolist() if c]
    gaps = np.array([float(row[5]) for row in rows])
    assert (np.abs(gaps) * counts).sum() / p.n == pytest.approx(
        (np.abs(table.gap) * table.count).sum() / p.n, abs=5e-4
    )


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 30),
    st.integers(20, 140),
    st.booleans(),
)
def test_columns_are_aligned(
    rows: list[tuple[float, bool]], bins: int, width: int, unicode: bool
) -> None:
    """Numbers end where their heads do, no trailing space, ASCII unless asked otherwise."""
    held = reliability(of([c for c, _ in rows], [h for _, h in rows]), bins)
    head, *lines = reliability_diagram(held, width=width, unicode=unicode)
    assert head.startswith(HEAD)
    for line in lines:
        assert line == line.rstrip()
        assert unicode or line.isascii()
    for line in lines[: len(held)]:
        assert re.match(r"[\[(]\d\.\d\d, \d\.\d\d\]", line)
        mean, acc, gap = (float(x) for x in line[: len(HEAD)].split()[3:])
        assert gap == pytest.approx(mean - acc, abs=0.00151)


def test_a_narrow_terminal_keeps_numbers_and_mark() -> None:
    """Below the smallest plot only the numbers stay, and a sign where noise does not explain."""
    p = exact({0.35: 0.15, 0.95: 0.0}, each=100)
    head, off, fine, legend = reliability_diagram(reliability(p, 10), width=60)
    assert head == HEAD
    assert off.endswith("+0.150  #")
    assert fine.endswith("0.000")
    assert legend == "# noise does not explain the gap"
    assert max(map(len, (head, off, fine, legend))) <= 60


def test_nothing_to_explain_needs_no_legend() -> None:
    """A calibrated model's narrow table ends with its last bin."""
    assert len(list(reliability_diagram(reliability(exact()), width=50))) == 6


def test_box_drawing_says_the_same() -> None:
    """With Unicode the same marks stand in the same places."""
    bins = reliability(exact({0.35: 0.15, 0.95: 0.0}, each=100))
    plain = list(reliability_diagram(bins))
    drawn = list(reliability_diagram(bins, unicode=True))
    table = str.maketrans("○●│─", "o#|-")
    assert [line.translate(table) for line in drawn] == plain
    assert drawn != plain
