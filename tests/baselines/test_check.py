"""Predictions compared with a store: every state of a stored baseline, what may be written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_calibration import exact, four_way

from pytest_calibration.baselines import Baselines, Draft, Policy
from pytest_calibration.baselines.check import (
    compare_ece_with_stored,
    compare_with_record,
    compare_with_stored,
)
from pytest_calibration.errors import UnreadableBaseline
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import ece
from pytest_calibration.predictions import Predictions, Signature

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
CALIBRATED = exact()
OVER = exact(dict.fromkeys(LEVELS, 0.1))
FOREIGN = replace(CALIBRATED, signature=Signature({"shots": "5"}))
FEW = CALIBRATED.limited(40)
PROJECT = Strictness(accuracy_tolerance=None)


def stored(folder: Path, predictions: Predictions | None, **policy: Any) -> Baselines:
    """A store that holds these predictions, under a policy."""
    if predictions is not None:
        Baselines(folder).record(predictions)
    return Baselines(folder, policy=Policy(**policy))


def edit(store: Baselines, key: str, value: object) -> None:
    """Edit one of the fields a person may edit."""
    path = store.path_of("exact")
    lines = [
        f"{key}: {value}" if line.startswith(f"{key}:") else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")


def files(folder: Path) -> dict[str, bytes]:
    """Name and content of every file."""
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}


# --- tolerance ----------------------------------------------------------------------------------


def test_the_nearest_tolerance_counts(tmp_path: Path) -> None:
    """The call's tolerance, else the record's own, else the project's."""
    project = Strictness(tolerance=0.07)
    store = stored(tmp_path, CALIBRATED)
    assert compare_with_stored(CALIBRATED, store, project).tolerance == 0.07
    edit(store, "tolerance", 0.03)
    assert compare_with_stored(CALIBRATED, store, project).tolerance == 0.03
    for call in (0.01, 0.0):
        verdict = compare_with_stored(CALIBRATED, store, project, tolerance=call)
        assert verdict.tolerance == call
        limit = compare_ece_with_stored(CALIBRATED, store, project, tolerance=call, bins=15).limit
        assert limit == pytest.approx(call, abs=1e-6)


def test_strictness_reaches_the_comparison(tmp_path: Path) -> None:
    """Tolerance, alpha, the accuracy guard and what may stay undetected are passed on."""
    record = stored(tmp_path, CALIBRATED).load("exact")
    v = compare_with_record(CALIBRATED, record, Strictness(0.05, 0.01, 0.1, 0.3))
    assert (v.tolerance, v.alpha, v.against) == (0.05, 0.01, "baseline")
    assert [c.tolerance for c in v.components] == [0.05, 0.05, 0.05, 0.05, 0.05, 0.1]
    v = compare_with_record(OVER, record, Strictness(0.2, 0.01, 0.1, max_undetected=0.001))
    assert v.state is State.INCONCLUSIVE


# --- the table of states ------------------------------------------------------------------------

STATES = {
    "nothing stored": (None, CALIBRATED, {}, State.NO_BASELINE, False),
    "nothing stored, record": (None, CALIBRATED, {"record": True}, State.RECORDED, True),
    "nothing stored, accept": (None, CALIBRATED, {"accept": "why"}, State.NO_BASELINE, False),
    "equal": (CALIBRATED, CALIBRATED, {}, State.PASSED, False),
    "equal, record": (CALIBRATED, CALIBRATED, {"record": True}, State.PASSED, False),
    "equal, accept": (CALIBRATED, CALIBRATED, {"accept": "why"}, State.PASSED, False),
    "worse": (CALIBRATED, OVER, {}, State.REGRESSED, False),
    "worse, record": (CALIBRATED, OVER, {"record": True}, State.REGRESSED, False),
    "worse, accept": (CALIBRATED, OVER, {"accept": "why"}, State.RECORDED, True),
    "better": (OVER, CALIBRATED, {}, State.PASSED, False),
    "better, record": (OVER, CALIBRATED, {"record": True}, State.PASSED, False),
    "better, accept": (OVER, CALIBRATED, {"accept": "why"}, State.RECORDED, True),
    "foreign": (CALIBRATED, FOREIGN, {}, State.NOT_COMPARABLE, False),
    "foreign, record": (CALIBRATED, FOREIGN, {"record": True}, State.NOT_COMPARABLE, False),
    "foreign, accept": (CALIBRATED, FOREIGN, {"accept": "why"}, State.RECORDED, True),
    "few": (CALIBRATED, FEW, {}, State.INCONCLUSIVE, False),
    "few, accept": (CALIBRATED, FEW, {"accept": "why"}, State.INCONCLUSIVE, False),
}


