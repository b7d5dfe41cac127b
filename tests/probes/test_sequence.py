"""Sequence log-probability: product and geometric mean of the token probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from answering import Answering

from pytest_calibration import SequenceLogprob
from pytest_calibration.models.protocols import Generation

ROWS = [{"question": f"Q{i}?", "answer": "a"} for i in range(3)]
LOGPROBS = [np.log([0.5, 0.8]), np.log([0.9]), np.array([1e-9, 1e-9])]


class Scored(Answering):
    """Answers with given log-probabilities."""

    def generate(self, prompts, **_) -> list[Generation]:  # type: ignore[no-untyped-def]
        """Say a, b, a."""
        said = zip("aba", LOGPROBS, prompts, strict=True)
        return [Generation(text, logprobs) for text, logprobs, _ in said]


@pytest.mark.parametrize(
    ("logprob", "confidence"), [("sum", [0.4, 0.9, 1.0]), ("mean", [0.4**0.5, 0.9, 1.0])]
)
def test_confidence_is_of_the_whole_answer(
    tmp_path: Path, logprob: str, confidence: list[float]
) -> None:
    """The sum gives the product of the probabilities, the mean their geometric mean."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    predictions = SequenceLogprob(path=path, logprob=logprob).run(Scored(), limit=None)
    assert predictions.confidence.tolist() == pytest.approx(confidence)
    assert predictions.correct.tolist() == [True, False, True]
