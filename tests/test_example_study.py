"""The study of the example: what is trained from what, and what is not done again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from studies import module

from pytest_calibration.models.spec import parse_spec

KINDS = {
    *("pretrain", "sft", "dpo", "reward", "rloo", "temperature", "label_smoothing", "cft", "rcft"),
    *("accuracy_only", "ece_only"),
}


stages, study, world = module("stages"), module("study"), module("world")
ALL = stages.study()


ROWS = world.probe_rows()


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    """The notes of a run with nothing in it."""
    return study.Desk(stages.study(stages.SCALES["quick"]), tmp_path)


@pytest.mark.parametrize("scale", stages.SCALES)
def test_parents_come_before_their_children(scale: str) -> None:
    """Every stage is named once, and what it needs stands before it; all kinds are there."""
    found = stages.study(stages.SCALES[scale])
    seen: set[str] = set()
    for stage in found:
        assert stage.name not in seen
        assert set(stages.needs(stage)) <= seen
        seen.add(stage.name)
    assert {stage.kind for stage in found} == KINDS


def test_the_study_is_as_wide_as_it_says() -> None:
    """Five sizes, nine checkpoints of one; five seeds; two sets × two methods × three epochs."""
    pretrained = [one for one in ALL if one.kind == "pretrain"]
    sizes = Counter(one.settings["size"] for one in pretrained)
    assert len(sizes) == 5
    assert max(sizes.values()) >= 8
    tuned = {
        (one.settings["dataset"], one.settings["method"], one.settings["epoch"], one.seed)
        for one in ALL
        if one.kind == "sft" and one.settings["dataset"] != "remedy"
    }
    assert len(tuned) == 2 * 2 * 3 * 5
    for kind in KINDS - {"pretrain"}:
        assert {one.seed for one in ALL if one.kind == kind} == set(range(5))


def test_names_lead_a_spec(tmp_path: Path) -> None:
    """A stage's name is one that --calibration-model=name=DIRECTORY takes."""
    (tmp_path / "config.json").write_text("{}", "utf-8")
    for stage in ALL:
        assert parse_spec(f"{stage.name}={tmp_path}").baseline == stage.name


def changed(change: Any, code: Any = str) -> set[str]:
    """Return the runs whose digest a change of the stages alters."""
    before, after = stages.digests(ALL, str), stages.digests(change(ALL), code)
    return {run for run in before if before[run] != after[run]}


def test_a_setting_counts_for_its_run_and_all_that_follows() -> None:
    """Another β of one DPO leaves other seeds alone, and makes its remedies anew."""

    def change(given: list[Any]) -> list[Any]:
        return [
            replace(one, settings={**one.settings, "beta": 9.0}) if one.name == "dpo-s1" else one
            for one in given
        ]

    expected = {one.run for one in ALL if "dpo-s1" in (one.name, one.parent)}
    assert changed(change) == expected
    assert len(expected) > 6


def test_code_counts_for_its_kind_and_all_that_follows() -> None:
    """Other code of the reward model makes reward models and RLOO anew, nothing else."""
    found = changed(list, lambda kind: f"{kind} {kind == 'reward'}" if kind == "reward" else kind)
    assert found == {one.run for one in ALL if one.kind in ("reward", "rloo")}


def test_a_run_that_was_noted_is_not_done_again(desk: Any) -> None:
    """Numbers and verdicts are kept; a cut-off note, or one of other settings, does not count."""
    assert desk.numbers("dpo-s0") is None
    desk.note("dpo-s0", {"dpo-s0": {"seconds": 2.0}})
    desk.judged("dpo-s0", {"facts": "passed"})
    again = study.Desk(desk.stages, desk.folder)
    assert again.numbers("dpo-s0") == {"dpo-s0": {"seconds": 2.0}}
    assert again.verdicts("dpo-s0") == {"facts": "passed"}
    again.digests["dpo-s0"] = "another"
    assert again.numbers("dpo-s0") is None
    assert again.verdicts("dpo-s0") is None
    (desk.folder / "dpo-s0" / study.NOTE).write_text('{"digest": "', "utf-8")
    assert study.Desk(desk.stages, desk.folder).numbers("dpo-s0") is None


