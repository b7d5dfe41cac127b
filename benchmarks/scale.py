"""What does a gate cost on a model of 70 billion parameters, and is the arithmetic right?

::

    python benchmarks/scale.py                 # computed: no model, no server, a second
    python benchmarks/scale.py --check         # and measured here with vLLM (a few minutes)
    python benchmarks/scale.py --check --write docs/explanation/scale.md
    python benchmarks/scale.py --items 3000 --groups 12 --prefix 900 --question 150 --rate 1.2e15
    python benchmarks/scale.py --measured 200:14.2 --measured 800:41.0 --items 14042

A multiple-choice probe has *items* in *groups* (MMLU: subjects), each group with a *prefix* (header
and solved examples) before its questions, all in tokens. The engine multiplies every token that it
reads with the model's weights (2 FLOP a weight), attends to the tokens before it (4 FLOP a layer,
channel and token), and predicts one token a request. What of a prompt lies in the prefix cache, in
whole blocks, is not read again. The time is that arithmetic over a sustained rate, plus what each
request costs whatever its length, plus the start of the server.

Rate and cost of a request are of one machine, and given. ``--check`` fits the rate to two points
that it measures, and foretells others.
``--measured ITEMS:SECONDS``, twice, extrapolates from two runs of your own with
``--calibration-limit``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pages import publish
from scorer import machine, say, table
from scorer_child import weights_per_token
from scorer_material import QUESTIONS
from server import OURS, Questions, one_round, served
from server_child import chosen
from vllm_server import BLOCK

from pytest_calibration import plan

HERE = Path(__file__).resolve().parent

# --- the model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder.

    Attributes:
        name: of it.
        body: weights that every token is multiplied with, without embedding and output layer.
        layers: number of them.
        width: channels of attention: heads times their width.
        key_width: the same of keys and values.
        hidden: width between layers.
        vocabulary: rows of the output layer.
        bytes_per_weight: as it is served.
    """

    name: str
    body: float
    layers: int
    width: int
    key_width: int
    hidden: int
    vocabulary: int
    bytes_per_weight: float = 2.0

    @property
    def weights(self) -> float:
        """All weights; embedding and output layer apart."""
        return self.body + 2 * self.hidden * self.vocabulary

    @property
    def memory(self) -> float:
        """Bytes of the weights."""
        return self.weights * self.bytes_per_weight

    @property
    def kept_per_token(self) -> float:
        """Bytes of keys and values that a token leaves in the cache."""
        return 2 * self.layers * self.key_width * self.bytes_per_weight


def llama(
    name: str, layers: int, hidden: int, inner: int, heads: int, key_heads: int, vocabulary: int
) -> Architecture:
    """Return the sizes of a Llama: attention with grouped keys, three matrices within a layer."""
    head = hidden // heads
    attention = 2 * hidden * hidden + 2 * hidden * key_heads * head
    body = layers * (attention + 3 * hidden * inner)
    return Architecture(name, body, layers, hidden, key_heads * head, hidden, vocabulary)


SEVENTY = llama("70 B", 80, 8192, 28672, 64, 8, 128_256)
"""Llama 3 70B, of whose configuration these are the numbers."""


@dataclass(frozen=True)
class Work:
    """A multiple-choice probe, in tokens.

    Attributes:
        items: questions.
        groups: prefixes.
        prefix: tokens of each: header and solved examples.
        question: tokens of each question, up to where the answer begins.
        options: of each question.
    """

    items: int
    groups: int = 57
    prefix: float = 640
    question: float = 122
    options: int = 4

    @property
    def prompts(self) -> float:
        """Tokens of all prompts."""
        return self.items * (self.prefix + self.question)

    def kept(self, block: int) -> float:
        """Tokens of a prefix that the cache can serve: whole blocks."""
        return self.prefix // block * block if block else 0.0

    def read(self, block: int, caches: int = 1) -> float:
        """Tokens that the engine must read.

        Args:
            block: tokens of a block of the prefix cache; 0 without one.
            caches: replicas, each of which reads every prefix where requests are dealt at random.
        """
        first = min(self.items, self.groups * caches)
        return self.prompts - (self.items - first) * self.kept(block)

    def hit_rate(self, block: int, caches: int = 1) -> float:
        """Share of the prompts that the prefix cache serves."""
        return 1 - self.read(block, caches) / self.prompts

    def flop(self, model: Architecture, block: int, caches: int = 1) -> float:
        """FLOP of all questions, one request each."""
        read = self.read(block, caches)
        # Tokens of a question attend to what stands before them, cached or not.
        length = self.prefix + self.question
        whole = min(self.items, self.groups * caches)
        attended = whole * length**2 / 2
        rest = length - self.kept(block)
        attended += (self.items - whole) * rest * (length - rest / 2)
        return (
            2 * model.body * read
            + 4 * model.layers * model.width * attended
            + 2 * model.hidden * model.vocabulary * self.items
        )

    def by_echo(self, model: Architecture) -> float:
        """FLOP where each option is a request that is read whole, every position predicted."""
        each = replace(self, items=self.items * self.options)
        every = 2 * model.hidden * model.vocabulary * (each.prompts - each.items)
        return each.flop(model, 0) + every


