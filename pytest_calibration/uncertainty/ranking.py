"""Intervals of what depends on the order of the confidences: AUROC, selective accuracy, AURC."""

from __future__ import annotations

import math

import numpy as np

from pytest_calibration.metrics.inputs import levels_of
from pytest_calibration.metrics.selective import (
    DEFAULT_COVERAGE,
    aurc,
    selective_accuracy,
)
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.evidence import (
    TAIL,
    Evidence,
    units_with,
    unseen_share,
)
from pytest_calibration.uncertainty.means import Ends, effective_number, wilson
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.standard_errors import standard_error


def _level_of(predictions: Predictions, confidence: FloatArray) -> IntArray:
    """(n,) position of each item's confidence among the distinct ones."""
    return np.searchsorted(confidence, predictions.confidence)


def _logit_interval(value: float, margin: float) -> Ends:
    """Ends on the scale of log-odds, where what lies near 0 or 1 is less skewed."""
    if not 0 < value < 1:
        return value, value
    centre, half = math.log(value / (1 - value)), margin / (value * (1 - value))
    return _expit(centre - half), _expit(centre + half)


def _expit(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


# --- AUROC ---------------------------------------------------------------------------------------


def placements(predictions: Predictions) -> FloatArray:
    """(n,) of a right item the share of wrong ones below it, of a wrong one of right ones above.

    Ties count half. The mean over the right items, and over the wrong ones, is AUROC.
    """
    levels = levels_of(predictions)
    level = _level_of(predictions, levels.confidence)
    below = (np.cumsum(levels.wrong) - levels.wrong / 2) / levels.wrong.sum()
    above = (levels.right.sum() - np.cumsum(levels.right) + levels.right / 2) / levels.right.sum()
    placed: FloatArray = np.where(predictions.correct, below[level], above[level])
    return placed


def auroc_error(place: FloatArray, right: BoolArray, clusters: IntArray | None) -> float:
    """Standard error of AUROC (DeLong et al. 1988); over groups, that of Obuchowski 1997.

    Args:
        place: (n,) placements.
        right: (n,) which items are right; both kinds must come from two groups at least.
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


def auroc_interval(evidence: Evidence) -> Ends:
    """AUROC ± z standard errors on the scale of log-odds.

    The rarer of right and wrong decides how much is known: it gives the degrees of freedom and,
    where the two are all but separated, the room for an unseen item on the wrong side. With k of
    them and none misplaced that is 0.025^(1/k), the exact bound from k disjoint pairs.
    """
    right, rarer = evidence.predictions.correct, evidence.rarer
    if rarer < 2:
        return 0.0, 1.0
    place = placements(evidence.predictions)
    value = float(place[right].mean())
    margin = upper_quantile(TAIL, rarer) * auroc_error(place, right, evidence.clusters)
    low, high = _logit_interval(value, margin)
    unseen = unseen_share(rarer)
    low = min(low, value - unseen * float(place.min()))
    return low, max(high, value + unseen * (1 - float(place.max())))


# --- selective accuracy --------------------------------------------------------------------------


def selective_influence(predictions: Predictions, coverage: float = DEFAULT_COVERAGE) -> FloatArray:
    """(n,) how each item moves the selective accuracy: its share of it, and of the threshold.

    Of an answered item, (correct − m) / coverage counts, with m the accuracy at the threshold, as
    the n^(2/3) items around it show it: one more answered item pushes out one of those.
    """
    n, levels = predictions.n, levels_of(predictions)
    level = _level_of(predictions, levels.confidence)
    ends = np.cumsum(levels.count)
    threshold = n - coverage * n
    # Part of each level that is answered: all, none, or where the threshold runs through it, some.
    part = np.clip((ends - threshold) / levels.count, 0, 1)
    reach = n ** (2 / 3) / 2
    first = int(np.searchsorted(ends, threshold - reach, side="right"))
    last = int(np.searchsorted(ends, threshold + reach))
    near = slice(first, last + 1)
    accuracy_there = float(levels.right[near].sum() / levels.count[near].sum())
    own = part[level] * (predictions.correct - accuracy_there) / coverage
    return np.asarray(own + accuracy_there - selective_accuracy(predictions, coverage))


def selective_accuracy_interval(evidence: Evidence) -> Ends:
    """Wilson's interval, for as many items as the standard error is worth."""
    value = selective_accuracy(evidence.predictions)
    error = standard_error(selective_influence(evidence.predictions), evidence.clusters)
    n = effective_number(value, error, evidence, DEFAULT_COVERAGE)
    return wilson(value, n, evidence.z)


def selective_risk_interval(evidence: Evidence) -> Ends:
    """One minus the interval of the selective accuracy."""
    low, high = selective_accuracy_interval(evidence)
    return 1 - high, 1 - low


# --- AURC ----------------------------------------------------------------------------------------


def aurc_influence(predictions: Predictions) -> FloatArray:
    """(n,) how each item moves the area under the risk-coverage curve, with mean 0.

    With G(c) the share of items at c or above, a wrong item adds −ln G of its own confidence, and
    any item lowers the risk at all coverages that reach it: 1 − Σ_j wrong_j·1{c_j ≤ c}/(n·G(c_j)).
    This is the derivative with ties counted as the mean over all orders.
    """
    n, levels = predictions.n, levels_of(predictions)
    level = _level_of(predictions, levels.confidence)
    count, wrong = levels.count[::-1] / n, levels.wrong[::-1] / n
    end = np.cumsum(levels.count[::-1]) / n
    start = end - count
    start[0] = 0.0
    before = np.cumsum(wrong) - wrong
    rate = wrong / count
    # The area is Σ wrong + (before − start·rate)·log(end/start) over the levels, the surest first.
    # No item lies above the first level, where the second part is 0.
    safe = np.where(start > 0, start, 1.0)
    log = np.where(start > 0, np.log(end / safe), 0.0)
    by_wrong = 1 - start / count * log - np.log(end)
    excess = np.where(start > 0, before - start * rate, 0.0)
    by_own = start * rate / count * log + excess / end
    by_start = np.where(start > 0, excess * (1 / end - 1 / safe) - rate * log, 0.0)
    later = by_start.sum() - np.cumsum(by_start)
    position = len(count) - 1 - level
    moved = (by_own + later)[position] + np.where(predictions.correct, 0.0, by_wrong[position])
    return np.asarray(moved - moved.mean())


def aurc_interval(evidence: Evidence) -> Ends:
    """AURC ± z standard errors on the scale of log-odds.

    Wrong answers that were not seen are taken to be as likely at any confidence.
    """
    value = aurc(evidence.predictions)
    error = standard_error(aurc_influence(evidence.predictions), evidence.clusters)
    low, high = _logit_interval(value, evidence.outcome_z * error)
    wrong = float((~evidence.predictions.correct).mean())
    room = evidence.unseen
    return min(low, value - room * wrong), max(high, value + room * (1 - wrong))
