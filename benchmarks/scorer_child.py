"""One measurement of the scorer benchmark, in a process of its own.

``python benchmarks/scorer_child.py JOB.json`` reads a :class:`Job`, and writes what it measured as
JSON, and the answers, to the places that the job names.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        engine: ``ours``; ``theirs`` (lm_eval); ``batches``, their seconds for each batch size;
            ``floor``, what the task takes at least.
        checkpoint: folder of the model.
        task: file of the task.
        kind: ``options``, whose log-probabilities are wanted, or ``tokens`` of running text.
        n: items of the task that count.
        share: share of the tokens that is scored (ours; lm_eval scores all).
        batch: their batch size, or the sizes to try.
        threads: of torch.
        device: where the model runs.
        dtype: of its weights.
        out: file of the measurement; the answers lie beside it as ``.npz``.
    """

    engine: str
    checkpoint: str
    task: str
    kind: str
    n: int
    share: float
    batch: tuple[int, ...]
    threads: int
    device: str
    dtype: str
    out: str


class Work:
    """The items of a job.

    Attributes:
        prompts: of the questions.
        options: texts that may follow each.
        texts: passages whose tokens are predicted.
    """

    def __init__(self, job: Job) -> None:
        task = json.loads(Path(job.task).read_text(encoding="utf-8"))
        self.prompts: list[str] = task.get("prompts", [])[: job.n]
        self.options: list[list[str]] = task.get("options", [])[: job.n]
        self.texts: list[str] = task.get("texts", [])[: job.n]


def chosen(text: int, count: int, share: float) -> NDArray[np.int64]:
    """Return which of a text's tokens are scored, ascending; the same in every process."""
    some = max(1, round(share * count))
    return np.sort(np.random.default_rng(text).permutation(count)[:some]).astype(np.int64)


# --- the engines ---------------------------------------------------------------------------------


def ours(job: Job, work: Work) -> tuple[Callable[[], None], Callable[[], dict[str, Floats]]]:
    """Load this package's engine; return its loop, and what gives the answers."""
    from pytest_calibration import load_model

    model = load_model(job.checkpoint, dtype=job.dtype, device=job.device, threads=job.threads)
    model.load()
    if job.device != "cpu":  # A GPU's libraries choose their kernels when they first meet a size.
        model.option_logprobs(["Once upon a time"] * 8, [[" there", " is"]] * 8)
    if job.kind == "options":
        found: list[Floats] = []

        def questions() -> None:
            found.extend(model.option_logprobs(work.prompts, work.options))

        return questions, lambda: {"logprobs": np.stack(found)}

    # The peer gives a first token too, predicted from the end token; so does this text.
    texts = [f"<|endoftext|>{text}" for text in work.texts]
    scores: list[Any] = []

    def choose(text: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        return chosen(text, len(spans), job.share)

    def passages() -> None:
        scores.extend(model.next_token(texts, choose=None if job.share == 1 else choose))

    def answers() -> dict[str, Floats]:
        return {
            "sums": np.array([s.target_logprob.sum() for s in scores]),
            "counts": np.array([len(s.hit) for s in scores], dtype=np.float64),
            "target": np.concatenate([s.target_logprob for s in scores]),
            "top": np.concatenate([s.top_probability for s in scores]),
        }

    return passages, answers


def theirs(job: Job, work: Work) -> tuple[Any, Callable[[], None], Callable[[], dict[str, Floats]]]:
    """Load lm_eval's engine; return it, its loop, and what gives the answers."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=job.checkpoint, dtype=job.dtype, device=job.device, batch_size=job.batch[0]
    )
    if job.device != "cpu":
        pair = Instance("loglikelihood", {}, ("Once upon a time", " there"), 0)
        model.loglikelihood([pair] * 8, disable_tqdm=True)
    found: list[float] = []
    if job.kind == "options":
        requests = [
            Instance("loglikelihood", {}, (prompt, option), k)
            for prompt, row in zip(work.prompts, work.options, strict=True)
            for k, option in enumerate(row)
        ]

        def questions() -> None:
            found[:] = [one[0] for one in model.loglikelihood(requests, disable_tqdm=True)]

        return (
            model,
            questions,
            lambda: {"logprobs": np.array(found).reshape(len(work.prompts), -1)},
        )

    passages = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in work.texts]

    def rolling() -> None:
        found[:] = model.loglikelihood_rolling(passages, disable_tqdm=True)

    return model, rolling, lambda: {"sums": np.array(found)}


def timed(loop: Callable[[], None]) -> tuple[float, float]:
    """Return wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    loop()
    return time.perf_counter() - wall, time.process_time() - cpu


def imports(engine: str) -> None:
    """Import what an engine needs, and use none of it: loading is timed by itself."""
    if engine == "ours":
        from pytest_calibration.models.backends.transformers.threads import patient_threads

        # As load_model does: how threads wait is settled when torch is imported.
        with patient_threads():
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

            import pytest_calibration.models.backends.transformers.choosing  # noqa: F401
    else:
        import lm_eval.models.huggingface  # noqa: F401


def measure(job: Job) -> dict[str, Any]:
    """Run an engine once over its work."""
    work = Work(job)
    import_seconds, _ = timed(lambda: imports(job.engine))
    import torch

    torch.set_num_threads(job.threads)
    start = time.perf_counter()
    if job.engine == "ours":
        loop, answers = ours(job, work)
    else:
        model, loop, answers = theirs(job, work)
    load_seconds = time.perf_counter() - start
    if job.engine == "batches":
        loop()  # The first takes longer.
        out = {}
        for size in job.batch:
            model.batch_size_per_gpu = size
            out[str(size)] = timed(loop)[0]
        return out
    wall, cpu = timed(loop)
    arrays: dict[str, Any] = {**answers()}
    np.savez(Path(job.out).with_suffix(".npz"), **arrays)
    gpu = job.device.startswith("cuda")
    return {
        "import": import_seconds,
        "load": load_seconds,
        "wall": wall,
        "cpu": cpu,
        # ru_maxrss is in KiB on Linux.
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_memory": torch.cuda.max_memory_allocated() if gpu else 0,
    }


# --- the floor -----------------------------------------------------------------------------------


def weights_per_token(checkpoint: Path) -> tuple[int, int]:
    """Return how many weights a token is multiplied with: in the layers, in the output layer.

    Matrices count, from the header of the safetensors file; tables that are only looked up do not.
    """
    file = (checkpoint / "model.safetensors").open("rb")
    with file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    body = head = 0
    for name, tensor in header.items():
        shape = tensor.get("shape", []) if name != "__metadata__" else []
        if len(shape) != 2 or "embed_tokens" in name or "embed_in" in name:
            continue
        if "lm_head" in name or "embed_out" in name:
            head += shape[0] * shape[1]
        else:
            body += shape[0] * shape[1]
    return body, head


def distinct(rows: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Count the nodes of the trie of the rows, and the sum of their depths (the first is 1)."""
    nodes = depths = 0
    previous: Sequence[int] = ()
    for row in sorted(map(tuple, rows)):
        same = 0
        for a, b in zip(row, previous, strict=False):
            if a != b:
                break
            same += 1
        nodes += len(row) - same
        depths += (len(row) * (len(row) + 1) - same * (same + 1)) // 2
        previous = row
    return nodes, depths


def contexts(job: Job, work: Work) -> tuple[list[list[int]], int]:
    """Return the token ids a model must read, in rows, and how many positions it predicts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(job.checkpoint) / "tokenizer.json"))

    def encode(texts: list[str]) -> list[list[int]]:
        return [list(e.ids) for e in tokenizer.encode_batch(texts)]

    rows: list[list[int]] = []
    if job.kind == "tokens":
        predicted = 0
        (end,) = tokenizer.encode("<|endoftext|>").ids
        for i, ids in enumerate(encode(work.texts)):
            which = chosen(i, len(ids), job.share)
            rows.append([end, *ids][: int(which[-1]) + 1])
            predicted += len(which)
        return rows, predicted
    heads = encode(work.prompts)
    seen: set[tuple[int, ...]] = set()
    for head, prompt, options in zip(heads, work.prompts, work.options, strict=True):
        for ids in encode([prompt + option for option in options]):
            rows.append(ids[:-1])
            seen.update(tuple(ids[:end]) for end in range(len(head), len(ids)))
    return rows, len(seen)


