"""How often does the gate fail on twelve more sources: unchanged, better, and worse in many ways?

::

    python benchmarks/gate_sources.py             # print the tables (8 minutes on two cores)
    python benchmarks/gate_sources.py --write docs/statistics.md

The sources and damages are those of ``generators``; each damage is as large as makes the ECE of the
population worse by the amount that the table names. The accuracy guard is on.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from generators import (
    DAMAGES,
    SOURCES,
    Source,
    confident_share,
    damaged,
    mended,
    population_worsening,
    sized,
)
from pages import publish

from pytest_calibration import State
from pytest_calibration.gate.decision import decide

WORSE = 0.055
BETTER = (0.02, 0.05, 0.10)
SHARES = (0.1, 0.2, 0.3)
Row = tuple[str, tuple[float, ...]]


def fails(name: str, draw: Source, n: int, trials: int) -> tuple[float, float]:
    """Return the shares of comparisons that fail, and that are inconclusive, in per cent."""
    seed = zlib.crc32(name.encode())
    states = [
        decide(draw(n, np.random.default_rng((seed, n, trial))).paired()).state
        for trial in range(trials)
    ]
    return tuple(
        100 * states.count(state) / trials for state in (State.REGRESSED, State.INCONCLUSIVE)
    )


def draw_of(source: str, damage: str, by: float, kind: Callable[..., object]) -> Source | None:
    """Return a source with a damage of this size, before or after; None where none is so large."""
    try:
        found = sized(by, damaged, source=source, damage=damage)
    except ValueError:
        return None
    return partial(kind, **found.keywords)


def cell(job: tuple[str, Source | None, tuple[int, ...], int, bool]) -> str:
    """Return the rates of one cell at each n, with the inconclusive ones in brackets if wanted."""
    name, draw, sizes, trials, undecided = job
    if draw is None:
        return "–"
    rates = [fails(name, draw, n, trials) for n in sizes]
    if undecided:
        return " | ".join(f"{one:.1f} ({other:.0f})" for one, other in rates)
    return " / ".join(f"{one:.1f}" if trials > 500 else f"{one:.0f}" for one, _ in rates)


def sized_cell(
    source: str, damage: str, by: float, better: bool, sizes: tuple[int, ...], trials: int
) -> str:
    """Return the cell of a damage that has yet to be sized."""
    draw = draw_of(source, damage, by, mended if better else damaged)
    return cell((f"{source}: {damage} {by} {better}", draw, sizes, trials, False))


def table(heads: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield ""
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "--:|" * (len(heads) - 1)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def tables(trials: int, workers: int | None) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    yield (
        f"Shares of comparisons that fail, in per cent ({trials:,} trials a cell, {4 * trials:,} "
        "where nothing changed)."
    )
    sizes = (200, 500, 1000, 2000)
    with ProcessPoolExecutor(workers) as pool:
        unchanged = pool.map(
            cell, [(name, draw, sizes, 4 * trials, True) for name, draw in SOURCES.items()]
        )
        pairs = [(s, d) for s in SOURCES for d in DAMAGES if d != "least sure tenth"]
        worse = {
            pair: pool.submit(sized_cell, *pair, WORSE, False, (500, 1000), trials)
            for pair in pairs
        }
        kinds = [(d, by) for d in ("scale", "shift") for by in BETTER]
        better = {
            (s, *kind): pool.submit(sized_cell, s, *kind, True, (200, 500, 1000), trials)
            for s in SOURCES
            for kind in kinds
        }
        tail = {
            share: [
                pool.submit(
                    cell, (f"tail {share} {sure}", draw, (500, 1000, 2000, 5000), trials, True)
                )
                for sure, draw in (
                    (0.97, partial(confident_share, share=share)),
                    (0.99, partial(confident_share, share=share, right=0.90, sure=0.99)),
                )
            ]
            for share in SHARES
        }
        unsure = {
            (source, by): pool.submit(
                sized_cell, source, "least sure tenth", by, False, (1000, 5000), trials
            )
            for source in ("strong model", "saturated binary", "ten-way")
            for by in (0.010, 0.015, 0.020)
        }
        yield ""
        yield "**Nothing changed** (inconclusive in brackets)."
        heads = ["source", *(f"n = {n:,}" for n in sizes)]
        yield from table(heads, ([s, rates] for s, rates in zip(SOURCES, unchanged, strict=True)))
        yield ""
        yield (
            f"**Worse by {WORSE}**, n = 500 / 1,000; – where the damage cannot be so large. Shift, "
            "scale and flat act on all items, class-wise on a third, slice on a fifth."
        )
        damages = [d for d in DAMAGES if d != "least sure tenth"]
        yield from table(
            ["source", *damages],
            ([s, *(worse[s, d].result() for d in damages)] for s in SOURCES),
        )
        yield ""
        yield "**Better**: the baseline was damaged, the candidate is not; n = 200 / 500 / 1,000."
        yield from table(
            ["source", *(f"{d}, by {by:.2f}" for d, by in kinds)],
            ([s, *(better[s, *kind].result() for kind in kinds)] for s in SOURCES),
        )
        yield ""
        yield (
            "**The confident answers**: a share of the items goes from 0.97 right at 0.97 to 0.90 "
            "right at 0.99, all others are at most 0.9 sure; and the same share unchanged."
        )
        heads = ["share", "ECE worse by", *(f"n = {n:,}" for n in (500, 1000, 2000, 5000))]
        rows = []
        for share, (same, changed) in tail.items():
            draw = partial(confident_share, share=share, right=0.90, sure=0.99)
            rows.append([f"{share:.0%}", f"{population_worsening(draw):.3f}", changed.result()])
            rows.append([f"{share:.0%}, unchanged", "0.000", same.result()])
        yield from table(heads, iter(rows))
        yield ""
        yield "**The least sure tenth claims less**, n = 1,000 / 5,000."
        yield from table(
            ["source", "by 0.010", "by 0.015", "by 0.020"],
            (
                [s, *(unsure[s, by].result() for by in (0.010, 0.015, 0.020))]
                for s in ("strong model", "saturated binary", "ten-way")
            ),
        )


def main() -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    text = "\n".join(tables(options.trials, options.workers))
    publish(text, options.write, "benchmarks/gate_sources.py")


if __name__ == "__main__":
    main()