@pytest.mark.parametrize(
    ("before", "now", "policy", "state", "written"), STATES.values(), ids=STATES
)
def test_every_state_of_a_stored_baseline(
    before: Predictions | None,
    now: Predictions,
    policy: dict[str, Any],
    state: State,
    written: bool,
    tmp_path: Path,
) -> None:
    """Each state has its verdict; a file changes only where the policy allows and it is new."""
    store = stored(tmp_path, before, **policy)
    content = files(tmp_path)
    v = compare_with_stored(now, store, PROJECT)
    assert v.state is state
    assert (files(tmp_path) != content) is written
    if written:
        np.testing.assert_array_equal(store.load("exact").predictions.correct, now.correct)
        assert compare_with_stored(now, Baselines(tmp_path), PROJECT).state is State.PASSED


def test_recording_says_where(tmp_path: Path) -> None:
    """A recorded verdict names the file, a missing one where it was looked for."""
    store = stored(tmp_path, None)
    path = store.path_of("exact")
    assert compare_with_stored(CALIBRATED, store, PROJECT).reason == f"nothing is stored at {path}."
    others = [replace(CALIBRATED, probe=name) for name in ("a", "b", "c", "d")]
    for one in others:
        compare_with_stored(one, stored(tmp_path, None, record=True), PROJECT)
    found = compare_with_stored(CALIBRATED, store, PROJECT).reason
    assert found == f"nothing is stored at {path}. Stored there: a, b, c and 1 more."
    v = compare_with_stored(CALIBRATED, stored(tmp_path, None, record=True), PROJECT)
    assert v.reason == f"recorded in {path}."
    assert path.is_file()


def test_accepting_keeps_the_reason_and_what_was_replaced(tmp_path: Path) -> None:
    """The reason and the old summary stay in the file, and the verdict says what was accepted."""
    v = compare_with_stored(
        OVER, stored(tmp_path, CALIBRATED, accept="DPO v3, signed off"), PROJECT
    )
    assert v.reason == "accepted: DPO v3, signed off"
    assert not v.improved
    (entry,) = Baselines(tmp_path).load("exact").superseded
    assert entry["reason"] == "DPO v3, signed off"
    assert entry["ece"] == pytest.approx(0, abs=1e-6)
    assert entry["n"] == 2000


def test_a_store_that_collects_drafts_writes_nothing(tmp_path: Path) -> None:
    """A store that collects drafts writes nothing by itself."""
    drafts: list[Draft] = []
    store = Baselines(tmp_path, policy=Policy(record=True), submit=drafts.append)
    assert compare_with_stored(CALIBRATED, store, PROJECT).state is State.RECORDED
    assert [d.file for d in drafts] == ["exact.yaml"]
    assert not files(tmp_path)


@pytest.mark.parametrize("policy", [{}, {"record": True}, {"accept": "why"}], ids=str)
@pytest.mark.parametrize("limit", [False, True], ids=["comparison", "limit"])
def test_what_cannot_be_trusted_raises_and_stays(
    policy: dict[str, Any], limit: bool, tmp_path: Path
) -> None:
    """A damaged record is an error under any policy, and nothing is written over it."""
    store = stored(tmp_path, CALIBRATED, **policy)
    store.path_of("exact").write_text("format: [")
    content = files(tmp_path)
    call = partial(compare_ece_with_stored, bins=15) if limit else compare_with_stored
    with pytest.raises(UnreadableBaseline, match=r"exact\.yaml"):
        call(OVER, store, PROJECT)
    assert files(tmp_path) == content


# --- a limit from a baseline --------------------------------------------------------------------


