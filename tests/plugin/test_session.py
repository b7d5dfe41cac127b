"""Marker, properties, summary, tracebacks, rootdir, the packaged suite."""

from __future__ import annotations

import shlex
import sys
from xml.etree import ElementTree

import pytest

MIXED = """
from pytest_calibration import assert_ece_below, assert_no_regression

def test_plain():
    pass

def test_gate(calibration, calibration_baseline):
    facts = calibration.run("facts")
    assert_no_regression(facts, calibration_baseline)
    assert_ece_below(facts, 0.5)
"""


@pytest.mark.parametrize(("expression", "passed"), [("calibration", 1), ("not calibration", 1)])
def test_marker_is_set_by_itself(recorded, expression: str, passed: int) -> None:
    """Tests that use a calibration fixture are selected by -m calibration, others by its not."""
    recorded.write("tests/test_project.py", MIXED)
    result = recorded.facts("base", "--strict-markers", "-m", expression)
    result.assert_outcomes(passed=passed, deselected=1)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_verdicts_reach_junit_as_flat_scalars(recorded, workers: list[str]) -> None:
    """Each verdict is a set of properties of its test, numbered in order."""
    recorded.write("tests/test_project.py", MIXED)
    recorded.facts("hot", "--junitxml=report.xml", *workers)
    tree = ElementTree.parse(recorded.path / "report.xml")
    case = next(c for c in tree.iter("testcase") if c.get("name", "").startswith("test_gate"))
    found = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert found["calibration.1.state"] == "regressed"
    assert found["calibration.1.probe"] == "facts"
    assert found["calibration.1.model"] == "hot"
    assert found["calibration.1.n"] == "2315"
    assert float(found["calibration.1.value"] or 0) > float(found["calibration.1.baseline"] or 1)
    plain = next(c for c in tree.iter("testcase") if c.get("name") == "test_plain")
    assert not list(plain.iter("property"))


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_summary_counts_every_state(recorded, workers: list[str]) -> None:
    """The summary holds a row per verdict and the count of each state."""
    recorded.write("tests/test_project.py", MIXED)
    result = recorded.facts("base", *workers)
    result.stdout.fnmatch_lines(["=* calibration =*"])
    result.stdout.re_match_lines([r"base +facts +2,315 +ECE +\d\.\d{3} +\[.*\] .* passed"])
    result.stdout.fnmatch_lines(["2 passed"])


def test_array_assertions_are_reported_without_fixtures(project) -> None:
    """An assertion on plain arrays needs no fixture and no model, and is reported as well."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

def test_arrays():
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.4)
""",
    )
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*probabilities*limit 0.400*passed"])


def test_collection_says_what_is_probed(recorded) -> None:
    """One line after collection names the number of tests and the models."""
    result = recorded.facts("base")
    result.stdout.fnmatch_lines(["calibration: 1 test, model: base"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("calibration.run('fact')", "*unknown probe 'fact' (did you mean 'facts'?)*"),
        ("calibration.run('facts', limit=0)", "*a limit must be at least 1, got 0.*"),
        (
            "__import__('pytest_calibration').assert_ece_below(([0.2], [1]), 0.1)",
            "*one-dimensional probabilities with labels are ambiguous*",
        ),
    ],
    ids=["probe", "limit", "arrays"],
)
def test_user_errors_are_shown_at_the_users_line(project, code: str, message: str) -> None:
    """An error a user can cause shows the user's line and one sentence, none of our frames."""
    project.write("tests/test_project.py", f"def test_it(calibration):\n    {code}\n")
    result = project.facts("base")
    result.stdout.fnmatch_lines([f">*{code[:20]}*", message, "tests/test_project.py:2: *"])
    result.stdout.no_fnmatch_line("*pytest_calibration/*.py:*")


def test_full_trace_shows_everything(project) -> None:
    """--full-trace shows the frames inside."""
    project.write("tests/test_project.py", "def test_it(calibration): calibration.run('fact')\n")
    result = project.facts("base", "--full-trace")
    result.stdout.fnmatch_lines(["*probe_set.py:*"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("n: 2315", "n: 2316"), "*facts.yaml: the checksum does not fit*"),
        (lambda t: "<<<<<<< ours\n" + t, "*facts.yaml, line 1: holds git conflict markers*"),
        (
            lambda t: t.replace("format: 1", "format: 2"),
            "*has format 2*update pytest-calibration.*",
        ),
        (lambda t: t + "note: again\n", "*the key 'note' is given twice*"),
    ],
    ids=["edited", "conflict", "newer", "duplicate"],
)
@pytest.mark.parametrize("flag", [[], ["--calibration-record"], ["--calibration-accept=x"]])
def test_unreadable_baseline_fails_and_stays(recorded, damage, message: str, flag) -> None:
    """A baseline that cannot be trusted fails its test with its own message; nothing is written."""
    path = recorded.baselines / "facts.yaml"
    path.write_text(damage(path.read_text()))
    stored = recorded.files()
    result = recorded.facts("base", *flag)
    assert result.ret == 1
    result.stdout.fnmatch_lines([message])
    assert recorded.files() == stored


