"""Markup that is safe by construction: text is escaped unless a tag made it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

from pytest_calibration.text.visible import visible

VOID: Final = frozenset({"br", "input", "meta"})
# Shapes without content of their own close themselves, as XML lets them.
SHAPES: Final = frozenset({"circle", "line", "path", "rect"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Content: TypeAlias = str | None
Value: TypeAlias = str | int | float | bool | None


def text(content: str, most: int | None = None, *, keep_breaks: bool = False) -> Markup:
    """Return any text as markup that shows it, all of it or cut in the middle.

    Control and bidirectional characters become their escape sequence.

    Args:
        content: any text.
        most: characters that are shown.
        keep_breaks: leave line breaks and tabs as they are.
    """
    if most is not None or not content.isprintable():
        content = visible(content, most, keep_breaks=keep_breaks)
    return Markup(escape(content))


def name(content: str, most: int | None = None) -> Markup:
    """Return a name that others chose, set apart from the direction of the text around it."""
    return tag("bdi", text(content, most))


def tag(element: str, *content: Content, **attributes: Value) -> Markup:
    """Return an element.

    A string is escaped unless it is :class:`Markup`, None is left out. Attributes are spelt as in
    HTML, with ``_`` for ``-`` and a trailing ``_`` where Python takes the word; True stands without
    a value, None and False are left out.

    >>> tag("p", "a < b", class_="note", hidden=True)
    '<p class="note" hidden>a &lt; b</p>'
    """
    opened = f"{element}{''.join(_attributes(attributes))}"
    if element in VOID:
        return Markup(f"<{opened}>")
    inside = joined(content)
    if element in SHAPES and not inside:
        return Markup(f"<{opened}/>")
    return Markup(f"<{opened}>{inside}</{element}>")


def joined(content: Iterable[Content], between: str = "") -> Markup:
    """Join pieces of markup, and of text, which is escaped."""
    pieces = (c if isinstance(c, Markup) else text(c) for c in content if c is not None)
    return Markup((between if isinstance(between, Markup) else text(between)).join(pieces))


def _attributes(attributes: dict[str, Value]) -> Iterable[str]:
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        spelt = key.rstrip("_").replace("_", "-")
        yield f" {spelt}" if value is True else f' {spelt}="{text(str(value))}"'
