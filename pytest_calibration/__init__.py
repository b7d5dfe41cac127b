"""Calibration regression testing for fine-tuned language models.

Public names are loaded on first use: importing this package, as every start of pytest does where it
is installed, loads none of numpy, yaml, torch and transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__: str

# What type checkers see. At run time the table below finds the same names; a test compares the two.
if TYPE_CHECKING:
    from pytest_calibration import metrics as metrics
    from pytest_calibration.assertions import assert_accuracy_above as assert_accuracy_above
    from pytest_calibration.assertions import assert_ece_below as assert_ece_below
    from pytest_calibration.assertions import assert_metric_below as assert_metric_below
    from pytest_calibration.assertions import assert_no_drift as assert_no_drift
    from pytest_calibration.assertions import assert_no_regression as assert_no_regression
    from pytest_calibration.assertions import assert_no_regression_at as assert_no_regression_at
    from pytest_calibration.assertions import assert_not_overconfident as assert_not_overconfident
    from pytest_calibration.baselines import Baselines as Baselines
    from pytest_calibration.diagnosis import Diagnosis as Diagnosis
    from pytest_calibration.diagnosis import diagnose as diagnose
    from pytest_calibration.diagnosis.slices import by_slice as by_slice
    from pytest_calibration.diagnosis.slices import shifts
    from pytest_calibration.errors import CalibrationError as CalibrationError
    from pytest_calibration.gate.chosen_threshold import choose_threshold as choose_threshold
    from pytest_calibration.gate.decision import State as State
    from pytest_calibration.gate.planning import plan as plan
    from pytest_calibration.gate.trend import trend as trend
    from pytest_calibration.gate.verdict import Verdict as Verdict
    from pytest_calibration.gate.verdict import compare as compare
    from pytest_calibration.gate.verdict import compare_at as compare_at
    from pytest_calibration.gate.verdict import judge as judge
    from pytest_calibration.history.checkpoints import checkpoints as checkpoints
    from pytest_calibration.history.file import History as History
    from pytest_calibration.measurement import Measurement as Measurement
    from pytest_calibration.measurement import measure as measure
    from pytest_calibration.metrics import accuracy as accuracy
    from pytest_calibration.metrics import brier as brier
    from pytest_calibration.metrics import ece as ece
    from pytest_calibration.metrics import nll as nll
    from pytest_calibration.models.loading import load_model as load_model
    from pytest_calibration.models.text_classifier import TextClassifier as TextClassifier
    from pytest_calibration.predictions import Predictions as Predictions
    from pytest_calibration.predictions import Signature as Signature
    from pytest_calibration.probes.agreement import Agreement as Agreement
    from pytest_calibration.probes.classification import Classification as Classification
    from pytest_calibration.probes.facts import Facts as Facts
    from pytest_calibration.probes.lm_eval_task import LmEvalTask as LmEvalTask
    from pytest_calibration.probes.multiple_choice import MultipleChoice as MultipleChoice
    from pytest_calibration.probes.next_token import NextToken as NextToken
    from pytest_calibration.probes.p_true import PTrue as PTrue
    from pytest_calibration.probes.preference import Preference as Preference
    from pytest_calibration.probes.sequence import SequenceLogprob as SequenceLogprob
    from pytest_calibration.probes.verbalized import Verbalized as Verbalized
    from pytest_calibration.readers import read_predictions as read_predictions
    from pytest_calibration.reports.plots import reliability_diagram as reliability_diagram
    from pytest_calibration.training.callback import CalibrationCallback as CalibrationCallback
    from pytest_calibration.training.compute_metrics import (
        calibration_compute_metrics as calibration_compute_metrics,
    )
    from pytest_calibration.training.compute_metrics import (
        preprocess_logits_for_calibration as preprocess_logits_for_calibration,
    )

    slice_shifts = shifts

# Module to the names it has; `name:public` where the public name is another.
_MODULES = {
    "assertions": "assert_accuracy_above assert_ece_below assert_metric_below "
    "assert_no_drift assert_no_regression assert_no_regression_at assert_not_overconfident",
    "baselines": "Baselines",
    "diagnosis": "Diagnosis diagnose",
    "diagnosis.slices": "by_slice shifts:slice_shifts",
    "errors": "CalibrationError",
    "gate.chosen_threshold": "choose_threshold",
    "gate.decision": "State",
    "gate.planning": "plan",
    "gate.trend": "trend",
    "gate.verdict": "Verdict compare compare_at judge",
    "history.checkpoints": "checkpoints",
    "history.file": "History",
    "measurement": "Measurement measure",
    "metrics": "accuracy brier ece nll",
    "models.loading": "load_model",
    "models.text_classifier": "TextClassifier",
    "predictions": "Predictions Signature",
    "probes.agreement": "Agreement",
    "probes.classification": "Classification",
    "probes.facts": "Facts",
    "probes.lm_eval_task": "LmEvalTask",
    "probes.multiple_choice": "MultipleChoice",
    "probes.next_token": "NextToken",
    "probes.p_true": "PTrue",
    "probes.preference": "Preference",
    "probes.sequence": "SequenceLogprob",
    "probes.verbalized": "Verbalized",
    "readers": "read_predictions",
    "reports.plots": "reliability_diagram",
    "training.callback": "CalibrationCallback",
    "training.compute_metrics": "calibration_compute_metrics preprocess_logits_for_calibration",
}
# Public name to (module, name in it); without a name, the module itself.
_LAZY = {"metrics": ("metrics", "")}
for _module, _names in _MODULES.items():
    for _name in _names.split():
        _original, _, _public = _name.partition(":")
        _LAZY[_public or _original] = _module, _original
# What needs torch is imported by name: a star import stays light, and works without it.
__all__ = sorted(  # noqa: PLE0605  a list, which type checkers need not read
    name for name, (module, _) in _LAZY.items() if not module.startswith("training.")
)
_LAZY["__version__"] = "version", "__version__"


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _LAZY[name]
    loaded = import_module(f"{__name__}.{module}")
    value = getattr(loaded, original) if original else loaded
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
