"""Samples of lm-eval as predictions: recorded runs of 0.4.13, and rows as older versions wrote."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration import ece
from pytest_calibration.errors import PredictionsError, UsageError
from pytest_calibration.readers.lm_eval import claims, read

RUN = Path(__file__).with_name("lm_eval_run")
DATE = "2026-11-28T00-02-38.436335"
CHOICES = ("letters", "no_space", "places", "sentences", "two_right")


def logged(task: str) -> list[dict[str, Any]]:
    """Return the rows of a recorded task, in the order of the documents."""
    lines = (RUN / f"samples_{task}_{DATE}.jsonl").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda row: int(row["doc_id"]))


def shares(values: list[float]) -> list[float]:
    """Soft-max."""
    weights = [math.exp(value - max(values)) for value in values]
    return [weight / sum(weights) for weight in weights]


def sample(doc_id: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a row as lm-eval 0.4.13 writes it: two options, the first of probability 0.75."""
    prompt = f"question {doc_id}"
    return {
        "doc_id": doc_id,
        "doc": {"question": prompt},
        "target": "0",
        "arguments": {
            "gen_args_0": {"arg_0": prompt, "arg_1": " yes"},
            "gen_args_1": {"arg_0": prompt, "arg_1": " no"},
        },
        "resps": [[[str(math.log(0.3)), "True"]], [[str(math.log(0.1)), "False"]]],
        "filtered_resps": [[str(math.log(0.3)), "True"], [str(math.log(0.1)), "False"]],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"hash {doc_id}",
        "acc": 1.0,
    } | changes


def write(folder: Path, *rows: dict[str, Any], task: str = "mine", date: str = DATE) -> Path:
    """Write a file of samples."""
    folder.mkdir(exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def refusal(path: Path, **how: Any) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(PredictionsError) as caught:
        read(path, **how)
    return str(caught.value)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", CHOICES)
def test_confidence_is_the_largest_soft_max_and_correct_is_what_the_harness_says(task: str) -> None:
    """Of the conditional log-probabilities alone: acc_mutual_info logs as many without a prompt."""
    (found,) = read(RUN, task=task)
    rows = logged(task)
    for i, row in enumerate(rows):
        expected = shares([float(pair[0]) for pair in row["filtered_resps"]][:4])
        assert found.probabilities[i] == pytest.approx(expected, abs=1e-12)
        assert found.confidence[i] == pytest.approx(max(expected), abs=1e-12)
        assert bool(found.correct[i]) == (row["acc"] == 1.0)
    results = json.loads((RUN / f"results_{DATE}.json").read_text("utf-8"))
    assert found.correct.mean() == pytest.approx(results["results"][task]["acc,none"])
    assert found.probe == f"lm_eval:{task}"
    assert found.option_mass is None if task == "sentences" else (found.option_mass <= 1).all()


@pytest.mark.parametrize(
    ("metric", "size"),
    [("acc_norm", len), ("acc_bytes", lambda option: len(option.encode("utf-8")))],
)
def test_a_metric_divides_by_the_length_of_an_option_without_its_delimiter(
    metric: str, size: Any
) -> None:
    """As acc_norm and acc_bytes do in the harness."""
    (found,) = read(RUN, task="places", metric=metric)
    for i, row in enumerate(logged("places")):
        scores = [
            float(pair[0]) / size(option)
            for pair, option in zip(row["filtered_resps"], row["doc"]["options"], strict=False)
        ]
        assert found.probabilities[i] == pytest.approx(shares(scores), abs=1e-12)
        assert bool(found.correct[i]) == (row[metric] == 1.0)


def test_mutual_information_takes_off_the_log_probability_without_a_prompt() -> None:
    """As acc_mutual_info does, whose outcome is taken."""
    (found,) = read(RUN, task="places", metric="acc_mutual_info")
    for i, row in enumerate(logged("places")):
        values = [float(pair[0]) for pair in row["filtered_resps"]]
        expected = shares([a - b for a, b in zip(values[:4], values[4:], strict=True)])
        assert found.probabilities[i] == pytest.approx(expected, abs=1e-12)
        assert bool(found.correct[i]) == (row["acc_mutual_info"] == 1.0)


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("places", [0, 3, 0, 0, 1, 0]),  # an index
        ("letters", [0, 3, 0, 0, 1, 0]),  # the letter of an option
        ("two_right", None),  # two right options
        ("sentences", None),  # the options are prompts, the target is what continues them
    ],
)
def test_the_right_option_is_read_from_the_target(task: str, labels: list[int] | None) -> None:
    """As index, letter or text; where there is not one, no label is made up."""
    (found,) = read(RUN, task=task)
    assert (None if found.labels is None else found.labels.tolist()) == labels


