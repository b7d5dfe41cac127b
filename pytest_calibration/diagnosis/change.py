"""The change from a baseline, and the temperature that fits a parent without labels."""

from __future__ import annotations

import numpy as np

from pytest_calibration.diagnosis.estimates import mean_of, sample_of
from pytest_calibration.diagnosis.findings import BaseTemperature, Change, Interval
from pytest_calibration.diagnosis.recalibration import read_ece, with_confidence
from pytest_calibration.diagnosis.temperature import (
    Logits,
    Target,
    confidence_at,
    interval_of,
    logits_of,
    loss,
    minimise,
    scale_of,
)
from pytest_calibration.predictions import FloatArray, Predictions


def shared_items(
    predictions: Predictions, baseline: Predictions
) -> tuple[Predictions, Predictions] | None:
    """Return the items both sides have, in the order of the first; None where there is none."""
    if np.array_equal(predictions.item_ids, baseline.item_ids):
        return predictions, baseline
    _, ours, theirs = np.intersect1d(
        predictions.item_ids, baseline.item_ids, assume_unique=True, return_indices=True
    )
    if not len(ours):
        return None
    order = np.argsort(ours, kind="stable")
    return predictions.take(ours[order]), baseline.take(theirs[order])


def change_of(predictions: Predictions, baseline: Predictions) -> Change:
    """Return the change of accuracy a, of confidence c, and of the signed gap, which is c − a.

    Args:
        predictions: n items.
        baseline: the same items in the same order.
    """
    sample = sample_of(predictions)
    before, after = baseline.correct.astype(np.float64), predictions.correct.astype(np.float64)
    correct, sharper = after - before, predictions.confidence - baseline.confidence
    accuracy, confidence = mean_of(correct, sample), mean_of(sharper, sample)
    gap = mean_of(sharper - correct, sample, -2.0, 2.0)
    value = confidence.value - accuracy.value
    return Change(
        n=predictions.n,
        accuracy_before=float(before.mean()),
        accuracy_after=float(after.mean()),
        confidence_before=float(baseline.confidence.mean()),
        confidence_after=float(predictions.confidence.mean()),
        accuracy=accuracy,
        confidence=confidence,
        # Summed in another order the mean may differ in the last digit; the parts add up exactly.
        signed_gap=Interval(value, min(gap.low, value), max(gap.high, value)),
    )


def base_target(table: FloatArray, logits: Logits) -> Target:
    """Return the parent's distribution over the options that the model gives any probability.

    Args:
        table: (k, n) probabilities of the parent.
        logits: of the model.
    """
    weight = table if logits.possible is None else table * logits.possible
    total = weight.sum(axis=0)
    counts = total > 0
    share = weight / np.where(counts, total, 1.0)
    z = (share * logits.z).sum(axis=0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=0)
    return Target(z, None if counts.all() else counts, entropy)


def base_temperature(
    predictions: Predictions, base: Predictions, bins: int
) -> BaseTemperature | None:
    """Return the T of least mean KL(base ‖ softmax(z / T)), which takes no labels.

    Source: He et al. 2023 (arXiv 2310.11732), who fit one per task.

    Args:
        predictions: n items.
        base: the same items in the same order, as the parent answers them.
        bins: of the ECE at that temperature.

    Returns:
        None where either side has no table of options, or they differ in width, or no temperature
        changes anything.
    """
    if scale_of(predictions) != "logits" or base.probabilities is None:
        return None
    logits = logits_of(predictions, "logits")
    if base.probabilities.shape[1] != len(logits.z) or logits.flat:
        return None
    target = base_target(np.ascontiguousarray(base.probabilities.T), logits)
    if target.counts is not None and not target.counts.any():
        return None
    found = minimise(logits, target)
    low, high = interval_of(logits, target, found, sample_of(predictions))
    before = loss(logits, target, 1.0)
    at = with_confidence(predictions, confidence_at(logits, found.beta, "logits"))
    return BaseTemperature(
        value=1 / found.beta,
        low=low,
        high=high,
        kl_before=before,
        kl_after=min(before, loss(logits, target, found.beta)),
        at_limit=found.at_limit,
        ece=read_ece(at, bins),
    )
