"""Which 95 % interval each metric takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.inputs import labels_of, probabilities_of
from pytest_calibration.metrics.sharpness import SURE
from pytest_calibration.metrics.table import Metric
from pytest_calibration.uncertainty.bins import (
    classwise_interval,
    ece_interval,
    overconfidence_interval,
    underconfidence_interval,
)
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.extremes import ks_interval, mce_interval
from pytest_calibration.uncertainty.means import Ends, mean_interval, share_interval
from pytest_calibration.uncertainty.ranking import (
    aurc_interval,
    auroc_interval,
    selective_accuracy_interval,
    selective_risk_interval,
)
from pytest_calibration.uncertainty.smoothing import smooth_ece_interval
from pytest_calibration.uncertainty.squares import (
    reliability_interval,
    resolution_interval,
    rms_interval,
)

# The smallest probability that NLL knows.
TINY: Final = float(np.finfo(np.float64).tiny)


def _accuracy(evidence: Evidence) -> Ends:
    return share_interval(evidence.predictions.correct, evidence)


def _share_confident(evidence: Evidence) -> Ends:
    return share_interval(evidence.predictions.confidence >= SURE - EDGE_SNAP, evidence)


def _mean_confidence(evidence: Evidence) -> Ends:
    return mean_interval(evidence.predictions.confidence, evidence)


def _signed_gap(evidence: Evidence) -> Ends:
    return mean_interval(evidence.predictions.gap, evidence, lowest=-1.0, of_outcomes=True)


def _brier(evidence: Evidence) -> Ends:
    return mean_interval(evidence.predictions.gap**2, evidence, of_outcomes=True)


def _brier_multiclass(evidence: Evidence) -> Ends:
    p = evidence.predictions
    table = probabilities_of(p, "brier_multiclass")
    right = table[np.arange(p.n), labels_of(p, "brier_multiclass")]
    others = np.einsum("ij,ij->i", table, table) - right * right
    return mean_interval(others + (1 - right) ** 2, evidence, highest=2.0, of_outcomes=True)


def _nll(evidence: Evidence) -> Ends:
    p = evidence.predictions
    assert p.label_logprobs is not None  # the metric itself refuses what has none
    values = -p.label_logprobs
    worst = float(values.max())
    if p.correct.all():
        # Nothing bounds it, and what a wrong answer costs was not seen: as much as the surest one
        # would have, had it been wrong.
        worst = max(worst, -math.log(max(1 - float(p.confidence.max()), TINY)))
    return mean_interval(values, evidence, highest=worst, of_outcomes=True)


def _mean_entropy(evidence: Evidence) -> Ends:
    table = probabilities_of(evidence.predictions, "mean_entropy")
    values = -np.einsum("ij,ij->i", table, np.log(np.where(table > 0, table, 1.0)))
    return mean_interval(values, evidence, highest=math.log(table.shape[1]))


def _brier_uncertainty(evidence: Evidence) -> Ends:
    """Image of the interval of accuracy a under a(1 − a), which is largest at 1/2."""
    low, high = _accuracy(evidence)
    ends = low * (1 - low), high * (1 - high)
    return min(ends), 0.25 if low <= 0.5 <= high else max(ends)


INTERVALS: Final[dict[str, Callable[[Evidence], Ends]]] = {
    "ece": ece_interval,
    "equal_mass_ece": ece_interval,
    "cross_fitted_ece": ece_interval,
    "mce": mce_interval,
    "rms_ce": rms_interval,
    "debiased_rms_ce": rms_interval,
    "debiased_squared_ce": reliability_interval,
    "classwise_ece": classwise_interval,
    "overconfidence": overconfidence_interval,
    "underconfidence": underconfidence_interval,
    "smooth_ece": smooth_ece_interval,
    "ks_ce": ks_interval,
    "brier": _brier,
    "brier_multiclass": _brier_multiclass,
    "brier_reliability": reliability_interval,
    "brier_resolution": resolution_interval,
    "brier_uncertainty": _brier_uncertainty,
    "nll": _nll,
    "accuracy": _accuracy,
    "mean_confidence": _mean_confidence,
    "signed_gap": _signed_gap,
    "auroc": auroc_interval,
    "selective_accuracy": selective_accuracy_interval,
    "selective_risk": selective_risk_interval,
    "aurc": aurc_interval,
    "share_confident": _share_confident,
    "mean_entropy": _mean_entropy,
}
# What may be negative in a population; a debiased estimate may be, what it estimates may not.
SIGNED: Final = frozenset({"signed_gap"})


def interval(metric: Metric, value: float, evidence: Evidence) -> Ends:
    """Return the ends of the 95 % interval of a metric, within the range of its population value.

    It is stretched to hold the value, but where that lies outside the range (debiased errors may be
    negative). One unit says nothing about its own spread: its interval is the whole range.

    Args:
        metric: what was measured.
        value: its value on these predictions.
        evidence: the predictions.
    """
    lowest = metric.lowest if metric.name in SIGNED else 0.0
    if evidence.units < 2:
        return lowest, metric.highest
    low, high = INTERVALS[metric.name](evidence)
    return max(lowest, min(low, value)), min(metric.highest, max(high, value))