def test_a_target_that_is_no_option_counts_as_wrong_and_is_told() -> None:
    """The text "100" is read by the harness as the index 100, which no document has."""
    (found,) = read(RUN, task="no_space")
    assert logged("no_space")[4]["mcc"][0] == -100
    assert not found.correct[4]
    assert found.labels is None
    (note,) = found.notes
    assert "1 of 6 documents have a target that is none of their options" in note
    assert "count as wrong, as in lm-eval" in note
    assert "target '100'" in note


def test_letters_that_the_prompt_does_not_lead_to_are_told(tmp_path: Path) -> None:
    """Where half of the documents or more give them less than 0.01 together."""
    arguments = {
        f"gen_args_{i}": {"arg_0": "Answer:", "arg_1": f" {letter}"}
        for i, letter in enumerate("AB")
    }
    for total, told in ((0.5, 0), (0.005, 1)):
        pairs = [[str(math.log(total * share)), "False"] for share in (0.8, 0.2)]
        row = sample(0, arguments=arguments, filtered_resps=pairs, target="A")
        (found,) = read(write(tmp_path / str(total), row))
        assert found.confidence[0] == pytest.approx(0.8)
        notes = [note for note in found.notes if "the options hold 0.00500 of the prob" in note]
        assert len(notes) == told
    assert not any("options hold" in note for note in read(write(tmp_path, sample()))[0].notes)


def test_the_same_document_twice_is_two_items_that_pair_with_themselves() -> None:
    """Ids are made of task, filter, hash and which repeat it is, in the order of documents."""
    (found,) = read(RUN, task="places")
    rows = logged("places")
    assert rows[0]["doc_hash"] == rows[-1]["doc_hash"]
    assert len(set(found.item_ids.tolist())) == len(rows)
    (other,) = read(RUN, task="letters")
    assert not set(found.item_ids.tolist()) & set(other.item_ids.tolist())


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    """Several processes write their documents one after the other."""
    (found,) = read(write(tmp_path / "a", *(sample(i) for i in range(4))))
    (turned,) = read(write(tmp_path / "b", *(sample(i) for i in (3, 1, 0, 2))))
    assert np.array_equal(found.item_ids, turned.item_ids)


