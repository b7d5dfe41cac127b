"""The facts probe: first token of an entity, the whole entity, token boundaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel
from numpy.typing import NDArray

from pytest_calibration import Facts
from pytest_calibration.errors import ProbeError, TokenBoundaryError, UsageError
from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores

ROWS = [
    {"prompt": "The capital of Peru is ", "answer": "Lima"},
    {"prompt": "The capital of the Bahamas is", "answer": " Nassau City "},
    {"prompt": "The capital of El Salvador is", "answer": "San Salvador"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three facts, two of them with two words."""
    return rows(tmp_path, ROWS)


def rows(folder: Path, content: Sequence[dict[str, str]]) -> Path:
    """Write rows."""
    path = folder / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


class Scripted(FakeModel):
    """Says for each word of an answer how likely its own choice is, and whether that is right."""

    def __init__(self, words: dict[str, tuple[float, bool]], tail: tuple[float, ...] = ()) -> None:
        super().__init__("scripted")
        self.words = words
        self.tail = tail
        self.texts: list[str] = []
        self.generated: list[tuple[str, int]] = []

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Score words by the table."""
        self.texts = list(texts)
        out = []
        for text, score in zip(texts, super().next_token(texts, choose=choose), strict=True):
            words = [text[a:b].strip() for a, b in score.spans.tolist()]
            top = np.array([self.words[w][0] for w in words])
            hit = np.array([self.words[w][1] for w in words])
            target = np.log(np.where(hit, top, 0.01))
            out.append(NextTokenScores(score.spans, top, hit, target, score.token_ids))
        return out

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Continue with the probabilities of ``tail``."""
        self.generated = list(zip(prompts, max_new_tokens, strict=True))
        return [Generation(" x", np.log(self.tail)) for _ in prompts]


SAID = {
    "Lima": (0.9, True),
    "Nassau": (0.8, True),
    "City": (0.5, True),
    "San": (0.7, True),
    "Salvador": (0.4, False),
}


def test_first_token_mode_looks_at_the_start_of_the_entity(path: Path) -> None:
    """Confidence and outcome are those of the entity's first token alone (Zhu et al. 2023)."""
    predictions = Facts(path=path).run(Scripted(SAID))
    assert predictions.confidence.tolist() == [0.9, 0.8, 0.7]
    assert predictions.correct.tolist() == [True, True, True]
    assert predictions.label_logprobs is not None
    assert np.exp(predictions.label_logprobs) == pytest.approx([0.9, 0.8, 0.7])


def test_whole_entity_mode_multiplies_over_the_entity(path: Path) -> None:
    """Right on every token: 0.8 · 0.5. Wrong on one: the model's own continuation, 0.7 · 0.6."""
    model = Scripted(SAID, tail=(0.7, 0.6))
    predictions = Facts(path=path, mode="whole_entity").run(model)
    assert predictions.confidence == pytest.approx([0.9, 0.8 * 0.5, 0.7 * 0.6])
    assert predictions.correct.tolist() == [True, True, False]
    assert model.generated == [("The capital of El Salvador is", 2)]
    assert predictions.label_logprobs is not None
    assert np.exp(predictions.label_logprobs) == pytest.approx([0.9, 0.8 * 0.5, 0.7 * 0.01])


def test_the_entity_follows_the_statement_after_one_space(path: Path) -> None:
    """Blanks around statement and entity in a row change nothing in what the model reads."""
    model = Scripted(SAID)
    Facts(path=path).run(model)
    assert model.texts == [
        "The capital of Peru is Lima",
        "The capital of the Bahamas is Nassau City",
        "The capital of El Salvador is San Salvador",
    ]


def test_the_mode_is_part_of_what_makes_runs_comparable(path: Path) -> None:
    """The two modes ask different things: their hard signatures differ, their ids do not."""
    first = Facts(path=path).run(FakeModel())
    whole = Facts(path=path, mode="whole_entity").run(FakeModel())
    assert first.signature.hard_differences(whole.signature) == [
        ("mode", "first_token", "whole_entity")
    ]
    assert np.array_equal(first.item_ids, whole.item_ids)


