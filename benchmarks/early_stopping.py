"""What does stopping early save, and what does it cost, against the same gate on all items?

Items used, false alarms and power of the gate at four looks beside the gate on all items, on
sources of different makes; and whether the increments between looks are as independent, and as
large, as the bounds take them to be: of the learned shape and the cross-fitted ECE that is a
question for a measurement, not a theorem.

::

    python benchmarks/early_stopping.py           # print the tables (8 minutes of one core)
    python benchmarks/early_stopping.py --write docs/explanation/early-stopping.md

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
from pytest_calibration.gate.decision import MIN_UNITS, Decision, decide
from pytest_calibration.gate.early_stop import decide_at_look
from pytest_calibration.gate.looks import SHARES, Look, look_levels
from pytest_calibration.gate.strictness import ALPHA, TOLERANCE
from pytest_calibration.uncertainty.quantiles import upper_quantile

NAMES = (
    *("item response", "strong model", "ten-way", "uneven groups", "next tokens in documents"),
    *("3 % flips", "t(1.5) noise", "verbal"),
)
SIZES = (1000, 2000, 5000)
WORSE = (0.055, 0.08, 0.15)
# What is measured at each look, on so many items that a quarter of them has it.
MEASURED = {
    "signed gap": gap_component,
    "shape": shape_component,
    "cross-fitted ECE": ece_component,
}
PATHS_AT = 2400
Array = NDArray[np.float64]
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
    for number, k in enumerate(asked, 1):
        if k in asked[: number - 1]:
            continue
        sizes = tuple(dict.fromkeys(asked[:number]))
        look = Look(number, len(SHARES), k, n, ids, sizes, SHARES[number:])
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


class Paths(NamedTuple):
    """A component at each look of many comparisons.

    Attributes:
        worsening: (trials, looks) as measured.
        error: (trials, looks) its standard error.
        t: (looks,) share of the items known.
        units: (looks,) number of units of equal size.
    """

    worsening: Array
    error: Array
    t: Array
    units: list[int]

    def increments(self) -> tuple[float, float, float] | None:
        """Return the largest correlation of two increments, and the range of their spreads.

        The statistic is √t times the distance of the worsening from its mean, over the standard
        error of that look: what the bounds are about. It should grow from look to look by
        independent amounts of variance t2 - t1; a spread is the root of that over the claim. Looks
        at which a component does not apply are left out; None with fewer than two others.
        """
        there = np.isfinite(self.worsening + self.error).all(axis=0)
        if there.sum() < 2:
            return None
        worsening, error, t = self.worsening[:, there], self.error[:, there], self.t[there]
        b = np.sqrt(t) * (worsening - worsening.mean(axis=0)) / error
        grown = np.diff(b, axis=1, prepend=0.0) / np.sqrt(np.diff(t, prepend=0.0))
        correlation = np.corrcoef(grown.T)
        np.fill_diagonal(correlation, 0.0)
        spread = grown.std(axis=0, ddof=1)
        largest = correlation.flat[np.abs(correlation).argmax()]
        return float(largest), float(spread.min()), float(spread.max())

    def beyond(self, truth: float) -> tuple[float, float]:
        """Return how often a bound lies beyond the truth, in per cent: of one look, of any look."""
        levels = look_levels(ALPHA, tuple(self.t.tolist()))
        z = np.array([upper_quantile(*one) for one in zip(levels, self.units, strict=True)])
        with np.errstate(invalid="ignore"):
            at_looks = self.worsening - z * self.error > truth
        single = upper_quantile(ALPHA, self.units[-1])
        once = self.worsening[:, -1] - single * self.error[:, -1] > truth
        return 100 * float(once.mean()), 100 * float(at_looks.any(axis=1).mean())


def paths(source: str, by: float, trials: int) -> dict[str, Paths]:
    """Return every measured component at each look."""
    draw = draw_of(source, "scale", by)
    assert draw is not None
    found: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in MEASURED}
    for trial in range(trials):
        pair = _draw(draw, PATHS_AT, f"paths {source} {by}", trial)
        asked = list(dict.fromkeys(sizes_of(pair)))
        for name, component in MEASURED.items():
            parts = [component(part(pair, k), TOLERANCE, 0.0) for k in asked]
            few = [part(pair, k).units < MIN_UNITS for k in asked]
            found[name].append(
                [
                    (np.nan if is_few else p.worsening, p.standard_error)
                    for p, is_few in zip(parts, few, strict=True)
                ]
            )
    units = [part(pair, k).equal_units for k in asked]
    t = np.array(asked) / len(pair.gap0)
    out = {}
    for name, rows in found.items():
        worsening, error = np.array(rows).transpose(2, 0, 1)
        out[name] = Paths(worsening, error, t, units)
    return out


def paths_row(source: str, trials: int) -> tuple[Row, Row]:
    """Return the cells of a source: increments where it is worse, and bounds beyond the truth."""
    grown, missed = [source], [source]
    worse = paths(source, WORSE[1], trials)
    for path in worse.values():
        found = path.increments()
        cell = "–" if found is None else "{:+.2f} ({:.2f} to {:.2f})".format(*found)
        grown.append(cell)
    for kind in (paths(source, 0.0, trials), worse):
        for path in kind.values():
            truth = 0.0 if kind is not worse else float(path.worsening[:, -1].mean())
            one, any_look = path.beyond(truth)
            there = np.isfinite(path.worsening[:, -1]).all()
            missed.append(f"{one:.1f}→{any_look:.1f}" if there else "–")
    return grown, missed


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
    """Whether increments are independent, and bounds as sure as claimed."""
    jobs = [pool.submit(paths_row, s, trials) for s in NAMES]
    rows = [job.result() for job in jobs]
    yield (
        f"**Increments between looks** ({PATHS_AT:,} items, {trials:,} trials, worse by "
        f"{WORSE[1]}): the largest correlation of two, and in brackets their spreads over those "
        "that the bounds claim (1 is as claimed). One correlation is known to "
        f"± {1 / np.sqrt(trials):.2f}; the largest of six independent ones is about twice that."
    )
    yield from table(["source", *MEASURED], (grown for grown, _ in rows))
    yield ""
    yield (
        "**Bounds beyond the truth**, in per cent: of one look at all items→of any of four looks. "
        f"{100 * ALPHA:.0f} are claimed for each component, twice as many where nothing changed "
        "and the direction is taken from the data."
    )
    heads = [f"{name}, {case}" for case in ("unchanged", f"+{WORSE[1]}") for name in MEASURED]
    yield from table(["source", *heads], (missed for _, missed in rows))


def tables(trials: int, workers: int | None) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    yield (
        f"{trials:,} trials a cell, {4 * trials:,} where nothing changed; tolerance "
        f"{TOLERANCE:.2f}, α = 0.05. – where the damage cannot be so large."
    )
    with ProcessPoolExecutor(workers) as pool:
        yield ""
        yield from rates(pool, trials)
        yield ""
        yield from independence(pool, 4 * trials)


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
