"""What an item says: for a reader who wants to see it, never needed to judge it.

Item text comes from data files and from models. It is shown as text everywhere: what a terminal
would obey or a reader could not see (control and bidirectional characters) is written as its escape
sequence, and what is long is cut in the middle.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Marks that join or part letters: words of many scripts, and emoji, are misspelt without them.
JOINERS: Final = "\u200c\u200d"
CUT: Final = " ... "


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


def visible(text: str, most: int | None = None, *, keep_breaks: bool = False) -> str:
    r"""Return a text in one line that shows all it holds, and does nothing.

    Args:
        text: any text.
        most: cut in the middle what is longer than so many characters.
        keep_breaks: leave line breaks and tabs as they are instead of ``\n`` and ``\t``.

    >>> visible("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if most is not None and len(text) > most:
        # Before escaping, which must not be cut in half.
        head = max(most - len(CUT), 0) // 2
        tail = max(most - len(CUT) - head, 0)
        return (
            f"{visible(text[:head], keep_breaks=keep_breaks)}{CUT}"
            f"{visible(text[len(text) - tail :], keep_breaks=keep_breaks)}"
        )
    kept = "\n\t" if keep_breaks else ""
    shown = "".join(c if _shows(c) or c in kept else _escaped(c) for c in text)
    # What a log of continuous integration obeys: a line that begins with it, or any part of one.
    if shown.lstrip().startswith("::"):
        shown = shown.replace(":", r"\x3a", 1)
    return shown.replace("##[", r"#\x23[")


def _shows(character: str) -> bool:
    if character.isprintable() or character in JOINERS:
        return True
    return unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
