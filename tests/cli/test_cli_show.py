"""``pytest-calibration show``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting import calls
from hypothesis import given, settings
from samples import HOSTILE, damaged, predictions, results, small_results, turned

from pytest_calibration.baselines import Baselines
from pytest_calibration.cli import main
from pytest_calibration.diagnosis import diagnose
from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import METRICS
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.reports.dump import dump_lines, write_dump
from pytest_calibration.reports.json_report import json_report
from pytest_calibration.reports.model import Results, result_of, slice_rows
from pytest_calibration.reports.terminal import reliability_diagram, slices_table
from pytest_calibration.text.layout import columns as columns_of
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.reliability import reliability

# Confidence, correct, slice; the rows are not in the order in which they should be shown.
QUIZ = [
    (0.5, True, "rivers"),
    (0.9, False, "rivers"),
    (0.3, True, "towns"),
    (0.7, False, "towns"),
    (0.99, True, "towns"),
    (0.95, False, "towns"),
    (0.999, True, "towns"),
]


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every terminal be 100 columns wide."""
    monkeypatch.setenv("COLUMNS", "100")


def quiz(**more: Any) -> Predictions:
    """Seven items with names and words; small enough to count by hand."""
    confidence, correct, slices = zip(*QUIZ, strict=True)
    given: dict[str, Any] = {
        "slices": np.array(slices),
        "texts": ItemTexts.from_list(
            [
                ItemText(f"Question {i}?", f"gold {i}", f"answer {i}", name=f"row-{i}")
                for i in range(len(QUIZ))
            ]
        ),
        "signature": Signature(soft={"model": "sft"}),
    }
    return Predictions(
        "quiz",
        np.array(confidence),
        np.array(correct),
        np.arange(len(QUIZ), dtype=np.uint64),
        **{**given, **more},
    )


@pytest.fixture
def dumped(tmp_path: Path) -> Callable[[Predictions], Path]:
    """Write predictions as a dump."""
    return lambda made: write_dump(tmp_path, made)


def shown_items(lines: list[str]) -> list[str]:
    """Return the names of the items that are shown, in order."""
    return re.findall(r"^ *\d+\. (\S+?)(?: \(|:)", "\n".join(lines), re.MULTILINE)


# --- what is printed -----------------------------------------------------------------------------


def test_a_dump_is_shown_from_the_whole_to_the_single_item(command, dumped) -> None:
    """What it is, why, the metrics, the bins, the slices, the items: each as its room makes it."""
    made = predictions(n=400, hostile=False, sharpen=2.5)
    path = dumped(made)
    found = command("show", path)
    assert (found.code, found.err) == (0, "")
    blocks = found.out.split("\n\n")
    assert len(blocks) == 5
    head, metrics, bins, slices, items = (block.splitlines() for block in blocks)
    assert head[0] == "support-mcq on base: 400 items in 134 groups"
    assert head[1] == f"  from the dump {path}"
    assert " ".join(line.strip() for line in head[2:]) == diagnose(made).paragraph
    assert bins in (
        list(reliability_diagram(reliability(made), width=100, unicode=unicode))
        for unicode in (True, False)
    )
    assert slices == list(slices_table(slice_rows(made, None)))
    assert metrics[0].split() == ["metric", "value", "95", "%", "interval", "noise", "floor"]
    assert items[0].startswith("most confident wrong answers, 20 of ")


def test_metrics_stand_with_interval_and_noise_floor(command, dumped) -> None:
    """The foremost metrics as ``measure`` gives them, aligned, with signs where they have one."""
    made = predictions(n=400, hostile=False, sharpen=2.5)
    metrics = command("show", dumped(made)).out.split("\n\n")[1].splitlines()[1:]
    names = (
        "ece", "equal_mass_ece", "smooth_ece", "signed_gap", "accuracy", "mean_confidence",
        "brier", "nll", "auroc",
    )  # fmt: skip
    assert len(metrics) == len(names)
    for name, line in zip(names, metrics, strict=True):
        m = measure(made, name)
        sign = "+" if name == "signed_gap" else ""
        numbers = [f"{m.value:{sign}.3f}", f"[{m.low:{sign}.3f},", f"{m.high:{sign}.3f}]"]
        if METRICS[name].error or name == "signed_gap":
            numbers.append(f"{m.noise_floor:.3f}")
        assert line.split()[-len(numbers) :] == numbers
        assert line.startswith(f"{m.label} ")


