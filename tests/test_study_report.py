"""The study's page: made from what was measured alone, whole, and honest about what it is."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from studies import gap_of, module, stage, whole_study, write_study

measured = module("measured")
findings = module("findings")
study_page = module("study_page")
study_pictures = module("study_pictures")
report = module("report")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A made-up run with stages of every kind and two seeds."""
    folder = tmp_path_factory.mktemp("study")
    return measured.Study.read(write_study(folder, whole_study(), gap_of, device="a made-up one"))


@pytest.fixture(scope="module")
def page(study: Any) -> str:
    """Its page."""
    return study_page.page(study, list(findings.judge_all(study)))


def cells(page: str, first: str) -> list[list[str]]:
    """Return the rows of tables whose first cell is this one."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[c.strip() for c in row] for row in rows if row[0].strip() == first]


def test_every_finding_stands_with_its_result(study: Any, page: str) -> None:
    """Claim, what is reported, and one of four results on each probe; none is left out."""
    section = page.partition("## Findings")[2].partition("## Along")[0]
    rows = [line for line in section.splitlines() if re.search(r"\| `[a-z-]+` \|", line)]
    outcomes = list(findings.judge_all(study))
    assert len(rows) == len(outcomes)
    for row, one in zip(rows, outcomes, strict=True):
        assert row.rstrip(" |").endswith((one.result, f"**{one.result}**"))
    for one in findings.FINDINGS:
        assert f"| {one.claim} | {one.reported}" in section
    assert "| **contradicted** |" in section
    assert "| not measured |" in section


def test_numbers_are_those_of_the_history(study: Any, page: str) -> None:
    """Each checkpoint has a row on each probe, with what its line says, and the date."""
    rows = cells(page, "`dpo`")
    line = study.lines["dpo-s0", "facts"]
    ece = line.metrics["ece"]
    shown = f"{ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}]"
    whole = [row for row in rows if len(row) == 11]
    assert len(whole) == len(study.probes)
    assert {row[2] for row in whole} == {shown}
    assert {row[-1] for row in whole} == {line.time[:10]}
    # Calibrated at 0.7 on average, and right in half of all cases.
    for row in whole:
        assert row[7].startswith("calibratable, −0.200 [")
    for one in study.measured(0):
        assert cells(page, f"`{one.label}`"), one.name


def test_the_page_says_where_the_pretrained_model_stands(study: Any, page: str) -> None:
    """On each probe what is asked, and the signed gap of its line; the reward model's accuracy."""
    section = page.partition("## How to read it")[2].partition("\n## ")[0]
    for probe in study.probes:
        (row,) = cells(section, f"`{probe}`")
        gap = study.lines["pretrain-l", probe].metrics["signed_gap"]
        ends = f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]".replace("-", "\u2212")
        assert row[-1] == ends
        assert len(row) == 4
        assert all(row)
    assert "in a share of 0.600 (a guess" in section


def test_chosen_checkpoints_are_named(page: str) -> None:
    """Where a claim leaves it to what was measured: the worst size is told by its name."""
    assert re.search(r"ECE of the worst size: .* \| items of seed 0; pretrain-[sml] \|", page)


def test_remedies_stand_side_by_side_with_their_cost(study: Any, page: str) -> None:
    """CFT takes 10 seconds and 600 passes for two epochs, plain SFT 8 and 400."""
    section = page.partition("## Remedies side by side")[2].partition("\n## ")[0]
    (cft,) = cells(section, "`cft`")
    assert cft[-3:] == ["2", "1.25", "1.50"]
    (plain,) = cells(section, "`plain-sft`")
    assert plain[-3:] == ["2", "1.00", "1.00"]
    (dpo,) = cells(section, "`dpo`")
    # The mean of the accuracies of two seeds.
    accuracy = [study.lines[f"dpo-s{k}", "questions"].metrics["accuracy"].value for k in (0, 1)]
    assert dpo[1].startswith(f"{sum(accuracy) / 2:.3f} [")
    assert dpo[1].endswith("] (2)")


