"""``--calibration-operating-point``: thresholds at which precision and coverage are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

SURE = """
import numpy as np
from pytest_calibration import Predictions, assert_no_regression, assert_no_regression_at

def predictions(wrong):
    i = np.arange(1000)
    correct = np.where(i < 500, i >= wrong, i % 2 == 0)
    return Predictions.from_confidence(np.where(i < 500, 0.95, 0.5), correct, probe="quiz")

def test_quiz():
    assert_no_regression(predictions(55), predictions(25), tolerance=0.5, accuracy_tolerance=None)

def test_again():
    assert_no_regression_at(predictions(25), predictions(25), 0.4)
"""
POINTS = "tail: 1\noperating_points: [0.9]\n"


def verdicts(project, *flags: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code, and the verdicts of ``test_quiz``."""
    result = project.run("--calibration-report=r.json", *flags)
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    mine = [one for one in report["results"] if one["test"].endswith("::test_quiz")]
    return int(result.ret), mine


@pytest.mark.parametrize("place", ["flag", "ini", "yaml", "probe"])
def test_a_fall_at_the_point_fails(project, place: str) -> None:
    """Wherever it is named; without it the test passes. One process, and for the file two more."""
    project.write("tests/test_project.py", SURE)
    project.write("calibration.yaml", "tail: 1\n")
    flags = []
    if place == "flag":
        assert verdicts(project)[0] == 0
        flags = ["--calibration-operating-point=0.9", "--calibration-operating-point=0.3"]
    if place == "ini":
        project.pytester.makeini("[pytest]\ncalibration_operating_point = 0.9 0.3\n")
    if place == "yaml":
        project.write("calibration.yaml", "tail: 1\noperating_points: [0.9, 0.3]\n")
        flags = ["-n2", "--calibration-history=h.jsonl"]
    if place == "probe":
        own = "{quiz: {kind: facts, path: x.jsonl, operating_points: [0.9, 0.3]}}"
        project.write("calibration.yaml", f"tail: 1\noperating_points: [0.2]\nprobes: {own}\n")
    code, found = verdicts(project, *flags)
    assert code == 1
    assert [one["state"] for one in found] == ["passed", "regressed", "passed"]
    if "-n2" in flags:
        lines = (project.path / "h.jsonl").read_text("utf-8").splitlines()
        numbers = [json.loads(line)["metrics"] for line in lines]
        assert [n["precision@0.9"]["value"] for n in numbers] == [0.89, 0.95]
    point = found[1]["point"]
    assert (point["name"], point["coverage"]["value"]) == ("0.9", 0.5)
    assert (point["precision"]["value"], point["precision_before"]["value"]) == (0.89, 0.95)
    assert [c["name"] for c in found[1]["components"] if c["fired"]] == ["precision"]


def test_none_switches_off_what_the_project_names(project) -> None:
    """The flag goes before the file."""
    project.write("tests/test_project.py", SURE)
    project.write("calibration.yaml", POINTS)
    code, found = verdicts(project, "--calibration-operating-point=none")
    assert (code, len(found)) == (0, 1)


def test_every_report_and_the_history_have_both_numbers(project) -> None:
    """Terminal, Markdown, HTML, OpenMetrics, and a line of the history for all assertions."""
    project.write("tests/test_project.py", SURE)
    project.write("calibration.yaml", POINTS)
    files = [f"--calibration-report=r.{kind}" for kind in ("md", "html", "txt")]
    result = project.run(*files, "--calibration-history=h.jsonl")
    result.stdout.fnmatch_lines(
        [
            "*precision regressed at 0.9: probe quiz*",
            "*precision * 0.950 * 0.890 *<- fails",
            "*of the 500 answers at or above 0.9",
            "*quiz *1,000 *precision at 0.9 *0.890 *0.500 (0.500)*regressed (precision)",
        ]
    )

    def read(name: str) -> str:
        return (project.path / name).read_text("utf-8")

    assert "| precision at 0.9 | 1,000 | 0.890 |" in read("r.md")
    assert "| 0.500 (0.500) |" in read("r.md")
    assert "coverage 0.500 (0.500)" in read("r.html")
    labels = 'model="test_quiz",probe="quiz",threshold="0.9"}'
    assert f"calibration_precision{{{labels} 0.89\n" in read("r.txt")
    assert f"calibration_coverage{{{labels} 0.5\n" in read("r.txt")
    lines = [json.loads(line)["metrics"] for line in read("h.jsonl").splitlines()]
    assert [line["precision@0.9"]["value"] for line in lines] == [0.89, 0.95]
    assert [line["coverage@0.9"]["value"] for line in lines] == [0.5, 0.5]
    assert "coverage@0.4" in lines[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.5"], "must be a number of at least 0 and at most 1, got 1.5"),
        (["high"], "must be a number of at least 0 and at most 1, got 'high'; none alone"),
        (["0.9", "none"], "must be a number of at least 0 and at most 1, got 'none'"),
        (["0.9", "0.90"], "names a threshold twice: 0.9, 0.90."),
    ],
)
def test_a_value_that_is_no_threshold_is_a_usage_error(
    project, values: list[str], message: str
) -> None:
    """By flag and value."""
    result = project.run(*(f"--calibration-operating-point={value}" for value in values))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--calibration-operating-point {message}" in result.stderr.str()