def test_the_worst_wrong_answers_come_first(command, dumped) -> None:
    """By confidence; all there are where more are asked for; with what was asked and answered."""
    found = command("show", dumped(quiz()))
    assert found.out.endswith(
        "most confident wrong answers, 3 of 3:\n"
        "1. row-5 (slice: towns): confidence 0.950, wrong\n"
        "     Question 5?\n"
        '     answered "answer 5", correct "gold 5"\n'
        "2. row-1 (slice: rivers): confidence 0.900, wrong\n"
        "     Question 1?\n"
        '     answered "answer 1", correct "gold 1"\n'
        "3. row-3 (slice: towns): confidence 0.700, wrong\n"
        "     Question 3?\n"
        '     answered "answer 3", correct "gold 3"\n'
    )


def test_worst_says_how_many(command, dumped) -> None:
    """The first N; none at all for 0; every one for more than there are."""
    path = dumped(quiz())
    two = command("show", path, "--worst", 2)
    assert shown_items(two.lines) == ["row-5", "row-1"]
    assert "most confident wrong answers, 2 of 3:" in two.lines
    none = command("show", path, "--worst", 0)
    assert none.code == 0
    assert "answer" not in none.out
    assert "row-" not in none.out
    assert not none.out.endswith("\n\n")
    assert shown_items(command("show", path, "--worst", 10**9).lines) == ["row-5", "row-1", "row-3"]


def test_correct_shows_the_right_answers_it_was_least_sure_of(command, dumped) -> None:
    """The other end: where the model knows more than it thinks."""
    found = command("show", dumped(quiz()), "--correct", "--worst", 2)
    assert "least confident correct answers, 2 of 4:" in found.lines
    assert shown_items(found.lines) == ["row-2", "row-0"]
    assert "2. row-0 (slice: rivers): confidence 0.500, correct" in found.lines


def test_many_items_are_numbered_in_line(command, dumped) -> None:
    """The numbers of ten and more items end in one column, and so do the lines below begin."""
    found = command("show", dumped(predictions(n=100, hostile=False)), "--worst", 11)
    items = found.lines[-66:]
    assert items[0].startswith(" 1. ")
    assert items[-6].startswith("11. ")
    assert items[1].startswith("      question")
    assert items[-5].startswith("      question")


def test_nothing_wrong_is_told(command, dumped) -> None:
    """A model that is always right, and one that never is, have no such items to show."""
    right = replace(quiz(), correct=np.ones(len(QUIZ), bool))
    wrong = replace(quiz(), correct=np.zeros(len(QUIZ), bool))
    found = command("show", dumped(right))
    assert (found.code, found.lines[-1]) == (0, "no answer is wrong")
    found = command("show", dumped(wrong), "--correct")
    assert (found.code, found.lines[-1]) == (0, "no answer is correct")
    assert "AUROC" not in found.out


def test_ties_are_shown_in_one_order(command, tmp_path) -> None:
    """Equal confidences go by id, wherever the lines stand."""
    made = replace(predictions(n=60, hostile=False), confidence=np.full(60, 0.7))
    lines = list(dump_lines(made))
    path = tmp_path / "x.jsonl"
    outputs = set()
    for order in (lines, lines[::-1]):
        path.write_text("\n".join(order), "ascii")
        outputs.add((command("show", path).out, command("show", path, "--correct").out))
    assert len(outputs) == 1


