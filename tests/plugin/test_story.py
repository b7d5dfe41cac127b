"""The whole story of a baseline: missing, recorded, held, broken, accepted, held again."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_story(project, workers: list[str]) -> None:
    """Missing fails and writes nothing; recorded passes; worse fails; accepted passes."""
    before = project.files()
    missing = project.facts("base", *workers)
    assert missing.ret == 1
    missing.stdout.fnmatch_lines(["*no baseline: probe facts on base*", "*1 no baseline*"])
    assert project.files() == before

    recorded = project.facts("base", "--calibration-record", *workers)
    assert recorded.ret == 0
    recorded.stdout.fnmatch_lines(["1 baseline written.", "1 recorded"])
    assert (project.baselines / "facts.yaml").is_file()

    stored = project.files()
    assert project.facts("base", *workers).ret == 0
    broken = project.facts("hot", *workers)
    assert broken.ret == 1
    broken.stdout.fnmatch_lines(["*calibration regressed: probe facts on hot*", "1 regressed"])
    assert project.files() == stored

    accepted = project.facts("hot", "--calibration-accept", "new data", *workers)
    assert accepted.ret == 0
    assert "reason: new data" in (project.baselines / "facts.yaml").read_text()
    assert project.facts("hot", *workers).ret == 0


@pytest.mark.parametrize("again", [["--reruns", "1"], []], ids=["reruns", "once"])
@pytest.mark.parametrize("ci", ["true", None], ids=["CI", "local"])
def test_missing_baseline_is_red_everywhere(
    project, monkeypatch: pytest.MonkeyPatch, ci: str | None, again: list[str]
) -> None:
    """Without a baseline the run exits 1 and writes nothing, also in CI and with reruns."""
    if ci:
        monkeypatch.setenv("CI", ci)
    before = project.files()
    assert project.facts("base", *again).ret == 1
    assert project.files() == before


def test_regression_is_red_on_rerun(recorded) -> None:
    """A rerun never turns a regression into a pass, and its verdict is counted once."""
    result = recorded.facts("hot", "--reruns", "2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["1 regressed"])


def test_many_baselines_under_four_workers(project) -> None:
    """Forty parametrised baselines recorded under -n 4 are all there, and hold afterwards."""
    project.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_no_regression

@pytest.mark.parametrize("case", range(40))
def test_case(calibration, calibration_baseline, case):
    store = calibration_baseline.named(f"case-{case}")
    assert_no_regression(calibration.run("facts"), store)
""",
    )
    result = project.facts("base", "-n", "4", "--calibration-record")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["40 baselines written."])
    names = {path.parent.name for path in project.baselines.glob("*/facts.yaml")}
    assert names == {f"case-{i}" for i in range(40)}
    assert len(list(project.baselines.glob("*/facts.items-*.npz"))) == 40
    result = project.facts("base", "-n", "4")
    result.assert_outcomes(passed=40)
