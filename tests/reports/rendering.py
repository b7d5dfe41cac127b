"""Markdown as a reader of it sees it: CommonMark with the tables and links of GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

# What GitHub makes of finished text: mentions, references, emoji, links.
MADE_BY_GITHUB = re.compile(
    r"(?i)@[\w/-]|#\d|gh-\d|:[\w+-]+:|\w://|(?:^|[\s(*_~])www\.|\bmailto:[^\u200b]"
)


def tokens(source: str) -> list[Token]:
    """Parse Markdown, and find links that no bracket marks."""
    md = MarkdownIt("commonmark", {"linkify": True}).enable(["table", "strikethrough", "linkify"])
    assert md.linkify is not None
    # GitHub takes no `name.py` for a host, and links no `//host` without a protocol.
    md.linkify.set({"fuzzy_link": False})
    md.linkify.add("//", None)
    return md.parse(source)


def inline(parsed: list[Token]) -> Iterator[Token]:
    """Yield what stands within the blocks."""
    for token in parsed:
        yield from token.children or ()


def shown(parsed: list[Token]) -> str:
    """Return the text a reader sees, without what shows as nothing."""
    kinds = ("text", "code_inline")
    return "".join(t.content for t in inline(parsed) if t.type in kinds).replace("\u200b", "")
