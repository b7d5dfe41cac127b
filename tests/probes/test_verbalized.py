"""Stated confidence: how it is asked for, read, and judged where it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from answering import Answering, ChatAnswering
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import Verbalized
from pytest_calibration.errors import ProbeError
from pytest_calibration.metrics import brier, ece
from pytest_calibration.probes.stated_confidence import Asking, Stated, probability

PERU = {"question": "Capital of Peru?", "answer": "Lima"}
CHAD = {"question": "Capital of Chad?", "answer": "N'Djamena"}


def rows(folder: Path, *content: Mapping[str, object]) -> Path:
    """Write rows."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Fractions.
        ("0.95", 0.95),
        (".95", 0.95),
        ("0,95", 0.95),
        (",95", 0.95),
        ("1", 1.0),
        ("1.0", 1.0),
        ("0", 0.0),
        ("0.0", 0.0),
        ("1.000", 1.0),
        # Percentages.
        ("95%", 0.95),
        ("95 %", 0.95),
        ("95 percent", 0.95),
        ("95 per cent", 0.95),
        ("95 Percent", 0.95),
        ("95.5%", 0.955),
        ("95,5 %", 0.955),
        ("1%", 0.01),
        ("0.95%", 0.0095),
        ("100%", 1.0),
        ("0%", 0.0),
        # Whole numbers above 1.
        ("95", 0.95),
        ("2", 0.02),
        ("100", 1.0),
        # Around the number.
        ("about 90 %", 0.9),
        ("around 0.9", 0.9),
        ("approximately 90 percent", 0.9),
        ("Roughly 0.9", 0.9),
        ("~0.9", 0.9),
        ("≈ 90%", 0.9),
        (" 0.9 ", 0.9),
        ("0.9.", 0.9),
        ("1.", 1.0),
        ("90%.", 0.9),
        ("**0.9**", 0.9),
        ("`0.9`", 0.9),
        ("９５％", 0.95),
        ("\n0.9\n", 0.9),
    ],
)
def test_a_probability_is_read(text: str, value: float) -> None:
    """Each member of the grammar."""
    assert probability(text) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "high",
        "very likely",
        "ninety",
        "9/10",
        "9 out of 10",
        "90-95%",
        "0.9 to 0.95",
        "1.5",
        "1.01",
        "95.5",
        "95,5",
        "101",
        "120%",
        "-0.1",
        "+0.9",
        "0.9 (sure)",
        "p = 0.9",
        "0.9 0.8",
        "<0.9",
        "more than 0.9",
        "nan",
        "inf",
        "1e-1",
        "..9",
        "0.9.1",
        "1,000.5",
        "% 95",
        "95 % %",
        "about",
        "٩٥",
        "0.9\n0.8",
    ],
)
def test_what_is_no_probability_is_not_read(text: str) -> None:
    """Words, ranges, ratios, comments, and numbers beyond the bounds."""
    assert probability(text) is None


@given(st.text(max_size=12))
def test_what_is_read_lies_between_0_and_1(text: str) -> None:
    """Whatever is written."""
    value = probability(text)
    assert value is None or 0 <= value <= 1


@given(st.integers(0, 100))
def test_all_ways_to_write_a_percentage_agree(percent: int) -> None:
    """As a fraction, with a point or a comma, with a sign or in words."""
    ways = [f"{percent}%", f"{percent} percent", f"{percent / 100:.2f}"]
    ways.append(ways[-1].replace(".", ","))
    if percent != 1:
        ways.append(str(percent))
    for way in ways:
        assert probability(way) == pytest.approx(percent / 100, abs=1e-12)


ONE = Asking("top_1")
TWO = Asking("top_k", 2)
TAG = Asking("tag")


