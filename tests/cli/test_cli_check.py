"""``pytest-calibration check``: predictions in a file, judged as a test judges them."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest
from histories import at_gap

from pytest_calibration import assert_ece_below, assert_no_regression, read_predictions
from pytest_calibration.baselines import Baselines
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.dump import write_dump
from pytest_calibration.reports.json_report import read_json

RECORD = Path("calibration_baselines/quiz.yaml")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in a folder with the predictions of three models, on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, gap in (("base", 0.0), ("sft", 0.1), ("better", -0.0)):
        save(tmp_path / f"{name}.csv", at_gap(gap))
    return tmp_path


def save(path: Path, predictions: Predictions) -> None:
    """Write confidence and correctness as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "confidence", "correct"])
        pairs = zip(predictions.confidence, predictions.correct, strict=True)
        rows.writerows([i, c, int(k)] for i, (c, k) in enumerate(pairs))


def test_record_then_gate(command) -> None:
    """Nothing is stored, then it is recorded, then it is compared; the exit codes tell."""
    missing = command("check", "base.csv", "--probe", "quiz")
    assert (missing.code, missing.err, RECORD.exists()) == (1, "", False)
    assert missing.lines[0].startswith("no baseline: probe quiz on base.csv: nothing is stored at")
    # The command that it prints records.
    purpose, _, typed = missing.lines[-1].partition(": ")
    assert (purpose, shlex.split(typed)[0]) == ("to record it", "pytest-calibration")
    recorded = command(*shlex.split(typed)[1:])
    assert (recorded.code, recorded.lines[0]) == (0, "recorded: probe quiz on base.csv")
    stored = RECORD.read_bytes()
    assert command("check", "base.csv", "--probe=quiz").lines[0] == "passed: probe quiz on base.csv"
    unnamed = command("check", "sft.csv")
    assert unnamed.lines[0].endswith("Stored there: quiz. --probe=quiz compares with it.")
    failed = command("check", "sft.csv", "--probe=quiz", "--record")
    assert (failed.code, RECORD.read_bytes()) == (1, stored)
    assert failed.lines[0] == "calibration regressed: probe quiz on sft.csv"
    accept = "to accept it: pytest-calibration check sft.csv --probe=quiz --accept=REASON"
    assert accept in failed.lines
    accepted = command("check", "sft.csv", "--probe=quiz", "--accept", "DPO v3, signed off")
    assert (accepted.code, RECORD.read_bytes() != stored) == (0, True)
    assert "reason: 'DPO v3, signed off'" in RECORD.read_text("utf-8")
    assert command("check", "sft.csv", "--probe=quiz").code == 0


def test_the_verdict_is_that_of_a_test(command) -> None:
    """The text of the assertion, but for what to type next."""
    baseline = read_predictions("base.csv", probe="quiz")
    Baselines("calibration_baselines").record(baseline)
    result = command("check", "sft.csv", "--probe=quiz")
    with pytest.raises(AssertionError) as caught:
        assert_no_regression(
            read_predictions("sft.csv", probe="quiz"), Baselines("calibration_baselines")
        )
    told = str(caught.value).splitlines()
    # The text is wrapped to the terminal, so words are compared.
    ours, theirs = (" ".join(" ".join(part).split()) for part in (result.lines, told))
    assert ours.partition(" to accept it")[0] == theirs.partition(" to accept it")[0]


def test_a_record_of_a_test_is_found(command) -> None:
    """What a test recorded is what the command compares with, and the other way round."""
    Baselines("calibration_baselines").named("v2").record(
        read_predictions("base.csv", probe="quiz")
    )
    assert command("check", "base.csv", "--probe=quiz", "--baseline=v2").code == 0
    assert command("check", "sft.csv", "--probe=quiz", "--baseline=v2").code == 1
    elsewhere = ("--probe=quiz", "--baseline-dir=kept")
    assert command("check", "base.csv", *elsewhere, "--record").code == 0
    verdict = assert_no_regression(read_predictions("base.csv", probe="quiz"), Baselines("kept"))
    assert verdict.state == "passed"


def test_limits(command) -> None:
    """A limit needs no baseline; with a baseline named, both are judged."""
    assert command("check", "base.csv", "--max-ece=0.05", "--min-accuracy=0.5").code == 0
    result = command("check", "sft.csv", "--max-ece=0.05", "--min-accuracy=0.5")
    assert result.code == 1
    assert [line.partition(":")[0] for line in result.lines if line.endswith("on sft.csv")] == [
        "above the limit",
        "passed",
    ]
    with pytest.raises(AssertionError, match=r"0\.100 > limit 0\.050"):
        assert_ece_below(read_predictions("sft.csv"), 0.05)
    assert "0.100 > limit 0.050" in result.out
    # A threshold is one of a comparison.
    assert command("check", "base.csv", "--max-ece=0.5", "--threshold=0.8").code == 1
    both = command("check", "sft.csv", "--max-ece=0.2", "--baseline=base.csv")
    assert both.code == 1
    assert "passed: probe sft on sft.csv" in both.lines


