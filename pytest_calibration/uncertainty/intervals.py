"""The 95 % interval of each metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.metrics.selective import answered
from pytest_calibration.metrics.sharpness import SURE
from pytest_calibration.metrics.table import Metric
from pytest_calibration.predictions import BoolArray
from pytest_calibration.uncertainty import bins, extremes, ranking, smoothing, squares
from pytest_calibration.uncertainty.conditional import ConditionalMean
from pytest_calibration.uncertainty.means import (
    Ends,
    effective_number,
    mean_interval,
    share_interval,
    wilson,
)
from pytest_calibration.uncertainty.sample import Sample, unseen_share

# The smallest probability in an NLL.
TINY: Final = float(np.finfo(np.float64).tiny)


def _accuracy(sample: Sample) -> Ends:
    return share_interval(sample.predictions.correct, sample)


def _brier_multiclass(sample: Sample) -> Ends:
    p = sample.predictions
    table = probabilities_of(p, "brier_multiclass")
    right = table[np.arange(p.n), labels_of(p, "brier_multiclass")]
    others = np.einsum("ij,ij->i", table, table) - right * right
    return mean_interval(others + (1 - right) ** 2, sample, highest=2.0, of_outcomes=True)


def _nll(sample: Sample) -> Ends:
    p = sample.predictions
    assert p.label_logprobs is not None  # else the metric has raised an error
    values = -p.label_logprobs
    worst = float(values.max())
    if p.correct.all():
        # NLL has no upper bound, and no wrong answer was seen: assume the loss of the most
        # confident answer, had it been wrong.
        worst = max(worst, -math.log(max(1 - float(p.confidence.max()), TINY)))
    return mean_interval(values, sample, highest=worst, of_outcomes=True)


def _mean_entropy(sample: Sample) -> Ends:
    table = probabilities_of(sample.predictions, "mean_entropy")
    values = -np.einsum("ij,ij->i", table, np.log(np.where(table > 0, table, 1.0)))
    return mean_interval(values, sample, highest=math.log(table.shape[1]))


def _brier_uncertainty(sample: Sample) -> Ends:
    """Image of the interval of accuracy a under a(1 − a), whose maximum is at 1/2."""
    low, high = _accuracy(sample)
    ends = low * (1 - low), high * (1 - high)
    return min(ends), 0.25 if low <= 0.5 <= high else max(ends)


INTERVALS: Final[dict[str, Callable[[Sample], Ends]]] = {
    "ece": bins.ece_interval,
    "equal_mass_ece": bins.ece_interval,
    "cross_fitted_ece": bins.ece_interval,
    "mce": extremes.mce_interval,
    "rms_ce": squares.rms_interval,
    "debiased_rms_ce": squares.rms_interval,
    "debiased_squared_ce": squares.reliability_interval,
    "classwise_ece": bins.classwise_interval,
    "overconfidence": partial(bins.one_sided_interval, side=1.0),
    "underconfidence": partial(bins.one_sided_interval, side=-1.0),
    "smooth_ece": smoothing.smooth_ece_interval,
    "ks_ce": extremes.ks_interval,
    "brier": lambda s: mean_interval(s.predictions.gap**2, s, of_outcomes=True),
    "brier_multiclass": _brier_multiclass,
    "brier_reliability": squares.reliability_interval,
    "brier_resolution": squares.resolution_interval,
    "brier_uncertainty": _brier_uncertainty,
    "nll": _nll,
    "accuracy": _accuracy,
    "mean_confidence": lambda s: mean_interval(s.predictions.confidence, s),
    "signed_gap": lambda s: mean_interval(s.predictions.gap, s, -1.0, of_outcomes=True),
    "auroc": ranking.auroc_interval,
    "selective_accuracy": ranking.selective_accuracy_interval,
    "selective_risk": ranking.selective_risk_interval,
    "aurc": ranking.aurc_interval,
    "share_confident": lambda s: share_interval(s.predictions.confidence >= SURE - EDGE_SNAP, s),
    "mean_entropy": _mean_entropy,
}


def precision_interval(which: BoolArray, sample: Sample) -> Ends:
    """Wilson's interval of the accuracy of some answers, their number being random as well.

    With groups, n is the number of independent answers with the same standard error; and the
    interval allows for groups that the sample may have missed.
    """
    p = sample.predictions
    found = ConditionalMean.of(p.correct.astype(np.float64), which, sample.clusters)
    if sample.clusters is None:
        return wilson(found.value, found.n, sample.z)
    if found.units < 2:
        return 0.0, 1.0
    error = found.standard_error(sample.clusters)
    n = min(effective_number(found.value, error, sample, found.share), found.n)
    low, high = wilson(found.value, n, sample.z)
    unseen = unseen_share(found.units)
    return min(low, found.value * (1 - unseen)), max(high, 1 - (1 - found.value) * (1 - unseen))


# Metrics whose population value may be negative. A debiased estimate may be; its target may not.
SIGNED: Final = frozenset({"signed_gap"})


def interval(metric: Metric, value: float, sample: Sample) -> Ends:
    """Return the ends of the 95 % interval of a metric, within the range of its population value.

    It contains the value, unless that lies outside the range (debiased errors may be negative).
    For one unit it is the whole range.

    Args:
        metric: the metric.
        value: its value on these predictions.
        sample: the predictions.
    """
    lowest = metric.lowest if metric.name in SIGNED else 0.0
    if sample.units < 2:
        return lowest, metric.highest
    if metric.threshold is not None:
        which = answered(sample.predictions.confidence, metric.threshold)
        of_all = metric.name.startswith("coverage")
        low, high = share_interval(which, sample) if of_all else precision_interval(which, sample)
    else:
        low, high = INTERVALS[metric.name](sample)
    return max(lowest, min(low, value)), min(metric.highest, max(high, value))
