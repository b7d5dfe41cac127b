"""Prompt, answer and options of an item: for reports, never needed to judge a model.

The text comes from data files and models, and may hold anything: escape it before showing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemText:
    """The text of one item.

    Attributes:
        prompt: the question, without instructions and solved examples.
        gold: the right answer.
        answer: the model's own answer, where it is known.
        options: the k options, where there are any.
        name: the id that its source gives it; empty where it gives none.
    """

    prompt: str = ""
    gold: str = ""
    answer: str = ""
    options: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, eq=False)
class ItemTexts:
    """The texts of n items, each built when it is read.

    Attributes:
        of: returns the text of a row of the source.
        rows: (n,) row of each item.
    """

    of: Callable[[int], ItemText]
    rows: NDArray[np.int64]

    @classmethod
    def from_list(cls, texts: Sequence[ItemText]) -> ItemTexts:
        """Hold a list of texts, one per item."""
        return cls(list(texts).__getitem__, np.arange(len(texts)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ItemText:
        return self.of(int(self.rows[index]))

    def take(self, index: NDArray[Any]) -> ItemTexts:
        """Return the texts of the items at these positions (or where this mask holds)."""
        return ItemTexts(self.of, self.rows[index])
