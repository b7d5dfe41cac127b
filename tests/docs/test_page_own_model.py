"""The blocks of the page on a model of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import Gated, Section, blocks, put_files


@pytest.mark.usefixtures("gate", "reviews_jsonl")
def test_models_of_ones_own(
    section: Section, folder: Path, pytester: pytest.Pytester, gated: Gated
) -> None:
    """A function asked about texts with labels; an object asked the sums of one's own probe."""
    classifier, texts, language_model = section("docs/how-to/own-model.md", "")
    assert put_files(folder, [classifier, texts]) == ["conftest.py", "calibration.yaml"]
    gated(1)
    put_files(folder, blocks("docs/how-to/own-probe.md")[:2])
    assert put_files(folder, [language_model]) == ["conftest.py"]
    pytester.runpytest_inprocess("--calibration-record").assert_outcomes(passed=2)
