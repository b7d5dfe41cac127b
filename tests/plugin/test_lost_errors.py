"""A verdict that fails makes the run red, unless its test expects it: no error gets lost."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
START: Final = """
import asyncio, contextlib, multiprocessing, os, threading, unittest, warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numpy as np
import pytest
from pytest_calibration import Predictions, assert_ece_below

ANSWERS = Predictions.from_confidence(np.full(400, 0.9), np.arange(400) % 2 == 0, probe="q")

def gate():
    assert_ece_below(ANSWERS, 0.1)

async def gate_task():
    gate()
"""
# Each loses the error of a verdict that fails.
LOST: Final = {
    "thread": "t = threading.Thread(target=gate); t.start(); t.join()",
    "future": "with ThreadPoolExecutor(1) as pool: pool.submit(gate)",
    "except": "try: gate()\n    except AssertionError: pass",
    "skip": "try: gate()\n    except AssertionError: pytest.skip('known')",
    "suppress": "with contextlib.suppress(AssertionError): gate()",
    "task": "async def main():\n        task = asyncio.create_task(gate_task())\n"
    "        await asyncio.wait([task])\n    asyncio.run(main())",
    "gather": "async def main():\n"
    "        await asyncio.gather(gate_task(), return_exceptions=True)\n    asyncio.run(main())",
    "raises_and_except": "with pytest.raises(AssertionError): gate()\n"
    "    with contextlib.suppress(AssertionError): gate()",
}
FORKED: Final = {
    "process": "p = multiprocessing.get_context('fork').Process(target=gate)\n"
    "    p.start(); p.join()",
    "fork": "pid = os.fork()\n    if pid == 0:\n        try: gate()\n        finally: os._exit(0)\n"
    "    os.waitpid(pid, 0)",
}
# Each expects it.
MEANT: Final = {
    "raises": "with pytest.raises(AssertionError): gate()",
    "raises_match": "with pytest.raises(AssertionError, match='limit'): gate()",
    "raises_wider": "with pytest.raises(Exception): gate()",
    "raises_call": "pytest.raises(AssertionError, gate)",
    "raises_cause": "with pytest.raises(ValueError):\n        try: gate()\n"
    "        except AssertionError as error: raise ValueError('worse') from error",
    "raises_future": "with ThreadPoolExecutor(1) as pool, pytest.raises(AssertionError):\n"
    "        pool.submit(gate).result()",
    "raises_group": "async def main():\n        async with asyncio.TaskGroup() as group:\n"
    "            group.create_task(gate_task())\n"
    "    with pytest.RaisesGroup(AssertionError): asyncio.run(main())",
    "assert_raises": "with unittest.TestCase().assertRaises(AssertionError): gate()",
    "assert_raises_regex": "unittest.TestCase().assertRaisesRegex(AssertionError, 'limit', gate)",
    "xfail_in_the_test": "try: gate()\n    except AssertionError: pytest.xfail('known')",
}
MEANT_FORKED: Final = {
    "raises_in_a_process": "def child():\n        with pytest.raises(AssertionError): gate()\n"
    "    p = multiprocessing.get_context('fork').Process(target=child)\n"
    "    p.start(); p.join(); assert p.exitcode == 0",
    "raises_process": "fork = multiprocessing.get_context('fork')\n"
    "    with ProcessPoolExecutor(1, mp_context=fork) as pool, pytest.raises(AssertionError):\n"
    "        pool.submit(gate).result()",
}
MARKED: Final = """
@pytest.mark.xfail
def test_meant_xfail(): gate()

@pytest.mark.xfail(raises=AssertionError, strict=True)
def test_meant_xfail_strict(): gate()

@pytest.mark.xfail
def test_meant_xfail_in_a_thread():
    t = threading.Thread(target=gate); t.start(); t.join()

class TestCase(unittest.TestCase):
    @unittest.expectedFailure
    def test_meant_expected_failure(self): gate()
