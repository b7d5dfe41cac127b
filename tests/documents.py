"""The code blocks of a document, and what they are: files, commands, what these print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
# A block that begins with a comment that is the name of a file is that file.
_NAMED = re.compile(r"# ([\w/.-]+\.(?:py|yaml|yml|toml|ini))\n")


class Block:
    """A fenced block, which knows whether anybody read it.

    Attributes:
        language: what stands behind its fence.
        file: the file that it is, empty where it is none.
        used: whether its text was read.
    """

    def __init__(self, language: str, text: str) -> None:
        self.language = language
        self._text = text
        match = _NAMED.match(text)
        self.file = match[1] if match else ""
        self.used = False

    @property
    def text(self) -> str:
        """Its lines."""
        self.used = True
        return self._text

    def __repr__(self) -> str:
        return f"Block({self.language!r}, {self._text!r})"


# What the fixtures of tests/docs give: the blocks below a heading; probes recorded and unchanged.
Section = Callable[[str, str], list[Block]]
Gated = Callable[..., None]


class Typed(NamedTuple):
    """A command of a block.

    Attributes:
        words: program and arguments, without environment variables and comments.
        shown: the lines below it.
    """

    words: list[str]
    shown: str


def sections(document: str) -> dict[str, list[Block]]:
    """Return the blocks of a page in order, by the heading above; "" for those above the first."""
    found: dict[str, list[Block]] = {"": []}
    current, title = "", False
    for token in MarkdownIt().parse((ROOT / document).read_text("utf-8")):
        if token.type == "heading_open":
            title = token.tag != "h1"
        elif title:
            current, title = token.content, False
            found.setdefault(current, [])
        elif token.type == "fence":
            found[current].append(Block(token.info, token.content))
    return found


def blocks(document: str, heading: str = "") -> list[Block]:
    """Return the blocks below a heading, up to the next one; by default those above the first."""
    return sections(document)[heading]


def pages(folder: str = "docs") -> list[str]:
    """Return the pages in a folder of the documentation, none where it is not part of this copy."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.md"))


def put_files(folder: Path, some: Iterable[Block]) -> list[str]:
    """Write the blocks that are files, and return their names."""
    names = []
    for block in some:
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
            names.append(block.file)
    return names


def typed(block: Block) -> list[Typed]:
    """Return the commands of a block (lines that begin with ``$``), each with what it shows."""
    found: list[Typed] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append(Typed(shlex.split(line[2:], comments=True), ""))
        elif found:
            found[-1] = Typed(found[-1].words, found[-1].shown + line)
    return found


def commands(some: Iterable[Block], program: str) -> Iterator[list[str]]:
    """Yield the arguments of each command of a program, in the blocks of a console."""
    for block in some:
        if block.language == "console":
            for words, _ in typed(block):
                if words[:1] == [program]:
                    yield words[1:]


def agrees(shown: str, printed: str, *, numbers: bool = True) -> bool:
    """Whether a page shows what was printed.

    A line ``...`` stands for any lines. White space counts as one space, as columns are as wide as
    what stands in them, and does not count at the ends.

    Args:
        shown: lines of a page.
        printed: what a command printed; more may stand above and below.
        numbers: whether numbers must be equal, too; else any will do, as will bars of a drawing.
    """
    pattern = r"(?:.*\n)*?"
    for line in shown.strip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
            continue
        words = [re.escape(word) for word in line.split()]
        if not numbers:
            words = [re.sub(r"\d(?:[\d,]|\\\.(?=\d))*", r"[\\d.,]+", word) for word in words]
        pattern += r"\s+".join(words) + "\n"
    said = "".join(f"{line.strip()}\n" for line in printed.splitlines())
    return re.search(rf"(?m)^{pattern}", said) is not None