@pytest.mark.parametrize("name", ["base.cvs", "./base", "runs/mine"])
def test_a_mistyped_file_is_no_name_of_a_baseline(command, place: Path, name: str) -> None:
    """It is neither recorded under that name, nor told to be."""
    for more in ((), ("--record",)):
        result = command("check", "sft.csv", "--baseline", name, *more)
        assert result.code == 2
        near = " (did you mean 'base.csv'?)" if "base.c" in name or name == "./base" else ""
        assert f"--baseline {name} is neither a file{near} nor the name of a b" in result.err
    assert not (place / "calibration_baselines").exists()
    assert command("check", "base.csv", "--baseline", "v1.2", "--record").code == 0
    assert command("check", "base.csv", "--baseline", "v1.2").code == 0


def test_a_file_as_baseline(command, place: Path) -> None:
    """Another file of predictions, a dump or a stored record, whatever the names of the probes."""
    assert command("check", "sft.csv", "--baseline", "base.csv").code == 1
    assert command("check", "base.csv", "--baseline", "sft.csv").code == 0
    record = Baselines("kept").record(read_predictions("base.csv", probe="quiz"))
    result = command("check", "sft.csv", "--baseline", record)
    assert (result.code, result.lines[0]) == (1, "calibration regressed: probe quiz on sft.csv")
    assert "to accept it" not in result.out
    dump = write_dump(place, read_predictions("base.csv", probe="quiz"))
    assert command("check", "sft.csv", "--probe=quiz", "--baseline", dump).code == 1
    passed = command("check", dump, "--baseline", record)
    assert passed.code == 0
    assert "a dump does not tell how the model was asked" in passed.out


def test_inconclusive_is_3_under_strict(command, place: Path) -> None:
    """Too few items are no failure unless asked for."""
    save(place / "few.csv", at_gap(0.0, each=10).limited(20))
    assert command("check", "few.csv", "--baseline=few.csv").code == 0
    assert command("check", "few.csv", "--baseline=few.csv", "--strict").code == 3


def test_how_strict(command, place: Path) -> None:
    """A flag, else the record, else calibration.yaml."""
    save(place / "worse.csv", at_gap(0.05))
    flags = ("--probe=quiz", "--accuracy-tolerance=none")
    assert command("check", "base.csv", *flags, "--record").code == 0
    assert command("check", "worse.csv", *flags).code == 1
    (place / "calibration.yaml").write_text("tolerance: 0.2\n")
    assert command("check", "worse.csv", *flags).code == 0
    text = RECORD.read_text("utf-8")
    RECORD.write_text(text.replace("\ntolerance: null\n", "\ntolerance: 0.01\n"), "utf-8")
    assert command("check", "worse.csv", *flags).code == 1
    assert command("check", "worse.csv", *flags, "--tolerance=0.2").code == 0


def test_json_and_reports(command, place: Path) -> None:
    """The verdict for a program, and the reports of a test session, without texts."""
    (place / "text.csv").write_text(
        "confidence,correct,text\n" + "".join(f"0.9,{i % 2},secret {i}\n" for i in range(60))
    )
    result = command(
        "check", "text.csv", "--max-ece=0.1", "--json", "--report=r.json", "--report=sub/r.html"
    )
    tree = json.loads(result.out)
    assert (result.code, tree["file"]) == (1, "text.csv")
    (verdict,) = tree["verdicts"]
    assert (verdict["state"], verdict["model"]) == ("above_limit", "text.csv")
    report = read_json(place / "r.json")
    assert (report.green, report.counts) == (False, {"above limit": 1})
    assert "text.csv" in (place / "sub/r.html").read_text("utf-8")
    assert "secret" not in (place / "r.json").read_text("utf-8")
    command("check", "text.csv", "--max-ece=0.1", "--report=r.json", "--item-text")
    assert "secret" in (place / "r.json").read_text("utf-8")


