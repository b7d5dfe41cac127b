"""The blocks of the page on what ECE is not, which build on each other."""

from __future__ import annotations

import pytest
from documents import pages, sections

PAGE = "docs/explanation/what-ece-is-not.md"


@pytest.mark.skipif(PAGE not in pages(), reason="the documents are not part of this copy")
def test_each_block_prints_what_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    """In order, in one name space, as a reader runs them."""
    names: dict[str, object] = {}
    for some in sections(PAGE).values():
        for block in some:
            exec(block.text, names)
            told = [
                line.rpartition("  # ")[2] for line in block.text.splitlines() if "  # " in line
            ]
            assert capsys.readouterr().out.splitlines() == told
