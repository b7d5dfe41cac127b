"""Probes with free answers, named in ``calibration.yaml``."""

from __future__ import annotations

import json

CONFTEST = """
import pytest
from answering import Answering
from fakes import unit

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    stated = 0.95 if "hot" in calibration_model_spec else 0.6

    def right(prompt):
        return unit("right", prompt.rsplit("Question: ", 1)[1].split("?")[0]) < 0.6

    def says(prompt, seed=0):
        if prompt.endswith("Guess:"):
            return f" {'yes' if right(prompt) else 'no'}\\nProbability: {stated:.0%}"
        if seed and unit("seed", seed) > 0.6:
            return f"other {seed}"
        return "yes" if right(prompt) else "no"

    return Answering(says, true=lambda _: stated)
"""
CONFIG = """
probes:
  p-true: {kind: p_true, path: rows.jsonl}
  stated: {kind: verbalized, path: rows.jsonl}
  agreement: {path: rows.jsonl, samples: 5, temperature: 0.8}
  sequence: {path: rows.jsonl, logprob: mean, limit: 100, stop: [".", "\\n"]}
"""


def test_all_kinds_are_listed_recorded_and_gated(project) -> None:
    """A model that becomes surer fails where it says so, and nowhere else."""
    rows = [{"question": f"Is {i} a number?", "answer": "yes"} for i in range(160)]
    project.write("rows.jsonl", "\n".join(map(json.dumps, rows)))
    project.write("calibration.yaml", CONFIG)
    project.pytester.makeconftest(CONFTEST)
    project.run("--calibration-list").stdout.re_match_lines(
        [
            r"\* p-true +p_true +160 questions",
            r"\* stated +verbalized +160 questions",
            r"\* agreement +agreement +160 questions",
            r"\* sequence +sequence +160 questions",
        ]
    )
    recorded = project.run("--calibration-model=runs/base", "--calibration-record")
    assert recorded.ret == 0, recorded.outlines
    recorded.stdout.fnmatch_lines(["*4 recorded*"])
    again = project.run("--calibration-model=runs/base")
    assert again.ret == 0, again.outlines
    hot = project.run("--calibration-model=runs/hot", "--calibration-report=report.json")
    assert hot.ret == 1
    report = json.loads((project.path / "report.json").read_text("utf-8"))
    states = {result["probe"]: result["state"] for result in report["results"]}
    assert states == {
        "p-true": "regressed",
        "stated": "regressed",
        "agreement": "passed",
        "sequence": "passed",
    }


def test_the_share_that_cannot_be_read_stands_in_every_report(project) -> None:
    """In the summary and in the reports, though nothing fails."""
    project.write("calibration.yaml", "probes: {stated: {kind: verbalized, limit: 200}}\n")
    mumbling = """
import pytest
from answering import Answering
from fakes import unit

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return Answering(lambda p: " x\\nProbability: " + ("?" if unit(p) < 0.05 else "10%"))
"""
    project.pytester.makeconftest(mumbling)
    names = ["report.md", "report.json", "report.html"]
    reports = [f"--calibration-report={name}" for name in names]
    result = project.run("--calibration-model=runs/base", "--calibration-record", *reports)
    assert result.ret == 0, result.outlines
    sentence = "no probability can be read from "
    assert sentence in " ".join(result.stdout.str().split())
    for name in names:
        text = " ".join((project.path / name).read_text("utf-8").split())
        assert sentence in text, name
    (record,) = (path for path in project.baselines.iterdir() if path.suffix == ".yaml")
    assert " of 200" in record.read_text("utf-8")


def test_too_many_unreadable_answers_are_an_error_of_the_test(project) -> None:
    """The probe fails by name; nothing is recorded."""
    project.write("calibration.yaml", "probes: {stated: {kind: verbalized, limit: 60}}\n")
    project.pytester.makeconftest(CONFTEST.replace("{stated:.0%}", "sure"))
    result = project.run("--calibration-model=runs/base", "--calibration-record")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'stated': no probability can be read from 60 of 60 answers*"])
    assert not project.baselines.exists()
