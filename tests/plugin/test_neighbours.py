"""One small gate beside each plugin and each way of starting pytest that users have.

Every run is a pytest process of its own that loads the named neighbours, this plugin and nothing
else. Its first run records; in the second one model holds and another is worse.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from user_project import CONFTEST, TESTS

import pytest_calibration

pytestmark = pytest.mark.neighbours

GATE = """
import pytest
from pytest_calibration import assert_accuracy_above, assert_no_regression

@pytest.fixture
def facts(calibration):
    return calibration.run("facts")

def test_accuracy(facts):
    assert_accuracy_above(facts, 0.3)

def test_nothing_got_worse(facts, calibration_baseline):
    assert_no_regression(facts, calibration_baseline)

def test_other():
    assert True
"""
LAST = "def test_nothing_got_worse(facts, calibration_baseline):\n    assert"
HEADLINE = "calibration regressed: probe facts on hot"


@dataclass(frozen=True)
class Neighbour:
    """How pytest is started beside other plugins.

    Attributes:
        name: what the test is called.
        args: of pytest.
        plugins: entry points loaded by ``-p``.
        env: variables of the process.
        python: options of the interpreter.
        ini: lines of pytest.ini.
        gate: the tests.
        shows: what the run prints: all, no error of a failing test, or nothing.
        counts: what pytest counts in the run with two models; empty where another plugin counts.
        check: looks at what the neighbour wrote about the run with two models.
    """

    name: str
    args: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()
    ini: str = ""
    gate: str = GATE
    shows: str = "all"
    counts: str = "1 failed, 4 passed"
    check: Callable[[Path, str], None] = lambda _folder, _text: None

    def missing(self) -> str:
        """Return the first plugin that is not installed; empty where all are."""
        installed = entry_points(group="pytest11").names
        return next((one for one in self.plugins if one not in installed), "")


# --- what neighbours write -----------------------------------------------------------------------


def page_shows_it(folder: Path, _text: str) -> None:
    """The page of pytest-html holds the text of the failure."""
    assert HEADLINE in (folder / "page.html").read_text("utf-8")


def json_holds_it(folder: Path, _text: str) -> None:
    """The report of pytest-json-report has the exit code and the text of the one failure."""
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["exitcode"] == 1
    assert report["summary"] == {"failed": 1, "passed": 4, "total": 5, "collected": 5}
    (failed,) = [one for one in report["tests"] if one["outcome"] == "failed"]
    assert HEADLINE in failed["call"]["longrepr"]


def log_holds_it(folder: Path, _text: str) -> None:
    """The log of pytest-reportlog ends in the exit code and holds the failure."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    assert [one["exitstatus"] for one in lines if "exitstatus" in one] == [1]
    failed: list[Any] = [one for one in lines if one.get("outcome") == "failed"]
    assert [HEADLINE in json.dumps(one["longrepr"]) for one in failed] == [True]


def junit_holds_it(folder: Path, _text: str) -> None:
    """JUnit counts one failure of five tests, with its text."""
    suite = ElementTree.parse(folder / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "0")
    (failure,) = suite.iter("failure")
    assert HEADLINE in (failure.text or "")


def annotated_once(_folder: Path, text: str) -> None:
    """GitHub shows one annotation for the one failure."""
    errors = [line for line in text.splitlines() if line.startswith("::error")]
    assert [HEADLINE.split(":", maxsplit=1)[0] in line for line in errors] == [True], errors


def covered(_folder: Path, text: str) -> None:
    """pytest-cov prints its table: every line of the tests ran."""
    assert re.search(r"tests/test_project\.py\s.*\b100%", text), text


