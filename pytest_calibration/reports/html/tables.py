"""Tables, each in a frame that scrolls by itself where the page is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pytest_calibration.reports.html.markup import Content, Markup, joined, tag
from pytest_calibration.reports.html.numbers import NONE

Kind: TypeAlias = Literal["text", "number", "drawing"]
NOTHING: Final = tag("span", NONE, class_="none")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: what it is called.
        kind: numbers stand to the right and sort as numbers; a drawing does not sort.
        hint: what the head means, where it needs a word.
    """

    head: str
    kind: Kind = "number"
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        content: what it shows.
        key: what it sorts by; by default what it shows.
        below: a second, smaller line.
        heads: whether it names its row.
    """

    content: Content
    key: float | str | None = None
    below: Content = None
    heads: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: one for each column.
        marked: a class that sets it apart; its words must say why too.
        data: what a script finds it by, generated values only.
    """

    cells: Sequence[Cell]
    marked: str = ""
    data: tuple[tuple[str, int], ...] = ()


def table(
    caption: Content,
    columns: Sequence[Column],
    rows: Iterable[Row],
    *,
    key: str,
    sortable: bool = False,
    hidden_caption: bool = False,
) -> Markup:
    """Return a table in its frame.

    Args:
        caption: what it shows.
        columns: its columns.
        rows: its rows.
        key: its id, unique on the page.
        sortable: whether a script may offer to sort it.
        hidden_caption: whether only screen readers need the caption.
    """
    head = tag(
        "tr",
        *(
            tag(
                "th",
                column.head,
                scope="col",
                class_=column.kind,
                title=column.hint or None,
                data_sort=column.kind if sortable and column.kind != "drawing" else None,
            )
            for column in columns
        ),
    )
    body = (
        tag(
            "tr",
            *(_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)),
            class_=row.marked or None,
            **dict(row.data),
        )
        for row in rows
    )
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption, id=f"{key}-c", class_="unseen" if hidden_caption else None),
            tag("thead", head),
            tag("tbody", joined(body)),
            id=key,
            data_sortable=sortable,
        ),
        class_="scroll",
        role="group",
        aria_labelledby=f"{key}-c",
    )


def _cell(cell: Cell, column: Column) -> Markup:
    content = NOTHING if cell.content in (None, NONE) else cell.content
    below = None if cell.below is None else tag("small", cell.below)
    return tag(
        "th" if cell.heads else "td",
        content,
        below,
        scope="row" if cell.heads else None,
        class_=column.kind,
        # As Python writes it, which tells apart all numbers that differ.
        data_key=cell.key if cell.key is None or isinstance(cell.key, str) else repr(cell.key),
    )
