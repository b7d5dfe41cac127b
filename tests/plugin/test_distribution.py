"""Tests of one model stay together under ``--dist loadgroup``; ids stay what pytest knows."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from user_project import Project

CONFTEST: Final = """
import os
from pathlib import Path
import pytest
from fakes import FakeModel

LOG = Path(__file__).parent / "log"

def log(line):
    # One short append: what two workers write is never mixed.
    with LOG.open("a") as file:
        file.write(line + chr(10))

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    name = calibration_model_spec.rstrip("/").rpartition("/")[2]
    log(f"load {name}")
    yield FakeModel(name, sharpen=0.6 if "hot" in name else 0.0)
    log(f"free {name}")

def pytest_runtest_logreport(report):
    if report.when == "call":
        log(f"report {report.nodeid}")
"""
# Three tests of each model; the last fails for `hot`, which is over-confident.
TESTS: Final = """
from pytest_calibration import assert_ece_below

def test_loose(calibration):
    assert_ece_below(calibration.run("facts"), 0.9)

class TestIt:
    def test_looser(self, calibration):
        assert_ece_below(calibration.run("facts"), 0.95)

def test_tight(calibration):
    assert_ece_below(calibration.run("facts"), 0.05)
"""
UNMARK: Final = """
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "xdist_group"]
"""
MODELS: Final = ("base", "hot", "other")
GROUPED: Final = ("-n", "2", "--dist", "loadgroup")
DISTS: Final = ("load", "loadgroup", "loadscope", "worksteal")
IDS: Final = [
    f"tests/test_project.py::{test}[{model}]"
    for model in MODELS
    for test in ("test_loose", "TestIt::test_looser", "test_tight")
]
RED: Final = "tests/test_project.py::test_tight[hot]"


@pytest.fixture
def models(project: Project) -> Project:
    """A project that logs which models it loads and frees, and what is reported."""
    project.write("conftest.py", CONFTEST)
    project.write("tests/test_project.py", TESTS)
    return project


def run(project: Project, *args: str, models: tuple[str, ...] = MODELS) -> pytest.RunResult:
    """Run the tests of these models."""
    return project.run(*(f"--calibration-model=runs/{name}" for name in models), *args)


def log(project: Project, what: str) -> list[str]:
    """Return what was logged under this word, in order."""
    lines = (project.path / "log").read_text(encoding="utf-8").splitlines()
    return [rest for word, _, rest in (line.partition(" ") for line in lines) if word == what]


def test_loadgroup_loads_each_model_once(models: Project) -> None:
    """With two workers and three models, each model is loaded by one worker only."""
    result = run(models, *GROUPED)
    result.assert_outcomes(passed=8, failed=1)
    assert Counter(log(models, "load")) == dict.fromkeys(MODELS, 1)


def test_the_marker_is_what_keeps_them_together(models: Project) -> None:
    """Without the groups, two workers share the tests of one model, and both load it."""
    models.write("conftest.py", CONFTEST + UNMARK)
    run(models, *GROUPED, models=("base",)).assert_outcomes(passed=3)
    assert log(models, "load") == ["base", "base"]


def test_one_process_holds_one_model_at_a_time(models: Project) -> None:
    """Tests are ordered by model: each is loaded once, and freed before the next is loaded."""
    run(models).assert_outcomes(passed=8, failed=1)
    lines = (models.path / "log").read_text(encoding="utf-8").splitlines()
    moves = [line for line in lines if not line.startswith("report ")]
    assert moves == [f"{what} {name}" for name in MODELS for what in ("load", "free")]


@pytest.mark.parametrize("dist", DISTS)
def test_reports_are_the_same_however_tests_are_distributed(models: Project, dist: str) -> None:
    """JUnit, JSON and the summary show one set of ids and verdicts, in one order."""
    result = run(
        models,
        *("-n", "2", "--dist", dist, "--junitxml=junit.xml", "--calibration-report=report.json"),
    )
    result.assert_outcomes(passed=8, failed=1)
    assert any(line.startswith(f"FAILED {RED} - ") for line in result.outlines)
    report = json.loads((models.path / "report.json").read_text(encoding="utf-8"))
    assert [one["test"] for one in report["results"]] == IDS
    cases = [
        f"{case.get('classname', '').replace('.TestIt', '')}::{case.get('name')}"
        for case in ElementTree.parse(models.path / "junit.xml").iter("testcase")
    ]
    assert sorted(cases) == sorted(
        id_.replace("/", ".").replace(".py", "").replace("TestIt::", "") for id_ in IDS
    )
    # Workers and the controller each log a report: all that is without a group is the controller's.
    assert {*IDS} <= {*log(models, "report")}


def test_a_failure_names_a_test_that_can_be_run(models: Project) -> None:
    """What a failure under loadgroup names can be given to pytest as it stands."""
    result = run(models, *GROUPED)
    named = next(line for line in result.outlines if line.startswith("FAILED"))
    again = run(models, named.removeprefix("FAILED ").partition(" - ")[0])
    again.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("first", "again", "place"),
    [
        pytest.param(GROUPED, (), (), id="grouped-then-one-process"),
        pytest.param((), GROUPED, (), id="one-process-then-grouped"),
        pytest.param(GROUPED, GROUPED, (), id="grouped-twice"),
        pytest.param(GROUPED, GROUPED, ("tests/test_project.py",), id="grouped-twice-one-file"),
    ],
)
def test_last_failed_is_known_in_every_distribution(
    models: Project, first: tuple[str, ...], again: tuple[str, ...], place: tuple[str, ...]
) -> None:
    """--last-failed runs what failed in the run before, however either was distributed."""
    args = [f"--calibration-model=runs/{name}" for name in MODELS]
    # With pytest's cache, which a run of the project leaves out.
    models.pytester.runpytest(*args, *first).assert_outcomes(passed=8, failed=1)
    result = models.pytester.runpytest(*args, *again, "--last-failed", *place)
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes.get("passed", 0)) == (1, 0)


def test_a_rerun_counts_once(models: Project) -> None:
    """Of a test that is run again on its worker, the last attempt is reported, under its id."""
    models.write(
        "tests/test_project.py",
        """
