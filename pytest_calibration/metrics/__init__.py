"""Calibration metrics: functions of predictions that return a number or a table.

Every function takes ``Predictions``, or a pair (probabilities (n, k), labels (n,)), or a pair
(confidence (n,), correct (n,) of booleans).
"""

from pytest_calibration.metrics.binless import ks_ce, smooth_ece
from pytest_calibration.metrics.binned import (
    classwise_ece,
    debiased_rms_ce,
    debiased_squared_ce,
    ece,
    equal_mass_ece,
    mce,
    overconfidence,
    rms_ce,
    underconfidence,
)
from pytest_calibration.metrics.binning import (
    DEFAULT_BINS,
    BinTable,
    Strategy,
    bin_edges,
    bin_index,
    bin_table,
)
from pytest_calibration.metrics.cross_fitted import cross_fitted_ece
from pytest_calibration.metrics.scores import (
    BrierDecomposition,
    accuracy,
    brier,
    brier_decomposition,
    brier_multiclass,
    brier_reliability,
    brier_resolution,
    brier_uncertainty,
    mean_confidence,
    nll,
    signed_gap,
)
from pytest_calibration.metrics.selective import (
    answered,
    aurc,
    auroc,
    coverage,
    precision,
    selective_accuracy,
    selective_risk,
)
from pytest_calibration.metrics.sharpness import (
    answer_histogram,
    label_histogram,
    mean_entropy,
    share_confident,
)
from pytest_calibration.metrics.table import METRICS, Metric, metric_named

__all__ = [
    "DEFAULT_BINS",
    "METRICS",
    "BinTable",
    "BrierDecomposition",
    "Metric",
    "Strategy",
    "accuracy",
    "answer_histogram",
    "answered",
    "aurc",
    "auroc",
    "bin_edges",
    "bin_index",
    "bin_table",
    "brier",
    "brier_decomposition",
    "brier_multiclass",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "classwise_ece",
    "coverage",
    "cross_fitted_ece",
    "debiased_rms_ce",
    "debiased_squared_ce",
    "ece",
    "equal_mass_ece",
    "ks_ce",
    "label_histogram",
    "mce",
    "mean_confidence",
    "mean_entropy",
    "metric_named",
    "nll",
    "overconfidence",
    "precision",
    "rms_ce",
    "selective_accuracy",
    "selective_risk",
    "share_confident",
    "signed_gap",
    "smooth_ece",
    "underconfidence",
]