def test_one_slice_alone(command, dumped) -> None:
    """Everything is then about its items, and the slices are not listed."""
    made = predictions(n=400, hostile=False, sharpen=2.5)
    found = command("show", dumped(made), "--slice", "question subject 2")
    assert found.lines[0] == "support-mcq on base: 80 items"
    part = made.take(made.slices == "question subject 2")
    assert f" {measure(part).value:.3f} " in found.out
    assert f"{min(20, int((~part.correct).sum()))} of {int((~part.correct).sum())}:" in found.out
    assert not any(line.startswith("slice ") for line in found.lines)


def test_groups_stand_for_slices_where_there_are_none(command, dumped) -> None:
    """As in the table of slices."""
    made = replace(predictions(n=60, hostile=False), slices=None)
    found = command("show", dumped(made), "--slice", "passage-3")
    assert found.lines[0] == "support-mcq on base: 3 items in 1 group"


def pair(tmp_path: Path) -> tuple[Path, Path, Predictions, Predictions]:
    """Two dumps of one probe, and what they hold; some answers turned."""
    old = predictions(n=400, hostile=False, model="old")
    new = turned(predictions(n=400, hostile=False, sharpen=2.5, model="new"))
    return write_dump(tmp_path, new), write_dump(tmp_path, old), new, old


@pytest.mark.parametrize("kind", ["dump", "both", "record", "part", "report"])
def test_answers_that_turned_wrong_are_shown(command, tmp_path, kind: str) -> None:
    """Against a dump, a record, a dump of fewer items; of a dump or a report that has both."""
    path, against, new, old = pair(tmp_path)
    wrong = np.flatnonzero(old.correct & ~new.correct)
    right = int((~old.correct & new.correct).sum())
    flags: list[object] = ["--against", against]
    if kind == "record":
        Baselines(tmp_path / "baselines").record(old)
        flags = ["--against", *(tmp_path / "baselines").glob("*.yaml")]
    elif kind == "part":
        part = np.arange(300)
        flags = ["--against", write_dump(tmp_path / "part", old.take(part))]
        wrong = wrong[wrong < 300]
        right = int((~old.correct & new.correct)[:300].sum())
    elif kind == "both":
        path, flags = write_dump(tmp_path / "both", new, old), []
    elif kind == "report":
        whole = Results("1", "now", 1, True, (result_of(compare(new, old)),))
        path, flags = tmp_path / "report.json", []
        path.write_text("".join(json_report(whole)), "ascii")
    found = command("show", path, *flags, "--worst", 3)
    assert (found.code, found.err) == (0, "")
    count = f"{len(wrong)} answers turned wrong, {right} turned right"
    assert f"\n{count}; most confident that turned wrong, 3 of {len(wrong)}:\n" in found.out
    first = wrong[np.lexsort((new.item_ids[wrong], -new.confidence[wrong]))][:3]
    assert shown_items(found.lines) == [f"#{int(new.item_ids[i]):016x}" for i in first]
    assert len(re.findall(r", wrong; before: \S+, correct$", found.out, re.MULTILINE)) == 3
    assert ("  against " in found.out) == bool(flags)
    assert "Compared with the baseline" in found.out
    sure = command("show", path, *flags, "--worst", 3, "--wrong")
    assert f"most confident wrong answers, 3 of {int((~new.correct).sum())}:" in sure.out
    assert "turned wrong" not in sure.out


def test_against_is_in_the_json(command, tmp_path) -> None:
    """With both counts, and the items as in a report."""
    path, against, new, old = pair(tmp_path)
    tree = json.loads(command("show", path, "--against", against, "--json").out)
    assert (tree["file"], tree["against"]) == (str(path), str(against))
    made = tree["shown"][0]["detail"]["turned"]
    assert (made["wrong"], made["right"]) == (
        int((old.correct & ~new.correct).sum()),
        int((~old.correct & new.correct).sum()),
    )
    assert len(made["items"]) == min(20, made["wrong"])