class Pool:
    """Trains nothing, at once, and remembers the order."""

    def __init__(self, fails: str = "") -> None:
        self.order: list[str] = []
        self.fails = fails

    def submit(self, _: Any, checkpoints: list[Any], __: dict[str, Path]) -> Any:
        """Train a run, or fail."""
        found: Any = study.Future()
        run = checkpoints[0].run
        self.order.append(run)
        if run == self.fails:
            found.set_exception(RuntimeError("the disk is full"))
        else:
            found.set_result({one.name: {"seconds": 1.0} for one in checkpoints})
        return found


def test_a_run_that_was_stopped_goes_on(desk: Any) -> None:
    """Where a training fails, what was trained before stays, and only the rest is done then."""
    first, second, third = Pool(fails="dpo-s0"), Pool(), Pool()
    with pytest.raises(RuntimeError, match="disk is full"):
        list(study.train_all(desk, first))
    done = {run for run in desk.runs if desk.numbers(run) is not None}
    assert "pretrain-l" in done
    assert set(study.train_all(desk, second)) == set(desk.runs)
    assert set(second.order) == set(desk.runs) - done
    place = {run: i for i, run in enumerate(second.order)}
    assert all(place["dpo-s0"] < place[one] for one in ("cft-s0", "rcft-s0", "temperature-s0"))
    assert list(study.train_all(desk, third))
    assert not third.order


