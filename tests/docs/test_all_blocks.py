"""No block of the tutorial and of a how-to is left out: each is run, or shows what one printed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from documents import pages, sections

HERE = Path(__file__).parent
PAGES = [page for page in pages() if page == "docs/tutorial.md" or page.startswith("docs/how-to/")]


def asked_for() -> set[tuple[str, str]]:
    """Return page and heading of every ``section(...)`` in a test here, which uses its blocks."""
    found = set()
    for module in HERE.glob("test_page_*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name("section"),
                    args=[ast.Constant(str(page)), ast.Constant(str(heading))],
                ):
                    found.add((page, heading))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_used_by_a_test(page: str) -> None:
    """For each heading with blocks there is a test that asks for them."""
    asked = asked_for()
    assert not [h for h, some in sections(page).items() if some and (page, h) not in asked]


def test_what_is_asked_for_is_there() -> None:
    """No test asks for a heading that is gone."""
    for page, heading in asked_for():
        assert sections(page).get(heading), (page, heading)
