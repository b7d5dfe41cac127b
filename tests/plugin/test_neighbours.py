"""One small gate beside each plugin and each way of starting pytest that users have.

Every run is a pytest process of its own that loads the named neighbour, this plugin and nothing
else: recorded, then held by the same model, then broken by a worse one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from plugin.conftest import CONFTEST, TESTS

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
HEADLINE = "calibration regressed: probe facts on hot"


@dataclass(frozen=True)
class Neighbour:
    """How pytest is started beside another plugin.

    Attributes:
        name: what the test is called.
        args: of pytest.
        plugins: entry points loaded by ``-p``.
        env: variables of the process.
        python: options of the interpreter.
        ini: lines of pytest.ini.
        silent: nothing is printed at all.
        textless: the error of a failing test is not printed.
        passed: number of tests that pass when nothing got worse, where it is not three.
    """

    name: str
    args: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()
    ini: str = ""
    silent: bool = False
    textless: bool = False
    passed: int = 3

    def missing(self) -> str:
        """Return the first plugin that is not installed; empty where all are."""
        installed = entry_points(group="pytest11").names
        return next((one for one in self.plugins if one not in installed), "")


XDIST, RANDOMLY, RERUNS = "xdist", "randomly", "rerunfailures"
COV, TIMEOUT, SUGAR = "pytest_cov", "timeout", "sugar"
HTML = ("metadata", "html_fixtures", "html")
JSON = ("metadata", "pytest_jsonreport")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
NEIGHBOURS = [
    Neighbour("alone"),
    # --- plugins -------------------------------------------------------------------------
    Neighbour("xdist", ("-n", "2"), (XDIST,)),
    Neighbour("xdist-loadfile", ("-n", "2", "--dist", "loadfile"), (XDIST,)),
    Neighbour("xdist-loadgroup", ("-n", "2", "--dist", "loadgroup"), (XDIST,)),
    Neighbour("xdist-worksteal", ("-n", "2", "--dist", "worksteal"), (XDIST,)),
    Neighbour("xdist-each", ("--dist", "each", "--tx", "2*popen"), (XDIST,), passed=6),
    Neighbour("randomly", ("-p", "no:cacheprovider", "--randomly-seed=7"), (RANDOMLY,)),
    Neighbour("rerunfailures", ("--reruns", "2"), (RERUNS,)),
    Neighbour("timeout-signal", ("--timeout=100", "--timeout-method=signal"), (TIMEOUT,)),
    Neighbour("timeout-thread", ("--timeout=100", "--timeout-method=thread"), (TIMEOUT,)),
    Neighbour("cov", ("--cov=tests", "--cov-report=term", "--cov-branch"), (COV,)),
    Neighbour("html", ("--html=page.html", "--self-contained-html"), HTML),
    Neighbour("json-report", ("--json-report", "--json-report-file=report.json"), JSON),
    Neighbour("reportlog", ("--report-log=log.jsonl",), ("pytest_reportlog",)),
    Neighbour(
        "annotate-failures",
        (),
        ("pytest_github_actions_annotate_failures",),
        {"GITHUB_ACTIONS": "true"},
    ),
    Neighbour("sugar", (), (SUGAR,)),
    Neighbour("instafail", ("--instafail",), ("instafail",)),
    Neighbour("hypothesis", (), ("hypothesispytest",)),
    Neighbour(
        "asyncio",
        (),
        ("asyncio",),
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    ),
    Neighbour("anyio", (), ("anyio",)),
    Neighbour("syrupy", (), ("syrupy",)),
    Neighbour("mock", (), ("pytest_mock",)),
    Neighbour("order", (), ("pytest_order",)),
    Neighbour("repeat", ("--count=2",), ("repeat",), passed=6),
    Neighbour("split", ("--splits=1", "--group=1"), ("pytest-split",)),
    Neighbour("env", (), ("env",)),
    Neighbour("dependency", (), ("dependency",)),
    Neighbour("bdd", (), ("pytest-bdd",)),
    # --- several at once -----------------------------------------------------------------
    Neighbour(
        "xdist-randomly-cov", ("-n", "2", "--cov=tests"), (XDIST, RANDOMLY, COV)
    ),
    Neighbour("xdist-rerunfailures", ("-n", "2", "--reruns", "2"), (XDIST, RERUNS)),
    Neighbour(
        "xdist-html-json",
        ("-n", "2", "--html=page.html", "--json-report", "--json-report-file=report.json"),
        (XDIST, *HTML, JSON[1]),
    ),
    Neighbour("xdist-sugar", ("-n", "2"), (XDIST, SUGAR)),
    Neighbour("xdist-timeout", ("-n", "2", "--timeout=100"), (XDIST, TIMEOUT)),
    Neighbour("rerunfailures-html", ("--reruns", "1", "--html=page.html"), (RERUNS, *HTML)),
    # --- ways of starting pytest ---------------------------------------------------------
    Neighbour("importlib", ("--import-mode=importlib",)),
    Neighbour("append", ("--import-mode=append",)),
    Neighbour("no-cacheprovider", ("-p", "no:cacheprovider")),
    Neighbour("no-terminal", ("-p", "no:terminal"), silent=True),
    Neighbour("strict", ("--strict-markers", "--strict-config")),
    Neighbour("strict-ini", ini="strict = true\n"),
    Neighbour("pythonwarnings", env={"PYTHONWARNINGS": "error"}),
    Neighbour("development-mode", python=("-X", "dev")),
    Neighbour("optimised", python=("-O", "-W", "ignore::pytest.PytestConfigWarning")),
    Neighbour("without-docstrings", python=("-OO",)),
    Neighbour("isolated-interpreter", python=("-s", "-P")),
    Neighbour("c-locale", env=C_LOCALE),
    Neighbour("plain-assertions", ("--assert=plain",)),
    Neighbour("no-capture", ("-s",)),
    Neighbour("capture-sys", ("--capture=sys",)),
    Neighbour("no-logging", ("-p", "no:logging")),
    Neighbour("no-warnings", ("-p", "no:warnings")),
    Neighbour("junit", ("--junitxml=junit.xml",)),
    Neighbour("doctest", ("--doctest-modules",)),
    Neighbour("traceback-short", ("--tb=short",)),
    Neighbour("traceback-native", ("--tb=native",)),
    Neighbour("traceback-line", ("--tb=line",)),
    Neighbour("traceback-none", ("--tb=no",), textless=True),
    Neighbour("quiet", ("-q",)),
    Neighbour("verbose", ("-vv", "-ra")),
    Neighbour("exit-first", ("-x",)),
    Neighbour("stepwise", ("--stepwise",)),
    Neighbour("failed-first", ("--failed-first",)),
    Neighbour("setup-show", ("--setup-show",)),
    Neighbour("durations", ("--durations=5",)),
    Neighbour("rootdir-config", ("--rootdir=.", "-c", "pytest.ini")),
]


class Beside:
    """A project in which pytest runs beside a neighbour."""

    def __init__(self, pytester: pytest.Pytester, neighbour: Neighbour) -> None:
        self.pytester, self.neighbour, self.path = pytester, neighbour, pytester.path
        pytester.makeini(f"[pytest]\n{neighbour.ini}")
        pytester.makeconftest(CONFTEST)
        self.write("tests/test_project.py", GATE)
        for name in ("base", "hot"):
            (self.path / "runs" / name).mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, model: str, *args: str) -> pytest.RunResult:
        """Run pytest beside the neighbour, every warning an error."""
        loaded = ("calibration", *self.neighbour.plugins)
        return self.pytester.run(
            *(sys.executable, *self.neighbour.python, "-m", "pytest"),
            *(part for one in loaded for part in ("-p", one)),
            *("-W", "error", f"--calibration-model=runs/{model}"),
            *("--calibration-report=calibration.json", *self.neighbour.args, *args),
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
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stdout.str() + result.stderr.str())


def check_output(beside: Beside, result: pytest.RunResult, summary: str) -> str:
    """Check the summary, and that nothing warned or broke; return what was printed."""
    text = printed(result)
    assert not re.search(r"INTERNALERROR|Traceback \(most|warnings summary|Warning: ", text), text
    if not beside.neighbour.silent:
        assert len(re.findall(r"^[=─\-]+ ?calibration ?[=─\-]+$", text, re.MULTILINE)) == 1, text
        assert len(re.findall(rf"^{summary}$", text, re.MULTILINE)) == 1, text
    return text


def counted(neighbour: Neighbour, states: list[str]) -> list[str]:
    """The states that a report shows: one verdict of a test however often it ran."""
    return sorted(states * (neighbour.passed // 3))


@pytest.mark.parametrize("beside", NEIGHBOURS, indirect=True, ids=lambda one: one.name)
def test_gate_beside_a_neighbour(beside: Beside) -> None:
    """Recorded, held, broken: the same verdicts, exit codes, text and items as without it."""
    neighbour = beside.neighbour
    recorded = beside.run("base", "--calibration-record")
    assert recorded.ret == 0, printed(recorded)
    assert sorted(Path(name).suffix for name in beside.baselines) == [".npz", ".yaml"]
    stored = beside.baselines

    held = beside.run("base")
    assert held.ret == 0, printed(held)
    check_output(beside, held, "2 passed")
    assert beside.states() == ["passed", "passed"]
    if not neighbour.silent and "sugar" not in neighbour.name:
        assert re.search(rf"\b{neighbour.passed} passed in ", printed(held)), printed(held)

    broken = beside.run("hot")
    assert broken.ret == 1, printed(broken)
    text = check_output(beside, broken, "1 passed, 1 regressed")
    assert neighbour.silent or neighbour.textless or HEADLINE in text, text
    assert beside.states() == ["passed", "regressed"]
    assert beside.baselines == stored
