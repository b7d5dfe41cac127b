"""``pytest-calibration threshold``, and what other commands say of operating points."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pytest_calibration.gate.chosen_threshold import choose_threshold
from pytest_calibration.gate.planning import plan_at
from pytest_calibration.gate.strictness import OperatingPoint
from pytest_calibration.gate.verdict import compare_at
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.metrics import coverage, precision
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.dump import write_dump

Z95, Z80 = 1.6448536, 0.8416212


def sure(n: int = 1500, seed: int = 0, wrong: float = 0.0) -> Predictions:
    """Calibrated answers, many of them sure, of which a share turned wrong."""
    rng = np.random.default_rng(seed)
    confidence = 1 / (1 + np.exp(-(2 + 1.5 * rng.standard_normal(n))))
    right = rng.random(n) < confidence
    stays = np.random.default_rng(9).random(n) >= wrong
    return Predictions.from_confidence(confidence, right & stays, item_ids=range(n), probe="quiz")


@pytest.mark.parametrize("kind", ["dump", "record", "table"])
def test_the_threshold_is_printed_with_its_promise(command, stored, tmp_path, kind: str) -> None:
    """From a dump, a record and a table: threshold, what was measured, and the promise."""
    p = sure()
    path, flags = tmp_path / "quiz.csv", []
    if kind == "table":
        rows = zip(p.confidence.tolist(), p.correct.tolist(), strict=True)
        path.write_text("score,correct\n" + "".join(f"{c!r},{r:d}\n" for c, r in rows), "utf-8")
        flags = ["--column", "confidence=score"]
    else:
        path = stored(p).path if kind == "record" else write_dump(tmp_path, p)
    found = choose_threshold(p, 0.9)
    assert found.chosen is not None
    assert found.as_measured is not None
    result = command("threshold", path, "--precision", 0.9, *flags)
    assert (result.code, result.err) == (0, "")
    at = f"{found.chosen.threshold:.9g}"
    assert result.lines[0] == f"threshold {at} holds a precision of 0.9: quiz, 1,500 items"
    assert f"measured: from {at} on, {found.chosen.n:,} answers (coverage" in result.out
    assert "precision is at least 0.9 with 95 % confidence, counting that" in result.out
    assert f"not shown to hold it: from {found.as_measured.threshold:.9g} on" in result.out


def test_none_exits_with_1_and_says_how_many_items_would_do(command, stored) -> None:
    """In words and as JSON."""
    p = sure(150)
    path = stored(p).path
    needed = choose_threshold(p, 0.95).n_needed
    result = command("threshold", path)
    assert result.code == 1
    assert result.lines[0] == "no threshold is shown to hold a precision of 0.95: quiz, 150 items"
    assert f"about {needed:,} items like these would show one, with 95 % confidence" in result.out
    tree = json.loads(command("threshold", path, "--json").out)["quiz"]
    assert tree["n_needed"] == needed
    assert "threshold" not in tree


def test_json_has_every_number(command, stored) -> None:
    """The same values as in Python."""
    p = sure()
    found = choose_threshold(p, 0.9, alpha=0.1)
    args = ("--precision", 0.9, "--alpha", 0.1, "--json")
    tree = json.loads(command("threshold", stored(p).path, *args).out)["quiz"]
    assert found.chosen is not None
    assert (tree["threshold"], tree["alpha"]) == (found.chosen.threshold, 0.1)
    assert tree["chosen"] == pytest.approx(vars(found.chosen))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--precision", "95"), "argument --precision: must lie between 1e-06 and 0.999999, got"),
        (("--alpha", "0.5"), "argument --alpha: must lie between"),
        (("--precision", "high"), "argument --precision: must be a number, got 'high'"),
    ],
)
def test_wrong_arguments_are_named(command, stored, args: tuple[str, ...], message: str) -> None:
    """By flag, range and value."""
    result = command("threshold", stored(sure(200)).path, *args)
    assert result.code == 2
    assert message in result.err


def test_compare_judges_the_points_that_are_named(command, stored) -> None:
    """One verdict each, beside that on calibration; what falls there exits with 1."""
    first, second = sure(), sure(wrong=0.1)
    files = (stored(first).path, stored(second, "second").path)
    loose = ("--tolerance", 0.5, "--accuracy-tolerance", "none", "--tail", 1)
    assert command("compare", *files, *loose).code == 0
    result = command("compare", *files, *loose, "--threshold", 0.9, "--threshold", 0.8)
    assert result.code == 1
    states = [compare_at(second, first, t, alpha=0.025).state for t in (0.9, 0.8)]
    assert states == ["regressed", "regressed"]
    assert [line for line in result.lines if line.startswith("precision regressed")] == [
        "precision regressed at 0.9: probe quiz",
        "precision regressed at 0.8: probe quiz",
    ]
    result = command("compare", *files, "--threshold", 2)
    assert "argument --threshold: must be a number of at least 0 and at most 1, got 2" in result.err


def test_check_judges_the_points_that_are_named(command, stored, tmp_path) -> None:
    """As a test does: beside calibration, against the stored baseline; a file may be a dump."""
    stored(sure())
    dumped = write_dump(tmp_path, sure(wrong=0.1))
    loose = ("--tolerance", 0.5, "--accuracy-tolerance", "none", "--tail", 1)
    args = ("check", dumped, "--baseline-dir", tmp_path / "first", *loose)
    assert command(*args).code == 0
    result = command(*args, "--threshold", 0.9)
    assert (result.code, result.err) == (1, "")
    assert "precision regressed at 0.9: probe quiz" in result.out


def test_plan_at_a_threshold_is_arithmetic(command) -> None:
    """2,000 items, 0.3 of them answered, 0.95 right before and 0.93 at a fall of the tolerance."""
    tree = json.loads(command("plan", "--n", 2000, "--threshold", 0.9, "--json").out)
    error = (0.6 * (0.05 * 0.95 + 0.07 * 0.93) / (0.3 * 2000)) ** 0.5
    assert tree["precision_visible"] == pytest.approx(0.02 + (Z95 + Z80) * error)
    assert tree["coverage_visible"] == pytest.approx(0.05 + (Z95 + Z80) * (0.15 / 2000) ** 0.5)
    assert (tree["coverage"], tree["precision"], tree["decides"]) == (0.3, 0.95, 1)
    needed = tree["n_needed"]
    assert json.loads(command("plan", "--n", needed, "--threshold", 0.9, "--json").out)["decides"]
    point = OperatingPoint(0.9)
    assert not plan_at(needed - 10, point).decides


def test_a_plan_of_few_answers_sees_no_fall_beyond_all_of_it() -> None:
    """A share falls by 1 at most."""
    few = plan_at(3, OperatingPoint(0.9))
    assert (few.precision_visible, few.coverage_visible, few.decides) == (1.0, 1.0, False)


def test_a_plan_at_a_threshold_asks_for_fifty_units_at_least() -> None:
    """However much may stay undetected: 50 items, or 50 groups, which are five items each."""
    point = OperatingPoint(0.5)
    assert plan_at(500, point, max_undetected=0.9).n_needed == 50
    assert plan_at(500, point, max_undetected=0.9, groups=100).n_needed == 250


def test_plan_takes_coverage_and_precision_from_a_record(command, stored) -> None:
    """Those of its items, with one right and one wrong answer more for precision."""
    p = sure()
    path = stored(p).path
    result = command("plan", "--baseline", path, "--threshold", 0.9)
    answers = round(coverage(p, 0.9) * p.n)
    shrunk = (precision(p, 0.9) * answers + 1) / (answers + 2)
    assert f"coverage {coverage(p, 0.9):.3f}, precision {shrunk:.3f}, 15.0 %" in result.out
    assert f"from {path} (probe quiz, name default)" in result.out
    result = command("plan", "--baseline", path, "--threshold", 1)
    assert (result.code, "no answer of probe 'quiz' has a confidence" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--n", 500, "--coverage", 0.3), "plan: --coverage goes with --threshold."),
        (("--threshold", 0.9), "plan needs --n, the number of items, or --baseline, a record."),
        (("--n", 500, "--threshold", 0.9, "--limit", 0.1), "--limit is about the ECE"),
    ],
)
def test_plan_refuses_what_does_not_go_together(command, args: tuple, message: str) -> None:
    """One sentence each."""
    result = command("plan", *args)
    assert (result.code, message in result.err) == (2, True)


def test_drift_shows_precision_at_a_threshold(command, tmp_path) -> None:
    """A history that has it; its best checkpoint is the one of the highest."""
    runs = [sure(600, wrong=w) for w in (0.0, 0.02, 0.3)]
    history = History(tmp_path / "h.jsonl")
    lines = [
        Line.of(p, model=f"runs/sft/checkpoint-{k}00", thresholds=[0.9]) for k, p in enumerate(runs)
    ]
    history.append(lines, runs)
    result = command("drift", history.path, "--metric", "precision@0.9")
    assert (result.code, result.err) == (0, "")
    assert "precision at 0.9" in result.out
    for p in runs:
        assert f"{precision(p, 0.9):.3f}" in result.out
    tree = json.loads(command("drift", history.path, "--json").out)
    points = tree["series"][0]["points"]
    assert [p["at_points"]["coverage@0.9"]["value"] for p in points] == pytest.approx(
        [coverage(p, 0.9) for p in runs], abs=1e-6
    )
