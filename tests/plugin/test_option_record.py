"""``--calibration-record``: adds what is missing, touches nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pytest_calibration import Baselines

TWO_TESTS = """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=1000), calibration_baseline)

def test_two(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit={second}), calibration_baseline)
"""


def test_existing_record_is_judged_and_not_touched(recorded) -> None:
    """A record that exists is compared as ever: recording a worse model fails."""
    stored = recorded.files()
    assert recorded.facts("hot", "--calibration-record").ret == 1
    assert recorded.files() == stored


def test_equal_record_is_not_rewritten(recorded) -> None:
    """Recording what is stored already leaves the very same bytes and modification times."""
    times = {p: p.stat().st_mtime_ns for p in recorded.baselines.iterdir()}
    assert recorded.facts("base", "--calibration-record").ret == 0
    assert {p: p.stat().st_mtime_ns for p in recorded.baselines.iterdir()} == times


def test_record_with_several_models_is_a_usage_error(project) -> None:
    """Two models would overwrite each other's baselines."""
    result = project.run(
        "--calibration-model=runs/base", "--calibration-model=runs/hot", "--calibration-record"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-record with 2 models*give each its own*"])


def test_named_models_record_side_by_side(project) -> None:
    """With a name each, two models keep two baselines and both hold."""
    models = ["--calibration-model=sft=runs/base", "--calibration-model=dpo=runs/hot"]
    result = project.run(*models, "--calibration-probe=facts", "--calibration-record")
    assert result.ret == 0
    assert (project.baselines / "sft" / "facts.yaml").is_file()
    assert (project.baselines / "dpo" / "facts.yaml").is_file()
    project.run(*models, "--calibration-probe=facts").assert_outcomes(passed=2)


def test_limit_below_the_stored_n_is_a_usage_error(recorded) -> None:
    """Recording from fewer items than are stored would weaken the baseline."""
    result = recorded.facts("base", "--calibration-record", "--calibration-limit=100")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-limit 100, below the 2,315 items that*facts.yaml holds: leave the limit*"]
    )


def test_same_content_twice_is_no_conflict(project) -> None:
    """Two tests that record the same predictions under one key agree."""
    project.write("tests/test_project.py", TWO_TESTS.format(second=1000))
    result = project.facts("base", "--calibration-record")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 baseline written."])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_different_content_for_one_key_fails_and_names_both(project, workers: list[str]) -> None:
    """Two tests with different predictions under one key: nothing written, both named, red."""
    project.write("tests/test_project.py", TWO_TESTS.format(second=900))
    result = project.facts("base", "--calibration-record", *workers)
    assert result.ret == 1
    line = next(x for x in result.outlines if "record different predictions under one" in x)
    assert "test_one[base]" in line
    assert "test_two[base]" in line
    assert not (project.baselines / "facts.yaml").exists()


def test_interrupted_run_writes_nothing(project) -> None:
    """A run that stops early writes no record, and says so."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)

def test_stop():
    raise KeyboardInterrupt
""",
    )
    result = project.pytester.runpytest_subprocess(
        "--calibration-model=runs/base", "--calibration-record"
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["ERROR: 1 baseline not written: the run did not finish."])
    result.stdout.fnmatch_lines(["1 not recorded"])
    assert not project.baselines.exists()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_run_that_stops_says_that_nothing_was_recorded(project, workers: list[str]) -> None:
    """With -x, the state of each verdict is what happened: in summary and reports."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
    assert False
""",
    )
    reports = [f"--calibration-report=r.{ending}" for ending in ("json", "md", "html", "txt")]
    result = project.facts("base", "--calibration-record", "-x", *workers, *reports)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["ERROR: 1 baseline not written: *", "1 not recorded"])
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    (one,) = report["results"]
    assert one["state"] == "not_recorded"
    assert one["recorded_in"] == ""
    assert one["headline"] == "not recorded: probe facts on base"
    assert one["reason"] == one["explanation"][0]
    assert "nothing was recorded" in one["reason"]
    assert report["green"] is False
    for ending in ("md", "html", "txt"):
        text = (project.path / f"r.{ending}").read_text("utf-8")
        assert "not recorded" in text or "not_recorded" in text
    assert not project.baselines.exists()


