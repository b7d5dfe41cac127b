"""What the verdicts measured, added to a history."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes import FakeModel

from pytest_calibration import ece
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.plugin.measured import WORST_FIRST
from pytest_calibration.probes.facts import Facts

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])

CHECKPOINTS = """
import pytest
from pytest_calibration import assert_ece_below, assert_no_regression

def test_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)

def test_limit(calibration):
    assert_ece_below(calibration.run("facts"), 0.1)
"""

# Loading a checkpoint needs torch; here it gives a fake of the same name.
LOADER = """
import pytest_calibration.models.loading

def load_model(spec, settings=None, cache=None):
    model = FakeModel(getattr(spec, "name", spec), sharpen=0.2)
    model.release = lambda: None
    return model

pytest_calibration.models.loading.load_model = load_model
"""


def make_checkpoints(project: Project, *names: str) -> None:
    """Make folders in runs, and a test of each kind."""
    for name in names:
        (project.path / "runs" / name).mkdir(parents=True)
    project.write("tests/test_project.py", CHECKPOINTS)


def read(project: Project, name: str = "history.jsonl") -> list[Line]:
    """The lines of a history, of which none is skipped."""
    lines = History(project.path / name).read()
    assert lines.skipped == ()
    return list(lines)


@WORKERS
def test_a_line_for_each_model_and_probe(recorded: Project, workers: list[str]) -> None:
    """In order of steps; several verdicts on one measurement are one line, with the worst state."""
    make_checkpoints(recorded, "sft/checkpoint-1000", "sft/checkpoint-900", "sft/hot_step_95")
    recorded.run(
        "--calibration-model=runs/sft/*", "--calibration-history=history.jsonl", *workers
    ).stdout.fnmatch_lines(["history: 3 measurements added to history.jsonl"])
    lines = read(recorded)
    names = ["hot_step_95", "checkpoint-900", "checkpoint-1000"]
    assert [line.model for line in lines] == [f"runs/sft/{name}" for name in names]
    assert [line.step for line in lines] == [95, 900, 1000]
    assert [line.verdict for line in lines] == ["regressed", "passed", "passed"]
    asked = Facts().run(FakeModel("hot_step_95", sharpen=0.6))
    assert lines[0].metrics["ece"].value == pytest.approx(ece(asked), rel=1e-5)
    assert lines[0].n == len(asked)
    kept = History(recorded.path / "history.jsonl").predictions(lines[0])
    assert kept is not None
    assert kept.item_ids.tolist() == asked.item_ids.tolist()


def test_what_is_known_is_not_added_again(recorded: Project) -> None:
    """A second run on the same checkpoints changes no byte of the history."""
    option = "--calibration-history=h/history.jsonl"
    recorded.facts("base", option)
    before = recorded.files()
    recorded.facts("base", option).stdout.fnmatch_lines(
        ["history: 0 measurements added to h/history.jsonl (1 known already)"]
    )
    assert recorded.files() == before


def test_the_parent_has_a_line_and_is_named(recorded: Project) -> None:
    """Once, however many models are compared with it; theirs name it."""
    recorded.isolated = True
    recorded.write("conftest.py", (recorded.path / "conftest.py").read_text() + LOADER)
    make_checkpoints(recorded, "sft/step_1", "sft/step_2", "start")
    recorded.run(
        "--calibration-model=runs/sft/*",
        "--calibration-parent=base=runs/start",
        "--calibration-history=history.jsonl",
    )
    found = {(line.model, line.stage, line.parent) for line in read(recorded)}
    assert len(read(recorded)) == 3
    assert found == {
        ("runs/start", "base", ""),
        ("runs/sft/step_1", "", "runs/start"),
        ("runs/sft/step_2", "", "runs/start"),
    }


def test_the_ini_key_is_relative_to_rootdir(recorded: Project) -> None:
    """As every path in an ini file."""
    recorded.pytester.makeini("[pytest]\ncalibration_history = kept/history.jsonl\n")
    recorded.facts("base")
    assert [line.probe for line in read(recorded, "kept/history.jsonl")] == ["facts"]


def test_a_stage_and_a_model_that_tests_bring_themselves(recorded: Project) -> None:
    """A name before a model is its stage; arrays have the name that they give, else the test's."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import Predictions, assert_ece_below

def test_own(calibration):
    assert_ece_below(calibration.run("facts"), 0.99)

def test_named():
    made = Predictions.from_confidence([0.5] * 60, [True, False] * 30, model="out/epoch-3")
    assert_ece_below(made, 0.99)

