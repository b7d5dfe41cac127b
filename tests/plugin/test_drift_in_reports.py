"""Reports of a run that adds to a history show the history."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from user_project import Project

MODELS = """
import numpy as np
import pytest
from pytest_calibration import assert_ece_below
from pytest_calibration.predictions import Predictions, Signature

@pytest.mark.parametrize("step", STEPS)
def test_it(step):
    right = np.arange(1000) < 900 - 2 * step
    p = Predictions.from_confidence(
        np.full(1000, 0.9), right, item_ids=range(1000), probe="quiz",
        signature=Signature(soft={"model": f"runs/sft/checkpoint-{step}"}),
    )
    assert_ece_below(p, 0.9)
"""


def test_a_report_shows_the_history(project: Project) -> None:
    """What earlier runs measured, then this one's; where it broke and which is best, as values."""
    reports = ("r.html", "r.json", "r.md")
    flags = ("--calibration-history=h.jsonl", *(f"--calibration-report={one}" for one in reports))
    project.write("tests/test_project.py", f"STEPS = (0, 10, 20)\n{MODELS}")
    project.run(*flags)
    project.write("tests/test_project.py", f"STEPS = (30, 40)\n{MODELS}")
    project.run(*flags).assert_outcomes(passed=2)
    tree = json.loads((project.path / "r.json").read_text("utf-8"))
    (course,) = tree["drifts"]
    readings = course["readings"]
    assert (course["probe"], course["run"], course["axis"]) == ("quiz", "runs/sft", "step")
    assert [r["label"] for r in readings] == ["0", "10", "20", "30", "40"]
    assert [r["now"] for r in readings] == [False, False, False, True, True]
    # The accuracy falls by 0.02 every ten steps, at one confidence.
    assert [round(r["accuracy"], 3) for r in readings] == [0.9, 0.88, 0.86, 0.84, 0.82]
    assert [r["worse"] for r in readings] == [False, False, True, True, True]
    assert [r["best"] for r in readings] == [True, False, False, False, False]
    assert course["state"] == "regressed"
    page = html.unescape((project.path / "r.html").read_text("utf-8"))
    markdown = (project.path / "r.md").read_text("utf-8")
    assert "<bdi>quiz</bdi> along <bdi>runs/sft</bdi>" in page
    assert "Drift of quiz along runs/sft" in markdown
    for sentence in course["sentences"]:
        assert sentence in page
    assert "first worse than the first checkpoint: checkpoint 20 (" in course["sentences"][0]


def test_without_a_history_there_is_none(project: Project) -> None:
    """Reports of a session without one have no courses."""
    project.write("tests/test_project.py", f"STEPS = (0, 10)\n{MODELS}")
    project.run("--calibration-report=r.json")
    assert json.loads((project.path / "r.json").read_text("utf-8"))["drifts"] == []