def test_command_in_the_message_records(project) -> None:
    """The command printed for a missing baseline, run as it is, records it."""
    result = project.facts("base")
    lines = result.outlines
    line = next(x for x in lines if "to record it: pytest " in x)
    command = line.partition("to record it: pytest ")[2].split()
    assert project.run(*command).ret == 0
    assert project.facts("base").ret == 0


def test_command_in_the_message_accepts(recorded) -> None:
    """The command printed for a regression accepts it, once a reason stands in its place."""
    result = recorded.facts("hot")
    lines = result.outlines
    line = next(x for x in lines if "to accept it: pytest " in x)
    words = line.partition("to accept it: pytest ")[2].split()
    command = [word.strip("'") for word in words]
    stored = recorded.files()
    assert recorded.run(*command).ret == pytest.ExitCode.USAGE_ERROR
    assert recorded.files() == stored
    assert recorded.run(*(word.replace("REASON", "signed off") for word in command)).ret == 0
    assert recorded.facts("hot").ret == 0


def test_model_path_must_not_move_the_rootdir(
    recorded, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model elsewhere, given as a second word, would hide the project's ini file: refused."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "base"
    elsewhere.mkdir()
    result = recorded.run("--calibration-model", str(elsewhere), "--calibration-probe=facts")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*write --calibration-model={elsewhere}*"])
    result = recorded.run(f"--calibration-model={elsewhere}", "--calibration-probe=facts")
    assert result.ret == 0
    result = recorded.run("--calibration-model", "runs/base", "--calibration-probe=facts")
    assert result.ret == 0


def test_packaged_suite_stores_under_rootdir(project) -> None:
    """The ready-made suite gates every selected probe, with its baselines at rootdir."""
    # In this process `conftest` is one of these tests.
    project.isolated = True
    suite = ["--pyargs", "pytest_calibration.suite", "-p", "conftest"]
    flags = ["--calibration-model=runs/base", "--calibration-probe=facts"]
    assert project.run(*suite, *flags).ret == 1
    assert project.run(*suite, *flags, "--calibration-record").ret == 0
    assert (project.path / "calibration_baselines" / "facts.yaml").is_file()
    assert project.run(*suite, *flags).ret == 0


def test_predictions_are_computed_once(project) -> None:
    """Two tests that ask for the same probe of the same model score it once."""
    project.write(
        "tests/test_project.py",
        """
import pytest

@pytest.mark.parametrize("i", range(3))
def test_it(calibration, i):
    calibration.run("facts")
    print("CALLS", calibration.model.calls)
""",
    )
    result = project.facts("base", "-s")
    result.stdout.fnmatch_lines(["*CALLS ?'next_token'?"])
    result.stdout.no_fnmatch_line("*'next_token', 'next_token'*")


def test_command_records_all_items_whatever_the_run_was_limited_to(project) -> None:
    """The printed command leaves out a limit, with which it would record a part."""
    result = project.facts("base", "--calibration-limit=30")
    lines = result.outlines
    line = next(x for x in lines if "to record it: pytest " in x)
    assert "--calibration-record" in line
    assert "--calibration-limit" not in line


def test_the_command_of_a_test_case_names_the_model(project) -> None:
    """A test that cannot be parametrised prints a command that runs it, too."""
    project.write(
        "tests/test_project.py",
        """
import unittest
import pytest
from pytest_calibration import Predictions, assert_no_regression

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def bring(self, calibration, calibration_baseline):
        self.calibration, self.baseline = calibration, calibration_baseline

    def test_it(self):
        assert_no_regression(self.calibration.run("facts"), self.baseline)

def test_arrays(calibration_baseline):
    mine = Predictions.from_confidence([0.5] * 9, [True] * 9, probe="mine")
    assert_no_regression(mine, calibration_baseline)
""",
    )
    lines = project.run("--calibration-model=runs/base").outlines
    first, second = [
        shlex.split(line.partition("to record it: ")[2])
        for line in lines
        if "to record it: " in line
    ]
    place = ["pytest", "tests/test_project.py"]
    assert first == [*place, "--calibration-model=runs/base", "--calibration-record"]
    assert second == [*place, "--calibration-record"]
    assert project.run(*first[1:]).ret == 0


def test_an_accuracy_under_its_limit_is_below_it(project) -> None:
    """An accuracy under its limit is below it, in the table and in the count."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_accuracy_above

def test_it(calibration):
    assert_accuracy_above(calibration.run("facts"), 0.99)
""",
    )
    result = project.facts("base")
    result.stdout.re_match_lines([r"base +facts .* limit 0\.990 +below limit", "1 below limit"])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_numpy_scalars_reach_the_report(project, workers: list[str]) -> None:
    """A limit computed with numpy fails its test in every process; no worker dies of it."""
    project.write(
        "tests/test_project.py",
        """
import numpy as np
from pytest_calibration import Predictions, assert_ece_below

BAD = Predictions.from_confidence(np.full(500, 0.99), np.arange(500) % 2 == 0, probe="q")

def test_gate():
    assert_ece_below(BAD, np.mean([0.04, 0.06]))

def test_other():
    pass
""",
    )
    project.isolated = True
    result = project.run(*workers)
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == 1


