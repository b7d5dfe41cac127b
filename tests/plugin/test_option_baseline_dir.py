"""``--calibration-baseline-dir``: one folder for all baselines."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_baselines_go_into_the_folder(project, workers: list[str]) -> None:
    """The flag moves all baselines to one folder, relative to where pytest was started."""
    flag = "--calibration-baseline-dir=kept"
    assert project.facts("base", "--calibration-record", flag, *workers).ret == 0
    assert (project.path / "kept" / "facts.yaml").is_file()
    assert not project.baselines.exists()
    assert project.facts("base", flag).ret == 0
    assert project.facts("hot", flag).ret == 1


def test_ini_folder_is_relative_to_rootdir(project) -> None:
    """The ini key names a folder below rootdir."""
    project.pytester.makeini("[pytest]\ncalibration_baseline_dir = stored\n")
    assert project.facts("base", "--calibration-record").ret == 0
    assert (project.path / "stored" / "facts.yaml").is_file()
