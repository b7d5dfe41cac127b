"""What weakens a comparison stands in every report and at every verbosity."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from pytest_calibration import Baselines

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
TESTS = """
import numpy as np
from pytest_calibration import Predictions, assert_no_regression
from pytest_calibration.predictions import Signature

def answers(rows, confidence, dtype):
    correct = np.random.default_rng(0).random(4000) < 0.5
    signature = Signature({{}}, {{"model": "sft", "dtype": dtype}})
    rows = np.arange(4000)[correct] if rows == "right ones" else np.arange(4000)[:rows]
    return Predictions.from_confidence(
        np.full(len(rows), confidence), correct[rows], item_ids=rows, probe="quiz",
        signature=signature,
    )

def test_it(calibration_baseline):
    now = answers({rows!r}, {confidence}, {dtype!r})
    assert_no_regression(now{limited}, calibration_baseline)
"""
REPORTS = ("json", "md", "html", "txt")


def project_with(
    project: Project,
    *,
    rows: object = 4000,
    confidence: float = 0.5,
    dtype: str = "float32",
    limited: str = "",
) -> None:
    """Write a test of these answers."""
    settings = {"rows": rows, "confidence": confidence, "dtype": dtype, "limited": limited}
    project.write("tests/test_project.py", TESTS.format(**settings))


@WORKERS
def test_what_weakens_a_comparison_is_told_everywhere(project: Project, workers: list[str]) -> None:
    """A part of the items, another dtype, a tolerance of 0.5 in the record: in every report."""
    project_with(project)
    assert project.run("--calibration-record").ret == 0
    path = project.baselines / "quiz.yaml"
    path.write_text(path.read_text().replace("tolerance: null", "tolerance: 0.5"))
    project_with(project, confidence=0.7, dtype="float16", limited=".limited(3000)")
    told = (
        "3,000 of the 3,000 items here are among the baseline's 4,000",
        "differs from the baseline in dtype float16 (float32)",
        "tolerance 0.5 instead of 0.02",
    )
    reports = [f"--calibration-report=r.{ending}" for ending in REPORTS]
    for verbosity in ([], ["-q"], ["-qq"], ["-v"]):
        flags = verbosity or [*workers, *reports, "--junitxml=j.xml"]
        result = project.run(*flags)
        assert result.ret == 0
        summary = result.stdout.str().partition("= calibration =")[2]
        assert all(sentence in summary for sentence in told), verbosity
        if "-q" not in verbosity and "-qq" not in verbosity:
            assert re.search(r"quiz +3,000 of 4,000 ", summary)
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    (one,) = report["results"]
    assert (one["state"], one["n"], one["candidate_n"], one["baseline_n"]) == (
        *("passed", 3000, 3000, 4000),
    )
    assert one["differences"] == [{"name": "dtype", "now": "float16", "before": "float32"}]
    assert one["settings"] == [{"name": "tolerance", "value": 0.5, "default": 0.02}]
    assert len(one["cautions"]) == 3
    for ending in ("md", "html"):
        text = (project.path / f"r.{ending}").read_text("utf-8")
        plain = html.unescape(re.sub(r"<[^>]*>|\\", "", text))
        assert all(sentence in plain for sentence in told), ending
        assert "3,000 of 4,000" in plain
    metrics = (project.path / "r.txt").read_text("utf-8")
    assert re.search(r"calibration_baseline_items\{[^}]*\} 4000", metrics)
    assert re.search(r"calibration_compared_items\{[^}]*\} 3000", metrics)
    cases = ElementTree.parse(project.path / "j.xml").iter("property")
    found = {case.get("name"): case.get("value") for case in cases}
    assert found["calibration.1.baseline_n"] == "4000"
    assert all(sentence in (found["calibration.1.cautions"] or "") for sentence in told)


@pytest.mark.parametrize("rows", ["right ones", 300], ids=["flattering", "cut file"])
@WORKERS
def test_a_part_of_the_probe_is_not_comparable(
    project: Project, rows: object, workers: list[str]
) -> None:
    """Fewer than 95 % of the baseline's items, chosen by no limit, are not compared."""
    project_with(project)
    assert project.run("--calibration-record").ret == 0
    project_with(project, rows=rows, confidence=0.9)
    result = project.run(*workers)
    assert result.ret == 1
    assert "not comparable: probe quiz on sft" in result.stdout.str()
    text = re.sub(r"\nE? +", " ", result.stdout.str())
    assert re.search(r"only \d+ % of the baseline is here, and not a part that a limit takes", text)


def test_a_limit_says_that_a_part_is_meant(project: Project) -> None:
    """With --calibration-limit, a part that another rule took is compared where it reaches it."""
    project_with(project)
    assert project.run("--calibration-record").ret == 0
    project_with(project, rows=1600)
    result = project.run("--calibration-limit=1600")
    assert result.ret == 0
    assert "1,600 of the 1,600 items here are among the baseline's 4,000" in result.stdout.str()
    # The limit is not why there are so few.
    assert project.run("--calibration-limit=1601").ret == 1


def test_accepting_stores_the_part(project: Project) -> None:
    """A probe that was made smaller on purpose is accepted, and holds from then on."""
    project_with(project)
    assert project.run("--calibration-record").ret == 0
    project_with(project, rows=300)
    assert project.run("--calibration-accept=smaller probe").ret == 0
    assert Baselines(project.baselines).load("quiz").n == 300
    result = project.run()
    assert result.ret == 0
    assert "here are among" not in result.stdout.str()
