"""``--calibration-anchor REASON``: from where the drift of accepted steps is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from known_calibration import exact

from pytest_calibration import Baselines
from pytest_calibration.baselines.record import checksum, to_yaml

# Over-confident by as much as a file says, on always the same items.
QUIZ = """
from pathlib import Path
from known_calibration import exact
from pytest_calibration import assert_no_regression

def test_quiz(calibration_baseline):
    gap = float(Path(__file__).with_name("gap").read_text())
    assert_no_regression(exact({0.75: gap}, each=2000), calibration_baseline)

def test_beside_it():
    pass
"""


@pytest.fixture
def quiz(project):
    """A project whose model errs by what is written into a file; two steps are accepted."""
    project.write("tests/test_project.py", QUIZ)

    def run(gap: float, *flags: str) -> pytest.RunResult:
        project.write("tests/gap", str(gap))
        return project.run(*flags)

    project.quiz = run
    project.write("tests/gap", "0")
    store = Baselines(project.baselines)
    store.record(exact({0.75: 0.01}, each=2000))
    for gap, reason in ((0.04, "first step"), (0.07, "second step")):
        store.record(exact({0.75: gap}, each=2000), reason=reason)
    return project


def record(project) -> dict[str, object]:
    """The stored record."""
    return yaml.safe_load((project.baselines / "exact.yaml").read_text("utf-8"))


def test_the_second_step_fails_as_it_is_accepted(quiz) -> None:
    """One accepted step is signed off as a whole; the next is recorded, and their sum fails."""
    for file in quiz.baselines.iterdir():
        file.unlink()
    assert quiz.quiz(0.01, "--calibration-record").ret == 0
    assert quiz.quiz(0.04, "--calibration-accept=first step").ret == 0
    result = quiz.quiz(0.07, "--calibration-accept=second step", "-n", "2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*calibration drifted: probe exact*", "1 baseline written."])
    assert record(quiz)["anchor"]["steps"] == 2


@pytest.mark.parametrize("flags", [[], ["-q"]], ids=["plain", "quiet"])
def test_accepted_steps_that_add_up_fail_and_say_since_when(quiz, flags: list[str]) -> None:
    """The run equals its baseline, and fails by the anchor; the text names it and the steps."""
    result = quiz.quiz(0.07, *flags)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*calibration drifted: probe exact*",
            "*signed gap            0.010    0.070     0.060     0.05? * 0.040  <- fails*",
            "*to count drift from here:*--calibration-anchor=REASON",
        ]
    )
    # However wide the terminal is.
    text = " ".join(line.removeprefix("E").strip() for line in result.outlines)
    assert (
        "since the anchor (recorded first; ECE 0.010) the steps that were accepted have added up: "
        "2 accepted steps ('first step', 'second step'); accepting does not move the anchor."
    ) in text


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "workers"])
def test_it_counts_from_what_is_stored(quiz, workers: list[str]) -> None:
    """The anchor moves to the record, its items stay, and the next run is compared once."""
    before = record(quiz)
    moved = quiz.quiz(0.07, "--calibration-anchor=v2 is the reference", *workers)
    assert moved.ret == 0
    moved.stdout.fnmatch_lines(["1 baseline written."])
    after = record(quiz)
    assert after["anchor"]["reason"] == "v2 is the reference"
    assert after["anchor"]["steps"] == 0
    assert after["anchor"]["items"] == after["items"] == before["items"]
    assert {k for k in before if before[k] != after[k]} == {"anchor", "checksum"}
    (file,) = quiz.baselines.glob("*.npz")
    assert file.name == after["items"]["file"]
    result = quiz.quiz(0.07, "--calibration-report=r.json")
    assert result.ret == 0
    report = json.loads((quiz.path / "r.json").read_text("utf-8"))
    assert [r["against"] for r in report["results"]] == ["baseline"]


def test_the_items_of_the_anchor_survive_recording_accepting_and_pruning(quiz) -> None:
    """Two items files stay, whatever a run does to the records beside them."""
    anchor = quiz.baselines / record(quiz)["anchor"]["items"]["file"]
    content = anchor.read_bytes()
    for gap, flags in (
        (0.07, ["--calibration-record"]),
        (0.10, ["--calibration-accept=third step"]),
        (0.10, ["--calibration-prune"]),
    ):
        quiz.quiz(gap, *flags)
        stored = record(quiz)
        assert stored["anchor"]["items"]["file"] == anchor.name
        assert anchor.read_bytes() == content
        assert {f.name for f in quiz.baselines.glob("*.npz")} == {
            anchor.name,
            stored["items"]["file"],
        }
    assert stored["anchor"]["steps"] == 3


def test_with_an_accepted_step_in_one_run(quiz) -> None:
    """What is accepted is the anchor at once, so that nothing has drifted."""
    result = quiz.quiz(0.2, "--calibration-accept=v3", "--calibration-anchor=new data")
    assert result.ret == 0
    assert record(quiz)["anchor"]["reason"] == "new data"
    assert quiz.quiz(0.2).ret == 0


def test_a_report_shows_the_comparison_with_the_anchor(quiz) -> None:
    """It stands before that with the baseline, with its own tolerance and numbers."""
    names = ("r.json", "r.html", "r.md")
    quiz.quiz(0.07, *(f"--calibration-report={name}" for name in names))
    report = json.loads((quiz.path / "r.json").read_text("utf-8"))
    drift, baseline = report["results"]
    assert (drift["against"], drift["state"], drift["fails"]) == ("anchor", "regressed", True)
    assert (drift["tolerance"], baseline["tolerance"]) == (0.04, 0.02)
    assert (baseline["against"], baseline["state"]) == ("baseline", "passed")
    assert drift["baseline"]["value"] == pytest.approx(0.01)
    for name in names:
        assert "the steps that were accepted have added up" in (quiz.path / name).read_text("utf-8")
    summary = quiz.quiz(0.07).stdout
    summary.fnmatch_lines(["*0.010 (anchor)*regressed*", "*1 regressed, 1 passed*"])


def test_a_record_made_before_says_once_that_drift_is_not_judged(quiz) -> None:
    """Its run passes, with one line in the summary that says what to do."""
    data = record(quiz)
    data["anchor"] = {key: data["anchor"][key] for key in ("ece", "accuracy", "signed_gap", "n")}
    text = to_yaml(data | {"checksum": checksum(data)})
    Path(quiz.baselines / "exact.yaml").write_text(text, "utf-8")
    result = quiz.quiz(0.07)
    assert result.ret == 0
    assert result.stdout.str().count("drift over 2 accepted steps is not judged") == 1
    assert quiz.quiz(0.07, "--calibration-anchor=from here").ret == 0
    assert "not judged" not in quiz.quiz(0.07).stdout.str()


@pytest.mark.parametrize("reason", [" ", "REASON", "<reason>"])
def test_reason_must_be_readable(quiz, reason: str) -> None:
    """A blank reason, or the placeholder of the printed command, is a usage error."""
    stored = quiz.files()
    result = quiz.quiz(0, f"--calibration-anchor={reason}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-anchor needs a reason that a reviewer can read*"])
    assert quiz.files() == stored


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--calibration-parent=runs/base"], "*--calibration-anchor together with*-parent*"),
        (
            ["--calibration-model=runs/base", "--calibration-model=runs/hot"],
            "*--calibration-anchor with 2 models*",
        ),
        (["--calibration-limit=50"], "*recording with --calibration-limit 50, below the 2,000*"),
        (["tests/test_project.py"], "*"),
    ],
    ids=["parent", "models", "limit", "place"],
)
def test_it_keeps_the_rules_of_what_writes(quiz, flags: list[str], message: str) -> None:
    """Like recording and accepting: no parent, no two models, no limit below what is stored."""
    stored = quiz.files()
    if flags == ["tests/test_project.py"]:
        result = quiz.quiz(0, "--calibration-anchor", *flags)
        message = "*--calibration-anchor took 'tests/test_project.py', which is a place of tests*"
    else:
        result = quiz.quiz(0, "--calibration-anchor=x", *flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert quiz.files() == stored


def test_it_has_no_ini_key(project) -> None:
    """As a lasting setting it would switch the count of drift off."""
    project.pytester.makeini("[pytest]\ncalibration_anchor = always\n")
    result = project.run()
    assert "Unknown config option: calibration_anchor" in result.stdout.str()
