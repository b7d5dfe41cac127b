"""P(True): the model's own answer, and how likely it takes it to be true."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from answering import Answering, ChatAnswering
from numpy.typing import NDArray

from pytest_calibration import PTrue
from pytest_calibration.errors import ModelError, ProbeError, TokenBoundaryError
from pytest_calibration.metrics import ece
from pytest_calibration.probes.p_true import CHECK_HEADER, _mass_note

PERU = {"question": "Capital of Peru?", "answer": "Lima"}
CHAD = {"question": "Capital of Chad?", "answer": "N'Djamena"}
CUBA = {"question": "Capital of Cuba?", "answer": "Havana"}


def rows(folder: Path, *content: Mapping[str, object]) -> Path:
    """Write rows."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


def check(question: str, answer: str, more: str = "") -> str:
    """What asks whether an answer is true."""
    return (
        f"Question: {question}\n{more}Proposed answer: {answer}\nIs the proposed answer true?\n"
        "(A) True\n(B) False\nThe proposed answer is:"
    )


def test_confidence_is_the_share_of_true(tmp_path: Path) -> None:
    """Of the two verdicts alone, and correct is whether the proposed answer is right."""
    model = Answering(
        lambda p: "Lima" if "Peru" in p else "Abuja", true=lambda p: 0.9 if "Peru" in p else 0.2
    )
    predictions = PTrue(path=rows(tmp_path, PERU, CHAD)).run(model)
    assert predictions.confidence.tolist() == pytest.approx([0.9, 0.2])
    assert predictions.correct.tolist() == [True, False]
    assert predictions.option_mass is not None
    assert predictions.option_mass.tolist() == pytest.approx([0.5, 0.5])
    prompt = f"{CHECK_HEADER}{check('Capital of Chad?', 'Abuja')}"
    assert model.judged[1] == (prompt, [" (A)", " (B)"])
    assert predictions.signature.soft["options"] == "with leading space"
    assert predictions.notes == ()


def test_a_doubt_that_is_right_is_calibrated(tmp_path: Path) -> None:
    """Confidence below one half in answers that are as often wrong: no calibration error."""
    items = [{"question": f"Q{i}?", "answer": "yes"} for i in range(10)]
    model = Answering(lambda p: "yes" if "Q0" in p or "Q1" in p else "no", true=lambda _: 0.2)
    predictions = PTrue(path=rows(tmp_path, *items)).run(model)
    assert ece(predictions) == pytest.approx(0.0, abs=1e-6)


def test_brainstormed_answers_are_shown_once_each(tmp_path: Path) -> None:
    """Drawn at the temperature and seed of the probe, in the order of the draw."""
    seeds: dict[int, str] = {}

    def says(_: str, seed: int | None = None) -> str:
        if seed is None:
            return "Lima"
        return seeds.setdefault(seed, ["Cusco", "Lima", "Cusco"][len(seeds)])

    model = Answering(says)
    probe = PTrue(path=rows(tmp_path, PERU), samples=3, temperature=0.7, seed=4)
    predictions = probe.run(model)
    more = "Answers that came to mind:\nCusco\nLima\n"
    assert model.judged[0][0] == f"{CHECK_HEADER}{check('Capital of Peru?', 'Lima', more)}"
    assert model.how["temperature"] == 0.7
    hard = predictions.signature.hard
    assert (hard["samples"], hard["temperature"], hard["seed"]) == ("3", "0.7", "4")


def test_examples_are_right_and_wrong_in_turn(tmp_path: Path) -> None:
    """The wrong ones are answers of other examples."""
    model = Answering(lambda _: "x")
    PTrue(path=rows(tmp_path, PERU, CHAD, CUBA), shots=2).run(model)
    for prompt, _ in model.judged:
        *solved, last = prompt.removeprefix(CHECK_HEADER).split("\n\n")
        assert last.endswith("is:")
        assert [one.rpartition(" ")[2] for one in solved] == ["(A)", "(B)"]
        right, wrong = (
            next(row for row in (PERU, CHAD, CUBA) if row["question"] in one) for one in solved
        )
        assert f"Proposed answer: {right['answer']}\n" in solved[0]
        assert f"Proposed answer: {right['answer']}\n" in solved[1]
        assert wrong != right