@pytest.mark.parametrize("as_json", [True, False])
def test_reports_show_which_verdicts_turned(command, tmp_path, as_json: bool) -> None:
    """Paired by probe and metric, whatever the models are called; what one alone has is last."""
    base = predictions(n=600, hostile=False, model="base")
    good = predictions(n=600, hostile=False, sharpen=1.02, model="step-1")
    bad = predictions(n=600, hostile=False, sharpen=2.5, model="step-2")
    fact = predictions(1, probe="facts", n=600, hostile=False)

    def report(name: str, *verdicts: Any) -> Path:
        made = tuple(result_of(verdict, test="t.py::a") for verdict in verdicts)
        path = tmp_path / name
        path.write_text("".join(json_report(Results("1", "now", 1, True, made))), "ascii")
        return path

    old = report(
        "old.json",
        compare(good, base, against="baseline"),
        judge(measure(bad), 0.1),
        compare(fact, fact),
    )
    new = report("new.json", judge(measure(good), 0.1), compare(bad, base, against="baseline"))
    found = command("show", new, "--against", old, *["--json"] * as_json)
    assert (found.code, found.err) == (0, "")
    if as_json:
        rows = json.loads(found.out)["changes"]
        assert [row["turned"] for row in rows] == ["not failing", "failing", ""]
        assert [row["probe"] for row in rows] == ["support-mcq", "support-mcq", "facts"]
        assert rows[1]["before"]["model"] == "step-1"
        assert rows[1]["after"]["model"] == "step-2"
        assert rows[1]["after"]["value"] == measure(bad).value
        assert rows[2]["after"] is None
    else:
        text = re.sub(" +", " ", found.out)
        assert "step-1 -> step-2 ECE" in text
        assert "passed -> regressed <- turned failing" in text
        assert "above limit -> passed <- turned not failing" in text
        assert "passed -> none" in text
        assert "\n1 turned failing, 1 turned not failing\n" in text
        assert max(map(columns_of, found.lines)) <= 120


def test_a_baseline_in_the_dump_is_told(command, tmp_path) -> None:
    """Lines that hold both runs show what moved, and what the baseline made of each item."""
    made, before = (predictions(n=400, hostile=False, sharpen=s) for s in (2.5, 1.0))
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join(dump_lines(made, before)), "ascii")
    found = command("show", path)
    assert list(slices_table(slice_rows(made, before))) == (found.out.split("\n\n")[3].splitlines())
    assert " ".join(found.out.split()).count(" ".join(diagnose(made, before).paragraph.split()))
    assert found.out.count("; before: ") == 20


def test_one_item_is_enough(command, dumped) -> None:
    """A dump of a single item is shown, with the numbers that it has."""
    found = command("show", dumped(quiz().take(np.array([1]))))
    assert (found.code, found.err) == (0, "")
    assert found.lines[0] == "quiz on sft: 1 item"
    assert shown_items(found.lines) == ["row-1"]


def test_a_dump_without_text_shows_ids(command, tmp_path) -> None:
    """A line names what was left out when the dump was written."""
    found = command("show", write_dump(tmp_path, quiz(), item_text=False))
    assert "(this dump holds no text of the items, only their ids)" in found.lines
    assert found.lines[-1] == "3. row-3 (slice: towns): confidence 0.700, wrong"


def test_tokens_are_called_tokens(command, dumped) -> None:
    """The unit is that of the probe."""
    assert command("show", dumped(quiz(unit="token"))).lines[0] == "quiz on sft: 7 tokens"


# --- a stored record -----------------------------------------------------------------------------


def test_a_record_shows_all_but_text_and_slices(command, stored, runs) -> None:
    """The items of a record have ids; its groups have lost their names, and it has no slices."""
    record = stored(runs[0])
    found = command("show", record.path)
    assert (found.code, found.err) == (0, "")
    assert found.lines[:2] == [
        "quiz: 400 items in 100 groups",
        f"  from the record {record.path}",
    ]
    (line,) = (line for line in found.lines if "holds no text" in line)
    assert line == (
        "(a record holds no text of the items, only their ids; pytest --calibration-dump=DIR "
        "writes it)"
    )
    made = runs[0]
    assert f"{measure(made).value:.3f}" in found.out
    wrong = np.flatnonzero(~made.correct)
    worst = wrong[np.argmax(made.confidence[wrong])]
    assert shown_items(found.lines)[0] == f"#{int(made.item_ids[worst]):016x}"
    assert not any(line.startswith("slice ") for line in found.lines)


