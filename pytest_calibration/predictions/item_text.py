"""What an item says: for a reader who wants to see it, never needed to judge it.

Item text comes from data files and from models. It is shown as text everywhere: what a terminal
would obey or a reader could not see (control and bidirectional characters) is written as its escape
sequence, and what is long is cut in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemText:
    """One item in words.

    Attributes:
        prompt: what was asked, without instructions and solved examples.
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
    """The texts of n items, each made when it is asked for.

    Attributes:
        of: gives the text of a row of the source.
        rows: (n,) row of each item.
    """

    of: Callable[[int], ItemText]
    rows: NDArray[np.int64]

    @classmethod
    def held(cls, texts: Sequence[ItemText]) -> ItemTexts:
        """Hold texts that are there already."""
        return cls(list(texts).__getitem__, np.arange(len(texts)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ItemText:
        return self.of(int(self.rows[index]))

    def take(self, index: NDArray[Any]) -> ItemTexts:
        """Return the texts of the items at these positions (or where this mask holds)."""
        return ItemTexts(self.of, self.rows[index])