XDIST, RANDOMLY, RERUNS = "xdist", "randomly", "rerunfailures"
COV, TIMEOUT, SUGAR = "pytest_cov", "timeout", "sugar"
HTML = ("metadata", "html_fixtures", "html")
# The second of two plugins of one package is there before `-p` names it.
LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
JSON = ("metadata", "pytest_jsonreport")
REPORTLOG, ANNOTATE = "pytest_reportlog", "pytest_github_actions_annotate_failures"
LOOPS = "asyncio_default_fixture_loop_scope = function\n"
WITHIN = "with subtests.test():\n        assert"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
ASYNC = GATE.replace(LAST, f"async {LAST}")
NEIGHBOURS = [
    Neighbour("alone"),
    # --- plugins -------------------------------------------------------------------------
    Neighbour("xdist", ("-n", "2"), (XDIST,)),
    Neighbour("xdist-loadgroup", ("-n", "2", "--dist", "loadgroup"), (XDIST,)),
    Neighbour("randomly", ("--randomly-seed=7",), (RANDOMLY,)),
    Neighbour("rerunfailures", ("--reruns", "2"), (RERUNS,), counts="1 failed, 4 passed, 2 rerun"),
    Neighbour("timeout-signal", ("--timeout=300", "--timeout-method=signal"), (TIMEOUT,)),
    Neighbour("timeout-thread", ("--timeout=300", "--timeout-method=thread"), (TIMEOUT,)),
    Neighbour("cov", ("--cov=tests", "--cov-branch"), (COV,), check=covered),
    Neighbour(
        "html", (*LOADED, "--html=page.html", "--self-contained-html"), HTML, check=page_shows_it
    ),
    Neighbour(
        "json-report",
        ("--json-report", "--json-report-file=report.json"),
        JSON,
        check=json_holds_it,
    ),
    Neighbour("reportlog", ("--report-log=log.jsonl",), (REPORTLOG,), check=log_holds_it),
    Neighbour(
        "annotate-failures", (), (ANNOTATE,), {"GITHUB_ACTIONS": "true"}, check=annotated_once
    ),
    Neighbour("sugar", (), (SUGAR,), counts=""),
    Neighbour("instafail", ("--instafail",), ("instafail",)),
    Neighbour("asyncio", (), ("asyncio",), ini=f"{LOOPS}asyncio_mode = auto\n", gate=ASYNC),
    Neighbour("anyio", (), ("anyio",), ini="anyio_mode = auto\n", gate=ASYNC),
    Neighbour(
        "subtests",
        gate=GATE.replace(LAST, LAST.replace("(", "(subtests, ").replace("assert", WITHIN)),
        counts="",
    ),
    Neighbour("repeat", ("--count=2",), ("repeat",), counts="2 failed, 8 passed"),
    # Plugins that add fixtures, markers or an order, and change no report.
    Neighbour("syrupy", (), ("syrupy", "hypothesispytest", "pytest_mock")),
    Neighbour(
        "orders", ("--splits=1", "--group=1"), ("pytest-split", "pytest_order", "dependency", "env")
    ),
    # --- several at once -----------------------------------------------------------------
    Neighbour("xdist-randomly-cov", ("-n", "2", "--cov=tests"), (XDIST, RANDOMLY, COV)),
    Neighbour(
        "xdist-rerunfailures",
        ("-n", "2", "--reruns", "1"),
        (XDIST, RERUNS),
        counts="1 failed, 4 passed, 1 rerun",
    ),
    Neighbour(
        "xdist-html", (*LOADED, "-n", "2", "--html=page.html"), (XDIST, *HTML), check=page_shows_it
    ),
    Neighbour("xdist-sugar", ("-n", "2"), (XDIST, SUGAR), counts=""),
    Neighbour("xdist-timeout", ("-n", "2", "--timeout=300"), (XDIST, TIMEOUT)),
    # --- ways of starting pytest ---------------------------------------------------------
    Neighbour("importlib", ("--import-mode=importlib",)),
    Neighbour("no-cacheprovider", ("-p", "no:cacheprovider")),
    Neighbour("no-terminal", ("-p", "no:terminal"), shows="nothing"),
    Neighbour("strict", ("--strict-markers", "--strict-config"), ini="xfail_strict = true\n"),
    Neighbour("python-warnings", env={"PYTHONWARNINGS": "error"}, python=("-X", "dev")),
    # pytest says itself that plain assertions are off.
    Neighbour("optimised", ("-W", "ignore::pytest.PytestConfigWarning"), python=("-O",)),
    Neighbour("no-docstrings", ("-W", "ignore::pytest.PytestConfigWarning"), python=("-OO",)),
    Neighbour("c-locale", env=C_LOCALE),
    Neighbour("plain-assertions", ("--assert=plain",)),
    Neighbour("no-capture", ("-s", "-p", "no:logging", "-p", "no:warnings")),
    Neighbour("junit", ("--junitxml=junit.xml",), check=junit_holds_it),
    Neighbour("traceback-short", ("--tb=short", "--setup-show", "--durations=3")),
    Neighbour("traceback-none", ("--tb=no", "-q"), shows="no errors"),
    Neighbour("verbose", ("-vv", "-ra", "--showlocals")),
]


class Beside:
    """A project in which pytest runs beside a neighbour."""

    def __init__(self, pytester: pytest.Pytester, neighbour: Neighbour) -> None:
        self.pytester, self.neighbour, self.path = pytester, neighbour, pytester.path
        pytester.makeini(f"[pytest]\n{neighbour.ini}")
        pytester.makeconftest(CONFTEST)
        self.write("tests/test_project.py", neighbour.gate)
        for name in ("base", "hot"):
            (self.path / "runs" / name).mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest beside the neighbour, every warning an error."""
        loaded = ("calibration", *self.neighbour.plugins)
        return self.pytester.run(
            *(sys.executable, *self.neighbour.python, "-m", "pytest"),
            *(part for one in loaded for part in ("-p", one)),
            *("-W", "error", "--calibration-report=calibration.json"),
            *(*self.neighbour.args, *args),
        )

    @property
    def baselines(self) -> dict[str, bytes]:
        """The files of the baselines, with their content."""
        folder = self.path / "tests" / "calibration_baselines"
        return {file.name: file.read_bytes() for file in folder.glob("*.*")}

    def states(self) -> list[str]:
        """The states of the verdicts in our JSON report, sorted."""
        report = json.loads((self.path / "calibration.json").read_text("utf-8"))
        return sorted(one["state"] for one in report["results"])


@pytest.fixture
def beside(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Beside:
    """A project beside the neighbour that the test is parametrised by, else by none."""
    neighbour = getattr(request, "param", Neighbour("alone"))
    if missing := neighbour.missing():
        pytest.skip(f"{missing} is not installed: tox -e neighbours")
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_SHA", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    package = Path(pytest_calibration.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(package)]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name, value in neighbour.env.items():
        monkeypatch.setenv(name, value)
    return Beside(pytester, neighbour)


def printed(result: pytest.RunResult) -> str:
    """All that a run printed, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stdout.str() + "\n" + result.stderr.str())


