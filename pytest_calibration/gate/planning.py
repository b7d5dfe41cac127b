"""What a comparison will be able to detect, before a model or a candidate is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Component, Paired, slope_weights
from pytest_calibration.gate.decision import MIN_UNITS
from pytest_calibration.gate.operating_point import beyond_tolerance
from pytest_calibration.gate.power import (
    CONFIDENT_SHARE,
    POWER,
    RELATIVE_ERRORS,
    allowed_false_alarms,
    bound_quantile,
    false_alarm_rate,
    scaled,
    smallest_visible,
    units_to_decide,
    worsening_at_power,
)
from pytest_calibration.gate.strictness import (
    ALPHA,
    MAX_UNDETECTED,
    TOLERANCE,
    OperatingPoint,
    Strictness,
)
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import selective
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.conditional import ConditionalMean
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.standard_errors import (
    cluster_codes,
    equal_units,
    standard_error,
)

# Assumed share of the items that only one of the two models answers correctly.
CHANGED: Final = 0.15
# ECE of a perfectly calibrated model of four-way questions over 15 bins, times the root of n.
TYPICAL_FLOOR: Final = 1.12
# The 95 % quantile of that ECE over its mean.
HIGH_OVER_FLOOR: Final = 1.41

# Assumed share of the answers with at least the confidence of an operating point.
COVERED: Final = 0.3
# Variance of a fall of precision over that of two runs that have nothing in common, where the share
# CHANGED of the answers changes; at 0.9 it is from 0.3 to 0.7 on the sources of
# benchmarks/generators.py, and in proportion where fewer change.
SHARED: Final = 0.6

# How far beyond the tolerance the worsenings lie for which power is shown.
EXCESSES: Final = (0.02, 0.035, 0.06, 0.1)


def worsenings(tolerance: float, excesses: Sequence[float] = EXCESSES) -> list[float]:
    """Return the worsenings that lie so far beyond the tolerance, those below 1."""
    return [w for w in (round(tolerance + excess, 9) for excess in excesses) if w < 1]


def smallest_visible_unpaired(
    predictions: Predictions, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> float:
    """Return the smallest shift visible at 80 % power before any candidate is known.

    As if the candidate's errors were independent of the baseline's; pairing makes it smaller.
    """
    own = _own_error(predictions)
    if math.isnan(own):
        return 1.0
    z = upper_quantile(alpha, equal_units(predictions.n, cluster_codes(predictions)))
    return min(1.0, worsening_at_power(tolerance, z, math.sqrt(2) * own))


def _own_error(predictions: Predictions) -> float:
    """Return the larger standard error of signed gap and slope."""
    pair = Paired.of(predictions, predictions)
    slope = slope_weights(pair, pair.confidence0)
    weighted = (pair.gap0, *(() if slope is None else (slope * pair.gap0,)))
    return max(standard_error(values, pair.clusters) for values in weighted)


@dataclass(frozen=True)
class Plan:
    """What a comparison on so many items will be able to detect.

    Attributes:
        n: number of items.
        units: number of independent units (items, or groups).
        strictness: of the comparison.
        changed: share of the items that only one of the two models answers correctly.
        standard_error: of the shift of the signed gap.
        smallest_visible: smallest shift or scaling that is seen with 80 % power.
        decides: whether a comparison that does not fail passes, instead of being inconclusive.
        n_needed: number of items from which on it decides.
        false_alarm_rate: upper bound of how often an unchanged model fails.
        noise_floor: approximate ECE that a perfectly calibrated model would show.
        high_over_floor: 95 % quantile of that ECE, over its mean.
    """

    n: int
    units: int
    strictness: Strictness
    changed: float
    standard_error: float
    smallest_visible: float
    decides: bool
    n_needed: int
    false_alarm_rate: float
    noise_floor: float
    high_over_floor: float = HIGH_OVER_FLOOR

    def power(self, worsening: float) -> float:
        """Return the probability that a true shift or scaling of this size does not pass."""
        excess = worsening - self.smallest_visible
        return NORMAL.cdf(excess / self.standard_error + NORMAL.inv_cdf(POWER))

    def items_to_test(self, limit: float) -> int:
        """Return from how many items on a calibrated model stays below the limit 95 % of the time.

        As ``Measurement.items_to_test``.
        """
        return math.ceil(self.n * (self.high_over_floor * self.noise_floor / limit) ** 2)


def plan(
    n: int,
    *,
    groups: int | None = None,
    changed: float = CHANGED,
    **settings: Any,
) -> Plan:
    """Return what a comparison on n items will be able to detect, before any model is run.

    Where fine-tuning changes whether a share q of the answers is correct, the shift of the signed
    gap has a standard error of about sqrt(q / n): the confidences move little in comparison. That
    of the slope is no larger, since its weights are within [-1, 1]. So the plan depends on q, and
    hardly on how the confidences are spread.

    Args:
        n: number of items, at least 2.
        groups: number of groups that the items come in. All items of a group are taken to be
            alike, which is the worst case.
        changed: share of the items that only one of the two models answers correctly, in (0, 1].
        settings: of :class:`Strictness`; max_undetected must be above 0.

    Raises:
        MetricError: a value outside these ranges.
    """
    strictness = Strictness(**settings)
    units = n if groups is None else groups
    _check_ranges(n, units, strictness.max_undetected, changed)
    return _plan(n, units, units, changed, strictness)


def _plan(n: int, units: int, equal: int, changed: float, strictness: Strictness) -> Plan:
    """Plan from the variance of a unit; ``equal`` units of equal size count for as much."""
    tolerance, alpha = strictness.tolerance, strictness.alpha
    guard, max_undetected = strictness.accuracy_tolerance, strictness.max_undetected
    error = math.sqrt(changed)
    relative = {"signed gap": 1.0, **RELATIVE_ERRORS}
    single = [_unchanged(name, r * error, tolerance) for name, r in relative.items()]
    if guard is not None:
        single.append(_unchanged("accuracy", error, guard))
    components = scaled(single, 1, equal, n / equal)
    # As if there were confident answers: what is kept for them is lost to the others.
    share = 1 - CONFIDENT_SHARE * (strictness.tail < 1)
    z = bound_quantile(components, alpha, equal, share)
    visible = smallest_visible(components, tolerance, z)
    least = math.ceil(MIN_UNITS * equal / units)
    needed = units_to_decide(single, tolerance, alpha, 1, max_undetected, least, share, n / equal)
    return Plan(
        n=n,
        units=units,
        strictness=strictness,
        changed=changed,
        standard_error=components[0].standard_error,
        smallest_visible=min(1.0, visible),
        decides=units >= MIN_UNITS and visible <= tolerance + max_undetected,
        n_needed=math.ceil(needed * n / equal),
        false_alarm_rate=false_alarm_rate(components, z, equal)
        + (1 - share) * allowed_false_alarms(alpha, equal),
        noise_floor=min(1.0, TYPICAL_FLOOR / math.sqrt(equal)),
    )


@dataclass(frozen=True)
class PointPlan:
    """What a comparison at an operating point will be able to detect.

    Attributes:
        n: number of items.
        units: number of independent units (items, or groups).
        point: the threshold, and what may get worse there.
        coverage: share of the answers that are acted on.
        precision: their accuracy.
        changed: share of the items that only one of the two models answers correctly.
        precision_visible: smallest fall of precision that is seen with 80 % power.
        coverage_visible: smallest fall of coverage that is; NaN where any is allowed.
        decides: whether a comparison that does not fail passes, instead of being inconclusive.
        n_needed: number of items from which on it decides.
        false_alarm_rate: upper bound of how often an unchanged model fails.
    """

    n: int
    units: int
    point: OperatingPoint
    coverage: float
    precision: float
    changed: float
    precision_visible: float
    coverage_visible: float
    decides: bool
    n_needed: int
    false_alarm_rate: float


def plan_at(
    n: int,
    point: OperatingPoint,
    *,
    coverage: float = COVERED,
    precision: float | None = None,
    changed: float = CHANGED,
    groups: int | None = None,
    effect: float = 1.0,
    alpha: float = ALPHA,
    max_undetected: float = MAX_UNDETECTED,
) -> PointPlan:
    """Return what a comparison at an operating point on n items will be able to detect.

    Args:
        n: number of items, at least 2.
        point: the operating point.
        coverage: share of the answers with at least its threshold, in (0, 1].
        precision: their accuracy, in (0, 1]; by default half-way from the threshold to 1, as of a
            calibrated model.
        changed: share of the items that only one of the two models answers correctly, in (0, 1]. So
            many cross the threshold, and so much of the errors is not shared.
        groups: number of groups that the items come in.
        effect: design effect of these groups: 1 where they tell nothing.
        alpha: one-sided error level of each bound.
        max_undetected: how much beyond a tolerance may stay undetected, above 0.

    Raises:
        MetricError: a value outside these ranges.
    """
    units = n if groups is None else groups
    precision = (1 + point.threshold) / 2 if precision is None else precision
    strictness = Strictness(alpha=alpha, max_undetected=max_undetected)
    _check_ranges(n, units, strictness.max_undetected, changed)
    for name, share in (("coverage", coverage), ("precision", precision)):
        if not 0 < share <= 1:
            raise MetricError(f"{name} must be above 0 and at most 1, got {share}.")
    wrong = 1 - precision
    lower = min(wrong + point.tolerance, 1.0)
    apart = effect * min(1.0, SHARED * changed / CHANGED) / coverage
    error = math.sqrt(apart * (wrong * precision + lower * (1 - lower)))
    crossing = min(changed, 2 * coverage * (1 - coverage))
    single = [_unchanged("precision", error, point.tolerance)]
    if point.coverage_tolerance is not None:
        across = math.sqrt(effect * crossing)
        single.append(_unchanged("coverage", across, point.coverage_tolerance))
    components = scaled(single, 1, n)
    z = bound_quantile(components, strictness.alpha, units)
    visible = [worsening_at_power(c.tolerance, z, c.standard_error) for c in components]
    least = math.ceil(MIN_UNITS * n / units)
    needed = units_to_decide(
        single, 0.0, strictness.alpha, 1, strictness.max_undetected, least,
        visible=beyond_tolerance,
    )  # fmt: skip
    beyond = beyond_tolerance(components, 0.0, z)
    return PointPlan(
        n=n,
        units=units,
        point=point,
        coverage=coverage,
        precision=precision,
        changed=changed,
        precision_visible=min(1.0, visible[0]),
        coverage_visible=min(1.0, visible[1]) if len(visible) > 1 else math.nan,
        decides=units >= MIN_UNITS and beyond <= strictness.max_undetected,
        n_needed=needed,
        false_alarm_rate=false_alarm_rate(components, z, units),
    )


def plan_at_like(
    predictions: Predictions,
    point: OperatingPoint,
    changed: float = CHANGED,
    alpha: float = ALPHA,
    max_undetected: float = MAX_UNDETECTED,
) -> Callable[[int], PointPlan]:
    """Return a function that plans comparisons at an operating point on items like these.

    Args:
        predictions: with answers that have at least the confidence of the point.
        point: the operating point.
        changed: share of the items that only one of the two models answers correctly.
        alpha: one-sided error level of each bound.
        max_undetected: how much beyond a tolerance may stay undetected.

    Raises:
        MetricError: no answer has so much confidence.
    """
    selective.precision(predictions, point.threshold)
    clusters = cluster_codes(predictions)
    right = predictions.correct.astype(np.float64)
    which = selective.answered(predictions.confidence, point.threshold)
    found = ConditionalMean.of(right, which, clusters)
    alone = found.standard_error()
    effect = 1.0
    if clusters is not None and alone > 0:
        effect = max(1.0, (found.standard_error(clusters) / alone) ** 2)

    def plan_on(items: int) -> PointPlan:
        groups = max(2, round(predictions.n_clusters * items / predictions.n))
        return plan_at(
            items,
            point,
            coverage=found.share,
            # No wrong answer among these does not mean that none will be.
            precision=(found.n * found.value + 1) / (found.n + 2),
            changed=changed,
            groups=min(groups, items),
            effect=effect,
            alpha=alpha,
            max_undetected=max_undetected,
        )

    return plan_on


def _check_ranges(n: int, units: int, max_undetected: float, changed: float) -> None:
    for name, count in (("n", n), ("groups", units)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise MetricError(f"{name} must be a whole number, got {count!r}.")
    for name, value, fits, range_ in (
        ("n", n, n >= 2, "at least 2"),
        ("groups", units, 2 <= units <= n, f"between 2 and n = {n}"),
        ("max_undetected", max_undetected, max_undetected > 0, "above 0; at 0 nothing is decided"),
        ("changed", changed, 0 < changed <= 1, "above 0 and at most 1"),
    ):
        if not fits:
            raise MetricError(f"{name} must be {range_}, got {value}.")


def plans_like(
    predictions: Predictions, n: int, strictness: Strictness, changed: float | None = None
) -> Callable[[int], Plan]:
    """Return a function that plans comparisons on so many items like these predictions.

    Args:
        predictions: at least two independent units.
        n: number of items for which the number of groups is rounded first.
        strictness: of the comparison.
        changed: share of the items that only one of the two models answers correctly. By default
            the candidate's errors are taken to be independent of the predictions', which is the
            worst case.
    """
    units = predictions.n_clusters
    equal = equal_units(predictions.n, cluster_codes(predictions))
    measured = measure(predictions)
    own = equal * _own_error(predictions) ** 2
    floor = measured.noise_floor * math.sqrt(units)
    units_of_n = max(2, round(units * n / predictions.n))
    # Items of a group that go together change together.
    together = own / max(1e-6, float(predictions.gap.var()))
    share = max(1e-6, 2 * own if changed is None else changed * together)

    def plan_on(items: int) -> Plan:
        groups = max(2, round(units_of_n * items / n))
        alike = max(2, round(groups * equal / units))
        return replace(
            _plan(items, groups, alike, share, strictness),
            noise_floor=min(1.0, floor / math.sqrt(groups)),
            high_over_floor=measured.noise_floor_high / (measured.noise_floor or 1.0),
        )

    return plan_on


def _unchanged(name: str, error: float, tolerance: float) -> Component:
    """Return a component of an unchanged model, of which only the standard error counts."""
    few = "few units" if name == "cross-fitted ECE" else ""
    return Component(name, 0.0, 0.0, 0.0, error, -error, tolerance, unavailable=few)
