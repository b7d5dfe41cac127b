"""``--calibration-early-stop``: items are asked until the comparison is decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_calibration import Baselines
from pytest_calibration.history.file import History

if TYPE_CHECKING:
    from user_project import Project

STOP = "--calibration-early-stop"
BOTH = """
from pytest_calibration import assert_ece_below, assert_no_regression

def test_a_limit(calibration):
    assert_ece_below(calibration.run("facts"), 0.9)

def test_the_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
"""


def results(project: Project, name: str = "r.json") -> list[dict[str, Any]]:
    """The verdicts of a JSON report."""
    found: list[dict[str, Any]] = json.loads((project.path / name).read_text("utf-8"))["results"]
    return found


def test_a_regression_is_found_on_a_quarter_of_the_items(recorded) -> None:
    """Every report says at which look; OpenMetrics, that its numbers are those of a part."""
    reports = [f"--calibration-report=r.{ending}" for ending in ("html", "md", "txt", "json")]
    result = recorded.facts("hot", STOP, *reports)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*note: stopped early, at look 1 of 4.",
            "*note: a full run would add 1,734 items; were these as much worse*",
            "hot * facts * 581 of 2,315 *regressed*",
            "facts on hot: stopped early, at look 1 of 4.",
            "early stopping: 581 of 2,315 items were asked.",
        ]
    )
    (verdict,) = results(recorded)
    look = verdict["look"]
    assert (look["number"], look["looks"], look["asked"], look["planned"]) == (1, 4, 581, 2315)
    assert (look["stopped"], verdict["n"], verdict["baseline_n"]) == (True, 581, 2315)
    assert look["chance"] == pytest.approx(1, abs=0.01)
    for ending in ("html", "md"):
        text = (recorded.path / f"r.{ending}").read_text("utf-8")
        assert "stopped early, at look 1 of 4" in text
        assert "a full run would add 1,734 items" in text
    metrics = (recorded.path / "r.txt").read_text("utf-8")
    assert 'calibration_items{model="hot",probe="facts"} 581.0' in metrics
    assert 'calibration_planned_items{model="hot",probe="facts"} 2315.0' in metrics


def test_an_unchanged_model_passes_early(recorded) -> None:
    """Also by the ini key; the note says what a full run would add."""
    recorded.pytester.makeini("[pytest]\ncalibration_early_stop = true\n")
    result = recorded.facts("other", "--calibration-report=r.json")
    result.assert_outcomes(passed=1)
    (verdict,) = results(recorded)
    assert verdict["look"]["asked"] < verdict["look"]["planned"]
    assert "a full run would add" in verdict["notes"][0]


def test_a_limit_asks_for_all_and_changes_no_other_verdict(recorded) -> None:
    """In several processes or alone, the gate is decided at the same look."""
    recorded.write("tests/test_project.py", BOTH)
    looks = []
    for flags in (["-n2"], ["-k", "gate"]):
        result = recorded.facts("other", STOP, "--calibration-report=r.json", *flags)
        assert result.ret == 0
        *limit, gate = results(recorded)
        looks.append(gate["look"])
        if limit:
            assert limit[0]["n"] == 2315
            assert limit[0]["notes"][0].startswith("all 2,315 items were asked: only")
            result.stdout.fnmatch_lines(["early stopping: 2,315 of 2,315 items were asked."])
    assert looks[0] == looks[1]
    assert looks[0]["asked"] < 2315


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--calibration-accept=worse, signed off"], "--calibration-accept"),
        (["--calibration-history=h.jsonl", "--calibration-dump=items"], "--calibration-history"),
    ],
)
def test_what_keeps_measurements_asks_for_all(recorded, flags: list[str], named: str) -> None:
    """A record, a history and a dump are of all items; the summary says that nothing stops."""
    result = recorded.facts("hot", STOP, *flags, "--calibration-report=r.json")
    result.stdout.fnmatch_lines(
        [f"early stopping is off: {named} keeps measurements, which are of all items."]
    )
    assert {r["n"] for r in results(recorded)} == {2315}
    if "accept" in named:
        assert Baselines(recorded.baselines).load("facts").n == 2315
    if "history" in named:
        assert [line.n for line in History(recorded.path / "h.jsonl").read()] == [2315]
        (file,) = (recorded.path / "items").iterdir()
        assert len(file.read_text("utf-8").splitlines()) >= 2315


def test_a_first_record_is_of_all_items(project) -> None:
    """Recording always scores all."""
    result = project.facts("base", "--calibration-record", STOP)
    assert result.ret == 0
    assert Baselines(project.baselines).load("facts").n == 2315


def test_without_a_baseline_a_quarter_is_asked(project) -> None:
    """Its numbers are said to be those of a part; the command that records does not stop early."""
    caution = "these are the numbers of the first 581 of 2,315 items: where nothing is compared"
    reports = [f"--calibration-report=r.{ending}" for ending in ("json", "md", "txt")]
    result = project.facts("base", STOP, *reports)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * measured: * on the first 581 of 2,315 items",
            "base * facts * 581 of 2,315 *no baseline",
            f"facts on base: {caution}, no more are asked.",
            "early stopping: 581 of 2,315 items were asked.",
        ]
    )
    (verdict,) = results(project)
    assert (verdict["n"], verdict["asked_of"], verdict["look"]) == (581, 2315, None)
    assert caution in (project.path / "r.md").read_text("utf-8")
    metrics = (project.path / "r.txt").read_text("utf-8")
    assert 'calibration_planned_items{model="base",probe="facts"} 2315.0' in metrics
    (command,) = [line for line in result.outlines if "to record it:" in line][:1]
    assert STOP not in command


def test_holm_decides_on_what_the_looks_found(recorded) -> None:
    """The p-value of a look counts those before, and the correction takes it as any other."""
    flags = (STOP, "--calibration-family=holm", "--calibration-report=r.json")
    result = recorded.facts("hot", *flags)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (verdict,) = results(recorded)
    assert (verdict["state"], verdict["fails"]) == ("regressed", True)
    assert verdict["p_value"] < 1e-3
