"""The code blocks of a document, and the files that they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
# A block that begins with a comment that is the name of a file is that file.
_NAMED = re.compile(r"# ([\w/.-]+\.(?:py|yaml))\n")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: what stands behind its fence.
        text: its lines.
    """

    language: str
    text: str


def blocks(document: str, heading: str = "") -> list[Block]:
    """Return the blocks below a heading, up to the next one; by default those above the first."""
    found: dict[str, list[Block]] = {"": []}
    current, title = "", False
    for token in MarkdownIt().parse((ROOT / document).read_text("utf-8")):
        if token.type == "heading_open":
            title = token.tag != "h1"
        elif title:
            current, title = token.content, False
            found[current] = []
        elif token.type == "fence":
            found[current].append(Block(token.info, token.content))
    return found[heading]


def put_files(folder: Path, some: list[Block]) -> list[str]:
    """Write the blocks that are files, and return their names."""
    names = []
    for block in some:
        match = _NAMED.match(block.text)
        if match:
            (folder / match[1]).write_text(block.text, "utf-8")
            names.append(match[1])
    return names


def commands(some: list[Block], program: str) -> Iterator[list[str]]:
    """Yield the arguments of each command of a program."""
    import shlex

    for block in some:
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["$", program]:
                yield words[2:]


def pages(folder: str = "docs") -> list[str]:
    """Return the pages in a folder of the documentation, none where it is not part of this copy."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.md"))