@pytest.mark.parametrize(
    ("form", "text", "stated"),
    [
        (ONE, "Guess: Lima\nProbability: 0.8", ("Lima", 0.8)),
        (ONE, "Sure!\n\nGuess: Lima\n\nProbability: 80 %\nBye", ("Lima", 0.8)),
        (ONE, "**Guess:** Lima\n**Probability:** 0.8", ("Lima", 0.8)),
        (ONE, "**Guess: Lima**\nprobability : 0.8", ("Lima", 0.8)),
        (ONE, "Guess: 3:30 pm\nProbability: 0.8", ("3:30 pm", 0.8)),
        (ONE, "Guess: Lima\nProbability: 0.8\nGuess: Cusco\nProbability: 0.9", ("Lima", 0.8)),
        (
            ONE,
            "<think>\nGuess: Cusco\nProbability: 0.1\n</think>\nGuess: Lima\nProbability: 0.8",
            ("Lima", 0.8),
        ),
        (ONE, "Guess: <Lima>\nProbability: <0.8>", ("Lima", 0.8)),
        (ONE, "Guess： Lima\nProbability： 0.8", ("Lima", 0.8)),
        (ONE, "Guess: a <b> c\nProbability: 0.8", ("a <b> c", 0.8)),
        (ONE, "Guess: Lima\nProbability: <0.8", None),
        (ONE, "Guess: <>\nProbability: 0.8", None),
        (ONE, "<think>\nGuess: Cusco\nProbability: 0.1", None),
        (TAG, "<think> <answer>Cusco</answer> <confidence>0.1</confidence>", None),
        (ONE, "Guess: Lima\nIt is big.\nProbability: 0.8", None),
        (ONE, "Guess: Lima", None),
        (ONE, "Guess: Lima (0.8)", None),
        (ONE, "Guess:\nProbability: 0.8", None),
        (ONE, "Guess: Lima\nProbability: high", None),
        (ONE, "Guess: Lima\nProbability:", None),
        (ONE, "Probability: 0.8\nGuess: Lima", None),
        (ONE, "Lima\n0.8", None),
        (ONE, "", None),
        (TWO, "G1: Lima\nP1: 0.6\nG2: Cusco\nP2: 0.3", ("Lima", 0.6)),
        (TWO, "G1: Lima\n\nP1: 0.3\n\nG2: Cusco\n\nP2: 60%", ("Cusco", 0.6)),
        (TWO, "G1: Lima\nP1: 0.5\nG2: Cusco\nP2: 0.5", ("Lima", 0.5)),
        (TWO, "G1: Lima\nP1: 0.6\nG2: Cusco\nP2: low", None),
        (TWO, "G1: Lima\nP1: 0.6", None),
        (TWO, "G1: Lima\nG2: Cusco\nP1: 0.6\nP2: 0.3", None),
        (TAG, "<answer>Lima</answer><confidence>0.7</confidence>", ("Lima", 0.7)),
        (
            TAG,
            "<think>maybe <answer>Cusco</answer> <confidence>0.1</confidence></think>\n"
            "<answer>\nLima\n</answer>\n<analysis>Sure.</analysis>\n<confidence> 70% </confidence>",
            ("Lima", 0.7),
        ),
        (TAG, "<confidence>0.7</confidence><answer>Lima</answer>", None),
        (TAG, "<answer>Lima</answer><confidence>0.7", None),
        (TAG, "<answer></answer><confidence>0.7</confidence>", None),
        (TAG, "<answer>Lima</answer><confidence>sure</confidence>", None),
        (TAG, "Lima", None),
    ],
)
def test_a_statement_is_read(form: Asking, text: str, stated: tuple[str, float] | None) -> None:
    """All lines or tags of the form, in order; of several guesses the likeliest."""
    assert form.read(text) == (None if stated is None else Stated(*stated))


def test_a_number_that_was_cut_off_is_not_read() -> None:
    """Of 0.95 or 100%, what is left may be another probability; what ended before stands."""
    for rest in ("0.9", "1", "10"):
        assert ONE.read(f"Guess: Lima\nProbability: {rest}", finished=False) is None
    whole = "Guess: Lima\nProbability: 0.95\nBec"
    assert ONE.read(whole, finished=False) == Stated("Lima", 0.95)
    tags = "<answer>Lima</answer><confidence>0.9</confidence>"
    assert TAG.read(tags, finished=False) == Stated("Lima", 0.9)


def test_the_prompt_names_what_is_read() -> None:
    """The lines that a prompt shows are those that are read; outside a chat it begins them."""
    for form in (ONE, TWO, TAG):
        for label in [name for pair in form.labels for name in pair]:
            assert f"\n{label}: <" in form.template
        assert "{question}" in form.template
    assert "<answer> and </answer>" in TAG.template
    assert [form.cue for form in (ONE, TWO, TAG)] == ["Guess:", "G1:", ""]


def test_outside_a_chat_the_prompt_begins_the_answer(tmp_path: Path) -> None:
    """So a base model goes on with its guess, which is read as one."""
    model = Answering(lambda _: " Lima\nProbability: 0.8")
    predictions = Verbalized(path=rows(tmp_path, PERU)).run(model)
    assert model.prompts[0].endswith("\n\nQuestion: Capital of Peru?\nGuess:")
    assert model.how == {"max_new_tokens": {48}, "stop": ("\nQuestion:",)}
    assert predictions.confidence.tolist() == [0.8]
    assert predictions.correct.tolist() == [True]
    assert predictions.notes == ()


