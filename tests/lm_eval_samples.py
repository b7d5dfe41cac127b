"""What ``lm_eval --log_samples`` writes for a task of multiple choice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_samples(folder: Path, task: str, day: int = 27, *, seed: int = 2) -> None:
    """Write samples of 400 questions with four options, answered by a calibrated model."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(400):
        scores = np.log(rng.dirichlet([0.5] * 4))
        target = int(rng.choice(4, p=np.exp(scores)))
        rows.append(
            {
                "doc_id": i,
                "doc": {"question": f"q{i}"},
                "target": str(target),
                "arguments": {
                    f"gen_args_{j}": {"arg_0": f"q{i}", "arg_1": f" {j}"} for j in range(4)
                },
                "resps": [[[str(s), "False"]] for s in scores],
                "filtered_resps": [[str(s), "False"] for s in scores],
                "filter": "none",
                "metrics": ["acc"],
                "doc_hash": f"{i:064x}",
                "prompt_hash": f"{i:064x}",
                "target_hash": f"{i:064x}",
                "acc": float(int(scores.argmax()) == target),
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / f"samples_{task}_2026-11-{day}T12-00-00.123456.jsonl").write_text(text, "utf-8")
