"""Samples for the tests of intervals: from predictions, and drawn by hypothesis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from pytest_calibration.metrics import DEFAULT_BINS, METRICS, Strategy
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.intervals import interval
from pytest_calibration.uncertainty.means import Ends
from pytest_calibration.uncertainty.noise_floor import NoiseFloor, floor_of
from pytest_calibration.uncertainty.sample import Sample

# Debiased estimates may be negative, and then lie outside their interval.
DEBIASED = {"cross_fitted_ece", "debiased_squared_ce"}


def sample(p: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width") -> Sample:
    """Return the predictions with a binning; the default bins."""
    return Sample(p, bins, strategy)


def ends(p: Predictions, name: str, bins: int = DEFAULT_BINS) -> Ends:
    """Return the interval of a metric."""
    metric = METRICS[name]
    return interval(metric, metric(p, bins), Sample(p, bins, metric.strategy or "equal_width"))


def floor(name: str, p: Predictions, bins: int = DEFAULT_BINS) -> NoiseFloor:
    """Return the noise floor of a metric."""
    return floor_of(name, Sample(p, bins, METRICS[name].strategy or "equal_width"))


def grouped(p: Predictions, size: int) -> Predictions:
    """Return the same items in consecutive groups of this size."""
    return replace(p, groups=[f"{i // size:06d}" for i in range(len(p))])


def copied(p: Predictions, times: int) -> Predictions:
    """Return each item this many times; copies of an item, or of its group, are one group."""
    groups = np.arange(len(p)).astype(str) if p.groups is None else p.groups
    return Predictions(
        probe=p.probe,
        confidence=np.repeat(p.confidence, times),
        correct=np.repeat(p.correct, times),
        item_ids=np.arange(len(p) * times),
        probabilities=None if p.probabilities is None else np.repeat(p.probabilities, times, 0),
        labels=None if p.labels is None else np.repeat(p.labels, times),
        label_logprobs=None if p.label_logprobs is None else np.repeat(p.label_logprobs, times),
        groups=np.repeat(groups, times),
    )


def jackknife_error(values: FloatArray) -> float:
    """Return the standard error from the n values that leave out one item each."""
    n = len(values)
    return float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))


@st.composite
def grouped_tables(draw: st.DrawFn, groups: bool | None = None) -> Predictions:
    """Draw a table of 2 to 40 questions with 2 to 4 options, with or without groups.

    Probabilities are multiples of 1/steps, so that ties, edges, 0 and 1 occur.
    """
    options = draw(st.integers(2, 4))
    steps = draw(st.sampled_from([1, 4, 20, 1000]))
    n = draw(st.integers(2, 40))
    inner = st.lists(st.integers(0, steps), min_size=options - 1, max_size=options - 1)
    rows = [np.diff([0, *sorted(draw(inner)), steps]) / steps for _ in range(n)]
    labels = [draw(st.integers(0, options - 1)) for _ in range(n)]
    names = None
    if draw(st.booleans()) if groups is None else groups:
        names = [draw(st.integers(0, max(1, n // 3))) for _ in range(n)]
    return Predictions.from_probabilities(np.array(rows), labels, groups=names)
