"""What does a gate cost on a model of 70 billion parameters, and is the arithmetic right?

::

    python benchmarks/scale.py                            # computed: no model, no server, a second
    python benchmarks/scale.py --check                    # the same arithmetic, measured here with vLLM
    python benchmarks/scale.py --write docs/scale.md [--check]
    python benchmarks/scale.py --items 3000 --prefix 900 --question 150 --rate 1.2e15 --replicas 2
    python benchmarks/scale.py --measured 200:14.2 --measured 800:41.0 --items 14042

A multiple-choice probe has *items* in *groups* (MMLU: subjects), each group with a *prefix* (header
and solved examples) before its questions, all in tokens. The engine multiplies every token that it
reads with the model's weights (2 FLOP a weight), attends to the tokens before it (4 FLOP a layer,
channel and token), and predicts one token a request. What of a prompt lies in the prefix cache, in
whole blocks, is not read again. The time is that arithmetic over a sustained rate, plus what each
request costs whatever its length, plus the start of the server.

Rate and cost of a request are of one machine: fitted to two measured points (``--check``), or given.
``--measured ITEMS:SECONDS``, twice, extrapolates from runs of your own with ``--calibration-limit``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pages import publish
from scorer import table

from pytest_calibration import plan

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


def fitted(points: Sequence[tuple[float, float, float]], block: int) -> Engine:
    """Return the engine that two points tell: (FLOP, requests, seconds) each."""
    (f1, n1, s1), (f2, n2, s2) = points
    determinant = f1 * n2 - f2 * n1
    inverse = (s1 * n2 - s2 * n1) / determinant
    request = (f1 * s2 - f2 * s1) / determinant
    return Engine(1 / inverse, request, block=block)


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
"""Of the peak, that reading prompts sustains."""
DISK = 2e9
"""Bytes a second at which weights are loaded."""
INITIAL = 60.0
"""Seconds until a server answers, without the weights."""
WORSENINGS = (0.03, 0.035, 0.04, 0.05, 0.06, 0.08)


def engine_of(options: argparse.Namespace) -> Engine:
    """Return the engine that the options describe."""
    start = INITIAL + SEVENTY.memory / DISK
    return Engine(options.rate, options.request, start, options.block)


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


def check(options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of measured points beside what the arithmetic says of them."""
    from scale_points import measured_points

    yield from measured_points(options)


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
