"""The blocks of the page on a model of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import Console
from documents import Gated, Section, blocks, put_files


@pytest.mark.usefixtures("gate", "reviews_jsonl")
def test_a_classifier(section: Section, folder: Path, console: Console, gated: Gated) -> None:
    """One that a fixture gives, and the function that is named."""
    (command,) = section("docs/how-to/own-model.md", "")
    model, config = section("docs/how-to/own-model.md", "A classifier")
    assert put_files(folder, [config]) == ["calibration.yaml"]
    (said,) = console.type(command)
    assert "1 recorded" in said
    (folder / "tests" / "calibration_baselines" / "reviews.yaml").unlink()
    assert put_files(folder, [model]) == ["conftest.py"]
    gated(1)


@pytest.mark.usefixtures("gate")
def test_a_language_model(section: Section, folder: Path, pytester: pytest.Pytester) -> None:
    """An object, asked the sums of a probe of one's own."""
    put_files(folder, blocks("docs/how-to/own-probe.md")[:2])
    (model,) = section("docs/how-to/own-model.md", "A language model")
    assert put_files(folder, [model]) == ["conftest.py"]
    pytester.runpytest_inprocess("--calibration-record").assert_outcomes(passed=2)