def check_summary(shows: str, text: str, states: set[str]) -> None:
    """Check that the summary is there once, with these counts, and that nothing warned or broke."""
    assert not re.search(r"INTERNALERROR|Traceback \(most|warnings summary|Warning: ", text), text
    if shows == "nothing":
        assert not text.strip(), text
        return
    assert len(re.findall(r"^=+ calibration =+$", text, re.MULTILINE)) == 1, text
    counted = [set(line.split(", ")) for line in text.splitlines()]
    assert counted.count(states) == 1, text


@pytest.mark.parametrize("beside", NEIGHBOURS, indirect=True, ids=lambda one: one.name)
def test_gate_beside_a_neighbour(beside: Beside) -> None:
    """Recorded, held, broken: verdicts, exit codes, texts and counts are those of pytest alone."""
    neighbour = beside.neighbour
    recorded = beside.run("--calibration-model=runs/base", "--calibration-record")
    assert recorded.ret == 0, printed(recorded)
    if neighbour.name != "repeat":
        check_summary(neighbour.shows, printed(recorded), {"1 passed", "1 recorded"})
    stored = beside.baselines
    assert sorted(Path(name).suffix for name in stored) == [".npz", ".yaml"]

    judged = beside.run("--calibration-model=runs/base", "--calibration-model=runs/hot")
    text = printed(judged)
    assert judged.ret == 1, text
    times = 2 if neighbour.name == "repeat" else 1
    check_summary(neighbour.shows, text, {f"{3 * times} passed", f"{times} regressed"})
    assert beside.states() == times * ["passed", "passed", "passed"] + times * ["regressed"]
    assert (HEADLINE in text) == (neighbour.shows == "all"), text
    if neighbour.counts and neighbour.shows != "nothing":
        assert re.search(rf"^=* ?{neighbour.counts} in ", text, re.MULTILINE), text
    assert beside.baselines == stored
    neighbour.check(beside.path, text)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_a_run_that_times_out_records_nothing(beside: Beside, method: str) -> None:
    """A test stopped by pytest-timeout while the model is asked is red, and nothing is written."""
    if "timeout" not in entry_points(group="pytest11").names:
        pytest.skip("pytest-timeout is not installed: tox -e neighbours")
    beside.write(
        "conftest.py",
        CONFTEST.replace("return FakeModel(", "return Slow(")
        + """
import time

class Slow(FakeModel):
    def next_token(self, *args, **kwargs):
        time.sleep(60)
""",
    )
    result = beside.run(
        *("-p", "timeout", "--timeout=5", f"--timeout-method={method}"),
        *("--calibration-model=runs/base", "--calibration-record"),
    )
    assert result.ret == 1
    assert "Timeout" in printed(result)
    assert beside.baselines == {}


def test_optimised_python_keeps_our_assertions_and_drops_plain_ones(beside: Beside) -> None:
    """Under ``python -O`` what this package asserts still fails, where ``assert`` does not."""
    beside.write(
        "tests/test_project.py",
        """
import helper
from pytest_calibration import *

ALL = ([1.0] * 200, [False] * 200)

def wrong():
    return Predictions.from_confidence(*ALL)

def test_ece(): assert_ece_below(wrong(), 0.1)
def test_metric(): assert_metric_below(wrong(), "brier", 0.1)
def test_accuracy(): assert_accuracy_above(wrong(), 0.1)
def test_overconfident(): assert_not_overconfident(wrong(), 0.1)
def test_plain(): helper.check()
""",
    )
    # In a test, pytest keeps an ``assert``; in a module beside it, Python drops it.
    beside.write("tests/helper.py", "def check(): assert False")
    (beside.path / "conftest.py").unlink()
    object.__setattr__(beside.neighbour, "python", ("-O",))
    result = beside.run("-W", "ignore::pytest.PytestConfigWarning")
    assert result.ret == 1
    assert re.search(r"^=+ 4 failed, 1 passed in ", printed(result), re.MULTILINE), printed(result)