def test_nameless():
    assert_ece_below(Predictions.from_confidence([0.5] * 60, [True, False] * 30), 0.99)
""",
    )
    recorded.run("--calibration-model=dpo=runs/hot", "--calibration-history=history.jsonl")
    found = [(line.model, line.stage, line.epoch) for line in read(recorded)]
    assert sorted(found) == [
        ("out/epoch-3", "", 3.0),
        ("runs/hot", "dpo", None),
        ("tests/test_project.py::test_nameless", "", None),
    ]


def test_a_model_parametrised_by_hand_is_known_by_its_folder(project: Project) -> None:
    """Checkpoints of two runs that bear one name are two models."""
    for run in ("sft", "dpo"):
        (project.path / "runs" / run / "checkpoint-5").mkdir(parents=True)
    project.isolated = True
    project.write(
        "conftest.py",
        """
import pytest
from fakes import FakeModel
from pytest_calibration import checkpoints
from pytest_calibration.models.spec import parse_spec

PATHS = [*checkpoints("runs/sft"), *checkpoints("runs/dpo")]

@pytest.fixture(params=PATHS)
def calibration_model(request):
    model = FakeModel("checkpoint-5", sharpen=0.1 * request.param_index)
    model.spec = parse_spec(request.param)
    return model
""",
    )
    project.write("tests/test_project.py", CHECKPOINTS.replace("test_gate", "unused"))
    project.run("--calibration-history=history.jsonl")
    assert [line.model for line in read(project)] == [
        "runs/sft/checkpoint-5",
        "runs/dpo/checkpoint-5",
    ]


def test_a_folder_outside_of_rootdir_is_absolute(recorded: Project, tmp_path_factory) -> None:
    """It is the same from wherever pytest is started."""
    folder = tmp_path_factory.mktemp("elsewhere")
    recorded.run(f"--calibration-model={folder}", "--calibration-history=history.jsonl")
    assert {line.model for line in read(recorded)} == {folder.as_posix()}


def test_the_commit_is_that_of_ci_else_that_of_git(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty where neither is known."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    steps = (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"])
    for step in steps:
        subprocess.run([*git, *step], cwd=recorded.path, check=True)
    done = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=recorded.path, check=True, capture_output=True, text=True
    )
    recorded.facts("base", "--calibration-history=a.jsonl")
    assert [line.commit for line in read(recorded, "a.jsonl")] == [done.stdout.strip()]
    monkeypatch.setenv("GITHUB_SHA", "f" * 40)
    recorded.facts("base", "--calibration-history=b.jsonl")
    assert [line.commit for line in read(recorded, "b.jsonl")] == ["f" * 40]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"# Notes\n",
            "*: is no history of calibration (line 1: has no format)*name another file*",
        ),
        (b'{"probe": "facts"}\n', "*: is no history of calibration (line 1: has no format)*"),
        (b'\n{"format":7}\n', "*, line 2: has format 7, and this version*update pytest-calib*"),
        (None, "*: cannot be read (it is a folder); name a file.*"),
    ],
    ids=["notes", "items", "newer", "folder"],
)
def test_what_cannot_be_added_to_is_refused_before_anything_runs(
    recorded: Project, content: bytes | None, message: str
) -> None:
    """A usage error that names the file; nothing is written."""
    place = recorded.path / "history.jsonl"
    place.mkdir() if content is None else place.write_bytes(content)
    before = recorded.files()
    result = recorded.facts("base", "--calibration-history=history.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-history: {message}"])
    assert recorded.files() == before


def test_what_an_ini_key_names_stops_calibration_tests_alone(recorded: Project) -> None:
    """The first verdict says it; a run of other tests is none of its business."""
    recorded.pytester.makeini("[pytest]\ncalibration_history = history.jsonl\n")
    recorded.write("history.jsonl", '{"format":7}\n')
    result = recorded.facts("base")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["E *HistoryError: *history.jsonl, line 1: has format 7*"])
    recorded.write("tests/test_project.py", "def test_other(): pass\n")
    assert recorded.run().ret == pytest.ExitCode.OK


def test_a_history_that_cannot_be_written_at_the_end_fails_the_run(recorded: Project) -> None:
    """One sentence, also where it became so while the tests ran."""
    recorded.write(
        "tests/test_other.py",
        """
from pathlib import Path

def test_last():
    Path("h/history.jsonl").mkdir(parents=True)
