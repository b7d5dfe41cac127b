"""Tasks of lm-eval as probes, against real runs of lm-eval."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from harness_runs import CHOICES, GIVEN, TOKENIZERS, evaluate, harness_run, write_given, write_tasks

from pytest_calibration import Baselines, compare, ece
from pytest_calibration.asking import Asker
from pytest_calibration.errors import CalibrationError, ModelError, PredictionsError, ProbeError
from pytest_calibration.gate.looks import SHARES
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.predictions import PredictionsInParts
from pytest_calibration.probes.lm_eval_task import LmEvalTask
from pytest_calibration.probes.probe_set import probe_set
from pytest_calibration.readers.lm_eval import read

CLOSE = 4e-6
"""Of probabilities: the harness adds up to 60 nats in float32, once or twice."""
pytestmark = [pytest.mark.data, pytest.mark.torch]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs of lm-eval lie."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(params=TOKENIZERS)
def run(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[LazyModel, Path, Path]]:
    """A model with a tokenizer of each sort, the tasks, and what lm-eval wrote."""
    model, tasks, out = harness_run(folder, request.param)
    loaded = load_model(str(model))
    yield loaded, tasks, out
    loaded.release()


def logged_requests(out: Path) -> list[tuple[tuple[str, str], float, bool]]:
    """Return what lm-eval asked and got: arguments, log-probability, whether it is greedy."""
    found = []
    for file in sorted(out.glob("*/samples_*.jsonl")):
        for row in map(json.loads, file.read_text("utf-8").splitlines()):
            for i, ((logprob, greedy),) in enumerate(row["resps"]):
                arguments = row["arguments"][f"gen_args_{i}"]
                pair = arguments["arg_0"], arguments["arg_1"]
                found.append((pair, float(logprob), greedy == "True"))
    return found


def test_log_probabilities_are_those_of_the_harness(run: tuple[LazyModel, Path, Path]) -> None:
    """Every request, those without a prompt too, gets the harness's score and greedy flag.

    The harness adds the tokens of an option in float32, whose relative precision is 6e-8.
    """
    model, _, out = run
    pairs, logprobs, greedy = zip(*logged_requests(out), strict=True)
    answers = model.loglikelihood(pairs)
    assert any(not context for context, _ in pairs)
    assert np.allclose([a.logprob for a in answers], logprobs, rtol=1e-6, atol=0)
    assert [a.is_greedy for a in answers] == list(greedy)


@pytest.mark.parametrize("task", CHOICES)
def test_predictions_are_those_of_the_harness(run: tuple[LazyModel, Path, Path], task: str) -> None:
    """A probe and a run of lm-eval give the same items, probabilities, outcomes and ECE.

    Where the tokenizer ends every text with a token, the harness scores that token for an option
    of one token, whichever it is.
    """
    model, tasks, out = run
    if task == "letters" and out.parent.name == "WordPiece":
        words = "all options of each document have the same log-probability"
        with pytest.raises(ProbeError, match=words):
            LmEvalTask(task=task, include_path=tasks).run(model)
        with pytest.raises(PredictionsError, match=words):
            read(out, task=task)
        return
    asked = LmEvalTask(task=task, include_path=tasks).run(model)
    (logged,) = read(out, task=task)
    assert asked.probe == logged.probe == f"lm_eval:{task}"
    assert np.array_equal(asked.item_ids, logged.item_ids)
    assert np.abs(asked.probabilities - logged.probabilities).max() < 1e-6
    assert np.array_equal(asked.correct, logged.correct)
    assert abs(ece(asked) - ece(logged)) < 1e-6
    assert asked.signature.hard == logged.signature.hard


@pytest.fixture(scope="session")
def first(folder: Path) -> Iterator[tuple[LazyModel, Path, Path]]:
    """The run whose model has a byte-level tokenizer."""
    model, tasks, out = harness_run(folder, TOKENIZERS[0])
    loaded = load_model(str(model))
    yield loaded, tasks, out
    loaded.release()


def test_a_task_is_asked_in_parts(
    first: tuple[LazyModel, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model scores the requests of the documents that are asked, each once."""
    model, tasks, _ = first
    asked: list[tuple[str, str]] = []
    score = LazyModel.loglikelihood

    def counted(self: LazyModel, requests: Any, **how: bool) -> Any:
        asked.extend(requests)
        return score(self, requests, **how)

    monkeypatch.setattr(LazyModel, "loglikelihood", counted)
    probe = LmEvalTask(task="places", include_path=tasks)
    whole = probe.run(model)
    everything = len(asked)
    asked.clear()
    found = Asker(probe_set(), shares=SHARES).ask(model, probe)
    assert isinstance(found, PredictionsInParts)
    for part in found.in_turn():
        share = len(part.predictions) / len(whole)
        assert len(asked) == pytest.approx(share * everything, rel=0.3)
        assert {*part.item_ids.tolist()} == {*whole.item_ids.tolist()}
    assert len(asked) == len({*asked}) == everything
    assert np.array_equal(found.item_ids, whole.item_ids)
    assert np.abs(found.confidence - whole.confidence).max() < CLOSE
    assert found.signature == whole.signature


