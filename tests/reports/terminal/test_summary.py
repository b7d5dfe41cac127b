"""The end of a session: the table, what else to know, and the counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE, predictions, results

from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.model import Results, result_of
from pytest_calibration.reports.terminal import counts_line, summary_lines
from pytest_calibration.reports.terminal.summary import summary_table
from pytest_calibration.text.layout import columns

WHOLE = results()
BASE = predictions(hostile=False)
HOT = predictions(sharpen=2.5, model="sft", hostile=False)
TWO = (result_of(compare(BASE, BASE)), result_of(compare(HOT, BASE)))


def session(*made, **fields):  # type: ignore[no-untyped-def]
    """A finished session with these results."""
    return Results("0.1.0", "now", len(made), True, made, **fields)


def test_a_summary_is_aligned() -> None:
    """Text is left-aligned, numbers right-aligned, and each number is the verdict's."""
    lines = list(summary_table(TWO, width=200))
    first, second = (r.number for r in TWO)
    assert [line.split() for line in lines] == [
        ["model", "probe", "n", "metric", "value", "interval", "floor", "acc", "against", "state"],
        ["base", "support-mcq", "600", "ECE", f"{first.value:.3f}", f"[{first.low:.3f},",
         f"{first.high:.3f}]", f"{first.noise_floor:.3f}", f"{TWO[0].accuracy:.3f}",
         f"{first.value:.3f}", "passed"],
        ["sft", "support-mcq", "600", "ECE", f"{second.value:.3f}", f"[{second.low:.3f},",
         f"{second.high:.3f}]", f"{second.noise_floor:.3f}", f"{TWO[1].accuracy:.3f}",
         f"{first.value:.3f}", "regressed",
         *f"({', '.join(TWO[1].fired)})".split()],
    ]  # fmt: skip
    ends = {line.index("ECE") for line in lines[1:]}
    assert len(ends) == 1
    assert len({line.rindex(f"{first.value:.3f}") for line in lines[1:]}) == 1


@pytest.mark.parametrize("width", [60, 80, 100, 10_000])
def test_accuracy_stands_beside_ece(width: int) -> None:
    """A model that is always wrong, and says so, passes a limit of its ECE: one sees it."""
    n = 200
    wrong = Predictions.from_confidence(np.full(n, 0.01), np.zeros(n, bool), probe="facts")
    made = [
        result_of(judge(measure(wrong), 0.05)),
        result_of(judge(measure(wrong, "accuracy"), 0.3, above=True)),
    ]
    assert made[0].state == "passed"
    head, *rows = summary_table(made, width=width)
    end = head.index(" acc ") + 4
    assert [row[end - 5 : end].strip() for row in rows] == ["0.000", ""]
    # The value of a row on accuracy is its accuracy.
    assert "0.000" in rows[1]


def test_columns_nobody_fills_are_left_out() -> None:
    """Without a model or anything to be held against, those columns are not there."""
    alone = result_of(judge(measure(BASE, "accuracy"), 0.1, above=True))
    anonymous = replace(alone, model="")
    assert "model" not in next(iter(summary_table([anonymous])))
    assert "floor" not in next(iter(summary_table([anonymous])))
    assert list(summary_table([])) == []


@pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 88, 120])
def test_a_narrow_terminal_stays_readable(width: int) -> None:
    """Columns go, then names are cut, then each verdict has two lines; the state always stays."""
    lines = list(summary_table(WHOLE.results, width=width))
    text = "\n".join(lines)
    for result in WHOLE.results:
        assert result.state_name in text
        assert f"{result.number.value:.3f}" in text
    # What follows the state in brackets may be broken off by the terminal.
    kept = [line.partition(" (")[0] for line in lines]
    assert max(map(columns, kept)) <= max(width, 28)


def test_what_goes_first_is_what_a_reader_can_do_without() -> None:
    """The interval goes before the number it belongs to, the state never."""
    heads = [next(iter(summary_table(TWO, width=w))).split() for w in (200, 80, 60, 50)]
    for wide, narrow in pairwise(heads):
        assert set(narrow) <= set(wide)
    assert "interval" not in heads[1]
    assert heads[-1][0] == "model"
    assert heads[-1][-1] == "state"


def test_states_are_counted_in_the_order_they_come() -> None:
    """Counts stand in the order of first appearance, in words."""
    assert counts_line(WHOLE) == (
        "2 passed, 2 regressed, 1 inconclusive, 1 above limit, 1 not comparable, 1 no baseline"
    )
    assert counts_line(session()) == ""


def test_quiet_shows_what_fails_or_cannot_tell_and_the_counts() -> None:
    """With -q passing verdicts and hints are left out; cautions, remarks and errors are not."""
    lines = list(summary_lines(WHOLE, verbosity=-1, width=10_000))
    shown = sum(r.fails or r.state == "inconclusive" for r in WHOLE.results)
    assert len(lines) == 1 + shown + len(WHOLE.cautions) + 1 + 1 + 1
    assert lines[-3] == "2 baselines written."
    assert lines[-2].startswith("ERROR: tests/x.yaml")
    assert lines[-1] == counts_line(WHOLE)
    other = replace(TWO[0], cautions=())
    assert list(summary_lines(session(other), verbosity=-1)) == ["1 passed"]


