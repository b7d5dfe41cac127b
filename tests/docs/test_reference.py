"""The reference of the interface holds every public name."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from documents import ROOT, pages

import pytest_calibration

API = pages("docs/reference/api")

pytestmark = pytest.mark.skipif(not API, reason="the documents are not part of this copy")


def test_every_public_name_stands_on_one_page() -> None:
    """As the object itself, from whose docstring the page is made."""
    text = "\n".join((ROOT / page).read_text("utf-8") for page in API)
    shown = Counter(re.findall(r"^::: [\w.]*?(\w+)$", text, re.MULTILINE))
    # All metrics, and all errors, stand there as one module.
    objects = {
        name: module if module in ("metrics", "errors") else original
        for name, (module, original) in pytest_calibration._LAZY.items()
        if name != "__version__"
    }
    assert {name: shown[name] for name in objects.values()} == dict.fromkeys(objects.values(), 1)


def test_the_entry_page_lists_every_public_name() -> None:
    """In its first table, from which each page is linked."""
    text = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8")
    listed = {name for row in re.findall(r"^\|.*?\|", text, re.MULTILINE) for name in
              re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert {name for name in pytest_calibration._LAZY if name != "__version__"} <= listed
    assert {f"api/{page.rpartition('/')[2]}" for page in API} == set(
        re.findall(r"\((api/[\w-]+\.md)\) \|$", text, re.MULTILINE)
    )
