"""Escape what a terminal would obey and what a reader could not see."""

from __future__ import annotations

import unicodedata
from typing import Final

# Zero-width joiners: words of many scripts, and emoji, are misspelt without them.
JOINERS: Final = "\u200c\u200d"
CUT: Final = " ... "
# Characters of one value, and of a whole message, that an error shows.
MOST_QUOTED: Final = 200
MOST_OF_A_MESSAGE: Final = 1000


def visible(text: str, most: int | None = None, *, keep_breaks: bool = False) -> str:
    r"""Return the text in one line, with every control or invisible character escaped.

    Commands of CI logs (``::error::``, ``##[...]``) are escaped too.

    Args:
        text: any text.
        most: cut longer texts in the middle, to this many characters before escaping.
        keep_breaks: keep line breaks and tabs instead of writing ``\n`` and ``\t``.

    >>> visible("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if most is not None and len(text) > most:
        # Cut before escaping: an escape sequence must not be cut in half.
        head = max(most - len(CUT), 0) // 2
        tail = max(most - len(CUT) - head, 0)
        return (
            f"{visible(text[:head], keep_breaks=keep_breaks)}{CUT}"
            f"{visible(text[len(text) - tail :], keep_breaks=keep_breaks)}"
        )
    kept = "\n\t" if keep_breaks else ""
    escaped = "".join(c if _is_visible(c) or c in kept else _escape(c) for c in text)
    # A CI runner obeys `::` at the start of a line, and `##[` anywhere.
    if escaped.lstrip().startswith("::"):
        escaped = escaped.replace(":", r"\x3a", 1)
    return escaped.replace("##[", r"#\x23[")


def quoted(value: object) -> str:
    """Return the ``repr`` of a value for an error message: visible, at most 200 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; a deep list
        text = f"<{type(value).__name__}>"
    return visible(text, MOST_QUOTED)


def _is_visible(character: str) -> bool:
    if character.isprintable() or character in JOINERS:
        return True
    return unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def has_half_pair(text: str) -> bool:
    """Whether a text holds half a surrogate pair, such as an emoji cut in two."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
