"""The calibration of a model on each slice (subject, relation, document), and its shifts.

Slices are those that the predictions name, else groups of more than one item.

A slice is often small, its answers nearly all correct, its groups few and uneven. The usual Student
interval then claims far too much: where 20 of 20 answers stay correct while confidence rises from
0.95 to 0.97, nothing varies, and a standard error estimated from the variation is 0. So no interval
here is narrower than the answers that *could* have changed allow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.components import Paired
from pytest_calibration.metrics import bin_index
from pytest_calibration.predictions import FloatArray, IntArray, Predictions, coded
from pytest_calibration.uncertainty.means import score_interval
from pytest_calibration.uncertainty.quantiles import SMALL_SAMPLE, upper_quantile, upper_tail
from pytest_calibration.uncertainty.standard_errors import cluster_codes, design_effects

Change: TypeAlias = Literal["", "worse", "better", "moved"]

FDR: Final = 0.05
MIN_UNITS: Final = 10
SLICE_BINS: Final = 5
TWO_SIDED: Final = 0.025


@dataclass(frozen=True)
class SliceMeasurement:
    """The calibration of one model on one slice.

    Attributes:
        name: name of the slice; empty for items that name none.
        n: number of items.
        units: number of independent units: groups within the slice, or items.
        bins: bins of its ECE; fewer than for a whole probe, since the items are fewer.
        accuracy: share of correct answers.
        mean_confidence: mean confidence.
        signed_gap: mean confidence minus accuracy; positive means over-confident.
        low: lower end of the 95 % interval of the signed gap.
        high: upper end.
        ece: ECE over ``bins`` equal-width bins.
        noise_floor: mean ECE of a calibrated model with these confidences. An ECE near it says
            nothing; below a few hundred items read the signed gap.
        noise_floor_high: 95 % point of the ECE of that model.
    """

    name: str
    n: int
    units: int
    bins: int
    accuracy: float
    mean_confidence: float
    signed_gap: float
    low: float
    high: float
    ece: float
    noise_floor: float
    noise_floor_high: float


@dataclass(frozen=True)
class SliceShift:
    """The shift of one slice from a baseline to a candidate, on the same items.

    Attributes:
        name: name of the slice; empty for items that name none.
        n: number of items.
        units: number of independent units: groups within the slice, or items.
        accuracy_before: share of correct answers of the baseline.
        accuracy_after: share of correct answers of the candidate.
        gap_before: signed gap of the baseline.
        gap_after: signed gap of the candidate.
        shift: ``gap_after - gap_before``; positive is towards over-confidence.
        standard_error: of the shift, paired, over groups where there are any, under the hypothesis
            of no shift.
        margin: half the width of the 95 % interval of the shift.
        p_value: two-sided, of a shift of 0; None below 10 (effective) units, which are not tested.
        q_value: Benjamini-Hochberg over all tested slices; None for those that are not.
        change: empty for a slice that has not moved (q-value above 0.05). ``worse`` or ``better``
            where the size of the gap changed by more than the margin; else ``moved``: from one side
            of 0 to the other, about as far.
    """

    name: str
    n: int
    units: int
    accuracy_before: float
    accuracy_after: float
    gap_before: float
    gap_after: float
    shift: float
    standard_error: float
    margin: float
    p_value: float | None
    q_value: float | None
    change: Change


def by_slice(predictions: Predictions, *, bins: int = SLICE_BINS) -> tuple[SliceMeasurement, ...]:
    """Measure one model on each slice.

    The interval of the signed gap is at each end the wider of two: the Student interval over
    units, and the mean confidence minus Wilson's interval of the accuracy. The first alone covers
    26 % of the time on ten items with confidence and accuracy 0.97. Groups count by their
    effective number n² / Σ n_g². A slice of fewer than two units has the interval [-1, 1].

    Args:
        predictions: n items of one model. Where groups count as slices, their items are units.
        bins: bins of each slice's ECE.

    Returns:
        One measurement per slice, the one whose interval lies farthest from 0 first; empty without
        slices.

    Raises:
        MetricError: bins below 1.
    """
    cut = _cut(predictions, cluster_codes(predictions))
    if cut is None:
        return ()
    correct = predictions.correct.astype(np.float64)
    accuracy, confidence = cut.mean(correct), cut.mean(predictions.confidence)
    signed = confidence - accuracy
    low, high = _gap_intervals(cut, predictions.gap, correct, confidence)
    ece, floor, floor_high = _binned(cut, predictions, bins)
    columns = (accuracy, confidence, signed, low, high, ece, floor, floor_high)
    rows = np.stack(columns, axis=1).tolist()
    names, n, units = cut.names, cut.n.tolist(), cut.units.tolist()
    return tuple(
        SliceMeasurement(names[i], n[i], units[i], bins, *rows[i])
        for i in np.argsort(-np.maximum(low, -high), kind="stable").tolist()
    )


def shifts(candidate: Predictions, baseline: Predictions) -> tuple[SliceShift, ...]:
    """Return the shift of each slice between two runs on the same items.

    Per slice, with d the change of an item's confidence minus correctness, T_g the sum of d over
    a unit, and δ the change of the mean confidence::

        z = Σ d / sqrt(V),    V = max( Σ T_g²,  n |δ| (1 - |δ|) · max(1, Σ T_g² / Σ d²) )

    Both terms are variances *under no shift*, as in a score test. The first is centred at 0, not
    at the mean, so it cannot vanish because a few items happen to agree. The second is the smallest
    variance of an accuracy that follows a confidence that moved by δ: at least n·|δ| answers then
    change. z is compared with the normal distribution where every item is a unit (centred at 0, it
    needs no Student: for outcomes that flip on equal confidences its exact size is at most 1.07
    times nominal), and with Student's t over the effective number of groups n² / Σ n_g² elsewhere,
    since few uneven groups make it skewed.

    The test is two-sided: the direction of "worse" is read off the candidate's own gap, so a
    one-sided 5 % test in that direction fires on 8 to 10 % of the slices that did not move. The
    q-values are Benjamini-Hochberg's. Slices share no item, so their p-values are independent, or
    positively dependent where a group spans several; the stricter rule for any dependence is not
    needed.

    Args:
        candidate: the new run; names the slices.
        baseline: the same items in the same order; a stored baseline names no slices.

    Returns:
        One shift per slice: tested ones by p-value, then those with fewer than 10 (effective)
        units, by size. Empty without slices.

    Raises:
        MetricError: the two sides do not hold the same items in the same order.
    """
    if not np.array_equal(candidate.item_ids, baseline.item_ids):
        raise MetricError(
            f"slices of probe {candidate.probe!r} are compared item by item, and the two sides "
            f"({candidate.n:,} and {baseline.n:,} {candidate.unit}s) are not the same items in the "
            "same order; take from both what they share."
        )
    pair = Paired.of(baseline, candidate)
    cut = _cut(candidate, pair.clusters)
    if cut is None:
        return ()
    n = cut.n
    rise = pair.confidence1 - pair.confidence0
    moved = rise - (pair.correct1 - pair.correct0)
    total = cut.sum(moved)
    squares = cut.sum(moved**2)
    grouped = cut.sum_of_squares(moved)
    step = np.minimum(np.abs(cut.sum(rise)) / n, 1.0)
    together = np.maximum(_ratio(grouped, squares, 1.0), 1.0)
    spread = np.sqrt(np.maximum(grouped, n * step * (1 - step) * together))
    score = _ratio(np.abs(total), spread, 0.0)

    tested = cut.effective >= MIN_UNITS
    reference = cut.reference_units.tolist()
    p = np.full(len(n), math.nan)
    for i in np.flatnonzero(tested).tolist():
        # A tail too thin for double precision may come out a hair below 0.
        p[i] = min(1.0, max(0.0, 2 * upper_tail(float(score[i]), reference[i])))
    q = np.full(len(n), math.nan)
    q[tested] = benjamini_hochberg(p[tested])
    error = spread / n
    margin = error * np.array([upper_quantile(TWO_SIDED, units) for units in reference])
    before, after = cut.mean(pair.correct0), cut.mean(pair.correct1)
    gap_before, gap_after = cut.mean(pair.confidence0) - before, cut.mean(pair.confidence1) - after
    growth = np.abs(gap_after) - np.abs(gap_before)
    change = np.where(np.abs(growth) <= margin, "moved", np.where(growth > 0, "worse", "better"))
    change = np.where(q <= FDR, change, "")
    columns = (before, after, gap_before, gap_after, total / n, error, margin)
    rows = np.stack(columns, axis=1).tolist()
    values = (cut.names, n.tolist(), cut.units.tolist(), _or_none(p), _or_none(q), change.tolist())
    # Equal p-values (rounded to 0) go by score, then size, then name; NaN sorts last.
    order = np.lexsort((np.arange(len(n)), -n, np.where(tested, -score, 0.0), p))
    named = list(zip(*values, strict=True))
    return tuple(SliceShift(*named[i][:3], *rows[i], *named[i][3:]) for i in order)


def _or_none(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Return the q-values of m p-values (m,): q of the i-th smallest is min over j ≥ i of m·p_j/j.

    With q ≤ 0.05 the expected share of false discoveries is at most 0.05; where no slice moved,
    that is the probability of any (Benjamini and Hochberg 1995).
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * m / np.arange(1, m + 1)
    q = np.empty(m)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


@dataclass(frozen=True)
class _Cut:
    """The slices of some items, and the units within them.

    Attributes:
        names: (k,) of the slices, sorted.
        code: (n,) slice of each item.
        unit: (n,) unit of each item: a group within a slice, or the item itself.
        home: (u,) slice of each unit.
        clustered: whether units are groups.
    """

    names: list[str]
    code: IntArray
    unit: IntArray
    home: IntArray
    clustered: bool

    def sum(self, values: FloatArray) -> FloatArray:
        """(k,) sum per slice."""
        return _sums(self.code, values, len(self.names))

    def sum_of_squares(self, values: FloatArray) -> FloatArray:
        """(k,) sum per slice of the squared totals of its units."""
        totals = _sums(self.unit, values, len(self.home)) if self.clustered else values
        return _sums(self.home, totals**2, len(self.names))

    def mean(self, values: FloatArray) -> FloatArray:
        """(k,) mean per slice."""
        return self.sum(values) / self.n

    @cached_property
    def n(self) -> IntArray:
        """(k,) number of items."""
        return np.bincount(self.code).astype(np.int64)

    @cached_property
    def units(self) -> IntArray:
        """(k,) number of units."""
        return np.bincount(self.home).astype(np.int64)

    @cached_property
    def effective(self) -> FloatArray:
        """(k,) number of equal units that would weigh the same: n² / Σ n_g²."""
        return self.n**2 / self.sum_of_squares(np.ones(len(self.code)))

    @property
    def reference_units(self) -> IntArray:
        """(k,) units of the reference distribution; normal where every item is its own."""
        grouped = np.maximum(np.floor(self.effective), 2).astype(np.int64)
        return np.where(self.units == self.n, SMALL_SAMPLE, grouped)


def _cut(predictions: Predictions, clusters: IntArray | None) -> _Cut | None:
    """Return the slices; None where there are none."""
    if predictions.slices is not None:
        names, code = coded(predictions.slices)
        if clusters is not None:
            width = int(clusters.max()) + 1
            cells, unit = np.unique(code * width + clusters, return_inverse=True)
            return _Cut(names, code, unit.astype(np.int64), cells // width, clustered=True)
    elif predictions.groups is not None:
        names, code = coded(predictions.groups)
        if len(names) == len(code):
            return None
    else:
        return None
    return _Cut(names, code, np.arange(len(code)), code, clustered=False)


def _binned(
    cut: _Cut, predictions: Predictions, bins: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ECE, noise floor and its 95 % point, (k,) each, as for a probe of its own."""
    gap, size = predictions.gap, len(cut.names) * bins
    cell = cut.code * bins + bin_index(predictions.confidence, bins)
    total = _sums(cell, gap, size)
    null = _sums(cell, predictions.confidence * (1 - predictions.confidence), size)
    if cut.clustered:
        # How much groups add is estimated from all slices together: one holds too few pairs.
        count = np.maximum(_sums(cell, np.ones(len(cell)), size), 1)
        residual = gap - (total / count)[cell]
        null = null * np.tile(design_effects(residual, cell % bins, bins, cut.unit), len(cut.names))

    def per_slice(cells: FloatArray) -> FloatArray:
        return np.asarray(cells.reshape(-1, bins).sum(axis=1), dtype=np.float64)

    floor = math.sqrt(2 / math.pi) * per_slice(np.sqrt(null)) / cut.n
    spread = np.sqrt((1 - 2 / math.pi) * per_slice(null)) / cut.n
    return per_slice(np.abs(total)) / cut.n, floor, floor + 1.645 * spread


