"""Text made visible: what a terminal would obey, or a reader could not see, is escaped."""

from __future__ import annotations

import unicodedata
from typing import Final

# Marks that join or part letters: words of many scripts, and emoji, are misspelt without them.
JOINERS: Final = "\u200c\u200d"
CUT: Final = " ... "


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
