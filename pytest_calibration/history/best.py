"""The best checkpoint of a series: well calibrated, and not at the price of accuracy.

Of the checkpoints whose accuracy is not surely below the highest, the one with the smallest
calibration error. Which of K comes out best depends on chance, so either search counts as all
K·(K − 1) comparisons of one with another: a difference is sure where it exceeds its standard error
times the one-sided quantile of alpha divided by their number (Bonferroni). The parent is no
checkpoint of the run, and is not among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_calibration.gate.components import Paired, paired_error
from pytest_calibration.gate.verdict import align
from pytest_calibration.history.comparing import error_of
from pytest_calibration.history.series import Series
from pytest_calibration.metrics import DEFAULT_BINS, metric_named
from pytest_calibration.metrics.binning import bin_index
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes

DEBIASED: Final = "cross_fitted_ece"
# Means over items, which pair item by item.
_MEANS: Final = frozenset({"accuracy", "brier", "signed_gap", DEBIASED})


@dataclass(frozen=True)
class Best:
    """Which checkpoint to take.

    Attributes:
        metric: name of the metric that decides: the one asked for; for one whose size depends on
            noise, as the ECE, the cross-fitted ECE.
        place: of the best checkpoint in the series.
        alike: places of those that cannot be told apart from it by this metric, itself among them.
        most_accurate: place of the highest accuracy.
        less_accurate: places of those whose accuracy is surely below that.
        paired: whether all differences were judged item by item.
        level: probability that no judgement of a search is wrong.
    """

    metric: str
    place: int
    alike: tuple[int, ...]
    most_accurate: int
    less_accurate: tuple[int, ...]
    paired: bool
    level: float


def deciding(metric: str) -> str:
    """Return the metric that decides where a user looks at this one.

    A metric with no better direction, as the mean confidence, decides nothing: calibration does.
    """
    entry = metric_named(metric)
    if metric == "signed_gap":
        return metric
    return DEBIASED if entry.error or entry.better == "neither" else metric


def best_checkpoint(
    series: Series,
    items: Sequence[Predictions | None] = (),
    metric: str = "ece",
    alpha: float = 0.05,
) -> Best | None:
    """Return the best checkpoint of a series; None where fewer than two can be ranked.

    Args:
        series: K checkpoints, and their parent if there is one.
        items: (K,) of each line, None where there are none; without any, numbers alone count.
        metric: name of the metric that a user looks at; see :func:`deciding`.
        alpha: error level of each of the two searches.
    """
    by = deciding(metric)
    found = _Candidates(series, items or [None] * len(series), alpha)
    places = [
        k
        for k, line in enumerate(series.lines)
        if (k or not series.has_parent) and {by, "accuracy"} <= line.metrics.keys()
    ]
    if len(places) < 2:
        return None
    accurate = max(places, key=lambda k: found.size(k, "accuracy"))
    sure = {k for k in places if found.surely_better(accurate, k, "accuracy", len(places))}
    kept = [k for k in places if k not in sure]
    best = max(kept, key=lambda k: found.size(k, by))
    alike = [k for k in kept if not found.surely_better(best, k, by, len(kept))]
    return Best(by, best, tuple(alike), accurate, tuple(sorted(sure)), found.paired, 1 - alpha)


class _Candidates:
    """The lines of a series as candidates for the best: what they are worth, and how surely."""

    def __init__(self, series: Series, items: Sequence[Predictions | None], alpha: float) -> None:
        self._series, self._items, self._alpha = series, items, alpha
        self.paired = True

    def size(self, place: int, metric: str) -> float:
        """Return how good a line is: more is better."""
        value = self._series.lines[place].metrics[metric].value
        if metric == "signed_gap":
            return -abs(value)
        return value if metric_named(metric).better == "higher" else -value

    def surely_better(self, best: int, other: int, metric: str, many: int) -> bool:
        """Whether the best of many is better than another beyond chance."""
        if best == other:
            return False
        units = min(self._series.lines[k].units for k in (best, other))
        z = upper_quantile(self._alpha / (many * (many - 1)), units)
        error = self._error(best, other, metric)
        # Written so that a NaN is no certainty.
        return self.size(best, metric) - self.size(other, metric) > z * error

    def _error(self, best: int, other: int, metric: str) -> float:
        """Standard error of a difference."""
        a, b = self._items[best], self._items[other]
        if metric in _MEANS and a is not None and b is not None:
            ours, theirs, _ = align(a, b)
            if ours is not None and theirs is not None:
                a, b = a.take(ours), b.take(theirs)
                return paired_error(_by_item(a, metric), _by_item(b, metric), Paired.of(a, b))
        self.paired = False
        return math.hypot(*(error_of(metric, self._series.lines[k]) for k in (best, other)))


def _by_item(p: Predictions, metric: str) -> FloatArray:
    """Return (n,) what each item adds to a metric, whose mean it is, or whose influence."""
    if metric == "accuracy":
        return p.correct.astype(np.float64)
    if metric == "brier":
        return np.asarray(p.gap**2)
    if metric == "signed_gap":
        return np.asarray(math.copysign(1.0, float(p.gap.mean())) * p.gap)
    bins = bin_index(p.confidence, DEFAULT_BINS, "equal_width")
    return cross_fitted(p.gap, bins, cluster_codes(p)).influence