def test_results_beside_the_samples_say_what_was_run_on_what() -> None:
    """Prompt, shots and version make runs comparable; model, versions and device may differ."""
    (found,) = read(RUN, task="places")
    assert {"kind", "scoring", "shots", "version", "prompt"} == set(found.signature.hard)
    assert found.signature.hard["shots"] == "2"
    assert found.signature.hard["version"] == "1.0"
    assert found.signature.soft["model"] == "base"
    assert found.signature.soft["dtype"] == "float32"
    assert found.signature.soft["lm-eval"] == "0.4.13"
    whole = json.loads((RUN / f"results_{DATE}.json").read_text("utf-8"))["task_hashes"]["places"]
    assert found.signature.soft["task hash"] == whole[:8]
    assert read(RUN, task="mine")[0].signature.soft["task hash"] != whole[:8]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"doc_to_text": "{{question}}?"}, False),
        ({"target_delimiter": ""}, False),
        ({"description": "Answer."}, False),
        ({"fewshot_config": {"sampler": "first_n"}}, False),
        ({"fewshot_config": {"samples": [{"question": "a", "answer": 0}]}}, False),
        ({"fewshot_config": {"doc_to_text": "{{question}}!"}}, False),
        ({"fewshot_config": {"fewshot_delimiter": "\n"}}, False),
        ({"fewshot_config": {"split": "dev"}}, False),
        # What newer versions repeat.
        (
            {
                "fewshot_config": {
                    "sampler": "default",
                    "target_delimiter": " ",
                    "samples": None,
                    "process_docs": "<function f at 0x7f00>",
                }
            },
            True,
        ),
        ({"metric_list": []}, True),
        ({"dataset_path": "elsewhere"}, True),
    ],
)
def test_another_prompt_is_not_comparable(
    tmp_path: Path, change: dict[str, object], same: bool
) -> None:
    """The digest of the prompt covers what makes it, and nothing else."""
    copy = Path(shutil.copytree(RUN, tmp_path / "copy"))
    results = copy / f"results_{DATE}.json"
    content = json.loads(results.read_text("utf-8"))
    content["configs"]["places"] |= change
    results.write_text(json.dumps(content), "utf-8")
    (before,), (after,) = read(RUN, task="places"), read(copy, task="places")
    assert (before.signature.hard["prompt"] == after.signature.hard["prompt"]) == same


def test_without_results_a_note_says_what_is_not_known(tmp_path: Path) -> None:
    """Prompts, shots and version."""
    (found,) = read(write(tmp_path, sample()))
    assert f"there is no results_{DATE}.json beside these samples" in found.notes[0]
    assert set(found.signature.hard) == {"kind", "scoring"}
    assert found.signature.soft["model"] == tmp_path.name


def test_a_group_or_a_pattern_is_one_set_of_items_with_slices() -> None:
    """A task by itself and as a part of a group has the same ids."""
    (joint,) = read(RUN, task="mine")
    assert joint.probe == "lm_eval:mine"
    assert set(joint.slices.tolist()) == {"places", "letters", "no_space"}
    (one,) = read(RUN, task="letters")
    assert set(one.item_ids.tolist()) <= set(joint.item_ids.tolist())
    (pattern,) = read(RUN, task="*e*ters")
    assert np.array_equal(pattern.item_ids, one.item_ids)
    both = read(RUN, task="letters,places")
    assert [found.probe for found in both] == ["lm_eval:letters", "lm_eval:places"]


def test_each_filter_is_a_set_of_its_own(tmp_path: Path) -> None:
    """The filter is part of the name and of the ids; one can be chosen."""
    rows = [sample(i, filter=name) for name in ("none", "sharp") for i in range(3)]
    path = write(tmp_path, *rows)
    plain, sharp = read(path)
    assert (plain.probe, sharp.probe) == ("lm_eval:mine", "lm_eval:mine:sharp")
    assert not set(plain.item_ids.tolist()) & set(sharp.item_ids.tolist())
    (chosen,) = read(path, filter="sharp")
    assert np.array_equal(chosen.item_ids, sharp.item_ids)
    assert "has no filter 'sharpe' (did you mean 'sharp'?); filters: none, sharp" in refusal(
        path, filter="sharpe"
    )


def test_groups_hold_groups(tmp_path: Path) -> None:
    """As mmlu does; a group that holds itself ends, too."""
    for task in ("a", "b", "c"):
        write(tmp_path, sample(0), task=task)
    groups = {"all": ["some", "c"], "some": ["a", "b", "all"]}
    results = tmp_path / f"results_{DATE}.json"
    results.write_text(json.dumps({"group_subtasks": groups}), "utf-8")
    (found,) = read(tmp_path, task="all")
    assert found.slices.tolist() == ["a", "b", "c"]


