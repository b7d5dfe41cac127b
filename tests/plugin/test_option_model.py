"""``--calibration-model`` and ``calibration_model``: which models a run probes."""

from __future__ import annotations

import pytest


def test_several_models_run_the_same_tests(recorded) -> None:
    """Each model is a parameter of every test, named by its folder."""
    result = recorded.facts("base", "--calibration-model=runs/hot", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_nothing_got_worse?base-facts? PASSED*"])
    result.stdout.fnmatch_lines(["*test_nothing_got_worse?hot-facts? FAILED*"])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_glob_runs_checkpoints_in_step_order(recorded, workers: list[str]) -> None:
    """A glob names every folder it matches, by number and not by letter."""
    for step in (1000, 900, 50):
        (recorded.path / "runs" / "sft" / f"checkpoint-{step}").mkdir(parents=True)
    (recorded.path / "runs" / "sft" / "checkpoint-7.txt").write_text("no folder")
    result = recorded.run(
        "--calibration-model=runs/sft/checkpoint-*", "--calibration-probe=facts", *workers
    )
    result.assert_outcomes(passed=3)
    if not workers:
        rows = [x.split()[0] for x in result.outlines if x.startswith("checkpoint-")]
        assert rows == ["checkpoint-50", "checkpoint-900", "checkpoint-1000"]


def test_glob_without_a_match_is_a_usage_error(project) -> None:
    """A glob that matches nothing must not be a green run of nothing."""
    result = project.run("--calibration-model=runs/none-*")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'runs/none-*' matches no directory*"])


def test_missing_path_is_a_usage_error(project) -> None:
    """A path that is not there stops the run at its start."""
    result = project.run("--calibration-model=./runs/gone")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*model './runs/gone': there is no such directory; *holds *"])


def test_equal_base_names_get_distinct_ids(project) -> None:
    """Two folders of one name are distinguished by what lies above them."""
    for run in ("a", "b"):
        (project.path / run / "checkpoint-1").mkdir(parents=True)
    result = project.run(
        "--calibration-model=a/checkpoint-1", "--calibration-model=b/checkpoint-1",
        "--calibration-probe=facts", "--collect-only", "-q",
    )  # fmt: skip
    result.stdout.fnmatch_lines(["*[[]a-checkpoint-1-facts]", "*[[]b-checkpoint-1-facts]"])


def test_ini_key_names_the_model_relative_to_rootdir(
    recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ini key works from any folder below the project, and the flag wins over it."""
    recorded.pytester.makeini("[pytest]\ncalibration_model = runs/hot\ncalibration_probe = facts\n")
    assert recorded.run().ret == 1
    assert recorded.run("--calibration-model=runs/base").ret == 0
    monkeypatch.chdir(recorded.path / "tests")
    result = recorded.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*1 regressed"])


def test_override_of_the_model_fixture_needs_no_spec(project) -> None:
    """A project that brings its own model runs its tests once, without any flag."""
    project.pytester.makeconftest(
        """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model():
    return FakeModel("mine")
"""
    )
    args = ["--calibration-probe=facts"]
    assert project.run("--calibration-record", *args).ret == 0
    result = project.run(*args, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_nothing_got_worse?facts? PASSED*"])


def test_revision_of_a_directory_is_a_usage_error(project) -> None:
    """A revision that would be ignored is refused."""
    result = project.run("--calibration-model=runs/base@v1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*'runs/base' is a directory, and only the hub has revisions*@v1.*"]
    )


def test_two_models_of_one_name_are_a_usage_error(project) -> None:
    """Two models cannot share a name of a baseline."""
    result = project.run("--calibration-model=a=runs/base", "--calibration-model=a=runs/hot")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the name a= is given to two models; give each its own.*"])


@pytest.mark.parametrize("key", ["calibration_model", "tool.pytest.ini_options", "tool.pytest"])
@pytest.mark.parametrize("form", ["one-line", "lines"])
def test_the_ini_key_names_several_models(project, key: str, form: str) -> None:
    """Separated as in a shell, on one line or on several; in TOML also as a list."""
    (project.path / "runs" / "my base").mkdir()
    if key == "calibration_model":
        lines = {"one-line": "'runs/my base' runs/hot", "lines": "\n  'runs/my base'\n  runs/hot"}
        project.pytester.makeini(f"[pytest]\n{key} = {lines[form]}\n")
    else:
        if key == "tool.pytest" and pytest.version_tuple < (9,):
            pytest.skip("needs pytest 9")
        (project.path / "tox.ini").unlink()
        space = "\n" if form == "lines" else ""
        project.pytester.makepyprojecttoml(
            f"[{key}]\ncalibration_model = [{space}'runs/my base',{space} 'runs/hot']\n"
        )
    result = project.run("--calibration-probe=facts", "--collect-only", "-q")
    ids = [line.partition("[")[2] for line in result.outlines if "::" in line]
    assert ids == ["my-base-facts]", "hot-facts]"]
