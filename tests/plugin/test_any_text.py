"""Any text reaches every report from every process, half a surrogate pair too."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import yaml

from pytest_calibration import Baselines

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
# What is left of an emoji that was cut in half; pytest-dev/pytest-xdist#843.
CUT = "cut \ud83d"
START = """
import numpy as np
import pytest
from pytest_calibration import Predictions, assert_ece_below, assert_no_regression
from pytest_calibration.predictions import Signature

CUT = "cut \\ud83d"
N = 300

def answers(confidence=0.95, **columns):
    columns.setdefault("item_ids", range(N))
    return Predictions.from_confidence(np.full(N, confidence), np.arange(N) % 2 == 0, **columns)
"""
TESTS = (
    START
    + """
@pytest.mark.parametrize("columns", [
    {"slices": [CUT] * N},
    {"groups": [f"{CUT} {i // 2}" for i in range(N)]},
    {"item_ids": [f"{CUT} {i}" for i in range(N)]},
    {"texts": [f"{CUT} {i}" for i in range(N)]},
    {"signature": Signature({f"{CUT} key": CUT}, {"model": CUT, f"{CUT} key": CUT})},
], ids=["slice", "group", "id", "text", "model"])
def test_regressed(columns):
    assert_ece_below(answers(**columns), 0.02)

def test_message():
    assert_ece_below(answers(0.5), 0.5)
    assert False, CUT

def test_output():
    print(CUT)
    assert_ece_below(answers(0.5), 0.5)
    pytest.skip(CUT)

def test_probe():
    answers(probe=CUT)

def test_limit():
    assert_ece_below(answers(), CUT)
"""
)


@WORKERS
def test_any_text_reaches_every_report(project: Project, workers: list[str]) -> None:
    """No verdict is lost, in a worker or out of it, and every report is written."""
    project.isolated = True
    project.write("tests/test_project.py", TESTS)
    endings = ("json", "md", "html", "txt")
    result = project.run(
        *workers,
        *(f"--calibration-report=r.{ending}" for ending in endings),
        *("--calibration-item-text=reports", "--calibration-dump=dump", "--junitxml=j.xml"),
    )
    result.assert_outcomes(failed=8, skipped=1)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*by a defect of pytest-calibration*")
    # Sentences of ours, and none of Python's about an encoding.
    result.stdout.no_fnmatch_line("*UnicodeEncodeError*")
    result.stdout.fnmatch_lines(["*a probe needs a printable name, got 'cut ?ud83d'*"])
    result.stdout.fnmatch_lines(["*the limit must be a number, got 'cut ?ud83d'*"])
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    assert len(report["results"]) == 7
    assert sum(one["state"] == "above_limit" for one in report["results"]) == 5
    for ending in endings:
        assert list(project.path.glob(f"r*.{ending}")), ending
    ElementTree.parse(project.path / "j.xml")
    assert any((project.path / "dump").iterdir())


@WORKERS
def test_the_last_verdict_under_v_is_not_lost(project: Project, workers: list[str]) -> None:
    """A passing test alone, with details: its verdict is in the report."""
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START + "\ndef test_it():\n    assert_ece_below(answers(0.5, slices=[CUT] * N), 0.5)\n",
    )
    result = project.run("-v", "--calibration-report=r.json", *workers)
    assert result.ret == 0
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    assert [one["state"] for one in report["results"]] == ["passed"]
    assert report["green"] is True


@WORKERS
def test_any_text_is_recorded_and_read_again(project: Project, workers: list[str]) -> None:
    """A record holds any text of a signature, and the next run compares with it."""
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START
        + """
def test_it(calibration_baseline):
    settings = Signature({f"{CUT} key": CUT}, {"model": CUT, f"{CUT} key": CUT})
    assert_no_regression(answers(0.5, slices=[CUT] * N, signature=settings), calibration_baseline)
""",
    )
    assert project.run("--calibration-record", *workers).ret == 0
    signature = Baselines(project.baselines).load("confidence").predictions.signature
    assert signature.hard == {f"{CUT} key": CUT}
    assert signature.soft == {"model": CUT, f"{CUT} key": CUT}
    # Plain YAML, in UTF-8, to any other reader.
    text = (project.baselines / "confidence.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["signature"]["hard"] == signature.hard
    result = project.run(*workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 passed"])


def test_a_flag_that_is_not_utf8_is_refused_with_workers(recorded: Project) -> None:
    """pytest-xdist cannot send such a flag: the run says so before it starts."""
    recorded.isolated = True
    flag = os.fsdecode(b"--calibration-dump=gr\xf6\xdfe")
    result = recorded.facts("base", "-n", "1", flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-dump: 'gr?udcf6?udcdfe' is not UTF-8*without -n*"])


def test_a_worker_that_hands_nothing_over_makes_the_run_red(project: Project) -> None:
    """A worker that ends after its tests, before its results are handed over, is no green run."""
    project.isolated = True
    project.write("tests/test_project.py", START + "\ndef test_it(calibration_baseline): pass\n")
    project.write(
        "tests/conftest.py",
        """
import os
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        os._exit(0)
""",
    )
    result = project.run("-n", "1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: a worker of pytest-xdist ended without handing over*"])
