"""What the plugin does in a run that has nothing to do with it: nothing."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module

import pytest

HEAVY = "('numpy', 'yaml', 'torch', 'transformers')"
# All that a start of pytest may load of this package: each module more is time in every project of
# the environment, and compiled anew at every start where pytest cannot keep its bytecode.
LIGHT = {
    "pytest_calibration",
    "pytest_calibration.plugin",
    "pytest_calibration.plugin.fixtures",
    "pytest_calibration.plugin.options",
    "pytest_calibration.plugin.session",
    "pytest_calibration.sink",
}


def test_no_output_and_no_files_without_calibration_tests(pytester: pytest.Pytester) -> None:
    """A project without calibration tests sees no line and no file of this plugin."""
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.no_re_match_line(".*calibration (?!-)(?!.*plugins).*")
    result.stdout.no_fnmatch_line("=* calibration =*")
    own = {"__pycache__", "stdout", "stderr", "runpytest-0", "runpytest-current"}
    files = {p.name for p in pytester.path.iterdir()} - own
    assert files == {"test_no_output_and_no_files_without_calibration_tests.py"}


def test_collection_of_calibration_tests_loads_no_torch(pytester: pytest.Pytester) -> None:
    """Collecting calibration tests imports neither torch nor transformers nor numpy."""
    pytester.makepyfile("def test_it(calibration, calibration_probe): pass")
    pytester.makeconftest(
        f"""
import sys
def pytest_collection_finish():
    print("LOADED", [name for name in {HEAVY} if name in sys.modules])
"""
    )
    result = pytester.runpytest_subprocess(
        "--collect-only", "-q", "-s", "-p", "no:hypothesispytest"
    )
    result.stdout.fnmatch_lines(["*3 tests collected*"])
    line = next(x for x in result.outlines if "LOADED" in x)
    assert "torch" not in line
    assert "transformers" not in line


@pytest.mark.parametrize("args", [[], ["-n", "1"]], ids=["one-process", "worker"])
def test_little_of_this_package_is_loaded(pytester: pytest.Pytester, args: list[str]) -> None:
    """A whole run of other tests, deselected and skipped ones too, loads only the light modules."""
    pytester.makepyfile(
        test_first="import pytest\npytest.skip('not here', allow_module_level=True)\n",
        test_second=f"""
import sys
def test_other():
    pass
def test_deselected():
    pass
def test_last():
    loaded = {{name for name in sys.modules if name.partition(".")[0] == "pytest_calibration"}}
    assert loaded == {LIGHT!r}
    assert not [name for name in {HEAVY} if name in sys.modules]
""",
    )
    result = pytester.runpytest_subprocess(
        "-p", "no:hypothesispytest", "--deselect=test_second.py::test_deselected", *args
    )
    assert result.ret == 0, result.outlines
    assert result.parseoutcomes()["passed"] == 2


def test_a_failure_elsewhere_loads_no_session(pytester: pytest.Pytester) -> None:
    """A test of others' that fails is none of ours."""
    pytester.makepyfile(
        """
import sys
def test_fails():
    assert False
def test_last():
    assert "pytest_calibration.plugin.run" not in sys.modules
"""
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1, failed=1)


LATE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

def test_first():
    pass

def test_threads():
    assert "pytest_calibration.plugin.run" not in sys.modules
    together = Barrier(4)
    def check(i):
        together.wait()
        from pytest_calibration import assert_ece_below
        assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.1 * (i + 1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, range(4)))
    from pytest_calibration import assert_ece_below
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 0]), 0.2)
"""


@pytest.mark.parametrize("args", [[], ["-n", "1"]], ids=["one-process", "worker"])
def test_an_assertion_in_the_middle_of_a_run_is_reported(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """The first assertion of a session may come late and from several threads at once."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makepyfile(LATE)
    result = pytester.runpytest_subprocess(
        *("-p", "no:hypothesispytest", "-p", "no:pytest_github_actions_annotate_failures"), *args
    )
    result.assert_outcomes(passed=1, failed=1)
    for limit in ("0.100", "0.200", "0.300", "0.400"):
        result.stdout.fnmatch_lines([f"*probabilities*limit {limit}*passed"])
    result.stdout.fnmatch_lines(["*4 passed*1 above*"])
    # The annotation stands where the test does.
    result.stdout.fnmatch_lines(["::error file=test_an_assertion*.py,line=8,*"])


def test_what_was_collected_before_is_remembered(pytester: pytest.Pytester) -> None:
    """A file that skips itself before any calibration test is collected keeps pruning off."""
    pytester.makepyfile(
        test_a="import pytest\npytest.skip('not here', allow_module_level=True)\n",
        test_b="""
import pytest
from pytest_calibration import assert_ece_below

@pytest.fixture(scope="session")
def calibration_model(): pass

def test_it(calibration):
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.4)
""",
    )
    result = pytester.runpytest_subprocess("--calibration-prune")
    result.stdout.fnmatch_lines(["nothing pruned: some tests were deselected or could not be*"])


def test_a_worker_without_assertions_finished_as_well(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two workers one asserts something: what it saw is a whole run's."""
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    pytester.makepyfile(
        test_a="""
def test_arrays():
    from pytest_calibration import assert_ece_below
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.4)
""",
        test_b="def test_other(): pass",
    )
    result = pytester.runpytest_subprocess("-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=2)
    text = summary.read_text(encoding="utf-8")
    assert "probabilities" in text
    assert "not every test was run" not in text


def test_progress_is_shown_to_whoever_needs_no_fixture(pytester: pytest.Pytester) -> None:
    """A test that loads a model by itself has somebody to tell how far it is."""
    pytester.makepyfile(
        """
from pytest_calibration import load_model
from pytest_calibration.progress import PROGRESS

def test_it():
    assert PROGRESS._listener is not None
"""
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", sorted(LIGHT - {"pytest_calibration"}))
def test_what_every_start_loads_is_not_rewritten(name: str) -> None:
    """Asserts of plugins are rewritten; these modules have none, and say so."""
    module = import_module(name)
    assert "PYTEST_DONT_REWRITE" in (module.__doc__ or "")
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    assert not any(isinstance(node, ast.Assert) for node in nodes)