def test_only_new_stages_are_gated(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is asked once for all stages with one parent, and not for those it has judged."""
    asked = []

    def gate(group: Any, *_: Any) -> dict[str, dict[str, str]]:
        asked.append([one.name for one in group])
        return {one.name: {"facts": "regressed"} for one in group}

    monkeypatch.setattr(study, "gate", gate)
    group = next(one for one in study.by_parent(desk.stages) if one[0].parent == "dpo-s0")
    desk.judged("rcft-s0", {"facts": "passed"})
    study.judge(desk, group)
    study.judge(desk, group)
    assert asked == [[one.name for one in group if one.name != "rcft-s0"]]
    rows = {one["name"]: one for one in study.results(desk, "quick")["stages"]}
    assert rows["rcft-s0"]["verdicts"] == {"facts": "passed"}
    assert rows["dpo-s0"]["verdicts"] == {}
    assert json.dumps(rows)


def test_what_other_settings_gave_is_not_in_the_history(desk: Any) -> None:
    """Once a stage that was gated has other settings, all are gated anew; else all stays."""
    history = desk.folder / "history.jsonl"
    desk.judged("dpo-s0", {"facts": "passed"})
    history.write_text("{}\n", "utf-8")
    fewer = study.Desk([one for one in desk.stages if one.kind == "pretrain"], desk.folder)
    for same in (desk, fewer):
        same.forget_others()
        assert history.exists()
    desk.digests["dpo-s0"] = "another"
    desk.forget_others()
    assert not history.exists()
    assert not (desk.folder / "verdicts").exists()


def test_checkpoints_of_a_run_lie_as_a_trainer_leaves_them(tmp_path: Path) -> None:
    """Epochs are the folders checkpoint-STEP in order of steps, not of names."""
    run = stages.runs(ALL)["sft-diverse-full-s0"]
    for step in (9, 102, 51):
        (tmp_path / run[0].run / f"checkpoint-{step}").mkdir(parents=True)
    found = study.places(run, tmp_path)
    assert [path.name for path in found.values()] == [f"checkpoint-{step}" for step in (9, 51, 102)]


def test_nobody_who_is_asked_for_was_trained_on() -> None:
    """Instructions, preferences and remedies name no held-out person and no other relation."""
    groups = {name: {row["group"] for row in ROWS[name]} for name in ROWS if name != "texts"}
    parts = ("questions", "fit", "instruct", "prefer", "remedy")
    assert sum(len(groups[name]) for name in parts) == len(set().union(*map(groups.get, parts)))
    taught = [row["prompt"] for kind in ("diverse", "homogeneous")
              for row in world.instructions(kind)]  # fmt: skip
    people = groups["questions"] | {"drink"}
    assert not [text for text in taught if any(name in text for name in people)]
    assert {row["slice"] for row in ROWS["out-of-domain"]} == {"drink"}
    for name in parts:
        assert "drink" not in {row["slice"] for row in ROWS[name]}


def test_right_options_stand_at_each_place_equally_often() -> None:
    """No place can be learnt; every question has four different options, its answer among them."""
    for name in ("questions", "out-of-domain", "remedy"):
        rows = ROWS[name]
        counts = Counter(row["answer"] for row in rows)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert all(len(set(row["options"])) == 4 for row in rows)


def test_diversity_is_that_of_its_formula() -> None:
    """Equal texts have distance 0; texts without a common pair of words have distance 1."""
    same = [{"prompt": "one two", "completion": " three"}] * 4
    assert world.diversity(same) == {"distinct_2": 2 / 8, "distance": pytest.approx(0.0)}
    other = [{"prompt": "red blue", "completion": ""}, {"prompt": "one two", "completion": ""}]
    assert world.diversity(other) == {"distinct_2": 1.0, "distance": pytest.approx(1.0)}
    diverse, plain = (world.diversity(world.instructions(k)) for k in ("diverse", "homogeneous"))
    assert diverse["distinct_2"] > 3 * plain["distinct_2"]
    assert diverse["distance"] > 2 * plain["distance"]


def test_texts_say_one_thing_more_often() -> None:
    """What is said, and what annotators prefer, is the first of two things as often as its share.

    In every part of the people alike. Both are among the options of a question.
    """
    known = {(fact.person, fact.relation.name): fact for fact in world.facts()}
    for part in world.PARTS:
        said = world.facts_of(part)
        first = [known[fact.person, fact.relation.name] for fact in said]
        agree = sum(a.answer == b.answer for a, b in zip(said, first, strict=True))
        assert abs(agree - sum(fact.share for fact in first)) <= 1
    first = [known[fact.person, fact.relation.name] for fact in world.facts_of("prefer")]
    for row, fact in zip(world.preferences(), first, strict=True):
        assert {row["chosen"], row["rejected"]} == {f" {fact.answer}.", f" {fact.rival}."}
    for row in ROWS["questions"]:
        fact = known[row["group"], row["slice"]]
        assert {fact.answer, fact.rival} <= set(row["options"])


@pytest.mark.parametrize(
    ("code", "left_out", "message"),
    [
        (1, "", ""),
        (0, "", ""),
        (4, "", r"did not run \(4\):\nno such option"),
        (1, "facts", r"did not run on cft-s0-e1:\nno such option"),
    ],
)
def test_verdicts_are_those_of_the_report(
    desk: Any, monkeypatch: pytest.MonkeyPatch, code: int, left_out: str, message: str
) -> None:
    """A stage without a verdict on each probe is an error, with what pytest printed."""
    gating = module("gating")
    group = [one for one in desk.stages if one.run == "cft-s0"]

    def run(command: list[str], **_: Any) -> Any:
        assert sum(word.startswith("--calibration-model=cft-s0-e") for word in command) == 2
        assert f"--calibration-parent=dpo-s0={desk.folder / 'dpo-s0'}" in command
        results = [
            {"model": one.name, "probe": probe, "state": "passed"}
            for one in group
            for probe in gating.PROBES
            if (one.name, probe) != ("cft-s0-e1", left_out)
        ]
        (desk.folder / "gate.json").write_text(json.dumps({"results": results}), "utf-8")
        return gating.subprocess.CompletedProcess(command, code, "no such option", "")

    monkeypatch.setattr(gating.subprocess, "run", run)
    folders = desk.folders()
    arguments = (group, folders["dpo-s0"], folders, desk.folder)
    if message:
        with pytest.raises(gating.GateError, match=message):
            gating.gate(*arguments)
    else:
        expected = dict.fromkeys(gating.PROBES, "passed")
        assert gating.gate(*arguments) == {one.name: expected for one in group}


@pytest.mark.parametrize("note", ["[1]", '{"digest": DIGEST}', '{"digest": DIGEST, "numbers": {}}'])
def test_a_note_that_was_damaged_does_not_count(desk: Any, note: str) -> None:
    """Whatever is in its place: the training is done again."""
    path = desk.folder / "dpo-s0" / study.NOTE
    path.parent.mkdir()
    path.write_text(note.replace("DIGEST", json.dumps(desk.digests["dpo-s0"])), "utf-8")
    assert desk.numbers("dpo-s0") is None
    path = desk.folder / "verdicts" / "dpo-s0.json"
    path.parent.mkdir()
    path.write_text(note.replace("DIGEST", json.dumps(desk.digests["dpo-s0"])), "utf-8")
    assert desk.verdicts("dpo-s0") is None


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run the command with trainings and gates left out; return its exit code and stderr."""
    monkeypatch.setattr(study.os, "environ", dict(study.os.environ))
    monkeypatch.setattr(study.signal, "signal", lambda *_: None)
    monkeypatch.setattr(study, "run_all", lambda *_, **__: None)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["study.py", *words])
        try:
            code = study.main()
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().err

    return run


