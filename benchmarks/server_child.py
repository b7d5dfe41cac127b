"""One side of the server benchmark, in a process of its own: ``server_child.py SIDE JOB.json``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scorer_material import QUESTIONS, SUBJECTS

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Loop = Callable[[], list[list[float]]]


def chosen(n: int, per_subject: int) -> list[int]:
    """Return which questions are asked: so many, the first ones of each subject."""
    return [i for i in range(len(SUBJECTS) * QUESTIONS) if i % QUESTIONS < per_subject][:n]


def ours(job: dict[str, Any], prompts: list[str], options: list[list[str]]) -> Loop:
    """Prove the server; return what asks."""
    from pytest_calibration import load_model

    model = load_model(f"{job['url']}#{job['model']}")
    model.load()
    return lambda: [row.tolist() for row in model.option_logprobs(prompts, options)]


def theirs(job: dict[str, Any], prompts: list[str], options: list[list[str]]) -> Loop:
    """Load lm_eval's client; return what asks."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    model = LocalCompletionsAPI(
        model=job["model"],
        base_url=f"{job['url']}/completions",
        tokenizer=job["tokenizer"],
        tokenizer_backend="huggingface",
        num_concurrent=job["concurrent"],
        max_length=2048,
    )
    requests = [
        Instance("loglikelihood", {}, (prompt, option), k)
        for prompt, row in zip(prompts, options, strict=True)
        for k, option in enumerate(row)
    ]

    def ask() -> list[list[float]]:
        scores = [float(one[0]) for one in model.loglikelihood(requests, disable_tqdm=True)]
        width = len(options[0])
        return [scores[i : i + width] for i in range(0, len(scores), width)]

    return ask


def main() -> None:
    """Ask, and write what was answered, with the seconds of both parts."""
    side, file = sys.argv[1:]
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    task = json.loads(Path(job["task"]).read_text(encoding="utf-8"))
    some = chosen(job["n"], job["per_subject"])
    prompts, options = ([task[name][i] for i in some] for name in ("prompts", "options"))
    start = time.perf_counter()
    ask = (theirs if "lm_eval" in side else ours)(job, prompts, options)
    loaded = time.perf_counter()
    logprobs = ask()
    wall = time.perf_counter() - loaded
    out = {"load": loaded - start, "wall": wall, "logprobs": logprobs}
    Path(job["out"]).write_text(json.dumps(out), encoding="utf-8")


if __name__ == "__main__":
    main()
