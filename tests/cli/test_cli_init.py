"""``init``: what it finds, what it writes, and that what it wrote runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import all_loaded  # noqa: F401  before any inner run
import pytest
import yaml
from lm_eval_samples import write_samples

from pytest_calibration.cli.init.surroundings import look

if TYPE_CHECKING:
    from conftest import Command

TEST = "tests/test_calibration.py"
CONFIG = "calibration.yaml"
GITHUB = ".github/workflows/calibration.yml"
GITLAB = "calibration.gitlab-ci.yml"
QUESTION = {"question": "Which?", "options": ["this", "that"], "answer": 0}
# A model that needs no torch, under any name that ``--calibration-model`` gives it.
CONFTEST = """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel(calibration_model_spec)
"""


@pytest.fixture
def folder(empty_project: Path) -> Path:
    """An empty project, by a short name."""
    return empty_project


def put(path: Path, content: Any) -> None:
    """Write a file: text as it is, rows as JSON lines, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(f"{json.dumps(row)}\n" for row in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def checkpoint(path: Path, saved: str = "GPT2LMHeadModel", **more: Any) -> None:
    """Write what tells a checkpoint."""
    put(path / "config.json", {"model_type": "x", "architectures": [saved], **more})


def predictions(n: int = 200) -> str:
    """Return a table of confidences, half of which are right."""
    rows = (f"{i},{0.5 + (i % 2) / 1000},{i // 2 % 2}\n" for i in range(n))
    return "id,confidence,correct\n" + "".join(rows)


def steps(out: str) -> list[list[str]]:
    """Return the arguments of pytest in the commands that are to be typed next."""
    lines = out.partition("next")[2].splitlines()[1:]
    return [line.split("#")[0].split()[1:] for line in lines if line.startswith("  pytest ")]


# --- what was written runs -----------------------------------------------------------------------


@pytest.mark.parametrize("situation", ["nothing", "checkpoints and items"])
def test_a_model_is_recorded_and_gated(
    folder: Path, command: Command, pytester: pytest.Pytester, situation: str
) -> None:
    """The commands that it names record the first model and gate the last, and both are green."""
    pytester.makeconftest(CONFTEST.format(fixture="calibration_model"))
    (folder / "conftest.py").rename(folder / "later.py")
    if situation != "nothing":
        checkpoint(folder / "runs/base")
        checkpoint(folder / "runs/sft/checkpoint-20")
        put(folder / "data/quiz.jsonl", [{**QUESTION, "id": i} for i in range(200)])
    result = command("init")
    assert (result.code, result.err) == (0, "")
    # In place of what runs checkpoints; it would have been found as a model of the project's own.
    pytester.makeconftest(CONFTEST)
    record, gate = steps(result.out)
    assert record[-1] == "--calibration-record"
    if situation != "nothing":
        assert gate[-1] == "--calibration-model=runs/sft/checkpoint-20"
        assert config(folder)["probes"] == {
            "quiz": {"kind": "multiple_choice", "path": "data/quiz.jsonl"}
        }
    n = len(config(folder)["probes"])
    # A name in place of the checkpoint that is yet to come.
    first = [arg.replace("CHECKPOINT", "runs/base") for arg in record]
    few = "--calibration-limit=200"
    pytester.runpytest_inprocess(*first, few).assert_outcomes(passed=n)
    assert len([*(folder / "tests/calibration_baselines").glob("*.yaml")]) == n
    again = [arg.replace("CHECKPOINT", "runs/base") for arg in gate]
    done = pytester.runpytest_inprocess(*again, few)
    done.assert_outcomes(passed=n)
    assert done.ret == 0


def config(folder: Path) -> Any:
    """Return what ``calibration.yaml`` says."""
    return yaml.safe_load((folder / CONFIG).read_text("utf-8"))


def test_predictions_are_recorded_and_gated(
    folder: Path, command: Command, pytester: pytest.Pytester
) -> None:
    """A CSV needs no model: it is recorded, and a worse one of the same name fails."""
    put(folder / "out/answers.csv", predictions())
    result = command("init")
    assert "found in .: predictions (out/answers.csv)" in result.out
    record, gate = steps(result.out)
    assert (record, gate) == ([TEST, "--calibration-record"], [TEST])
    assert "probes" not in config(folder)
    pytester.runpytest_inprocess(*record).assert_outcomes(passed=1)
    pytester.runpytest_inprocess(*gate).assert_outcomes(passed=1)
    put(folder / "out/answers.csv", predictions().replace(",0.5", ",0.9"))
    done = pytester.runpytest_inprocess(*gate)
    done.assert_outcomes(failed=1)
    assert "regressed" in done.stdout.str()


def test_runs_of_lm_eval_are_recorded_and_gated(
    folder: Path, command: Command, pytester: pytest.Pytester
) -> None:
    """Each task of the newest run is a test, and a newer run takes its place."""
    place = folder / "results/my-model"
    write_samples(place, "quiz", 26)
    write_samples(place, "quiz")
    write_samples(place, "riddles", seed=3)
    prose = {"doc_id": 0, "doc": {}, "target": "a", "arguments": [["a", {}]], "resps": [["a"]]}
    put(place / "samples_prose_2026-11-27T12-00-00.123456.jsonl", [prose])
    result = command("init")
    assert "found in .: predictions (results/my-model)" in result.out
    assert "left out: results/my-model: task prose: its answers are generated text" in result.out
    record, gate = steps(result.out)
    pytester.runpytest_inprocess(*record).assert_outcomes(passed=2)
    write_samples(place, "quiz", 28)
    write_samples(place, "riddles", 28, seed=3)
    done = pytester.runpytest_inprocess(*gate)
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["2 passed"])


