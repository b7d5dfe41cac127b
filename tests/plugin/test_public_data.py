"""Public data sets in a run of pytest: listed, recorded, gated; the library is not heard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import repositories

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local copy of a repository, made before pytester notes which modules there are."""
    return repositories.mmlu(tmp_path_factory.mktemp("copy") / "mmlu", 150)


@pytest.fixture
def mmlu(copy: Path, project, monkeypatch: pytest.MonkeyPatch) -> str:
    """The settings that name the copy; runs are processes of their own."""
    project.isolated = True
    monkeypatch.setenv("HF_HOME", str(project.path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    return f"{{path: {copy}}}"


def silent(result: pytest.RunResult) -> bool:
    """Whether nothing of the library is shown."""
    text = result.stdout.str() + result.stderr.str()
    return not re.search(r"Generating|examples/s|it/s|Warning|Downloading|HF_|Traceback", text)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_preset_is_recorded_and_gated(project, mmlu: str, workers: list[str]) -> None:
    """An entry by its name configures it; the record says what was read; a worse model fails."""
    project.write("calibration.yaml", f"probes: {{mmlu: {{limit: 200, dataset: {mmlu}}}}}\n")
    result = project.run("--calibration-model=runs/base", "--calibration-record", *workers)
    assert result.ret == 0
    assert silent(result)
    record = (project.baselines / "mmlu.yaml").read_text(encoding="utf-8")
    assert re.search(r"dataset: cais/mmlu all test rows [0-9a-f]{8}", record)
    assert re.search(r"shots: .?5", record)
    assert "\nn: 200\n" in record
    result = project.run("--calibration-model=runs/hot", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*1 regressed*"])
    assert silent(result)
    # The same questions, asked without examples.
    project.write(
        "calibration.yaml", f"probes: {{mmlu: {{limit: 200, shots: 0, dataset: {mmlu}}}}}\n"
    )
    result = project.run("--calibration-model=runs/base", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*not comparable*"])


def test_a_preset_runs_by_its_name(project, mmlu: str) -> None:
    """It is no part of what runs by default; the list counts it where it is asked for."""
    project.write("calibration.yaml", f"presets: {{mmlu: {{limit: 60, dataset: {mmlu}}}}}\n")
    result = project.run("--calibration-list")
    assert result.ret == 0
    result.stdout.re_match_lines([r"  presets, run by name: mmlu, arc_easy, .*wikitext"])
    result.stdout.no_re_match_line(r". mmlu ")
    result = project.run("--calibration-list", "--calibration-probe=mmlu")
    result.stdout.re_match_lines([r"\* mmlu +multiple_choice +300 questions"])
    assert silent(result)
    result = project.run(
        "--calibration-model=runs/base", "--calibration-record", "--calibration-probe=mmlu"
    )
    assert result.ret == 0
    assert "\nn: 60\n" in (project.baselines / "mmlu.yaml").read_text(encoding="utf-8")


def test_data_that_are_not_there_are_one_sentence(project, mmlu: str) -> None:
    """The id, what failed, and the command that fetches them; no traceback of the library."""
    result = project.run("--calibration-model=runs/base", "--calibration-probe=sciq")
    assert result.ret == 1
    text = result.stdout.str()
    assert "allenai/sciq (test): is not here and cannot be fetched (" in text
    assert "load_dataset('allenai/sciq')" in text
    assert silent(result)
    assert not Path(project.baselines).exists()
