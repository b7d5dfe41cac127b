"""Facts probe: a statement cut off where an entity begins, and what the model says there.

``first_token`` is the protocol of Zhu et al. 2023: the model's most likely token, over the full
vocabulary, against the first token of the entity. ``whole_entity`` asks for the whole entity: the
greedy continuation of as many tokens as the entity has, its confidence the product of their
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ProbeError, TokenBoundaryError, UsageError
from pytest_calibration.items import builtin
from pytest_calibration.items.jsonl import Row, optional_texts, text_of
from pytest_calibration.items.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.models.protocols import LanguageModel, Message, NextTokenScores
from pytest_calibration.predictions import Predictions, digest
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.probe import Item, ItemProbe
from pytest_calibration.probes.prompting import SPACE, ChatSetting, Joined, Prompting

Mode: TypeAlias = Literal["first_token", "whole_entity"]
KEYS: Final = ("prompt", "answer", "id", "group", "slice")


@dataclass(frozen=True)
class FactItem(Item):
    """A statement and the entity that completes it.

    Attributes:
        prompt: left context, without the space before the entity.
        answer: the entity.
        spaced: whether the row itself has a space between them.
    """

    prompt: str
    answer: str
    spaced: bool = False


def fact_item(row: Row) -> FactItem:
    """Read one row ``{"prompt", "answer"}``."""
    prompt, answer = text_of(row, "prompt"), text_of(row, "answer")
    return FactItem(
        prompt.rstrip(" "),
        answer.strip(),
        spaced=prompt.endswith(" ") or answer.startswith(" "),
        **optional_texts(row, "id", "group", "slice"),
    )


class Facts(ItemProbe[FactItem]):
    """Complete statements of fact.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"prompt", "answer"}`` rows; the built-in facts by default.
        dataset: a public data set in place of a file.
        mode: ``first_token`` or ``whole_entity``.
        delimiter: what stands between a statement and its entity; by default a space, or nothing
            after a chat template.
        chat: whether a statement is a user's turn of a chat, in the model's own template; a mapping
            gives variables to the template.

    Raises:
        ItemError: a bad row.
        UsageError: an unknown mode, a delimiter or chat of another type.
    """

    kind = "facts"
    unit = "facts"
    asks = "next_token"

    def __init__(
        self,
        name: str = "facts",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        mode: Mode = "first_token",
        delimiter: str | None = None,
        chat: ChatSetting = False,
    ) -> None:
        self.prompting = Prompting(name, delimiter, chat)
        if mode not in get_args(Mode):
            raise UsageError(
                f"probe {name!r}: mode must be one of {', '.join(get_args(Mode))}, got {mode!r}."
            )
        self.mode: Mode = mode
        source = source_of(name, path, dataset)
        items = _builtin_items() if source is None else read_rows(source, fact_item, KEYS)
        super().__init__(name, items, source)

    def content(self, item: FactItem) -> tuple[str, str]:
        """Return what identifies an item."""
        return item.prompt, item.answer

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score every fact.

        Raises:
            TokenBoundaryError: the tokenizer merges the end of a statement with its entity.
            ModelError: the model cannot score.
        """
        items, fields = self.sample(limit)
        joined = self._joined(model, items)
        scores = self._entity_scores(model, items, joined)
        if self.mode == "first_token":
            confidence = np.array([s.top_probability[0] for s in scores])
            correct = np.array([bool(s.hit[0]) for s in scores])
            logprobs = np.array([s.target_logprob[0] for s in scores])
            answers = [s.top_text[0] if s.top_text else "" for s in scores]
        else:
            confidence, correct, answers = self._whole(model, items, joined, scores)
            logprobs = np.array([float(s.target_logprob.sum()) for s in scores])
        texts = [
            ItemText(i.prompt, i.answer, answer.strip(), name=i.id or "")
            for i, answer in zip(items, answers, strict=True)
        ]
        hard = {
            "mode": self.mode,
            "scoring": "argmax over the full vocabulary",
            "prompt": digest("{prompt} {answer}", size=4),
            **self.prompting.signature(model, _conversation(items[0])),
        }
        return Predictions(
            confidence=confidence,
            correct=correct,
            label_logprobs=logprobs,
            texts=ItemTexts.from_list(texts),
            signature=self.signature(model, hard),
            **fields,
        )

    def _joined(self, model: LanguageModel, items: Sequence[FactItem]) -> list[Joined]:
        """Return what comes before each entity, and the entity."""
        if self.prompting.is_chat:
            prompts = self.prompting.rendered(model, [_conversation(i) for i in items])
        else:
            prompts = [i.prompt + SPACE * i.spaced for i in items]
        return [
            self.prompting.joined(prompt, [item.answer])
            for prompt, item in zip(prompts, items, strict=True)
        ]

    def _entity_scores(
        self, model: LanguageModel, items: Sequence[FactItem], joined: Sequence[Joined]
    ) -> list[NextTokenScores]:
        """Score the tokens of each entity, given the statement and the entity so far."""
        wanted: dict[int, int] = {}

        def choose(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            edge = len(joined[i].prompt)
            if bool(((spans[:, 0] < edge) & (spans[:, 1] > edge)).any()):
                raise TokenBoundaryError(
                    f"probe {self.name!r}: the tokenizer merges the end of {items[i].prompt!r} "
                    f"with {items[i].answer!r}; end the statement elsewhere, or set another "
                    "delimiter."
                )
            inside = np.flatnonzero((spans[:, 0] >= edge) & (spans[:, 1] > spans[:, 0]))
            if not len(inside):
                raise ProbeError(
                    f"probe {self.name!r}: {items[i].answer!r} adds no token that could be "
                    f"predicted after {items[i].prompt!r}."
                )
            entity = inside[:1] if self.mode == "first_token" else inside
            wanted[i] = len(entity)
            return entity

        ask = self.prompting.asking(model, "next_token")
        texts = [f"{j.prompt}{j.continuations[0]}" for j in joined]
        scores: list[NextTokenScores] = ask(texts, choose=choose)
        self.check_scored(sum(len(s.hit) > 0 for s in scores), len(items))
        self.check_positions(wanted, scores)
        return scores

    def _whole(
        self,
        model: LanguageModel,
        items: Sequence[FactItem],
        joined: Sequence[Joined],
        scores: Sequence[NextTokenScores],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
        """Confidence, truth and text of the model's own continuation, as long as the entity.

        Where every token of the entity is the most likely one, that continuation is the entity and
        its probability is known already; only the others are generated.
        """
        correct = np.array([bool(s.hit.all()) for s in scores])
        confidence = np.array([float(s.top_probability.prod()) for s in scores])
        wrong = [int(i) for i in np.flatnonzero(~correct)]
        written = self.prompting.asking(model, "generate")(
            [joined[i].prompt for i in wrong],
            max_new_tokens=[len(scores[i].hit) for i in wrong],
        )
        self.check_scored(len(written), len(wrong))
        answers = [item.answer for item in items]
        for i, generation in zip(wrong, written, strict=True):
            confidence[i] = float(np.exp(generation.token_logprobs.sum()))
            answers[i] = generation.text
        return np.minimum(confidence, 1.0), correct, answers


def _conversation(item: FactItem) -> list[Message]:
    return [{"role": "user", "content": item.prompt}]


def _builtin_items() -> list[FactItem]:
    return [
        FactItem(builtin.statement(f), f.answer, group=f.subject, slice=f.relation)
        for f in builtin.facts()
    ]