def test_damaged_results_are_named(tmp_path: Path) -> None:
    """By file, key and value."""
    path = write(tmp_path, sample(0))
    results = tmp_path / f"results_{DATE}.json"
    for content, words in (
        ({"config": 3}, "config must be a mapping, got 3"),
        ({"configs": {"mine": [1]}}, "configs.mine must be a mapping, got [1]"),
        ([], "must be a JSON object, as lm-eval writes its results"),
    ):
        results.write_text(json.dumps(content), "utf-8")
        assert f"{results}: {words}" in refusal(path)


def test_a_file_of_results_stands_for_its_run() -> None:
    """And a single file of samples for one task."""
    (found,) = read(RUN / f"results_{DATE}.json", task="places")
    (one,) = read(RUN / f"samples_places_{DATE}.jsonl")
    assert ece(found) == ece(one)
    assert one.signature.hard == found.signature.hard


def test_older_layouts_are_read_alike(tmp_path: Path) -> None:
    """0.4.0 to 0.4.2: a list of rows with numbers, without filter and hash, beside results.json."""
    rows = []
    for row in logged("places"):
        old = {k: v for k, v in row.items() if k not in ("filter", "metrics", "doc_hash")}
        old["arguments"] = [list(one.values()) for one in row["arguments"].values()]
        old["resps"] = [[[float(a), b == "True"] for a, b in one] for one in row["resps"]]
        old["filtered_resps"] = [[float(a), b == "True"] for a, b in row["filtered_resps"]]
        rows.append(old)
    path = tmp_path / "pretrained__base_places.jsonl"
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), "utf-8")
    shutil.copy(RUN / f"results_{DATE}.json", tmp_path / "results.json")
    assert claims(path)
    (old_found,), (found,) = read(path), read(RUN, task="places")
    assert old_found.probe == "lm_eval:places"
    assert np.array_equal(old_found.item_ids, found.item_ids)
    assert np.allclose(old_found.confidence, found.confidence)
    assert old_found.signature.hard == found.signature.hard


def test_the_hash_of_a_document_is_that_of_the_harness() -> None:
    """Where a row lacks it, it is computed as the harness does."""
    for row in logged("places"):
        text = json.dumps(row["doc"], indent=2, ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == row["doc_hash"]


def test_rows_without_filtered_responses_have_the_raw_ones(tmp_path: Path) -> None:
    """The first of repeats."""
    row = sample()
    del row["filtered_resps"]
    (found,) = read(write(tmp_path, row))
    assert found.confidence[0] == pytest.approx(0.75)
    (damaged,) = read(write(tmp_path / "b", sample(filtered_resps=["yes", "no"])))
    assert damaged.confidence[0] == pytest.approx(0.75)


def test_without_acc_the_target_says_what_is_right(tmp_path: Path) -> None:
    """Tasks may have other metrics alone; a target that can mean two options is refused."""
    (found,) = read(
        write(tmp_path, sample(0, metrics=[], target="yes"), sample(1, metrics=[], target="no"))
    )
    assert found.correct.tolist() == [True, False]
    arguments = {
        f"gen_args_{i}": {"arg_0": "1 + 0 =", "arg_1": f" {option}"}
        for i, option in enumerate(("1", "0"))
    }
    path = write(tmp_path / "b", sample(metrics=[], target="0", arguments=arguments))
    assert "its target '0' can mean two options" in refusal(path)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (40, "have more words than the 40 tokens that the model reads: lm-eval cut off"),
        (150, "may be longer than the 150 tokens that the model reads; whether lm-eval cut off"),
        (4000, ""),
    ],
)
def test_a_note_tells_of_prompts_that_may_have_been_cut(
    tmp_path: Path, length: int, words: str
) -> None:
    """Left truncation leaves no trace in samples: a word is a token or more, a token a byte."""
    prompt = "why " * 100
    arguments = {
        f"gen_args_{i}": {"arg_0": prompt, "arg_1": option} for i, option in enumerate((" a", " b"))
    }
    path = write(tmp_path, sample(0, arguments=arguments), sample(1))
    (tmp_path / f"results_{DATE}.json").write_text(json.dumps({"max_length": length}), "utf-8")
    (found,) = read(path)
    assert len(found.notes) == bool(words)
    assert all(f"1 of 2 prompts {words}" in note for note in found.notes)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("last_word", "hold one log-probability, that of the right text, and not how sure the"),
        ("last_word", "measure it with the model: --calibration-probe=lm_eval:last_word"),
        ("written", "its answers are generated text, and lm-eval keeps no probability of them"),
        ("whole_text", "one sum of log-probabilities for a whole text, which is no answer"),
        ("shares", "its acc is 0.25, neither 0 nor 1, and does not say whether an answer is right"),
    ],
)
def test_tasks_without_a_confidence_are_refused_with_the_reason(task: str, words: str) -> None:
    """And with what to do instead."""
    assert words in refusal(RUN, task=task)


