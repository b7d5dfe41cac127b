"""The multiple-choice probe: prompts, shots, scoring, option mass."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeModel
from numpy.typing import NDArray

from pytest_calibration import MultipleChoice
from pytest_calibration.errors import ProbeError, TokenBoundaryError, UsageError

ROWS = [
    {"question": f"Question {i}?", "options": [f"a{i}", f"b{i}", f"c{i}", f"d{i}"], "answer": i % 4}
    for i in range(6)
]
HEADER = "The following are multiple choice questions (with answers).\n\n"


def rows(path: Path, content: Sequence[dict[str, object]]) -> Path:
    """Write rows."""
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six questions."""
    return rows(tmp_path / "mcq.jsonl", ROWS)


class Scripted(FakeModel):
    """Gives the same log-probabilities to every question and notes what it was asked."""

    def __init__(self, probabilities: Sequence[float], merges: tuple[str, ...] = ()) -> None:
        super().__init__("scripted")
        self.probabilities = probabilities
        self.merges = merges
        self.prompts: list[str] = []
        self.options: list[list[str]] = []

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Answer, unless an option starts with what the tokenizer merges."""
        for option in (o for row in options for o in row):
            if option.startswith(self.merges):
                raise TokenBoundaryError(f"merged {option!r}")
        self.prompts, self.options = list(prompts), [list(row) for row in options]
        return [np.log(self.probabilities[: len(row)]) for row in options]


def show(i: int) -> str:
    """A question in the layout of Hendrycks et al. 2021."""
    return f"Question {i}?\nA. a{i}\nB. b{i}\nC. c{i}\nD. d{i}\nAnswer:"


def test_the_prompt_is_the_canonical_one(path: Path) -> None:
    """Header, question, lettered options, ``Answer:``, and letters with their space as options."""
    model = Scripted([0.25] * 4)
    MultipleChoice(path=path).run(model)
    assert model.prompts == [HEADER + show(i) for i in range(6)]
    assert model.options == [[" A", " B", " C", " D"]] * 6


def test_shots_are_solved_questions(path: Path, tmp_path: Path) -> None:
    """Each example ends in its letter and a blank line; then the question stands open."""
    example = rows(tmp_path / "dev.jsonl", [{**ROWS[1], "question": "Example?"}])
    probe = MultipleChoice(path=path, shots=1, shots_path=example)
    solved = "Example?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer: B\n\n"
    assert probe.prompt(probe.items[0]) == HEADER + solved + show(0)


@pytest.mark.parametrize("shots", range(6))
def test_no_question_is_shown_its_own_answer_and_none_is_left_out(path: Path, shots: int) -> None:
    """Every prompt has exactly the asked number of examples, none of which is the question."""
    model = Scripted([0.25] * 4)
    predictions = MultipleChoice(path=path, shots=shots).run(model)
    assert predictions.n == 6
    for i, prompt in enumerate(model.prompts):
        assert prompt.count(f"Question {i}?") == 1
        assert prompt.count("Answer:") == shots + 1
        assert prompt.endswith(show(i))
        for j in range(6):
            if j != i and f"Question {j}?" in prompt:
                assert f"{show(j)} {'ABCD'[j % 4]}\n\n" in prompt


@pytest.mark.parametrize("shots", [1, 5])
def test_a_question_that_occurs_twice_is_not_shown_its_own_answer(
    tmp_path: Path, shots: int
) -> None:
    """Equal rows, also with their options in another order, are one question as examples."""
    turned = [{**r, "options": r["options"][::-1], "answer": 3 - r["answer"]} for r in ROWS]
    model = Scripted([0.25] * 4)
    MultipleChoice(path=rows(tmp_path / "m.jsonl", [*ROWS, *ROWS, *turned]), shots=shots).run(model)
    for i, prompt in enumerate(model.prompts):
        assert prompt.count(f"Question {i % 6}?") == 1
        assert prompt.count("Answer:") == shots + 1


def test_an_example_file_that_holds_the_question_does_not_give_it_away(path: Path) -> None:
    """Examples from another file are compared with the question too."""
    model = Scripted([0.25] * 4)
    MultipleChoice(path=path, shots=3, shots_path=path).run(model)
    for i, prompt in enumerate(model.prompts):
        assert prompt.count(f"Question {i}?") == 1
        assert prompt.count("Answer:") == 4


@pytest.mark.parametrize(("shots", "own", "most"), [(-1, True, 5), (6, True, 5), (7, False, 6)])
def test_more_shots_than_examples_are_refused(path: Path, shots: int, own: bool, most: int) -> None:
    """One question fewer than there are where they are their own examples, else all."""
    shots_path = None if own else path
    with pytest.raises(UsageError, match=rf"shots must lie between 0 and {most}, .* got {shots}"):
        MultipleChoice(path=path, shots=shots, shots_path=shots_path)


def test_text_scoring_continues_the_options_themselves(path: Path) -> None:
    """Without letters there is no header, no list, and each option is what may follow."""
    model = Scripted([0.25] * 4)
    predictions = MultipleChoice(path=path, scoring="text").run(model)
    assert model.prompts[2] == "Question: Question 2?\nAnswer:"
    assert model.options[2] == [" a2", " b2", " c2", " d2"]
    letter = MultipleChoice(path=path).run(model)
    differing = {field for field, _, _ in predictions.signature.hard_differences(letter.signature)}
    assert differing == {"prompt", "scoring"}


def test_text_scoring_shows_answers_in_words(path: Path, tmp_path: Path) -> None:
    """An example is solved with the text of its right option."""
    example = rows(tmp_path / "dev.jsonl", [{**ROWS[1], "question": "Example?"}])
    probe = MultipleChoice(path=path, shots=1, shots_path=example, scoring="text")
    assert probe.prompt(probe.items[0]) == (
        "Question: Example?\nAnswer: b1\n\nQuestion: Question 0?\nAnswer:"
    )


def test_confidence_is_renormalised_over_the_options_and_the_mass_is_kept(path: Path) -> None:
    """0.2, 0.1, 0.05, 0.05: mass 0.4, confidence 0.5, and right where the first option is."""
    predictions = MultipleChoice(path=path).run(Scripted([0.2, 0.1, 0.05, 0.05]))
    assert predictions.confidence == pytest.approx([0.5] * 6)
    assert predictions.option_mass == pytest.approx([0.4] * 6)
    assert predictions.correct.tolist() == [i % 4 == 0 for i in range(6)]
    assert predictions.probabilities is not None
    assert predictions.probabilities[0] == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert predictions.label_logprobs == pytest.approx(np.log([0.5, 0.25, 0.125, 0.125, 0.5, 0.25]))


def test_questions_may_have_different_numbers_of_options(tmp_path: Path) -> None:
    """A question with fewer options is renormalised over its own; the others get no share."""
    content = [ROWS[0], {"question": "Yes?", "options": ["yes", "no"], "answer": 1}]
    model = Scripted([0.2, 0.3, 0.1, 0.4])
    predictions = MultipleChoice(path=rows(tmp_path / "m.jsonl", content)).run(model)
    assert model.options == [[" A", " B", " C", " D"], [" A", " B"]]
    assert predictions.confidence == pytest.approx([0.4, 0.6])
    assert predictions.probabilities is not None
    assert predictions.probabilities[1].tolist() == pytest.approx([0.4, 0.6, 0, 0])
    assert predictions.correct.tolist() == [False, True]


def test_options_without_their_space_are_the_second_choice(path: Path) -> None:
    """Where the tokenizer merges the space, the letter alone is scored; the signature says so."""
    model = Scripted([0.25] * 4, merges=(" ",))
    predictions = MultipleChoice(path=path).run(model)
    assert model.options == [["A", "B", "C", "D"]] * 6
    assert predictions.signature.soft["options"] == "without leading space"
    spaced = MultipleChoice(path=path).run(Scripted([0.25] * 4))
    assert spaced.signature.soft["options"] == "with leading space"
    assert spaced.signature.hard_differences(predictions.signature) == []


def test_where_both_ways_merge_the_error_arrives(path: Path) -> None:
    """No third way is tried in silence."""
    with pytest.raises(TokenBoundaryError, match="merged 'A'"):
        MultipleChoice(path=path).run(Scripted([0.25] * 4, merges=(" ", "A")))


def test_scores_that_are_no_numbers_never_become_predictions(path: Path) -> None:
    """A row of NaN is an error, not a confidence."""
    with pytest.raises(ValueError, match=r"NaN and infinity are no probabilities"):
        MultipleChoice(path=path).run(Scripted([np.nan] * 4))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"question": "Other?"}, id="question"),
        pytest.param({"options": ["a0", "b0", "c0", "e0"]}, id="option"),
        pytest.param({"options": ["b0", "a0", "c0", "d0"]}, id="order"),
        pytest.param({"answer": 3}, id="answer"),
        pytest.param({"id": "other"}, id="id"),
    ],
)
def test_an_edited_row_is_another_item(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever changes what is asked or what is right changes the id, own id or not."""
    content = [{**ROWS[0], "id": "mine"}, ROWS[1]]
    before = MultipleChoice(path=rows(tmp_path / "m.jsonl", content)).run(FakeModel()).item_ids
    content[0] = {**content[0], **change}
    after = MultipleChoice(path=rows(tmp_path / "m.jsonl", content)).run(FakeModel()).item_ids
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_rows_that_occur_twice_are_two_items(tmp_path: Path) -> None:
    """Equal rows have ids of their own, so that both are scored and paired."""
    path = rows(tmp_path / "m.jsonl", [*ROWS, *ROWS])
    predictions = MultipleChoice(path=path).run(FakeModel())
    assert (predictions.n, len(set(predictions.item_ids.tolist()))) == (12, 12)
    once = MultipleChoice(path=rows(tmp_path / "n.jsonl", ROWS)).run(FakeModel())
    assert np.array_equal(predictions.item_ids[:6], once.item_ids)


