"""Ini keys and flags without a file of their own: device, dtype, strictness."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

SMALL = """
from pytest_calibration import assert_no_regression

def test_small(calibration, calibration_baseline):
    assert_no_regression(calibration.run("facts", limit=80), calibration_baseline)
"""


def test_inconclusive_passes_with_a_line_and_the_n_it_needs(recorded) -> None:
    """Too few items: the test passes, the summary says so, and the run alone is not green."""
    recorded.write("tests/test_small.py", SMALL)
    result = recorded.facts("other", "tests/test_small.py")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"inconclusive: facts on other: n = 80 is too few; about \S+ wo"])
    # Beside a comparison that decides, the run is green.
    assert recorded.facts("base", "--calibration-model=runs/other").ret == 0


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_run_that_decides_nothing_is_not_green(recorded, workers: list[str]) -> None:
    """Every comparison inconclusive: the tests pass and the run exits 1."""
    recorded.write("tests/test_project.py", SMALL)
    result = recorded.facts("other", *workers)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: 1 calibration test collected and nothing was decided*"])


@pytest.mark.parametrize(
    "body",
    ["calibration.run('facts')", "__import__('pytest').skip('later')"],
    ids=["unchecked", "skipped"],
)
def test_unchecked_or_skipped_is_not_green(project, body: str) -> None:
    """A run that only measures, or only skips, is not green."""
    project.write("tests/test_project.py", f"def test_it(calibration): {body}\n")
    assert project.facts("base").ret == 1


def test_inconclusive_can_be_made_red(recorded) -> None:
    """With calibration_inconclusive = fail an inconclusive comparison fails its test."""
    recorded.write("tests/test_project.py", SMALL)
    recorded.pytester.makeini("[pytest]\ncalibration_inconclusive = fail\n")
    result = recorded.facts("other")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*inconclusive: probe facts on other*"])


def test_inconclusive_warns_nobody(recorded) -> None:
    """A project with filterwarnings = error gets no crash from an inconclusive comparison."""
    recorded.write("tests/test_project.py", SMALL)
    recorded.facts("other", "-W", "error").assert_outcomes(passed=1)


def test_max_undetected_decides_what_is_inconclusive(recorded) -> None:
    """A project that tolerates blindness gets a verdict from fewer items."""
    recorded.write("tests/test_project.py", SMALL)
    recorded.pytester.makeini("[pytest]\ncalibration_max_undetected = 0.5\n")
    result = recorded.facts("other")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 passed"])


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("tox.ini", "[pytest]\ncalibration_tolerance = 0.5\n"),
        ("calibration.yaml", "tolerance: 0.5\n"),
        ("calibration.yaml", "probes: {facts: {tolerance: 0.5}}\n"),
    ],
    ids=["ini", "yaml", "probe"],
)
def test_tolerance_comes_from_the_project(recorded, where: str, text: str) -> None:
    """A tolerance of the project counts where the call names none."""
    assert recorded.facts("hot").ret == 1
    recorded.write(where, text)
    assert recorded.facts("hot").ret == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "calibration_no_model = maybe",
            "*calibration_no_model must be one of error, skip*'maybe'*",
        ),
        ("calibration_inconclusive = red", "*calibration_inconclusive must be one of pass, fail*"),
        (
            "calibration_alpha = 0.7",
            "*calibration_alpha must be a number above 0 and below 0.5, got 0.7.*",
        ),
        (
            "calibration_tolerance = -1",
            "*calibration_tolerance must be a number of at least 0 and below 1, got -1.0.*",
        ),
        ("calibration_limit = many", "*calibration_limit*many*"),
        ("calibration_batch_tokens = 0", "*calibration_batch_tokens must be at least 1, got 0.*"),
    ],
)
def test_bad_ini_value_is_told_at_the_start(project, line: str, message: str) -> None:
    """A bad ini value is a usage error of every run, whatever it collects."""
    project.pytester.makeini(f"[pytest]\n{line}\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


LOADS = """
import pytest
import pytest_calibration.models.loading as loading

def load_model(spec, settings=None, cache=None):
    values = [settings.get(name) for name in ("device", "dtype", "batch_tokens")]
    pytest.fail("SETTINGS {} {} {}".format(*values), False)

loading.load_model = load_model
"""


def test_load_settings_come_from_flag_ini_and_yaml(project) -> None:
    """Device, dtype and batch tokens: flag over ini over calibration.yaml over default."""
    project.pytester.makeconftest(LOADS)
    project.isolated = True
    project.facts("base").stdout.fnmatch_lines(["*SETTINGS None None None*"])
    project.write("calibration.yaml", "model: {device: cpu, dtype: float32, batch_tokens: 7}\n")
    project.facts("base").stdout.fnmatch_lines(["*SETTINGS cpu float32 7*"])
    project.pytester.makeini("[pytest]\ncalibration_dtype = bfloat16\n")
    result = project.facts("base", "--calibration-batch-tokens=9")
    result.stdout.fnmatch_lines(["*SETTINGS cpu bfloat16 9*"])
    result = project.facts("base", "--calibration-dtype=float16", "--calibration-device=mps")
    result.stdout.fnmatch_lines(["*SETTINGS mps float16 7*"])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--calibration-device=tpu", "*unknown device 'tpu'; use one of auto, cpu, cuda, mps.*"),
        ("--calibration-dtype=int3", "*unknown dtype 'int3'; use one of auto, float32*"),
    ],
)
def test_unknown_device_or_dtype_is_told(project, flag: str, message: str) -> None:
    """A device or dtype nobody knows is a usage error that names the flag."""
    result = project.facts("base", flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `hf`")
def test_missing_parent_is_told_once_without_a_traceback(project) -> None:
    """What goes wrong while a fixture is set up is one sentence, told once."""
    project.pytester.makeconftest("")
    project.pytester.mkdir("runs/empty")
    result = project.facts("empty", "--calibration-parent=gone/away/model")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'gone/away/model': there is no such directory.*"])
    result.stdout.no_fnmatch_line("*loading.py*")
    result.stdout.no_fnmatch_line("During handling*")


@pytest.mark.parametrize("name", ["accept", "baseline-dir", "config", "device", "parent", "probe"])
def test_empty_value_is_a_usage_error(project, name: str) -> None:
    """A flag without its value is no default and no current folder."""
    result = project.run(f"--calibration-{name}=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-{name} needs a value.*"])
