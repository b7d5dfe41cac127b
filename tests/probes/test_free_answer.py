"""What probes with free answers share: rows, prompts, where an answer ends, what is noted."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, ChatAnswering, OnlyGreedy
from documents import blocks, pages
from fakes import FakeModel

from pytest_calibration import Agreement, PTrue, SequenceLogprob, Verbalized
from pytest_calibration.errors import ConfigError, ItemError, ModelError, UsageError
from pytest_calibration.models.protocols import Generation
from pytest_calibration.models.stops import before_stop
from pytest_calibration.probes.free_answer import HEADER
from pytest_calibration.probes.probe_set import from_settings
from pytest_calibration.probes.prompting import Prompting

KINDS = [PTrue, Verbalized, Agreement, SequenceLogprob]
PERU = {"question": "Capital of Peru?", "answer": "Lima"}
DUTCH = {"question": "Capital of the Netherlands?", "answers": ["Amsterdam", "The Hague"]}
CHOICE = {"question": "Capital of Chad?", "options": ["Doha", "N'Djamena"], "answer": 1}


def rows(folder: Path, *content: Mapping[str, object]) -> Path:
    """Write rows."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "stops", "before"),
    [
        (" Paris\nQ", ["\n"], "Paris"),
        ("\n Paris\nQ", ["\n"], "Paris"),
        ("Paris", ["\n"], None),
        ("a;b,c", [",", ";"], "a"),
        ("\n", ["\n"], None),
        ("Paris\n", [], None),
    ],
)
def test_an_answer_ends_before_the_first_stop_text(
    text: str, stops: list[str], before: str | None
) -> None:
    """White space at its begin is no end."""
    assert before_stop(text, stops) == before


