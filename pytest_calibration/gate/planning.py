"""What a comparison will see, said before any model, or any candidate, is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component
from pytest_calibration.gate.decision import ALPHA, MAX_UNDETECTED, MIN_UNITS, TOLERANCE
from pytest_calibration.gate.power import (
    POWER,
    RELATIVE_ERRORS,
    bound_quantile,
    false_alarm_rate,
    scaled,
    smallest_visible,
    units_to_decide,
    visible,
)
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

# Share of the items that only one of two models answers rightly, where nothing is known of them.
CHANGED: Final = 0.15
# ECE of a perfectly calibrated model of four-way questions over 15 bins, times the root of n.
TYPICAL_FLOOR: Final = 1.12
# What such a model stays below 95 % of the time, over what it shows on average.
HIGH_OVER_FLOOR: Final = 1.41


def unpaired_visible(
    predictions: Predictions, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> float:
    """Return the smallest worsening visible at 80 % power before any candidate is known.

    As if the candidate's errors were independent of the baseline's: pairing only makes it smaller.
    """
    clusters = cluster_codes(predictions)
    errors = [standard_error(predictions.gap, clusters)]
    away = predictions.confidence - predictions.confidence.mean()
    if float(away @ away) > 1e-12 * len(away):
        k = float(np.abs(away).mean() / np.mean(away**2))
        errors.append(standard_error(k * away * predictions.gap, clusters))
    if math.isnan(errors[0]):
        return 1.0
    z = upper_quantile(alpha, predictions.n_clusters)
    return min(1.0, visible(tolerance, z, math.sqrt(2) * max(errors)))


@dataclass(frozen=True)
class Plan:
    """What a comparison on so many items will be able to say.

    Attributes:
        n: number of items.
        units: number of independent units (items, or groups).
        tolerance: allowed worsening in ECE units.
        alpha: one-sided error level of each bound.
        max_undetected: how much beyond the tolerance may stay invisible.
        changed: share of the items that only one of the two models answers rightly.
        standard_error: of the shift of the signed gap.
        smallest_visible: smallest worsening seen with 80 % power.
        decides: whether such a comparison decides, instead of being inconclusive.
        n_needed: items from which on it decides.
        false_alarm_rate: at most how often an unchanged model fails.
        noise_floor: ECE that a perfectly calibrated model would show, about.
    """

    n: int
    units: int
    tolerance: float
    alpha: float
    max_undetected: float
    changed: float
    standard_error: float
    smallest_visible: float
    decides: bool
    n_needed: int
    false_alarm_rate: float
    noise_floor: float

    def power(self, worsening: float) -> float:
        """Return the probability that a true worsening of this size fails the test."""
        spare = worsening - self.smallest_visible
        return NORMAL.cdf(spare / self.standard_error + NORMAL.inv_cdf(POWER))


def plan(
    n: int,
    *,
    groups: int | None = None,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    max_undetected: float = MAX_UNDETECTED,
    changed: float = CHANGED,
) -> Plan:
    """Say what a comparison on n items will see, before any model is run.

    A model whose fine-tuning changes the outcome of a share q of the items has a shift of the
    signed gap with a standard error of about sqrt(q / n): its confidences move little beside that.

    Args:
        n: number of items, at least 2.
        groups: number of groups the items come in; counted as if all items of a group were alike,
            which is the worst case.
        tolerance: allowed worsening in ECE units, in [0, 1).
        alpha: one-sided error level of each bound, in (0, 0.5).
        max_undetected: how much beyond the tolerance may stay invisible, in (0, 1).
        changed: share of the items that only one of the two models answers rightly, in (0, 1].

    Raises:
        MetricError: a value outside these ranges.
    """
    units = n if groups is None else groups
    checks = (
        ("n", n, n >= 2, "at least 2"),
        ("groups", units, 2 <= units <= n, f"between 2 and n = {n}"),
        ("tolerance", tolerance, 0 <= tolerance < 1, "at least 0 and below 1"),
        ("alpha", alpha, 0 < alpha < 0.5, "between 0 and 0.5"),
        ("max_undetected", max_undetected, 0 < max_undetected < 1, "between 0 and 1"),
        ("changed", changed, 0 < changed <= 1, "above 0 and at most 1"),
    )
    for name, value, good, range_ in checks:
        if not good:
            raise MetricError(f"{name} must be {range_}, got {value}.")
    one = [_expected("signed gap", math.sqrt(changed), tolerance)]
    one += [_expected(k, r * math.sqrt(changed), tolerance) for k, r in RELATIVE_ERRORS.items()]
    # The guard's tolerance is its own.
    one.append(_expected("accuracy", math.sqrt(changed), TOLERANCE))
    components = scaled(one, 1, units)
    z = bound_quantile(components, alpha, units)
    seen = smallest_visible(components, tolerance, z)
    needed = units_to_decide(one, tolerance, alpha, 1, max_undetected, MIN_UNITS)
    return Plan(
        n=n,
        units=units,
        tolerance=tolerance,
        alpha=alpha,
        max_undetected=max_undetected,
        changed=changed,
        standard_error=components[0].standard_error,
        smallest_visible=min(1.0, seen),
        decides=units >= MIN_UNITS and seen <= tolerance + max_undetected,
        n_needed=math.ceil(needed * n / units),
        false_alarm_rate=false_alarm_rate(components, z, units),
        noise_floor=min(1.0, TYPICAL_FLOOR / math.sqrt(units)),
    )


def _expected(name: str, error: float, tolerance: float) -> Component:
    """Return a component of an unchanged model, of which only the standard error counts."""
    few = "few units" if name == "cross-fitted ECE" else ""
    return Component(name, 0.0, 0.0, 0.0, error, -error, tolerance, unavailable=few)
