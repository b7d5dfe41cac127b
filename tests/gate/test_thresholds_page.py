"""The example of ``docs/how-to/thresholds.md``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "thresholds.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not part of this copy")
def test_the_python_of_the_page_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs, and prints what the comments beside it say."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["precision regressed at 0.9: probe confidence", "True"]
    assert all(f"  # {line}" in code for line in printed)
