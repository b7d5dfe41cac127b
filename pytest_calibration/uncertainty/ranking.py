"""Intervals of what depends on the order of the confidences: AUROC, selective accuracy, AURC."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.metrics.levels import Levels
from pytest_calibration.metrics.selective import DEFAULT_COVERAGE, aurc, selective_accuracy
from pytest_calibration.predictions import FloatArray, IntArray, Predictions
from pytest_calibration.uncertainty.evidence import TAIL, Evidence, unseen_share
from pytest_calibration.uncertainty.means import Ends, mean_interval, unit_means, wilson
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.standard_errors import standard_error


def _levels(p: Predictions) -> tuple[FloatArray, FloatArray, IntArray]:
    """count, right per level (ascending), level of each item."""
    order = np.argsort(p.confidence, kind="stable")
    confidence = p.confidence[order]
    first = np.concatenate([[True], confidence[1:] != confidence[:-1]])
    starts = np.flatnonzero(first)
    level = np.empty(p.n, dtype=np.int64)
    level[order] = np.cumsum(first) - 1
    count = np.diff(starts, append=p.n).astype(np.float64)
    right = np.add.reduceat(p.correct[order].astype(np.float64), starts)
    return count, right, level


def placements(p: Predictions) -> FloatArray:
    """(n,) of a right item the share of wrong ones below it, of a wrong one of right ones above."""
    count, right, level = _levels(p)
    wrong = count - right
    below = np.cumsum(wrong) - wrong / 2
    above = right.sum() - np.cumsum(right) + right / 2
    return np.where(p.correct, below[level] / wrong.sum(), above[level] / right.sum())


def auroc_interval(evidence: Evidence) -> Ends:
    p = evidence.predictions
    place = placements(p)
    right = p.correct
    m, w = int(right.sum()), int(p.n - right.sum())
    area = float(place[right].mean())
    residual = place - area
    clusters = evidence.clusters
    codes = np.arange(p.n) if clusters is None else clusters
    units_r = len(np.unique(codes[right]))
    units_w = len(np.unique(codes[~right]))
    k = min(units_r, units_w)
    if k < 2:
        return 0.0, 1.0
    groups = evidence.units
    s_r = np.bincount(codes[right], weights=residual[right], minlength=groups) / m
    s_w = np.bincount(codes[~right], weights=residual[~right], minlength=groups) / w
    variance = (
        units_r / (units_r - 1) * s_r @ s_r
        + units_w / (units_w - 1) * s_w @ s_w
        + 2 * groups / (groups - 1) * s_r @ s_w
    )
    error = math.sqrt(max(variance, 0.0))
    z = upper_quantile(TAIL, k)
    low = high = area
    if 0 < area < 1:
        logit = math.log(area / (1 - area))
        half = z * error / (area * (1 - area))
        low, high = (1 / (1 + math.exp(-x)) for x in (logit - half, logit + half))
    unseen = unseen_share(k)
    least = min(float(place[right].min()), float(place[~right].min()))
    most = max(float(place[right].max()), float(place[~right].max()))
    return (
        max(0.0, min(low, area - unseen * least)),
        min(1.0, max(high, area + unseen * (1 - most))),
    )


def selective_influence(p: Predictions, coverage: float = DEFAULT_COVERAGE) -> FloatArray:
    count, right, level = _levels(p)
    answered = coverage * p.n
    # items above the level, per level
    above = p.n - np.cumsum(count)
    cut = int(np.flatnonzero(above < answered)[0])  # lowest level that is (partly) answered
    weight = np.clip((answered - above) / count, 0, 1)[level]
    # accuracy at the threshold, from the items whose ranks are nearest
    reach = max(0.5 * p.n ** (2 / 3), 1.0)
    ends = np.cumsum(count)
    position = p.n - answered
    lo = np.searchsorted(ends, max(position - reach, 0), side="right")
    hi = np.searchsorted(ends, min(position + reach, p.n), side="left")
    near = slice(min(lo, cut), max(hi, cut) + 1)
    at = right[near].sum() / count[near].sum()
    value = selective_accuracy(p, coverage)
    return weight * (p.correct - at) / coverage - (value - at)


def selective_accuracy_interval(evidence: Evidence) -> Ends:
    p = evidence.predictions
    value = selective_accuracy(p)
    if evidence.units < 2:
        return 0.0, 1.0
    error = standard_error(selective_influence(p), evidence.clusters)
    n = DEFAULT_COVERAGE * evidence.units
    if error > 0 and 0 < value < 1:
        n = value * (1 - value) / error**2
    return wilson(value, n, evidence.z)


def selective_risk_interval(evidence: Evidence) -> Ends:
    low, high = selective_accuracy_interval(evidence)
    return 1 - high, 1 - low


def aurc_influence(p: Predictions) -> FloatArray:
    """(n,) influence on AURC."""
    count, right, level = _levels(p)
    count, wrong = count[::-1] / p.n, (count - right)[::-1] / p.n
    end = np.cumsum(count)
    start = end - count
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(start > 0, np.log(end / np.where(start > 0, start, 1)), 0.0)
    rate = wrong / count
    before = np.cumsum(wrong) - wrong
    inv = np.where(start > 0, 1 / np.where(start > 0, start, 1), 0)
    by_wrong = 1 - start / count * log - np.log(end)
    own = start * rate / count * log + (before - start * rate) / end
    own = np.where(start > 0, own, 0.0)
    later = -rate * log + (before - start * rate) * (1 / end - inv)
    later = np.where(start > 0, later, 0)
    after = later.sum() - np.cumsum(later)
    base = own + after
    lev = len(count) - 1 - level
    out = base[lev] + np.where(p.correct, 0.0, by_wrong[lev])
    return out - out.mean()


def aurc_interval(evidence: Evidence) -> Ends:
    p = evidence.predictions
    if evidence.units < 2:
        return 0.0, 1.0
    value = aurc(p)
    error = standard_error(aurc_influence(p), evidence.clusters)
    low = high = value
    if 0 < value < 1:
        logit = math.log(value / (1 - value))
        half = upper_quantile(TAIL, max(2, min(int(p.correct.sum()), int(p.n - p.correct.sum()), evidence.units))) * error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-x)) for x in (logit - half, logit + half))
    return low, high
