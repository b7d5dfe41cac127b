"""The table of metrics: every metric that is one number, by name, with its range and direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Final, Literal, TypeAlias

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import binless, binned, cross_fitted, scores, selective, sharpness
from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy
from pytest_calibration.predictions import Predictions, PredictionsLike

Better: TypeAlias = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric, and how to read its numbers.

    Attributes:
        name: what a user types; the name of the function.
        label: the printed name.
        compute: (predictions) to float; a binned metric takes ``bins`` as well, and ``strategy``
            unless its binning is fixed.
        lowest: smallest value it can have.
        highest: largest value it can have.
        better: which direction is an improvement; ``neither`` for a metric that only describes.
        binned: whether the number depends on bins, which are then printed with it.
        strategy: the fixed binning of a binned metric; None where there is a choice.
        needs: the optional fields of the predictions that it reads.
        error: whether it is a calibration error: 0 for a calibrated model but for noise.
        threshold: the confidence from which on answers count, for ``coverage@0.9`` and
            ``precision@0.9``; else None.
    """

    name: str
    label: str
    compute: Callable[..., float]
    lowest: float = 0.0
    highest: float = 1.0
    better: Better = "lower"
    binned: bool = False
    strategy: Strategy | None = None
    needs: tuple[str, ...] = ()
    error: bool = False
    threshold: float | None = None

    def __call__(
        self,
        predictions: PredictionsLike,
        bins: int = DEFAULT_BINS,
        strategy: Strategy = "equal_width",
    ) -> float:
        """Compute the number; a metric without bins ignores them.

        Raises:
            MetricError: the predictions lack a field that it needs, or the binning is invalid.
        """
        if not self.binned:
            return self.compute(predictions)
        if self.strategy is not None:
            return self.compute(predictions, bins)
        return self.compute(predictions, bins, strategy)

    def applies_to(self, predictions: Predictions) -> bool:
        """Whether the predictions have the fields that it reads."""
        return all(getattr(predictions, field) is not None for field in self.needs)


_TABLE: Final = ("probabilities", "labels")
_COVERAGE: Final = f"{100 * selective.DEFAULT_COVERAGE:g} % coverage"
_binned_error: Final = partial(Metric, binned=True, error=True)
_ALL: Final = (
    _binned_error("ece", "ECE", binned.ece),
    _binned_error("equal_mass_ece", "ECE", binned.equal_mass_ece, strategy="equal_mass"),
    _binned_error("cross_fitted_ece", "cross-fitted ECE", cross_fitted.cross_fitted_ece, -1.0),
    _binned_error("mce", "MCE", binned.mce),
    _binned_error("rms_ce", "RMS calibration error", binned.rms_ce),
    _binned_error("debiased_rms_ce", "debiased RMS calibration error", binned.debiased_rms_ce),
    _binned_error(
        "debiased_squared_ce",
        "debiased squared calibration error",
        binned.debiased_squared_ce,
        lowest=-1.0,
    ),
    _binned_error(
        "classwise_ece",
        "class-wise ECE",
        binned.classwise_ece,
        strategy="equal_width",
        needs=_TABLE,
    ),
    _binned_error("overconfidence", "overconfidence", binned.overconfidence),
    _binned_error("underconfidence", "underconfidence", binned.underconfidence),
    Metric("smooth_ece", "smooth ECE", binless.smooth_ece, error=True),
    Metric("ks_ce", "KS calibration error", binless.ks_ce, error=True),
    Metric("brier", "Brier score", scores.brier),
    Metric(
        "brier_multiclass",
        "Brier score of all options",
        scores.brier_multiclass,
        highest=2.0,
        needs=_TABLE,
    ),
    _binned_error("brier_reliability", "Brier reliability", scores.brier_reliability),
    Metric(
        "brier_resolution",
        "Brier resolution",
        scores.brier_resolution,
        highest=0.25,
        better="higher",
        binned=True,
    ),
    Metric(
        "brier_uncertainty",
        "Brier uncertainty",
        scores.brier_uncertainty,
        highest=0.25,
        better="neither",
    ),
    Metric("nll", "NLL", scores.nll, highest=math.inf, needs=("label_logprobs",)),
    Metric("accuracy", "accuracy", scores.accuracy, better="higher"),
    Metric("mean_confidence", "mean confidence", scores.mean_confidence, better="neither"),
    Metric("signed_gap", "signed gap", scores.signed_gap, -1.0, better="neither", error=True),
    Metric("auroc", "AUROC of confidence", selective.auroc, better="higher"),
    Metric(
        "selective_accuracy",
        f"accuracy at {_COVERAGE}",
        selective.selective_accuracy,
        better="higher",
    ),
    Metric("selective_risk", f"risk at {_COVERAGE}", selective.selective_risk),
    Metric("aurc", "area under the risk-coverage curve", selective.aurc),
    Metric(
        "share_confident",
        f"share at confidence {sharpness.SURE:g} or above",
        sharpness.share_confident,
        better="neither",
    ),
    Metric(
        "mean_entropy",
        "mean entropy",
        sharpness.mean_entropy,
        highest=math.inf,
        better="neither",
        needs=("probabilities",),
    ),
)
METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _ALL}


