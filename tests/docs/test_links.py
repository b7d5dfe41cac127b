"""Every link of the documents leads somewhere."""

from __future__ import annotations

import os
import re
import runpy
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

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


def test_links_of_the_readme_are_absolute_on_the_package_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each file that it links to, and shows, is that of the released version on GitHub."""
    # What builds the package is not installed where its tests run.
    interface = ModuleType("interface")
    monkeypatch.setattr(interface, "MetadataHookInterface", object, raising=False)
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    names = runpy.run_path(str(ROOT / "hatch_build.py"))
    here = links(ROOT / "README.md")
    written = names["absolute"]((ROOT / "README.md").read_text("utf-8"), "https://there/it", "1.2")
    for link in here:
        kind = "raw" if link.endswith(".svg") else "blob"
        assert f"https://there/it/{kind}/v1.2/{link}" in written
    assert not re.findall(r"\]\((?!https:)", written)
    assert not re.findall(r'(?:src|href)="(?!https:)', written)