def test_a_folder_is_kept_for_one_study(command: Any, tmp_path: Path) -> None:
    """A second one beside it, or one of another scale, is refused in a sentence."""
    runs = f"--runs={tmp_path}"
    assert command("--quick", runs) == (0, "")
    with study.kept_for("quick", tmp_path):
        code, told = command("--quick", runs)
        assert code == 2
        assert told.startswith(f"{tmp_path}: another study is running there; wait until it ends")
    assert command("--quick", runs) == (0, "")
    (tmp_path / "stages.json").write_text('{"scale": "full", "stages": []}', "utf-8")
    code, told = command("--quick", runs)
    assert code == 2
    assert told.startswith(f"{tmp_path} holds the full study, which the quick one would overwrite")
    assert command(runs) == (0, "")


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "many"])
@pytest.mark.parametrize("option", ["--seeds", "--jobs"])
def test_a_number_that_makes_no_sense_is_refused(command: Any, option: str, given: str) -> None:
    """Before anything is trained."""
    code, told = command(f"{option}={given}")
    assert code == 2
    assert f"argument {option}: must be a whole number of at least 1, got '{given}'" in told


def test_a_folder_that_cannot_be_written_is_told(command: Any, tmp_path: Path) -> None:
    """In one sentence."""
    (tmp_path / "file").write_text("", "utf-8")
    code, told = command("--quick", f"--runs={tmp_path / 'file'}")
    assert code == 2
    assert re.fullmatch(rf"{tmp_path / 'file'} cannot be written: .*\n", told)


def test_a_study_that_is_stopped_says_how_to_go_on(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C or SIGTERM, whose handler does the same; gates that have not begun do not begin."""
    begun, go, gates = Event(), Event(), []

    def first() -> None:
        begun.set()
        go.wait(60)

    def run_all(*_: Any, **__: Any) -> None:
        with ExitStack() as stack:
            gating = stack.enter_context(ThreadPoolExecutor(1))
            stack.push(study._stop(gating))
            gates.extend([gating.submit(first), gating.submit(first)])
            begun.wait(60)
            gates[1].add_done_callback(lambda _: go.set())
            study.interrupted()

    monkeypatch.setattr(study, "run_all", run_all)
    assert command(f"--runs={tmp_path}") == (130, "stopped; the same command goes on from here.\n")
    assert [one.cancelled() for one in gates] == [False, True]