def prompt_digest(**settings: object) -> str:
    """What the hard signature says about the prompt."""
    probe = MultipleChoice(**settings)  # type: ignore[arg-type]
    return probe.run(FakeModel(), limit=1).signature.hard["prompt"]


def test_the_prompt_digest_covers_all_that_stands_around_a_question(
    path: Path, tmp_path: Path
) -> None:
    """Header, template, examples and their answers: each change makes runs not comparable."""
    dev = rows(tmp_path / "dev.jsonl", ROWS[:2])
    solved = rows(tmp_path / "solved.jsonl", [{**row, "answer": 2} for row in ROWS[:2]])
    digests = [
        prompt_digest(path=path),
        prompt_digest(path=path, header=""),
        prompt_digest(path=path, template="{question}\n{options}\nA:"),
        prompt_digest(path=path, shots=2),
        prompt_digest(path=path, shots=2, shots_path=dev),
        prompt_digest(path=path, shots=2, shots_path=solved),
    ]
    assert len(set(digests)) == len(digests)
    assert prompt_digest(path=path) == digests[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": "word"}, r"scoring must be one of letter, text, got 'word'"),
        ({"template": "{question}"}, r"the template '\{question\}' lacks \{options\}"),
        ({"template": "{options}"}, r"the template '\{options\}' lacks \{question\}"),
        ({"template": "x", "scoring": "text"}, r"the template 'x' lacks \{question\}"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    path: Path, settings: dict[str, str], message: str
) -> None:
    """The message names the probe, the setting and the value."""
    with pytest.raises(UsageError, match=rf"probe 'mine': {message}"):
        MultipleChoice("mine", path=path, **settings)  # type: ignore[arg-type]


def test_text_in_braces_is_left_as_it_is(tmp_path: Path) -> None:
    """A question about {code} is shown as it stands: a template fills its own fields only."""
    row = {"question": "What is {x} in {options}?", "options": ["{question}", "{0}"], "answer": 0}
    path = rows(tmp_path / "m.jsonl", [row])
    model = Scripted([0.5, 0.5])
    MultipleChoice(path=path, header="{y}\n").run(model)
    assert model.prompts == ["{y}\nWhat is {x} in {options}?\nA. {question}\nB. {0}\nAnswer:"]


def test_the_built_in_questions_can_be_shown_with_shots() -> None:
    """The packaged questions serve as their own examples."""
    probe = MultipleChoice(shots=5)
    assert probe.prompt(probe.items[0]).count("Answer:") == 6


def test_too_few_options_scored_is_an_error(path: Path) -> None:
    """A model that scores three of four options would change the confidence of all."""
    with pytest.raises(ProbeError, match=r"3 of 4 options of 'Question 0.' were scored; none may"):
        MultipleChoice(path=path).run(Scripted([0.2, 0.2, 0.2]))


def noted(path: Path, probabilities: Sequence[float], **settings: object) -> tuple[str, ...]:
    """What the probe says of scores that every question gets."""
    probe = MultipleChoice(path=path, **settings)  # type: ignore[arg-type]
    return probe.run(Scripted(probabilities)).notes


@pytest.mark.parametrize(
    ("share", "held"), [(1.0, None), (0.011, None), (0.009, "0.00900"), (1.2e-5, "0.00001")]
)
def test_letters_that_hold_no_probability_are_told(
    path: Path, share: float, held: str | None
) -> None:
    """Below a mass of 0.01 the prompt does not lead to the letters; what to try is said."""
    notes = noted(path, [share / 4] * 4)
    expected = (
        f"the options hold {held} of the probability (median): the prompt does not lead to them, "
        "and confidence says little; try chat: true for a model that was trained on chats, or "
        "another delimiter."
    )
    assert notes == ((expected,) if held else ())


def test_half_of_the_questions_decide_whether_it_is_told(path: Path) -> None:
    """The mass of one question, large or small, says nothing of the prompt."""

    class Mixed(Scripted):
        def option_logprobs(
            self, prompts: Sequence[str], options: Sequence[Sequence[str]]
        ) -> list[NDArray[np.float64]]:
            rows = super().option_logprobs(prompts, options)
            return [row - 20 * (i < self.small) for i, row in enumerate(rows)]

    for small, told in ((2, False), (4, True)):
        model = Mixed([0.25] * 4)
        model.small = small  # type: ignore[attr-defined]
        assert bool(MultipleChoice(path=path).run(model).notes) is told


@pytest.mark.parametrize(
    ("options", "least"),
    [
        (["a", "b"], 0.01),
        (["paris", "rome"], 0.01 * np.exp(-3)),
        (["巴黎", "罗马"], 0.01 * np.exp(-5)),
        (["a whole sentence", "and another, longer one"], 0.01 * np.exp(-15)),
        (["x" * 2000, "y" * 3000], 0.0),
    ],
)
def test_longer_texts_may_be_less_likely(tmp_path: Path, options: list[str], least: float) -> None:
    """One nat for each byte of the shortest option after the first is no sign of a bad prompt."""
    path = rows(tmp_path / "q.jsonl", [{"question": "Q?", "options": options, "answer": 0}])
    assert noted(path, [least * 0.51 + 1e-300] * 2, scoring="text") == ()
    assert bool(noted(path, [least * 0.49 + 1e-300] * 2, scoring="text")) == (least > 0)


def test_letters_are_one_byte_however_long_their_options_are(tmp_path: Path) -> None:
    """What is scored counts, not what is shown."""
    row = {"question": "Q?", "options": ["a whole sentence", "and another"], "answer": 0}
    assert noted(rows(tmp_path / "q.jsonl", [row]), [1e-4] * 2)


@pytest.mark.parametrize(
    ("normalise", "length"),
    [("none", [1, 1, 1]), ("characters", [5, 7, 15]), ("bytes", [5, 14, 15])],
)
def test_scores_may_be_divided_by_the_length_of_an_option(
    tmp_path: Path, normalise: Any, length: list[int]
) -> None:
    """Each option's log-probability by its characters or bytes, then the soft-max over them."""
    row = {"question": "q?", "options": ["short", "ééééééé", "a longer option"], "answer": 1}
    path = rows(tmp_path / "rows.jsonl", [row])
    scores = np.array([0.006, 0.001, 0.000002])
    probe = MultipleChoice("mcq", path=path, scoring="text", normalise=normalise)
    made = probe.run(Scripted(scores.tolist()))
    weights = np.exp(np.log(scores) / length)
    assert made.probabilities is not None
    np.testing.assert_allclose(made.probabilities[0], weights / weights.sum(), rtol=1e-12)
    assert made.option_mass is not None
    assert made.option_mass[0] == pytest.approx(scores.sum())
    per = {"none": "", "characters": ", log-probability per character"}
    told = per.get(normalise, ", log-probability per byte")
    assert made.signature.hard["scoring"] == f"softmax over text options{told}"


SLICED = [
    {"question": f"{s} {i}?", "options": ["yes", f"no {i}"], "answer": i % 2, "slice": s}
    for i in range(4)
    for s in ("world_history", "law")
]


def test_the_header_names_the_slice_of_a_question(tmp_path: Path) -> None:
    """Underscores are shown as spaces; a question without a slice is an error."""
    path = rows(tmp_path / "rows.jsonl", SLICED)
    probe = MultipleChoice("mcq", path=path, header="About {slice}.\n\n")
    assert [probe.prompt(item).partition("\n")[0] for item in probe.items[:2]] == [
        "About world history.",
        "About law.",
    ]
    assert probe.conversation(probe.items[1])[0] == {"role": "system", "content": "About law."}
    rows(path, [*SLICED, {**SLICED[0], "slice": None}])
    with pytest.raises(UsageError, match=r"'mcq': the header holds \{slice\}, and not every quest"):
        MultipleChoice("mcq", path=path, header="About {slice}.\n\n")


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, True),
        ({"header": "About {slice}."}, False),
        ({"shots": 1, "shots_by_slice": True, "shots_path": "all.jsonl"}, False),
    ],
)
def test_a_slice_that_makes_the_prompt_makes_the_item(
    tmp_path: Path, settings: dict[str, Any], same: bool
) -> None:
    """A question that moved to another slice is another one where its prompt is."""
    path = rows(tmp_path / "all.jsonl", SLICED)
    if "shots_path" in settings:
        settings = settings | {"shots_path": path}
    ids = [
        MultipleChoice(
            "mcq", path=rows(tmp_path / "rows.jsonl", [SLICED[0] | {"slice": slice_}]), **settings
        ).ids()
        for slice_ in ("law", "world_history")
    ]
    assert np.array_equal(*ids) == same