@dataclass(frozen=True)
class Engine:
    """What a server makes of it.

    Attributes:
        rate: FLOP a second that it sustains, all its devices together.
        request: seconds that a request costs whatever its length.
        start: seconds until it answers.
        block: tokens of a block of its prefix cache.
    """

    rate: float
    request: float = 0.0
    start: float = 0.0
    block: int = 16

    def seconds(self, work: Work, model: Architecture, replicas: int = 1) -> float:
        """Seconds from the first question to the last answer, replicas sharing them evenly."""
        flop = work.flop(model, self.block, replicas) / replicas
        return flop / self.rate + work.items / replicas * self.request


def fitted(points: Sequence[tuple[float, float]], block: int) -> Engine:
    """Return the engine whose rate comes nearest to points of (FLOP, seconds)."""
    return Engine(sum(f * f for f, _ in points) / sum(f * s for f, s in points), block=block)


def extrapolated(points: Sequence[tuple[float, float]], items: int) -> float:
    """Return the seconds of so many items from those of two runs: a start, and a price an item."""
    (n1, s1), (n2, s2) = points
    price = (s2 - s1) / (n2 - n1)
    return s1 + price * (items - n1)


# --- the tables ----------------------------------------------------------------------------------

FULL = 14_042
"""Questions of the test split of MMLU."""
DEVICES = 8
PEAK = 989e12
"""FLOP a second of an H100 (SXM) in bfloat16, dense, as its data sheet says."""
SHARE = 0.4
"""Of the peaks of products and of memory, that is sustained."""
DISK = 2e9
"""Bytes a second at which weights are loaded."""
BANDWIDTH = 3.35e12
"""Bytes a second of the memory of an H100 (SXM), as its data sheet says."""
INITIAL = 60.0
"""Seconds until a server answers, without the weights."""
WORSENINGS = (0.03, 0.035, 0.04, 0.05, 0.06, 0.08)


def engine_of(options: argparse.Namespace) -> Engine:
    """Return the engine that the options describe."""
    start = INITIAL + SEVENTY.memory / DISK
    return Engine(options.rate, options.request, start, options.block)


def written(model: Architecture, answers: int, tokens: int, at_once: int) -> float:
    """Return the seconds of free answers: each step reads all weights for all that are written."""
    steps = math.ceil(answers / at_once) * tokens
    return steps * model.memory / (DEVICES * BANDWIDTH * SHARE)


def items_that_see(worsening: float, most: int) -> int | None:
    """Return from how many items on a worsening is seen with 80 % power; None beyond the most."""
    low, high = 50, most
    if plan(high).smallest_visible > worsening:
        return None
    while low < high:
        middle = (low + high) // 2
        if plan(middle).smallest_visible <= worsening:
            high = middle
        else:
            low = middle + 1
    return low


def ways(work: Work, engine: Engine) -> Iterator[str]:
    """Yield the table of ways to ask the same questions."""
    without = replace(engine, block=0)
    rows = []
    for name, read, flop, requests in (
        (
            "one request a question, prefix cache",
            work.read(engine.block),
            work.flop(SEVENTY, engine.block),
            work.items,
        ),
        (
            "one request a question, no cache",
            work.read(0),
            work.flop(SEVENTY, without.block),
            work.items,
        ),
        (
            "`echo`, one request an option",
            work.read(0) * work.options,
            work.by_echo(SEVENTY),
            work.items * work.options,
        ),
    ):
        seconds = flop / engine.rate + requests * engine.request
        rows.append(
            [
                name,
                f"{requests:,}",
                f"{read / 1e6:.1f}",
                f"{flop / 1e15:,.0f}",
                f"{seconds:,.0f}",
                f"{DEVICES * seconds / 3600:.2f}",
            ]
        )
    heads = ["the full probe, asked by", "requests", "million tokens read", "PFLOP", "s"]
    yield from table([*heads, "device hours"], rows)


