"""Candidates that are worse than their baseline by a known amount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from pytest_calibration.gate.aa.pairs import logit, rising_to, sigmoid
from pytest_calibration.predictions import FloatArray

Change: TypeAlias = Callable[[FloatArray], FloatArray]


class Worse(NamedTuple):
    """A way to make a candidate worse.

    Attributes:
        how: a name of ``KINDS``.
        worsening: growth of the population's ECE that was asked for.
        largest: the largest that this kind can make here.
        setting: factor on the logit, or on the distance from the mean; None if out of reach.
        change: what it makes of confidences; None if out of reach.
    """

    how: str
    worsening: float
    largest: float
    setting: float | None
    change: Change | None


def _sharpened(population: FloatArray) -> Callable[[float], Change]:
    """Stretch logits away from the lowest confidence (at most 1/2), as a lower temperature does.

    The lowest is the 1 % quantile: nearly every answer becomes surer.
    """
    logits = logit(population)
    finite = logits[np.isfinite(logits)]
    pivot = min(0.0, float(np.quantile(finite, 0.01))) if len(finite) else 0.0
    return lambda factor: lambda c: sigmoid(pivot + factor * (logit(c) - pivot))


def _flattened(population: FloatArray) -> Callable[[float], Change]:
    """Bring confidences nearer to their mean, which stays what it is."""
    mean = float(population.mean())
    return lambda factor: lambda c: mean + factor * (c - mean)


# With the factor of the strongest change.
KINDS: Final = {"sharpened": (_sharpened, 50.0), "flattened": (_flattened, 0.02)}


def worse_candidates(
    population: FloatArray, truth: FloatArray, worsenings: tuple[float, ...]
) -> Iterator[Worse]:
    """Yield changes of the confidences that worsen the population's ECE by the amounts asked for.

    P(correct) stays what it is, item by item. Both kinds keep the order of the confidences, so no
    two fall together, and the ECE afterwards is the mean distance of the new confidence from
    P(correct) at the old one.

    Args:
        population: (m,) confidences.
        truth: (m,) P(correct) at each.
        worsenings: the amounts, in ECE units.
    """
    before = float(np.abs(population - truth).mean())
    for how, (kind, strongest) in KINDS.items():
        by = kind(population)

        def grown(t: float, by: Callable[[float], Change] = by, most: float = strongest) -> float:
            return float(np.abs(by(most**t)(population) - truth).mean()) - before

        largest = max(0.0, grown(1.0))
        for worsening in worsenings:
            if worsening > largest:
                yield Worse(how, worsening, largest, None, None)
            else:
                factor = strongest ** rising_to(worsening, grown)
                yield Worse(how, worsening, largest, factor, by(factor))
