"""Lines against the first of their series, and all comparisons of a run as one family."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from histories import at_gap, write_history

from pytest_calibration.gate.decision import State
from pytest_calibration.gate.family import holm
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.history.comparing import TWO_SIDED, compare_items, compare_numbers, error_of
from pytest_calibration.history.drift import Drift, judge_all
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line, Number
from pytest_calibration.history.series import all_series
from pytest_calibration.predictions import Predictions


def judged(file: History, **settings: int | None) -> Drift:
    """Judge the only series of a history."""
    (drift,), _ = judge_all(file, all_series(file.read()), **settings)
    return drift


def test_items_are_compared_as_a_test_compares_them() -> None:
    """State, components and p-value are those of ``compare``."""
    first, later = at_gap(0.0), at_gap(0.1)
    verdict = compare(later, first)
    found = compare_items(later, first, "the parent", Strictness())
    assert repr((found.state, found.components, found.p_value)) == repr(
        (verdict.state, verdict.components, verdict.p_value)
    )


def test_numbers_count_as_independent_measurements() -> None:
    """The standard error of the shift is the root of the sum of the squares of both."""
    first, later = Line.of(at_gap(0.0), model="a"), Line.of(at_gap(0.2), model="b")
    found = compare_numbers(later, first, Strictness())
    gap = found.components[0]
    ends = [
        (line.metrics["signed_gap"].high - line.metrics["signed_gap"].low) / 2 / TWO_SIDED
        for line in (first, later)
    ]
    assert math.isclose(gap.standard_error, math.hypot(*ends))
    assert math.isclose(gap.worsening, 0.2, abs_tol=1e-6)
    assert (found.state, found.paired) == (State.REGRESSED, False)


def test_numbers_see_less_than_items() -> None:
    """On the same answers, no bound of unpaired numbers lies above the paired one."""
    first, later = at_gap(0.0), at_gap(0.05)
    paired = compare_items(later, first, "the parent", Strictness())
    lines = Line.of(later, model="b"), Line.of(first, model="a")
    unpaired = compare_numbers(*lines, Strictness())
    assert unpaired.components[0].bound < paired.components[0].bound
    assert unpaired.p_value > paired.p_value


def test_a_gap_that_only_changes_sides_is_no_worsening() -> None:
    """From -0.1 to 0.1 is as far from calibration as before."""
    first, later = Line.of(at_gap(-0.1), model="a"), Line.of(at_gap(0.1), model="b")
    gap = compare_numbers(later, first, Strictness()).components[0]
    assert (gap.fired, round(gap.worsening, 6)) == (False, 0.2)


def only_gap(gap: float) -> Line:
    """A line of so many units that t is normal, with a signed gap of standard error 0.01 alone."""
    number = Number(gap, gap - 0.01 * TWO_SIDED, gap + 0.01 * TWO_SIDED)
    made = Line.of(at_gap(0.0), model="a")
    return replace(made, metrics={"signed_gap": number}, units=10**7)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("before", "after", "grew"),
    [
        (0.02, 0.05, True),
        (0.05, 0.02, False),
        # Through zero: 0.0233, which is 2.33 standard errors, is established on either side.
        (-0.01, 0.023, False),
        (-0.01, 0.024, True),
        # Both sides are established to err: the size must grow by more than the tolerance of 0.02.
        (-0.05, 0.069, False),
        (-0.05, 0.071, True),
        (-0.023, 0.04, True),
        (-0.024, 0.04, False),
    ],
)
def test_which_gap_of_numbers_has_grown(before: float, after: float, grew: bool, side: int) -> None:
    """As of pairs: a change of sides counts where the new error is established and larger."""
    (gap,) = compare_numbers(
        only_gap(side * after), only_gap(side * before), Strictness()
    ).components
    assert gap.grew == grew
    assert math.isclose(gap.worsening, abs(after - before) if after * before < 0 or grew else -0.03)


def test_the_p_value_of_numbers_is_the_tail_of_the_clearest() -> None:
    """P(Z > worsening / SE) on both sides, SE = hypot of both errors; 1 where nothing grew."""
    found = compare_numbers(only_gap(0.06), only_gap(0.02), Strictness())
    expected = 2 * NormalDist().cdf(-0.04 / math.hypot(0.01, 0.01))
    assert math.isclose(found.p_value, expected, rel_tol=1e-3)
    assert compare_numbers(only_gap(0.02), only_gap(0.06), Strictness()).p_value == 1.0


def test_numbers_are_judged_by_the_names_of_the_gate() -> None:
    """Its rules depend on these; shape and slope are no stored numbers."""
    first, later = at_gap(0.0), at_gap(0.1)
    lines = Line.of(later, model="b"), Line.of(first, model="a")
    names = [c.name for c in compare_numbers(*lines, Strictness()).components]
    assert names == ["signed gap", "cross-fitted ECE", "accuracy"]
    paired = compare_items(later, first, "the parent", Strictness()).components
    assert {*names} < {c.name for c in paired}
    free = compare_numbers(*lines, Strictness(accuracy_tolerance=None))
    assert [c.name for c in free.components] == names[:2]


def test_the_error_of_the_debiased_ece_is_that_above_the_plug_in_value() -> None:
    """Its interval reaches from the cross-fitted value - z SE, or 0, to the plug-in value + z SE.

    All confidences are alike, so that SE is that of the mean of c - y: sqrt(p q / (n - 1)).
    """
    p = Predictions.from_confidence(np.full(1000, 0.82), np.arange(1000) < 800, probe="facts")
    line = Line.of(p, model="a")
    expected = math.sqrt(0.8 * 0.2 / 999)
    assert math.isclose(error_of("cross_fitted_ece", line), expected, rel_tol=1e-3)
    assert math.isclose(error_of("signed_gap", line), expected, rel_tol=1e-3)


def test_a_number_without_interval_decides_nothing() -> None:
    """Its standard error is not known."""
    line = Line.of(at_gap(0.0), model="a")
    bare = {name: type(n)(n.value) for name, n in line.metrics.items()}
    later = replace(Line.of(at_gap(0.3), model="b"), metrics=bare)
    assert math.isnan(error_of("accuracy", later))
    assert compare_numbers(later, line, Strictness()).state is State.INCONCLUSIVE


def test_the_first_that_is_worse_beyond_doubt(tmp_path: Path) -> None:
    """The earliest whose comparison with the parent remains."""
    gaps = {100: 0.0, 200: 0.0, 300: 0.1, 400: 0.15}
    drift = judged(write_history(tmp_path / "h.jsonl", gaps, parent=0.0))
    assert drift.first_worse is not None
    assert drift.series.label(drift.first_worse) == "300"
    assert drift.state is State.REGRESSED


def test_a_run_is_one_family(tmp_path: Path) -> None:
    """All comparisons of all probes of a run are corrected together by Holm, each run by itself."""
    path = tmp_path / "h.jsonl"
    gaps = dict.fromkeys(range(1, 40), 0.0) | {40: 0.04}
    for probe in ("facts", "quiz"):
        file = write_history(path, gaps, probe=probe, parent=0.0)
    write_history(path, {1: 0.0, 2: 0.04}, run="runs/other", parent=0.0)
    drifts, families = judge_all(file, all_series(file.read()))
    of_run = [one for one in drifts if one.series.run == "runs/sft"]
    found = [c for one in of_run for c in one.comparisons if c is not None]
    kept = holm([c.p_value for c in found], [0.05] * len(found))
    expected = [k and c.state is State.REGRESSED for k, c in zip(kept, found, strict=True)]
    assert [c.remains for c in found] == expected
    first, second = families
    assert (first.run, first.probes, first.comparisons) == ("runs/sft", 2, 80)
    assert first.failing == sum(c.state is State.REGRESSED for c in found) == 2
    assert first.remaining == sum(expected)
    assert (second.run, second.comparisons) == ("runs/other", 2)


def test_of_many_lines_the_items_of_the_last_series_are_read(tmp_path: Path) -> None:
    """The others are judged on their numbers, and said to be."""
    path = tmp_path / "h.jsonl"
    for run in ("runs/a", "runs/b"):
        file = write_history(path, {1: 0.0, 2: 0.0, 3: 0.0}, run=run)
    series = all_series(file.read())
    (a, b), _ = judge_all(file, series, most_read=4)
    assert (a.unread, b.unread) == (True, False)
    assert a.trend is not None
    assert a.trend.cautions[0].endswith("runs/a/checkpoint-3 are not read.")
    assert b.trend is not None
    assert b.trend.cautions == ()
    assert [c.paired for d in (a, b) for c in d.comparisons if c] == [False, False, True, True]
    assert not judge_all(file, series, most_read=None)[0][0].unread