def test_verbose_tells_why_and_very_verbose_where() -> None:
    """-v adds the diagnosis of every verdict, -vv its diagram; without details there is none."""
    plain = list(summary_lines(session(*TWO), width=500))
    verbose = list(summary_lines(session(*TWO), verbosity=1, width=500))
    drawn = list(summary_lines(session(*TWO), verbosity=2, width=500))
    assert set(plain) < set(verbose) < set(drawn)
    for result in TWO:
        assert result.headline in verbose
        assert result.detail is not None
        assert result.detail.diagnosis is not None
        assert "  " + result.detail.diagnosis.paragraph[:60] in "\n".join(verbose)
    assert sum("noise does not explain" in line for line in drawn) == 2
    bare = session(*(replace(r, detail=None) for r in TWO))
    assert list(summary_lines(bare, verbosity=2, width=500)) == plain


def test_hints_say_what_to_do() -> None:
    """Too few items: how many would do; better than the baseline: what would store it."""
    few = result_of(compare(BASE.limited(60), BASE.limited(60)))
    better = result_of(
        compare(predictions(n=1500), predictions(n=1500, sharpen=2.5), against="baseline")
    )
    lines = list(summary_lines(session(few, better, remarks=("2 baselines written.",)), width=500))
    assert (
        f"inconclusive: support-mcq on base: n = 60 is too few; about {few.n_needed:,} would "
        "decide it"
    ) in lines
    assert better.improved
    assert (
        "better than the baseline: support-mcq on base; --calibration-accept=REASON would store it"
    ) in lines
    assert "2 baselines written." in lines
    parent = replace(better, against="parent", reference="parent base")
    assert not any("better than" in line for line in summary_lines(session(parent), width=500))


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ([0.0101, 0.0101], "at most 0.021 in 2 comparisons"),
        ([0.0004], "at most 0.001 in 1 comparison"),
        ([0.0], "at most 0.001 in 1 comparison"),
    ],
)
def test_expected_false_alarms_are_rounded_up(rates: list[float], text: str) -> None:
    """The number is an upper bound, and never 0."""
    made = [replace(TWO[0], false_alarm_rate=rate) for rate in rates]
    assert f"expected false alarms, had nothing changed: {text}" in list(
        summary_lines(session(*made), width=500)
    )
    silent = session(replace(TWO[0], false_alarm_rate=None))
    assert not any("false alarms" in line for line in summary_lines(silent))


def test_colour_follows_what_a_verdict_means() -> None:
    """Failing is bad, inconclusive doubtful, passed good; without paint nothing is added."""
    painted = list(summary_lines(WHOLE, width=300, paint=lambda text, style: f"<{style}>{text}"))
    rows = painted[1 : 1 + len(WHOLE.results)]
    for row, result in zip(rows, WHOLE.results, strict=True):
        style = "bad" if result.fails else "doubt" if result.state == "inconclusive" else "good"
        assert f"<{style}>{result.state_name}" in row
    assert painted[0].startswith("<head>model")
    assert "<good>2 passed, <bad>2 regressed" in painted[-1]


def test_hostile_names_show_as_text() -> None:
    """No control character reaches the terminal, and no line is begun by a name."""
    for verbosity in (-1, 0, 2):
        for line in summary_lines(WHOLE, verbosity=verbosity, width=100):
            assert line.isprintable() or line == ""
    assert r"\x1b[31mred" in "\n".join(summary_lines(WHOLE, width=10_000))
    assert HOSTILE not in "\n".join(summary_lines(WHOLE, width=10_000))


@given(st.integers(20, 200), st.integers(-1, 2), st.booleans())
def test_any_width_and_verbosity_can_be_printed(width: int, verbosity: int, unicode: bool) -> None:
    """The counts come last, prose keeps to the width, ASCII stays ASCII."""
    lines = list(summary_lines(WHOLE, width=width, verbosity=verbosity, unicode=unicode))
    assert lines[-1] == counts_line(WHOLE)
    if not unicode:
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("verbosity", [-2, -1, 0, 1, 2])
def test_cautions_are_told_whatever_the_verdict_and_verbosity(verbosity: int) -> None:
    """What a probe says of its numbers stands once for each probe and model; hostile text shown."""
    noted = replace(BASE, notes=("it is noise.", HOSTILE))
    before = replace(BASE, confidence=BASE.confidence * 0.999)
    passed = result_of(compare(noted, before))
    assert passed.cautions == noted.notes
    again = result_of(judge(measure(noted), 0.9))
    lines = list(summary_lines(session(passed, passed, again), verbosity=verbosity, width=10_000))
    assert lines.count("support-mcq on base: it is noise.") == 1
    assert sum(line.startswith("support-mcq on base: ") for line in lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "note: it is noise." in compare(noted, before).explain()
    anonymous = replace(passed, model="")
    assert "support-mcq: it is noise." in list(summary_lines(session(anonymous)))