""",
    )
    result = recorded.facts("base", "--calibration-history=h/history.jsonl")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*history.jsonl: not written: *history.jsonl: cannot be read (it is a folder)*"]
    )


def test_a_run_that_is_cut_short_adds_what_it_measured(recorded: Project) -> None:
    """A measurement is true, whatever else was to be run."""
    recorded.isolated = True
    recorded.write("tests/test_zzz.py", "def test_interrupts():\n    raise KeyboardInterrupt\n")
    result = recorded.facts("base", "--calibration-history=history.jsonl")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [line.probe for line in read(recorded)] == ["facts"]


def test_a_torn_line_is_told_and_kept(recorded: Project) -> None:
    """The part of a line that a killed run left stays on a line of its own, and is named."""
    options = ["--calibration-history=history.jsonl"]
    recorded.facts("base", *options)
    place = recorded.path / "history.jsonl"
    torn = place.read_bytes() + place.read_bytes()[:100]
    place.write_bytes(torn)
    recorded.facts("hot", *options).stdout.fnmatch_lines(
        ["history.jsonl ended in a part of a line, as a write that was cut short leaves it; *"]
    )
    assert place.read_bytes().startswith(torn + b"\n")
    lines = History(place).read()
    assert [line.model for line in lines] == ["runs/base", "runs/hot"]
    assert [one.number for one in lines.skipped] == [2]


def test_the_last_attempt_of_a_test_counts(recorded: Project) -> None:
    """A verdict that a rerun took back is not in the history."""
    pytest.importorskip("pytest_rerunfailures")
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

LIMITS = iter([0.0001, 0.9])

def test_limit(calibration):
    assert_ece_below(calibration.run("facts"), next(LIMITS))
""",
    )
    result = recorded.facts("base", "--calibration-history=history.jsonl", "--reruns=1")
    assert result.ret == pytest.ExitCode.OK
    assert [line.verdict for line in read(recorded)] == ["passed"]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_what_a_child_process_measures_is_added(recorded: Project) -> None:
    """A test may fork, and conclude in the child."""
    recorded.isolated = True
    recorded.write(
        "tests/test_project.py",
        """
import os
from pytest_calibration import assert_ece_below

def test_limit(calibration):
    predictions = calibration.run("facts")
    child = os.fork()
    if not child:
        assert_ece_below(predictions, 0.9)
        os._exit(0)
    os.waitpid(child, 0)
""",
    )
    recorded.facts("base", "--calibration-history=history.jsonl")
    assert [(line.model, line.verdict) for line in read(recorded)] == [("runs/base", "passed")]


def test_what_could_not_be_recorded_is_not_told_as_recorded(project: Project) -> None:
    """The verdict of the test is known at the end alone."""
    (project.path / "tests" / "calibration_baselines").touch()
    project.facts("base", "--calibration-record", "--calibration-history=history.jsonl")
    assert [line.verdict for line in read(project)] == ["not_recorded"]
    (project.path / "tests" / "calibration_baselines").unlink()
    project.facts("base", "--calibration-record", "--calibration-history=history.jsonl")
    assert [line.verdict for line in read(project)] == ["recorded"]


def test_a_history_of_nothing_is_no_gate(recorded: Project) -> None:
    """A history that is asked for, and no test that measures: the run is not green."""
    recorded.write("tests/test_project.py", "def test_other(): pass\n")
    result = recorded.run("--calibration-history=history.jsonl")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*--calibration-history: nothing was gated*"])
    assert not (recorded.path / "history.jsonl").exists()


def test_texts_of_any_kind_are_ascii(recorded: Project) -> None:
    """A line is read by any program in any encoding."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import Predictions, assert_ece_below

def test_named():
    made = Predictions.from_confidence([0.5] * 60, [True, False] * 30, model="modèle \\ud83d")
    assert_ece_below(made, 0.99)
""",
    )
    recorded.run("--calibration-history=history.jsonl")
    text = (recorded.path / "history.jsonl").read_bytes().decode("ascii")
    assert json.loads(text)["model"] == "modèle \\ud83d"


def test_every_state_has_a_rank() -> None:
    """Of several verdicts on one measurement, the most serious is told."""
    from pytest_calibration import State

    assert {*WORST_FIRST} == {*map(str, State), ""}


def test_nothing_is_written_without_the_option(recorded: Project) -> None:
    """A history is asked for."""
    before = {*recorded.files()}
    recorded.facts("base")
    assert {*recorded.files()} == before
    assert not list(Path(recorded.path).glob("*.items"))
