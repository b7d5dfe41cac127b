"""The blocks of the page on a first test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from documents import Section

from pytest_calibration.cli import main
from pytest_calibration.cli.init import planned


def test_the_first_minute(
    section: Section,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ``init`` prints where this lies, is what the page shows."""
    (example,) = section("docs/how-to/first-test.md", "")
    for name in ("base", "sft/checkpoint-200", "sft/checkpoint-400"):
        place = folder / "runs" / name
        place.mkdir(parents=True)
        (place / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    (folder / "data").mkdir()
    question = {"question": "Which?", "options": ["this", "that"], "answer": 0}
    (folder / "data" / "quiz.jsonl").write_text(json.dumps(question), "utf-8")
    (folder / ".git").mkdir()
    # Torch is there in every environment but those of the core.
    monkeypatch.setattr(planned, "find_spec", lambda _name: True)
    typed, _, shown = example.text.partition("\n")
    assert main(typed.split()[2:]) == 0
    assert capsys.readouterr().out == shown