def test_verdicts_are_counted_over_seeds(tmp_path: Path) -> None:
    """As the plugin reached them, with the component that failed."""
    stages = [stage("base", "pretrain")]
    for seed in range(3):
        state = "passed" if seed == 1 else "regressed"
        stages.append(stage(f"dpo-s{seed}", "dpo", "base", seed, verdicts={"facts": state}))
    folder = write_study(
        tmp_path, stages, lambda one, _: 0.1 * (one["kind"] == "dpo"), probes=["facts"]
    )
    study = measured.Study.read(folder)
    told = study_page.page(study, [])
    (row,) = [row for row in cells(told, "`dpo`") if len(row) == 3]
    assert re.fullmatch(r"2 regressed \((signed gap|cross-fitted ECE)\), 1 passed", row[2])
    (chart,) = study_pictures.drift_chart(study, 0).courses[1:]
    assert [mark.worse for mark in chart.marks] == [True]


def test_the_quick_run_says_so(tmp_path: Path, page: str) -> None:
    """Nobody takes its page for that of the whole study."""
    marked = "This is the quick run"
    assert marked not in page
    quick = write_study(tmp_path, [stage("base", "pretrain")], lambda *_: 0.0, scale="quick")
    assert marked in study_page.page(measured.Study.read(quick), [])


def test_nothing_is_lost_where_little_was_run(tmp_path: Path) -> None:
    """One stage makes a page, whose findings all say what is missing."""
    folder = write_study(tmp_path, [stage("base", "pretrain")], lambda *_: 0.0, items=False)
    study = measured.Study.read(folder)
    outcomes = list(findings.judge_all(study))
    told = study_page.page(study, outcomes)
    assert "no stage rcft" in told
    assert study_pictures.reliability_picture(study, 0, "facts") is None


def test_the_table_of_all_seeds(study: Any) -> None:
    """A row for each checkpoint and probe, of all seeds, with the numbers as stored."""
    rows = list(csv.DictReader(report.checkpoints_csv(study).splitlines()))
    assert len(rows) == len(study.lines)
    assert {row["seed"] for row in rows} == {"0", "1"}
    for row in rows:
        line = study.lines[row["stage"], row["probe"]]
        assert float(row["ece"]) == line.metrics["ece"].value
        assert float(row["accuracy_high"]) == line.metrics["accuracy"].high
        assert row["classwise_ece"] == ""


def test_the_chart_has_all_checkpoints_of_a_seed(study: Any) -> None:
    """Each stands at a place of its own on every panel, in order of the pipeline."""
    chart = study_pictures.drift_chart(study, 1)
    for probe in study.probes:
        marks = [m for course in chart.courses if course.probe == probe for m in course.marks]
        assert len({mark.at for mark in marks}) == len(marks)
        # The first seed alone has pretraining.
        assert [m.label for m in sorted(marks, key=lambda m: m.at)] == [
            one.label for one in study.measured(1)
        ]


def test_all_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command; the page names what is there, and nothing else."""
    pytest.importorskip("matplotlib")
    folder = write_study(
        tmp_path / "run", [stage("base", "pretrain")], lambda *_: 0.05, probes=["facts"]
    )
    docs = tmp_path / "docs"
    monkeypatch.setattr("sys.argv", ["report.py", "--runs", str(folder), "--docs", str(docs)])
    assert report.main() == 0
    written = {Path(line).relative_to(docs).as_posix() for line in capsys.readouterr().out.split()}
    assert written == {
        "study.md", "study/drift.png", "study/checkpoints.csv", "study/reliability-facts.png"
    }  # fmt: skip
    linked = re.findall(r"\]\((study/[^)]+)\)", (docs / "study.md").read_text("utf-8"))
    assert {"study.md", *linked} == written


def test_a_run_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and exit code 2, nothing written."""
    monkeypatch.setattr("sys.argv", ["report.py", "--runs", str(tmp_path), "--docs", str(tmp_path)])
    assert report.main() == 2
    assert "stages.json is not there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence."""
    pytest.importorskip("matplotlib")
    runs = write_study(
        tmp_path / "run", [stage("base", "pretrain")], lambda *_: 0.0, probes=["facts"]
    )
    (tmp_path / "docs").write_text("", "utf-8")
    words = ["report.py", "--runs", str(runs), "--docs", str(tmp_path / "docs")]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(report, "page", lambda *_: "")
    assert report.main() == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'docs'} cannot be written: ")


def test_the_committed_page_tells_every_finding() -> None:
    """It was made after the last finding was added, and its pictures are there."""
    told = (ROOT / "docs" / "explanation" / "study.md").read_text("utf-8")
    for one in findings.FINDINGS:
        assert f"| {one.claim} | {one.reported}" in told
    for name in re.findall(r"\]\((study/[^)]+)\)", told):
        assert (ROOT / "docs" / "explanation" / name).is_file()
