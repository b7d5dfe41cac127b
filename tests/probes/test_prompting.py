"""Prompts and what may follow them: delimiters, white space, chats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeModel
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_calibration import Facts, MultipleChoice
from pytest_calibration.errors import ModelError, TokenBoundaryError, UsageError
from pytest_calibration.models.protocols import (
    ChatModel,
    Choose,
    Generation,
    Message,
    NextTokenScores,
)
from pytest_calibration.predictions import Predictions, digest
from pytest_calibration.probes.prompting import Prompting, described

QUESTION = {"question": "Q?", "options": ["paris", "rome"], "answer": 0}
FACT = {"prompt": "The capital is", "answer": "Paris"}
HEADER = "The following are multiple choice questions (with answers)."


def rows(path: Path, *content: Mapping[str, object]) -> Path:
    """Write rows."""
    path.write_text("\n".join(json.dumps(row) for row in content), encoding="utf-8")
    return path


class Asked(FakeModel):
    """Notes what it was asked; refuses continuations that a tokenizer would merge."""

    def __init__(self, merges: tuple[str, ...] = ()) -> None:
        super().__init__("asked")
        self.merges = merges
        self.questions: list[tuple[str, list[str]]] = []
        self.texts: list[str] = []
        self.prompts: list[str] = []

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Note prompts and continuations."""
        if any(option.startswith(self.merges) for row in options for option in row if self.merges):
            raise TokenBoundaryError("merged")
        self.questions = [(p, list(row)) for p, row in zip(prompts, options, strict=True)]
        return super().option_logprobs(prompts, options)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Note the texts; every character is a token."""
        self.texts = list(texts)
        out = []
        for i, text in enumerate(texts):
            spans = np.array([(j, j + 1) for j in range(1, len(text))], dtype=np.int64)
            index = np.arange(len(spans)) if choose is None else choose(i, spans)
            zeros = np.zeros(len(index))
            hit = zeros.astype(np.bool_)
            top = ["x"] * len(index)
            out.append(NextTokenScores(spans[index], zeros + 0.5, hit, zeros - 1.0, index, top))
        return out

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Note the prompts."""
        self.prompts = list(prompts)
        return super().generate(prompts, max_new_tokens=max_new_tokens)


class Chatting(Asked):
    """A model with a chat template, whose opening it is given."""

    def __init__(self, opening: str = "<s>", merges: tuple[str, ...] = ()) -> None:
        super().__init__(merges)
        self.opening = opening
        self.special: list[bool] = []
        self.variables: Mapping[str, object] = {}

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """Write each turn as ``[role: content]``."""
        self.variables = variables
        turns = ["".join(f"[{m['role']}: {m['content']}]" for m in chat) for chat in chats]
        return [f"{self.opening}{text}[assistant:\n" for text in turns]

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """Note whether the prompts are whole."""
        self.special.append(add_special_tokens)
        return super().option_logprobs(prompts, options)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None, add_special_tokens: bool = True
    ) -> list[NextTokenScores]:
        """Note whether the texts are whole."""
        self.special.append(add_special_tokens)
        return super().next_token(texts, choose=choose)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """Note whether the prompts are whole."""
        self.special.append(add_special_tokens)
        return super().generate(prompts, max_new_tokens=max_new_tokens)


# --- white space ---------------------------------------------------------------------------------

SPACED = "with leading space"
BARE = "without leading space"