def test_whole_entity_generation_must_answer_every_prompt(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that continues fewer prompts than it was given fails the probe."""
    silent = Scripted(SAID)
    monkeypatch.setattr(silent, "generate", lambda *_, **__: [])
    with pytest.raises(ProbeError, match=r"probe 'facts': 0 of 1 items were scored"):
        Facts(path=path, mode="whole_entity").run(silent)


class Spans(FakeModel):
    """Has these tokens in every text."""

    def __init__(self, spans: list[list[int]]) -> None:
        super().__init__()
        self.spans = np.array(spans, dtype=np.int64)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Offer the spans, score the chosen ones."""
        out = []
        for i, _ in enumerate(texts):
            index: NDArray[np.int64] = choose(i, self.spans) if choose else np.arange(2)
            n = len(index)
            out.append(
                NextTokenScores(
                    self.spans[index], np.full(n, 0.5), np.ones(n, bool), np.zeros(n), index
                )
            )
        return out


def test_a_token_across_the_boundary_is_refused(tmp_path: Path) -> None:
    """Where the tokenizer merges statement and entity, neither has a token of its own."""
    path = rows(tmp_path, [{"prompt": "one two", "answer": "three"}])
    with pytest.raises(
        TokenBoundaryError,
        match=r"probe 'facts': the tokenizer merges the end of 'one two' with 'three'; end the",
    ):
        Facts(path=path).run(Spans([[0, 3], [3, 13]]))


def test_an_entity_without_a_token_is_refused(tmp_path: Path) -> None:
    """Tokens that end with the statement, or cover no character, do not belong to the entity."""
    path = rows(tmp_path, [{"prompt": "one two", "answer": "three"}])
    with pytest.raises(ProbeError, match=r"'three' adds no token that could be predicted after"):
        Facts(path=path).run(Spans([[0, 3], [3, 7], [13, 13]]))


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param([[3, 7], [7, 9], [9, 13]], id="space-inside-the-token"),
        pytest.param([[3, 7], [8, 9], [9, 13]], id="space-left-out-of-the-token"),
        pytest.param([[3, 7], [7, 7], [7, 9], [9, 13]], id="a-token-without-characters"),
    ],
)
def test_the_first_token_of_the_entity_is_found(tmp_path: Path, spans: list[list[int]]) -> None:
    """Tokenizers differ in whether a token's span holds the space before it."""
    path = rows(tmp_path, [{"prompt": "one two", "answer": "three"}])
    first = next(i for i, (start, end) in enumerate(spans) if start >= 7 and end > start)
    chosen: list[int] = []

    class Watched(Spans):
        def next_token(
            self, texts: Sequence[str], *, choose: Choose | None = None
        ) -> list[NextTokenScores]:
            scores = super().next_token(texts, choose=choose)
            chosen.extend(scores[0].token_ids.tolist())
            return scores

    Facts(path=path).run(Watched(spans))
    assert chosen == [first]


@pytest.mark.parametrize("key", ["prompt", "answer"])
def test_an_edited_row_is_another_item(tmp_path: Path, key: str) -> None:
    """Changed text gives another id, even where the row has an id of its own."""
    row = {"prompt": "a b", "answer": "c", "id": "mine"}
    before = Facts(path=rows(tmp_path, [row])).run(FakeModel()).item_ids
    after = Facts(path=rows(tmp_path, [{**row, key: "d e"}])).run(FakeModel()).item_ids
    assert before[0] != after[0]


def test_groups_are_kept_and_ungrouped_items_stand_alone(tmp_path: Path) -> None:
    """Items with one group share it; an item without is a group of itself; without any: none."""
    grouped = [{**row, "group": "x"} for row in ROWS[:2]] + ROWS[2:]
    predictions = Facts(path=rows(tmp_path, grouped)).run(FakeModel())
    assert predictions.groups is not None
    assert predictions.groups[0] == predictions.groups[1] != predictions.groups[2]
    assert predictions.n_clusters == 2
    assert Facts(path=rows(tmp_path, ROWS)).run(FakeModel()).groups is None


def test_slices_are_kept(tmp_path: Path) -> None:
    """What an item is about stands beside it."""
    path = rows(tmp_path, [{**ROWS[0], "slice": "geography"}, ROWS[1]])
    slices = Facts(path=path).run(FakeModel()).slices
    assert slices is not None
    assert slices.tolist() == ["geography", ""]


def test_an_unknown_mode_is_refused() -> None:
    """The message lists the modes."""
    with pytest.raises(UsageError, match=r"mode must be one of first_token, whole_entity, got 'x'"):
        Facts(mode="x")  # type: ignore[arg-type]