@pytest.mark.parametrize("bins", [5, 15, 50])
def test_the_stored_ece_is_recomputed_in_the_bins_asked_for(bins: int, tmp_path: Path) -> None:
    """The limit is the stored ECE in these bins plus the tolerance; equal runs have equal ECE."""
    p = exact({0.34: 0.1, 0.58: -0.05, 0.86: 0.02}, each=100)
    store = stored(tmp_path, p)
    v = compare_ece_with_stored(p, store, Strictness(0.01), bins=bins)
    assert v.state is State.PASSED
    assert v.limit == pytest.approx(ece(p, bins) + 0.01, abs=1e-7)
    assert v.baseline is not None
    assert v.baseline.bins == v.measurement.bins == bins


def test_the_limit_written_in_a_record_counts(tmp_path: Path) -> None:
    """A record's own limit counts instead of stored ECE plus tolerance."""
    store = stored(tmp_path, CALIBRATED)
    edit(store, "limit", 0.25)
    assert compare_ece_with_stored(OVER, store, PROJECT, bins=15).state is State.PASSED
    edit(store, "limit", 0.05)
    v = compare_ece_with_stored(OVER, store, PROJECT, bins=15)
    assert (v.state, v.limit) == (State.ABOVE_LIMIT, 0.05)


def test_the_tolerance_written_in_a_record_counts(tmp_path: Path) -> None:
    """A record's own tolerance is added to its ECE where the call names none."""
    store = stored(tmp_path, CALIBRATED)
    edit(store, "tolerance", 0.15)
    assert compare_ece_with_stored(OVER, store, PROJECT, bins=15).state is State.PASSED
    assert (
        compare_ece_with_stored(OVER, store, PROJECT, tolerance=0.02, bins=15).state
        is State.ABOVE_LIMIT
    )
    assert compare_with_stored(OVER, store, PROJECT).state is State.PASSED


def test_without_a_baseline_the_number_asked_for_is_measured(tmp_path: Path) -> None:
    """Bins and metric are those of the call, also where nothing is stored yet."""
    verdict = compare_ece_with_stored(OVER, Baselines(tmp_path), PROJECT, bins=5, debiased=True)
    expected = measure(OVER, "cross_fitted_ece", bins=5)
    assert (verdict.state, verdict.measurement) == (State.NO_BASELINE, expected)


def test_debiased_limits_compare_debiased_numbers(tmp_path: Path) -> None:
    """Debiased, the stored cross-fitted ECE plus the tolerance is compared with the lower end."""
    store = stored(tmp_path, CALIBRATED)
    v = compare_ece_with_stored(OVER, store, PROJECT, bins=15, debiased=True)
    assert v.state is State.ABOVE_LIMIT
    assert v.baseline is not None
    assert v.measurement.metric == v.baseline.metric == "cross_fitted_ece"
    assert v.limit == pytest.approx(v.baseline.value + 0.02)
    assert v.bound == v.measurement.low


LIMIT_STATES = {
    "nothing stored": (None, CALIBRATED, {}, State.NO_BASELINE, False),
    "nothing stored, record": (None, CALIBRATED, {"record": True}, State.RECORDED, True),
    "worse": (CALIBRATED, OVER, {}, State.ABOVE_LIMIT, False),
    "worse, record": (CALIBRATED, OVER, {"record": True}, State.ABOVE_LIMIT, False),
    "worse, accept": (CALIBRATED, OVER, {"accept": "why"}, State.RECORDED, True),
    "foreign": (CALIBRATED, FOREIGN, {}, State.NOT_COMPARABLE, False),
    "foreign, accept": (CALIBRATED, FOREIGN, {"accept": "why"}, State.RECORDED, True),
    "equal, accept": (CALIBRATED, CALIBRATED, {"accept": "why"}, State.PASSED, False),
}


@pytest.mark.parametrize(
    ("before", "now", "policy", "state", "written"), LIMIT_STATES.values(), ids=LIMIT_STATES
)
def test_every_state_of_a_limit(
    before: Predictions | None,
    now: Predictions,
    policy: dict[str, Any],
    state: State,
    written: bool,
    tmp_path: Path,
) -> None:
    """A limit from a baseline has the same states, and accepts and records by the same policy."""
    store = stored(tmp_path, before, **policy)
    content = files(tmp_path)
    assert compare_ece_with_stored(now, store, PROJECT, bins=15).state is state
    assert (files(tmp_path) != content) is written
    if written:
        assert (
            compare_ece_with_stored(now, Baselines(tmp_path), PROJECT, bins=15).state
            is State.PASSED
        )


