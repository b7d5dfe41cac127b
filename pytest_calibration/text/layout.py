"""Lay text out on a terminal: measure, cut, pad and wrap by columns; name colours by meaning."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, Literal, TypeAlias

from pytest_calibration.text.visible import visible

Style: TypeAlias = Literal["good", "bad", "doubt", "head"]
"""The meaning of a piece of text; a terminal with colours gives each style its own."""
Paint: TypeAlias = Callable[[str, Style], str]

WIDTH: Final = 88
NARROWEST: Final = 20
ELLIPSIS: Final = "..."


def unpainted(text: str, _style: Style) -> str:
    """Return the text without colour."""
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def columns(text: str) -> int:
    """Return the terminal columns of a text: wide characters take two, combining marks none."""
    return sum(map(_columns, text))


def fitted(text: str, width: int) -> str:
    """Escape a text (see ``visible``), and cut it to at most ``width`` columns, ``...`` included.

    Args:
        text: any text.
        width: at least 3.
    """
    plain = visible(text)
    if columns(plain) <= width:
        return plain
    ends = accumulate(map(_columns, plain))
    return plain[: sum(end <= width - len(ELLIPSIS) for end in ends)] + ELLIPSIS


def padded(text: str, width: int, side: str = "<") -> str:
    """Fill a text up to ``width`` columns, on its right (``<``) or on its left (``>``)."""
    space = " " * max(0, width - columns(text))
    return f"{text}{space}" if side == "<" else f"{space}{text}"


def wrapped(text: str, width: int, indent: str = "", further: str | None = None) -> Iterator[str]:
    """Escape a paragraph and break it into lines; words longer than a line stay whole.

    Args:
        text: one paragraph.
        width: columns of the terminal; 20 where it is less.
        indent: start of every line.
        further: start of all lines but the first; ``indent`` by default.
    """
    yield from textwrap.wrap(
        visible(text),
        max(width, NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
    )