def test_a_folder_with_both_says_which_tasks_can_be_read(tmp_path: Path) -> None:
    """None is passed over in silence."""
    for task in ("letters", "places", "written", "last_word", "shares"):
        shutil.copy(RUN / f"samples_{task}_{DATE}.jsonl", tmp_path)
    message = refusal(tmp_path)
    assert "task last_word: its samples hold one log-probability" in message
    assert "The same, or alike, for shares, written." in message
    assert message.endswith("The other tasks can be read: task=letters,places")
    assert len(read(tmp_path, task="letters,places")) == 2


def test_several_runs_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    """By the begin of a date, by folder, or the newest."""
    earlier = "2026-01-02T03-04-05.000001"
    write(tmp_path / "base", sample(0))
    write(tmp_path / "base", sample(0), date=earlier)
    write(tmp_path / "tuned", sample(0), sample(1))
    message = refusal(tmp_path)
    assert "holds 3 runs of lm-eval; choose one with run, or 'newest'" in message
    assert f"base/{earlier}, base/{DATE}, tuned/{DATE}" in message
    assert len(read(tmp_path, run="tuned")[0]) == 2
    assert len(read(tmp_path, run="2026-01")[0]) == 1
    assert len(read(tmp_path / "base", run="newest")[0]) == 1
    assert "of which 2 fit run '2026-11'" in refusal(tmp_path, run="2026-11")
    assert "of which 0 fit run 'later'" in refusal(tmp_path, run="later")


def test_results_without_samples_are_refused(tmp_path: Path) -> None:
    """A run without --log_samples."""
    shutil.copy(RUN / f"results_{DATE}.json", tmp_path)
    for path in (tmp_path, tmp_path / f"results_{DATE}.json"):
        assert claims(path)
        assert "holds the results of lm-eval and no samples" in refusal(path)
        assert "run lm-eval again with --log_samples" in refusal(path)


