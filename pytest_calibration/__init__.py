"""Calibration regression testing for fine-tuned language models.

Every public name is loaded on first use: importing this package, as pytest does at every start of
an environment where it is installed, loads none of numpy, yaml, torch or transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_calibration.version import __version__ as __version__

if TYPE_CHECKING:
    from pytest_calibration.assertions import (
        assert_accuracy_above,
        assert_ece_below,
        assert_metric_below,
        assert_no_regression,
        assert_not_overconfident,
    )
    from pytest_calibration.baselines import Baselines
    from pytest_calibration.diagnosis import Diagnosis, diagnose
    from pytest_calibration.errors import CalibrationError
    from pytest_calibration.gate.decision import State
    from pytest_calibration.gate.verdict import Verdict, compare, judge
    from pytest_calibration.measurement import Measurement, measure
    from pytest_calibration.metrics import (
        accuracy,
        answer_histogram,
        aurc,
        auroc,
        bin_table,
        brier,
        brier_decomposition,
        brier_multiclass,
        brier_reliability,
        brier_resolution,
        brier_uncertainty,
        classwise_ece,
        cross_fitted_ece,
        debiased_rms_ce,
        debiased_squared_ce,
        ece,
        equal_mass_ece,
        ks_ce,
        label_histogram,
        mce,
        mean_confidence,
        mean_entropy,
        nll,
        overconfidence,
        rms_ce,
        selective_accuracy,
        selective_risk,
        share_confident,
        signed_gap,
        smooth_ece,
        underconfidence,
    )
    from pytest_calibration.models.loading import load_model
    from pytest_calibration.predictions import Predictions, Signature
    from pytest_calibration.probes.facts import Facts
    from pytest_calibration.probes.multiple_choice import MultipleChoice
    from pytest_calibration.probes.next_token import NextToken

_HOME = {
    "assertions": (
        "assert_accuracy_above",
        "assert_ece_below",
        "assert_metric_below",
        "assert_no_regression",
        "assert_not_overconfident",
    ),
    "baselines": ("Baselines",),
    "gate.decision": ("State",),
    "diagnosis": ("Diagnosis", "diagnose"),
    "errors": ("CalibrationError",),
    "measurement": ("Measurement", "measure"),
    "metrics": (
        "accuracy",
        "answer_histogram",
        "aurc",
        "auroc",
        "bin_table",
        "brier",
        "brier_decomposition",
        "brier_multiclass",
        "brier_reliability",
        "brier_resolution",
        "brier_uncertainty",
        "classwise_ece",
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
        "nll",
        "overconfidence",
        "rms_ce",
        "selective_accuracy",
        "selective_risk",
        "share_confident",
        "signed_gap",
        "smooth_ece",
        "underconfidence",
    ),
    "models.loading": ("load_model",),
    "predictions": ("Predictions", "Signature"),
    "probes.facts": ("Facts",),
    "probes.multiple_choice": ("MultipleChoice",),
    "probes.next_token": ("NextToken",),
    "gate.verdict": ("Verdict", "compare", "judge"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Baselines",
    "CalibrationError",
    "Diagnosis",
    "Facts",
    "Measurement",
    "MultipleChoice",
    "NextToken",
    "Predictions",
    "Signature",
    "State",
    "Verdict",
    "accuracy",
    "answer_histogram",
    "assert_accuracy_above",
    "assert_ece_below",
    "assert_metric_below",
    "assert_no_regression",
    "assert_not_overconfident",
    "aurc",
    "auroc",
    "bin_table",
    "brier",
    "brier_decomposition",
    "brier_multiclass",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "classwise_ece",
    "compare",
    "cross_fitted_ece",
    "debiased_rms_ce",
    "debiased_squared_ce",
    "diagnose",
    "ece",
    "equal_mass_ece",
    "judge",
    "ks_ce",
    "label_histogram",
    "load_model",
    "mce",
    "mean_confidence",
    "mean_entropy",
    "measure",
    "nll",
    "overconfidence",
    "rms_ce",
    "selective_accuracy",
    "selective_risk",
    "share_confident",
    "signed_gap",
    "smooth_ece",
    "underconfidence",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