@pytest.mark.parametrize("metric", ["acc_norm", "acc_bytes", "acc_mutual_info"])
def test_each_metric_has_its_own_confidence(
    first: tuple[LazyModel, Path, Path], metric: str
) -> None:
    """The same as the reader takes from the samples, and the outcome of that metric."""
    model, tasks, out = first
    asked = LmEvalTask(task="places", include_path=tasks, metric=metric).run(model)
    (logged,) = read(out, task="places", metric=metric)
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    assert np.array_equal(asked.correct, logged.correct)
    assert asked.signature.hard == logged.signature.hard


def test_a_run_of_the_harness_may_be_the_baseline_of_a_probe(
    first: tuple[LazyModel, Path, Path], tmp_path: Path
) -> None:
    """What lm-eval logged before and what this package asks now is the same probe."""
    model, tasks, out = first
    (logged,) = read(out, task="places")
    baselines = Baselines(tmp_path)
    baselines.record(logged)
    asked = LmEvalTask(task="places", include_path=tasks).run(model)
    verdict = compare(asked, baselines.load("lm_eval:places").predictions)
    assert verdict.state == "inconclusive"  # few items; another probe would be not_comparable
    assert verdict.difference == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shots", [0, 3])
def test_shots_are_those_of_the_harness(
    first: tuple[LazyModel, Path, Path], tmp_path: Path, shots: int
) -> None:
    """Drawn with the same seed; another number of them is another probe."""
    model, tasks, out = first
    where = evaluate(model_of(first), tasks, ("places",), tmp_path, num_fewshot=shots)
    asked = LmEvalTask(task="places", include_path=tasks, shots=shots).run(model)
    ((logged,), (two,)) = read(where), read(out, task="places")
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    assert asked.signature.hard == logged.signature.hard
    assert asked.signature.hard_differences(two.signature)


def model_of(run: tuple[LazyModel, Path, Path]) -> Path:
    """Return the directory of the model of a run."""
    return Path(run[0].spec.location)


def test_another_seed_draws_other_examples(first: tuple[LazyModel, Path, Path]) -> None:
    """And is not comparable; without examples the seed does not matter."""
    model, tasks, _ = first
    probes = [LmEvalTask(task="places", include_path=tasks, seed=seed) for seed in (1234, 5)]
    one, other = (probe.run(model) for probe in probes)
    assert not np.array_equal(one.confidence, other.confidence)
    assert [field for field, _, _ in one.signature.hard_differences(other.signature)] == ["prompt"]
    bare = [LmEvalTask(task="places", include_path=tasks, seed=seed, shots=0) for seed in (1234, 5)]
    assert not bare[0].run(model).signature.hard_differences(bare[1].run(model).signature)


def test_other_examples_are_drawn_by_the_harness(first: tuple[LazyModel, Path, Path]) -> None:
    """Another seed shows as many others before the same documents; without shots there are none."""
    model, tasks, _ = first
    probe = LmEvalTask(task="places", include_path=tasks, shots=2)
    other = probe.variants()["shots"](1)
    plain, varied, again = (one.run(model) for one in (probe, other, probe))
    np.testing.assert_array_equal(plain.item_ids, varied.item_ids)
    np.testing.assert_array_equal(plain.confidence, again.confidence)
    assert np.mean(plain.confidence != varied.confidence) > 0.5
    asked = [
        {r.args[0] for rs in one._requests(model).values() for r in rs} for one in (probe, other)
    ]
    assert asked[0] != asked[1]
    # Without a prompt for acc_mutual_info.
    assert {prompt.count("Question: ") for prompt in asked[1]} == {0, 3}
    bare = LmEvalTask(task="places", include_path=tasks, shots=0)
    assert bare.variants()["shots"] == "the model is shown no solved examples"
    assert "order" in bare.variants()["options"]