def test_a_full_disk_counts_what_was_recorded(project) -> None:
    """Where two of three records cannot be written, one is recorded and two are not."""
    project.pytester.makeconftest(
        """
import errno
import pytest
from fakes import FakeModel
from pytest_calibration.baselines import store

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel("base")

@pytest.fixture(autouse=True, scope="session")
def full_disk():
    write, written = store.write_atomically, []
    def write_a_little(path, content):
        # A record is two files.
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)
        written.append(path)
    store.write_atomically = write_a_little
    import atexit
    atexit.register(setattr, store, "write_atomically", write)
"""
    )
    project.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_no_regression

@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_it(calibration, calibration_baseline, name):
    facts = calibration.run("facts", limit=100)
    assert_no_regression(facts, calibration_baseline.named(name))
""",
    )
    project.isolated = True
    result = project.facts("base", "--calibration-record", "--calibration-report=r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["1 baseline written.", "1 recorded, 2 not recorded"])
    result.stdout.fnmatch_lines(["ERROR: *facts.yaml: cannot be written (No space left on device*"])
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    states = [one["state"] for one in report["results"]]
    assert states == ["recorded", "not_recorded", "not_recorded"]
    for one in report["results"][1:]:
        assert "No space left on device" in one["reason"]


@pytest.mark.parametrize(
    ("flag", "before"),
    [("--calibration-record", ""), ("--calibration-accept=sharper", "0.5")],
    ids=["record", "accept"],
)
def test_of_two_runs_at_a_time_one_writes(project, flag: str, before: str) -> None:
    """Of two runs that judged what was stored, the later to write replaces nothing, and is red."""
    project.write(
        "tests/test_project.py",
        """
import os, time
from pathlib import Path
import numpy as np
from pytest_calibration import Predictions, assert_no_regression

def test_it(calibration_baseline):
    mine = float(os.environ["MINE"])
    answers = Predictions.from_confidence(np.full(400, mine), np.arange(400) % 2 == 0, probe="q")
    assert_no_regression(answers, calibration_baseline)
    # Both have judged before either ends.
    Path(f"judged-{mine}").touch()
    end = time.monotonic() + 120
    while len(list(Path().glob("judged-*"))) < int(os.environ["RUNS"]):
        assert time.monotonic() < end
        time.sleep(0.02)
""",
    )

    def start(mine: str, runs: int, flag: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "MINE": mine, "RUNS": str(runs)}
        command = [sys.executable, "-m", "pytest", "-q", f"--calibration-report={mine}.json", flag]
        return subprocess.Popen(
            command, cwd=project.path, env=environment, stdout=subprocess.PIPE, text=True
        )

    if before:
        first_run = start(before, 1, "--calibration-record")
        assert "1 recorded" in first_run.communicate(timeout=300)[0]
        (project.path / f"judged-{before}").unlink()
    runs = {mine: start(mine, 2, flag) for mine in ("0.9", "0.7")}
    output = {mine: run.communicate(timeout=300)[0] for mine, run in runs.items()}
    codes = {mine: run.returncode for mine, run in runs.items()}
    assert sorted(codes.values()) == [0, 1]
    first, second = sorted(codes, key=lambda mine: codes[mine])
    stored = Baselines(project.baselines).load("q")
    assert stored.metrics["mean_confidence"] == float(first)
    assert "1 recorded" in output[first]
    assert "1 not recorded" in output[second]
    assert "was changed by another process after this run" in output[second]
    states = [
        json.loads((project.path / f"{mine}.json").read_text("utf-8"))["results"][0]["state"]
        for mine in (first, second)
    ]
    assert states == ["recorded", "not_recorded"]


def test_dead_worker_writes_nothing(project) -> None:
    """Where a worker dies its records are unknown, so none is written."""
    project.write(
        "tests/test_project.py",
        """
