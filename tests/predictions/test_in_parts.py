"""Predictions that are asked for in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_calibration import calibrated

from pytest_calibration import Baselines, ece
from pytest_calibration.errors import PredictionsError
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import (
    Predictions,
    PredictionsInParts,
    as_predictions,
    first_units,
)
from pytest_calibration.predictions.arrays import IdArray
from pytest_calibration.reports.dump import write_dump

SHARES = (0.25, 0.5, 0.75, 1.0)
Ask = Callable[[float], tuple[Predictions, IdArray]]


def asking(whole: Predictions, asked: list[float]) -> Ask:
    """What answers for a share of these predictions, and notes that it was asked."""

    def ask(share: float) -> tuple[Predictions, IdArray]:
        asked.append(share)
        groups = None if whole.groups is None else whole.groups.tolist()
        return whole.take(first_units(whole.item_ids, groups, share)), whole.item_ids

    return ask


def parted(whole: Predictions, asked: list[float] | None = None) -> PredictionsInParts:
    """These predictions, asked in four parts; the first is asked."""
    ask = asking(whole, [] if asked is None else asked)
    return PredictionsInParts.of(whole.probe, ask, SHARES, ask(SHARES[0]))


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.floats(0.05, 1),
    st.integers(0, 2**32),
)
def test_a_share_is_of_whole_groups_in_the_order_of_their_ids(
    names: list[int], share: float, seed: int
) -> None:
    """No more groups than needed, none split, and those of a smaller share are in a larger one."""
    ids = np.random.default_rng(seed).permutation(np.arange(7, 7 + len(names))).astype(np.uint64)
    groups = [f"g{name}" if name else "" for name in names]
    taken = first_units(ids, groups, share)
    assert taken.sum() >= share * len(ids) - 1e-9
    units = [g or f"alone {i}" for g, i in zip(groups, ids.tolist(), strict=True)]
    first = {u: min(i for v, i in zip(units, ids.tolist(), strict=True) if v == u) for u in units}
    order = sorted(first, key=first.__getitem__)
    of_taken = {u for u, is_taken in zip(units, taken, strict=True) if is_taken}
    assert not of_taken & {u for u, is_taken in zip(units, taken, strict=True) if not is_taken}
    assert of_taken == {*order[: len(of_taken)]}
    without_last = sum(u in order[: len(of_taken) - 1] for u in units)
    assert without_last < share * len(ids)
    assert (first_units(ids, groups, share / 2) <= taken).all()


def test_parts_say_that_they_are(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing stores a part for the whole: no baseline, no history, no dump."""
    whole = calibrated(400, 1)
    first, *_, last = parted(whole).in_turn()
    assert (first.number, first.parts, first.sizes, first.later) == (1, 4, (100,), SHARES[1:])
    assert {*first.item_ids[:100]} == {*first.predictions.item_ids}
    assert {*first.item_ids} == {*whole.item_ids}
    assert (last.sizes, last.later) == ((100, 200, 300, 400), ())
    assert (len(first.predictions), first.predictions.asked_of) == (100, 400)
    assert (len(last.predictions), last.predictions.asked_of) == (400, 0)
    folder = tmp_path_factory.mktemp("none")
    said = "all items, and 100 of 400 were asked before the comparison stopped early"
    for store in (
        lambda: Baselines(folder).record(first.predictions),
        lambda: Line.of(first.predictions),
        lambda: write_dump(folder, first.predictions),
    ):
        with pytest.raises(PredictionsError, match=said):
            store()
    assert list(folder.iterdir()) == []
    assert Baselines(folder).record(last.predictions).exists()


def test_whoever_reads_them_has_all_asked() -> None:
    """A metric, a limit, or an attribute sees the whole, once; their name asks for nothing."""
    whole, asked = calibrated(400, 1), list[float]()
    found = parted(whole, asked)
    assert (found.probe, "in parts" in repr(found), asked) == (whole.probe, True, [0.25])
    assert ece(found) == ece(whole)
    assert len(found) == found.n == 400
    assert found.limited(10).n == 10
    assert np.array_equal(found.take(np.arange(3)).confidence, whole.confidence[:3])
    assert as_predictions(found) is found.whole
    assert asked == [0.25, 1.0]


def test_a_changed_copy_is_whole() -> None:
    """``dataclasses.replace`` gives predictions that are asked already."""
    found = replace(parted(calibrated(400, 1)), probe="other")
    assert (found.probe, len(found), found.whole is found) == ("other", 400, True)


def test_a_part_that_adds_nothing_is_left_out() -> None:
    """A group with most of the items is asked at once; the looks keep their numbers."""
    whole = calibrated(400, 1)
    groups = ["large"] * 280 + [f"g{i}" for i in range(120)]
    whole = replace(whole, groups=groups)
    # Its first item has the smallest id.
    order = np.argsort(whole.item_ids)
    whole = replace(whole.take(order), groups=groups)
    parts = list(parted(whole).in_turn())
    assert [part.number for part in parts] == [1, 3, 4]
    assert [part.sizes for part in parts] == [(280,), (280, 300), (280, 300, 400)]
    assert [part.later for part in parts] == [(0.75, 1.0), (1.0,), ()]
