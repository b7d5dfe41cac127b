"""Predictions of files in tests: recorded, compared, and named by their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from user_project import Project

GATE = """
import pytest
from pytest_calibration import assert_ece_below, assert_no_regression, read_predictions

@pytest.mark.parametrize("name", ["base", "sft"])
def test_gate(name, calibration_baseline):
    assert_ece_below(read_predictions(f"{name}.csv", probe="quiz"), 0.5)
    if name == "base":
        assert_no_regression(read_predictions("base.csv", probe="quiz"), calibration_baseline)
"""


def test_files_are_gated_in_tests(project: Project) -> None:
    """Reports tell two models apart by their files, and records bear their names."""
    rows = "".join(f"0.{5 + i % 5},{int(i % 10 < 7)}\n" for i in range(200))
    for name in ("base", "sft"):
        project.write(f"{name}.csv", f"confidence,correct\n{rows}")
    project.write("tests/test_project.py", GATE)
    result = project.run("--calibration-record", "--calibration-report=r.md")
    assert result.ret == 0, result.outlines
    for name in ("base.csv", "sft.csv"):
        result.stdout.fnmatch_lines([f"{name} * quiz *passed"])
        assert name in (project.path / "r.md").read_text("utf-8")
    assert "model: base.csv" in (project.baselines / "quiz.yaml").read_text("utf-8")
    assert project.run().ret == 0