def test_answers_belong_to_one_probe_and_one_state_of_the_model(project) -> None:
    """Another probe of the same name, and a model that changed, are asked anew."""
    project.write("a.jsonl", '{"prompt": "Up is not", "answer": "down"}\n')
    project.write("b.jsonl", '{"prompt": "In is not", "answer": "out"}\n' * 2)
    project.write(
        "tests/test_project.py",
        """
from pathlib import Path
from pytest_calibration import Facts

def test_it(calibration):
    one, two = (Facts("p", path=Path(f"{name}.jsonl")) for name in "ab")
    assert [len(calibration.run(p)) for p in (one, two, one)] == [1, 2, 1]
    before = calibration.run("facts").confidence.mean()
    calibration.model.sharpen = 0.9
    assert calibration.run("facts").confidence.mean() > before
""",
    )
    result = project.facts("base")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            "Facts('facts').run(model)",
            "*probe 'mine' must return Predictions of its own name, got*",
        ),
        ("([0.5], [True])", "*probe 'mine' must return Predictions of its own name, got 'tuple'*"),
    ],
    ids=["another-name", "a-pair"],
)
def test_probe_must_return_its_own_predictions(project, returned: str, message: str) -> None:
    """What a probe returns is recorded under its name, so it must be of that name."""
    project.write(
        "tests/test_project.py",
        f"""
from pytest_calibration import Facts

class Mine:
    name = kind = "mine"
    unit = "items"
    size = 1
    def run(self, model, *, limit=None):
        return {returned}

def test_it(calibration):
    calibration.run(Mine())
""",
    )
    project.facts("base").stdout.fnmatch_lines([message])


@pytest.mark.parametrize("started", [".", "tests"])
def test_pytest_alone_gates_what_the_ini_file_names(recorded, started: str) -> None:
    """``pytest`` without any argument is a run like others."""
    recorded.pytester.makeini(
        "[pytest]\ncalibration_model = runs/base\ncalibration_probe = facts\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(recorded.path / started)
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        result = recorded.pytester.run(sys.executable, "-m", "pytest")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["base * facts * passed", "1 passed"])


def test_fixture_of_another_meaning_is_left_alone(project) -> None:
    """A project whose own fixture is called calibration is not measured by our rules."""
    project.pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef calibration():\n    return {'focal': 35.0}\n"
    )
    project.write(
        "tests/test_project.py", "def test_camera(calibration):\n    assert calibration\n"
    )
    result = project.run()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("=* calibration =*")


def test_run_without_a_terminal_is_no_crash(project) -> None:
    """A run without pytest's terminal plugin fails as it would without this one."""
    project.write("tests/test_project.py", "def test_it(): assert 0\n")
    assert project.run("-p", "no:terminal").ret == 1


def test_model_that_no_test_uses_is_red(project) -> None:
    """A named model that an override ignores fails the run."""
    project.pytester.makeconftest(
        """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model():
    return FakeModel("mine")
"""
    )
    project.facts("hot", "--calibration-record")
    result = project.facts("hot")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: --calibration-model was used by no test*"])


def test_one_model_needs_no_parameter(project) -> None:
    """A TestCase, which cannot be parametrised, gets the only model that is named."""
    project.write(
        "tests/test_project.py",
        """
import unittest
import pytest
from pytest_calibration import assert_ece_below

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def bring(self, request):
        self.calibration = request.getfixturevalue("calibration")

    def test_facts(self):
        assert_ece_below(self.calibration.run("facts"), 0.5)
""",
    )
    project.facts("base").assert_outcomes(passed=1)
    result = project.facts("base", "--calibration-model=runs/hot")
    result.stdout.fnmatch_lines(["*cannot be run once per model, and 2 are named*"])


def test_assertion_in_a_thread_counts(recorded) -> None:
    """A verdict reached in a thread of the test is the test's."""
    recorded.write(
        "tests/test_project.py",
        """
from concurrent.futures import ThreadPoolExecutor
from pytest_calibration import assert_no_regression

def test_it(calibration, calibration_baseline):
    facts = calibration.run("facts")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(assert_no_regression, facts, calibration_baseline).result()
""",
    )
    result = recorded.facts("base")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 passed"])


def test_skip_after_a_failed_attempt_leaves_nothing_decided(project) -> None:
    """The verdict of an earlier attempt does not stand for a rerun that skips."""
    project.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_ece_below
TRIED = []

def test_it(calibration):
    if TRIED:
        pytest.skip("later")
    TRIED.append(1)
    assert_ece_below(calibration.run("facts"), 0.001)
""",
    )
    assert project.facts("base", "--reruns", "2").ret == 1