def test_examples_may_be_those_of_a_slice_in_the_order_of_the_file(tmp_path: Path) -> None:
    """The first others of its own slice, as they stand there, and never itself."""
    path = rows(tmp_path / "rows.jsonl", SLICED)
    probe = MultipleChoice("mcq", path=path, shots=2, shots_order="file", shots_by_slice=True)
    shown = {
        item.question: re.findall(r"(\w+ \d)\?", probe.prompt(item))[:2] for item in probe.items
    }
    assert shown["law 0?"] == ["law 1", "law 2"]
    assert shown["law 1?"] == ["law 0", "law 2"]
    assert shown["world_history 3?"] == ["world_history 0", "world_history 1"]
    other = MultipleChoice("mcq", path=path, shots=2, shots_order="file")
    assert re.findall(r"(\w+ \d)\?", other.prompt(other.items[7]))[:2] == [
        "world_history 0",
        "law 0",
    ]
    digests = {one.run(Scripted([0.5, 0.4])).signature.hard["prompt"] for one in (probe, other)}
    assert len(digests) == 2
    message = "shots must lie between 0 and 3, the number of examples there are of 'world_history'"
    with pytest.raises(UsageError, match=message):
        MultipleChoice("mcq", path=path, shots=4, shots_by_slice=True)