"""
if hasattr(os, "fork"):
    LOST |= FORKED
    MEANT |= MEANT_FORKED


def written(tests: dict[str, str], prefix: str) -> str:
    """Return test functions with these bodies."""
    return "".join(f"\ndef test_{prefix}_{name}():\n    {code}\n" for name, code in tests.items())


@WORKERS
def test_a_lost_error_makes_the_run_red(project: Project, workers: list[str]) -> None:
    """Each way to lose the error is named, each way to expect it is left alone."""
    project.isolated = True
    tests = written(LOST, "lost") + written(MEANT, "meant") + MARKED
    project.write("tests/test_project.py", START + tests)
    result = project.run("-W", "ignore", "--calibration-report=r.json", *workers)
    assert result.ret == 1
    assert not result.parseoutcomes().get("failed")
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    fails = {one["test"] for one in report["results"] if one["fails"]}
    assert fails == {f"tests/test_project.py::test_lost_{name}" for name in LOST}
    assert report["green"] is False
    told = {line.partition(" did not fail, but this did: ")[0] for line in report["errors"]}
    assert told == fails
    assert all("above the limit: probe q" in line for line in report["errors"])
    meant = [one for one in report["results"] if not one["fails"]]
    assert {one["test"].rpartition("_meant_")[2] for one in meant} >= {*MEANT, "expected_failure"}
    assert all(one["notes"][-1].endswith("it expects this.") for one in meant)
    text = " ".join(result.outlines)
    assert "test_lost_thread did not fail, but this did" in text
    assert "expect it with pytest.raises or xfail" in text


@WORKERS
def test_an_expected_failure_leaves_the_run_green(project: Project, workers: list[str]) -> None:
    """A run of tests that all mean their failing verdicts is green."""
    project.isolated = True
    passing = "\ndef test_passes(): assert_ece_below(ANSWERS, 0.9)\n"
    tests = written(MEANT, "meant") + MARKED
    project.write("tests/test_project.py", START + tests + passing)
    result = project.run("-W", "ignore", "--calibration-report=r.json", *workers)
    assert result.ret == 0
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    assert report["green"] is True
    assert report["errors"] == []


@pytest.mark.parametrize(
    ("code", "test"),
    [
        ("yield\n    try: gate()\n    except AssertionError: pass", "test_last"),
        ("yield\n    t = threading.Thread(target=gate); t.start(); t.join()", "test_last"),
    ],
    ids=["except", "thread"],
)
def test_the_end_of_a_session_fixture_loses_nothing(project: Project, code: str, test: str) -> None:
    """A verdict in the teardown of a session is that of the last test."""
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START
        + f"\n@pytest.fixture(scope='session', autouse=True)\ndef after():\n    {code}\n"
        + "\ndef test_first(): pass\n\ndef test_last(): pass\n",
    )
    result = project.run("-W", "ignore")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"ERROR: tests/test_project.py::{test} did not fail, but this*"])


@WORKERS
def test_a_thread_may_outlive_its_test(project: Project, workers: list[str]) -> None:
    """A verdict after the last report of the last test is in the report, and the run red."""
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START
        + """
GO = threading.Event()
THREAD = threading.Thread(target=lambda: GO.wait(60) and gate())

def test_it():
    assert_ece_below(ANSWERS, 0.9)
    THREAD.start()
""",
    )
    project.write(
        "tests/conftest.py",
        """
import sys

def pytest_runtest_logfinish(nodeid):
    module = sys.modules.get("test_project")
    if module is not None:
        module.GO.set()
        module.THREAD.join()
""",
    )
    result = project.run("-W", "ignore", "--calibration-report=r.json", *workers)
    assert result.ret == 1
    report = json.loads((project.path / "r.json").read_text("utf-8"))
    assert [(one["state"], one["fails"]) for one in report["results"]] == [
        ("passed", False),
        ("above_limit", True),
    ]
    assert report["green"] is False


@WORKERS
def test_a_hook_at_the_end_of_the_session_loses_nothing(
    project: Project, workers: list[str]
) -> None:
    """A verdict after the last test, in another hook, makes the session red."""
    project.isolated = True
    project.write("tests/test_project.py", START + "\ndef test_it(): assert_ece_below(ANSWERS, .9)")
    project.write(
        "tests/conftest.py",
        """
import contextlib, sys

def pytest_sessionfinish():
    if "test_project" in sys.modules:
        with contextlib.suppress(AssertionError): sys.modules["test_project"].gate()
""",
    )
    result = project.run("-W", "ignore", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: tests/test_project.py::test_it did not fail, but this*"])


def test_a_lost_error_of_an_earlier_attempt_does_not_count(project: Project) -> None:
    """The last attempt of a test counts, as everywhere."""
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START
        + """
TRIED = []

def test_it():
    if not TRIED:
        TRIED.append(1)
        with contextlib.suppress(AssertionError): gate()
        assert False
    assert_ece_below(ANSWERS, 0.9)
""",
    )
    assert project.run("--reruns", "1").ret == 0


def test_a_doctest_that_shows_the_error_expects_it(project: Project) -> None:
    """A traceback in a doctest is what it expects."""
    project.isolated = True
    project.write(
        "tests/doc.txt",
        """
>>> import numpy as np
>>> from pytest_calibration import Predictions, assert_ece_below
>>> answers = Predictions.from_confidence(np.full(400, 0.9), np.arange(400) % 2 == 0, probe="q")
>>> verdict = assert_ece_below(answers, 0.9)
>>> assert_ece_below(answers, 0.1)
Traceback (most recent call last):
    ...
AssertionError: above the limit: probe q
...
""",
    )
    flags = ["--doctest-glob=doc.txt", "-o", "doctest_optionflags=ELLIPSIS IGNORE_EXCEPTION_DETAIL"]
    result = project.run(*flags, "tests/doc.txt")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_a_failing_subtest_is_a_failing_test(project: Project) -> None:
    """A verdict that fails a subtest fails its test, and is not called lost."""
    pytest.importorskip("_pytest.subtests", reason="pytest 9 has subtests")
    project.isolated = True
    project.write(
        "tests/test_project.py",
        START + "\ndef test_it(subtests):\n    with subtests.test('one'): gate()\n",
    )
    result = project.run()
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*did not fail, but this did*")