def matmul_rate(rows: int, inner: int, columns: int, job: Job) -> float:
    """Return FLOP per second of a matrix product, the best of 20 blocks."""
    import torch

    torch.set_num_threads(job.threads)
    dtype = getattr(torch, job.dtype)
    a = torch.randn(rows, inner, device=job.device, dtype=dtype)
    b = torch.randn(inner, columns, device=job.device, dtype=dtype)
    out = torch.empty(rows, columns, device=job.device, dtype=dtype)
    flops = 2 * rows * inner * columns
    repeats = max(1, int((5e9 if job.device == "cpu" else 2e13) / flops))

    def wait() -> None:
        if job.device.startswith("cuda"):
            torch.cuda.synchronize()

    best = float("inf")
    for _ in range(20):
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        wait()
        best = min(best, (time.perf_counter() - start) / repeats)
    return flops / best


def floor(job: Job) -> dict[str, Any]:
    """Count what must be computed, and how fast this machine multiplies matrices.

    A token costs 2 FLOP per weight of the layers and, in each layer, 4 per channel of attention and
    token it attends to; a predicted position 2 per weight of the output layer.
    """
    work = Work(job)
    config = json.loads((Path(job.checkpoint) / "config.json").read_text(encoding="utf-8"))
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    body, head = weights_per_token(Path(job.checkpoint))
    rows, predicted = contexts(job, work)
    nodes, depths = distinct(rows)
    # What an engine reads that shares nothing but the options of one prompt.
    tokens = sum(len(row) for row in {tuple(row) for row in rows})
    return {
        "tokens": tokens,
        "distinct": nodes,
        "predicted": predicted,
        "flops": 2 * body * nodes + 4 * hidden * layers * depths + 2 * head * predicted,
        "rate": matmul_rate(1024, hidden, 4 * hidden, job),
        "peak": matmul_rate(8192, 8192, 8192, job) if job.device != "cpu" else 0.0,
    }


def main() -> None:
    """Do the job."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    found = floor(job) if job.engine == "floor" else measure(job)
    Path(job.out).write_text(json.dumps({"job": asdict(job), **found}), encoding="utf-8")


if __name__ == "__main__":
    main()