def test_a_model_and_predictions_are_two_tests(
    folder: Path, command: Command, pytester: pytest.Pytester
) -> None:
    """A model that the project brings is asked the project's items; its files are read beside."""
    pytester.makeconftest(CONFTEST.replace("calibration_model_spec", "request"))
    put(folder / "quiz.jsonl", [{**QUESTION, "id": i} for i in range(200)])
    put(folder / "answers.csv", predictions())
    result = command("init", "--no-ci")
    assert "a model of your own (conftest.py)" in result.out
    record, gate = steps(result.out)
    assert not [arg for arg in record + gate if "model" in arg]
    assert not (folder / ".github").exists()
    pytester.runpytest_inprocess(*record).assert_outcomes(passed=2)
    pytester.runpytest_inprocess(*gate).assert_outcomes(passed=2)


# --- what is there stays -------------------------------------------------------------------------


def test_nothing_is_overwritten(folder: Path, command: Command) -> None:
    """A file that is there is named and left, and what would have been written is shown."""
    checkpoint(folder / "runs/base")
    for name in (TEST, CONFIG, GITHUB):
        put(folder / name, "# mine\n")
    result = command("init")
    assert result.code == 0
    for name in (TEST, CONFIG, GITHUB):
        assert (folder / name).read_text("utf-8") == "# mine\n"
        assert f"left  {name}: it is there already; this would be written:" in result.lines
    assert "    def test_nothing_got_worse(" in result.out
    assert "wrote" not in result.out


def test_a_second_time_changes_nothing(folder: Path, command: Command) -> None:
    """What is there as it would be written is not shown again."""
    command("init")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    result = command("init")
    assert result.out.count("it is there already, as it would be written") == 3
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_dry_run_writes_nothing(folder: Path, command: Command) -> None:
    """It shows every file that it would write."""
    before = {*folder.rglob("*")}
    result = command("init", "--dry-run")
    for name in (TEST, CONFIG, GITHUB):
        assert f"would write {name}:" in result.lines
    assert {*folder.rglob("*")} == before