def test_a_record_of_a_sample_says_of_how_many(command, stored) -> None:
    """A baseline of tokens keeps 4000 of them; the number measured stands beside it."""
    n = 5000
    rng = np.random.default_rng(0)
    tokens = Predictions(
        "prose",
        rng.random(n),
        rng.random(n) < 0.5,
        np.arange(n, dtype=np.uint64),
        unit="token",
        groups=np.arange(n) // 50,
    )
    found = command("show", stored(tokens).path)
    assert found.lines[0] == "prose: 4,000 of 5,000 tokens in 80 groups"


# --- a report ------------------------------------------------------------------------------------


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., tuple[Path, Results]]:
    """Write a session with a verdict of every state as a JSON report."""

    def write(**settings: bool) -> tuple[Path, Results]:
        made = results(**settings)
        path = tmp_path / "report.json"
        path.write_text("".join(json_report(made)), "utf-8")
        return path, made

    return write


def test_a_report_shows_every_verdict(command, report) -> None:
    """One part each: the test, the headline, and what the report holds behind it."""
    path, made = report()
    found = command("show", path, "--worst", 2)
    assert (found.code, found.err) == (0, "")
    assert found.out.replace("\n", "").isprintable()
    parts = found.out.split("\n\n\n")
    assert len(parts) == len(made.results) > 5
    for part, result in zip(parts, made.results, strict=True):
        text = " ".join(part.split())
        detail = result.detail
        assert part.startswith(f"{result.probe}")
        assert f"  from the report {path}\n  test {result.test}\n" in part
        assert " ".join(visible(result.headline).split()) in text
        assert " ".join(visible(detail.diagnosis.paragraph).split()) in text
        assert f"{detail.candidate.metrics['ece'].value:.3f}" in part
        wrong = sum(bar.wrong for bar in detail.candidate.histogram)
        assert f"most confident wrong answers, 2 of {wrong:,}:" in part
        shown = " ".join(part.partition("most confident wrong answers")[2].split())
        for item in detail.worst[:2]:
            assert " ".join(visible(item.text.prompt).split()) in shown


def test_a_report_without_text_or_details_is_shown_as_far_as_it_goes(command, report) -> None:
    """Ids where the report has no text; the headline where it has nothing else."""
    path, _ = report(item_text=False)
    found = command("show", path)
    assert "(this report holds no text of the items, only their ids)" in found.lines
    assert "?" not in found.out.partition("most confident wrong answers")[2].partition("\n\n")[0]
    path, made = report(detailed=False)
    found = command("show", path)
    assert found.code == 0
    assert found.lines.count("  nothing more is stored of this verdict") == len(made.results)
    assert found.lines[0] == "support-mcq on base: 600 items"
    assert "metric" not in found.out


def test_a_report_as_json(command, report) -> None:
    """One entry a verdict, with its test and headline."""
    path, made = report()
    tree = json.loads(command("show", path, "--json", "--worst", 1).out)
    assert tree["kind"] == "report"
    assert [one["test"] for one in tree["shown"]] == [r.test for r in made.results]
    assert [one["headline"] for one in tree["shown"]] == [r.headline for r in made.results]
    assert {len(one["detail"]["worst"]) for one in tree["shown"]} == {1}


def test_a_report_of_nothing(command, tmp_path) -> None:
    """A session without a verdict has one line; a file that is no report is an error."""
    path = tmp_path / "report.json"
    path.write_text("".join(json_report(replace(results(detailed=False), results=()))), "utf-8")
    found = command("show", path)
    assert (found.code, found.out) == (0, f"the report {path} holds no verdict\n")
    assert json.loads(command("show", path, "--json").out)["shown"] == []
    path.write_text("{}")
    found = command("show", path)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"pytest-calibration: error: {path}: ")


