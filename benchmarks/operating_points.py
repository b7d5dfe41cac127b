"""Error rates of comparisons at an operating point, and of chosen thresholds, on twelve sources.

python benchmarks/operating_points.py --write docs/explanation/thresholds.md
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
from generators import SOURCES, Array, Draw, Source, logit, sigmoid
from pages import publish

from pytest_calibration import Predictions
from pytest_calibration.gate.chosen_threshold import _Tests, choose_threshold
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.operating_point import decide_at
from pytest_calibration.gate.strictness import OperatingPoint
from pytest_calibration.metrics.selective import answered

SIZES = (500, 1000, 2000, 5000)
POPULATION = 200_000
# The ten-way source is hardly ever sure.
THRESHOLDS = {"ten-way": 0.5}
EXCESS = 0.05


def turned_wrong(draw: Draw, size: float, rng: np.random.Generator) -> Draw:
    """A share of the candidate's right answers turns wrong, at unchanged confidences."""
    stays = rng.random(len(draw.correct1)) >= size
    return replace(draw, correct1=draw.correct1 * stays, truth1=draw.truth1 * (1 - size))


def moved(draw: Draw, size: float, _: np.random.Generator) -> Draw:
    """The candidate's log-odds move; what it knows does not."""
    shifted = sigmoid(logit(draw.confidence1) + size)
    return replace(draw, confidence1=np.where(draw.confidence1 < 1, shifted, draw.confidence1))


Damage = Callable[[Draw, float, np.random.Generator], Draw]


def at(confidence: Array, truth: Array, threshold: float) -> tuple[float, float]:
    """Return coverage and precision of a population."""
    which = answered(confidence, threshold)
    return float(which.mean()), float(truth[which].mean()) if which.any() else np.nan


def falls(draw: Draw, threshold: float) -> tuple[float, float]:
    """Return by how much coverage and precision of a population fall."""
    before = at(draw.confidence0, draw.truth0, threshold)
    after = at(draw.confidence1, draw.truth1, threshold)
    return before[0] - after[0], before[1] - after[1]


def sized(
    population: Draw, damage: Damage, sign: float, which: int, fall: float, threshold: float
) -> float:
    """Return the size of a damage with which a population falls by so much; NaN where none does.

    Args:
        population: drawn from a source.
        damage: what happens to the candidate.
        sign: of the sizes.
        which: 0 for the fall of coverage, 1 for that of precision.
        fall: the fall that is wanted.
        threshold: of the operating point.
    """

    def reached(size: float) -> bool:
        damaged = damage(population, sign * size, np.random.default_rng(4))
        return falls(damaged, threshold)[which] > fall

    low, high = 0.0, 0.02
    while not reached(high):
        low, high = high, 1.7 * high
        if high > 8:
            return np.nan
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return sign * high


@dataclass(frozen=True)
class Row:
    """One row of a table: a source, and what happens to the candidate."""

    table: str
    source: str
    draw: Source
    threshold: float
    coverage: float
    precision: float


def _damaged(n: int, rng: np.random.Generator, *, source: str, damage: Damage, size: float) -> Draw:
    return damage(SOURCES[source](n, rng), size, rng)


TABLES: dict[str, tuple[Damage, float, int, float]] = {
    "wrong line": (turned_wrong, 1, 1, 0.0),
    "surer line": (moved, 1, 1, 0.0),
    "coverage line": (moved, -1, 0, 0.0),
    "wrong": (turned_wrong, 1, 1, EXCESS),
    "surer": (moved, 1, 1, EXCESS),
    "coverage": (moved, -1, 0, EXCESS),
}


def rows() -> Iterator[Row]:
    """Yield every row; what no size of a damage gives to within 0.003 is left out."""
    for source, draw in SOURCES.items():
        population = draw(POPULATION, np.random.default_rng(3))
        threshold = THRESHOLDS.get(source, 0.9)
        numbers = at(population.confidence0, population.truth0, threshold)
        yield Row("nothing", source, draw, threshold, *numbers)
        point = OperatingPoint(threshold)
        tolerances = (point.coverage_tolerance or 0.0, point.tolerance)
        for table, (damage, sign, which, excess) in TABLES.items():
            fall = tolerances[which] + excess
            size = sized(population, damage, sign, which, fall, threshold)
            if np.isnan(size):
                continue
            reached = damage(population, size, np.random.default_rng(4))
            # Where confidences are few, a shift moves many answers at once.
            if abs(falls(reached, threshold)[which] - fall) < 0.003:
                damaged = partial(_damaged, source=source, damage=damage, size=size)
                yield Row(table, source, damaged, threshold, *numbers)