def test_an_unknown_task_or_metric_is_named_with_the_nearest() -> None:
    """And with all there are."""
    message = refusal(RUN, task="place")
    assert "there are no samples of a task 'place' (did you mean 'places'?)" in message
    assert "letters" in message
    assert "mine" in message
    with pytest.raises(UsageError, match=r"must be one of acc, acc_norm, .*got 'f1'"):
        read(RUN, metric="f1")
    with pytest.raises(UsageError, match=r"task must be text, got \['places'\]"):
        read(RUN, task=["places"])  # type: ignore[arg-type]
    assert "acc_mutual_info needs the log-probabilities of the options without a prompt" in refusal(
        RUN, task="letters", metric="acc_mutual_info"
    )
    assert "acc_norm divides by the lengths of the options, which are not known" in refusal(
        RUN, task="sentences", metric="acc_norm"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filtered_resps": None, "resps": None}, "request 0 must have the pair [log-probability"),
        ({"filtered_resps": [["-1", "True"]]}, "1 responses to 2 requests; the row is damaged"),
        ({"filtered_resps": [["nan", "True"], ["-1", "False"]]}, "must be numbers of at most 0"),
        ({"filtered_resps": [["1.5", "True"], ["-1", "False"]]}, "must be numbers of at most 0"),
        ({"filtered_resps": [["-inf", "True"]] * 2}, "must be numbers of at most 0"),
        ({"arguments": None}, "'arguments' must hold what each request asked, got None"),
        ({"arguments": {"gen_args_0": 3}}, "'arguments' must hold what each request asked"),
        ({"doc_id": "first"}, "'doc_id' must be a whole number, got 'first'"),
        ({"target": "maybe", "metrics": []}, "its target 'maybe' names none of the options"),
        ({"target": "no", "metrics": []}, "is written in another way than those of other"),
    ],
)
def test_a_damaged_row_is_named_by_file_and_line(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    """Never skipped."""
    path = write(tmp_path, sample(0), {**sample(1), **change})
    message = refusal(path)
    assert words in message
    assert f"{path}, line" in message


def test_a_task_with_metrics_of_its_own_is_refused(tmp_path: Path) -> None:
    """Its target is not what it judges answers by; a run without metrics is read by its targets."""
    path = write(tmp_path / "a", sample(0, metrics=["diff"], diff=0.5))
    assert "its metrics are its own (diff), and none says whether an answer is right" in refusal(
        path
    )
    (found,) = read(write(tmp_path / "b", sample(0, metrics=["bypass"], bypass=999)))
    assert found.correct.tolist() == [True]


def test_options_that_were_not_told_apart_are_refused_or_told(tmp_path: Path) -> None:
    """A server may answer (0, False) to every request; a tokenizer may end every text alike."""
    same = [["0.0", "False"]] * 2
    rows = [sample(i, filtered_resps=same) for i in range(3)]
    assert "all options of each document have the same log-probability" in refusal(
        write(tmp_path / "all", *rows)
    )
    (found,) = read(write(tmp_path / "some", *rows, sample(3)))
    assert any("3 of 4 documents give all their options the same" in n for n in found.notes)


def test_a_split_without_answers_is_refused(tmp_path: Path) -> None:
    """Test splits have the label -1 throughout: every answer would count as wrong."""
    path = write(tmp_path, *(sample(i, target="-1", acc=0.0) for i in range(3)))
    assert "the target '-1' of the first document is none of its 2 options" in refusal(path)


def test_a_document_may_not_be_there_twice(tmp_path: Path) -> None:
    """As where old versions wrote the rows of several filters without their names."""
    message = refusal(write(tmp_path, sample(0), sample(0)))
    assert "document 0 is there more than once, and no filter tells its rows apart" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"doc_id": 0, "resps": [', "line 1: is no JSON"),
        ("[1]\n", "sample 0: must be a JSON object, got int"),
        ("3\n", "line 1: must be a JSON object, got int"),
        ("\n\n", "holds no samples"),
    ],
)
def test_what_is_no_row_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """A file that was cut off, too."""
    path = tmp_path / f"samples_mine_{DATE}.jsonl"
    path.write_text(content, "utf-8")
    assert words in refusal(path)


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    """A claim looks at names and at the first bytes, and never raises."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"confidence": 0.5, "correct": true}\n', "utf-8")
    assert not claims(rows)
    assert not claims(tmp_path)
    assert not claims(tmp_path / "none")
    assert claims(RUN)
    assert claims(RUN.parent)
    renamed = tmp_path / "renamed.jsonl"
    shutil.copy(RUN / f"samples_places_{DATE}.jsonl", renamed)
    assert claims(renamed)
    assert read(renamed)[0].probe == "lm_eval:renamed"