def test_an_example_is_never_called_wrong_where_it_is_right(tmp_path: Path) -> None:
    """Where all examples have one answer, each is proposed with it, and is true."""
    items = [{"question": f"Q{i}?", "answer": "yes"} for i in range(4)]
    model = Answering(lambda _: "yes")
    PTrue(path=rows(tmp_path, *items), shots=3).run(model)
    assert all("(B)\n\n" not in prompt for prompt, _ in model.judged)


def test_in_a_chat_the_verdict_comes_right_after_the_template(tmp_path: Path) -> None:
    """The check is the user's turn, with no space before the verdict."""
    model = ChatAnswering(lambda _: "Lima")
    PTrue(path=rows(tmp_path, PERU), chat=True).run(model)
    assert model.judged == [
        (
            f"<system>{CHECK_HEADER.strip()}</><user>{check('Capital of Peru?', 'Lima')}</><ai>",
            ["(A)", "(B)"],
        )
    ]


def test_a_tokenizer_that_merges_the_space_gets_none(tmp_path: Path) -> None:
    """As for options of a question; the signature says so."""

    class Merging(Answering):
        def option_logprobs(self, prompts, options):  # type: ignore[no-untyped-def]
            if options[0][0].startswith(" "):
                raise TokenBoundaryError("merged")
            return super().option_logprobs(prompts, options)

    predictions = PTrue(path=rows(tmp_path, PERU)).run(Merging(lambda _: "Lima"))
    assert predictions.signature.soft["options"] == "without leading space"


def test_the_check_may_be_worded_otherwise(tmp_path: Path) -> None:
    """And is then another probe."""
    path, model = rows(tmp_path, PERU), Answering(lambda _: "Lima")
    plain = PTrue(path=path).run(model).signature
    wording = {"check": "{question} {answer}! True (A) or false (B)?", "check_header": "Judge.\n"}
    other = PTrue(path=path, **wording).run(model).signature
    assert model.judged[0][0] == "Judge.\nCapital of Peru? Lima! True (A) or false (B)?"
    assert [name for name, *_ in plain.hard_differences(other)] == ["check"]


class Odd(Answering):
    """Scores the verdicts in a fixed way."""

    def __init__(self, *values: float) -> None:
        super().__init__(lambda _: "Lima")
        self.values = np.array(values)

    def option_logprobs(self, prompts, options) -> list[NDArray[np.float64]]:  # type: ignore[no-untyped-def]
        """Return the values."""
        return [self.values for _ in zip(prompts, options, strict=True)]


def test_verdicts_that_are_unlikely_are_noted(tmp_path: Path) -> None:
    """Where the prompt does not lead to them, the renormalised confidence says little."""
    predictions = PTrue(path=rows(tmp_path, PERU)).run(Odd(np.log(0.003), np.log(0.001)))
    assert predictions.confidence.tolist() == pytest.approx([0.75])
    assert predictions.notes == (
        "'(A)' and '(B)' hold 0.004 of the probability (median): the prompt does not lead to them, "
        "and confidence says little; try shots, or chat: true for a model that was trained on "
        "chats.",
    )


def test_unlikely_verdicts_of_a_chat_are_not_told_to_be_a_chat() -> None:
    """The note names what is left to try."""
    (note,) = _mass_note(np.array([0.004]), is_chat=True)
    assert note.endswith("try shots, or another check or delimiter.")


def test_scores_that_are_none_fail(tmp_path: Path) -> None:
    """Logits, and a verdict that was left out."""
    path = rows(tmp_path, PERU)
    with pytest.raises(
        ModelError, match=r"odd|log P\(option\) is 3, above 0; a model gives log-pr"
    ):
        PTrue(path=path).run(Odd(3.0, 1.0))
    with pytest.raises(ProbeError, match="probe 'p_true': 1 of 2 verdicts were scored; none may"):
        PTrue(path=path).run(Odd(-1.0))