def test_rows_are_read(tmp_path: Path) -> None:
    """One answer, several accepted ones, or options with the index of the right one."""
    probe = SequenceLogprob(path=rows(tmp_path, PERU, DUTCH, CHOICE))
    assert [item.answers for item in probe.items] == [
        ("Lima",),
        ("Amsterdam", "The Hague"),
        ("N'Djamena",),
    ]
    said = {"Peru": " lima.", "Netherlands": "the hague", "Chad": "B"}
    model = Answering(lambda p: next(said[place] for place in said if place in p))
    predictions = probe.run(model)
    assert predictions.correct.tolist() == [True, True, True]
    assert "Capital of Chad?\nA. Doha\nB. N'Djamena\nAnswer:" in model.prompts[2]
    assert predictions.texts is not None
    assert [(t.gold, t.answer) for t in (predictions.texts[i] for i in range(3))] == [
        ("Lima", "lima."),
        ("Amsterdam", "the hague"),
        ("N'Djamena", "B"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q?"}, "either 'answer' or 'answers', and neither is given"),
        ({**PERU, "answers": ["a"]}, "either 'answer' or 'answers', and both are given"),
        ({"question": "Q?", "answer": 42}, r"must be text, in quotes, got 42; a number is the ind"),
        ({"question": "Q?", "answer": True}, "'answer' must be text, got True"),
        ({"question": "Q?", "answer": " "}, "'answer' must not be empty"),
        (
            {"question": "Q?", "answers": []},
            "'answers' must name at least one accepted answer, got none",
        ),
        ({"question": "Q?", "answers": "a"}, "'answers' must be a list of texts, got 'a'"),
        (
            {"question": "Q?", "options": ["a", "b"], "answer": 2},
            "index of an option, 0 to 1, got 2",
        ),
        ({"question": "Q?", "options": ["a", "b"], "answer": "a"}, "index of an option, 0 to 1"),
        ({"question": "Q?", "options": ["a"], "answer": 0}, "'options' must be 2 to 26 distinct"),
        ({"question": "Q?", "options": ["a", "a"], "answer": 0}, "2 to 26 distinct texts"),
        ({"question": "Q?", "options": ["b", "x"], "answer": 0}, "is the letter of another"),
        ({"question": "Q?", "answer": "a", "extra": 1}, "unknown key 'extra'"),
        ({"question": "Q\ud800", "answer": "a"}, "half a surrogate pair"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    """By file, line, key and value."""
    with pytest.raises(ItemError, match=rf"rows.jsonl, line 2: .*{message}"):
        PTrue(path=rows(tmp_path, PERU, row))


def test_options_like_letters_of_their_own_are_fine(tmp_path: Path) -> None:
    """Only the letter of another option is ambiguous; a word within the alphabet is none."""
    row = {"question": "Q?", "options": ["A", "x", "AB"], "answer": 0}
    assert PTrue(path=rows(tmp_path, row)).size == 1


def test_rows_of_a_table_are_read(tmp_path: Path) -> None:
    """A CSV file will do."""
    path = tmp_path / "rows.csv"
    path.write_text("question,answer,slice\nCapital of Peru?,Lima,capitals\n", encoding="utf-8")
    predictions = SequenceLogprob(path=path).run(Answering(lambda _: "Lima"))
    assert predictions.correct.tolist() == [True]
    assert predictions.slices is not None
    assert predictions.slices.tolist() == ["capitals"]


@pytest.mark.parametrize("kind", KINDS)
def test_built_in_items_are_public_facts(kind: Any) -> None:
    """Without a file a kind asks about the built-in facts, by subject and relation."""
    probe = kind()
    assert (probe.size, probe.unit, probe.name) == (2315, "questions", probe.kind)
    assert probe.items[0].group
    assert probe.items[0].slice


def test_the_prompt_has_header_examples_and_question(tmp_path: Path) -> None:
    """Solved examples are other questions with their first accepted answer."""
    model = Answering(lambda _: "Lima")
    SequenceLogprob(path=rows(tmp_path, PERU, DUTCH), shots=1).run(model)
    peru, dutch = "Question: Capital of Peru?\nAnswer:", f"Question: {DUTCH['question']}\nAnswer:"
    assert model.prompts == [
        f"{HEADER}{dutch} Amsterdam\n\n{peru}",
        f"{HEADER}{peru} Lima\n\n{dutch}",
    ]
    assert model.how == {"max_new_tokens": {32}, "stop": ("\n",)}


def test_examples_may_come_from_another_file(tmp_path: Path) -> None:
    """And then none is left out."""
    (tmp_path / "shots").mkdir()
    model = Answering(lambda _: "Lima")
    path, shots = rows(tmp_path, PERU), rows(tmp_path / "shots", DUTCH)
    SequenceLogprob(path=path, shots_path=shots, shots=1, header="").run(model)
    assert model.prompts[0].startswith(f"Question: {DUTCH['question']}\nAnswer: Amsterdam\n\n")


def test_a_chat_has_turns_and_no_space_before_the_answer(tmp_path: Path) -> None:
    """The header is the system's turn; the template is in the signature."""
    model = ChatAnswering(lambda _: "Lima")
    path = rows(tmp_path, PERU, DUTCH)
    predictions = SequenceLogprob(path=path, shots=1, chat=True).run(model)
    assert model.prompts[0] == (
        f"<system>{HEADER.strip()}</><user>Question: {DUTCH['question']}\nAnswer:</>"
        "<assistant>Amsterdam</><user>Question: Capital of Peru?\nAnswer:</><ai>"
    )
    assert predictions.signature.hard["chat"].startswith("template ")


@pytest.mark.parametrize("kind", [SequenceLogprob, Verbalized, PTrue])
def test_what_closes_a_turn_is_no_part_of_an_answer(tmp_path: Path, kind: Any) -> None:
    """A checkpoint that names another end token than its template has writes the template's."""
    said = "Guess: Lima\nProbability: 90%" if kind is Verbalized else "Lima"
    model = ChatAnswering(lambda _: f"{said}</><user>And Chad?</>")
    predictions = kind(path=rows(tmp_path, PERU), chat=True).run(model)
    assert predictions.correct.tolist() == [True]
    assert model.how["stop"] == (*kind(path=rows(tmp_path, PERU)).stop, "</>")


@pytest.mark.parametrize(
    ("template", "mark"),
    [
        ("<|im_start|>user\nQUESTION-TEXT<|im_end|>\nANSWER-TEXT<|im_end|>\n", "<|im_end|>"),
        ("QUESTION-TEXT<|eot_id|>ANSWER-TEXT<|eot_id|><|start_header_id|>", "<|eot_id|>"),
        ("<s>[INST] QUESTION-TEXT [/INST] ANSWER-TEXT </s><s>[INST]", "</s>"),
        ("USER: QUESTION-TEXT ASSISTANT: ANSWER-TEXT USER:", ""),
        ("QUESTION-TEXT", ""),
    ],
)
def test_the_mark_that_closes_a_turn(template: str, mark: str) -> None:
    """The first after the assistant's text, in the templates that there are; or none."""

    class Chat(ChatAnswering):
        def render_chat(self, chats: Any, *_: Any) -> list[str]:
            return [template for _ in chats]

    assert Prompting("p", None, True).end_of_turn(Chat()) == mark
    assert Prompting("p", None, False).end_of_turn(Chat()) == ""


def test_a_delimiter_stands_before_the_answer(tmp_path: Path) -> None:
    """A space is left to the model, a line end is not."""
    model = Answering(lambda _: "Lima")
    path = rows(tmp_path, PERU)
    SequenceLogprob(path=path, delimiter="\n").run(model)
    assert model.prompts[0].endswith("\nAnswer:\n")
    SequenceLogprob(path=path, template="{question} So it is ").run(model)
    assert model.prompts[0].endswith("Capital of Peru? So it is")


def test_braces_in_a_question_stay(tmp_path: Path) -> None:
    """A question is no template."""
    model = Answering(lambda _: "a")
    SequenceLogprob(path=rows(tmp_path, {"question": "{question}{x}", "answer": "a"})).run(model)
    assert model.prompts[0].endswith("Question: {question}{x}\nAnswer:")


def test_a_model_without_stop_is_cut(tmp_path: Path) -> None:
    """Where it goes on, what comes after the answer does not count."""
    path = rows(tmp_path, PERU)
    predictions = PTrue(path=path).run(OnlyGreedy())
    assert predictions.correct.tolist() == [True]
    message = (
        r"^fake: its generate takes no stop, so the probability of what comes before '\\n' is not "
        r"known; give it one, or set stop: \[\] in the probe 'sequence'\."
    )
    with pytest.raises(ModelError, match=message):
        SequenceLogprob(path=path).run(OnlyGreedy())
    open_ended = SequenceLogprob(path=path, stop=[], match="contains").run(OnlyGreedy())
    assert open_ended.confidence.tolist() == pytest.approx([0.25])


def test_a_model_that_cannot_draw_is_told_to(tmp_path: Path) -> None:
    """The probe, and what is missing, are named."""
    path = rows(tmp_path, PERU)
    message = "^fake: the probe 'agreement' draws answers, and this model has no method sample; gi"
    with pytest.raises(ModelError, match=message):
        Agreement(path=path).run(OnlyGreedy())
    with pytest.raises(ModelError, match=r"^fake: the probe 'p_true' draws answers"):
        PTrue(path=path, samples=2).run(OnlyGreedy())


def test_a_model_that_leaves_one_out_fails_the_probe(tmp_path: Path) -> None:
    """No item is dropped."""

    class Silent(FakeModel):
        def generate(self, *_: Any, **__: Any) -> list[Generation]:
            return []

    with pytest.raises(Exception, match="probe 'sequence': 0 of 1 items were scored; none may be"):
        SequenceLogprob(path=rows(tmp_path, PERU)).run(Silent())


def test_answers_that_are_cut_off_or_empty_are_noted(tmp_path: Path) -> None:
    """From one in twenty on, with the way out; an empty answer is wrong."""
    many = [{"question": f"Q{i}?", "answer": "a"} for i in range(20)]

    class Long(Answering):
        def _made(self, text: str) -> Generation:
            return Generation(text, np.array([-0.1]), finished=text != "long")

    def said(prompt: str) -> str:
        return {"Q0?": "long", "Q1?": "", "Q2?": "<think>\nWell"}.get(prompt.split()[-2], "a")

    predictions = SequenceLogprob(path=rows(tmp_path, *many)).run(Long(said))
    assert predictions.notes == (
        "1 of 20 answers were cut off after 32 tokens: raise max_new_tokens, or name in stop what "
        "ends an answer.",
        "1 of 20 answers are empty, which counts as wrong: the prompt may not lead to an answer.",
        "1 of 20 answers begin with <think>, and are read up to the first stop text only: switch "
        "thinking off (chat: {enable_thinking: false}, where the template knows it).",
    )
    assert predictions.correct.tolist() == [False] * 3 + [True] * 17
    one_more = [*many, {"question": "Q20?", "answer": "a"}]
    assert SequenceLogprob(path=rows(tmp_path, *one_more)).run(Long(said)).notes == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"header": "Be brief."}, "prompt"),
        ({"template": "{question}"}, "prompt"),
        ({"shots": 1}, "shots"),
        ({"match": "exact"}, "match"),
        ({"stop": "."}, "answer"),
        ({"max_new_tokens": 8}, "answer"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"logprob": "mean"}, "scoring"),
    ],
)
def test_another_setting_is_not_comparable(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    """What changes the question or the rule is a hard field of the signature."""
    path = rows(tmp_path, PERU, DUTCH)
    one, other = (
        SequenceLogprob(path=path, **settings).run(Answering(lambda _: "Lima")).signature
        for settings in ({}, change)
    )
    assert field in {name for name, *_ in one.hard_differences(other)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got 0"),
        ({"stop": [""]}, r"stop must be texts that are not empty, got \[''\]"),
        ({"stop": [1]}, "stop must be texts"),
        ({"stop": 5}, "stop must be texts that are not empty, got 5"),
        ({"template": 5}, "template must be text, got 5"),
        ({"header": None}, "header must be text, got None"),
        ({"template": "Q"}, "template 'Q' lacks {question}"),
        ({"match": "near"}, "match must be one of"),
        ({"path": "a", "dataset": {"id": "a/b", "split": "test"}}, "has both path and dataset"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    kind: Any, settings: dict[str, Any], message: str
) -> None:
    """For every kind."""
    with pytest.raises(UsageError, match=f"probe 'mine': .*{message}"):
        kind("mine", **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            SequenceLogprob,
            {"shots": -1},
            "shots must be a whole number between 0 and 2,314, got -1",
        ),
        (SequenceLogprob, {"shots": True}, "shots must be a whole number"),
        (SequenceLogprob, {"logprob": "max"}, "logprob must be one of sum, mean, got 'max'"),
        (Agreement, {"samples": 1}, "samples must be a whole number of at least 2, got 1"),
        (Agreement, {"temperature": 0}, "temperature must be a number above 0 and at most 100"),
        (Agreement, {"temperature": float("inf")}, "temperature must be a number above 0"),
        (Agreement, {"temperature": float("nan")}, "temperature must be a number above 0"),
        (Agreement, {"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        (PTrue, {"samples": -1}, "samples must be a whole number of at least 0"),
        (PTrue, {"check": 5}, "check must be text, got 5"),
        (PTrue, {"check_header": 5}, "check_header must be text, got 5"),
        (PTrue, {"check": "{question}"}, "the check '{question}' lacks {answer}"),
        (PTrue, {"check": "{question}{answer}", "samples": 1}, "the check .* lacks {brainstormed}"),
        (Verbalized, {"form": "long"}, "form must be one of top_1, top_k, tag, got 'long'"),
        (Verbalized, {"guesses": 3}, "guesses is a setting of form: top_k, got form 'top_1'"),
        (Verbalized, {"form": "top_k", "guesses": 1}, "guesses must be .* 2 and 10, got 1"),
        (Verbalized, {"max_failures": 5}, "max_failures must be a share from 0 to 1, got 5"),
    ],
)
def test_a_setting_of_one_kind_is_checked(
    kind: Any, settings: dict[str, Any], message: str
) -> None:
    """With the bounds."""
    with pytest.raises(UsageError, match=f"probe 'mine': {message}"):
        kind("mine", **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("agreement", {"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ("agreement", {"temperature": True}, "temperature must be a number, got True"),
        ("agreement", {"samples": 2.5}, "samples must be a whole number, got 2.5"),
        ("agreement", {"stop": 3}, "stop must be a text or a list of texts, got 3"),
        ("sequence", {"samples": 3}, "unknown setting 'samples'"),
        ("verbalized", {"shots": 3}, "unknown setting 'shots'"),
        ("verbalized", {"max_failures": "few"}, "max_failures must be a number, got 'few'"),
        ("p_true", {"match": "fuzzy"}, "match must be one of"),
        ("p_true", {"match": "gone_rules:same"}, "match: there is no module 'gone_rules', neither"),
        ("p_true", {"match": "string:gone"}, "match: module 'string' has no 'gone'"),
        (
            "p_true",
            {"match": "string:digits"},
            "match 'string:digits' is neither a class nor a fun",
        ),
        ("p_true", {"match": ":same"}, "match ':same' names no function; write package.module:fun"),
    ],
)
def test_an_entry_of_the_configuration_is_checked(
    kind: str, settings: dict[str, Any], message: str
) -> None:
    """File, key and value are named."""
    with pytest.raises(ConfigError, match=rf"calibration.yaml: probes.mine: .*{message}"):
        from_settings("mine", {"kind": kind, **settings}, Path(), "calibration.yaml: probes.mine")


def test_an_entry_of_the_configuration_makes_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All settings as a file has them."""
    rows(tmp_path, PERU)
    settings = {"kind": "agreement", "path": "rows.jsonl", "samples": 4, "temperature": 1}
    more = {"stop": ["\n", "."], "match": "rules_beside:same", "limit": 3}
    code = "def same(question, answer, other):\n    return answer[:1] == other[:1]\n"
    (tmp_path / "rules_beside.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    probe = from_settings("mine", {**settings, **more}, tmp_path, "calibration.yaml: probes.mine")
    assert isinstance(probe, Agreement)
    assert (probe.size, probe.samples, probe.stop) == (1, 4, ("\n", "."))
    assert probe.matching.described == "function rules_beside:same"
    assert probe.is_right(probe.items[0], "L.A.")


def test_the_prompts_in_the_docs_are_those_that_are_asked(tmp_path: Path) -> None:
    """Each block of text below these headings is a prompt, word for word."""
    if not pages():
        pytest.skip("the docs are not beside these tests")
    page = "docs/reference/calibration-yaml.md"
    headings = ("`p_true`", "`verbalized`", "Prompts, examples, chats")
    shown = [block.text for heading in headings for block in blocks(page, heading)]
    path = rows(tmp_path, {"question": "Capital of Chad?", "answer": "N'Djamena"}, PERU)
    asked = []
    for probe in (PTrue(path=path), Verbalized(path=path), SequenceLogprob(path=path, shots=1)):
        model = Answering(lambda _: "Lima\nProbability: 0.9")
        probe.run(model)
        prompts = [prompt for prompt, _ in model.judged] or model.prompts
        asked.append(next(p for p in prompts if "Peru" in p.split("Question: ")[-1]))
    assert [text.strip() for text in shown] == [
        prompt.removesuffix("\nGuess:").strip() for prompt in asked
    ]


@pytest.mark.data
def test_accepted_answers_come_from_a_public_data_set(tmp_path: Path) -> None:
    """Nested columns, read by the real library: the aliases of an answer are all accepted."""
    pytest.importorskip("datasets")
    path = tmp_path / "trivia.jsonl"
    aliases = {"question": "Seat?", "answer": {"value": "The Hague", "aliases": ["Den Haag", "D."]}}
    path.write_text(json.dumps(aliases), encoding="utf-8")
    columns = {"question": "question", "answers": "answer.aliases"}
    dataset = {"path": str(path), "split": "train", "columns": columns}
    predictions = SequenceLogprob(dataset=dataset).run(Answering(lambda _: "den haag"))
    assert predictions.correct.tolist() == [True]
    assert "trivia.jsonl train rows " in str(predictions.signature)
