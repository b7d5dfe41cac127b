"""``--calibration-no-cache``: every model is asked anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cached_project import CachedProject, lines_of

if TYPE_CHECKING:
    from user_project import Project


@pytest.mark.parametrize(("how", "workers"), [("flag", []), ("ini", []), ("flag", ["-n", "2"])])
def test_nothing_is_read_and_nothing_is_written(
    project: Project, how: str, workers: list[str]
) -> None:
    """Neither in pytest's cache directory nor in a folder named in the ini file."""
    cached = CachedProject(project)
    cached.run("--calibration-record")
    assert cached.loads() == ["base"]
    ini = "[pytest]\ncalibration_cache_dir = kept\n"
    project.pytester.makeini(ini if how == "flag" else f"{ini}calibration_no_cache = true\n")
    args = ["--calibration-no-cache"] if how == "flag" else []
    for _ in range(2):
        result = cached.run(*args, *workers)
        assert result.ret == 0
        assert cached.loads() == ["base"]
        assert lines_of(result, "answers from cache") == []
    assert not (cached.path / "kept").exists()


def test_a_folder_typed_out_wins_over_the_ini_key(project: Project) -> None:
    """A flag wins over what is set for good."""
    cached = CachedProject(project)
    project.pytester.makeini("[pytest]\ncalibration_no_cache = true\n")
    for _ in range(2):
        cached.run("--calibration-cache-dir=kept")
    assert cached.loads() == ["base"]


def test_both_flags_are_refused(project: Project) -> None:
    """One says keep it there, the other keep nothing."""
    result = project.facts("base", "--calibration-no-cache", "--calibration-cache-dir=kept")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --calibration-cache-dir together with --calibration-no-cache: *leave one of them*"]
    )


def test_the_ini_key_is_a_switch(project: Project) -> None:
    """Anything but true and false is a usage error."""
    project.pytester.makeini("[pytest]\ncalibration_no_cache = perhaps\n")
    result = project.facts("base")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: calibration_no_cache: *perhaps*"])
