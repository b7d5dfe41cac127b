"""What the plugin does in a run that has nothing to do with it: nothing."""

from __future__ import annotations

import sys

import pytest

HEAVY = "('numpy', 'yaml', 'torch', 'transformers')"


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


@pytest.mark.parametrize("args", [[], ["-n", "1"]], ids=["one-process", "worker"])
def test_nothing_heavy_is_loaded(pytester: pytest.Pytester, args: list[str]) -> None:
    """A whole run without calibration tests loads none of numpy, yaml, torch, transformers."""
    pytester.makepyfile(
        f"""
import sys
def test_other():
    assert "pytest_calibration.plugin" in sys.modules
    assert not [name for name in {HEAVY} if name in sys.modules]
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", *args)
    result.assert_outcomes(passed=1)


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


def test_the_check_can_fail(pytester: pytest.Pytester) -> None:
    """The check for heavy modules sees one that is loaded."""
    pytester.makepyfile(f"import sys, yaml\nprint([n for n in {HEAVY} if n in sys.modules])")
    result = pytester.run(sys.executable, "test_the_check_can_fail.py")
    result.stdout.fnmatch_lines(["*'yaml'*"])
