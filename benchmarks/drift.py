"""How often does drift over ten steps raise a false alarm, and how often is it missed?

Counted on simulated runs of checkpoints, from the first (step 0) over ten steps.

::

    python benchmarks/drift.py                     # print the tables
    python benchmarks/drift.py --trials 20         # quick
    python benchmarks/drift.py --only nothing --trials 600
    python benchmarks/drift.py --write docs/explanation/drift.md

Four rules judge each step on all that has been measured by then; a run is *flagged* when any of
its ten steps is:

- ``trend``: the line through all checkpoints so far (``gate.trend``); ``trend at the end``: the
  line through all eleven alone;
- ``pinned``: the checkpoint against the first one, with the gate itself; ``family``: those of them
  that remain after Holm's correction for all ten, as ``pytest-calibration drift`` counts them;
- ``creep``: the same with twice the tolerance, as the anchor is compared where every step was
  accepted.

What changes from step to step is the mean gap, by a shift of the log-odds that has this effect on
infinitely many items. Sources are four of ``generators.py``, read once more at each checkpoint:
each reading has noise of its own, and a share of the outcomes is drawn anew.
"""

from __future__ import annotations

import argparse
import math
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from generators import BASES, Array, four_way_readings, logit, sigmoid
from numpy.typing import NDArray
from pages import publish

from pytest_calibration import Predictions, State
from pytest_calibration.gate.components import Paired
from pytest_calibration.gate.decision import decide
from pytest_calibration.gate.family import holm
from pytest_calibration.gate.strictness import ALPHA, Strictness
from pytest_calibration.gate.trend import decide_trend

STEPS = 10
SIZES = (500, 1000, 2000)
RULES = ("trend", "trend at the end", "pinned", "family", "creep")
TWICE = Strictness(tolerance=0.04, accuracy_tolerance=0.04)
Rng = np.random.Generator
Run = tuple[list[Array], list[Array], NDArray[np.int64] | None]


# --- sources -------------------------------------------------------------------------------------


def outcomes(truths: list[Array], rng: Rng, again: float) -> list[Array]:
    """Whether each answer is right: luck is shared, but for a share that is drawn anew."""
    luck = rng.random(len(truths[0]))
    return [
        (np.where(rng.random(len(t)) < again, rng.random(len(t)), luck) < t) * 1.0 for t in truths
    ]


def item_response(n: int, rng: Rng) -> Run:
    """Item response theory with a guess of a quarter, calibrated."""
    odds = np.exp(0.3 * rng.standard_normal(n)) * (0.8 + 1.4 * rng.standard_normal(n))
    truths = [0.25 + 0.75 * sigmoid(odds + 0.3 * rng.standard_normal(n)) for _ in range(STEPS + 1)]
    return truths, outcomes(truths, rng, 0.25), None


def over_confident(n: int, rng: Rng) -> Run:
    """The mixture of Beta distributions, over-confident from the start, with heavy-tailed noise."""
    easy = rng.random(n) < 0.6
    odds = logit(np.where(easy, rng.beta(6, 2, n), rng.beta(2, 3, n)))
    truths = [0.15 + 0.84 * sigmoid(odds + 0.25 * rng.standard_t(4, n)) for _ in range(STEPS + 1)]
    return [BASES["over-confident"](t) for t in truths], outcomes(truths, rng, 0.1), None


def documents(n: int, rng: Rng) -> Run:
    """Tokens of documents of 5, which share an effect that is drawn anew at each checkpoint."""
    groups = np.arange(n) // 5
    odds = rng.choice([-2.0, 0.5, 3.5], n, p=[0.45, 0.25, 0.3]) + 0.9 * rng.standard_normal(n)
    odds = odds + 0.4 * rng.standard_normal(groups[-1] + 1)[groups]
    truths = []
    for _ in range(STEPS + 1):
        document = 0.1 * rng.standard_normal(groups[-1] + 1)[groups]
        truths.append(sigmoid(odds + document + 0.2 * rng.standard_normal(n)))
    return truths, outcomes(truths, rng, 0.15), groups


def four_way(n: int, rng: Rng) -> Run:
    """A four-way classifier that knows its truth."""
    sides = four_way_readings(n, rng, noise=(0.3,) * (STEPS + 1))
    return [c for c, _, _ in sides], [y for _, y, _ in sides], None


SOURCES: dict[str, Callable[[int, Rng], Run]] = {
    "item response": item_response,
    "over-confident": over_confident,
    "documents of 5": documents,
    "four-way": four_way,
}


# --- what changes along the run ------------------------------------------------------------------


def straight(by: float) -> Callable[[Rng], Array]:
    """Worse by as much at every step."""
    return lambda _: by * np.arange(STEPS + 1.0)