def test_a_link_that_leads_nowhere_is_there(folder: Path, command: Command) -> None:
    """Nothing is written through it."""
    os.symlink(folder / "gone.yaml", folder / CONFIG)
    assert f"left  {CONFIG}: it is there already" in command("init").out
    assert not (folder / "gone.yaml").exists()


# --- CI ------------------------------------------------------------------------------------------


def test_the_workflow_runs_the_test_that_was_written(folder: Path, command: Command) -> None:
    """It installs what the model needs, names the last checkpoint, and keeps the report."""
    checkpoint(folder / "runs/it's a: #1")
    put(folder / "requirements.txt", "")
    command("init")
    workflow = yaml.safe_load((folder / GITHUB).read_text("utf-8"))
    lines = [step.get("run", "") for step in workflow["jobs"]["calibration"]["steps"]]
    assert "pip install -r requirements.txt" in lines
    assert 'pip install "pytest-calibration[hf]"' in lines
    named = "'--calibration-model=runs/it'\"'\"'s a: #1'"
    assert f"pytest {TEST} {named} --calibration-report=calibration.html" in lines


def test_gitlab_gets_a_file_to_include(folder: Path, command: Command) -> None:
    """Its one file is there already, so the line that reads the new one is told."""
    put(folder / ".gitlab-ci.yml", "stages: []\n")
    put(folder / "answers.csv", predictions())
    result = command("init")
    assert (
        f"note: .gitlab-ci.yml reads it where it has the line: include: /{GITLAB}" in result.lines
    )
    job = yaml.safe_load((folder / GITLAB).read_text("utf-8"))["calibration"]
    assert job["script"][-1] == (
        f"pytest {TEST} --calibration-report=calibration.html --calibration-report=metrics.txt"
    )
    assert 'pip install "pytest-calibration"' in job["script"]
    assert not (folder / ".github").exists()


def test_a_package_of_a_repository_gets_no_workflow(folder: Path, command: Command) -> None:
    """GitHub and GitLab read theirs at the top alone; what a job is to run there is told."""
    (folder / ".git").mkdir()
    package = folder / "packages/search"
    checkpoint(package / "runs/base")
    result = command("init", package)
    assert not [*folder.rglob("*.yml")]
    assert (package / TEST).is_file()
    told = f"so none is written; let a job run, in packages/search: pytest {TEST} --calibration-mo"
    assert told in result.out
    assert "no git repository" not in result.out
    command("init", folder)
    assert (folder / GITHUB).is_file()


# --- what is found -------------------------------------------------------------------------------


def test_checkpoints_come_in_order_with_the_base_first(tmp_path: Path) -> None:
    """First what is named as a base, then what is of no run, then a run by its steps."""
    for name in ("runs/sft/checkpoint-1000", "runs/sft/checkpoint-200", "runs/a", "runs/my-base"):
        checkpoint(tmp_path / name)
    put(tmp_path / "runs/z/adapter_config.json", {"peft_type": "LORA", "task_type": "CAUSAL_LM"})
    put(tmp_path / ".venv/lib/config.json", {"model_type": "gpt2"})
    put(tmp_path / "web/config.json", {"name": "a page"})
    found = look(tmp_path)
    assert [one.path for one in found.checkpoints] == [
        *("runs/my-base", "runs/a", "runs/z"),
        *("runs/sft/checkpoint-200", "runs/sft/checkpoint-1000"),
    ]
    assert found.left_out == ()


def test_a_classifier_is_asked_texts_of_its_own_classes(folder: Path, command: Command) -> None:
    """Without labelled texts a file with one per class shows how they look, and it is told."""
    checkpoint(folder / "clf", "BertForSequenceClassification", id2label={0: "bad", 1: "good"})
    result = command("init")
    assert config(folder)["probes"]["texts"] == {
        "kind": "classification",
        "path": "calibration_texts.jsonl",
    }
    rows = map(json.loads, (folder / "calibration_texts.jsonl").read_text("utf-8").splitlines())
    assert [row["label"] for row in rows] == ["bad", "good"]
    assert "note: calibration_texts.jsonl has one made-up text per class" in result.out


