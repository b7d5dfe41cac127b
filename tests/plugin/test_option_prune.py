"""``--calibration-prune``: removes what no test of a full, finished run asked for."""

from __future__ import annotations

import pytest


@pytest.fixture
def stale(recorded):
    """A project with one baseline that a test uses and one that none does."""
    assert recorded.run(
        "--calibration-model=runs/base", "--calibration-probe=multiple_choice",
        "--calibration-record",
    ).ret == 0  # fmt: skip
    return recorded


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_stale_record_is_removed_with_its_items(stale, workers: list[str]) -> None:
    """A full run removes the record nobody asked for, its items too, and no other."""
    result = stale.facts("base", "--calibration-prune", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pruned: calibration_baselines/multiple_choice.yaml."])
    assert [p.name for p in stale.baselines.glob("*.yaml")] == ["facts.yaml"]
    assert len(list(stale.baselines.glob("*.npz"))) == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["tests/test_project.py"], "is only a part of the tests"),
        (["-k", "not another"], "some tests were deselected"),
        (["--ignore=tests/other.py"], "some files were ignored"),
    ],
    ids=["one-file", "deselected", "ignored"],
)
def test_partial_run_removes_nothing(stale, args: list[str], reason: str) -> None:
    """A run of a part of the tests prunes nothing and says why."""
    stale.write("tests/test_more.py", "def test_another(): pass\n")
    stored = stale.files()
    result = stale.facts("base", "--calibration-prune", *args)
    assert stale.files() == stored
    result.stdout.fnmatch_lines([f"nothing pruned: *{reason}."])


def test_failing_run_removes_nothing(stale) -> None:
    """A test that failed may not have reached its baseline, so nothing is stale for sure."""
    stored = stale.files()
    result = stale.facts("hot", "--calibration-prune")
    assert stale.files() == stored
    result.stdout.fnmatch_lines(["nothing pruned: *did not pass."])


def test_without_the_flag_nothing_is_removed(stale) -> None:
    """Stale records stay until asked for."""
    stored = stale.files()
    stale.facts("base")
    assert stale.files() == stored