def test_examples_that_a_task_does_not_draw_are_no_variant(tmp_path: Path) -> None:
    """``sampler: first_n`` shows the first ones, whatever the seed."""
    path = write_tasks(tmp_path) / "places.yaml"
    path.write_text(f"{path.read_text('utf-8')}fewshot_config: {{sampler: first_n}}\n", "utf-8")
    probe = LmEvalTask(task="places", include_path=path.parent)
    assert probe.variants()["shots"] == "the task of lm-eval always shows its first examples"


def test_a_limit_asks_the_smallest_ids_in_the_same_prompts(
    first: tuple[LazyModel, Path, Path],
) -> None:
    """Examples are drawn for one document after the other, so all prompts are made."""
    model, tasks, _ = first
    probe = LmEvalTask(task="places", include_path=tasks)
    whole, part = probe.run(model), probe.run(model, limit=4)
    kept = np.isin(whole.item_ids, part.item_ids)
    assert part.n == 4
    assert np.array_equal(np.sort(part.item_ids), np.sort(whole.item_ids)[:4])
    assert np.allclose(whole.confidence[kept], part.confidence, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "members"),
    [
        ("mine", ["places", "letters", "no_space"]),  # a group
        ("lettered", ["letters", "no_space"]),  # a tag
        ("[ls]e*s", ["letters", "sentences"]),  # a pattern
    ],
)
def test_several_tasks_are_one_probe_with_slices(
    first: tuple[LazyModel, Path, Path], task: str, members: list[str]
) -> None:
    """With the same ids as each task by itself, and as the reader joins them."""
    model, tasks, out = first
    joint = LmEvalTask(task=task, include_path=tasks).run(model)
    assert set(joint.slices.tolist()) == set(members)
    alone = [LmEvalTask(task=name, include_path=tasks).run(model) for name in members]
    assert set(joint.item_ids.tolist()) == {i for one in alone for i in one.item_ids.tolist()}
    if task == "mine":
        (logged,) = read(out, task="mine")
        assert np.array_equal(joint.item_ids, logged.item_ids)
        assert np.abs(joint.probabilities - logged.probabilities).max() < CLOSE
        assert joint.signature.hard == logged.signature.hard


