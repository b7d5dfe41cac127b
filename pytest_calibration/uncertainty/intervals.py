"""Which 95 % interval each metric takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.sharpness import SURE
from pytest_calibration.uncertainty.bins import (
    classwise_interval, ece_interval, overconfidence_interval, underconfidence_interval,
)
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.extremes import ks_interval, mce_interval
from pytest_calibration.uncertainty.means import Ends, mean_interval, share_interval, wilson
from pytest_calibration.uncertainty.ranking import (
    aurc_interval, auroc_interval, selective_accuracy_interval, selective_risk_interval,
)
from pytest_calibration.uncertainty.smoothing import smooth_ece_interval
from pytest_calibration.uncertainty.squares import (
    reliability_interval, resolution_interval, rms_interval,
)


def _accuracy(e): return share_interval(e.predictions.correct, e)
def _mean_confidence(e): return mean_interval(e.predictions.confidence, e)
def _brier(e): return mean_interval(e.predictions.gap**2, e)
def _nll(e): return mean_interval(-e.predictions.label_logprobs, e, 0.0, math.inf)
def _signed_gap(e): return mean_interval(e.predictions.gap, e, -1.0, 1.0)
def _share(e): return share_interval(e.predictions.confidence >= SURE - EDGE_SNAP, e)
def _multi(e):
    p = e.predictions
    t = p.probabilities
    own = t[np.arange(p.n), p.labels]
    return mean_interval(np.einsum("ij,ij->i", t, t) - own**2 + (1-own)**2, e, 0.0, 2.0)
def _entropy(e):
    t = e.predictions.probabilities
    v = -(t * np.log(np.where(t > 0, t, 1.0))).sum(axis=1)
    return mean_interval(v, e, 0.0, math.log(t.shape[1]))
def _uncertainty(e):
    low, high = _accuracy(e)
    ends = low*(1-low), high*(1-high)
    return min(ends), 0.25 if low <= .5 <= high else max(ends)

INTERVALS = dict(
    ece=ece_interval, equal_mass_ece=ece_interval, cross_fitted_ece=ece_interval, mce=mce_interval,
    rms_ce=rms_interval, debiased_rms_ce=rms_interval, debiased_squared_ce=reliability_interval,
    brier_reliability=reliability_interval, brier_resolution=resolution_interval,
    brier_uncertainty=_uncertainty, classwise_ece=classwise_interval, overconfidence=overconfidence_interval,
    underconfidence=underconfidence_interval, smooth_ece=smooth_ece_interval, ks_ce=ks_interval,
    brier=_brier, brier_multiclass=_multi, nll=_nll, accuracy=_accuracy, mean_confidence=_mean_confidence,
    signed_gap=_signed_gap, auroc=auroc_interval, selective_accuracy=selective_accuracy_interval,
    selective_risk=selective_risk_interval, aurc=aurc_interval, share_confident=_share, mean_entropy=_entropy,
)