def _gap_intervals(
    cut: _Cut, gap: FloatArray, correct: FloatArray, confidence: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return both ends (k,), (k,) of the 95 % intervals of the signed gap."""
    n, units = cut.n, cut.units
    accuracy, signed = cut.mean(correct), cut.mean(gap)
    certain = np.floor(cut.effective).astype(np.int64)
    z = np.array([upper_quantile(TWO_SIDED, max(u, 2)) for u in certain.tolist()])
    correction = units / np.maximum(units - 1, 1)
    half = z * np.sqrt(correction * cut.sum_of_squares(gap - signed[cut.code])) / n
    # How far wrong answers cluster in groups is not seen where all are correct, or all wrong.
    residual = correct - accuracy[cut.code]
    together = np.maximum(_ratio(cut.sum_of_squares(residual), cut.sum(residual**2), 1.0), 1.0)
    size = np.where((accuracy == 0) | (accuracy == 1), cut.effective, n / together)
    least, most = score_interval(accuracy, size, z)
    low = np.minimum(signed - half, confidence - most)
    high = np.maximum(signed + half, confidence - least)
    known = certain >= 2
    return np.where(known, low, -1.0).clip(-1, 1), np.where(known, high, 1.0).clip(-1, 1)


def _sums(index: IntArray, values: FloatArray, size: int) -> FloatArray:
    return np.bincount(index, weights=values, minlength=size).astype(np.float64)


def _ratio(above: FloatArray, below: FloatArray, otherwise: float) -> FloatArray:
    """Divide; ``otherwise`` where the divisor is not positive."""
    out = np.full(len(above), otherwise)
    np.divide(above, below, out=out, where=below > 0)
    return out