def test_one_right_text_is_measured_by_the_models_own_continuation(
    first: tuple[LazyModel, Path, Path], tmp_path: Path
) -> None:
    """Correct as the harness's acc; the confidence is that of as many most likely tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tasks, _ = first
    where = evaluate(model_of(first), tasks, ("last_word",), tmp_path)
    found = LmEvalTask(task="last_word", include_path=tasks).run(model)
    network = AutoModelForCausalLM.from_pretrained(model_of(first), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_of(first))
    (file,) = where.glob("*/samples_*.jsonl")
    rows = sorted(map(json.loads, file.read_text("utf-8").splitlines()), key=lambda r: r["doc_id"])
    assert found.n == len(rows)
    for i, row in enumerate(rows):
        arguments = row["arguments"]["gen_args_0"]
        context = tokenizer(arguments["arg_0"])["input_ids"]
        whole = tokenizer(arguments["arg_0"] + arguments["arg_1"])["input_ids"]
        ids, logprob = torch.tensor([context]), 0.0
        for _ in range(len(whole) - len(context)):
            with torch.no_grad():
                scores = network(ids).logits[0, -1].log_softmax(-1)
            logprob += float(scores.max())
            ids = torch.cat([ids, scores.argmax().view(1, 1)], 1)
        assert np.log(found.confidence[i]) == pytest.approx(logprob, abs=1e-5)
        assert bool(found.correct[i]) == (row["acc"] == 1) == (ids[0].tolist() == whole)
        assert found.label_logprobs[i] == pytest.approx(float(row["resps"][0][0][0]), abs=1e-5)


@pytest.mark.parametrize("name", ["winogrande", "blimp", "copa", "cola"])
def test_tasks_that_come_with_lm_eval_are_measured_and_read_alike(
    first: tuple[LazyModel, Path, Path], tmp_path: Path, name: str
) -> None:
    """Whatever their options, prompts and targets look like."""
    model, _, _ = first
    tasks = write_given(tmp_path, name)
    (logged,) = read(evaluate(model_of(first), tasks, (name,), tmp_path / "out"))
    asked = LmEvalTask(task=name, include_path=tasks).run(model)
    assert np.array_equal(asked.item_ids, logged.item_ids)
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    assert np.array_equal(asked.correct, logged.correct)
    assert asked.signature.hard == logged.signature.hard
    rows = GIVEN[name][2]
    right = [int(r["answer"]) - 1 if "answer" in r else r.get("label", 0) for r in rows]
    assert asked.labels.tolist() == right
    assert (asked.correct == (asked.probabilities.argmax(axis=1) == right)).all()


def test_tasks_that_come_with_lm_eval_are_refused_alike(
    first: tuple[LazyModel, Path, Path], tmp_path: Path
) -> None:
    """One has metrics of its own; of one with a single text the samples are refused alone."""
    model, _, _ = first
    for name in ("crows_pairs", "arithmetic_1dc"):
        write_given(tmp_path, name)
    out = evaluate(model_of(first), tmp_path, ("crows_pairs", "arithmetic_1dc"), tmp_path / "out")
    with pytest.raises(PredictionsError, match=r"its metrics are its own .likelihood_diff, pct"):
        read(out, task="crows_pairs")
    with pytest.raises(ProbeError, match="the task crows_pairs cannot be measured"):
        LmEvalTask(task="crows_pairs", include_path=tmp_path).run(model)
    with pytest.raises(PredictionsError, match="hold one log-probability"):
        read(out, task="arithmetic_1dc")
    assert LmEvalTask(task="arithmetic_1dc", include_path=tmp_path).run(model).n == 4


def test_a_chat_is_asked_as_the_harness_asks_it(folder: Path, tmp_path: Path) -> None:
    """In the model's template, with examples as turns and no delimiter before an option."""
    from checkpoints import chat_tokenizer, new_model, save

    tokenizer = chat_tokenizer()
    network = new_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    place = save(tmp_path / "chat", network, tokenizer)
    _, tasks, _ = harness_run(folder, TOKENIZERS[0])
    how = {"apply_chat_template": True, "system_instruction": "Answer in one word."}
    (logged,) = read(evaluate(place, tasks, ("places",), tmp_path / "out", **how))
    asked = LmEvalTask(
        task="places", include_path=tasks, chat=True, system="Answer in one word."
    ).run(load_model(str(place)))
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    assert asked.signature.hard["system"] == logged.signature.hard["system"]
    assert asked.signature.hard["chat"].startswith("template ")
    assert logged.signature.hard["chat"].startswith("template ")


def test_a_model_of_ones_own_is_asked_as_other_probes_ask_it(
    first: tuple[LazyModel, Path, Path],
) -> None:
    """Where it has no loglikelihood; what needs one says so."""
    model, tasks, out = first

    class Own:
        name, fingerprint = "own", "own"

        def option_logprobs(self, prompts: Any, options: Any) -> Any:
            return model.option_logprobs(prompts, options)

    (logged,) = read(out, task="letters")
    asked = LmEvalTask(task="letters", include_path=tasks).run(cast("Any", Own()))
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    for task in ("places", "last_word"):
        with pytest.raises(ModelError, match="own: has no method loglikelihood, which the probe"):
            LmEvalTask(task=task, include_path=tasks).run(cast("Any", Own()))


def test_answers_are_kept_in_a_cache(first: tuple[LazyModel, Path, Path], tmp_path: Path) -> None:
    """A second run of a probe takes no weights, and gives the same predictions."""
    _, tasks, _ = first
    for task in ("places", "last_word"):
        probe = LmEvalTask(task=task, include_path=tasks)
        found = []
        for _ in range(2):
            model = load_model(str(model_of(first)), cache=Cache(tmp_path))
            found.append(probe.run(model))
        assert (model.computed, model.served) == (0, 1)
        assert np.array_equal(found[0].confidence, found[1].confidence)
        assert [t.answer for t in map(found[0].texts.__getitem__, range(3))] == [
            t.answer for t in map(found[1].texts.__getitem__, range(3))
        ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "written"}, "the task written cannot be measured: its answers are generated"),
        ({"task": "whole_text"}, "the task whole_text cannot be measured: perplexity is a sum"),
        ({"task": "[lp]*a*"}, "last_word ask for one right text, and the other tasks for one of"),
        ({"task": "place"}, r"lm-eval has no task 'place' \(did you mean 'places'\?\)"),
        ({"task": "no_shots", "shots": 2}, "the task no_shots fixes its shots at 0"),
        ({"task": "letters", "shots": -1}, "must be a whole number of at least 0, got -1"),
        ({"task": "letters", "shots": 2.0}, "must be a whole number of at least 0, got 2.0"),
        ({"task": 3}, "the task of an lm-eval probe must be text, got 3"),
        ({"task": "letters", "metric": "f1"}, "must be one of acc, acc_norm, .*got 'f1'"),
        ({"task": "last_word", "metric": "acc_norm"}, "has the metric acc alone, got 'acc_norm'"),
        ({"task": "letters", "include_path": "gone"}, "include_path 'gone' is no folder"),
    ],
)
def test_a_task_that_cannot_be_asked_says_why(
    first: tuple[LazyModel, Path, Path], settings: dict[str, Any], words: str
) -> None:
    """Before any model is loaded."""
    _, tasks, _ = first
    with pytest.raises(CalibrationError, match=words):
        LmEvalTask(**{"include_path": tasks, **settings})