def shares(row: Row, n: int, trials: int) -> Array:
    """Return how often it fails, and is inconclusive, and the false alarms that it says of itself.

    The last is an upper bound of the first where nothing changed.
    """
    found = []
    name = zlib.crc32(f"{row.table} {row.source}".encode())
    for trial in range(trials):
        draw = row.draw(n, np.random.default_rng((name, n, trial)))
        decision = decide_at(draw.paired(), OperatingPoint(row.threshold))
        failed, undecided = (decision.state is s for s in (State.REGRESSED, State.INCONCLUSIVE))
        found.append((failed, undecided, decision.false_alarm_rate))
    return np.asarray(found, dtype=np.float64).mean(axis=0)


# --- chosen thresholds ---------------------------------------------------------------------------


def repeated(n: int, rng: np.random.Generator) -> Draw:
    """Every item of the item response source five times: five that count for one."""
    draw = SOURCES["item response"](n // 5, rng)
    names = ("confidence0", "correct0", "truth0")
    more = {name: np.repeat(getattr(draw, name), 5) for name in names}
    return replace(draw, **more, groups=np.repeat(np.arange(n // 5), 5))


def together(n: int, rng: np.random.Generator) -> Draw:
    """Groups of ten whose outcomes share their luck; confidences are independent."""
    groups = np.arange(n) // 10
    truth = sigmoid(1.5 + 1.5 * rng.standard_normal(n))
    shared = 0.6**0.5 * rng.standard_normal(groups[-1] + 1)[groups]
    luck = shared + 0.4**0.5 * rng.standard_normal(n)
    bar = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.0005, 0.9995, 1000)])
    right = (luck < np.interp(truth, np.linspace(0.0005, 0.9995, 1000), bar)) * 1.0
    return Draw(truth, right, truth, right, truth, truth, groups)


CHOSEN_FROM: dict[str, Source] = {
    **SOURCES,
    "items repeated five times": repeated,
    "groups with common luck": together,
}
RULES = ("as measured", "each by itself", "held-out half", "choose_threshold")


@dataclass(frozen=True)
class Population:
    """Coverage and precision of a source at every threshold."""

    confidence: Array
    right: Array

    @classmethod
    def of(cls, source: Source) -> Population:
        """Draw it."""
        draw = source(2 * POPULATION, np.random.default_rng(3))
        order = np.argsort(-draw.confidence0.astype(np.float32), kind="stable")
        confidence = draw.confidence0.astype(np.float32)[order]
        return cls(confidence, np.cumsum(draw.truth0[order]))

    def at(self, threshold: float) -> tuple[float, float]:
        """Return coverage and precision; precision is 1 where nothing is covered."""
        count = int(np.searchsorted(-self.confidence, -np.float32(threshold), side="right"))
        return count / len(self.confidence), self.right[count - 1] / count if count else 1.0

    def largest_coverage(self, precision: float) -> float:
        """Return the coverage of the smallest threshold with this precision."""
        last = np.append(self.confidence[1:] != self.confidence[:-1], True)
        holds = self.right >= precision * np.arange(1, len(self.right) + 1)
        found = np.flatnonzero(last & holds)
        return (found[-1] + 1) / len(self.confidence) if len(found) else 0.0


def chosen(draw: Draw, wanted: float, rng: np.random.Generator) -> tuple[list[float | None], int]:
    """Return the threshold of each rule, and the number of items that would do."""
    groups = None if draw.groups is None else draw.groups.astype(str)
    p = Predictions.from_confidence(draw.confidence0, draw.correct0 > 0, groups=groups)
    found = choose_threshold(p, wanted)
    alone = _by_itself(p, wanted)
    units = np.arange(p.n) if draw.groups is None else draw.groups
    first = (rng.random(int(units.max()) + 1) < 0.5)[units]
    half = _by_itself(p.take(np.flatnonzero(first)), wanted)
    if half is not None:
        held = p.take(np.flatnonzero(~first))
        tests = _Tests.of(held, wanted, 0.05)
        place = np.flatnonzero(tests.confidence[tests.counts - 1] >= half)
        ok = len(place) and tests.p_values()[place[-1]] <= 0.05
        half = half if ok else None
    measured, best = (None if one is None else one.threshold for one in
                      (found.as_measured, found.chosen))  # fmt: skip
    return [measured, alone, half, best], found.n_needed


def _by_itself(p: Predictions, wanted: float) -> float | None:
    """Return the smallest threshold whose own test holds, as if it were the only one."""
    tests = _Tests.of(p, wanted, 0.05)
    holds = np.flatnonzero(tests.p_values() <= 0.05)
    return float(tests.confidence[tests.counts[holds[-1]] - 1]) if len(holds) else None


def choices(
    source: str, wanted: float, n: int, trials: int, population: Population
) -> tuple[Array, float]:
    """Return for each rule how often precision is too low, none is found, and mean coverage.

    Coverage is over that of the oracle, which knows the population; 0 where none is found. And the
    median number of items that would do.
    """
    oracle = population.largest_coverage(wanted)
    found, needed = [], []
    for trial in range(trials):
        rng = np.random.default_rng((zlib.crc32(source.encode()), n, trial))
        thresholds, items = chosen(CHOSEN_FROM[source](n, rng), wanted, rng)
        needed.append(items)
        row = []
        for threshold in thresholds:
            coverage, precision = population.at(2.0 if threshold is None else threshold)
            # The population is a sample as well.
            row.append((precision < wanted - 1e-3, threshold is None, coverage / oracle))
        found.append(row)
    some = [items for items in needed if items]
    return np.asarray(found, dtype=np.float64).mean(axis=0), float(np.median(some or [0]))


def tells_nothing(n: int, rng: np.random.Generator, *, precision: float) -> Draw:
    """Confidences that have nothing to do with what is right."""
    confidence, truth = rng.uniform(0.5, 1, n), np.full(n, precision)
    right = (rng.random(n) < truth) * 1.0
    return Draw(confidence, right, confidence, right, truth, truth)


def promised_in_vain(wanted: float, n: int, trials: int) -> Array:
    """Return how often each rule finds a threshold where precision is 0.001 too low everywhere."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng((n, trial))
        draw = tells_nothing(n, rng, precision=wanted - 0.001)
        thresholds, _ = chosen(draw, wanted, rng)
        found.append([one is not None for one in thresholds])
    return np.asarray(found, dtype=np.float64).mean(axis=0)


# --- the page ------------------------------------------------------------------------------------


def rate(share: float) -> str:
    """A share in per cent, as short as it can be read; NaN where too few groups are compared."""
    if np.isnan(share):
        return "–"
    return f"{100 * share:.1f}" if 0 < share < 0.0995 else f"{100 * share:.0f}"


def comparisons(trials: int) -> Iterator[str]:
    """Yield the tables of comparisons."""
    found: dict[tuple[str, str], list[Array]] = {}
    about = {}
    for row in rows():
        many = 3 * trials if row.table == "nothing" else trials
        found[row.table, row.source] = [shares(row, n, many) for n in SIZES]
        about[row.source] = row

    def cell(table: str, source: str, column: int = 0) -> str:
        numbers = found.get((table, source))
        if numbers is None:
            return "–"
        return " / ".join(rate(one[column]) for one in numbers)

    sizes = " / ".join(f"{n:,}" for n in SIZES)
    yield (
        f"Shares in per cent, at n = {sizes} ({trials} trials a cell, {3 * trials} where nothing "
        "changed; tolerances 0.02 of precision and 0.05 of coverage, α = 0.05)."
    )
    yield ""
    yield "**Nothing changed**: every failure is a false one."
    yield ""
    yield "| source | at | coverage | precision | fails | says of itself: at most | inconclusive |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for source, row in about.items():
        numbers = f"{row.threshold:g} | {row.coverage:.2f} | {row.precision:.3f}"
        cells = (cell("nothing", source, column) for column in (0, 2, 1))
        yield f"| {source} | {numbers} | {' | '.join(cells)} |"
    for title, end in (
        ("**Worse by exactly a tolerance**: on the line, fails", " line"),
        (f"**Worse by a tolerance + {EXCESS:g}**: fails", ""),
    ):
        yield ""
        yield f"{title}."
        yield ""
        yield (
            "| source | precision falls: answers turn wrong | precision falls: all are surer | "
            "coverage falls: all are less sure |"
        )
        yield "|---|--:|--:|--:|"
        for source in about:
            cells = (cell(f"{name}{end}", source) for name in ("wrong", "surer", "coverage"))
            yield f"| {source} | {' | '.join(cells)} |"


def thresholds(trials: int) -> Iterator[str]:
    """Yield the tables of chosen thresholds."""
    sizes = " / ".join(f"{n:,}" for n in SIZES)
    all_rules: dict[int, list[Array]] = {n: [] for n in SIZES}
    lines = []
    for source, draw in CHOSEN_FROM.items():
        population = Population.of(draw)
        for wanted in (0.9, 0.95):
            oracle = population.largest_coverage(wanted)
            if oracle < 0.02:
                continue
            found = [choices(source, wanted, n, trials, population) for n in SIZES]
            for n, (numbers, _) in zip(SIZES, found, strict=True):
                all_rules[n].append(numbers)
            low, none, covered = (
                " / ".join(rate(numbers[-1, column]) for numbers, _ in found) for column in range(3)
            )
            naive = " / ".join(rate(numbers[0, 0]) for numbers, _ in found)
            said = round(found[0][1])
            there = "–"
            if said:
                again, _ = choices(source, wanted, min(said, 20_000), trials // 4, population)
                there = f"{said:,}: {rate(1 - again[-1, 1])}"
            lines.append(
                f"| {source} | {wanted:g} | {oracle:.2f} | {low} | {naive} | {none} | {covered} | "
                f"{there} |"
            )
    yield (
        f"**Chosen thresholds**, at n = {sizes} ({trials} trials a cell; α = 0.05). *Too low*: the "
        "true precision at the threshold is below the wanted one; it may be in 5 %. *Coverage* is "
        "that of the oracle, which knows the source; *coverage found* the mean share of it that "
        "the chosen threshold has, 0 where none was found. *Would do*: the median number of items "
        "that the choice asks for at n = 500, and the share of choices on so many (at most "
        "20,000) that find a threshold."
    )
    yield ""
    heads = ("source", "wanted", "coverage", "too low", "too low, as measured", "none found")
    yield f"| {' | '.join(heads)} | coverage found | would do: found |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    yield from lines
    yield ""
    yield "**Other rules**, mean of all rows, and for *too low* the largest:"
    yield ""
    yield "| rule | too low | too low at worst | none found | coverage found |"
    yield "|---|--:|--:|--:|--:|"
    yield from _rules(all_rules)
    yield from least_favourable(trials)


def least_favourable(trials: int) -> Iterator[str]:
    """Yield the table of a model whose confidence tells nothing."""
    yield ""
    yield (
        "**Least favourable**: confidence tells nothing, and precision is 0.001 below the wanted "
        "one at every threshold; every threshold that is found is too low."
    )
    yield ""
    yield "| rule | wanted 0.9 | wanted 0.95 |"
    yield "|---|--:|--:|"
    found = {w: [promised_in_vain(w, n, trials) for n in SIZES] for w in (0.9, 0.95)}
    for k, rule in enumerate(RULES):
        cells = (" / ".join(rate(one[k]) for one in column) for column in found.values())
        yield f"| {rule} | {' | '.join(cells)} |"


def _rules(all_rules: dict[int, list[Array]]) -> Iterator[str]:
    for k, rule in enumerate(RULES):
        tables = [np.array(all_rules[n])[:, k] for n in SIZES]
        cells = [
            " / ".join(rate(table[:, 0].mean()) for table in tables),
            " / ".join(rate(table[:, 0].max()) for table in tables),
            " / ".join(rate(table[:, 1].mean()) for table in tables),
            " / ".join(rate(table[:, 2].mean()) for table in tables),
        ]
        yield f"| {rule} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args(arguments)
    lines = [*comparisons(options.trials), "", *thresholds(2 * options.trials // 3)]
    publish("\n".join(lines), options.write, "benchmarks/operating_points.py")


if __name__ == "__main__":
    main()
