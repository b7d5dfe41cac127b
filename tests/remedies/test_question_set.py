"""Questions in tokens: what is trained on is what the probe asks, to the last token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CHAT_TEMPLATE, bpe, new_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration.errors import UsageError  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.probes.facts import Facts  # noqa: E402
from pytest_calibration.probes.multiple_choice import MultipleChoice  # noqa: E402
from pytest_calibration.remedies.losses import option_probabilities  # noqa: E402
from pytest_calibration.remedies.question_set import QuestionCollator, QuestionSet  # noqa: E402

pytestmark = pytest.mark.torch

ROWS = [
    {"question": "Is ice hot?", "options": ["yes", "no"], "answer": 1},
    {"question": "1 or 2?", "options": ["a", "b", "c", "d", "e"], "answer": 4},
    {"question": "Oslo?", "options": ["x", "y", "z"], "answer": 0},
]


def probe(folder: Path, rows: Any = ROWS, **settings: Any) -> MultipleChoice:
    """Return a probe with short prompts."""
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    short = {"header": "", "template": "{question}\n{options}\nAnswer:"}
    return MultipleChoice(path=path, **short | settings)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_the_tokens_are_those_that_the_probe_scores(
    tmp_path: Path, start: bool, chat: bool
) -> None:
    """The soft-max over the options' tokens at the end of the answer is the probe's table."""
    tokenizer = bpe(start=start, end=start)
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    model = new_model("llama", max_position_embeddings=200).eval()
    tokenizer.model_max_length = 200
    asked = probe(tmp_path, chat=chat)
    table = asked.run(TransformersModel.of(model, tokenizer)).probabilities
    batch = QuestionCollator(tokenizer.pad_token_id)(list(QuestionSet(asked, tokenizer)))
    assert table is not None
    with torch.inference_mode():
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    at = batch["attention_mask"].sum(-1) - 1
    rows = torch.arange(len(at))
    ids = batch["option_ids"]
    found = option_probabilities(out[rows, at - 1].gather(1, ids.clamp(min=0)), ids >= 0)
    assert np.abs(found.numpy() - table).max() < 1e-4
    # The labels are the right option, to its last token.
    right = ids.gather(1, batch["answer"][:, None])[:, 0]
    assert torch.equal(batch["input_ids"][rows, at], right)
    assert torch.equal(batch["labels"][rows, at], right)
    answers = [batch["labels"][i][batch["labels"][i] != -100] for i in range(3)]
    told = [tokenizer.decode(answer).strip() for answer in answers]
    assert told == [asked.answer_text(item) for item in asked.items]


def test_a_letter_is_trained_with_the_space_that_it_is_asked_with(tmp_path: Path) -> None:
    """The token after ``Answer:`` is that of `` B``, not that of ``:B``."""
    tokenizer = bpe()
    row = QuestionSet(probe(tmp_path), tokenizer)[0]
    assert tokenizer.decode(row["input_ids"]) == "Is ice hot?\nA. yes\nB. no\nAnswer: B"
    labels = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(labels) == " B"
    # Where the space is a token of its own, the options differ by the next.
    assert [tokenizer.decode([token]).strip() for token in row["option_ids"]] == ["A", "B"]


def test_a_batch_is_padded_on_the_right() -> None:
    """Nothing attends to padding, no loss counts it, and options that are not there are -1."""
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, -100, 7], "option_ids": [7, 8], "answer": 0},
        {"input_ids": [5, 9], "labels": [-100, 9], "option_ids": [7, 8, 9], "answer": 2},
    ]
    batch = QuestionCollator(3)([{**row, "item": i} for i, row in enumerate(rows)])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7], [-100, 9, -100]]
    assert batch["option_ids"].tolist() == [[7, 8, -1], [7, 8, 9]]


def test_options_of_several_tokens_are_for_cft_alone(tmp_path: Path) -> None:
    """All their tokens are answers; what needs one token names the first question."""
    rows = [{"question": "Oslo?", "options": ["the moon", "it"], "answer": 0}]
    several = QuestionSet(probe(tmp_path, rows, scoring="text", template="{question}"), bpe())
    assert sum(label != -100 for label in several[0]["labels"]) > 1
    with pytest.raises(UsageError, match=r"the options of 'Oslo\?' differ by several tokens"):
        several.check_single()


def test_what_is_no_question_is_refused(tmp_path: Path) -> None:
    """Another kind of probe, and a question longer than the tokenizer allows."""
    with pytest.raises(UsageError, match="takes a probe of kind multiple_choice, got Facts"):
        QuestionSet(Facts(), bpe())  # type: ignore[arg-type]
    rows = [{"question": "why " * 60, "options": ["a", "b"], "answer": 0}]
    with pytest.raises(UsageError, match=r"the question 'why .* more than the 48 of the tokenizer"):
        QuestionSet(probe(tmp_path, rows), bpe())
