"""``--calibration-probe``, ``--calibration-list`` and ``--calibration-limit``."""

from __future__ import annotations

import pytest


def test_unknown_probe_is_a_usage_error_with_a_suggestion(project) -> None:
    """A misspelt probe is told before anything runs."""
    result = project.run("--calibration-model=runs/base", "--calibration-probe=fact")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown probe 'fact' (did you mean 'facts'?); known probes:*"])


def test_unknown_probe_in_the_ini_is_told_at_collection(project) -> None:
    """The ini key is checked when a test needs it, with the same words."""
    project.pytester.makeini("[pytest]\ncalibration_probe = fakts\n")
    result = project.run("--calibration-model=runs/base")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown probe 'fakts'*"])


def test_default_is_what_the_project_configures(project) -> None:
    """calibration.yaml decides what runs; without it the built-in probes do."""
    names = ["next_token", "facts", "multiple_choice"]
    result = project.run("--calibration-model=runs/base", "--collect-only", "-q")
    result.stdout.fnmatch_lines([f"*[[]base-{name}]" for name in names])
    project.write("calibration.yaml", "probes: {mine: {kind: facts}}\n")
    result = project.run("--calibration-model=runs/base", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*[[]base-mine]"])
    result.stdout.no_fnmatch_line("*base-facts*")


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_repeated_flag_runs_each_probe_once(project, workers: list[str]) -> None:
    """The flag may be repeated; a probe named twice runs once."""
    result = project.run(
        "--calibration-model=runs/base", "--calibration-record", *workers,
        *(f"--calibration-probe={name}" for name in ("facts", "next_token", "facts")),
    )  # fmt: skip
    result.assert_outcomes(passed=2)
    assert {p.stem for p in project.baselines.glob("*.yaml")} == {"facts", "next_token"}


def test_list_shows_probes_and_runs_nothing(project) -> None:
    """The list names every probe with kind and size, and starts no test."""
    project.write("rows.jsonl", '{"prompt": "Up is not", "answer": "down"}\n')
    project.write("calibration.yaml", "probes: {mine: {kind: facts, path: rows.jsonl}}\n")
    result = project.run("--calibration-list")
    assert result.ret == 0
    result.stdout.re_match_lines([r"  next_token +next_token +72 documents"])
    result.stdout.re_match_lines([r"\* mine +facts +1 facts"])
    result.stdout.no_fnmatch_line("*passed*")


def test_list_tells_a_bad_file(project) -> None:
    """A probe that cannot be read is an error of the list, too."""
    project.write("calibration.yaml", "probes: {mine: {kind: facts, path: gone.jsonl}}\n")
    result = project.run("--calibration-list")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*gone.jsonl: there is no such file.*"])


def test_limit_compares_on_the_intersection(recorded) -> None:
    """A limited run is a subset of the baseline, compared where both have items."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_it(calibration, calibration_baseline):
    verdict = assert_no_regression(calibration.run("facts"), calibration_baseline)
    print("N", verdict.n, verdict.state)
    print(verdict.explain())
""",
    )
    result = recorded.facts("base", "--calibration-limit=1500", "-s")
    result.stdout.fnmatch_lines(
        ["*N 1500 passed", "*1,500 of the 1,500 items here are among*2,315*"]
    )


def test_limit_order_is_call_flag_ini_yaml(project) -> None:
    """The call's limit wins over the flag, that over the ini key, that over calibration.yaml."""
    project.write("calibration.yaml", "probes: {facts: {limit: 40}}\n")
    project.write(
        "tests/test_project.py",
        """
def test_it(calibration):
    print("N", len(calibration.run("facts")), len(calibration.run("facts", limit=10)))
""",
    )
    model = "--calibration-model=runs/base"
    project.run(model, "-s").stdout.fnmatch_lines(["*N 40 10*"])
    project.pytester.makeini("[pytest]\ncalibration_limit = 30\n")
    project.run(model, "-s").stdout.fnmatch_lines(["*N 30 10*"])
    result = project.run(model, "-s", "--calibration-limit=20")
    result.stdout.fnmatch_lines(["*N 20 10*"])


@pytest.mark.parametrize("value", ["0", "-3"])
def test_limit_below_one_is_a_usage_error(project, value: str) -> None:
    """A limit of nothing would be a silent pass."""
    result = project.facts("base", f"--calibration-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-limit must be at least 1, got {value}.*"])


def test_another_package_can_add_probes(project) -> None:
    """The hook pytest_calibration_probes names probes and builds them when they are run."""
    conftest = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(
        conftest
        + """
def pytest_calibration_probes(config):
    from pytest_calibration import Facts
    return {"theirs": lambda: Facts("theirs")}
"""
    )
    result = project.run(
        "--calibration-model=runs/base", "--calibration-probe=theirs", "--calibration-record"
    )
    assert result.ret == 0
    assert (project.baselines / "theirs.yaml").is_file()