def test_a_slice_without_examples_is_an_error(tmp_path: Path) -> None:
    """It is named, with the number of examples that there are of it."""
    path = rows(tmp_path / "rows.jsonl", SLICED)
    some = rows(tmp_path / "shots.jsonl", [row for row in SLICED if row["slice"] == "law"])
    with pytest.raises(UsageError, match=r"between 0 and 0, .* of 'world_history', got 1"):
        MultipleChoice("mcq", path=path, shots=1, shots_path=some, shots_by_slice=True)


def test_a_split_of_examples_needs_a_data_set(path: Path) -> None:
    """A file has no splits."""
    with pytest.raises(UsageError, match="shots_split names a split of the probe's dataset"):
        MultipleChoice("mcq", path=path, shots=1, shots_split="dev")


def test_shuffled_options_keep_their_answer_and_lose_its_place(tmp_path: Path) -> None:
    """The order is made of the texts: the same in every run, whatever the order in the file."""
    content = [
        {"question": f"q{i}?", "options": ["right", "a", "b", "c"], "answer": 0} for i in range(200)
    ]
    turned = [{**row, "options": ["a", "c", "right", "b"], "answer": 2} for row in content]
    one = MultipleChoice("mcq", path=rows(tmp_path / "one.jsonl", content), shuffle=True)
    other = MultipleChoice("mcq", path=rows(tmp_path / "other.jsonl", turned), shuffle=True)
    assert one.items == other.items
    assert {item.options[item.answer] for item in one.items} == {"right"}
    places = np.bincount([item.answer for item in one.items], minlength=4)
    # Four places alike: each holds 50 of 200, give or take six standard deviations.
    assert np.all(np.abs(places - 50) < 6 * np.sqrt(200 * 0.25 * 0.75))


def test_questions_of_a_table_hold_their_options_as_json(tmp_path: Path) -> None:
    """A cell of options is a JSON list, the answer a number; commas and line ends may be quoted."""
    path = tmp_path / "mcq.csv"
    path.write_text(
        'question,options,answer,slice\n"Which, of\nthese?","[""a"", ""b, c""]",1,law\n\n'
        'Next?,"[""d"", ""e""]",0,\n',
        encoding="utf-8-sig",
    )
    probe = MultipleChoice("mcq", path=path)
    assert [(q.question, q.options, q.answer, q.slice) for q in probe.items] == [
        ("Which, of\nthese?", ("a", "b, c"), 1, "law"),
        ("Next?", ("d", "e"), 0, None),
    ]
