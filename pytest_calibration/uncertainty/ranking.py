"""Intervals of metrics of the order of confidences: AUROC, selective accuracy and risk, AURC."""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.metrics.inputs import levels_of
from pytest_calibration.metrics.selective import DEFAULT_COVERAGE, aurc, selective_accuracy
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.means import Ends, effective_number, wilson
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.sample import TAIL, Sample, units_with, unseen_share
from pytest_calibration.uncertainty.standard_errors import standard_error


def _logit_interval(value: float, margin: float) -> Ends:
    """Ends of value ± margin, transformed to log-odds: less skewed near 0 and 1."""
    if not 0 < value < 1:
        return value, value
    centre, half = math.log(value / (1 - value)), margin / (value * (1 - value))
    return _expit(centre - half), _expit(centre + half)


def _expit(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


# --- AUROC ---------------------------------------------------------------------------------------


def placements(predictions: Predictions) -> FloatArray:
    """(n,) for a right item the share of wrong ones below it, for a wrong one of right ones above.

    Ties count half. The mean over the right items, and that over the wrong ones, is AUROC.
    """
    levels = levels_of(predictions)
    level = levels.place
    below = (np.cumsum(levels.wrong) - levels.wrong / 2) / levels.wrong.sum()
    above = (levels.right.sum() - np.cumsum(levels.right) + levels.right / 2) / levels.right.sum()
    place: FloatArray = np.where(predictions.correct, below[level], above[level])
    return place


def auroc_error(place: FloatArray, right: BoolArray, clusters: IntArray | None) -> float:
    """Standard error of AUROC: DeLong et al. 1988; over groups, Obuchowski 1997.

    Args:
        place: (n,) placements.
        right: (n,) which items are right; right and wrong ones must each be in two groups or more.
        clusters: (n,) group codes from 0, or None.
    """
    codes = np.arange(len(place)) if clusters is None else clusters
    groups = int(codes.max()) + 1
    residual = place - place[right].mean()
    variance, sums = 0.0, []
    for side in (right, ~right):
        units = units_with(side, clusters)
        weights = residual[side] / int(side.sum())
        total = np.bincount(codes[side], weights=weights, minlength=groups)
        variance += units / (units - 1) * float(total @ total)
        sums.append(total)
    variance += 2 * groups / (groups - 1) * float(sums[0] @ sums[1])
    return math.sqrt(max(0.0, variance))


def auroc_interval(sample: Sample) -> Ends:
    """AUROC ± z standard errors on the scale of log-odds.

    The precision depends on the rarer of right and wrong: its k units give the degrees of freedom
    and the margin for an unseen misplaced item. Where confidence separates the two completely the
    lower end is 0.025^(1/k), the exact bound from k disjoint pairs.
    """
    right, rarer = sample.predictions.correct, sample.rarer_units
    if rarer < 2:
        return 0.0, 1.0
    place = placements(sample.predictions)
    value = float(place[right].mean())
    margin = upper_quantile(TAIL, rarer) * auroc_error(place, right, sample.clusters)
    low, high = _logit_interval(value, margin)
    unseen = unseen_share(rarer)
    low = min(low, value - unseen * float(place.min()))
    return low, max(high, value + unseen * (1 - float(place.max())))


# --- selective accuracy --------------------------------------------------------------------------


def selective_influence(predictions: Predictions, coverage: float = DEFAULT_COVERAGE) -> FloatArray:
    """(n,) influence of each item on the selective accuracy.

    An answered item has (correct − m) / coverage, with m the accuracy at the threshold, estimated
    from the n^(2/3) items around it: one more answered item excludes one of those.
    """
    n, levels = predictions.n, levels_of(predictions)
    level = levels.place
    ends = np.cumsum(levels.count)
    threshold = n - coverage * n
    # Answered part of each level: all, none, or some where the threshold lies within it.
    part = np.clip((ends - threshold) / levels.count, 0, 1)
    reach = n ** (2 / 3) / 2
    first = int(np.searchsorted(ends, threshold - reach, side="right"))
    last = int(np.searchsorted(ends, threshold + reach))
    near = slice(first, last + 1)
    accuracy_there = float(levels.right[near].sum() / levels.count[near].sum())
    own = part[level] * (predictions.correct - accuracy_there) / coverage
    return np.asarray(own + accuracy_there - selective_accuracy(predictions, coverage))


def selective_accuracy_interval(sample: Sample) -> Ends:
    """Wilson's interval for the number of items that has the same standard error."""
    value = selective_accuracy(sample.predictions)
    error = standard_error(selective_influence(sample.predictions), sample.clusters)
    n = effective_number(value, error, sample, DEFAULT_COVERAGE)
    return wilson(value, n, sample.z)


def selective_risk_interval(sample: Sample) -> Ends:
    """One minus the interval of the selective accuracy."""
    low, high = selective_accuracy_interval(sample)
    return 1 - high, 1 - low


# --- AURC ----------------------------------------------------------------------------------------


def aurc_influence(predictions: Predictions) -> FloatArray:
    """(n,) influence of each item on the area under the risk-coverage curve, with mean 0.

    With G(c) the share of items at c or above, a wrong item adds −ln G of its own confidence, and
    every item lowers the risk at the coverages from its own on:
    1 − Σ_j wrong_j·1{c_j ≤ c}/(n·G(c_j)).
    For ties this is the derivative of the mean over all orders.
    """
    n, levels = predictions.n, levels_of(predictions)
    level = levels.place
    count, wrong = levels.count[::-1] / n, levels.wrong[::-1] / n
    end = np.cumsum(levels.count[::-1]) / n
    start = end - count
    start[0] = 0.0
    before = np.cumsum(wrong) - wrong
    rate = wrong / count
    # The area is Σ wrong + (before − start·rate)·log(end/start) over the levels, from the highest
    # confidence down. At the first level, with no items above it, the second term is 0.
    safe = np.where(start > 0, start, 1.0)
    log = np.where(start > 0, np.log(end / safe), 0.0)
    by_wrong = 1 - start / count * log - np.log(end)
    excess = np.where(start > 0, before - start * rate, 0.0)
    by_own = start * rate / count * log + excess / end
    by_start = np.where(start > 0, excess * (1 / end - 1 / safe) - rate * log, 0.0)
    later = by_start.sum() - np.cumsum(by_start)
    position = len(count) - 1 - level
    total = (by_own + later)[position] + np.where(predictions.correct, 0.0, by_wrong[position])
    return np.asarray(total - total.mean())


def aurc_interval(sample: Sample) -> Ends:
    """AURC ± z standard errors on the scale of log-odds.

    Unseen wrong answers are assumed to be equally likely at every confidence.
    """
    value = aurc(sample.predictions)
    error = standard_error(aurc_influence(sample.predictions), sample.clusters)
    low, high = _logit_interval(value, sample.outcome_z * error)
    wrong = float((~sample.predictions.correct).mean())
    room = sample.unseen
    return min(low, value - room * wrong), max(high, value + room * (1 - wrong))