@settings(max_examples=200, deadline=None)
@given(bad=damaged("".join(json_report(small_results()))))
def test_a_damaged_report_is_shown_or_refused(tmp_path_factory: Any, bad: Any) -> None:
    """One sentence and exit code 2, or what there is to show; never another exception."""
    path = tmp_path_factory.mktemp("damaged") / "report.json"
    path.write_text(json.dumps(bad), "utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["show", str(path)])
    assert (code, err.getvalue().count("\n")) in ((0, 0), (2, 1))
    assert out.getvalue().replace("\n", "").isprintable()


# --- for a program -------------------------------------------------------------------------------


def test_json_holds_everything(command, dumped) -> None:
    """All metrics, bins, slices, the diagnosis and the items, as numbers and text."""
    made = predictions(n=200, sharpen=2.5)
    path = dumped(made)
    found = command("show", path, "--json", "--worst", 3)
    assert (found.code, found.err) == (0, "")
    assert found.out.isascii()
    whole = json.loads(found.out)
    assert list(whole) == ["file", "kind", "shown"]
    assert (whole["file"], whole["kind"]) == (str(path), "dump")
    (tree,) = whole["shown"]
    assert list(tree) == [
        "probe", "model", "unit", "measured", "test", "headline", "eligible", "detail",
    ]  # fmt: skip
    assert (tree["probe"], tree["model"], tree["measured"]) == ("support-mcq", "base", 200)
    detail = tree["detail"]
    assert set(detail["candidate"]["metrics"]) == set(METRICS)
    assert detail["candidate"]["metrics"]["ece"]["value"] == measure(made).value
    assert [b["n"] for b in detail["candidate"]["reliability"]] == [b.n for b in reliability(made)]
    assert detail["diagnosis"]["sentences"] == list(diagnose(made).sentences)
    assert len(detail["slices"]) == 5
    assert tree["eligible"] == int((~made.correct).sum())
    assert len(detail["worst"]) == 3
    worst = int(np.flatnonzero(~made.correct)[np.argmax(made.confidence[~made.correct])])
    first = detail["worst"][0]
    assert first["id"] == f"{int(made.item_ids[worst]):016x}"
    assert first["text"]["prompt"] == f"{HOSTILE} {worst}?"
    assert first["probabilities"] == made.probabilities[worst].tolist()
    assert first["confidence_before"] is None


# --- errors --------------------------------------------------------------------------------------


def test_what_cannot_be_shown_is_one_line(command, dumped, stored, runs, tmp_path) -> None:
    """Exit code 2, nothing on stdout, and what is wrong with which file."""
    path, record = dumped(quiz()), stored(runs[0]).path
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"probe": "x"}\n')
    for arguments, message in (
        ((tmp_path / "none.jsonl",), f"{tmp_path / 'none.jsonl'}: there is no such file."),
        ((bad,), f"{bad}: holds no predictions: needs the columns confidence and correct"),
        ((tmp_path / "x.csv",), f"{tmp_path / 'x.csv'}: there is no such file."),
        (
            (path, "--slice", "Towns"),
            f"{path}: has no slice 'Towns'; there are 'rivers', 'towns'.",
        ),
        (
            (record, "--slice", "0"),
            f"{record}: names no slices, so --slice finds nothing in it.",
        ),
        ((path, "--worst", -1), "argument --worst: must lie between 0 and 1,000,000,000, got -1"),
        ((path, "--worst", "x"), "argument --worst: must be a whole number, got 'x'"),
        (
            (),
            "show needs a file: predictions (.csv, .parquet, .jsonl), a dump, a stored record "
            "(.yaml) or a report (.json).",
        ),
        *(
            (
                (tmp_path / "x.json", *more),
                f"{tmp_path / 'x.json'}: --correct and --slice need all items, and a report holds "
                "the worst alone; pytest --calibration-dump=DIR writes all.",
            )
            for more in (["--correct"], ["--slice", "a"])
        ),
    ):
        found = command("show", *arguments)
        assert (found.code, found.out) == (2, "")
        assert found.err.startswith(f"pytest-calibration: error: {message}")
        assert found.err.count("\n") == 1
    assert command("show", tmp_path / "none.yaml").code == 2
    plain = tmp_path / "plain.yml"
    plain.write_text("a: 1\n")
    found = command("show", plain)
    assert (found.code, found.out) == (2, "")
    assert str(plain) in found.err


