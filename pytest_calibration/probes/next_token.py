"""Next-token probe: at each position of a text, the model's own next token against the real one.

Zhu et al. 2023 measure generation this way: confidence is the probability of the most likely token
over the full vocabulary. Tokens of one document are correlated, so the document is the group, and
by default a fixed sample of positions per document is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.items.builtin import DATA
from pytest_calibration.items.jsonl import Row, optional_texts, text_of
from pytest_calibration.items.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.models.protocols import LanguageModel, NextTokenScores
from pytest_calibration.predictions import IdArray, Predictions, digest, hash_ids
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.probe import Item, ItemProbe, check_limit, chosen

POSITIONS: Final = 50
# Characters before a position that a reader is shown.
CONTEXT: Final = 300
KEYS: Final = ("text", "id", "group")


@dataclass(frozen=True)
class Passage(Item):
    """A text whose tokens are predicted; its group is the document itself by default.

    Attributes:
        text: the text.
    """

    text: str


def passage(row: Row) -> Passage:
    """Read one row ``{"text"}``."""
    return Passage(text_of(row, "text"), **optional_texts(row, "id", "group"))


class NextToken(ItemProbe[Passage]):
    """Predict tokens of running text.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"text"}`` rows; the built-in passages by default.
        dataset: a public data set in place of a file.
        positions: positions scored per document, a fixed sample; ``"all"`` for every one.

    Raises:
        ItemError: a bad row.
        UsageError: positions below 1.
    """

    kind = "next_token"
    unit = "documents"
    asks = "next_token"

    def __init__(
        self,
        name: str = "next_token",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        positions: int | str = POSITIONS,
    ) -> None:
        if positions != "all" and not (isinstance(positions, int) and positions >= 1):
            raise UsageError(
                f"probe {name!r}: positions must be at least 1 or 'all', got {positions!r}."
            )
        self.positions = positions
        source = source_of(name, path, dataset)
        texts = DATA / "passages.jsonl" if source is None else source
        super().__init__(name, read_rows(texts, passage, KEYS), source)

    def content(self, item: Passage) -> tuple[str]:
        """Return what identifies a passage."""
        return (item.text,)

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score the sampled positions of every document; ``limit`` counts positions.

        Raises:
            ProbeError: no document has a token to predict.
            ModelError: the model cannot score.
        """
        check_limit(limit)
        documents = self.ids()
        wanted: dict[int, int] = {}
        groups = [p.group or f"document-{i}" for i, p in enumerate(self.items)]
        part = self._part(model, documents, groups, limit) if self.part_share < 1 else None

        def choose(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            index = self._sampled(int(documents[i]), spans) if part is None else part[i][0]
            wanted[i] = len(index)
            return index

        scores = model.next_token([p.text for p in self.items], choose=choose)
        self.check_scored(len(scores), len(self.items))
        self.check_positions(wanted, scores)
        counts = [len(s.hit) for s in scores]
        if not sum(counts):
            raise ProbeError(f"probe {self.name!r}: no document has a token to predict.")
        predictions = Predictions(
            probe=self.name,
            confidence=np.concatenate([s.top_probability for s in scores]),
            correct=np.concatenate([s.hit for s in scores]).astype(np.bool_),
            item_ids=np.concatenate(
                [self._ids(int(d), s.spans) for d, s in zip(documents, scores, strict=True)]
                if part is None
                else [ids for _, ids in part]
            ),
            label_logprobs=np.concatenate([s.target_logprob for s in scores]),
            groups=np.repeat(np.array(groups, dtype=np.object_), counts),
            unit="token",
            texts=ItemTexts(self._texts(scores), np.arange(sum(counts))),
            signature=self.signature(model, self._hard(scores)),
        )
        predictions = predictions.limited(limit)
        if part is None:
            self.part_planned = self.part_asked = predictions.item_ids
        return predictions

    def _sampled(self, document: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of a document that are scored, of all its tokens."""
        if self.positions == "all" or len(spans) <= int(self.positions):
            return np.arange(len(spans))
        order = np.argsort(self._ids(document, spans), kind="stable")
        return np.sort(order[: int(self.positions)])

    def _part(
        self, model: LanguageModel, documents: IdArray, groups: Sequence[str], limit: int | None
    ) -> list[tuple[NDArray[np.int64], IdArray]]:
        """Return which positions of each document a share of them takes, and their ids.

        The texts are encoded for it, and nothing is scored. Most documents have none.
        """
        sampled: dict[int, NDArray[np.int64]] = {}
        ids: dict[int, IdArray] = {}

        def note(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            sampled[i] = self._sampled(int(documents[i]), spans)
            ids[i] = self._ids(int(documents[i]), spans[sampled[i]])
            return np.empty(0, dtype=np.int64)

        model.next_token([p.text for p in self.items], choose=note)
        every = range(len(self.items))
        owner = np.repeat(np.array(every), [len(sampled[i]) for i in every])
        all_ids = np.concatenate([ids[i] for i in every])
        index = chosen(all_ids, limit)
        taken = np.zeros(len(all_ids), dtype=np.bool_)
        taken[self.part(all_ids, index, [groups[owner[i]] for i in index])] = True
        return [(sampled[i][taken[owner == i]], ids[i][taken[owner == i]]) for i in every]

    def _ids(self, document: int, spans: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return ids of tokens, made of document, characters and which repeat of these it is."""
        seen: dict[tuple[int, int], int] = {}
        keys = []
        for start, end in spans.tolist():
            seen[start, end] = seen.get((start, end), 0) + 1
            keys.append(f"{document}:{start}:{end}:{seen[start, end]}")
        return hash_ids(keys, self.digest)

    def _texts(self, scores: Sequence[NextTokenScores]) -> Callable[[int], ItemText]:
        """Return what makes the text of a position: what comes before it, and its token."""
        starts = np.cumsum([0, *(len(s.hit) for s in scores)])

        def text_at(row: int) -> ItemText:
            document = int(np.searchsorted(starts, row, side="right")) - 1
            score, place = scores[document], row - int(starts[document])
            passage = self.items[document]
            start, end = score.spans[place].tolist()
            return ItemText(
                prompt=passage.text[max(0, start - CONTEXT) : start],
                gold=passage.text[start:end],
                answer=score.top_text[place] if score.top_text else "",
                name=f"{passage.id}:{start}" if passage.id else "",
            )

        return text_at

    def _hard(self, scores: list[NextTokenScores]) -> Mapping[str, object]:
        hard: dict[str, object] = {
            "scoring": "argmax over the full vocabulary",
            "positions": self.positions,
        }
        if self.part_share >= 1:
            # The tokens themselves: another tokenizer asks another question.
            hard["tokens"] = digest(*(s.token_ids.tobytes() + s.spans.tobytes() for s in scores))
        return hard