import os
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)

def test_die():
    os._exit(3)
""",
    )
    result = project.pytester.runpytest_subprocess(
        "-n", "2", "--calibration-model=runs/base", "--calibration-record"
    )
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*not written: the run did not finish."])
    assert not project.baselines.exists()


def test_limit_cannot_be_recorded_by_hand_edits(recorded) -> None:
    """note, tolerance and limit edited by hand are read, and count."""
    path = recorded.baselines / "facts.yaml"
    text = path.read_text().replace("tolerance: null", "tolerance: 0.5")
    path.write_text(text.replace("note: ''", "note: agreed with the team"))
    # The accuracy of the fake is the same on both sides; only its confidence differs.
    assert recorded.facts("hot").ret == 0


def test_one_test_with_two_contents_for_one_key_fails(project) -> None:
    """A test that records twice under one key does not quietly keep the last."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_one(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
    assert_no_regression(calibration.run("facts", limit=100), calibration_baseline)
""",
    )
    assert project.facts("base", "--calibration-record").ret == 1
    assert not (project.baselines / "facts.yaml").exists()


OWN_STORE = """
import os
from pathlib import Path
import numpy as np
import pytest
from pytest_calibration import Baselines, Predictions, assert_ece_below, assert_no_regression

right = np.arange(2000) % 10 < {right}
answers = Predictions.from_confidence(np.full(2000, 0.8), right, probe="triage")

def test_regression(monkeypatch, tmp_path):
    store = Baselines({folder})
    monkeypatch.chdir({elsewhere})
    assert_no_regression(answers, store)

def test_limit():
    assert_ece_below(answers, Baselines({folder}).named("second"))
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("folder", ["'stored'", "Path(__file__).parent / 'stored'"])
def test_a_store_that_a_test_made_is_recorded_and_accepted(
    project, folder: str, workers: list[str]
) -> None:
    """The command that a failure names does what it says, wherever the store came from."""
    text = OWN_STORE.replace("{elsewhere}", "os.curdir").replace("{folder}", folder)
    project.write("tests/test_project.py", text.replace("{right}", "8"))
    assert project.run(*workers).ret == 1
    result = project.run("--calibration-record", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["2 baselines written."])
    assert project.run(*workers).ret == 0
    project.write("tests/test_project.py", text.replace("{right}", "4"))
    stored = project.files()
    result = project.run(*workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*to accept it: pytest *--calibration-accept=REASON"])
    assert project.files() == stored
    assert project.run("--calibration-accept=signed off", *workers).ret == 0
    assert project.run(*workers).ret == 0


def test_a_store_of_a_relative_path_lies_where_the_test_looked(project) -> None:
    """A test that changes its folder back records where it would find the record."""
    text = OWN_STORE.replace("monkeypatch.chdir({elsewhere})", "monkeypatch.chdir('tests')")
    text = text.replace("{folder}", "'stored'").replace("{right}", "8")
    project.write("tests/test_project.py", text)
    for flags in (["--calibration-record"], []):
        assert project.run(*flags).ret == 0
    assert (project.path / "tests" / "stored" / "triage.yaml").is_file()
    assert (project.path / "stored" / "second" / "triage.yaml").is_file()


def test_a_store_with_a_policy_of_its_own_stays_as_it_is(project) -> None:
    """What a test says itself about writing wins over the run."""
    text = OWN_STORE.replace("{folder}", "'stored', policy=Policy(record=True)")
    text = text.replace("{right}", "8").replace("{elsewhere}", "os.curdir")
    text = text.replace("import os", "import os\nfrom pytest_calibration.baselines import Policy")
    project.write("tests/test_project.py", text)
    assert project.run().ret == 0
    assert (project.path / "stored" / "triage.yaml").is_file()
