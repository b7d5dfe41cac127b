"""What does stopping early save, and what does it cost, against the same gate on all items?

Items used, false alarms and power of the gate at four looks beside the gate on all items, on
sources of different makes; and whether the increments between looks are as independent, and as
large, as the bounds take them to be: of the learned shape and the cross-fitted ECE that is a
question for a measurement, not a theorem.

::

    python benchmarks/early_stopping.py           # print the tables (13 minutes of one core)
    python benchmarks/early_stopping.py --write docs/early-stopping.md

The sources and damages are those of ``generators``; each damage is as large as makes the ECE of the
population worse by the amount that the table names. The accuracy guard is on.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from generators import SOURCES, Draw, Source, damaged, sized
from numpy.typing import NDArray
from pages import publish

from pytest_calibration import State
from pytest_calibration.gate.components import Paired, ece_component, gap_component, shape_component
from pytest_calibration.gate.decision import Decision, decide
from pytest_calibration.gate.early_stop import decide_at_look
from pytest_calibration.gate.looks import SHARES, Look
from pytest_calibration.gate.strictness import TOLERANCE

NAMES = (
    *("item response", "strong model", "ten-way", "uneven groups", "next tokens in documents"),
    *("3 % flips", "t(1.5) noise", "verbal"),
)
SIZES = (1000, 2000, 5000)
WORSE = (0.055, 0.08, 0.15)
# What is measured of the increments, and from how many items on a quarter of them has it.
MEASURED = {
    "signed gap": gap_component,
    "shape": shape_component,
    "cross-fitted ECE": ece_component,
}
INCREMENTS_AT = 2400
Row = list[str]


class Ran(NamedTuple):
    """Rates of one cell, in per cent.

    Attributes:
        fixed: of the gate on all items.
        early: of the gate that may stop early.
        used: items that it asked.
        disagree: passes where the gate on all items fails.
    """

    fixed: float
    early: float
    used: float
    disagree: float


def part(pair: Paired, k: int) -> Paired:
    """Return the first k items."""
    clusters = None if pair.clusters is None else pair.clusters[:k]
    names = ("confidence0", "correct0", "confidence1", "correct1", "folds")
    return replace(pair, clusters=clusters, **{name: getattr(pair, name)[:k] for name in names})


def sizes_of(pair: Paired) -> list[int]:
    """Return how many items are known at each look: whole groups, until a share is reached."""
    n = len(pair.gap0)
    ends = np.arange(1, n + 1)
    if pair.clusters is not None:
        ends = np.append(np.flatnonzero(np.diff(pair.clusters)) + 1, n)
    return [int(ends[np.searchsorted(ends, share * n - 1e-9)]) for share in SHARES]


def at_looks(pair: Paired) -> tuple[Decision, float]:
    """Return what a comparison that may stop early comes to, and the share of the items asked."""
    n, asked = len(pair.gap0), sizes_of(pair)
    ids = np.arange(n, dtype=np.uint64)
    known: list[float] = []
    for number, k in enumerate(asked, 1):
        if known and k / n <= known[-1]:
            continue
        known.append(k / n)
        planned = (share for share in SHARES[number:] if share > k / n)
        look = Look(number, len(SHARES), k, (*known, *planned), ids)
        decision = decide_at_look(part(pair, k), look)
        assert decision.look is not None
        if decision.look.stopped:
            break
    return decision, k / n


def _draw(draw: Source, n: int, name: str, trial: int) -> Paired:
    found: Draw = draw(n, np.random.default_rng((zlib.crc32(name.encode()), n, trial)))
    return found.paired()


@lru_cache
def draw_of(source: str, damage: str, by: float) -> Source | None:
    """Return a source with a damage of this size; None where none is so large."""
    if by == 0:
        return SOURCES[source]
    try:
        found = sized(by, damaged, source=source, damage=damage)
    except ValueError:
        return None
    return partial(damaged, **found.keywords)


def ran(
    source: str, damage: str, by: float, sizes: tuple[int, ...], trials: int
) -> list[Ran] | None:
    """Run both gates on the same comparisons, at each n; None where no damage is so large."""
    draw = draw_of(source, damage, by)
    if draw is None:
        return None
    return [_ran(draw, f"{source}: {damage} {by}", n, trials) for n in sizes]


def _ran(draw: Source, name: str, n: int, trials: int) -> Ran:
    counts = np.zeros(4)
    for trial in range(trials):
        pair = _draw(draw, n, name, trial)
        fixed = decide(pair).state is State.REGRESSED
        decision, used = at_looks(pair)
        early = decision.state is State.REGRESSED
        counts += (fixed, early, used, fixed and not early)
    return Ran(*(100 * counts / trials).tolist())


def at_visible(source: str, sizes: tuple[int, ...], trials: int) -> list[Ran] | None:
    """Run both on damages as large as the gate on all items says it sees in 80 % of runs."""
    out: list[Ran] = []
    for n in sizes:
        found = [decide(_draw(SOURCES[source], n, source, t)).smallest_visible for t in range(20)]
        visible = float(np.median(found))
        one = None if np.isnan(visible) else ran(source, "scale", visible, (n,), trials)
        if one is None:
            return None
        out += one
    return out


def increments(source: str, by: float, trials: int) -> dict[str, NDArray[np.float64]]:
    """Return, of each component, (trials, looks) increments in units of what is claimed.

    The statistic is t times the worsening over the standard error of all items. Between two looks
    it should grow by independent amounts of variance t2 - t1: what is returned has variance 1 then.
    """
    draw = draw_of(source, "scale", by)
    assert draw is not None
    out: dict[str, list[NDArray[np.float64]]] = {name: [] for name in MEASURED}
    for trial in range(trials):
        pair = _draw(draw, INCREMENTS_AT, f"increments {source} {by}", trial)
        asked = sizes_of(pair)
        t = np.array(asked) / len(pair.gap0)
        for name, component in MEASURED.items():
            parts = [component(part(pair, k), TOLERANCE, 0.0) for k in asked]
            error = parts[-1].standard_error
            b = t * np.array([p.worsening for p in parts]) / error
            with np.errstate(invalid="ignore", divide="ignore"):
                out[name].append(np.diff(b, prepend=0.0) / np.sqrt(np.diff(t, prepend=0.0)))
    return {name: np.array(rows) for name, rows in out.items()}


def increments_row(source: str, by: float, trials: int) -> Row:
    """Return the largest correlation of two increments, and their standard deviation, a cell each.

    Looks at which nothing was added, or at which a component does not apply, are left out.
    """
    cells = []
    for rows in increments(source, by, trials).values():
        usable = rows[:, np.isfinite(rows).all(axis=0)]
        if usable.shape[1] < 2:
            cells.append("–")
            continue
        correlation = np.corrcoef(usable.T)
        np.fill_diagonal(correlation, 0.0)
        largest = correlation.flat[np.abs(correlation).argmax()]
        spread = usable.std(axis=0, ddof=1)
        cells.append(f"{largest:+.2f} ({spread.min():.2f} to {spread.max():.2f})")
    return [f"{source}{f', +{by}' if by else ', unchanged'}", *cells]


# --- the tables ----------------------------------------------------------------------------------


def table(heads: Row, rows: Iterator[Row]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield ""
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "--:|" * (len(heads) - 1)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def used(job: Future[Any]) -> str:
    """Return the items used at each n: ``68 / 58 / 52``."""
    cells: list[Ran] | None = job.result()
    return "–" if cells is None else " / ".join(f"{cell.used:.0f}" for cell in cells)


def failing(job: Future[Any]) -> str:
    """Return the failures of both gates at each n: ``83→80 / 88→87``."""
    cells: list[Ran] | None = job.result()
    if cells is None:
        return "–"
    return " / ".join(f"{cell.fixed:.1f}→{cell.early:.1f}" for cell in cells)


def rates(pool: Executor, trials: int) -> Iterator[str]:
    """Items used, false alarms and power."""
    kinds = [("nothing", "scale", 0.0, 4 * trials), ("on the line", "shift", TOLERANCE, trials)]
    kinds += [(f"+{by}", "scale", by, trials) for by in WORSE]
    jobs = {
        (source, label): pool.submit(ran, source, damage, by, SIZES, many)
        for source in NAMES
        for label, damage, by, many in kinds
    }
    visible = {s: pool.submit(at_visible, s, SIZES[:2], trials) for s in NAMES}
    sizes = " / ".join(f"{n:,}" for n in SIZES)
    heads = ["source", *(label for label, *_ in kinds)]
    yield f"**Items used**, in per cent; n = {sizes}."
    rows = ([s, *(used(jobs[s, label]) for label, *_ in kinds)] for s in NAMES)
    yield from table(heads, rows)
    yield ""
    yield (
        f"**Comparisons that fail**, in per cent, on all items→at looks; n = {sizes}. At the "
        "smallest visible shift of all items: n = 1,000 / 2,000."
    )
    rows = (
        [s, *(failing(jobs[s, label]) for label, *_ in kinds), failing(visible[s])] for s in NAMES
    )
    yield from table([*heads, "smallest visible"], rows)
    yield ""
    yield from pooled(jobs, visible, [label for label, *_ in kinds])


def pooled(
    jobs: dict[tuple[str, str], Future[Any]], visible: dict[str, Future[Any]], labels: list[str]
) -> Iterator[str]:
    """All sources together."""
    cells = {label: [jobs[s, label].result() for s in NAMES] for label in labels}
    cells["smallest visible"] = [job.result() for job in visible.values()]
    yield "**All of these together**, in per cent."
    rows = []
    for label, found in cells.items():
        there = [cell for row in found if row is not None for cell in row]
        fixed, early, asked, disagree = np.mean(there, axis=0)
        rows.append([label, f"{asked:.0f}", f"{fixed:.2f}", f"{early:.2f}", f"{disagree:.2f}"])
    heads = ["", "items used", "fail on all items", "fail at looks", "fail on all items alone"]
    yield from table(heads, iter(rows))


def independence(pool: Executor, trials: int) -> Iterator[str]:
    """Whether increments are independent, and as large as claimed."""
    jobs = [pool.submit(increments_row, s, by, trials) for s in NAMES for by in (0.0, 0.08)]
    chance = 1 / np.sqrt(trials)
    yield (
        f"**Increments between looks** ({INCREMENTS_AT:,} items, {trials:,} trials): the largest "
        "correlation of two, and in brackets the standard deviations over those that the bounds "
        f"claim (1 is right, less is careful). One correlation is known to ± {chance:.2f}; of the "
        "largest of six, independent ones show about twice that."
    )
    rows = (job.result() for job in jobs)
    yield from table(["source", *MEASURED], rows)


def tables(trials: int, workers: int | None) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    yield (
        f"{trials:,} trials a cell, {4 * trials:,} where nothing changed; tolerance "
        f"{TOLERANCE:.2f}, α = 0.05. – where the damage cannot be so large."
    )
    with ProcessPoolExecutor(workers) as pool:
        for one in (rates, independence):
            yield ""
            yield from one(pool, trials)


def main() -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    text = "\n".join(tables(options.trials, options.workers))
    publish(text, options.write, "benchmarks/early_stopping.py")


if __name__ == "__main__":
    main()
