"""How text fits a terminal: columns, cuts, line breaks, colours."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

from pytest_calibration.text.visible import visible

Style: TypeAlias = Literal["good", "bad", "doubt", "head"]
"""What a piece of text means; a terminal that knows colours gives each its own."""
Paint: TypeAlias = Callable[[str, Style], str]

WIDTH: Final = 88
NARROWEST: Final = 20


def unpainted(text: str, _style: Style) -> str:
    """Leave text without colour."""
    return text


def columns(text: str) -> int:
    """Columns a text takes: two for wide characters, none for what combines with the last."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fitted(text: str, width: int) -> str:
    """Escape what a terminal would obey, and cut what is wider than ``width`` columns."""
    plain = visible(text)
    if columns(plain) <= width:
        return plain
    while plain and columns(plain) > width - 3:
        plain = plain[:-1]
    return f"{plain}..."


def padded(text: str, width: int, side: str = "<") -> str:
    """Fill a text up to ``width`` columns, on its right (``<``) or on its left (``>``)."""
    space = " " * max(0, width - columns(text))
    return f"{text}{space}" if side == "<" else f"{space}{text}"


def wrapped(text: str, width: int, indent: str = "", further: str | None = None) -> Iterator[str]:
    """Break a text into lines of at most ``width`` columns; long words stay whole.

    Args:
        text: one paragraph.
        width: columns of the terminal.
        indent: what every line starts with.
        further: what all lines but the first start with; ``indent`` by default.
    """
    yield from textwrap.wrap(
        visible(text),
        max(width, NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
    )
