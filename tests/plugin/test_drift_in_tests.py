"""``assert_no_drift`` in a test: counted, reported and judged as strictly as the project is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from known_calibration import exact

from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line

GATE = """
from pytest_calibration import assert_no_drift

def test_no_drift():
    assert_no_drift("history.jsonl", "quiz")

def test_beside_it():
    pass
"""


@pytest.fixture
def trained(project):
    """A project with a history of four checkpoints, each worse than the one before by 0.03."""
    file = History(project.path / "history.jsonl")
    for step, gap in ((0, 0.0), (100, 0.03), (200, 0.06), (300, 0.09)):
        p = replace(exact({0.6: gap, 0.8: gap}, each=1000), probe="quiz")
        place = Checkpoint(f"runs/sft/checkpoint-{step}", step=step)
        file.append(Line.of(p, checkpoint=place), p)
    project.write("tests/test_project.py", GATE)
    return project


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one-process", "workers"])
def test_a_drift_fails_and_is_reported(trained, workers: list[str]) -> None:
    """The text says from where to where; the report has the line's ends and no remedy."""
    result = trained.run("--calibration-report=r.json", *workers)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*calibration drifted: probe quiz on runs/sft/checkpoint-300*",
            "*from step 0 to 300, along the line through 4 checkpoints*",
            "*signed gap            0.000    0.090     0.090*<- fails",
        ]
    )
    (found,) = json.loads((trained.path / "r.json").read_text("utf-8"))["results"]
    assert (found["against"], found["state"], found["remedy"]) == ("run", "regressed", None)
    gap = found["components"][0]
    assert (gap["before"], gap["after"]) == pytest.approx((0.0, 0.09), abs=1e-6)
    assert any(line.startswith("300 ") for line in found["explanation"])


def test_every_report_shows_a_run_without_items(trained) -> None:
    """Where only the numbers of the lines are known, no report asks for items."""
    for file in (trained.path / "history.jsonl.items").iterdir():
        file.unlink()
    names = ["r.html", "r.md", "r.json", "r.txt", "r.svg"]
    result = trained.run("-v", *(f"--calibration-report={name}" for name in names))
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*as if all were independent*"])
    for name in names[:3]:
        text = (trained.path / name).read_text("utf-8")
        assert "along the line through 4 checkpoints" in text
        assert "as if all were independent" in text


def test_the_strictness_of_the_project_counts(trained) -> None:
    """A tolerance of the probe in calibration.yaml, and that of the flag before it."""
    trained.write("calibration.yaml", "probes: {quiz: {kind: facts, path: x, tolerance: 0.2}}\n")
    gate = GATE.replace('"quiz"', '"quiz", accuracy_tolerance=None')
    trained.write("tests/test_project.py", gate)
    trained.run().assert_outcomes(passed=2)
    trained.run("--calibration-tolerance=0.01").assert_outcomes(failed=1, passed=1)


def test_one_checkpoint_alone_is_not_green(trained) -> None:
    """Where the only comparison is inconclusive, nothing was decided; so a run says."""
    path = trained.path / "history.jsonl"
    path.write_text(path.read_text("utf-8").partition("\n")[0] + "\n", "utf-8")
    result = trained.run()
    result.stdout.fnmatch_lines(["*1 inconclusive*"])
    trained.run("-o", "calibration_inconclusive=fail").assert_outcomes(failed=1, passed=1)


def test_a_history_that_is_missing_is_one_sentence(trained) -> None:
    """No traceback of ours, and no pass."""
    (trained.path / "history.jsonl").unlink()
    result = trained.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*HistoryError: history.jsonl*"])
