"""What hypothesis draws for the intervals, and evidence built from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from pytest_calibration.metrics import DEFAULT_BINS, METRICS, Strategy
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.evidence import Evidence
from pytest_calibration.uncertainty.intervals import interval
from pytest_calibration.uncertainty.means import Ends

# What a debiased estimate stands beside may lie outside its interval: below 0.
DEBIASED = {"cross_fitted_ece", "debiased_squared_ce"}


def evidence(
    p: Predictions, bins: int = DEFAULT_BINS, strategy: Strategy = "equal_width"
) -> Evidence:
    """Evidence with the default bins."""
    return Evidence(p, bins, strategy)


def ends(p: Predictions, name: str, bins: int = DEFAULT_BINS) -> Ends:
    """The interval of a metric."""
    metric = METRICS[name]
    chosen = Evidence(p, bins, metric.strategy or "equal_width")
    return interval(metric, metric(p, bins), chosen)


def grouped(p: Predictions, size: int) -> Predictions:
    """The same items in groups of this size, one after the other."""
    return replace(p, groups=[f"{i // size:06d}" for i in range(len(p))])


def copied(p: Predictions, times: int) -> Predictions:
    """Each item so many times; the copies of an item, or of its group, are one group."""
    groups = np.arange(len(p)).astype(str) if p.groups is None else p.groups
    out = p.take(np.repeat(np.arange(len(p)), times)) if times == 1 else None
    return out or Predictions(
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
    """Standard error from the n values that leave one item out each."""
    n = len(values)
    return float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))


@st.composite
def samples(draw: st.DrawFn, groups: bool | None = None) -> Predictions:
    """Draw a table of 2 to 40 questions with 2 to 4 options, in groups or not.

    Probabilities are steps of a whole number: ties, edges, 0 and 1 among them.
    """
    options = draw(st.integers(2, 4))
    steps = draw(st.sampled_from([1, 4, 20, 1000]))
    n = draw(st.integers(2, 40))
    inner = st.lists(st.integers(0, steps), min_size=options - 1, max_size=options - 1)
    rows = [np.diff([0, *sorted(draw(inner)), steps]) / steps for _ in range(n)]
    labels = [draw(st.integers(0, options - 1)) for _ in range(n)]
    named = None
    if draw(st.booleans()) if groups is None else groups:
        named = [draw(st.integers(0, max(1, n // 3))) for _ in range(n)]
    return Predictions.from_probabilities(np.array(rows), labels, groups=named)