def subsets(work: Work, engine: Engine) -> Iterator[str]:
    """Yield the table of subsets, by the smallest regression that one wants to see."""
    rows = []
    for worsening in WORSENINGS:
        found = items_that_see(worsening, 1_000_000)
        name = f"{worsening:g}"
        if found is None:
            rows.append([name, *["–"] * 5])
            continue
        some = replace(work, items=found)
        note = f"{found:,}" + (", more than there are" if found > work.items else "")
        cells = [f"{engine.seconds(some, SEVENTY):,.0f}"]
        cells += [f"{engine.start + engine.seconds(some, SEVENTY, r):,.0f}" for r in (1, 4)]
        cells.append(f"{DEVICES * (engine.start + engine.seconds(some, SEVENTY)) / 3600:.2f}")
        rows.append([name, note, *cells])
    all_items = f"{plan(work.items).smallest_visible:.3f} (all)"
    seconds = engine.seconds(work, SEVENTY)
    rows.insert(
        0,
        [
            all_items,
            f"{work.items:,}",
            f"{seconds:,.0f}",
            *(f"{engine.start + engine.seconds(work, SEVENTY, r):,.0f}" for r in (1, 4)),
            f"{DEVICES * (engine.start + seconds) / 3600:.2f}",
        ],
    )
    heads = ["smallest regression seen", "items", "asking, s", "with the start, s"]
    yield from table([*heads, "4 replicas, s", "device hours, 1 replica"], rows)


def facts(work: Work, engine: Engine) -> Iterator[str]:
    """Yield what the tables rest on, and what else follows."""
    keep = work.prefix * SEVENTY.kept_per_token
    even = work.groups * work.kept(engine.block)
    per_item = work.read(engine.block) - even
    yield (
        f"Taken: {work.items:,} questions in {work.groups} groups, a prefix of {work.prefix:g} "
        f"tokens and {work.question:g} tokens a question; Llama 3 70B "
        f"({SEVENTY.weights / 1e9:.1f} billion weights, {SEVENTY.memory / 1e9:.0f} GB in "
        f"bfloat16), {DEVICES} devices that sustain {engine.rate / 1e12:,.0f} TFLOP/s together "
        f"({100 * engine.rate / (DEVICES * PEAK):.0f} % of their peak), {1000 * engine.request:g} "
        f"ms a request, blocks of {engine.block} tokens, {engine.start:.0f} s until the server "
        "answers."
    )
    yield ""
    yield (
        f"- The prefix cache serves {100 * work.hit_rate(engine.block):.0f} % of the prompts. It "
        f"holds {SEVENTY.kept_per_token / 1024:.0f} KiB a token: {keep / 1e6:.0f} MB for one "
        f"prefix, and no more than one at a time, since questions are asked group by group; "
        f"{work.groups * keep / 1e9:.1f} GB for all."
    )
    yield (
        f"- Replicas that are dealt requests at random each read every prefix: with 4 the tokens "
        f"read grow by {100 * (work.read(engine.block, 4) / work.read(engine.block) - 1):.0f} %, "
        f"with {math.ceil(per_item / even) + 1} they have doubled. A router that knows prefixes "
        "saves that."
    )
    alone, together = (written(SEVENTY, 1000, 50, n) for n in (1, 64))
    yield (
        f"- Free answers read all weights from memory for each token that is written: a thousand "
        f"of 50 tokens take {alone:,.0f} s one at a time, {together:.0f} s with 64 under way."
    )
    half = engine.seconds(work, SEVENTY)
    yield (
        f"- The start takes {engine.start:.0f} s and asking everything {half:.0f} s: "
        + (
            "a second replica costs more than it saves unless servers stay up."
            if engine.start > half / 2
            else "replicas pay even when each must be started."
        )
    )
    yield ""


# --- measured ------------------------------------------------------------------------------------


POINTS = (
    Questions(40, "0-shot", 40),
    Questions(120, "5-shot", 40),
    Questions(60, "5-shot", 60),
    Questions(60, "5-shot", 20),
    Questions(60, "5-shot", 5),
    Questions(120, "0-shot", 40),
)
"""What is measured; the rate is fitted to the first two."""
CHECKED = ("70m",)
"""Large enough that products take most of the time, as in one of 70 billion weights."""