from pathlib import Path
from pytest_calibration import assert_ece_below

def test_flaky(calibration, request):
    first = Path(__file__).parent / request.node.callspec.id
    limit = 0.9 if first.exists() else 1e-9
    first.touch()
    assert_ece_below(calibration.run("facts"), limit)
""",
    )
    result = run(models, *GROUPED, "--reruns", "1", "--calibration-report=report.json")
    result.assert_outcomes(passed=3)
    assert result.parseoutcomes()["rerun"] == 3
    report = json.loads((models.path / "report.json").read_text(encoding="utf-8"))
    assert [one["test"] for one in report["results"]] == [
        f"tests/test_project.py::test_flaky[{name}]" for name in MODELS
    ]
    assert {one["state"] for one in report["results"]} == {"passed"}


def test_a_conflict_names_the_tests(models: Project) -> None:
    """Two tests that record different content under one key are named by ids of pytest's."""
    models.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_no_regression

@pytest.mark.xdist_group("a")
def test_few(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=100), calibration_baseline)

@pytest.mark.xdist_group("b")
def test_many(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=200), calibration_baseline)
""",
    )
    result = run(models, *GROUPED, "--calibration-record", models=("base",))
    assert result.ret == 1
    text = " ".join(result.outlines)
    assert "record different predictions under one baseline" in text
    for name in ("few", "many"):
        assert f"tests/test_project.py::test_{name}[base]" in text
        assert f"test_{name}[base]@" not in text


def test_a_remedy_can_be_run(models: Project) -> None:
    """The command that accepts a regression names the test without its group."""
    models.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
""",
    )
    assert run(models, "--calibration-record", models=("base",)).ret == 0
    result = run(models, *GROUPED, models=("hot",))
    lines = [line for line in result.outlines if "--calibration-accept=REASON" in line]
    assert lines
    assert all("@" not in line for line in lines)
    assert any("test_project.py::test_gate[hot]" in line for line in lines)


def test_prune_knows_what_passed(models: Project) -> None:
    """A full run under loadgroup prunes, as one process does."""
    models.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts"), calibration_baseline)
""",
    )
    assert run(models, *GROUPED, "--calibration-record", models=("base",)).ret == 0
    stale = models.baselines / "stale.yaml"
    stale.write_bytes((models.baselines / "facts.yaml").read_bytes())
    result = run(models, *GROUPED, "--calibration-prune", models=("base",))
    assert result.ret == 0
    assert not stale.exists()
    assert (models.baselines / "facts.yaml").exists()


# --- groups --------------------------------------------------------------------------------------

SHOW: Final = """
def pytest_collection_finish(session):
    for item in session.items:
        print("GROUP", item.name, [mark.args for mark in item.iter_markers("xdist_group")])
