"""Error rates of comparisons at an operating point, and of chosen thresholds, on twelve sources.

python benchmarks/operating_points.py --write docs/thresholds.md
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from generators import SOURCES, Array, Draw, Source, logit, sigmoid

from pytest_calibration.gate.decision import State
from pytest_calibration.gate.operating_point import decide_at
from pytest_calibration.gate.strictness import OperatingPoint
from pytest_calibration.metrics.selective import answered

SIZES = (500, 1000, 2000, 5000)
POPULATION = 200_000
# The ten-way source is hardly ever sure.
THRESHOLDS = {"ten-way": 0.6}
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


TABLES: dict[str, tuple[str, Damage, float, int, float]] = {
    "line": ("right answers turn wrong", turned_wrong, 1, 1, 0.0),
    "surer line": ("all answers are surer", moved, 1, 1, 0.0),
    "coverage line": ("all answers are less sure", moved, -1, 0, 0.0),
    "worse": ("right answers turn wrong", turned_wrong, 1, 1, EXCESS),
    "surer": ("all answers are surer", moved, 1, 1, EXCESS),
    "coverage": ("all answers are less sure", moved, -1, 0, EXCESS),
}


def rows() -> Iterator[Row]:
    """Yield every row; what no size of a damage gives is left out."""
    for source, draw in SOURCES.items():
        population = draw(POPULATION, np.random.default_rng(3))
        threshold = THRESHOLDS.get(source, 0.9)
        numbers = at(population.confidence0, population.truth0, threshold)
        yield Row("nothing", source, draw, threshold, *numbers)
        point = OperatingPoint(threshold)
        tolerances = (point.coverage_tolerance or 0.0, point.tolerance)
        for table, (_, damage, sign, which, excess) in TABLES.items():
            fall = tolerances[which] + excess
            size = sized(population, damage, sign, which, fall, threshold)
            if not np.isnan(size):
                damaged = partial(_damaged, source=source, damage=damage, size=size)
                yield Row(table, source, damaged, threshold, *numbers)


def shares(row: Row, n: int, trials: int) -> Array:
    """Return how often it fails, precision fails, coverage fails, it is inconclusive; false alarms.

    The last is the upper bound of the false alarms that the comparison says of itself.
    """
    found = []
    name = zlib.crc32(f"{row.table} {row.source}".encode())
    for trial in range(trials):
        draw = row.draw(n, np.random.default_rng((name, n, trial)))
        decision = decide_at(draw.paired(), OperatingPoint(row.threshold))
        fired = {c.name for c in decision.components if c.fired}
        failed, undecided = (decision.state is s for s in (State.REGRESSED, State.INCONCLUSIVE))
        said = decision.false_alarm_rate
        found.append((failed, "precision" in fired, "coverage" in fired, undecided, said))
    return np.asarray(found, dtype=np.float64).mean(axis=0)
