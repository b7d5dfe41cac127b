"""``--calibration-probe``: which probes run."""

from __future__ import annotations

import pytest


def test_unknown_probe_is_a_usage_error_with_a_suggestion(project) -> None:
    """A misspelt probe stops the run before any test."""
    result = project.run("--calibration-model=runs/base", "--calibration-probe=fact")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown probe 'fact' (did you mean 'facts'?); known probes:*"])


def test_unknown_probe_in_the_ini_is_an_error_of_the_collection(project) -> None:
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


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("names", ["facts next_token", "\n  facts\n  next_token"])
def test_the_ini_key_names_several_probes(project, names: str, workers: list[str]) -> None:
    """Separated as in a shell, on one line or on several."""
    project.pytester.makeini(f"[pytest]\ncalibration_probe = {names}\n")
    result = project.run("--calibration-model=runs/base", "--calibration-record", *workers)
    result.assert_outcomes(passed=2)
    assert {p.stem for p in project.baselines.glob("*.yaml")} == {"facts", "next_token"}