def test_in_a_chat_the_model_writes_all_of_it(tmp_path: Path) -> None:
    """The prompt is the user's turn alone."""
    model = ChatAnswering(lambda _: "Guess: Lima\nProbability: 0.8")
    predictions = Verbalized(path=rows(tmp_path, PERU), chat=True).run(model)
    assert model.prompts[0].startswith("<user>Give your best guess")
    assert model.prompts[0].endswith("Question: Capital of Peru?\n</><ai>")
    assert predictions.confidence.tolist() == [0.8]


def test_several_guesses_and_tags(tmp_path: Path) -> None:
    """The settings of a form go with it, and each form is another probe."""
    path = rows(tmp_path, PERU)
    two = Answering(lambda _: " Cusco\nP1: 0.2\nG2: Lima\nP2: 0.7")
    probe = Verbalized(path=path, form="top_k", guesses=2)
    predictions = probe.run(two)
    assert (predictions.confidence[0], predictions.correct[0]) == (np.float64(0.7), True)
    assert two.how["max_new_tokens"] == {96}
    tag = Answering(lambda _: "<answer>Lima</answer> <confidence>0.6</confidence>")
    of_tag = Verbalized(path=path, form="tag").run(tag)
    assert (of_tag.confidence[0], of_tag.correct[0]) == (np.float64(0.6), True)
    assert tag.how == {"max_new_tokens": {512}, "stop": ("</confidence>",)}
    names = {name for name, *_ in predictions.signature.hard_differences(of_tag.signature)}
    assert {"form", "prompt"} <= names
    assert predictions.signature.hard["form"] == "2 guesses"


def unread(share: float, n: int = 20) -> Answering:
    """A model that states no probability for so many of the questions, and is sure of the rest."""
    bad = {f"Q{i}?" for i in range(round(share * n))}
    return Answering(
        lambda p: f" yes\nProbability: {'who knows' if p.split()[-2] in bad else '1.0'}"
    )


def test_what_cannot_be_read_is_wrong_with_confidence_1(tmp_path: Path) -> None:
    """It is counted, said whatever the verdict, and shown as it was written."""
    items = [{"question": f"Q{i}?", "answer": "yes"} for i in range(20)]
    predictions = Verbalized(path=rows(tmp_path, *items)).run(unread(0.1))
    assert predictions.confidence.tolist() == [1.0] * 20
    assert predictions.correct.tolist() == [False, False] + [True] * 18
    assert predictions.notes == (
        "no probability can be read from 2 of 20 answers (10.0%): each counts as wrong with "
        "confidence 1.",
    )
    assert predictions.signature.soft["unread"] == "2 of 20"
    assert predictions.texts is not None
    assert predictions.texts[0].answer == "yes\nProbability: who knows"
    assert ece(predictions) == pytest.approx(0.1)


def test_too_much_that_cannot_be_read_fails_the_probe(tmp_path: Path) -> None:
    """By name, with the counts, an example and the way out; the limit is a setting."""
    items = [{"question": f"Q{i}?", "answer": "yes"} for i in range(20)]
    path = rows(tmp_path, *items)
    message = (
        r"^probe 'mine': no probability can be read from 3 of 20 answers \(15.0%, more than "
        r"max_failures: 0.1\), such as ' yes\\nProbability: who knows'; ask a model that was "
        "trained on chats with chat: true, or choose another form"
    )
    with pytest.raises(ProbeError, match=message):
        Verbalized("mine", path=path).run(unread(0.15))
    with pytest.raises(ProbeError, match=r"; choose another form or template\.$"):
        Verbalized("mine", path=path, chat=True).run(ChatAnswering(lambda _: "no number"))
    assert len(Verbalized("mine", path=path, max_failures=0.15).run(unread(0.15))) == 20
    assert len(Verbalized("mine", path=path, max_failures=1).run(unread(1.0))) == 20


def test_the_largest_share_itself_is_not_too_much(tmp_path: Path) -> None:
    """Also where the product of share and number is rounded: 0.29 * 100 is less than 29."""
    items = [{"question": f"Q{i}?", "answer": "yes"} for i in range(100)]
    probe = Verbalized(path=rows(tmp_path, *items), max_failures=0.29)
    assert len(probe.run(unread(0.29, 100))) == 100
    with pytest.raises(ProbeError, match="from 30 of 100 answers"):
        probe.run(unread(0.30, 100))


@given(st.floats(0, 1), st.booleans())
def test_nothing_is_gained_by_stating_nothing(confidence: float, right: bool) -> None:
    """No stated confidence, right or wrong, has a worse score than one that cannot be read."""
    stated = abs(confidence - right)
    assert stated <= 1.0
    assert stated**2 <= brier(([1.0], [False]))