@pytest.mark.parametrize(
    ("delimiter", "prompt", "option", "asked", "gap"),
    [
        pytest.param(None, "A:", "x", ("A:", " x"), SPACED, id="default"),
        pytest.param(None, "A: ", "x", ("A:", " x"), SPACED, id="prompt ends in a space"),
        pytest.param(None, "A:", " x", ("A:", " x"), SPACED, id="option begins with a space"),
        pytest.param(None, "A: ", " x", ("A:", "  x"), "after '  '", id="both, as they stand"),
        pytest.param(None, "A:  ", "x", ("A:", "  x"), "after '  '", id="two of the prompt's own"),
        pytest.param(None, "A:\n", "x", ("A:\n", "x"), BARE, id="line end"),
        pytest.param(None, "A:\r\n", "x", ("A:\r\n", "x"), BARE, id="line end of Windows"),
        pytest.param(None, "A:\n ", "x", ("A:\n", " x"), SPACED, id="line end and space"),
        pytest.param(None, "A:\t", "x", ("A:", "\tx"), r"after '\t'", id="tab"),
        pytest.param(None, "A:", "\tx", ("A:", "\tx"), r"after '\t'", id="option's tab"),
        pytest.param(None, "A:", "\nx", ("A:", "\nx"), r"after '\n'", id="option's line end"),
        pytest.param(
            None, "答：\u3000", "甲", ("答：", "\u3000甲"), r"after '\u3000'", id="wide space"
        ),
        pytest.param(None, "A:\u00a0", "x", ("A:", "\u00a0x"), r"after '\xa0'", id="no-break"),
        pytest.param("", "答：", "甲", ("答：", "甲"), BARE, id="none"),
        pytest.param("", "A: ", "x", ("A:", " x"), SPACED, id="none beside the prompt's own"),
        pytest.param("", "A:", " x", ("A:", " x"), SPACED, id="none beside the option's own"),
        pytest.param(" ", "A:", "x", ("A:", " x"), SPACED, id="space"),
        pytest.param(" ", "A: ", "x", ("A:", " x"), SPACED, id="space, prompt ends in one"),
        pytest.param(" ", "A:\t", "x", ("A:", "\tx"), r"after '\t'", id="space after a tab"),
        pytest.param(" ", "A:", " x", ("A:", " x"), SPACED, id="space, option begins with one"),
        pytest.param(" ", "A:\n", "x", ("A:\n", " x"), SPACED, id="a space after a line end"),
        pytest.param("\n", "A:", "x", ("A:\n", "x"), r"after '\n'", id="delimiter: line end"),
        pytest.param("\n", "A:", "  x", ("A:\n", "  x"), r"after '\n  '", id="indented option"),
        pytest.param(": ", "A", "x", ("A:", " x"), "after ': '", id="more than white space"),
        pytest.param(": ", "A", " x", ("A:", " x"), "after ': '", id="the same, one space"),
        pytest.param("：", "A", "x", ("A：", "x"), "after '：'", id="wide colon"),
    ],
)
def test_white_space_stands_once(
    delimiter: str | None, prompt: str, option: str, asked: tuple[str, str], gap: str
) -> None:
    """No second white space is put in; a space is scored with the option, all else is prompt."""
    joined = Prompting("p", delimiter, False).joined(prompt, [option])
    assert (joined.prompt, *joined.continuations) == asked
    assert described(joined.gaps) == gap


def test_options_with_and_without_a_space_of_their_own_share_their_prompt() -> None:
    """Each has one space; what only some of them have is part of none of the prompts."""
    joined = Prompting("p", None, False).joined("A:", ["x", " y", "\tz"])
    assert joined.prompt == "A:"
    assert joined.continuations == [" x", " y", "\tz"]
    assert described(joined.gaps) == r"after '\t' or ' '"
    joined = Prompting("p", "\n", False).joined("A:", ["x", " y"])
    assert (joined.prompt, joined.continuations) == ("A:\n", ["x", " y"])


def test_a_signature_stays_short() -> None:
    """Whatever the options begin with, and whatever the delimiter."""
    assert described([" ", "\t", "  ", "   ", "    "]) == r"after '\t' or ' ' or '  ' or 2 more"
    assert described(["\n" + "x" * 1000]) == rf"after '\n{'x' * 39}'..."


WHITE = st.text(alphabet=" \t\n\r\u3000\u00a0\x0b\x85", max_size=3)