"""


def groups(project: Project, *args: str) -> dict[str, str]:
    """Return the groups of each test, by its name, as text."""
    project.write("conftest.py", SHOW)
    result = project.run("--collect-only", "-q", "-s", *args)
    assert result.ret == 0, result.outlines
    lines = (line.split(" ", 2) for line in result.outlines if line.startswith("GROUP "))
    return {name: found for _, name, found in lines}


def test_a_group_is_the_name_of_the_model(project: Project) -> None:
    """Each test bears the name of its model, and tests of others bear none."""
    project.write("tests/test_project.py", "def test_a(calibration): pass\ndef test_b(): pass\n")
    found = groups(project, "--calibration-model=runs/base", "--calibration-model=runs/hot")
    assert found == {"test_a[base]": "[('base',)]", "test_a[hot]": "[('hot',)]", "test_b": "[]"}


@pytest.mark.parametrize("strict", [[], ["--strict-markers"]])
def test_no_group_without_xdist(project: Project, strict: list[str]) -> None:
    """Without pytest-xdist its marker is unknown, and none is set."""
    project.write("tests/test_project.py", "def test_a(calibration): pass\n")
    args = ("-p", "no:xdist", "-p", "no:xdist.looponfail", *strict)
    assert groups(project, "--calibration-model=runs/base", *args) == {"test_a[base]": "[]"}


@pytest.mark.parametrize(
    "code",
    [
        "@pytest.mark.xdist_group('mine')\ndef test_a(calibration): pass",
        "pytestmark = pytest.mark.xdist_group('mine')\ndef test_a(calibration): pass",
    ],
    ids=["test", "module"],
)
def test_a_group_of_the_users_stays(project: Project, code: str) -> None:
    """A test that has a group, of its own or of its module, gets no other."""
    project.write("tests/test_project.py", f"import pytest\n{code}\n")
    assert groups(project, "--calibration-model=runs/base") == {"test_a[base]": "[('mine',)]"}


def test_a_group_of_the_users_counts(models: Project) -> None:
    """Tests of one model in two groups of the user's go to two workers, under their own ids."""
    models.write(
        "tests/test_project.py",
        """
import pytest

@pytest.mark.parametrize("i", range(2))
@pytest.mark.xdist_group("one")
def test_one(calibration, i): pass

@pytest.mark.parametrize("i", range(2))
@pytest.mark.xdist_group(name="two")
def test_two(calibration, i): pass
""",
    )
    result = run(models, *GROUPED, models=("base",))
    assert result.parseoutcomes()["passed"] == 4
    assert log(models, "load") == ["base", "base"]
    assert "tests/test_project.py::test_two[base-1]" in log(models, "report")


def test_a_test_without_fixtures_is_found_again(
    models: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of arrays that the user put into a group is named by its id, at its line."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    models.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_ece_below

@pytest.mark.xdist_group("mine")
def test_arrays():
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 0]), 0.2)
""",
    )
    result = models.run(
        *GROUPED,
        *("-p", "no:pytest_github_actions_annotate_failures", "--calibration-report=report.json"),
    )
    assert result.ret == 1
    report = json.loads((models.path / "report.json").read_text(encoding="utf-8"))
    assert [one["test"] for one in report["results"]] == ["tests/test_project.py::test_arrays"]
    result.stdout.fnmatch_lines(["::error file=tests/test_project.py,line=5,*"])


def test_tests_of_a_model_the_project_brings_are_one_group(project: Project) -> None:
    """Where the model has no name at collection, all its tests are one group."""
    project.write(
        "tests/test_project.py",
        """
import pytest

@pytest.fixture(scope="session")
def calibration_model(): pass

def test_a(calibration): pass
def test_b(calibration_model): pass
""",
    )
    found = groups(project)
    assert found == {"test_a": "[('calibration',)]", "test_b": "[('calibration',)]"}


def test_a_test_case_is_of_the_one_model_there_is(project: Project) -> None:
    """A test that cannot be parametrised is in the group of the only model."""
    project.write(
        "tests/test_project.py",
        """
import unittest
import pytest

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _fixtures(self, calibration):
        self.calibration = calibration

    def test_a(self): pass

def test_b(calibration): pass
""",
    )
    found = groups(project, "--calibration-model=runs/base")
    assert found == {"test_a": "[('base',)]", "test_b[base]": "[('base',)]"}


def test_a_group_holds_nothing_the_controller_reads_as_its_own_sign(project: Project) -> None:
    """Two revisions of one model are two groups: what follows an @ is not taken for the group."""
    project.write("tests/test_project.py", "def test_a(calibration): pass\n")
    found = groups(project, "--calibration-model=org/x@v1", "--calibration-model=org/y@v1")
    assert len({*found.values()}) == 2
    assert not any("@" in group for group in found.values())


def test_processes_are_those_of_xdist(models: Project) -> None:
    """The runs above were in workers: none loads a model in this process."""
    models.write(
        "tests/test_project.py",
        "import os\ndef test_a(calibration, worker_id):\n"
        f"    assert os.getpid() != {os.getpid()} and worker_id.startswith('gw')\n",
    )
    assert run(models, *GROUPED, models=("base",)).parseoutcomes()["passed"] == 1