def test_what_is_not_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of another kind, a checkpoint without a head, a file that cannot be read."""
    checkpoint(tmp_path / "a")
    checkpoint(tmp_path / "clf", "BertForTokenClassification")
    checkpoint(tmp_path / "encoder", "BertModel")
    monkeypatch.setattr("pytest_calibration.cli.init.surroundings.find_spec", lambda _: None)
    monkeypatch.setattr("pytest_calibration.readers.tables.find_spec", lambda _: None)
    put(tmp_path / "p.parquet", "")
    put(tmp_path / "x.csv", "confidence,correct\n7,1\n")
    put(tmp_path / "one/p.csv", predictions())
    put(tmp_path / "two/p.csv", predictions())
    told = look(tmp_path).left_out
    assert "encoder: a BertModel, neither a language model nor a classifier" in told
    assert any(one.startswith("clf: a classifier, which other probes ask") for one in told)
    assert any("x.csv, line 2, column 'confidence': '7'" in one for one in told)
    assert (
        "two/p.csv: another file is named p; to compare them: pytest-calibration check two/p.csv "
        "--baseline=one/p.csv"
    ) in told
    assert any(one.startswith("p.parquet: cannot be looked at without pyarrow") for one in told)


def test_a_reward_model_is_asked_pairs(folder: Path, command: Command) -> None:
    """A head of one output is no classifier; without pairs a file shows how one looks."""
    checkpoint(folder / "a/reward", "BertForSequenceClassification", id2label={0: "LABEL_0"})
    checkpoint(folder / "b/clf", "BertForSequenceClassification", id2label={0: "bad", 1: "good"})
    put(folder / "texts.csv", "text,label\nx,bad\n")
    result = command("init", "--dry-run")
    assert "1 reward model (a/reward)" in result.out
    assert "left out: b/clf: a classifier, which other probes ask" in result.out
    assert "pairs: {kind: preference, path: calibration_pairs.jsonl}" in result.out
    assert "note: calibration_pairs.jsonl has one made-up pair" in result.out
    put(folder / "mine.jsonl", [{"prompt": "?", "chosen": "a", "rejected": "b"}])
    command("init")
    assert config(folder)["probes"] == {"mine": {"kind": "preference", "path": "mine.jsonl"}}


def test_questions_with_an_answer_are_asked(folder: Path, command: Command) -> None:
    """A language model answers them in its own words."""
    checkpoint(folder / "lm")
    put(folder / "trivia.csv", "question,answer\nCapital of Peru?,Lima\n")
    command("init")
    assert config(folder)["probes"] == {"trivia": {"kind": "p_true", "path": "trivia.csv"}}


def test_a_table_of_other_columns_is_told_and_read(folder: Path, command: Command) -> None:
    """The reason names the columns; with them the test that is written reads the file."""
    rows = "".join(f"{'ab'[i % 2]},.9,.1\n" for i in range(60))
    put(folder / "october.csv", f"label,proba_a,proba_b\n{rows}")
    told = look(folder).left_out
    assert len(told) == 1
    assert "october.csv: holds no predictions" in told[0]
    assert "--column 'probabilities=proba_*'" in told[0]
    command("init", "--predictions=october.csv", "--column=probabilities=proba_*")
    text = (folder / TEST).read_text("utf-8")
    assert '("october.csv", {"columns": {"probabilities": "proba_*"}}),' in text
    result = command("init", "--column=probabilities=proba_*")
    assert result.code == 2
    assert "are about a table of predictions; name it with --predictions." in result.err


def test_two_files_of_the_same_items_can_be_compared(folder: Path, command: Command) -> None:
    """Each has a baseline of its own, and the command that compares them is told."""
    for name in ("october", "today"):
        put(folder / f"{name}.csv", predictions())
    put(folder / "other.csv", "confidence,correct\n.5,1\n")
    result = command("init")
    assert (
        "to compare one with the other: pytest-calibration check today.csv --baseline=october.csv"
        in result.out
    )
    assert "other.csv hold" not in result.out


def test_what_a_model_is_trained_on_is_not_asked(folder: Path, command: Command) -> None:
    """By its name; of a long file of other items a part is asked."""
    put(folder / "data/my_train.jsonl", [QUESTION])
    put(folder / "data/trains.jsonl", [{**QUESTION, "id": i} for i in range(2001)])
    result = command("init")
    assert "data/my_train.jsonl: by its name what a model is trained on" in result.out
    assert config(folder)["probes"] == {
        "trains": {"kind": "multiple_choice", "path": "data/trains.jsonl", "limit": 2000}
    }


def test_a_folder_without_git_is_told(folder: Path, command: Command) -> None:
    """Baselines are to be committed."""
    note = "note: this folder is in no git repository"
    assert note in command("init").out
    (folder / ".git").mkdir()
    assert note not in command("init").out


def test_items_of_one_name_are_two_probes(folder: Path, command: Command) -> None:
    """Neither takes the other's place."""
    for name in ("a", "b"):
        put(folder / name / "quiz.jsonl", [QUESTION])
    command("init")
    assert {*config(folder)["probes"]} == {"quiz", "b-quiz"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "quiz.jsonl",
            '{"question": "q", "options": ["rain", "sun"], "answer": "sun"}\n',
            "quiz.jsonl, line 1: 'answer' must be the index of an option, got 'sun'; no probe of "
            "kind multiple_choice is made of it",
        ),
        (
            "facts.csv",
            "prompt,answer\nA is,b\n,c\n",
            "facts.csv, line 3: the key 'prompt' is missing; no probe of kind facts is made of it",
        ),
        (
            "pairs.jsonl",
            '{"prompt": "p", "chosen": "a", "rejected": 7}\n',
            "pairs.jsonl, line 1: 'rejected' must be text, got 7; no probe of kind preference is "
            "made of it",
        ),
        (
            "facts.jsonl",
            '{"prompt": "p", "answer": "a", "hard": 1}\n',
            "facts.jsonl, line 1: unknown key 'hard'; known keys: prompt, answer, id, group, "
            "slice; no probe of kind facts is made of it",
        ),
        ("chat.jsonl", '{"messages": "a question with options, and an answer"}\n', None),
        ("texts.train.jsonl", '{"text": "t", "label": null}\n', None),
    ],
)
def test_items_with_a_bad_row_are_named(
    folder: Path, command: Command, name: str, text: str, told: str | None
) -> None:
    """A file that has the keys of items is not passed over in silence, other items or none."""
    put(folder / name, text)
    put(folder / "good.jsonl", [QUESTION])
    result = command("init")
    left_out = [line for line in result.lines if "left out" in line]
    assert (result.code, len(left_out)) == (0, int(told is not None)), left_out
    assert told is None or told in left_out[0]
    assert {*config(folder)["probes"]} == {"good"}