def test_an_unknown_slice_names_some_that_are_known(command, dumped) -> None:
    """Eight of them at most, cut where they are long, and the number of the others."""
    made = predictions(n=600, hostile=False)
    names = np.array([f"{'very ' * 20}{i % 20:02}" if i % 20 else HOSTILE for i in range(600)])
    found = command("show", dumped(replace(made, slices=names)), "--slice", "\x1b[31m")
    assert found.code == 2
    assert "has no slice '\\x1b[31m'; there are " in found.err
    assert found.err.rstrip().endswith(" and 12 more.")
    assert found.err.rstrip("\n").isprintable()
    assert len(found.err) < 1000
    neither = dumped(replace(made, slices=None, groups=None))
    assert "names no slices" in command("show", neither, "--slice", "x").err


# --- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--correct",), ("--json",)])
def test_hostile_text_is_shown_as_text(command, dumped, arguments: tuple[str, ...]) -> None:
    """Nothing in a dump moves the cursor, changes colours or turns the direction of writing."""
    one = predictions(n=100, model=HOSTILE)
    found = command("show", dumped(one), *arguments)
    assert found.code == 0
    assert found.out.replace("\n", "").isprintable()
    assert "\\u202e" in found.out


@pytest.mark.parametrize("width", [20, 54, 60, 79, 100, 120, 500])
def test_the_width_of_the_terminal_is_kept(command, dumped, monkeypatch, width: int) -> None:
    """Lines fit between 54 and 120 columns but for the table of slices, and use no more."""
    monkeypatch.setenv("COLUMNS", str(width))
    made = replace(predictions(n=100, sharpen=3), slices=None, groups=None)
    found = command("show", dumped(made))
    limit = max(54, min(120, width))
    (path,) = (line for line in found.lines if "from the dump" in line)
    assert all(len(line) <= limit for line in found.lines if line != path)
    assert max(len(line) for line in found.lines if line != path) > limit - 20
    heads, *metrics = found.out.split("\n\n")[1].splitlines()
    assert heads.endswith("  noise floor") == (limit >= 69)
    assert len(metrics[0].split()) == 7 + (limit >= 69)