# Printed beside a value below 0 of an error from which what noise adds is subtracted.
BELOW_ZERO: Final = "below 0: none visible"
_SUBTRACTED: Final = {m.label for m in _ALL if m.error and m.better == "lower" and m.lowest < 0}


def below_zero(label: str, value: float | None) -> str:
    """Return the words that explain a negative error; empty where there is none to explain.

    The cross-fitted ECE, for one, is about 0 on average for a calibrated model, so below 0 as often
    as above: then the data show no error beyond noise.

    Args:
        label: printed name of a metric, without bins.
        value: its value, printed to three decimals.
    """
    negative = label in _SUBTRACTED and value is not None and round(value, 3) < 0
    return BELOW_ZERO if negative else ""


def sides_below_zero(label: str, before: float | None, after: float | None) -> str:
    """Return the same for the two sides of a comparison: ``before below 0: none visible``."""
    sides = {"before": before, "after": after}
    negative = [side for side, value in sides.items() if below_zero(label, value)]
    return f"{' and '.join(negative)} {BELOW_ZERO}" if negative else ""


# What is measured at a threshold: ``precision@0.9``.
AT_THRESHOLD: Final = {"coverage": selective.coverage, "precision": selective.precision}


def metric_at(name: str, threshold: float) -> Metric:
    """Return ``coverage`` or ``precision`` at a threshold in [0, 1], a metric like others."""
    at = f"{threshold:.9g}"
    compute = partial(AT_THRESHOLD[name], threshold=threshold)
    return Metric(f"{name}@{at}", f"{name} at {at}", compute, better="higher", threshold=threshold)


def _with_threshold(name: str) -> Metric | None:
    """Return the metric that ``precision@0.9`` names; None for another name.

    Raises:
        MetricError: its threshold is no number in [0, 1].
    """
    kind, at, text = name.partition("@")
    if not at or kind not in AT_THRESHOLD:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise MetricError(f"the threshold of {name!r} must be a number in [0, 1], as {kind}@0.9.")
    return metric_at(kind, threshold)


def metric_named(name: str) -> Metric:
    """Return the metric of this name; ``coverage@0.9`` and ``precision@0.9`` have a threshold.

    Raises:
        MetricError: an unknown name; the message suggests the nearest one and lists all.
    """
    found = METRICS.get(name) or _with_threshold(name)
    if found is None:
        near = get_close_matches(name, METRICS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        names = ", ".join((*METRICS, *(f"{kind}@0.9" for kind in AT_THRESHOLD)))
        raise MetricError(f"unknown metric {name!r}{hint}; known metrics: {names}.")
    return found