def test_a_metric_that_does_not_say_what_is_right_is_refused(
    first: tuple[LazyModel, Path, Path],
) -> None:
    """As that of truthfulqa_mc2."""
    model, tasks, _ = first
    words = "the task shares cannot be measured: its acc is 0.25, neither 0 nor 1"
    with pytest.raises(ProbeError, match=words):
        LmEvalTask(task="shares", include_path=tasks).run(model)


def test_a_task_that_judges_one_text_in_its_own_way_is_refused(
    first: tuple[LazyModel, Path, Path], tmp_path: Path
) -> None:
    """Its acc is not whether the text is the most likely one, whose confidence is measured."""
    model, tasks, _ = first
    text = (tasks / "last_word.yaml").read_text("utf-8").replace("task: last_word", "task: lenient")
    (tmp_path / "lenient.yaml").write_text(f"{text}process_results: !function own.judge\n", "utf-8")
    (tmp_path / "own.py").write_text("def judge(doc, results):\n    return {'acc': 1.0}\n")
    with pytest.raises(ProbeError, match=r"has an acc of 1.0 where the right text is not the most"):
        LmEvalTask(task="lenient", include_path=tmp_path).run(model)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: own\n  dataset_path: [json\n", r"fails at the task own \(ScannerError: .*line 2"),
        ("group: own\ntask: []\n", r"the task own has no documents\.$"),
        (
            "task: own\ndataset_path: json\ndataset_kwargs: {data_files: {test: gone.jsonl}}\n"
            "output_type: multiple_choice\ntest_split: test\n",
            r"FileNotFoundError: .*; where its data are missing, fetch them once",
        ),
        (
            "task: own\ndataset_path: json\ndoc_to_text: !function gone.text\n",
            r"\(ImportError: Cannot import module 'gone' .*\)\.$",
        ),
    ],
)
def test_a_file_of_a_task_that_is_wrong_says_why(tmp_path: Path, text: str, words: str) -> None:
    """lm-eval passes over a file that it cannot read; a hint is given where it may help."""
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ProbeError, match=words):
        LmEvalTask(task="own", include_path=tmp_path)


SHUFFLED = """import random
def shuffled(rows):
    def one(row):
        right = row["options"][row["answer"]]
        options = random.sample(row["options"], 4)
        return {"options": options, "answer": options.index(right)}
    return rows.map(one)
"""


def test_options_that_a_task_shuffles_are_the_same_in_every_run(
    first: tuple[LazyModel, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in gpqa: those of lm-eval's seed, whatever a cache or the random numbers were before."""
    model, tasks, _ = first
    text = (tasks / "places.yaml").read_text("utf-8").replace("task: places", "task: mixed")
    made = f"{text}process_docs: !function own.shuffled\n"
    (tmp_path / "mixed.yaml").write_text(made, "utf-8")
    (tmp_path / "own.py").write_text(SHUFFLED)
    found = []
    for place in ("one", "other"):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / place)
        random.seed(place)
        before = random.getstate()
        found.append(LmEvalTask(task="mixed", include_path=tmp_path).run(model))
        assert random.getstate() == before
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "harness")
    (logged,) = read(evaluate(model_of(first), tmp_path, ("mixed",), tmp_path / "out"))
    assert all(np.array_equal(one.item_ids, logged.item_ids) for one in found)
    assert np.abs(found[0].probabilities - logged.probabilities).max() < CLOSE
    assert np.array_equal(found[0].correct, logged.correct)


