"""Where a model errs: in which direction, at which confidences, on which slices."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pytest_calibration.diagnosis.estimates import sample_of
from pytest_calibration.diagnosis.findings import (
    BinFinding,
    Direction,
    EceReading,
    Interval,
)
from pytest_calibration.diagnosis.slices import (
    FDR,
    SliceMeasurement,
    benjamini_hochberg,
    by_slice,
)
from pytest_calibration.diagnosis.slices import MIN_UNITS as SLICE_FROM
from pytest_calibration.metrics import bin_table
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.means import score_interval
from pytest_calibration.uncertainty.noise_floor import NullBins
from pytest_calibration.uncertainty.quantiles import upper_quantile, upper_tail
from pytest_calibration.uncertainty.sample import TAIL, Sample
from pytest_calibration.uncertainty.standard_errors import standard_error

MOST: Final = 3
# Half the width of the interval of the signed gap up to which a model may be called calibrated.
NARROW: Final = 0.05
# Below this spread all confidences count as equal.
NO_SPREAD: Final = 1e-12


def slope_of(predictions: Predictions) -> Interval | None:
    """Return how the gap rises with the confidence: k·cov(c, gap), k = mean|c − m| / var(c).

    In units of ECE: a gap that is linear in the confidence, and 0 on average, makes an ECE of this
    size (Cox 1958, as the gate scales it). None where all confidences are equal or there is one
    unit.
    """
    c, sample = predictions.confidence, sample_of(predictions)
    centred = c - c.mean()
    variance = float((centred**2).mean())
    if variance < NO_SPREAD or sample.units < 2:
        return None
    k = float(np.abs(centred).mean()) / variance
    values: FloatArray = k * centred * (predictions.gap - predictions.gap.mean())
    value = float(values.mean())
    half = sample.outcome_z * standard_error(values, sample.clusters)
    return Interval(value, value - half, value + half)


def direction_of(gap: Interval, slope: Interval | None, ece: EceReading) -> Direction:
    """Return the direction in which a model errs, as far as an interval supports it."""
    if gap.sign:
        return "over-confident" if gap.sign > 0 else "under-confident"
    if ece.beyond_noise:
        side = slope.sign if slope else 0
        return "too extreme" if side > 0 else "too flat" if side < 0 else "uneven"
    return "calibrated" if ece.at_floor and narrow(gap) else "undetermined"


def narrow(gap: Interval) -> bool:
    """Whether the interval is short enough to exclude 0 for a gap of 0.05."""
    return gap.high - gap.low <= 2 * NARROW


def worst_bins(predictions: Predictions, bins: int) -> tuple[BinFinding, ...]:
    """Return up to 3 bins whose gap is not 0, the largest part of ECE first.

    Wilson's interval of the accuracy, for as many independent items as the groups are worth, at a
    level that holds for all bins together (Bonferroni).
    """
    sample = Sample(predictions, bins, "equal_width")
    table = bin_table(predictions, bins)
    null = NullBins.of(predictions.confidence, predictions.correct, sample.index, sample.clusters)
    filled = np.flatnonzero(table.count)
    if sample.equal_units < 2:
        return ()
    z = upper_quantile(TAIL / len(filled), sample.equal_units)
    size = np.abs(table.gap) * table.count
    total = float(size.sum())
    found = []
    for b in filled[np.argsort(-size[filled], kind="stable")].tolist():
        n, confidence, accuracy = (
            int(table.count[b]),
            float(table.confidence[b]),
            float(table.accuracy[b]),
        )
        least, most = score_interval(accuracy, n / float(null.effect[b]), z)
        low, high = confidence - float(most), confidence - float(least)
        if low <= 0 <= high:
            continue
        edges = float(table.lower[b]), float(table.upper[b])
        gap, share = confidence - accuracy, float(size[b]) / total
        found.append(BinFinding(*edges, n, confidence, accuracy, gap, low, high, share))
        if len(found) == MOST:
            break
    return tuple(found)


def worst_slices(predictions: Predictions) -> tuple[SliceMeasurement, ...]:
    """Return up to 3 slices whose gap is not 0, the clearest first.

    Of all slices with 10 items or more, those with a q-value of at most 0.05 (Benjamini &
    Hochberg 1995), of which 5 % are expected to be there by chance. The p-value of a slice is read
    back from its interval. Groups count as slices where no slices are named and they hold ten
    items on average.
    """
    if predictions.slices is None:
        groups = predictions.groups
        if groups is None or predictions.n < SLICE_FROM * sample_of(predictions).units:
            return ()
    rows = [row for row in by_slice(predictions) if row.n >= SLICE_FROM]
    if len(rows) < 2:
        return ()
    q = benjamini_hochberg(np.array([_p_value(row) for row in rows]))
    return tuple(row for row, value in zip(rows, q.tolist(), strict=True) if value <= FDR)[:MOST]


def _p_value(row: SliceMeasurement) -> float:
    """Two-sided p-value of a gap of 0, from the end of the interval on the side of 0."""
    units = max(row.units, 2)
    near = row.signed_gap - row.low if row.signed_gap > 0 else row.high - row.signed_gap
    if near <= 0 or math.isclose(row.signed_gap, 0.0, abs_tol=1e-15):
        return 1.0
    score = abs(row.signed_gap) / near * upper_quantile(TAIL, units)
    return min(1.0, max(0.0, 2 * upper_tail(score, units)))
