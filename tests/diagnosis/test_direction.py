"""Where a model errs: the side, the slope, the worst bins, the worst slices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from known_calibration import calibrated, exact, sharpened

from pytest_calibration.diagnosis import diagnose
from pytest_calibration.diagnosis.direction import (
    direction_of,
    slope_of,
    worst_bins,
    worst_slices,
)
from pytest_calibration.diagnosis.findings import Interval
from pytest_calibration.diagnosis.recalibration import read_ece
from pytest_calibration.diagnosis.slices import by_slice
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
TILTED = {0.5: -0.1, 0.6: -0.05, 0.7: 0.0, 0.8: 0.05, 0.9: 0.1}


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        (dict.fromkeys(LEVELS, 0.08), "over-confident"),
        (dict.fromkeys(LEVELS, -0.08), "under-confident"),
        (TILTED, "too extreme"),
        ({c: -gap for c, gap in TILTED.items()}, "too flat"),
        ({0.5: 0.1, 0.6: -0.1, 0.7: 0.0, 0.8: -0.1, 0.9: 0.1}, "uneven"),
        (dict.fromkeys(LEVELS, 0.0), "calibrated"),
    ],
)
def test_the_direction_is_named(gaps: dict[float, float], expected: str) -> None:
    """Gaps that are known at every confidence have the name they deserve."""
    assert diagnose(exact(gaps)).direction == expected


def test_the_signed_gap_decides_by_its_interval() -> None:
    """The same gap is one on 2,000 items and undetermined on 40."""
    many, few = exact(dict.fromkeys(LEVELS, 0.05)), exact(dict.fromkeys(LEVELS, 0.05), each=20)
    assert diagnose(many).direction == "over-confident"
    assert diagnose(few).direction == "undetermined"
    m = measure(many, "signed_gap")
    assert diagnose(many).signed_gap == Interval(m.value, m.low, m.high)


def test_an_interval_on_one_side_of_zero_has_a_sign() -> None:
    """An end at 0 is not beyond it."""
    assert Interval(0.1, 0.01, 0.2).sign == 1
    assert Interval(-0.1, -0.2, -0.01).sign == -1
    assert Interval(0.1, 0.0, 0.2).sign == Interval(-0.1, -0.2, 0.0).sign == 0


def test_the_slope_is_in_units_of_ece() -> None:
    """A gap that is linear in the confidence, and 0 on average, has a slope as large as its ECE."""
    slope = slope_of(exact(TILTED))
    assert slope is not None
    assert slope.value == pytest.approx(measure(exact(TILTED), "ece").value)
    # A gap of all confidences alike is no part of it, neither of its value nor of its noise.
    for by in (0.0, 0.1):
        p = exact({c: gap + by for c, gap in TILTED.items()})
        slope = slope_of(p)
        assert slope is not None
        k = np.abs(p.confidence - 0.7).mean() / p.confidence.var()
        values = k * (p.confidence - 0.7) * (p.gap - by)
        half = 1.959964 * values.std(ddof=1) / math.sqrt(p.n)
        assert slope.value == pytest.approx(float(values.mean()))
        assert (slope.low, slope.high) == pytest.approx((slope.value - half, slope.value + half))


def test_a_slope_needs_two_confidences_and_two_units() -> None:
    """Without them there is none, and the direction is uneven at most."""
    assert slope_of(Predictions.from_confidence([0.7] * 5, [True] * 5)) is None
    assert slope_of(Predictions.from_confidence([0.7], [True])) is None
    far = replace(read_ece(calibrated(100, 1), 15), at_floor=False, low=0.01)
    assert direction_of(Interval(0.0, -0.1, 0.1), None, far) == "uneven"


def test_an_ece_that_may_be_noise_names_no_direction() -> None:
    """Above the floor of 19 in 20, but with an interval that reaches 0: undetermined."""
    near = replace(read_ece(calibrated(100, 1), 15), at_floor=False, low=0.0)
    slope = Interval(0.1, 0.05, 0.15)
    assert direction_of(Interval(0.0, -0.01, 0.01), slope, near) == "undetermined"
    clear = replace(near, low=0.01)
    assert direction_of(Interval(0.0, -0.01, 0.01), slope, clear) == "too extreme"


# --- bins ----------------------------------------------------------------------------------------


def test_the_worst_bins_are_those_that_make_most_of_ece() -> None:
    """By their part of ECE, with what is in them; bins within noise are not there."""
    p = exact({0.5: 0.0, 0.6: 0.02, 0.7: 0.15, 0.8: -0.12, 0.9: 0.2})
    found = worst_bins(p, 10)
    assert [b.gap for b in found] == pytest.approx([0.2, 0.15, -0.12])
    assert [(b.lower, b.upper) for b in found] == [
        pytest.approx(edges) for edges in ((0.8, 0.9), (0.6, 0.7), (0.7, 0.8))
    ]
    assert [b.n for b in found] == [400] * 3
    assert [b.share for b in found] == pytest.approx([20 / 49, 15 / 49, 12 / 49])
    for b in found:
        assert b.gap == pytest.approx(b.confidence - b.accuracy)
        assert b.low <= b.gap <= b.high
        assert b.low * b.high > 0


def test_the_interval_of_a_bin_is_wilsons_for_all_bins_at_once() -> None:
    """Five bins hold items: each end leaves out 0.025 / 5."""
    p = exact({0.5: 0.0, 0.6: 0.0, 0.7: 0.0, 0.8: 0.0, 0.9: 0.2})
    (b,) = worst_bins(p, 10)
    z = NORMAL.inv_cdf(1 - 0.025 / 5)
    centre = (0.7 + z * z / 800) / (1 + z * z / 400)
    half = z / (1 + z * z / 400) * math.sqrt(0.7 * 0.3 / 400 + (z / 800) ** 2)
    assert (b.low, b.high) == pytest.approx((0.9 - centre - half, 0.9 - centre + half))


def test_calibrated_bins_are_rarely_named() -> None:
    """Of 200 calibrated models at most 1 in 20 has a bin that is called off, give or take."""
    assert sum(bool(worst_bins(calibrated(2000, seed), 15)) for seed in range(200)) <= 18


def test_bins_of_groups_are_less_certain() -> None:
    """Copies in groups of 10 count as their groups, so that the interval is wider."""
    p = exact(dict.fromkeys(LEVELS, 0.1))
    codes = np.repeat(np.arange(200), 10)
    # Within a level the right answers come first: a group is all right or all wrong.
    grouped = replace(p, groups=codes.astype(str))
    alone, together = worst_bins(p, 10), worst_bins(grouped, 10)
    assert len(alone) == 3
    width = alone[0].high - alone[0].low
    assert all(b.high - b.low > 2 * width for b in together)


# --- slices --------------------------------------------------------------------------------------


def sliced(p: Predictions, names: list[str]) -> Predictions:
    """The same items with these slices."""
    return replace(p, slices=np.array(names))


def test_the_worst_slices_are_the_surest() -> None:
    """Two of ten slices are made over-confident; they are found, as ``by_slice`` measures them."""
    p = calibrated(4000, 1)
    names = [f"s{i % 10}" for i in range(4000)]
    off = np.array([name in ("s3", "s7") for name in names])
    p = replace(
        Predictions.from_confidence(np.where(off, 0.97, p.confidence), p.correct),
        item_ids=p.item_ids,
    )
    found = worst_slices(sliced(p, names))
    assert {s.name for s in found} == {"s3", "s7"}
    assert list(found) == list(by_slice(sliced(p, names)))[:2]


def test_at_most_three_slices_are_named() -> None:
    """Where all are off, the three clearest stand."""
    names = [f"s{i % 8}" for i in range(4000)]
    assert len(worst_slices(sliced(sharpened(4000, 1, 2.5), names))) == 3


def test_many_slices_of_a_calibrated_model_are_rarely_named() -> None:
    """Of 60 calibrated models with 40 slices each, few have any: one in twenty by design."""
    names = [f"s{i % 40}" for i in range(2000)]
    named = sum(bool(worst_slices(sliced(calibrated(2000, s), names))) for s in range(60))
    assert named <= 7
    # One slice at a time, at 95 % each, most of these models would have one.
    at_95 = sum(
        any(row.low > 0 or row.high < 0 for row in by_slice(sliced(calibrated(2000, s), names)))
        for s in range(60)
    )
    assert at_95 > 30


def test_where_nothing_is_sliced_nothing_is_named() -> None:
    """No slices, one slice, slices of a handful, or groups of a handful: none."""
    p = sharpened(600, 1, 2.5)
    assert worst_slices(p) == ()
    assert worst_slices(sliced(p, ["all"] * 600)) == ()
    assert worst_slices(sliced(p, [str(i // 5) for i in range(600)])) == ()
    assert worst_slices(replace(p, groups=np.array([str(i // 5) for i in range(600)]))) == ()
    large = replace(p, groups=np.array([str(i // 100) for i in range(600)]))
    assert len(worst_slices(large)) == 3
