"""A real checkpoint that is asked in parts: what its engine scores, and what the cache keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration.asking import Asker
from pytest_calibration.gate.looks import SHARES
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model
from pytest_calibration.predictions import PredictionsInParts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken
from pytest_calibration.probes.probe_set import probe_set

pytestmark = pytest.mark.torch
N = 24


def probe_of(kind: str, folder: Path) -> Any:
    """A probe of short texts."""
    if kind == "next_token":
        rows: list[dict[str, Any]] = [{"text": f"the cat {i} sat on mat {7 * i}"} for i in range(N)]
    else:
        rows = [
            {"question": f"Is {i} odd?", "options": ["yes", "no"], "answer": i % 2}
            for i in range(N)
        ]
    path = folder / f"{kind}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    if kind == "next_token":
        return NextToken("mine", path=path, positions=3)
    return MultipleChoice("mine", path=path, scoring="text")


@pytest.mark.parametrize("kind", ["multiple_choice", "next_token"])
def test_the_engine_scores_what_is_asked_and_the_cache_keeps_each_part(
    kind: str, neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter costs a quarter; all parts give the scores of one run; a rerun costs nothing."""
    from pytest_calibration.models.backends.transformers.scorer import Scorer

    scored: list[int] = []
    score = Scorer.score

    def counted(self: Any, rows: list[Any], **how: Any) -> Any:
        scored.append(sum(len(row.positions) for row in rows))
        return score(self, rows, **how)

    monkeypatch.setattr(Scorer, "score", counted)
    probe = probe_of(kind, tmp_path)
    whole = probe.run(load_model(str(neox)))
    everything = sum(scored)
    cache = Cache(tmp_path / "cache")
    costs = []
    for _ in range(2):
        scored.clear()
        model = load_model(str(neox), cache=cache)
        found = Asker(probe_set(), shares=SHARES).ask(model, probe)
        assert isinstance(found, PredictionsInParts)
        costs.append([sum(scored) for _ in found.in_turn()])
        assert np.array_equal(found.item_ids, whole.item_ids)
        assert np.allclose(found.confidence, whole.confidence, atol=1e-5)
        assert found.signature == whole.signature
        model.release()
    first, again = costs
    assert np.divide(first, everything) == pytest.approx(SHARES, abs=0.1)
    assert first[-1] == everything
    assert again == [0] * 4
