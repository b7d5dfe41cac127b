"""Candidates that are worse than their baseline by a known amount."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from pytest_calibration.gate.aa.unchanged_pairs import logit, rising_to, sigmoid
from pytest_calibration.predictions import FloatArray

Change: TypeAlias = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class WorseCandidate:
    """A way to make a candidate worse.

    Attributes:
        kind: ``sharpened`` (surer of everything) or ``flattened`` (nearer to the mean confidence,
            which stays the same).
        worsening: growth of the population's ECE that was asked for.
        largest: the largest growth that this kind can make here.
        setting: factor on the logit, or on the distance from the mean; None if out of reach.
        change: maps confidences to those of the worse candidate; None if out of reach.
    """

    kind: str
    worsening: float
    largest: float
    setting: float | None = None
    change: Change | None = field(default=None, compare=False, repr=False)


def _sharpened(population: FloatArray) -> Callable[[float], Change]:
    """Stretch logits away from the lowest confidence (at most 1/2), as a lower temperature does.

    The lowest is the 1 % quantile: nearly every answer becomes surer.
    """
    logits = logit(population)
    finite = logits[np.isfinite(logits)]
    pivot = min(0.0, float(np.quantile(finite, 0.01))) if len(finite) else 0.0
    return lambda factor: lambda c: sigmoid(pivot + factor * (logit(c) - pivot))


def _flattened(population: FloatArray) -> Callable[[float], Change]:
    """Move confidences nearer to their mean, which stays the same."""
    mean = float(population.mean())
    return lambda factor: lambda c: mean + factor * (c - mean)


# Each with the factor of its strongest change.
KINDS: Final = {"sharpened": (_sharpened, 50.0), "flattened": (_flattened, 0.02)}


def worse_candidates(
    population: FloatArray, truth: FloatArray, worsenings: Sequence[float]
) -> Iterator[WorseCandidate]:
    """Yield changes of the confidences that worsen the population's ECE by these amounts.

    P(correct) of each item stays the same. Both kinds keep the order of the confidences, so that
    no two become equal, and the ECE afterwards is the mean distance of the new confidence from
    P(correct) at the old one.

    Args:
        population: (m,) confidences.
        truth: (m,) P(correct) at each.
        worsenings: the amounts, in ECE units.
    """
    before = float(np.abs(population - truth).mean())
    for kind, (change_of, strongest) in KINDS.items():
        by = change_of(population)

        def growth(t: float, by: Callable[[float], Change] = by, most: float = strongest) -> float:
            return float(np.abs(by(most**t)(population) - truth).mean()) - before

        largest = max(0.0, growth(1.0))
        for worsening in worsenings:
            if worsening > largest:
                yield WorseCandidate(kind, worsening, largest)
            else:
                factor = strongest ** rising_to(worsening, growth)
                yield WorseCandidate(kind, worsening, largest, factor, by(factor))