@pytest.mark.parametrize("source", ["json", "folder"])
def test_local_data_are_those_that_are_there_now(tmp_path: Path, source: str) -> None:
    """Also where a file was changed and its time was not, as after a copy or a restored cache."""
    data = tmp_path / "data" / "test.jsonl"
    data.parent.mkdir()
    named = {
        "json": f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n",
        "folder": f"dataset_path: {data.parent}\n",
    }
    (tmp_path / "task.yaml").write_text(
        f"task: changing\n{named[source]}output_type: multiple_choice\ntest_split: test\n"
        "doc_to_text: q\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n"
    )
    for question in ("old", "new"):
        data.write_text(json.dumps({"q": question}) + "\n")
        os.utime(data, (1e9, 1e9))
        (item,) = LmEvalTask(task="changing", include_path=tmp_path).items
        assert item.doc == {"q": question}


def test_data_that_are_not_there_are_named_with_the_command_that_fetches_them(
    tmp_path: Path,
) -> None:
    """A task whose data set is on the hub, without a network."""
    (tmp_path / "far.yaml").write_text(
        "task: far\ndataset_path: someone/far_away\noutput_type: multiple_choice\n"
        "test_split: test\ndoc_to_text: q\ndoc_to_choice: o\ndoc_to_target: a\n"
    )
    with pytest.raises(ProbeError) as caught:
        LmEvalTask(task="far", include_path=tmp_path)
    assert "lm-eval fails at the task far" in str(caught.value)
    assert "far_away" in str(caught.value)
    assert "lm_eval --model dummy --tasks far --limit 1" in str(caught.value)


def test_a_long_prompt_is_an_error_or_is_cut_as_the_harness_cuts_it(
    first: tuple[LazyModel, Path, Path], tmp_path: Path
) -> None:
    """A note tells of it; of a run of the harness, that it may be so."""
    model, tasks, _ = first
    text = (tasks / "letters.yaml").read_text("utf-8").replace("task: letters", "task: long")
    long = text.replace('doc_to_text: "', f'doc_to_text: "{"x " * 240}')
    (tmp_path / "long.yaml").write_text(long, "utf-8")
    with pytest.raises(ModelError, match="tokens, more than the 512 this model can read"):
        LmEvalTask(task="long", include_path=tmp_path).run(model)
    (logged,) = read(evaluate(model_of(first), tmp_path, ("long",), tmp_path / "out"))
    asked = LmEvalTask(task="long", include_path=tmp_path, cut=True).run(model)
    assert np.abs(asked.probabilities - logged.probabilities).max() < CLOSE
    assert any("prompts did not fit into the model and lost their begin" in n for n in asked.notes)
    assert any("whether lm-eval cut off their begin cannot be known" in n for n in logged.notes)
    short = LmEvalTask(task="letters", include_path=tasks, cut=True).run(model)
    assert not any("did not fit" in note for note in short.notes)
    assert logged.signature.hard == asked.signature.hard


GATE = """
from pytest_calibration import assert_no_regression

def test_no_regression(calibration, calibration_baseline, calibration_probe):
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
"""


def test_a_task_is_named_on_the_command_line_or_in_the_configuration(
    first: tuple[LazyModel, Path, Path], pytester: pytest.Pytester
) -> None:
    """The gate runs once per probe, in workers too; the list knows both."""
    _, tasks, _ = first
    pytester.makepyfile(test_gate=GATE)
    pytester.path.joinpath("calibration.yaml").write_text(
        f"probes:\n  mine: {{kind: lm_eval, task: lettered, include_path: {tasks}, limit: 9}}\n"
    )
    by_file = f"--calibration-probe=lm_eval:{tasks / 'places.yaml'}"
    names = (by_file, "--calibration-probe=mine")
    listed = pytester.runpytest("--calibration-list", *names)
    listed.stdout.re_match_lines_random(
        [r"\* lm_eval:.*places.yaml +lm_eval +11 documents", r"\* mine +lm_eval +22 documents"]
    )
    model = f"--calibration-model={model_of(first)}"
    pytester.runpytest(model, *names, "--calibration-record").assert_outcomes(passed=2)
    result = pytester.runpytest_subprocess(model, *names, "-n2")
    result.stdout.fnmatch_lines(["*2 inconclusive*"])