@given(
    delimiter=st.none() | WHITE | st.sampled_from([":", ": ", "\n", "→"]),
    end=WHITE,
    begins=st.lists(WHITE, min_size=1, max_size=3),
    again=st.booleans(),
)
def test_no_text_is_lost_and_no_white_space_doubled(
    delimiter: str | None, end: str, begins: list[str], again: bool
) -> None:
    """The text is prompt, then at most the delimiter, then the option, wherever it is cut.

    White space is put in only where there is none within the line.
    """
    options = [f"{begin}x" for begin in begins]
    joined = Prompting("p", delimiter, False).joined(f"A{end}", options, again=again)
    put = " " if delimiter is None else delimiter
    for option, rest, gap in zip(options, joined.continuations, joined.gaps, strict=True):
        text = joined.prompt + rest
        assert text.startswith(f"A{end}")
        assert text.endswith(option)
        between = text[1 + len(end) : len(text) - len(option)]
        assert between in (put, put.lstrip(), put.rstrip(), put.strip()) or between in put
        if delimiter is None:
            assert between == "" or not (end or option[0].isspace() or again)
        assert text.endswith(f"{gap}x"), "what the signature names is what is there"


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        pytest.param({}, [("A:", ["x"])], id="default: no space"),
        pytest.param({"delimiter": " "}, [("A: ", ["x"])], id="a space that was asked for stays"),
    ],
)
def test_where_the_tokenizer_merges_the_space(
    tmp_path: Path, settings: dict[str, Any], asked: list[tuple[str, list[str]]]
) -> None:
    """The default gives up its space; one that was asked for is read with the prompt."""
    path = rows(tmp_path / "q.jsonl", QUESTION)
    model = Asked(merges=(" ",))
    probe = MultipleChoice("q", path=path, scoring="text", template="{question}\nA:", **settings)
    predictions = probe.run(model)
    ((prompt, options),) = model.questions
    assert prompt.removeprefix("Q?\n") == asked[0][0]
    assert options == ["paris", "rome"]
    assert predictions.signature.soft["options"] == (SPACED if settings else BARE)


