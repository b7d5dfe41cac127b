"""How strongly a model prefers one answer, and how much probability its options hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from pytest_calibration.diagnosis.estimates import mean_of, sample_of
from pytest_calibration.diagnosis.findings import (
    Collapse,
    Contrast,
    Favourite,
    Interval,
    OptionMass,
)
from pytest_calibration.diagnosis.temperature import scale_of
from pytest_calibration.metrics.binning import EDGE_SNAP
from pytest_calibration.metrics.sharpness import (
    SURE,
    Sharpness,
    answer_histogram,
    label_histogram,
)
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.sample import TAIL
from pytest_calibration.uncertainty.standard_errors import standard_error

# An option counts as a favourite where it is answered so much more often than it is correct.
TOO_OFTEN: Final = 0.05
# An option mass is small where its mean is below a half, or a quarter of the items are.
HALF: Final = 0.5
OFTEN: Final = 0.25


def contrast(
    predictions: Predictions,
    values: FloatArray,
    before: FloatArray | None,
    highest: float = 1.0,
) -> Contrast:
    """Return the mean of (n,) values in [0, highest], and that of the baseline."""
    value = float(values.mean())
    if before is None:
        return Contrast(value, None, None)
    change = mean_of(values - before, sample_of(predictions), -highest, highest)
    return Contrast(value, float(before.mean()), change)


def entropies(table: FloatArray) -> FloatArray:
    """(n,) entropy of each row in nats."""
    terms = np.einsum("ij,ij->i", table, np.log(np.where(table > 0, table, 1.0)))
    return np.asarray(np.abs(terms))


def collapse_of(predictions: Predictions, baseline: Predictions | None) -> Collapse:
    """Return how strongly a model prefers one answer.

    Args:
        predictions: n items.
        baseline: the same items in the same order, or None.
    """

    def confident(p: Predictions) -> FloatArray:
        return (p.confidence >= SURE - EDGE_SNAP).astype(np.float64)

    before = None if baseline is None else confident(baseline)
    share_confident = contrast(predictions, confident(predictions), before)
    table = predictions.probabilities
    if table is None:
        return Collapse(share_confident)
    k = table.shape[1]
    table_before = None if baseline is None else baseline.probabilities
    if table_before is not None and table_before.shape[1] != k:
        table_before = None
    answered_before = None
    if baseline is not None and table_before is not None:
        answered_before = answer_histogram(baseline)
    known = scale_of(predictions) == "logits" and predictions.labels is not None
    correct = label_histogram(predictions) if known else None
    entropy_before = None if table_before is None else entropies(table_before)
    most = float(np.log(max(k, 2)))
    return Collapse(
        share_confident=share_confident,
        mean_entropy=contrast(predictions, entropies(table), entropy_before, most),
        answered=tuple(answer_histogram(predictions).tolist()),
        correct=None if correct is None else tuple(correct.tolist()),
        answered_before=None if answered_before is None else tuple(answered_before.tolist()),
        favourite=None if correct is None else _favourite(predictions, answered_before),
    )


def _favourite(predictions: Predictions, before: FloatArray | None) -> Favourite | None:
    """Return the option with the largest excess of answers, if it is beyond noise."""
    table, labels = predictions.probabilities, predictions.labels
    assert table is not None
    assert labels is not None
    sample, k = sample_of(predictions), table.shape[1]
    answer = table.argmax(axis=1)
    answered, correct = answer_histogram(predictions), label_histogram(predictions)
    option = int((answered - correct).argmax())
    if k < 2 or sample.units < 2:
        return None
    values = (answer == option).astype(np.float64) - (labels == option)
    excess = float(answered[option] - correct[option])
    # Any of the k options might have come out first.
    quantile = upper_quantile(TAIL / k, sample.equal_units)
    half = quantile * standard_error(values, sample.clusters)
    if excess - half <= TOO_OFTEN:
        return None
    # Any model answers the likeliest option too often, a calibrated one too: it is a favourite
    # only where its mean probability is too large.
    excess_mass = table[:, option] - (labels == option)
    if float(excess_mass.mean()) - quantile * standard_error(excess_mass, sample.clusters) <= 0:
        return None
    return Favourite(
        option=option,
        options=k,
        answered=float(answered[option]),
        correct=float(correct[option]),
        baseline=None if before is None else float(before[option]),
        excess=Interval(excess, excess - half, min(1.0, excess + half)),
    )


def with_summary(collapse: Collapse, stored: Sharpness) -> Collapse:
    """Add the stored summary of a baseline without probabilities.

    The summary is of all the baseline's items, so there is no change item by item.
    """
    entropy, answers = collapse.mean_entropy, collapse.answered
    if entropy is not None and entropy.baseline is None and stored.mean_entropy is not None:
        entropy = replace(entropy, baseline=stored.mean_entropy)
    before = collapse.answered_before
    if before is None and answers is not None and len(stored.answers) == len(answers):
        before = stored.answers
    favourite = collapse.favourite
    if favourite is not None and favourite.baseline is None and before is not None:
        favourite = replace(favourite, baseline=before[favourite.option])
    return replace(collapse, mean_entropy=entropy, answered_before=before, favourite=favourite)


def option_mass_of(
    predictions: Predictions,
    shared: tuple[Predictions, Predictions] | None,
    stored: Sharpness | None = None,
) -> OptionMass | None:
    """Return the probability of all options together; None where it is not known.

    Args:
        predictions: n items.
        shared: the items both sides have, in the same order, or None.
        stored: summary of a baseline that does not hold it item by item.
    """
    if predictions.option_mass is None:
        return None
    mass = np.clip(predictions.option_mass, 0.0, 1.0)
    mean = mean_of(mass, sample_of(predictions), 0.0)
    below = float((mass < HALF).mean())
    beside = None
    if shared is not None and shared[1].option_mass is not None:
        assert shared[0].option_mass is not None
        beside = contrast(
            shared[0],
            np.clip(shared[0].option_mass, 0.0, 1.0),
            np.clip(shared[1].option_mass, 0.0, 1.0),
        )
    elif stored is not None and stored.option_mass is not None:
        beside = Contrast(mean.value, stored.option_mass, None)
    return OptionMass(mean, below, beside, mean.value < HALF or below >= OFTEN)
