"""How often does the gate fail on twelve more sources: unchanged, better, and worse in many ways?

And: what a verdict says beforehand (the smallest visible shift, the number of items that decides),
and ten comparisons of one model at once.

::

    python benchmarks/gate_sources.py             # print the tables (12 minutes on two cores)
    python benchmarks/gate_sources.py --write docs/explanation/statistics.md

The sources and damages are those of ``generators``; each damage is as large as makes the ECE of the
population worse by the amount that the table names. The accuracy guard is on.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from generators import (
    DAMAGES,
    SOURCES,
    Draw,
    Source,
    confident_share,
    damaged,
    four_way,
    mended,
    population_worsening,
    sized,
)
from pages import publish

from pytest_calibration import Predictions, State
from pytest_calibration.gate.aa import AASettings, aa_check
from pytest_calibration.gate.decision import decide
from pytest_calibration.gate.family import holm
from pytest_calibration.gate.planning import plan, plans_like
from pytest_calibration.gate.strictness import ALPHA, Strictness

WORSE = 0.055
BETTER = (0.02, 0.05, 0.10)
SHARES = (0.1, 0.2, 0.3)
# Four-way, ten-way, binary, verbal, and documents; few and many answers change.
KINDS: dict[str, Source] = {
    "four-way": four_way,
    "four-way, documents of 10": partial(four_way, document=10),
    **{s: SOURCES[s] for s in ("ten-way", "saturated binary", "verbal", "bfloat16 ties",
                               "next tokens in documents", "3 % flips", "strong model")},
}  # fmt: skip
FAMILIES = ("item response", "ten-way", "3 % flips")
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


def _sides(draw: Source, n: int, seed: tuple[int, ...]) -> Draw:
    return draw(n, np.random.default_rng(seed))


def seen(source: str, n: int, trials: int) -> list[str]:
    """Return the cells of one row: what is visible, and what came of damages of that size."""
    draw = SOURCES[source]
    visible = float(np.median([decide(_sides(draw, n, (1, n, t)).paired()).smallest_visible
                               for t in range(20)]))  # fmt: skip
    cells = [f"{visible:.3f}"]
    for damage in ("shift", "scale", "flat"):
        worse = draw_of(source, damage, visible, damaged)
        if worse is None:
            cells.append("–")
            continue
        found = [decide(_sides(worse, n, (7, n, t)).paired()) for t in range(trials)]
        fail = sum(d.state is State.REGRESSED for d in found)
        undecided = sum(d.state is State.INCONCLUSIVE for d in found)
        cells.append(f"{100 * fail / trials:.0f} + {100 * undecided / trials:.0f}")
    return cells


def decides(source: str, trials: int) -> list[str]:
    """Return from how many items on half of the unchanged comparisons decide, and what is said."""
    draw = KINDS[source]
    large = _sides(draw, 20_000, (2,))
    changed = float((large.correct0 != large.correct1).mean())
    low, high = 50, 5000
    while high > 1.03 * low:
        n = round((low * high) ** 0.5)
        states = [decide(_sides(draw, n, (5, n, t)).paired()).state for t in range(trials)]
        decided = sum(state is not State.INCONCLUSIVE for state in states)
        low, high = (low, n) if 2 * decided >= trials else (n, high)
    d = _sides(draw, 1500, (9,))
    own = Predictions.from_confidence(d.confidence0, d.correct0 > 0.5, groups=d.groups)
    of_own = plans_like(own, 1500, Strictness(), changed)(1500).n_needed
    check = aa_check(own, settings=AASettings(of_own, trials, changed=changed, excesses=()))
    return [
        f"{changed:.0%}",
        f"{(low * high) ** 0.5:.0f}",
        f"{plan(1500, changed=changed).n_needed}",
        f"{of_own}",
        f"{100 * (1 - check.inconclusive.share):.0f} %",
    ]


def family(source: str, n: int, worse: int, trials: int) -> str:
    """Return how often any of ten comparisons fails, or one that is worse: alone, and by Holm."""
    same = SOURCES[source]
    damage = draw_of(source, "scale", WORSE, damaged) if worse else same
    if damage is None:
        return "–"
    draws = [damage] * worse + [same] * (10 - worse)
    counts = np.zeros(2)
    for trial in range(trials):
        found = [decide(_sides(one, n, (8, n, trial, i)).paired()) for i, one in enumerate(draws)]
        fired = np.array([d.state is State.REGRESSED for d in found])
        p_values = [1.0 if np.isnan(d.p_value) else d.p_value for d in found]
        kept = fired & np.array(holm(p_values, [ALPHA] * 10))
        counts += [f[:worse].mean() if worse else float(f.any()) for f in (fired, kept)]
    return " / ".join(f"{100 * c / trials:.1f}" for c in counts)


def table(heads: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield ""
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "--:|" * (len(heads) - 1)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def unchanged(pool: Executor, trials: int) -> Iterator[str]:
    """Nothing changed."""
    sizes = (200, 500, 1000, 2000)
    jobs = [pool.submit(cell, (s, draw, sizes, 4 * trials, True)) for s, draw in SOURCES.items()]
    yield "**Nothing changed** (inconclusive in brackets)."
    heads = ["source", *(f"n = {n:,}" for n in sizes)]
    yield from table(heads, ([s, job.result()] for s, job in zip(SOURCES, jobs, strict=True)))


def worse(pool: Executor, trials: int) -> Iterator[str]:
    """Every damage on every source."""
    damages = [d for d in DAMAGES if d != "least sure tenth"]
    jobs = {
        (s, d): pool.submit(sized_cell, s, d, WORSE, False, (500, 1000), trials)
        for s in SOURCES
        for d in damages
    }
    yield (
        f"**Worse by {WORSE}**, n = 500 / 1,000; – where the damage cannot be so large. Shift, "
        "scale and flat act on all items, class-wise on a third, slice on a fifth."
    )
    rows = ([s, *(jobs[s, d].result() for d in damages)] for s in SOURCES)
    yield from table(["source", *damages], rows)


def better(pool: Executor, trials: int) -> Iterator[str]:
    """Models that got better."""
    kinds = [(d, by) for d in ("scale", "shift") for by in BETTER]
    jobs = {
        (s, *kind): pool.submit(sized_cell, s, *kind, True, (200, 500, 1000), trials)
        for s in SOURCES
        for kind in kinds
    }
    yield "**Better**: the baseline was damaged, the candidate is not; n = 200 / 500 / 1,000."
    heads = ["source", *(f"{d}, by {by:.2f}" for d, by in kinds)]
    yield from table(heads, ([s, *(jobs[s, *kind].result() for kind in kinds)] for s in SOURCES))


def tail(pool: Executor, trials: int) -> Iterator[str]:
    """Damage confined to the confident answers."""
    sizes = (500, 1000, 2000, 5000)
    jobs = []
    for share in SHARES:
        for right, sure in ((0.90, 0.99), (0.97, 0.97)):
            draw = partial(confident_share, share=share, right=right, sure=sure)
            job = pool.submit(cell, (f"tail {share} {sure}", draw, sizes, trials, True))
            jobs.append((f"{share:.0%}{', unchanged' * (sure < 0.99)}", draw, job))
    yield (
        "**The confident answers**: a share of the items goes from 0.97 right at 0.97 to 0.90 "
        "right at 0.99, all others are at most 0.9 sure; and the same share unchanged."
    )
    heads = ["share", "ECE worse by", *(f"n = {n:,}" for n in sizes)]
    rows = ([n, f"{population_worsening(draw):z.3f}", job.result()] for n, draw, job in jobs)
    yield from table(heads, rows)


def unsure(pool: Executor, trials: int) -> Iterator[str]:
    """Damage confined to the least sure tenth, about the tolerance."""
    sources, sizes = ("strong model", "saturated binary", "ten-way"), (0.010, 0.015, 0.020)
    jobs = {
        (s, by): pool.submit(sized_cell, s, "least sure tenth", by, False, (1000, 5000), trials)
        for s in sources
        for by in sizes
    }
    yield "**The least sure tenth claims less**, n = 1,000 / 5,000."
    rows = ([s, *(jobs[s, by].result() for by in sizes)] for s in sources)
    yield from table(["source", *(f"by {by:.3f}" for by in sizes)], rows)


def visible(pool: Executor, trials: int) -> Iterator[str]:
    """Whether the smallest visible shift is one."""
    jobs = [
        (s, [pool.submit(seen, s, n, max(100, trials // 2)) for n in (500, 1000)]) for s in SOURCES
    ]
    yield (
        "**The smallest visible shift**, as a verdict states it (80 % power), and what comes of "
        "damages that make ECE worse by so much: fail + inconclusive, n = 500, then 1,000. It is "
        "claimed for shift and scale, not for flat."
    )
    heads = ["source", *("visible", "shift", "scale", "flat") * 2]
    yield from table(heads, ([s, *(c for job in row for c in job.result())] for s, row in jobs))


def needed(pool: Executor, trials: int) -> Iterator[str]:
    """Whether plan, A/A check and gate agree on how many items decide."""
    jobs = {s: pool.submit(decides, s, max(60, trials // 4)) for s in KINDS}
    yield (
        "**How many items decide**: from how many on half of the unchanged comparisons do, what "
        "`plan --changed` says without and with a record of 1,500 items, and the share that `aa` "
        "finds decided on so many."
    )
    heads = ["source", "answers change", "half decide", "`plan`", "with a record", "`aa`"]
    yield from table(heads, ([s, *job.result()] for s, job in jobs.items()))


def together(pool: Executor, trials: int) -> Iterator[str]:
    """Ten comparisons at once."""
    sizes = (200, 500, 1000)
    jobs = {
        (s, n): [pool.submit(family, s, n, worse, trials) for worse in (0, 1, 10)]
        for s in FAMILIES
        for n in sizes
    }
    yield (
        "**Ten comparisons of one model**, by `calibration_family = none` / `holm`: how often any "
        f"of ten unchanged ones fails, and how often one that is worse by {WORSE} (scale) does, "
        "beside nine unchanged ones and beside nine as bad."
    )
    heads = ["source", "n", "none worse", "one worse", "all worse"]
    rows = ([s, f"{n:,}", *(job.result() for job in row)] for (s, n), row in jobs.items())
    yield from table(heads, rows)


def tables(trials: int, workers: int | None) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    yield (
        f"Shares of comparisons that fail, in per cent ({trials:,} trials a cell, {4 * trials:,} "
        "where nothing changed)."
    )
    with ProcessPoolExecutor(workers) as pool:
        for part in (unchanged, worse, better, tail, unsure, visible, needed, together):
            yield ""
            yield from part(pool, trials)


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