@pytest.mark.parametrize("settings", [{}, {"delimiter": "\n"}], ids=["template's", "asked for"])
def test_where_the_tokenizer_merges_a_line_end(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The same text is scored, with the line end as part of the option."""
    path = rows(tmp_path / "q.jsonl", QUESTION)
    template = "{question}\nA:" if settings else "{question}\nA:\n"
    model = Asked(merges=("paris",))
    probe = MultipleChoice("q", path=path, scoring="text", template=template, **settings)
    predictions = probe.run(model)
    assert model.questions == [("Q?\nA:", ["\nparis", "\nrome"])]
    assert predictions.signature.soft["options"] == (r"after '\n'" if settings else BARE)


def test_a_template_with_a_space_is_asked_as_one_without(tmp_path: Path) -> None:
    """A space at the end of the template is the space before the options, in examples too."""
    path = rows(tmp_path / "q.jsonl", QUESTION, {**QUESTION, "question": "R?"})
    asked = []
    for template in ("{question}\nAnswer:", "{question}\nAnswer: "):
        model = Asked()
        predictions = MultipleChoice(
            "q", path=path, scoring="text", template=template, shots=1
        ).run(model)
        asked.append((model.questions, predictions.signature.soft["options"]))
    assert asked[0] == asked[1]
    assert asked[0][0][0] == ("R?\nAnswer: paris\n\nQ?\nAnswer:", [" paris", " rome"])


# --- delimiter -----------------------------------------------------------------------------------


def test_questions_without_spaces(tmp_path: Path) -> None:
    """With ``delimiter: ""`` nothing stands before an answer, in examples too."""
    one = {"question": "法国的首都？", "options": ["巴黎", "罗马"], "answer": 0}
    path = rows(tmp_path / "q.jsonl", one, {**one, "question": "意大利的首都？", "answer": 1})
    probe = MultipleChoice(
        "q", path=path, scoring="text", template="{question}答：", delimiter="", shots=1
    )
    model = Asked()
    predictions = probe.run(model)
    assert model.questions[0] == ("意大利的首都？答：罗马\n\n法国的首都？答：", ["巴黎", "罗马"])
    assert predictions.signature.soft["options"] == "without leading space"
    assert predictions.signature.hard["delimiter"] == "''"


@pytest.mark.parametrize("mode", ["first_token", "whole_entity"])
@pytest.mark.parametrize(
    ("settings", "row", "text", "edge"),
    [
        ({}, FACT, "The capital is Paris", 14),
        ({}, {**FACT, "prompt": "The capital is  "}, "The capital is Paris", 14),
        ({}, {**FACT, "answer": " Paris"}, "The capital is Paris", 14),
        ({}, {**FACT, "prompt": "Capital:\n"}, "Capital:\nParis", 9),
        ({}, {**FACT, "prompt": "Capital:\t"}, "Capital:\tParis", 8),
        ({"delimiter": ""}, {"prompt": "首都是", "answer": "巴黎"}, "首都是巴黎", 3),
        ({"delimiter": ""}, {**FACT, "prompt": "The capital is "}, "The capital is Paris", 14),
        ({"delimiter": "\n"}, FACT, "The capital is\nParis", 15),
        ({"delimiter": " "}, FACT, "The capital is Paris", 14),
    ],
)
def test_facts_and_their_delimiter(
    tmp_path: Path,
    mode: Any,
    settings: dict[str, Any],
    row: dict[str, str],
    text: str,
    edge: int,
) -> None:
    """Statement, delimiter once, entity; the entity begins with its space, after a line end."""
    model = Asked()
    Facts("f", path=rows(tmp_path / "f.jsonl", row), mode=mode, **settings).run(model)
    assert model.texts == [text]
    assert mode == "first_token" or model.prompts == [text[:edge]]


def signature(probe: Any, model: Any = None) -> dict[str, str]:
    """The hard signature of a probe."""
    predictions: Predictions = probe.run(model or Asked())
    return dict(predictions.signature.hard)


def test_the_default_delimiter_is_in_no_signature(tmp_path: Path) -> None:
    """Baselines without the field stay comparable; another delimiter is not comparable."""
    questions = rows(tmp_path / "q.jsonl", QUESTION)
    facts = rows(tmp_path / "f.jsonl", FACT)
    assert signature(MultipleChoice("q", path=questions)) == {
        "kind": "multiple_choice",
        "scoring": "softmax over letter options",
        "shots": "0",
        "prompt": digest(f"{HEADER}\n\n", "{question}\n{options}\nAnswer:", size=4),
    }
    assert signature(Facts("f", path=facts)) == {
        "kind": "facts",
        "mode": "first_token",
        "scoring": "argmax over the full vocabulary",
        "prompt": "09f721bd",
    }
    for make, path in ((MultipleChoice, questions), (Facts, facts)):
        default = signature(make("p", path=path))
        assert signature(make("p", path=path, delimiter=" ")) == default
        assert signature(make("p", path=path, delimiter="")) == {**default, "delimiter": "''"}
        assert signature(make("p", path=path, delimiter="\n"))["delimiter"] == r"'\n'"


# --- chats ---------------------------------------------------------------------------------------


def test_a_question_is_a_chat(tmp_path: Path) -> None:
    """Header from the system, examples as turns, then the question; the letter follows at once."""
    path = rows(tmp_path / "q.jsonl", QUESTION, {**QUESTION, "question": "R?", "answer": 1})
    model = Chatting()
    assert isinstance(model, ChatModel)
    predictions = MultipleChoice("q", path=path, chat=True, shots=1).run(model)
    shown = "\nA. paris\nB. rome\nAnswer:"
    assert model.questions[0] == (
        f"<s>[system: {HEADER}][user: R?{shown}][assistant: B][user: Q?{shown}][assistant:\n",
        ["A", "B"],
    )
    assert model.special == [False]
    assert predictions.signature.soft["options"] == "without leading space"


def test_a_chat_without_a_header_has_no_turn_of_the_system(tmp_path: Path) -> None:
    """An empty header is not said; options are texts where they are scored as such."""
    path = rows(tmp_path / "q.jsonl", QUESTION)
    model = Chatting()
    MultipleChoice("q", path=path, chat=True, scoring="text", template="{question}").run(model)
    assert model.questions == [("<s>[user: Q?][assistant:\n", ["paris", "rome"])]


@pytest.mark.parametrize("mode", ["first_token", "whole_entity"])
def test_a_statement_is_a_turn_of_the_user(tmp_path: Path, mode: Any) -> None:
    """The entity is what the assistant says first."""
    model = Chatting()
    Facts("f", path=rows(tmp_path / "f.jsonl", FACT), mode=mode, chat=True).run(model)
    assert model.texts == ["<s>[user: The capital is][assistant:\nParis"]
    assert set(model.special) == {False}
    assert mode == "first_token" or model.prompts == ["<s>[user: The capital is][assistant:\n"]


def test_a_chat_with_a_delimiter(tmp_path: Path) -> None:
    """A space that was asked for stands after the template, and in examples."""
    path = rows(tmp_path / "q.jsonl", QUESTION, {**QUESTION, "question": "R?", "answer": 1})
    model = Chatting()
    probe = MultipleChoice("q", path=path, chat=True, delimiter=" ", shots=1, header="")
    hard = signature(probe, model)
    assert "[assistant:  B]" in model.questions[0][0]
    assert model.questions[0][1] == [" A", " B"]
    assert hard["delimiter"] == "' '"
    assert "delimiter" not in signature(MultipleChoice("q", path=path, chat=True), model)


@pytest.mark.parametrize("kind", [MultipleChoice, Facts])
def test_what_the_template_says_is_in_the_signature(tmp_path: Path, kind: Any) -> None:
    """Chat or none, and templates that render otherwise, are not comparable."""
    row = QUESTION if kind is MultipleChoice else FACT
    path = rows(tmp_path / "rows.jsonl", row)
    plain = signature(kind("p", path=path), Chatting())
    chats = [signature(kind("p", path=path, chat=True), Chatting(o)) for o in ("", "<s>", "")]
    assert "chat" not in plain
    assert {k: v for k, v in chats[0].items() if k != "chat"} == plain
    assert chats[0] == chats[2]
    assert chats[0]["chat"] != chats[1]["chat"]
    assert chats[0]["chat"].startswith("template ")


def test_variables_reach_the_template(tmp_path: Path) -> None:
    """``chat: {enable_thinking: false}`` is a chat with that variable."""
    model = Chatting()
    path = rows(tmp_path / "q.jsonl", QUESTION)
    MultipleChoice("q", path=path, chat={"enable_thinking": False}).run(model)
    assert model.variables == {"enable_thinking": False}
    assert model.special == [False]


@pytest.mark.parametrize("kind", [MultipleChoice, Facts])
def test_a_model_without_chats_is_named(tmp_path: Path, kind: Any) -> None:
    """An own model that cannot render a chat gets one sentence."""
    path = rows(tmp_path / "r.jsonl", QUESTION if kind is MultipleChoice else FACT)
    with pytest.raises(ModelError, match=r"^asked: the probe 'p' asks in a chat, .* render_chat"):
        kind("p", path=path, chat=True).run(Asked())


def test_what_a_model_of_ones_own_gets_wrong_is_named(tmp_path: Path) -> None:
    """Too few texts, or a method that cannot be told that a text is whole: one sentence each."""

    class Short(Chatting):
        def render_chat(self, *args: Any) -> list[str]:
            return super().render_chat(*args)[1:]

    class Untold(Asked):
        render_chat = Chatting.render_chat
        opening = ""

    path = rows(tmp_path / "q.jsonl", QUESTION)
    probe = MultipleChoice("q", path=path, chat=True)
    with pytest.raises(ModelError, match="asked: render_chat returned 0 texts for 1 conversations"):
        probe.run(Short())
    with pytest.raises(ModelError, match="its option_logprobs takes no add_special_tokens, which"):
        probe.run(Untold())


@pytest.mark.parametrize("kind", [MultipleChoice, Facts])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"delimiter": 1}, r"the delimiter must be text \('' for none\), got 1"),
        ({"delimiter": False}, r"the delimiter must be text .* got False"),
        ({"chat": "yes"}, r"chat must be true, false or variables .* got 'yes'"),
        ({"chat": None}, r"chat must be true, false or .* got None"),
        ({"chat": 1}, r"chat must be true, false or .* got 1"),
        ({"chat": {1: 2}}, r"chat must be true, false or .* by name, got \{1: 2\}"),
    ],
)
def test_settings_of_another_type_are_refused(
    kind: Any, setting: dict[str, Any], message: str
) -> None:
    """The message names probe, setting and value."""
    with pytest.raises(UsageError, match=f"probe 'mine': {message}"):
        kind("mine", **setting)


def test_options_that_hold_nothing_in_a_chat_are_told_what_to_try_there(tmp_path: Path) -> None:
    """A chat whose options hold nothing is not told to become one."""

    class Unlikely(Chatting):
        def option_logprobs(self, *args: Any, **more: Any) -> list[NDArray[np.float64]]:
            return [row - 20 for row in super().option_logprobs(*args, **more)]

    path = rows(tmp_path / "q.jsonl", QUESTION)
    (note,) = MultipleChoice("q", path=path, chat=True).run(Unlikely()).notes
    assert note.endswith("try another delimiter, or other variables of the chat template.")
    assert "hold less than 0.00001 of the probability (median)" in note
