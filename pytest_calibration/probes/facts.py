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
from pytest_calibration.models.protocols import LanguageModel, NextTokenScores
from pytest_calibration.predictions import Predictions, digest
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes import builtin
from pytest_calibration.probes.base import (
    Row,
    all_positions_scored,
    all_scored,
    chosen,
    item_ids,
    optional_text,
    read_rows,
    signature,
    text_of,
)

Mode: TypeAlias = Literal["first_token", "whole_entity"]
KEYS: Final = ("prompt", "answer", "id", "group", "slice")


@dataclass(frozen=True)
class FactItem:
    """A statement and the entity that completes it.

    Attributes:
        prompt: left context, without the space before the entity.
        answer: the entity.
        id: the row's own id.
        group: what it stands or falls with.
        slice: what it is about, for tables.
    """

    prompt: str
    answer: str
    id: str | None = None
    group: str | None = None
    slice: str | None = None


def fact_item(row: Row) -> FactItem:
    """Read one row ``{"prompt", "answer"}``."""
    return FactItem(
        text_of(row, "prompt").rstrip(" "),
        text_of(row, "answer").strip(),
        optional_text(row, "id"),
        optional_text(row, "group"),
        optional_text(row, "slice"),
    )


class Facts:
    """Complete statements of fact.

    Args:
        name: name of the probe.
        path: JSONL file of ``{"prompt", "answer"}`` rows; the built-in facts by default.
        mode: ``first_token`` or ``whole_entity``.

    Raises:
        ItemError: a bad row.
        UsageError: an unknown mode.
    """

    kind = "facts"
    unit = "facts"

    def __init__(
        self, name: str = "facts", *, path: Path | None = None, mode: Mode = "first_token"
    ) -> None:
        if mode not in get_args(Mode):
            raise UsageError(
                f"probe {name!r}: mode must be one of {', '.join(get_args(Mode))}, got {mode!r}."
            )
        self.name = name
        self.mode: Mode = mode
        self.items = _builtin_items() if path is None else read_rows(path, fact_item, KEYS)

    @property
    def size(self) -> int:
        """Number of facts."""
        return len(self.items)

    @property
    def digest(self) -> str:
        """Identifies kind, name and settings; salts the item ids."""
        return digest(self.kind, self.name)

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score every fact.

        Raises:
            TokenBoundaryError: the tokenizer merges the end of a statement with its entity.
            ModelError: the model cannot score.
        """
        ids = item_ids(
            [(i.prompt, i.answer) for i in self.items], [i.id for i in self.items], self.digest
        )
        index = chosen(ids, limit)
        items = [self.items[i] for i in index]
        scores = self._entity_scores(model, items)
        if self.mode == "first_token":
            confidence = np.array([s.top_probability[0] for s in scores])
            correct = np.array([bool(s.hit[0]) for s in scores])
            logprobs = np.array([s.target_logprob[0] for s in scores])
            answers = [s.top_text[0] if s.top_text else "" for s in scores]
        else:
            confidence, correct, answers = self._whole(model, items, scores)
            logprobs = np.array([float(s.target_logprob.sum()) for s in scores])
        grouped = any(i.group for i in items)
        sliced = any(i.slice for i in items)
        return Predictions(
            probe=self.name,
            confidence=confidence,
            correct=correct,
            item_ids=ids[index],
            label_logprobs=logprobs,
            groups=np.array([i.group or f"#{k}" for k, i in zip(index, items, strict=True)])
            if grouped
            else None,
            slices=np.array([i.slice or "" for i in items]) if sliced else None,
            texts=ItemTexts.from_list(
                [
                    ItemText(i.prompt, i.answer, answer.strip(), name=i.id or "")
                    for i, answer in zip(items, answers, strict=True)
                ]
            ),
            signature=signature(
                model,
                {
                    "kind": self.kind,
                    "mode": self.mode,
                    "scoring": "argmax over the full vocabulary",
                    "prompt": digest("{prompt} {answer}", size=4),
                },
            ),
        )

    def _entity_scores(
        self, model: LanguageModel, items: Sequence[FactItem]
    ) -> list[NextTokenScores]:
        """Score the tokens of each entity, given the statement and the entity so far."""
        wanted: dict[int, int] = {}

        def choose(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            edge = len(items[i].prompt)
            if bool(((spans[:, 0] < edge) & (spans[:, 1] > edge)).any()):
                raise TokenBoundaryError(
                    f"probe {self.name!r}: the tokenizer merges the end of {items[i].prompt!r} "
                    f"with {items[i].answer!r}; end the statement elsewhere."
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

        scores = model.next_token([f"{i.prompt} {i.answer}" for i in items], choose=choose)
        all_scored(self.name, len(items), sum(len(s.hit) > 0 for s in scores))
        all_positions_scored(self.name, wanted, scores)
        return scores

    def _whole(
        self, model: LanguageModel, items: Sequence[FactItem], scores: Sequence[NextTokenScores]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
        """Confidence, truth and text of the model's own continuation, as long as the entity.

        Where every token of the entity is the most likely one, that continuation is the entity and
        its probability is known already; only the others are generated.
        """
        correct = np.array([bool(s.hit.all()) for s in scores])
        confidence = np.array([float(s.top_probability.prod()) for s in scores])
        wrong = [int(i) for i in np.flatnonzero(~correct)]
        written = model.generate(
            [items[i].prompt for i in wrong],
            max_new_tokens=[len(scores[i].hit) for i in wrong],
        )
        all_scored(self.name, len(wrong), len(written))
        answers = [item.answer for item in items]
        for i, generation in zip(wrong, written, strict=True):
            confidence[i] = float(np.exp(generation.token_logprobs.sum()))
            answers[i] = generation.text
        return np.minimum(confidence, 1.0), correct, answers


def _builtin_items() -> list[FactItem]:
    return [
        FactItem(builtin.statement(f), f.answer, group=f.subject, slice=f.relation)
        for f in builtin.facts()
    ]
