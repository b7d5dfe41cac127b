"""The numbers of a reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest
from known_calibration import DATASETS

from pytest_calibration.metrics import bin_table
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.reliability import confidence_histogram, reliability

of = Predictions.from_confidence


@pytest.mark.parametrize("name", DATASETS)
def test_bins_are_those_of_ece(name: str) -> None:
    """Edges, counts and gaps are those of the table, without its empty bins."""
    p = of(*DATASETS[name]())
    table, bins = bin_table(p), reliability(p)
    full = np.flatnonzero(table.count)
    assert [b.n for b in bins] == table.count[full].tolist()
    assert [b.upper for b in bins] == table.upper[full].tolist()
    assert [b.gap for b in bins] == pytest.approx(table.gap[full].tolist())


def test_accuracy_has_wilsons_interval() -> None:
    """The ends are those of scipy."""
    stats = pytest.importorskip("scipy.stats")
    (b,) = reliability(of([0.9] * 40, [True] * 31 + [False] * 9))
    theirs = stats.binomtest(31, 40).proportion_ci(0.95, method="wilson")
    assert (b.low, b.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_noise_band_by_formula() -> None:
    """Mean confidence ± 1.96·sqrt(Σ c(1 − c))/n, within [0, 1]."""
    confidence = np.array([0.81, 0.84, 0.86] * 20)
    (b,) = reliability(of(confidence, [True] * 60))
    half = 1.959964 * np.sqrt((confidence * (1 - confidence)).sum()) / 60
    assert b.calibrated_low == pytest.approx(confidence.mean() - half, abs=1e-6)
    assert b.calibrated_high == pytest.approx(confidence.mean() + half, abs=1e-6)
    assert b.beyond_noise
    (sure,) = reliability(of([0.99] * 3, [True] * 3))
    assert sure.calibrated_high == 1.0


def test_the_noise_band_holds_95_percent_of_calibrated_bins() -> None:
    """Over some 4,000 bins of calibrated models, 4 to 6 % lie outside."""
    rng = np.random.default_rng(0)
    outside = total = 0
    for _ in range(400):
        confidence = rng.uniform(0.25, 0.95, 1500)
        for b in reliability(of(confidence, rng.random(1500) < confidence)):
            outside += b.beyond_noise
            total += 1
    assert 0.04 < outside / total < 0.06


def test_groups_widen_the_band() -> None:
    """Ten copies of each answer, in groups, are as uncertain as one."""
    rng = np.random.default_rng(1)
    confidence = np.full(200, 0.7)
    correct = rng.random(200) < 0.7
    alone = reliability(of(confidence, correct))[0]
    copies = of(np.repeat(confidence, 10), np.repeat(correct, 10), groups=np.repeat(range(200), 10))
    together = reliability(copies)[0]
    assert together.calibrated_low == pytest.approx(alone.calibrated_low, abs=0.005)
    assert together.low == pytest.approx(alone.low, abs=0.005)


def test_the_histogram_counts_right_and_wrong_answers() -> None:
    """Twenty bars, right-closed, empty ones too; the counts add up to n."""
    bars = confidence_histogram(of([0.05, 0.051, 0.5, 1.0], [True, False, True, False]))
    assert len(bars) == 20
    assert (bars[0].right, bars[0].wrong) == (1, 0)
    assert (bars[1].right, bars[1].wrong) == (0, 1)
    assert (bars[9].right, bars[19].wrong) == (1, 1)
    assert sum(b.right + b.wrong for b in bars) == 4
    assert [b.upper for b in bars] == pytest.approx([(i + 1) / 20 for i in range(20)])