def test_whatever_lies_there_is_read_or_passed_over(folder: Path, command: Command) -> None:
    """Damaged files, names that cannot be typed, pipes and links end in no error."""
    put(folder / "a/config.json", "[" * 100_000)
    checkpoint(folder / "b", id2label=[1])
    put(folder / "c/config.json", {"architectures": 5, "model_type": 3})
    put(folder / "d/config.json/x.csv", predictions())
    put(folder / "e/adapter_config.json", {"peft_type": ["x"], "task_type": {"a": 1}})
    put(folder / "f\nf/x.csv", predictions())
    for name in ("x.csv", "x.jsonl", "x.json", "x.parquet", "conftest.py"):
        (folder / name).write_bytes(bytes(range(255, 0, -1)))
    for name in ("none.csv", "none.jsonl", "none.json"):
        put(folder / name, "")
    put(folder / "nan.json", '[{"confidence": NaN, "correct": 1}]')
    (folder / "up").symlink_to(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.csv")
    result = command("init")
    assert (result.code, result.err) == (0, "")
    found = look(folder)
    assert [one.path for one in found.checkpoints] == ["b", "e"]
    assert [one.path for one in found.predictions] == ["d/config.json/x.csv"]
    assert "  left out: c: a 5, neither a language model nor a classifier" in result.lines


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: there is no such folder; make it first, or name another."),
        (["x.csv"], "x.csv: there is no such folder; make it first, or name another."),
        (["--model", "./gone"], "model './gone': there is no such folder in ."),
        (["--model", "x.csv"], "model 'x.csv': there is no such folder in ."),
        (
            ["--model", "empty"],
            "model 'empty' is no checkpoint that can be asked (it holds neither",
        ),
        (
            ["--model", "encoder"],
            "(encoder: a BertModel, neither a language model nor a classifier)",
        ),
        (["--predictions", "gone.csv"], "gone.csv: there is no such file."),
        (["--predictions", "x.csv"], "x.csv, line 2, column 'confidence': '7' lies outside"),
        (["--model", "a", "--predictions", "b"], "not allowed with argument --model"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    folder: Path, command: Command, arguments: list[str], message: str
) -> None:
    """Exit code 2, and nothing is written."""
    put(folder / "x.csv", "confidence,correct\n7,1\n")
    (folder / "empty").mkdir()
    checkpoint(folder / "encoder", "BertModel")
    result = command("init", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (folder / CONFIG).exists()


def test_a_name_on_the_hub_is_told_as_one(folder: Path, command: Command) -> None:
    """So that a folder that was misspelt is seen."""
    result = command("init", "--model", "EleutherAI/pythia-70m")
    assert "note: EleutherAI/pythia-70m is taken for a name on the model hub" in result.out
    assert steps(result.out)[0][1] == "--calibration-model=EleutherAI/pythia-70m"


def test_a_function_needs_no_torch(folder: Path, command: Command) -> None:
    """It is taken for a classifier, whose classes are named by their columns."""
    put(folder / "pyproject.toml", "")
    result = command("init", "--model", "my_service:predict")
    assert "- run: pip install .\n" in (folder / GITHUB).read_text("utf-8")
    assert "model hub" not in result.out
    record, gate = steps(result.out)
    assert gate == [TEST, "--calibration-model=my_service:predict"]
    assert record == [*gate, "--calibration-record"]
    assert "[hf]" not in (folder / GITHUB).read_text("utf-8")
    rows = map(json.loads, (folder / "calibration_texts.jsonl").read_text("utf-8").splitlines())
    assert [row["label"] for row in rows] == [0, 1]


def test_what_is_imported_is_asked_what_there_is(folder: Path, command: Command) -> None:
    """Texts with labels where there are some, else the other items; it wins over a fixture."""
    put(folder / "conftest.py", CONFTEST)
    put(folder / "quiz.jsonl", [QUESTION])
    command("init", "--model", "mine:language_model")
    assert {*config(folder)["probes"]} == {"quiz"}
    put(folder / "texts.jsonl", [{"text": "a", "label": 1}])
    (folder / CONFIG).unlink()
    result = command("init", "--model", "mine:predict")
    assert {*config(folder)["probes"]} == {"texts"}
    assert steps(result.out)[0][1] == "--calibration-model=mine:predict"


def test_a_file_in_the_way_is_one_sentence(folder: Path, command: Command) -> None:
    """A folder that cannot be made is named."""
    put(folder / "tests", "a file")
    result = command("init")
    assert result.code == 2
    assert "test_calibration.py: cannot be written (" in result.err
