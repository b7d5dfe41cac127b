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
from pytest_calibration.models.protocols import LanguageModel, NextTokenScores
from pytest_calibration.predictions import Predictions, digest, hash_ids
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.base import (
    Row,
    all_positions_scored,
    all_scored,
    check_limit,
    item_ids,
    optional_text,
    read_rows,
    signature,
    text_of,
)
from pytest_calibration.probes.builtin import DATA

POSITIONS: Final = 50
# Characters before a position that a reader is shown.
CONTEXT: Final = 300
KEYS: Final = ("text", "id", "group")


@dataclass(frozen=True)
class Passage:
    """A text whose tokens are predicted.

    Attributes:
        text: the text.
        id: the row's own id.
        group: what it stands or falls with; the document itself by default.
    """

    text: str
    id: str | None = None
    group: str | None = None


def passage(row: Row) -> Passage:
    """Read one row ``{"text"}``."""
    return Passage(text_of(row, "text"), optional_text(row, "id"), optional_text(row, "group"))


class NextToken:
    """Predict tokens of running text.

    Args:
        name: name of the probe.
        path: JSONL file of ``{"text"}`` rows; the built-in passages by default.
        positions: positions scored per document, a fixed sample; ``"all"`` for every one.

    Raises:
        ItemError: a bad row.
        UsageError: positions below 1.
    """

    kind = "next_token"
    unit = "documents"

    def __init__(
        self,
        name: str = "next_token",
        *,
        path: Path | None = None,
        positions: int | str = POSITIONS,
    ) -> None:
        if positions != "all" and not (isinstance(positions, int) and positions >= 1):
            raise UsageError(
                f"probe {name!r}: positions must be at least 1 or 'all', got {positions!r}."
            )
        self.name = name
        self.positions = positions
        self.passages = read_rows(path or DATA / "passages.jsonl", passage, KEYS)

    @property
    def size(self) -> int:
        """Number of documents."""
        return len(self.passages)

    @property
    def digest(self) -> str:
        """Identifies kind, name and settings; salts the item ids."""
        return digest(self.kind, self.name)

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score the sampled positions of every document; ``limit`` counts positions.

        Raises:
            ProbeError: no document has a token to predict.
            ModelError: the model cannot score.
        """
        check_limit(limit)
        documents = item_ids(
            [(p.text,) for p in self.passages], [p.id for p in self.passages], self.digest
        )

        wanted: dict[int, int] = {}

        def choose(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            index = np.arange(len(spans))
            if self.positions != "all" and len(spans) > int(self.positions):
                order = np.argsort(self._ids(int(documents[i]), spans), kind="stable")
                index = np.sort(order[: int(self.positions)])
            wanted[i] = len(index)
            return index

        scores = model.next_token([p.text for p in self.passages], choose=choose)
        all_scored(self.name, len(self.passages), len(scores))
        all_positions_scored(self.name, wanted, scores)
        counts = [len(s.hit) for s in scores]
        if not sum(counts):
            raise ProbeError(f"probe {self.name!r}: no document has a token to predict.")
        groups = [p.group or f"document-{i}" for i, p in enumerate(self.passages)]
        predictions = Predictions(
            probe=self.name,
            confidence=np.concatenate([s.top_probability for s in scores]),
            correct=np.concatenate([s.hit for s in scores]).astype(np.bool_),
            item_ids=np.concatenate(
                [self._ids(int(d), s.spans) for d, s in zip(documents, scores, strict=True)]
            ),
            label_logprobs=np.concatenate([s.target_logprob for s in scores]),
            groups=np.repeat(np.array(groups), counts),
            unit="token",
            texts=ItemTexts(self._in_words(scores), np.arange(sum(counts))),
            signature=signature(model, self._hard(scores)),
        )
        return predictions.limited(limit)

    def _ids(self, document: int, spans: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Name a token by document and characters; tokens that share characters by repeat."""
        seen: dict[tuple[int, int], int] = {}
        keys = []
        for start, end in spans.tolist():
            seen[start, end] = seen.get((start, end), 0) + 1
            keys.append(f"{document}:{start}:{end}:{seen[start, end]}")
        return hash_ids(keys, self.digest)

    def _in_words(self, scores: Sequence[NextTokenScores]) -> Callable[[int], ItemText]:
        """Return what gives a position in words: what stands before it, and what comes."""
        starts = np.cumsum([0, *(len(s.hit) for s in scores)])

        def words(row: int) -> ItemText:
            document = int(np.searchsorted(starts, row, side="right")) - 1
            score, place = scores[document], row - int(starts[document])
            passage = self.passages[document]
            start, end = score.spans[place].tolist()
            return ItemText(
                prompt=passage.text[max(0, start - CONTEXT) : start],
                gold=passage.text[start:end],
                answer=score.top_text[place] if score.top_text else "",
                name=f"{passage.id}:{start}" if passage.id else "",
            )

        return words

    def _hard(self, scores: list[NextTokenScores]) -> Mapping[str, object]:
        encoded = (s.token_ids.tobytes() + s.spans.tobytes() for s in scores)
        return {
            "kind": self.kind,
            "scoring": "argmax over the full vocabulary",
            "positions": self.positions,
            # The tokens themselves: another tokenizer asks another question.
            "tokens": digest(*encoded),
        }
