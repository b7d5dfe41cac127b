"""Does the table of slices name what moved, and nothing else? Simulated checkpoint pairs.

::

    python benchmarks/slices.py                # all tables (about four minutes on one core)
    python benchmarks/slices.py --trials 100   # a tenth of the trials

False alarms: no slice moved, that is, confidence and accuracy changed by the same amount in every
one (often by 0). A rule should name a slice in at most 5 % of the runs. ``t`` is a paired t-test
per slice at p <= 0.05, ``t + BH`` the same with Benjamini and Hochberg's procedure, both over
documents where there are any; ``slices`` is ``pytest_calibration.diagnosis.slices.shifts``.

Power: one slice moved, all others did not. Coverage: the 95 % interval of a slice's signed gap.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.diagnosis.slices import FDR, MIN_UNITS, benjamini_hochberg, by_slice, shifts
from pytest_calibration.predictions import Predictions, positional_ids
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
POOL = 400_000


@dataclass(frozen=True)
class Pair:
    """Items of both runs: confidence and outcome before and after; groups where there are any."""

    confidence0: Array
    correct0: Array
    confidence1: Array
    correct1: Array
    groups: Codes | None = None

    def take(self, index: Codes) -> Pair:
        """Return these items."""
        return Pair(
            self.confidence0[index],
            self.correct0[index],
            self.confidence1[index],
            self.correct1[index],
        )


# --- items whose confidence and accuracy change by the same amount -------------------------------


def softmax(x: Array) -> Array:
    """Soft-max over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@lru_cache
