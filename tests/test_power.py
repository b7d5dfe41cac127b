"""What a comparison can see, against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import two_runs

from pytest_calibration.components import (
    Component,
    Paired,
    ece_component,
    gap_component,
    slope_component,
)
from pytest_calibration.power import smallest_visible, unpaired_visible
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile

of = Predictions.from_confidence


def test_smallest_visible_by_hand() -> None:
    """Tolerance + (z_.95 + z_.80)·largest error = 0.02 + (1.6449 + 0.8416)·0.02."""
    parts = [
        Component("signed gap", 0, 0, 0, 0.01, 0, 0.02),
        Component("cross-fitted ECE", 0, 0, 0, 0.02, 0, 0.02),
        Component("slope", 0, 0, 0, 9.0, 0, 0.02, unavailable="none"),
    ]
    expected = 0.02 + (1.644854 + 0.841621) * 0.02
    assert smallest_visible(parts, 0.02, 0.05, 1000) == pytest.approx(expected, abs=1e-6)


def test_a_shift_of_the_smallest_visible_size_is_seen_in_four_of_five_runs() -> None:
    """A true shift of the gap by tolerance + 2.49 errors fires the component 80 % of the time."""
    rng = np.random.default_rng(1)
    n, tolerance, fired, trials = 1000, 0.02, 0, 600
    z = upper_quantile(0.05, n)
    # Independent outcomes at 0.7: the paired difference has variance 2·0.7·0.3.
    error = math.sqrt(2 * 0.21 / n)
    shift = tolerance + (z + 0.8416) * error
    for _ in range(trials):
        before, after = rng.random((2, n)) < [[0.7], [0.7 - shift]]
        pair = Paired(np.full(n, 0.7), before * 1.0, np.full(n, 0.7), after * 1.0, None)
        fired += gap_component(pair, tolerance, z).fired
    assert fired / trials == pytest.approx(0.80, abs=0.05)


def test_unpaired_visible_is_an_upper_end_of_what_pairing_shows() -> None:
    """Before a candidate is known the promise is no better than what the pair then gives."""
    before, after = two_runs(1000, 2)
    pair = Paired.of(before, after)
    z = upper_quantile(0.05, 1000)
    parts = [f(pair, 0.02, z) for f in (gap_component, slope_component, ece_component)]
    promised = unpaired_visible(before)
    assert smallest_visible(parts, 0.02, 0.05, 1000) <= promised
    four_times = of(np.tile(before.confidence, 4), np.tile(before.correct, 4))
    assert unpaired_visible(four_times) - 0.02 == pytest.approx((promised - 0.02) / 2, rel=0.01)


def test_one_unit_sees_nothing() -> None:
    """A baseline of one item, or one group, can show no worsening below 1."""
    assert unpaired_visible(of([0.5], [True])) == 1.0
    assert unpaired_visible(of([0.5, 0.7], [True, False], groups=["a", "a"])) == 1.0
