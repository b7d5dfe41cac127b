"""Every link of the documents leads somewhere."""

from __future__ import annotations

import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from documents import ROOT, pages
from markdown_it import MarkdownIt

# Pages that GitHub shows beside those of the site.
OTHERS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "example_project/README.md",
]
EXTERNAL = re.compile(r"[a-z]+:")

pytestmark = pytest.mark.skipif(not pages(), reason="the documents are not part of this copy")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page, as GitHub makes them of its headings."""
    tokens = MarkdownIt().enable("table").parse(page.read_text("utf-8"))
    heads = [
        "".join(part.content for part in after.children or ())
        for token, after in pairwise(tokens)
        if token.type == "heading_open"
    ]
    slugs = (re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)
    return frozenset(slugs)


def links(page: Path) -> list[str]:
    """Return what a page links to and shows, apart from what lies elsewhere on the web."""
    found = []
    for token in MarkdownIt().enable("table").parse(page.read_text("utf-8")):
        for part in (token, *(token.children or ())):
            found += [str(part.attrs[key]) for key in ("href", "src") if key in part.attrs]
            if part.type in {"html_block", "html_inline"}:
                found += re.findall(r'(?:href|src)="([^"]+)"', part.content)
    return [link for link in found if not EXTERNAL.match(link)]


@pytest.mark.parametrize("name", [*OTHERS, *pages()])
def test_every_link_leads_somewhere(name: str) -> None:
    """To a file of the repository, and to a heading where it names one."""
    page = ROOT / name
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(page.parent / path)) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