def in_process(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    code = "import sys; from pytest_calibration.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


def test_a_terminal_that_knows_only_ascii(dumped) -> None:
    """The diagram is drawn in ASCII there, and other letters are spelt out."""
    words = ItemTexts.from_list([ItemText("首都?", "é", "b")] * len(QUIZ))
    path = dumped(quiz(texts=words))
    encoding = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    found = in_process("show", path, env=encoding)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.isascii()
    assert "\\u9996\\u90fd?" in found.stdout
    assert "o # accuracy" in found.stdout
    wide = in_process("show", path, env={**encoding, "PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert "首都?" in wide.stdout
    assert "○ ● accuracy" in wide.stdout


def test_a_reader_who_stops_reading_ends_it(dumped) -> None:
    """``show FILE | head -1`` is no error, and leaves no traceback."""
    path = dumped(predictions(n=3000, hostile=False))
    code = "import sys; from pytest_calibration.cli import main; sys.exit(main(sys.argv[1:]))"
    shown = subprocess.Popen(
        [sys.executable, "-c", code, "show", str(path), "--worst", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert shown.stdout is not None
    assert shown.stderr is not None
    assert shown.stdout.readline().startswith(b"support-mcq on base: 3,000 items")
    shown.stdout.close()
    with shown.stderr:
        assert shown.stderr.read() == b""
    assert shown.wait() == 141


def test_work_grows_with_the_items_and_no_faster(command, dumped) -> None:
    """Large dumps can be looked at: four times the items take at most four times the calls."""

    def work(n: int) -> int:
        path = dumped(predictions(n=n, hostile=False, sharpen=2))
        return calls(lambda: command("show", path))

    assert work(8_000) < 4 * work(2_000)


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        ("new.jsonl", "report.json", "a report is compared with a report, and a dump or record"),
        ("report.json", "new.jsonl", "a report is compared with a report, and a dump or record"),
        (
            "new.jsonl",
            "other.jsonl",
            "other.jsonl: has no item of .*new.jsonl .probe 'a' there, 'b'",
        ),
        ("new.jsonl", "missing.jsonl", "missing.jsonl: there is no such file."),
        ("new.jsonl", "notes.txt", "notes.txt: there is no such file."),
        ("missing.json", "report.json", "missing.json: there is no such file."),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    command, tmp_path, new: str, old: str, message: str
) -> None:
    """One sentence that names both files, or the one at fault."""
    for name, ids in (("a", [1, 2]), ("b", [3, 4])):
        made = Predictions.from_confidence([0.5, 0.6], [True, False], item_ids=ids, probe=name)
        file = tmp_path / ("new.jsonl" if name == "a" else "other.jsonl")
        file.write_text("\n".join(dump_lines(made)), "ascii")
    (tmp_path / "report.json").write_text("".join(json_report(small_results())), "ascii")
    found = command("show", tmp_path / new, "--against", tmp_path / old)
    assert found.code == 2
    assert found.out == ""
    assert re.search(message, found.err)
    assert len(found.err.splitlines()) == 1


# --- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jsonl", ".yaml", ".json"])
@pytest.mark.parametrize(
    "kind", ["missing", "folder", "pipe", "device", "long", "half", "latin-1", "utf-16", "lfs"]
)
def test_what_cannot_be_read_is_told_with_exit_code_2(command, tmp_path, ending, kind) -> None:
    """By kind, for each kind of file that is shown; nothing is printed."""
    path = tmp_path / f"x{ending}"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind in ("latin-1", "utf-16"):
        path.write_bytes('{"é": 1}\n'.encode(kind))
    elif kind == "lfs":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n")
    names = {"long": "n" * 300 + ending, "half": f"\ud83d{ending}"}
    told = {
        "missing": "there is no such file",
        "folder": "it is a folder",
        "pipe": "it is a pipe",
        "device": "it is a device",
        "long": "File name too long",
        "half": "no file can have this name",
        "latin-1": "line 1 is not UTF-8",
        "utf-16": "it is UTF-16 or UTF-32 text",
        "lfs": "git lfs pull",
    }
    found = command("show", tmp_path / names.get(kind, path.name))
    assert (found.code, found.out) == (2, "")
    assert told[kind] in found.err
    assert found.err.count("\n") == 1


@pytest.mark.parametrize("name", ["\x1b[31mx.json", "::error::x", "a\n::error::b.yaml", "\u202e"])
@pytest.mark.parametrize("flag", ["", "--slice", "--worst", "--unknown"])
def test_hostile_names_are_told_as_text(command, name: str, flag: str) -> None:
    """Whether the command or its parser of arguments refuses them."""
    found = command("show", *filter(None, [flag]), name)
    assert found.code == 2
    assert found.err.rstrip("\n").isprintable()
    assert found.err.startswith("pytest-calibration: error: ")


def test_other_predictions_are_shown(command, tmp_path) -> None:
    """A table of one's own, with its slices and texts, also against another of the same items."""
    for name, confidence in (("new", 0.9), ("old", 0.6)):
        rows = [f"q{i},{confidence},{i % 2},s{i % 3},what {i}" for i in range(60)]
        text = "\n".join(["id,confidence,correct,slice,text", *rows])
        (tmp_path / f"{name}.csv").write_text(text)
    found = command("show", tmp_path / "new.csv", "--slice", "s1", "--worst", 1)
    assert (found.code, found.err) == (0, "")
    assert "what " in found.out
    assert "from the file" in found.out
    both = command("show", tmp_path / "new.csv", "--against", tmp_path / "old.csv", "--json")
    (part,) = json.loads(both.out)["shown"]
    assert part["detail"]["baseline"]["n"] == 60