def test_on_github_the_summary_of_the_step_has_the_report(
    command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added to what stands there, as after a test session."""
    (place / "summary").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary"))
    assert command("check", "sft.csv", "--max-ece=0.05").code == 1
    text = (place / "summary").read_text("utf-8")
    assert text.startswith("before\n<!-- pytest-calibration -->")
    assert "sft.csv" in text


def test_a_history_of_checkpoints(command, place: Path) -> None:
    """What was measured is added, by checkpoint, and drift tells where it got worse."""
    for step, name in ((100, "base"), (200, "sft")):
        model = f"--model=runs/checkpoint-{step}"
        flags = ("--probe=quiz", model, "--history=h.jsonl", "--max-ece=0.05")
        command("check", f"{name}.csv", *flags)
    lines = [json.loads(line) for line in (place / "h.jsonl").read_text("utf-8").splitlines()]
    found = [(line["step"], line["probe"], line["verdict"]) for line in lines if "step" in line]
    assert found == [(100, "quiz", "passed"), (200, "quiz", "above_limit")]
    command("check", "sft.csv", *flags, "--threshold=0.8", "--baseline=base.csv")
    last = json.loads((place / "h.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["metrics"]["coverage@0.8"]["value"] == pytest.approx(0.4)
    drift = command("drift", "h.jsonl")
    assert drift.code == 0
    assert "worse" in drift.out
    assert command("check", "base.csv", "--max-ece=0.05", "--history=base.csv").code == 2


def test_columns_and_classes(command, place: Path) -> None:
    """What a table calls its columns, as in read_predictions."""
    rows = "".join(f"{i},0.9,0.1,{'a' if i % 10 else 'b'}\n" for i in range(60))
    (place / "own.csv").write_text(f"qid,pa,pb,gold\n{rows}")
    columns = ("--column=probabilities=pa,pb", "--column=label=gold", "--column=id=qid")
    result = command("check", "own.csv", *columns, "--classes=a,b", "--max-ece=0.05")
    assert (result.code, result.err) == (0, "")
    # A command that is printed keeps them.
    missing = command("check", "own.csv", *columns, "--classes=a,b")
    assert missing.lines[-1].endswith(f" {' '.join(columns)} --classes=a,b --record")


def test_each_task_of_lm_eval_has_a_verdict(command, place: Path) -> None:
    """One of them may be chosen; what cannot be read is an error that names what can."""
    run = Path(__file__).parents[1] / "readers" / "lm_eval_run"
    for path in run.iterdir():
        if path.name.startswith(("samples_letters", "samples_places", "results")):
            (place / "run").mkdir(exist_ok=True)
            (place / "run" / path.name).write_bytes(path.read_bytes())
    result = command("check", "run", "--max-ece=1", "--json")
    found = [verdict["probe"] for verdict in json.loads(result.out)["verdicts"]]
    assert (result.code, found) == (0, ["lm_eval:letters", "lm_eval:places"])
    assert command("check", "run", "--record").code == 0
    assert len([*Path("calibration_baselines").glob("*.yaml")]) == 2
    one = command("check", "run", "--task=places", "--baseline=run", "--strict")
    assert (one.code, one.lines[0]) == (3, "inconclusive: probe lm_eval:places on base")
    named = command("check", "run", "--probe=x", "--max-ece=1")
    assert named.code == 2
    assert "choose one of them with task" in named.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "check needs a file: CSV, Parquet"),
        (["none.csv"], "none.csv: there is no such file"),
        (["base.csv", "--task=x"], "task does not go with a table"),
        (["base.csv", "--column=x"], "must be ROLE=NAME, such as confidence=score, got 'x'"),
        (
            ["base.csv", "--column=confidenc=x"],
            "unknown role 'confidenc' (did you mean 'confidence'?)",
        ),
        (["base.csv", "--accept=REASON"], "needs a reason that a reviewer can read, got 'REASON'"),
        (["base.csv", "--report=r.pdf"], "must end in one of .html, .md, .json"),
        (["base.csv", "--max-ece=5"], "must lie between 0 and 1, got 5"),
        (["base.csv", "--baseline="], "--baseline needs the name of a stored baseline, or a file"),
        (["base.csv", "--baseline=none.csv"], "none.csv: there is no such file"),
        (["base.csv", "--baseline=base.csv", "--record"], "--record is about stored baselines"),
        (["base.csv", "--probe=x", "--baseline=r.yaml"], "is a baseline of 'quiz'"),
        (["base.csv", "--config=none.yaml"], "none.yaml"),
        (["base.csv", "--baseline-dir=base.csv", "--record"], "base.csv"),
        (["bad.csv"], "bad.csv, line 2, column 'confidence': '87' lies outside [0, 1]"),
    ],
)
def test_what_a_user_can_get_wrong(
    command, place: Path, arguments: list[str], message: str
) -> None:
    """One line on stderr, exit code 2, and nothing written."""
    (place / "bad.csv").write_text("confidence,correct\n87,1\n")
    record = Baselines(place / "kept").record(read_predictions("base.csv", probe="quiz"))
    record.replace(place / "r.yaml")
    for items in (place / "kept").glob("*.npz"):
        items.replace(place / items.name)
    result = command("check", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (place / "calibration_baselines").exists()


def test_a_report_that_cannot_be_written(command) -> None:
    """The verdict is printed, and the run is not green."""
    result = command("check", "base.csv", "--max-ece=0.05", "--report=base.csv/r.json")
    assert result.code == 2
    assert result.lines[0] == "passed: probe base on base.csv"
    assert "cannot be written" in result.err
