"""``--calibration-prune``: removes what no test of a full, finished run asked for."""

from __future__ import annotations

import os

import pytest

BOTH = "probes: {facts: {}, multiple_choice: {}}\n"
ONE = "probes: {facts: {}}\n"


@pytest.fixture
def stale(project):
    """A project with one baseline that a test uses and one that none does any more."""
    project.write("calibration.yaml", BOTH)
    assert project.run("--calibration-model=runs/base", "--calibration-record").ret == 0
    project.write("calibration.yaml", ONE)
    return project


def prune(project, model: str = "base", *args: str) -> pytest.RunResult:
    """Run the gate with --calibration-prune."""
    return project.run(f"--calibration-model=runs/{model}", "--calibration-prune", *args)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_stale_record_is_removed_with_its_items(stale, workers: list[str]) -> None:
    """A full run removes the record nobody asked for, its items too, and no other."""
    result = prune(stale, "base", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pruned: tests/calibration_baselines/multiple_choice.yaml."])
    assert [p.name for p in stale.baselines.glob("*.yaml")] == ["facts.yaml"]
    assert len(list(stale.baselines.glob("*.npz"))) == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["tests/test_project.py"], "is only a part of the tests"),
        (["-k", "not another"], "some tests were deselected or could not be collected"),
        (["--ignore=tests/other.py"], "some files were ignored"),
        (["--calibration-probe=facts"], "runs only a part of the probes"),
    ],
    ids=["one-file", "deselected", "ignored", "one-probe"],
)
def test_partial_run_removes_nothing(stale, args: list[str], reason: str) -> None:
    """A run of a part of the tests prunes nothing and says why."""
    stale.write("tests/test_more.py", "def test_another(): pass\n")
    stored = stale.files()
    result = prune(stale, "base", *args)
    assert stale.files() == stored
    result.stdout.fnmatch_lines([f"nothing pruned: *{reason}."])


def test_failing_run_removes_nothing(stale) -> None:
    """A test that failed may not have reached its baseline, so nothing is stale for sure."""
    stored = stale.files()
    result = prune(stale, "hot")
    assert stale.files() == stored
    result.stdout.fnmatch_lines(["nothing pruned: *did not pass."])


def test_without_the_flag_nothing_is_removed(stale) -> None:
    """Stale records stay until asked for."""
    stored = stale.files()
    stale.facts("base")
    assert stale.files() == stored


def test_files_of_others_stay(stale) -> None:
    """A YAML or npz file that is no record of ours is not touched, whatever its name."""
    notes = stale.write("tests/calibration_baselines/notes.yaml", "probe: mine\n")
    broken = stale.write("tests/calibration_baselines/broken.yaml", "{")
    other = stale.write("tests/calibration_baselines/facts.items-old.npz", "")
    assert prune(stale).ret == 0
    assert notes.exists()
    assert broken.exists()
    assert other.exists()
    assert not (stale.baselines / "multiple_choice.yaml").exists()


def test_named_baselines_of_other_models_stay(stale) -> None:
    """A run of one model says nothing about the baselines that another model has by name."""
    named = stale.run("--calibration-model=dpo=runs/hot", "--calibration-record")
    assert named.ret == 0
    result = prune(stale)
    assert (stale.baselines / "dpo" / "facts.yaml").is_file()
    result.stdout.fnmatch_lines(["left alone, of a name this run did not use: *dpo/facts.yaml."])


def test_file_that_cannot_be_collected_keeps_its_baselines(stale) -> None:
    """A test file that skips itself or does not import may want what nobody asked for."""
    stale.write("tests/test_more.py", "import pytest\npytest.importorskip('nope')\n")
    stored = stale.files()
    result = prune(stale)
    assert stale.files() == stored
    result.stdout.fnmatch_lines(["nothing pruned: *could not be collected."])


@pytest.mark.parametrize(
    "text",
    [
        'a: !!int ""',
        "a: !!timestamp x",
        "a: {<<: 3}",
        "a: &a [*a]",
        "a: [" * 5000,
        f"a: 0x{'f' * 9999}",
        "\ufffe",
    ],
    ids=["int", "time", "merge", "itself", "deep", "huge", "no-character"],
)
def test_a_stray_file_that_is_no_yaml_stops_nothing(stale, text: str) -> None:
    """It is no record: it stays, the stale record goes, and the report is written."""
    stray = stale.write("tests/calibration_baselines/notes.yaml", text)
    result = prune(stale, "base", "--calibration-report=r.json")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.fnmatch_lines(["pruned: tests/calibration_baselines/multiple_choice.yaml."])
    assert stray.is_file()
    assert (stale.path / "r.json").is_file()


def test_a_stray_pipe_stops_nothing(stale) -> None:
    """It is not opened: nobody writes to it."""
    os.mkfifo(stale.baselines / "notes.yaml")
    assert prune(stale).ret == 0


def test_what_a_store_of_a_test_looked_up_stays(stale) -> None:
    """A test that opens the folder itself asks for its record like any other."""
    stale.write(
        "tests/test_own.py",
        """
from pathlib import Path
from pytest_calibration import Baselines, MultipleChoice, assert_no_regression

def test_own(calibration):
    store = Baselines(Path(__file__).parent / "calibration_baselines")
    assert_no_regression(calibration.run(MultipleChoice("multiple_choice")), store)
""",
    )
    assert prune(stale).ret == 0
    assert (stale.baselines / "multiple_choice.yaml").is_file()
