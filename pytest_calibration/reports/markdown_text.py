"""Any text as Markdown that shows just that text: in a sentence, in a table, as code, in a fence.

What GitHub adds to CommonMark counts: tables, links without brackets, mentions, references to
issues, emoji and formulas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pytest_calibration.text.visible import visible

# Parts two characters that together would mean something, and shows as nothing.
APART: Final = "&#8203;"
SIGNS: Final = {
    # As entities: a backslash would be read once by the table and again by the sentence.
    "\\": "&#92;",
    "|": "&#124;",
    "`": "&#96;",
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "*": "\\*",
    "_": "\\_",
    "~": "\\~",
    "[": "\\[",
    "]": "\\]",
    # Also at the end of a heading, where it would be taken off.
    "#": "\\#",
    # GitHub's own way to write one that begins no formula.
    "$": "<span>$</span>",
    # A mention, or an address, which would become a link.
    "@": f"@{APART}",
}
# A reference to an issue, an emoji, the beginning of a link: GitHub finds them in any text.
_TOGETHER: Final = re.compile(
    r"(?i)#(?=\d)|gh-(?=\d)|:(?=[\w+-]+:)|:(?=//)|www(?=\.)|(?:mailto|xmpp):"
)
# What begins a list or a rule when a line begins with it.
_BEGINS: Final = re.compile(r"(\d+)[.)](?= |$)|[+=-]")
_RUNS: Final = re.compile("`+")


def text(raw: str, most: int | None = None) -> str:
    """Return a text for a sentence or a cell of a table, in one line.

    Args:
        raw: any text.
        most: cut in the middle what is longer than so many characters.
    """
    shown = visible(raw, most).strip(" ")
    pieces: list[str] = []
    for piece in re.split(r"(\0)", _TOGETHER.sub(lambda found: f"{found[0]}\0", shown)):
        pieces.append(APART if piece == "\0" else "".join(SIGNS.get(c, c) for c in piece))
    begins = _BEGINS.match(shown)
    out = "".join(pieces)
    if begins is None:
        return out
    # A backslash before the sign, which stands behind the digits of a numbered list.
    at = len(begins[1] or "")
    return f"{out[:at]}\\{out[at:]}"


def code(raw: str, most: int | None = None) -> str:
    """Return a text as a code span: a name that can be copied as it is.

    Args:
        raw: any text; nothing is written for an empty one.
        most: cut in the middle what is longer than so many characters.
    """
    shown = visible(raw, most)
    if not shown.strip():
        return ""
    if "|" in shown:
        # Would end the cell, and what escapes it is read differently by different programs.
        return f"<code>{text(shown)}</code>"
    fence = "`" * (_longest_run(shown) + 1)
    # A space on both sides is taken off again.
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def fenced(lines: Iterable[str], language: str = "text") -> str:
    """Return lines as a block that is shown as it is, behind a fence that none of them closes."""
    shown = [visible(line) for line in lines]
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in shown), 3)
    return "\n".join([f"{fence}{language}", *shown, fence]) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], sides: str) -> str:
    """Return a table of cells that are Markdown already.

    Args:
        head: the head of each column.
        rows: the cells of each row.
        sides: ``<`` or ``>`` for each column, where its text stands.
    """
    rules = ["---" if side == "<" else "---:" for side in sides]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rules, *rows))


def folded(title: str, content: str) -> str:
    """Return a section that a click opens.

    Args:
        title: one line of Markdown text; it stands in HTML, where no code span is read.
        content: blocks of Markdown.
    """
    # The empty lines make Markdown of what is inside.
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n</details>\n"


def _longest_run(line: str) -> int:
    return max((len(run) for run in _RUNS.findall(line)), default=0)