CHANGES: dict[str, Callable[[Rng], Array]] = {
    "nothing": straight(0.0),
    "+0.012 a step": straight(0.012),
    "+0.006 a step": straight(0.006),
    "a jump of +0.055 at step 6": lambda _: 0.055 * (np.arange(STEPS + 1) >= 6),
    "seed noise of 0.02": lambda rng: 0.02 * rng.standard_normal(STEPS + 1),
    "random walk, 0.006 a step": lambda rng: np.concatenate(
        [[0], 0.006 * rng.standard_normal(STEPS).cumsum()]
    ),
}
# Small rates need more trials than those near 100 %.
SHARE_OF_TRIALS = {"nothing": 1.0, "seed noise of 0.02": 0.5}


@lru_cache
def shift_of_gap(source: str) -> tuple[Array, Array]:
    """Changes of the mean gap, and the shifts of the log-odds that make them."""
    confidences = SOURCES[source](50_000, np.random.default_rng(1))[0][0]
    shifts = np.linspace(-1.5, 2.5, 161)
    means = np.array([sigmoid(logit(confidences) + s).mean() for s in shifts])
    return means - confidences.mean(), shifts


def drawn(source: str, change: str, n: int, rng: Rng) -> list[Predictions]:
    """One run: the predictions of the first checkpoint and of ten more."""
    confidences, corrects, groups = SOURCES[source](n, rng)
    gaps, shifts = shift_of_gap(source)
    by = np.interp(CHANGES[change](rng), gaps, shifts)
    names = None if groups is None else [f"document {g}" for g in groups]
    return [
        Predictions.from_confidence(
            sigmoid(logit(c) + s), y.astype(bool), item_ids=range(n), groups=names
        )
        for c, y, s in zip(confidences, corrects, by, strict=True)
    ]


# --- the rules -----------------------------------------------------------------------------------


def first_flags(run: list[Predictions]) -> list[float]:
    """Return the first step that each rule flags; NaN where it flags none."""
    found = dict.fromkeys(RULES, np.nan)
    state = State.INCONCLUSIVE
    pinned = [decide(Paired.of(run[0], one)) for one in run[1:]]
    kept = holm([d.p_value for d in pinned], [ALPHA] * STEPS)
    for step in range(1, len(run)):
        pair, alone = Paired.of(run[0], run[step]), pinned[step - 1].state
        state = decide_trend(range(step + 1), run[: step + 1]).state
        for rule, flagged in (
            ("trend", state),
            ("pinned", alone),
            ("family", alone if kept[step - 1] else State.PASSED),
            ("creep", decide(pair, TWICE).state),
        ):
            if np.isnan(found[rule]) and flagged is State.REGRESSED:
                found[rule] = step
    found["trend at the end"] = STEPS if state is State.REGRESSED else np.nan
    return [found[rule] for rule in RULES]


def run_cell(source: str, change: str, n: int, trials: range) -> NDArray[np.float64]:
    """Return the first flagged step of each rule, one row a trial."""
    name = zlib.crc32(f"{source} {change}".encode())
    return np.array(
        [
            first_flags(drawn(source, change, n, np.random.default_rng((name, n, trial))))
            for trial in trials
        ]
    )


def cell(rows: NDArray[np.float64]) -> str:
    """Share of flagged runs in per cent; behind it, where most are, the median step."""
    share = 100 * float((~np.isnan(rows)).mean())
    text = f"{share:.1f}" if 0 < share < 10 else f"{share:.0f}"
    median = np.median(rows[~np.isnan(rows)]) if share >= 50 else STEPS
    return text if median == STEPS else f"{text} (step {median:.0f})"


def tables(options: argparse.Namespace) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    changes = [change for change in CHANGES if options.only in change]
    cells = [(source, change, n) for change in changes for source in options.sources for n in SIZES]
    jobs = []
    for source, change, n in cells:
        trials = math.ceil(options.trials * SHARE_OF_TRIALS.get(change, 0.25))
        jobs.append((source, change, n, range(trials)))
    with ProcessPoolExecutor(options.workers) as pool:
        found = dict(zip(cells, pool.map(run_cell, *zip(*jobs, strict=True)), strict=True))
    yield (
        f"Shares of runs of ten steps that are flagged at any step, in per cent ({options.trials:,}"
        " runs a cell where nothing changes, half with seed noise, a quarter elsewhere; tolerance "
        f"0.02, α = 0.05), at n = {' / '.join(f'{n:,}' for n in SIZES)}; the median first step "
        "where half are."
    )
    yield ""
    yield f"| drift | source | {' | '.join(f'`{rule}`' for rule in RULES)} |"
    yield "|---|---|" + "--:|" * len(RULES)
    for change in changes:
        for source in options.sources:
            rates = [
                " / ".join(cell(found[source, change, n][:, column]) for n in SIZES)
                for column in range(len(RULES))
            ]
            yield f"| {change} | {source} | {' | '.join(rates)} |"


def main() -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=200, help="where nothing changes")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--only", default="", help="changes with this text in their name")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    publish("\n".join(tables(options)), options.write, "benchmarks/drift.py")


if __name__ == "__main__":
    main()
