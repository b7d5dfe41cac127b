"""Every metric that is one number, under its name, with what a reader of the number must know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics.averages import accuracy, mean_confidence, signed_gap
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
from pytest_calibration.metrics.binning import DEFAULT_BINS, Strategy
from pytest_calibration.metrics.cross_fitted import cross_fitted_ece
from pytest_calibration.metrics.scores import (
    brier,
    brier_multiclass,
    brier_reliability,
    brier_resolution,
    brier_uncertainty,
    nll,
)
from pytest_calibration.metrics.selective import (
    DEFAULT_COVERAGE,
    aurc,
    auroc,
    selective_accuracy,
    selective_risk,
)
from pytest_calibration.metrics.sharpness import SURE, mean_entropy, share_confident
from pytest_calibration.predictions import Predictions, PredictionsLike

Better: TypeAlias = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric and what is known of its numbers.

    Attributes:
        name: what a user types.
        label: what is printed.
        compute: (predictions) to float; a binned metric takes ``bins`` as well, and ``strategy``
            unless its binning is fixed.
        lowest: smallest value it can have.
        highest: largest value it can have.
        better: which way is an improvement; ``neither`` for what only describes.
        binned: whether the number depends on bins, which then stand beside it.
        strategy: the one binning of a binned metric that leaves no choice; None otherwise.
        needs: the optional fields of the predictions that it reads.
        error: whether it is an error held against 0, which noise alone keeps from being 0.
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

    def __call__(
        self,
        predictions: PredictionsLike,
        bins: int = DEFAULT_BINS,
        strategy: Strategy = "equal_width",
    ) -> float:
        """Compute the number; a metric without bins ignores them.

        Raises:
            MetricError: the predictions lack what it needs, or the binning is none.
        """
        if not self.binned:
            return self.compute(predictions)
        if self.strategy is not None:
            return self.compute(predictions, bins)
        return self.compute(predictions, bins, strategy)

    def applies_to(self, predictions: Predictions) -> bool:
        """Whether the predictions carry the fields that it reads."""
        return all(getattr(predictions, field) is not None for field in self.needs)


_TABLE: Final = ("probabilities", "labels")
_ALL: Final = (
    Metric("ece", "ECE", ece, binned=True, error=True),
    Metric("equal_mass_ece", "ECE", equal_mass_ece, binned=True, strategy="equal_mass", error=True),
    Metric("cross_fitted_ece", "cross-fitted ECE", cross_fitted_ece, -1.0, binned=True, error=True),
    Metric("mce", "MCE", mce, binned=True, error=True),
    Metric("rms_ce", "RMS calibration error", rms_ce, binned=True, error=True),
    Metric(
        "debiased_rms_ce",
        "debiased RMS calibration error",
        debiased_rms_ce,
        binned=True,
        error=True,
    ),
    Metric(
        "debiased_squared_ce",
        "debiased squared calibration error",
        debiased_squared_ce,
        lowest=-1.0,
        binned=True,
        error=True,
    ),
    Metric(
        "classwise_ece",
        "class-wise ECE",
        classwise_ece,
        binned=True,
        strategy="equal_width",
        needs=_TABLE,
        error=True,
    ),
    Metric("overconfidence", "overconfidence", overconfidence, binned=True, error=True),
    Metric("underconfidence", "underconfidence", underconfidence, binned=True, error=True),
    Metric("smooth_ece", "smooth ECE", smooth_ece, error=True),
    Metric("ks_ce", "KS calibration error", ks_ce, error=True),
    Metric("brier", "Brier score", brier),
    Metric(
        "brier_multiclass",
        "Brier score of all options",
        brier_multiclass,
        highest=2.0,
        needs=_TABLE,
    ),
    Metric("brier_reliability", "Brier reliability", brier_reliability, binned=True, error=True),
    Metric(
        "brier_resolution",
        "Brier resolution",
        brier_resolution,
        highest=0.25,
        better="higher",
        binned=True,
    ),
    Metric(
        "brier_uncertainty",
        "Brier uncertainty",
        brier_uncertainty,
        highest=0.25,
        better="neither",
    ),
    Metric("nll", "NLL", nll, highest=math.inf, needs=("label_logprobs",)),
    Metric("accuracy", "accuracy", accuracy, better="higher"),
    Metric("mean_confidence", "mean confidence", mean_confidence, better="neither"),
    Metric("signed_gap", "signed gap", signed_gap, lowest=-1.0, better="neither", error=True),
    Metric("auroc", "AUROC of confidence", auroc, better="higher"),
    Metric(
        "selective_accuracy",
        f"accuracy at {100 * DEFAULT_COVERAGE:g} % coverage",
        selective_accuracy,
        better="higher",
    ),
    Metric("selective_risk", f"risk at {100 * DEFAULT_COVERAGE:g} % coverage", selective_risk),
    Metric("aurc", "area under the risk-coverage curve", aurc),
    Metric(
        "share_confident",
        f"share at confidence {SURE:g} or above",
        share_confident,
        better="neither",
    ),
    Metric(
        "mean_entropy",
        "mean entropy",
        mean_entropy,
        highest=math.inf,
        better="neither",
        needs=("probabilities",),
    ),
)
METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _ALL}


def metric_named(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        MetricError: an unknown name; the message suggests the nearest one and lists all.
    """
    try:
        return METRICS[name]
    except KeyError:
        near = get_close_matches(name, METRICS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(METRICS)
        raise MetricError(f"unknown metric {name!r}{hint}; known metrics: {known}.") from None