def test_a_limit_written_by_hand_is_not_accepted_away(tmp_path: Path) -> None:
    """Above a limit of the record's own, accepting changes nothing: the limit would stay."""
    store = stored(tmp_path, CALIBRATED, accept="why")
    edit(store, "limit", 0.05)
    content = files(tmp_path)
    assert compare_ece_with_stored(OVER, store, PROJECT, bins=15).state is State.ABOVE_LIMIT
    assert files(tmp_path) == content


def test_a_limit_on_few_units_keeps_both_reasons(tmp_path: Path) -> None:
    """A limit of the record's own that too few units cannot test says both."""
    store = stored(tmp_path, FEW)
    edit(store, "limit", 0.9)
    v = compare_ece_with_stored(FEW, store, PROJECT, bins=15, debiased=True)
    assert v.state is State.INCONCLUSIVE
    assert v.reason.startswith("the limit is the baseline's own, ")
    assert v.reason.endswith(
        "40 items cannot show an ECE above the limit by the lower end of its "
        "interval; at least 50 are needed."
    )


def test_a_limit_compares_the_items_both_sides_have(tmp_path: Path) -> None:
    """A subset is measured on the intersection on both sides, and the note says so."""
    store = stored(tmp_path, CALIBRATED)
    v = compare_ece_with_stored(OVER.limited(500), store, Strictness(0.5), bins=15)
    assert v.baseline is not None
    assert v.measurement.n == v.baseline.n == 500
    assert (v.candidate_n, v.baseline_n, v.against, v.tolerance) == (500, 2000, "baseline", 0.5)
    assert v.candidate is not None
    assert v.baseline_items is not None
    assert set(v.candidate.item_ids) == set(v.baseline_items.item_ids)
    record = store.find("exact")
    assert record is not None
    assert (v.past[-1].n, v.sharpness_before) == (2000, record.sharpness)
    assert any("500 of the 500 items here are among the baseline's 2,000" in n for n in v.cautions)
    logits, labels = four_way(100, 1)
    other = Predictions.from_logits(
        logits, labels, probe="exact", item_ids=[f"x{i}" for i in range(100)]
    )
    v = compare_ece_with_stored(other, store, Strictness(0.5), bins=15)
    assert v.state is State.NOT_COMPARABLE
    assert v.reason.startswith("the items are not the same: 0 of the 100 items here")
    assert v.measurement == measure(other, bins=15)
    assert (v.n, v.candidate_n, v.baseline_n, v.against) == (100, 100, 2000, "baseline")
    assert (v.candidate, v.past[-1].n) == (other, 2000)


def test_the_tolerance_behind_a_limit_is_told(tmp_path: Path) -> None:
    """A limit of stored ECE plus a tolerance names the tolerance; the record's own needs none."""
    path = Baselines(tmp_path).record(CALIBRATED)
    path.write_text(path.read_text().replace("tolerance: null", "tolerance: 0.9"))
    store = Baselines(tmp_path)
    v = compare_ece_with_stored(OVER, store, PROJECT, bins=15)
    assert (v.state, v.tolerance) == (State.PASSED, 0.9)
    assert v.cautions == ("tolerance 0.9 instead of 0.02.",)
    path.write_text(path.read_text().replace("limit: null", "limit: 0.5"))
    assert compare_ece_with_stored(OVER, store, PROJECT, bins=15).cautions == ()


# --- remarks ------------------------------------------------------------------------------------


def test_soft_differences_are_noted(tmp_path: Path) -> None:
    """A caution names another dtype or device; another model is what the run is about."""
    before = CALIBRATED.with_signature(model="base", dtype="float32", device="cpu")
    after = CALIBRATED.with_signature(model="sft", dtype="bfloat16", device="cpu")
    v = compare_with_stored(after, stored(tmp_path, before), DEFAULT)
    assert v.state is State.PASSED
    assert v.cautions == ("differs from the baseline in dtype bfloat16 (float32).",)


def test_names_and_probes_are_kept_apart(tmp_path: Path) -> None:
    """A record of another name or another probe is none of this one."""
    store = stored(tmp_path, CALIBRATED)
    assert compare_with_stored(CALIBRATED, store.named("sft"), PROJECT).state is State.NO_BASELINE
    other = replace(CALIBRATED, probe="other")
    assert compare_with_stored(other, store, PROJECT).state is State.NO_BASELINE