def readings(spread: float, noise0: float, noise1: float) -> Pair:
    """Two noisy readings of one truth (four options), each calibrated by construction."""
    rng = np.random.default_rng(0)
    logits = spread * rng.standard_normal((POOL, 4))
    truth = softmax(logits)
    label = (rng.random((POOL, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(0, 3)

    def side(noise: float) -> tuple[Array, Array]:
        seen = softmax(logits + noise * rng.standard_normal(logits.shape))
        answer = seen.argmax(axis=1)
        # The confidence is how often answers that look this sure are right.
        cell = np.empty(POOL, dtype=np.int64)
        cell[np.argsort(seen.max(axis=1))] = np.arange(POOL) * 400 // POOL
        right = truth[np.arange(POOL), answer]
        confidence = (np.bincount(cell, right) / np.bincount(cell))[cell]
        return confidence, (answer == label).astype(np.float64)

    return Pair(*side(noise0), *side(noise1))


def from_pool(n: int, rng: np.random.Generator, pool: Callable[[], Pair]) -> Pair:
    """Draw n items."""
    return pool().take(rng.integers(0, POOL, n))


def verbal(n: int, rng: np.random.Generator) -> Pair:
    """The same stated confidence twice, and an outcome drawn from it each time."""
    confidence = rng.choice([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0], n)
    first, second = (rng.random((2, n)) < confidence).astype(np.float64)
    return Pair(confidence, first, confidence, second)


def step(n: int, rng: np.random.Generator, before: float, after: float) -> Pair:
    """Accuracy rises with the confidence: what was right stays right."""
    luck = rng.random(n)
    first, second = ((luck < p).astype(np.float64) for p in (before, after))
    return Pair(np.full(n, before), first, np.full(n, after), second)


def documents(
    n: int,
    rng: np.random.Generator,
    before: float,
    after: float,
    *,
    together: float,
    jitter: float = 0.02,
) -> Pair:
    """Documents of one to eight items; a share of the outcomes is the document's, not its own."""
    sizes = rng.integers(1, 9, n)
    groups = np.repeat(np.arange(n), sizes)[:n]

    def luck() -> Array:
        own = rng.random(n) >= together
        return np.where(own, rng.random(n), rng.random(n)[groups])

    first = luck()
    second = np.where(rng.random(n)[groups] < 0.7, first, luck())
    shared = jitter * rng.standard_normal(n)[groups]
    rise = after - before + shared + jitter * rng.standard_normal(n)
    return Pair(
        np.full(n, before),
        (first < before).astype(np.float64),
        np.clip(before + rise, 0, 1),
        (second < after).astype(np.float64),
        groups,
    )


Source = Callable[[int, np.random.Generator], Pair]
PLAIN: dict[str, Source] = {
    "two noisy readings": partial(from_pool, pool=partial(readings, 1.3, 0.3, 0.3)),
    "nearly all right (acc .98)": partial(from_pool, pool=partial(readings, 20, 0.3, 0.3)),
    "better (acc .49 -> .57)": partial(from_pool, pool=partial(readings, 1.3, 1.0, 0.3)),
    "better (acc .83 -> .94)": partial(from_pool, pool=partial(readings, 8, 4, 0.3)),
    "verbal confidences": verbal,
    "accuracy .80 -> .95": partial(step, before=0.80, after=0.95),
    "accuracy .95 -> .97": partial(step, before=0.95, after=0.97),
}
GROUPED: dict[str, Source] = {
    "documents": partial(documents, before=0.7, after=0.7, together=0.5),
    "documents, .80 -> .90": partial(documents, before=0.8, after=0.9, together=0.5),
    "whole documents, .80 -> .90": partial(documents, before=0.8, after=0.9, together=1.0),
}


# --- the rules -----------------------------------------------------------------------------------


def predictions(pair: Pair, slices: Codes) -> tuple[Predictions, Predictions]:
    """Return (candidate, baseline) as the comparison sees them."""
    ids, names = positional_ids(len(slices)), slices.astype(np.str_)
    groups = None if pair.groups is None else pair.groups.astype(np.str_)
    sides = ((pair.confidence1, pair.correct1, names), (pair.confidence0, pair.correct0, None))
    candidate, baseline = (
        Predictions("simulated", c, h == 1, ids, groups=groups, slices=s) for c, h, s in sides
    )
    return candidate, baseline


def t_test(pair: Pair, slices: Codes) -> Array:
    """Return the two-sided p-value of each slice by a paired (cluster-robust) t-test."""
    moved = pair.confidence1 - pair.correct1 - pair.confidence0 + pair.correct0
    n = np.bincount(slices)
    shift = np.bincount(slices, moved) / n
    units = np.arange(len(slices)) if pair.groups is None else pair.groups
    cells, unit = np.unique(slices * (units.max() + 1) + units, return_inverse=True)
    home = cells // (units.max() + 1)
    count = np.bincount(home)
    squares = np.bincount(home, np.bincount(unit, moved - shift[slices]) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(shift) * n / np.sqrt(count / (count - 1) * squares)
    # No spread at all: a shift is then infinitely sure, and none is none.
    t = np.where(squares < 1e-12, np.where(np.abs(shift) > 1e-9, 1e6, 0.0), t)
    p = [2 * upper_tail(float(x), int(k)) for x, k in zip(t, count, strict=True)]
    return np.array(p)[count >= MIN_UNITS]


def layout(k: int, rng: np.random.Generator, grouped: bool) -> Codes:
    """Return the slice of each item: k slices of 10 to 60 items (of 40 to 200 in documents)."""
    sizes = rng.integers(40, 201, k) if grouped else rng.integers(10, 61, k)
    return np.repeat(np.arange(k), sizes)


def false_alarms(source: Source, k: int, trials: int, *, grouped: bool, across: bool) -> Array:
    """Return the share of runs in which each rule names a slice."""
    named = np.zeros(3)
    for trial in range(trials):
        rng = np.random.default_rng([trial, k])
        slices = layout(k, rng, grouped)
        pair = source(len(slices), rng)
        if across:
            slices = rng.permutation(slices)
        p = t_test(pair, slices)
        q = benjamini_hochberg(p)
        ours = shifts(*predictions(pair, slices))
        named[0] += (p <= FDR).any()
        named[1] += (q <= FDR).any()
        named[2] += any(s.change for s in ours)
    return 100 * named / trials


def table_of_false_alarms(trials: int) -> None:
    """Print, per way of not moving, how often a slice is named."""
    print("\nfalse alarms: % of runs that name a slice, though none moved")
    counts = (2, 10, 50)
    heads = "".join(f"{f'{rule}, {k}':>12}" for rule in ("t + BH", "slices") for k in counts)
    print(f"{'':<34}{'t, 50':>9}{heads} slices")
    rows = [(name, source, False, False) for name, source in PLAIN.items()]
    for name, source in GROUPED.items():
        rows += [(name, source, True, False), (f"{name}, across", source, True, True)]
    for name, source, grouped, across in rows:
        found = {k: false_alarms(source, k, trials, grouped=grouped, across=across) for k in counts}
        cells = "".join(f"{found[k][rule]:>12.1f}" for rule in (1, 2) for k in counts)
        print(f"{name:<34}{found[50][0]:>9.1f}{cells}", flush=True)


def table_of_power(trials: int) -> None:
    """Print how often the one slice that moved is named, and how often another is."""
    print("\npower: % of runs that name the one slice that moved, among 10 and 50; others named")
    for label, rise, fall in (
        ("confidence +0.3", 0.3, 0.0),
        ("accuracy -0.3", 0.0, 0.3),
        ("confidence +0.15", 0.15, 0.0),
    ):
        for n in (20, 30, 60, 120, 240):
            cells = []
            for k in (10, 50):
                hits = others = 0
                for trial in range(trials):
                    rng = np.random.default_rng([trial, k, n])
                    sizes = np.concatenate([[n], rng.integers(10, 61, k - 1)])
                    slices = np.repeat(np.arange(k), sizes)
                    pair = from_pool(len(slices), rng, partial(readings, 1.3, 0.3, 0.3))
                    here = slices == 0
                    spoiled = here & (rng.random(len(slices)) < fall / pair.correct1.mean())
                    pair = Pair(
                        pair.confidence0,
                        pair.correct0,
                        np.where(here, np.minimum(pair.confidence1 + rise, 1), pair.confidence1),
                        np.where(spoiled, 0.0, pair.correct1),
                    )
                    found = {s.name for s in shifts(*predictions(pair, slices)) if s.change}
                    hits += "0" in found
                    others += bool(found - {"0"})
                cells.append(f"{100 * hits / trials:>8.1f} ({100 * others / trials:.1f})")
            print(f"{label:<18} n = {n:<5}{''.join(cells)}", flush=True)


def table_of_coverage(trials: int) -> None:
    """Print how often the intervals of the signed gap cover the truth: Student's, and ours."""
    print("\ncoverage: % of slices whose 95 % interval of the signed gap holds the truth")
    print(f"{'':<34}" + "".join(f"{f'n = {n}':>16}" for n in (10, 20, 40, 100)))
    rows: list[tuple[str, Source, bool]] = [(*row, False) for row in PLAIN.items()]
    rows += [(*row, True) for row in GROUPED.items()]
    for name, source, grouped in rows:
        cells = []
        for n in (10, 20, 40, 100):
            rng = np.random.default_rng(n)
            k = 10 * trials
            size = 5 * n if grouped else n
            slices = np.repeat(np.arange(k), size)
            pair = source(len(slices), rng)
            # Every source is calibrated in the long run, so the truth is a gap of 0.
            measured = by_slice(predictions(pair, slices)[0])
            ours = np.mean([s.low <= 0 <= s.high for s in measured])
            gap = (pair.confidence1 - pair.correct1).reshape(k, size)
            half = upper_quantile(0.025, size) * gap.std(axis=1, ddof=1) / np.sqrt(size)
            student = np.mean(np.abs(gap.mean(axis=1)) <= half)
            cells.append(f"{100 * student:>9.1f} {100 * ours:>6.1f}")
        print(f"{name:<34}{''.join(cells)}", flush=True)
    print("left: Student's, items as units; right: by_slice (documents: five times n items)")


def table_of_time() -> None:
    """Print what a million items in 10,000 slices take."""
    print("\ntime: 1,000,000 items in 10,000 slices")
    rng = np.random.default_rng(0)
    n = 1_000_000
    pair = from_pool(n, rng, partial(readings, 1.3, 0.3, 0.3))
    for label, groups in (("alone", None), ("in 50,000 documents", rng.integers(0, 50_000, n))):
        sides = (pair.confidence0, pair.correct0, pair.confidence1, pair.correct1)
        candidate, baseline = predictions(Pair(*sides, groups), rng.integers(0, 10_000, n))
        for name, call in (
            ("shifts", partial(shifts, candidate, baseline)),
            ("by_slice", partial(by_slice, candidate)),
        ):
            start = time.perf_counter()
            call()
            print(f"{name:<10}{label:<22}{time.perf_counter() - start:>7.2f} s", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    table_of_false_alarms(trials)
    table_of_power(trials)
    table_of_coverage(trials)
    table_of_time()


if __name__ == "__main__":
    main()
