"""A real reward model, trained on choices whose probabilities are known."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe
from classifiers import new_classifier

from pytest_calibration import Preference, compare, measure

pytestmark = [pytest.mark.torch, pytest.mark.data]

WORTH = {"moon": 1.2, "ice": 0.6, "the": 0.0, "city": -0.6, "water": -1.2}


def pairs(n: int, seed: int) -> list[dict[str, Any]]:
    """Two answers of four words; people prefer one by the logistic of the difference in worth."""
    draw = random.Random(seed)
    out: list[dict[str, Any]] = []
    while len(out) < n:
        one, other = (draw.choices(list(WORTH), k=4) for _ in range(2))
        if one == other:
            continue
        margin = sum(WORTH[w] for w in one) - sum(WORTH[w] for w in other)
        if draw.random() > 1 / (1 + math.exp(-margin)):
            one, other = other, one
        texts = {"chosen": " ".join(one), "rejected": " ".join(other)}
        out.append({"prompt": "Which? ", **texts, "id": str(len(out))})
    return out


def test_a_trained_reward_model_is_calibrated_until_its_rewards_are_stretched(
    tmp_path: Path,
) -> None:
    """Rewards three times as large choose the same with too much confidence, and are caught."""
    torch = pytest.importorskip("torch")
    from pytest_calibration.models.backends.transformers.choosing import in_memory

    model, tokenizer = new_classifier("llama", names=("reward",), initializer_range=0.02), bpe()
    rows = pairs(3000, 1)
    texts = [[r["prompt"] + r[k] for r in rows] for k in ("chosen", "rejected")]
    ids = tokenizer(texts[0] + texts[1], padding=True, return_tensors="pt")["input_ids"]
    chosen, rejected = ids[: len(rows)], ids[len(rows) :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    torch.manual_seed(0)
    for _ in range(3):
        for batch in torch.randperm(len(rows)).split(64):
            both = torch.cat([chosen[batch], rejected[batch]])
            rewards = model(both, attention_mask=(both != 1).long()).logits[:, 0]
            better, worse = rewards.split(len(batch))
            loss = -torch.nn.functional.logsigmoid(better - worse).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs(2000, 2))))
    probe = Preference("choices", path=path)
    before = probe.run(in_memory(model, tokenizer))
    found = measure(before, "ece")
    assert found.noise_floor is not None
    assert found.value < found.noise_floor + 0.03
    assert before.correct.mean() > 0.75
    with torch.no_grad():
        model.score.weight *= 3
    after = probe.run(in_memory(model, tokenizer))
    assert (after.correct == before.correct).all()
    verdict = compare(after, before)
    assert verdict.state == "regressed"
