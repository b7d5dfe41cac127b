"""``pytest-calibration compare``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeModel
from histories import at_gap

from pytest_calibration.baselines import Baselines
from pytest_calibration.gate.verdict import UNKNOWN, compare
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.readers import read_predictions
from pytest_calibration.reports.dump import write_dump
from pytest_calibration.reports.model import result_of
from pytest_calibration.reports.terminal import failure_lines


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in an empty folder, on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, predictions: Predictions) -> None:
    """Write a dump under a name of our own."""
    write_dump(path.parent, predictions).replace(path)


def dump(path: Path, gap: float, probe: str = "facts") -> None:
    """Write the items of a model with this gap."""
    write(path, at_gap(gap, probe))


def test_two_dumps_give_the_text_of_a_failing_test(command, place: Path) -> None:
    """The lines are those of the failure of assert_no_regression, the exit code is 1.

    A dump lacks the settings under which a model was asked, which is noted.
    """
    dump(place / "a.jsonl", 0.0)
    dump(place / "b.jsonl", 0.1)
    result = command("compare", "a.jsonl", "b.jsonl")
    verdict = compare(at_gap(0.1), at_gap(0.0), reference="a.jsonl")
    verdict = replace(verdict, cautions=(UNKNOWN,))
    made = result_of(verdict, detailed=True, item_text=True)
    assert (result.code, result.err) == (1, "")
    assert result.lines == list(failure_lines([made], width=100))
    assert result.lines[0] == "calibration regressed: probe facts"


def test_what_is_no_worse_explains_itself(command, place: Path) -> None:
    """Exit code 0, the headline and all components; better is no failure either."""
    dump(place / "a.jsonl", 0.1)
    dump(place / "b.jsonl", 0.0)
    result = command("compare", "a.jsonl", "b.jsonl")
    assert result.code == 0
    assert result.lines[0] == "passed: probe facts"
    assert any(line.split()[:2] == ["signed", "gap"] for line in result.lines)
    assert "better than a.jsonl beyond the tolerance" in result.out


def test_two_records_with_the_tolerance_of_the_first(command, place: Path, stored) -> None:
    """``tolerance:`` in the YAML counts, and a flag wins over it."""
    before, after = at_gap(0.0), at_gap(0.05)
    strict = stored(before, "a").path
    lenient = stored(before, "b", tolerance=0.2).path
    other = stored(after, "c").path
    flags = ("--accuracy-tolerance", "none")
    assert command("compare", strict, other, *flags).code == 1
    assert command("compare", lenient, other, *flags).code == 0
    assert command("compare", lenient, other, *flags, "--tolerance", "0.01").code == 1


def test_a_record_and_a_dump(command, place: Path) -> None:
    """Both hold items, so they can be compared."""
    record = Baselines(place / "store").record(at_gap(0.0))
    dump(place / "b.jsonl", 0.0)
    assert command("compare", record, "b.jsonl").code == 0


def test_files_of_others(command, place: Path, stored) -> None:
    """Two tables, whatever their names, or a table and a record."""
    for name, gap in (("one", 0.0), ("two", 0.1)):
        p = at_gap(gap)
        pairs = zip(p.confidence, p.correct, strict=True)
        lines = [f"{i},{c},{int(k)}" for i, (c, k) in enumerate(pairs)]
        (place / f"{name}.csv").write_text("\n".join(["id,confidence,correct", *lines]))
    result = command("compare", "one.csv", "two.csv")
    assert (result.code, result.err) == (1, "")
    assert "a dump does not tell" not in result.out
    record = stored(read_predictions("one.csv", probe="quiz"), "a").path
    for sides, code in (((record, "two.csv"), 1), (("two.csv", record), 0)):
        assert command("compare", *sides).code == code


def test_files_are_read_as_check_reads_them(command, place: Path) -> None:
    """Their columns may be named, JSON records are no report, and a folder may hold samples."""
    records = [{"score": 0.9, "ok": i % 10 > 0} for i in range(60)]
    (place / "own.jsonl").write_text("\n".join(map(json.dumps, records)))
    named = [{"confidence": r["score"], "correct": r["ok"]} for r in records]
    (place / "plain.json").write_text(json.dumps(named))
    columns = ("--column=confidence=score", "--column=correct=ok")
    for arguments in (
        ("compare", "own.jsonl", "own.jsonl", *columns),
        ("show", "own.jsonl", *columns),
        ("aa", "own.jsonl", *columns, "--trials=2"),
        ("compare", "plain.json", "plain.json"),
        ("show", "plain.json"),
    ):
        result = command(*arguments)
        assert (result.code, result.err) == (0, ""), arguments
    run = Path(__file__).parents[1] / "readers" / "lm_eval_run"
    assert command("compare", run, run, "--task=letters").code == 0
    assert "lm_eval:letters" in command("show", run, "--task=letters").out
    for arguments in (("compare", "a/b", "a/c", *columns), ("aa", "--model=a/b", *columns)):
        assert "--column, --task and their like go with" in command(*arguments).err


def test_inconclusive_is_3_under_strict(command, place: Path) -> None:
    """As in the tests: too few items are no failure unless asked for."""
    for name in ("a.jsonl", "b.jsonl"):
        write(place / name, at_gap(0.0, each=10).limited(20))
    assert command("compare", "a.jsonl", "b.jsonl").code == 0
    assert command("compare", "a.jsonl", "b.jsonl", "--strict").code == 3


def test_json(command, place: Path) -> None:
    """The verdict as a report has it."""
    dump(place / "a.jsonl", 0.0)
    dump(place / "b.jsonl", 0.1)
    result = command("compare", "a.jsonl", "b.jsonl", "--json")
    tree = json.loads(result.out)
    assert (result.code, tree["before"], tree["after"]) == (1, "a.jsonl", "b.jsonl")
    (verdict,) = tree["verdicts"]
    assert (verdict["state"], verdict["fails"]) == ("regressed", True)


def test_other_settings_are_not_comparable(command, stored) -> None:
    """Exit code 1, as in the tests; a dump does not hold settings, which is said."""
    p = at_gap(0.0)
    other = replace(p, signature=Signature({"shots": "5"}))
    record = stored(p, "a").path
    result = command("compare", record, stored(other, "b").path)
    assert result.code == 1
    assert result.lines[0] == "not comparable: probe facts"
    write(Path("b.jsonl"), other)
    result = command("compare", record, "b.jsonl")
    assert result.code == 0
    assert "a dump does not tell how the model was asked" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jsonl"], "AFTER"),
        (["a.jsonl", "q.jsonl"], "is of the probe 'facts', q.jsonl of 'quiz'"),
        (["a.jsonl", "r.json"], "a report holds no items to compare"),
        (["a.jsonl", "model"], "model is a model and a.jsonl a file"),
        (["model", "a.jsonl"], "model is a model and a.jsonl a file"),
        (["a.jsonl", "a.jsonl", "--probe", "facts"], "--probe is for two models, not for files"),
        (["a.jsonl", "none.jsonl"], "none.jsonl"),
        (["model", "model"], "name 1 model; name two"),
    ],
)
def test_what_a_user_can_get_wrong(
    command, place: Path, arguments: list[str], message: str
) -> None:
    """One line on stderr, exit code 2."""
    dump(place / "a.jsonl", 0.0)
    dump(place / "q.jsonl", 0.0, "quiz")
    (place / "r.json").write_text("{}")
    (place / "model").mkdir()
    (place / "model" / "config.json").write_text('{"model_type": "gpt_neox"}')
    result = command("compare", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_two_models(command, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each probe has a verdict, and the most serious one gives the exit code."""

    def load(spec: Any, settings: Any, cache: Any) -> FakeModel:
        model = FakeModel(spec.name, sharpen=0.5 if spec.name == "hot" else 0.0)
        monkeypatch.setattr(model, "release", lambda: None, raising=False)
        return model

    monkeypatch.setattr("pytest_calibration.models.loading.load_model", load)
    items = "".join(
        json.dumps({"id": f"i{i}", "prompt": f"item {i} is", "answer": f" a{i}"}) + "\n"
        for i in range(400)
    )
    (place / "facts.jsonl").write_text(items)
    (place / "calibration.yaml").write_text(
        "probes:\n"
        "  one: {kind: facts, path: facts.jsonl}\n"
        "  two: {kind: facts, path: facts.jsonl}\n"
    )
    for name in ("cool", "hot"):
        (place / name).mkdir()
        (place / name / "config.json").write_text('{"model_type": "gpt_neox"}')
    result = command("compare", "cool", "hot", "--probe", "one", "--probe", "two")
    assert (result.code, result.err) == (1, "")
    heads = [line for line in result.lines if line.startswith("calibration regressed")]
    assert heads == [f"calibration regressed: probe {name} on hot" for name in ("one", "two")]
    assert command("compare", "hot", "cool", "--probe", "one").code == 0


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("0.5 0.9", "note: every answer is that of the baseline, with the same confidence"),
        ("0.7 0.7", "note: confidence tells right from wrong answers less well: AUROC 0.7"),
        ("0.4999 0.9", None),
    ],
)
@pytest.mark.parametrize("name", ["compare", "check"])
def test_a_pass_names_what_it_does_not_see(
    command, place: Path, name: str, after: str, told: str | None
) -> None:
    """As the summary of pytest does: the same file twice, or a confidence that says nothing."""
    for file, confidences in (("a.csv", "0.5 0.9"), ("b.csv", after)):
        low, high = confidences.split()
        rows = [
            f"{i},{high if i % 2 else low},{int(i % 20 not in {0, 2, 4, 6, 8, 1})}"
            for i in range(800)
        ]
        (place / file).write_text("\n".join(["id,confidence,correct", *rows]))
    arguments = ("a.csv", "b.csv") if name == "compare" else ("b.csv", "--baseline=a.csv")
    result = command(name, *arguments)
    assert (result.code, result.lines[0].split(":")[0]) == (0, "passed"), result.out
    notes = [line.strip() for line in result.lines if "note: " in line]
    assert len(notes) == int(told is not None), notes
    assert told is None or notes[0].startswith(told)