def architecture_of(checkpoint: Path) -> Architecture:
    """Return the sizes of a checkpoint, from its files."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    body, _ = weights_per_token(checkpoint)
    rows = config["vocab_size"]
    return Architecture(checkpoint.name, body, layers, hidden, hidden, hidden, rows, 4.0)


def common(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows begin with."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)


def work_of(checkpoint: Path, asked: Questions) -> Work:
    """Return the tokens of questions: what those of a subject begin with, and the rest."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    task = json.loads((checkpoint.parent / "tasks" / f"{asked.task}.json").read_text("utf-8"))
    some = chosen(asked.n, asked.per_subject)
    rows = [tokenizer.encode(task["prompts"][i]).ids for i in some]
    subjects: dict[int, list[list[int]]] = {}
    for i, row in zip(some, rows, strict=True):
        subjects.setdefault(i // QUESTIONS, []).append(row)
    shared = [common(group) for group in subjects.values()]
    prefix = sum(shared) / len(shared)
    length = sum(map(len, rows)) / len(rows)
    return Work(len(rows), len(subjects), prefix, length - prefix)


def check(options: argparse.Namespace) -> Iterator[str]:
    """Measure points, and yield the table of them beside what the arithmetic says."""
    folder = options.work or Path(mkdtemp(prefix="scale-"))
    maker = [sys.executable, str(HERE / "scorer_material.py"), str(folder), ",".join(CHECKED)]
    subprocess.run(maker, check=True)
    rows, errors = [], []
    load = os.getloadavg()[0]
    for name in CHECKED:
        checkpoint = folder / name
        model = architecture_of(checkpoint)
        works = [work_of(checkpoint, asked) for asked in POINTS]
        with served(checkpoint, options.vllm_python) as server:
            found = [one_round(OURS, server, checkpoint, p, sys.executable) for p in POINTS]
        points = [
            (work.flop(model, BLOCK), one["cpu"]) for work, one in zip(works, found, strict=True)
        ]
        engine = fitted(points[:2], BLOCK)
        say(f"{name}: {engine.rate / 1e9:.1f} GFLOP/s; (FLOP, s): {points}")
        for i, (asked, work, one) in enumerate(zip(POINTS, works, found, strict=True)):
            said = engine.seconds(work, model)
            if i > 1:
                errors.append(abs(said / one["cpu"] - 1))
            rows.append(
                [
                    f"{name}, {asked.task}, {work.items} questions in {work.groups} subjects",
                    "fitted" if i < 2 else "foretold",
                    f"{work.prompts:,.0f}",
                    f"{100 * work.hit_rate(BLOCK):.0f}",
                    f"{100 * one['hits'] / one['queries']:.0f}",
                    f"{said:.1f}",
                    f"{one['cpu']:.1f}",
                    f"{100 * (said / one['cpu'] - 1):+.0f}" if i > 1 else "–",
                ]
            )
    yield (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}. {machine('cpu')}, vLLM in float32, "
        f"blocks of {BLOCK} tokens; load average {load:.1f} when it began. Processor seconds of "
        "the server, which other processes do not change as much as its wall clock. Foretold and "
        f"measured differ by {100 * sum(errors) / len(errors):.0f} % in the mean, by "
        f"{100 * max(errors):.0f} % at most."
    )
    yield ""
    heads = ["measured", "", "tokens of prompts", "prefix cache, %, computed", "measured"]
    yield from table([*heads, "CPU s, computed", "measured", "apart, %"], rows)


def report(options: argparse.Namespace) -> Iterator[str]:
    """Yield all lines."""
    work = Work(options.items, options.groups, options.prefix, options.question)
    engine = engine_of(options)
    if options.measured:
        seconds = extrapolated(options.measured, options.items)
        yield f"{options.items:,} items: {seconds:,.0f} s, from the runs that were measured."
        return
    yield from facts(work, engine)
    yield from ways(work, engine)
    yield from subsets(work, engine)
    if options.check:
        yield from check(options)


def pair(text: str) -> tuple[float, float]:
    """Read ``ITEMS:SECONDS``."""
    items, _, seconds = text.partition(":")
    return float(items), float(seconds)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--items", type=int, default=FULL)
    parser.add_argument("--groups", type=int, default=57)
    parser.add_argument("--prefix", type=float, default=640.0, help="tokens before the questions")
    parser.add_argument("--question", type=float, default=122.0, help="tokens of a question")
    parser.add_argument("--rate", type=float, default=DEVICES * PEAK * SHARE, help="FLOP/s")
    parser.add_argument("--request", type=float, default=0.001, help="seconds of any request")
    parser.add_argument("--block", type=int, default=16, help="tokens of a block of the cache")
    parser.add_argument("--measured", type=pair, action="append", help="ITEMS:SECONDS, twice")
    parser.add_argument("--check", action="store_true", help="measure points on a server here")
    parser.add_argument("--vllm-python", help="a Python that has vLLM (default: this one)")
    parser.add_argument("--work", type=Path, help="folder to keep checkpoints and tasks in")
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    if options.measured and (
        len(options.measured) != 2 or options.measured[0][0] == options.measured[1][0]
    ):
        parser.error("--measured is given twice, for two numbers of items")
    return options


def main() -> int:
    """Print the tables, or put them between the marks of a page."""
    options: Any = parsed()
    publish("\n".join(report(options)).rstrip(), options.write, "benchmarks/scale.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
