"""Predictions that a test made itself: reports and dumps tell them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_calibration.plugin.made_in_tests import MadeInTests
from pytest_calibration.predictions import Predictions

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])

HELPER = """
import numpy as np
import pytest
from pytest_calibration import Predictions, assert_accuracy_above, assert_ece_below

def answers(confidence, **more):
    correct = np.arange(100) < 80
    return Predictions.from_confidence([confidence] * 100, correct, probe="triage", **more)
"""
# Two checkpoints of no name; in two files, a test of one name.
NAMELESS = """
@pytest.mark.parametrize("confidence", [0.75, 0.875])
def test_gate(confidence):
    assert_ece_below(answers(confidence), 0.5)
    assert_accuracy_above(answers(confidence), 0.5)
"""
IN_A_LOOP = """
def test_gate():
    for confidence in (0.75, 0.875):
        assert_ece_below(answers(confidence), 0.5)
        assert_accuracy_above(answers(confidence), 0.5)
"""
NAMED = """
@pytest.mark.parametrize("confidence", [0.75, 0.875])
def test_gate(confidence):
    assert_ece_below(answers(confidence, model=f"runs/{confidence}"), 0.5)
"""
FOR_A_MODEL = """
def test_gate(calibration_model_spec):
    assert_ece_below(answers(0.75 if "base" in calibration_model_spec else 0.875), 0.5)

def test_other_probe_of_the_same_name(calibration_model_spec):
    assert_ece_below(answers(0.625), 0.5)
"""
ONE_FIXTURE = """
@pytest.fixture(scope="module")
def shared():
    return answers(0.75)

def test_ece(shared):
    assert_ece_below(shared, 0.5)

def test_accuracy(shared):
    assert_accuracy_above(shared, 0.5)
"""


def dumped(folder: Path) -> dict[str, tuple[str, float]]:
    """The model and the confidence of each file, by the name of the file without its digest."""
    out = {}
    for path in sorted(folder.iterdir()):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        ((model, confidence),) = {(row.get("model", ""), row["confidence"]) for row in rows}
        out[path.name] = model, confidence
    return out


@WORKERS
@pytest.mark.parametrize("tests", [NAMELESS, IN_A_LOOP], ids=["parametrised", "loop"])
def test_nameless_predictions_do_not_overwrite_each_other(
    project: Project, tests: str, workers: list[str]
) -> None:
    """Each set of answers has one dump, in every order of the tests, and again the same."""
    project.write("tests/test_project.py", HELPER + tests)
    project.write("tests/test_again.py", HELPER + tests.replace("0.875", "0.625"))
    for _ in range(2):
        assert project.run("--calibration-dump=items", *workers).ret == 0
        found = dumped(project.path / "items")
        assert sorted(found.values()) == [("", 0.625), ("", 0.75), ("", 0.75), ("", 0.875)]
        assert all(name.startswith("triage@test_gate") for name in found)


def test_reports_tell_nameless_predictions_apart(project: Project) -> None:
    """For want of a model, the test stands in its place: terminal, Markdown, HTML, OpenMetrics."""
    project.write("tests/test_project.py", HELPER + NAMELESS)
    files = ["report.md", "report.html", "report.txt"]
    result = project.run(*(f"--calibration-report={file}" for file in files))
    for name in ("test_gate[0.75]", "test_gate[0.875]"):
        result.stdout.fnmatch_lines([f"{name.replace('[', '[[]')} * triage *passed"])
        for file in files:
            assert name in (project.path / file).read_text("utf-8")


@WORKERS
def test_predictions_that_name_their_model_are_told_apart_by_it(
    project: Project, workers: list[str]
) -> None:
    """The file bears probe and model."""
    project.write("tests/test_project.py", HELPER + NAMED)
    result = project.run("--calibration-dump=items", *workers)
    found = dumped(project.path / "items")
    assert sorted(found.values()) == [("runs/0.75", 0.75), ("runs/0.875", 0.875)]
    result.stdout.fnmatch_lines_random(["runs/0.75 * triage *", "runs/0.875 * triage *"])


@WORKERS
def test_a_test_that_runs_for_a_model_names_it(project: Project, workers: list[str]) -> None:
    """Predictions made in it bear that model, and those of another test are not overwritten."""
    project.write("tests/test_project.py", HELPER + FOR_A_MODEL)
    models = [f"--calibration-model=runs/{name}" for name in ("base", "hot")]
    result = project.run("--calibration-dump=items", *models, *workers)
    assert result.ret == 0
    found = dumped(project.path / "items")
    assert sorted(found.values()) == [
        ("base", 0.625),
        ("base", 0.75),
        ("hot", 0.625),
        ("hot", 0.875),
    ]
    result.stdout.fnmatch_lines_random(["base * triage *", "hot * triage *"])


def test_what_several_tests_share_is_dumped_once(project: Project) -> None:
    """Predictions of one fixture are one set of answers."""
    project.write("tests/test_project.py", HELPER + ONE_FIXTURE)
    assert project.run("--calibration-dump=items").ret == 0
    assert len(dumped(project.path / "items")) == 1


def test_no_hidden_character_reaches_the_properties_of_a_test(project: Project) -> None:
    """A name that turns the direction of text is escaped in JUnit's file, too."""
    named = '    assert_ece_below(answers(0.75, model="a\\u202eb\\u2066c"), 0.5)\n'
    project.write("tests/test_project.py", f"{HELPER}\ndef test_gate():\n{named}")
    project.run("--junit-xml=junit.xml", "--calibration-report=report.md")
    for file in ("junit.xml", "report.md"):
        text = (project.path / file).read_text("utf-8")
        assert not {"\u202e", "\u2066"} & {*text}
    assert r"a\u202eb\u2066c" in (project.path / "junit.xml").read_text("utf-8")


# --- without a session ----------------------------------------------------------------------------


def answers(confidence: float = 0.5, **more: Any) -> Predictions:
    """Two answers."""
    return Predictions.from_confidence([confidence] * 2, [True, False], **more)


def test_a_rerun_takes_the_place_of_the_first_attempt() -> None:
    """The second attempt of a test has the source of the first, whatever its answers."""
    made = MadeInTests()
    first = made.named(answers(0.5), "t.py::test", "")
    made.drop("t.py::test")
    assert made.named(answers(0.75), "t.py::test", "").source == first.source == "t.py::test"
    assert made.named(answers(0.875), "t.py::test", "").source == "t.py::test (2)"
    assert made.named(answers(0.75), "t.py::test", "").source == "t.py::test"


def test_a_named_model_needs_no_source_until_its_answers_differ() -> None:
    """Other answers of the same model to the same items are told apart by the test."""
    made = MadeInTests()
    one, again, other = (answers(c, model="sft") for c in (0.5, 0.5, 0.75))
    assert made.named(one, "t.py::a", "spec") is one
    assert made.named(again, "t.py::b", "spec") is again
    found = made.named(other, "t.py::c", "spec")
    assert (found.source, found.signature.soft["model"]) == ("t.py::c", "sft")


def test_predictions_are_not_kept_alive() -> None:
    """What tells predictions apart holds none of their arrays."""
    import gc
    import weakref

    made = MadeInTests()
    for one in (answers(), answers(model="sft")):
        made.named(one, "t.py::test", "")
    kept = weakref.ref(one)
    del one
    gc.collect()
    assert kept() is None
