"""``pytest-calibration drift``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fakes import FakeModel
from histories import at_gap, write_history

from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import Predictions

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in an empty folder, on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(lines: list[str]) -> list[list[str]]:
    """Return the words of the rows of the first table: those that begin with a step or parent."""
    words = [line.split() for line in lines]
    return [w for w in words if len(w) > 5 and w[2].startswith("[")]


def text(lines: list[str]) -> str:
    """Return the output in one line: sentences are wrapped."""
    return " ".join(" ".join(lines).split())


# --- what it shows -------------------------------------------------------------------------------


def test_a_table_of_the_default_history(command, place: Path) -> None:
    """Each checkpoint has value, interval, floor, accuracy and what it is against the parent."""
    file = write_history(place / "calibration_history.jsonl", {10: 0.0, 20: 0.1}, parent=0.0)
    result = command("drift")
    assert (result.code, result.err) == (0, "")
    assert result.lines[0] == "facts along runs/sft: 2 checkpoints after the parent base"
    found = rows(result.lines)
    assert [row[0] for row in found] == ["parent", "10", "20"]
    for row, line in zip(found, file.read(), strict=True):
        ece = line.metrics["ece"]
        numbers = [f"{ece.value:z.3f}", f"[{ece.low:z.3f},", f"{ece.high:z.3f}]"]
        accuracy = f"{line.metrics['accuracy'].value:.3f}"
        assert row[1:6] == [*numbers, f"{ece.noise_floor:.3f}", accuracy]
    assert [row[6] for row in found[1:]] == ["passed", "regressed"]
    assert "first worse than the parent base: checkpoint 20 (" in text(result.lines)
    assert "2 comparisons along runs/sft share the parent base on 1 probe" in text(result.lines)


def test_what_cannot_be_told_apart_is_said(command, place: Path) -> None:
    """A range where none between is another, else a list."""
    gaps = {100: 0.2, 200: 0.0, 300: 0.0, 400: 0.0, 500: 0.2}
    write_history(place / "h.jsonl", gaps)
    # A larger gap is a lower accuracy here, so that the others are less accurate.
    out = text(command("drift", "h.jsonl").lines)
    assert "best: checkpoint 200 (cross-fitted ECE" in out
    assert "of the 3 of 5 whose accuracy is not surely below the highest" in out
    assert "checkpoints 200 to 400 cannot be told apart" in out
    write_history(place / "g.jsonl", {100: 0.0, 200: 0.2, 300: 0.0, 400: 0.0})
    out = text(command("drift", "g.jsonl").lines)
    assert "checkpoints 100, 300 and 400 cannot be told apart" in out


def test_the_best_may_be_worse_than_the_parent(command, place: Path) -> None:
    """Then the parent is to be kept, and it is said."""
    write_history(place / "h.jsonl", {1: 0.1, 2: 0.2}, parent=0.0)
    out = text(command("drift", "h.jsonl").lines)
    assert "best: checkpoint 1 (" in out
    assert "it is itself worse than the parent base beyond doubt" in out


def test_any_metric_over_any_axis(command, place: Path) -> None:
    """The signed gap over epochs, tokens and stages."""
    file = History(place / "h.jsonl")
    for k, gap in enumerate((0.0, 0.05), start=1):
        at = Checkpoint(f"runs/checkpoint-{k}", step=k, epoch=k / 2, tokens=k * 10**6)
        file.append(Line.of(at_gap(gap), checkpoint=at, stage=f"stage-{k}"), at_gap(gap))
    for axis, first in (("epoch", "0.5"), ("tokens", "1,000,000"), ("stage", "stage-1")):
        result = command("drift", "h.jsonl", "--metric", "signed_gap", "--over", axis)
        assert result.code == 0
        header, row, last = (line.split() for line in result.lines[1:4])
        assert header[:3] == [axis, "signed", "gap"]
        assert (row[0], last[1]) == (first, "0.050")


def test_without_items_it_says_what_that_costs(command, place: Path) -> None:
    """Comparisons and trend on stored numbers."""
    write_history(place / "h.jsonl", {1: 0.0, 2: 0.2}, items=False)
    out = text(command("drift", "h.jsonl").lines)
    assert "compared on the stored numbers, not item by item, which sees less" in out
    assert "note on the trend: judged by the signed gap and accuracy of each checkpoint" in out
    assert "are not kept in h.jsonl.items." in out
    assert "not paired" in out


def test_a_torn_line_is_told(command, place: Path) -> None:
    """What is skipped is named at the end."""
    file = write_history(place / "h.jsonl", {1: 0.0, 2: 0.0})
    with file.path.open("a") as stream:
        stream.write('{"format":1,"ti')
    last = command("drift", "h.jsonl").lines[-1]
    assert last.startswith("h.jsonl: line 3: is no JSON")
    assert last.endswith("it is skipped.")


def test_a_long_series_is_cut_in_the_middle(command, place: Path) -> None:
    """The first lines, the last ones, and how many are between."""
    file = History(place / "h.jsonl")
    lines = [
        Line.of(at_gap(0.0), checkpoint=Checkpoint(f"runs/checkpoint-{k}", step=k))
        for k in range(1, 4)
    ]
    many = [replace(lines[0], model=f"runs/checkpoint-{k}", step=k) for k in range(1, 101)]
    file.append(many)
    result = command("drift", "h.jsonl")
    assert len(rows(result.lines)) == 40
    assert "... 60 more" in text(result.lines)


def test_of_many_runs_the_last_are_shown(command, place: Path) -> None:
    """Earlier ones are counted, and shown by name."""
    one = Line.of(at_gap(0.0), model="x")
    lines = [
        replace(one, model=f"runs/r{r}/checkpoint-{k}", step=k) for r in range(30) for k in (1, 2)
    ]
    History(place / "h.jsonl").append(lines)
    result = command("drift", "h.jsonl")
    assert sum(" along runs/r" in line and "checkpoints" in line for line in result.lines) == 24
    assert result.lines[-1] == (
        "h.jsonl: 6 earlier runs not shown (runs/r3, runs/r4, runs/r5, ...); --run RUN shows one."
    )
    assert (
        command("drift", "h.jsonl", "--run", "runs/r0").lines[0].startswith("facts along runs/r0")
    )


def test_hostile_names_are_only_shown(command, place: Path) -> None:
    """Control characters of names are spelt out."""
    file = History(place / "h.jsonl")
    for k in (1, 2):
        place_of = Checkpoint(f"r\u202e\x1b[31m/checkpoint-{k}", step=k)
        file.append(Line.of(at_gap(0.0), checkpoint=place_of), at_gap(0.0))
    result = command("drift", "h.jsonl")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out


# --- JSON and pictures ---------------------------------------------------------------------------


def test_json_holds_everything(command, place: Path) -> None:
    """Points, comparisons, the first worse, the best, the trend and the family, as values."""
    write_history(place / "h.jsonl", {10: 0.05, 20: 0.1, 30: 0.15}, parent=0.0)
    tree = json.loads(command("drift", "h.jsonl", "--json").out)
    (series,) = tree["series"]
    assert [point["at"] for point in series["points"]] == [0, 10, 20, 30]
    assert series["points"][0]["compared"] is None
    beyond = [p["compared"]["worse_beyond_doubt"] for p in series["points"][1:]]
    assert beyond == [True, True, True]
    assert (series["first_worse"], series["best"]["place"], series["state"]) == (1, 1, "regressed")
    assert series["trend"]["state"] == "regressed"
    assert series["trend"]["components"][0]["values"] == pytest.approx(
        [0, 0.05, 0.1, 0.15], abs=1e-6
    )
    assert tree["families"] == [
        {"run": "runs/sft", "probes": 1, "comparisons": 3, "failing": 3, "remaining": 3}
    ]


def test_pictures(command, place: Path) -> None:
    """An SVG with the names as text, and a PNG; equal histories give equal files."""
    pytest.importorskip("matplotlib")
    write_history(place / "h.jsonl", {10: 0.0, 20: 0.1}, run="runs/$full$", parent=0.0)
    write_history(place / "h.jsonl", {10: 0.0, 20: 0.0}, run="runs/lora", parent=0.0)
    assert command("drift", "h.jsonl", "--svg", "a/d.svg", "--png", "d.png").code == 0
    root = ElementTree.fromstring((place / "a/d.svg").read_text("utf-8"))
    words = {"".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")}
    assert {"facts", "ECE", "step", "runs/$full$", "runs/lora", "noise floor"} <= words
    assert (place / "d.png").read_bytes().startswith(b"\x89PNG")
    first = (place / "a/d.svg").read_bytes()
    command("drift", "h.jsonl", "--svg", "b.svg")
    assert (place / "b.svg").read_bytes() == first


# --- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "flags", "code"),
    [
        ({0: 0.0, 10: 0.1, 20: 0.2}, [], 0),
        ({0: 0.0, 10: 0.1, 20: 0.2}, ["--fail-on-drift"], 1),
        # A jump at the end hardly moves a line; the comparison sees it.
        (dict.fromkeys(range(12), 0.0) | {12: 0.1}, ["--fail-on-drift"], 1),
        # One that was worse, and is not any more, is shown, and fails nothing.
        ({0: 0.0, 1: 0.1, 2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0}, ["--fail-on-drift"], 0),
        ({0: 0.0, 10: 0.0, 20: 0.0}, ["--fail-on-drift", "--strict"], 0),
        ({0: 0.0, 10: 0.0, 20: 0.0}, ["--fail-on-drift", "--strict", "--max-undetected", "0"], 3),
        ({0: 0.0, 10: 0.0, 20: 0.0}, ["--fail-on-drift", "--max-undetected", "0"], 0),
        ({0: 0.0, 10: 0.1}, ["--fail-on-drift", "--tolerance", "0.2", "--accuracy-tolerance",
                            "none"], 0),
    ],
)  # fmt: skip
def test_exit_codes(
    command, place: Path, gaps: dict[int, float], flags: list[str], code: int
) -> None:
    """Those of the tests: 1 where it drifted, 3 where nothing can be decided under --strict."""
    write_history(place / "h.jsonl", gaps)
    assert command("drift", "h.jsonl", *flags).code == code


@pytest.mark.parametrize(("gap", "code"), [(0.1, 1), (0.0, 0)])
def test_any_of_several_models_from_one_fails(command, place: Path, gap: float, code: int) -> None:
    """They have no trend and no last one."""
    file = History(place / "h.jsonl")
    for name, of_model in (("base", 0.0), ("dpo", gap), ("rloo", 0.0)):
        p = at_gap(of_model)
        file.append(Line.of(p, model=name, parent="" if name == "base" else "base"), p)
    result = command("drift", "h.jsonl", "--fail-on-drift", "--strict")
    assert result.code == code
    assert "trend: not judged (models that were trained side by side have no" in text(result.lines)


def test_a_trend_that_cannot_be_judged_is_no_pass(command, place: Path) -> None:
    """Without items and numbers --fail-on-drift is an error, after the table."""
    file = write_history(place / "h.jsonl", {0: 0.0, 1: 0.0, 2: 0.0}, items=False)
    file.path.write_text(file.path.read_text("ascii").replace('"signed_gap"', '"another"'), "ascii")
    result = command("drift", "h.jsonl")
    assert "trend: not judged (a line has no signed_gap" in text(result.lines)
    result = command("drift", "h.jsonl", "--fail-on-drift")
    assert result.code == 2
    assert "the trend of facts along runs/sft cannot be judged: a line has no" in result.err
    assert rows(result.lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no calibration_history.jsonl here"),
        (["none.jsonl"], "none.jsonl"),
        (["h.jsonl", "--metric", "ec"], "unknown metric 'ec' (did you mean 'ece'?)"),
        (["h.jsonl", "--probe", "fact"], "no probe 'fact' (did you mean 'facts'?)"),
        (["h.jsonl", "--run", "runs/sff"], "no run 'runs/sff' (did you mean 'runs/sft'?)"),
        (["h.jsonl", "--over", "epoch"], "does not know its epoch; choose another --over"),
        (["h.jsonl", "--over", "stage"], "does not name a stage; choose another --over"),
        (["h.jsonl", "h.jsonl"], "name one history, or checkpoints"),
        (["h.jsonl", "--parent", "base"], "--parent is for checkpoints that are measured"),
        (["h.jsonl", "--svg", "d.png"], "--svg writes a file that ends in .svg, got 'd.png'"),
        (["h.jsonl", "--strict"], "--strict goes with --fail-on-drift"),
        (["nothing-*"], "matches no directory"),
        (["text.txt"], "is no history of calibration"),
    ],
)
def test_what_a_user_can_get_wrong(
    command, place: Path, arguments: list[str], message: str
) -> None:
    """One line that says what, where, and what to do."""
    write_history(place / "h.jsonl", {1: 0.0, 2: 0.0})
    (place / "text.txt").write_text("a text\n")
    result = command("drift", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


# --- checkpoints that are measured ---------------------------------------------------------------


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[str]:
    """Three checkpoints whose over-confidence grows, their base, and one probe; return the asked.

    Fakes stand for models: a number in the name of the folder is how much they overstate.
    """
    asked: list[str] = []

    class Model(FakeModel):
        def release(self) -> None:
            asked.append(self.name)

    def load(spec: Any, settings: Any, cache: Any) -> Model:
        step = spec.location.rpartition("-")[2]
        return Model(spec.name, sharpen=int(step) / 100 if step.isdigit() else 0.0)

    monkeypatch.setattr("pytest_calibration.models.loading.load_model", load)
    for name in ("base", "runs/checkpoint-5", "runs/checkpoint-40", "runs/checkpoint-100"):
        (place / name).mkdir(parents=True)
        (place / name / "config.json").write_text('{"model_type": "gpt_neox"}')
    items = "".join(
        json.dumps({"id": f"i{i}", "prompt": f"item {i} is", "answer": f" a{i}"}) + "\n"
        for i in range(300)
    )
    (place / "facts.jsonl").write_text(items)
    (place / "calibration.yaml").write_text("probes:\n  trivia: {kind: facts, path: facts.jsonl}\n")
    return asked


def test_checkpoints_are_measured_in_order(command, place: Path, checkpoints: list[str]) -> None:
    """A folder of them, after their parent; nothing is left behind without --history."""
    before = {path.name for path in place.iterdir()}
    result = command("drift", "runs", "--parent", "base", "--probe", "trivia")
    assert (result.code, result.err) == (0, "")
    assert checkpoints == ["base", "checkpoint-5", "checkpoint-40", "checkpoint-100"]
    assert [row[0] for row in rows(result.lines)] == ["parent", "5", "40", "100"]
    assert result.lines[0] == "trivia along runs: 3 checkpoints after the parent base"
    assert {path.name for path in place.iterdir()} == before


def test_what_was_measured_is_kept_where_asked(
    command, place: Path, checkpoints: list[str]
) -> None:
    """The history then shows the same, without any model."""
    measured = command(
        "drift",
        "runs/checkpoint-*",
        "--parent",
        "base",
        "--probe",
        "trivia",
        "--history",
        "h.jsonl",
    )
    checkpoints.clear()
    again = command("drift", "h.jsonl")
    assert again.out == measured.out
    assert checkpoints == []
    assert command("drift", "runs", "--history", "facts.jsonl").code == 2
    assert checkpoints == []


# --- cost ----------------------------------------------------------------------------------------


def test_it_starts_without_torch(place: Path) -> None:
    """A history is read and judged without torch, transformers, pytest, matplotlib or pandas."""
    write_history(place / "h.jsonl", {1: 0.0, 2: 0.1}, parent=0.0)
    code = (
        "import sys; from pytest_calibration.cli import main; main(['drift', 'h.jsonl']);"
        "heavy = {'torch', 'transformers', 'pytest', 'matplotlib', 'pandas', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_long_history_opens_few_files_of_items(
    command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 lines with items at most 240 files are read; --all-items reads all."""
    p = Predictions.from_confidence(np.full(60, 0.5), np.arange(60) % 2 == 0, probe="facts")
    one = Line.of(p, model="x")
    lines = [replace(one, model=f"runs/checkpoint-{k}", step=k) for k in range(300)]
    History(place / "h.jsonl").append(lines, [p] * 300)
    read: list[str] = []
    original = History.predictions

    def counting(self: History, line: Line) -> Predictions | None:
        read.append(line.model)
        return original(self, line)

    monkeypatch.setattr(History, "predictions", counting)
    out = text(command("drift", "h.jsonl").lines)
    assert read == []
    assert "there are many; --all-items reads all" in out
    command("drift", "h.jsonl", "--all-items")
    assert len(read) == 300
