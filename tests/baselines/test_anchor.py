"""The anchor: from which the drift of accepted steps is counted, and whose items are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from known_calibration import exact, four_way

from pytest_calibration.assertions import assert_no_regression
from pytest_calibration.baselines import Baselines, Draft, Policy, Record
from pytest_calibration.baselines.check import (
    compare_ece_with_stored,
    compare_with_record,
    compare_with_stored,
)
from pytest_calibration.baselines.record import checksum, items_of, to_yaml
from pytest_calibration.baselines.store import items_files, remove_record
from pytest_calibration.errors import UnreadableBaseline
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.predictions import Predictions, Signature


def off(gap: float, each: int = 2000) -> Predictions:
    """Over-confident by exactly this much, on always the same items."""
    return exact({0.75: gap}, each=each).with_signature(model=f"off-by-{gap:g}")


def run(
    folder: Path, candidate: Predictions, strictness: Strictness = DEFAULT, **policy: Any
) -> Any:
    """Compare as a test does, and write what the run may write."""
    return compare_with_stored(candidate, Baselines(folder, policy=Policy(**policy)), strictness)


def walked(folder: Path, *gaps: float) -> Record:
    """Record the first, accept each further one; each is a step beyond the tolerance."""
    Baselines(folder).record(off(gaps[0]))
    for gap in gaps[1:]:
        assert run(folder, off(gap), accept=f"to {gap:g}").state is State.RECORDED
    return Baselines(folder).load("exact")


def without_items(path: Path) -> None:
    """Make a record as it was before the items of an anchor were kept."""
    data = yaml.safe_load(path.read_text("utf-8"))
    data["anchor"] = {key: data["anchor"][key] for key in ("ece", "accuracy", "signed_gap", "n")}
    path.write_text(to_yaml(data | {"checksum": checksum(data)}), "utf-8")


# --- what is kept -------------------------------------------------------------------------------


def test_the_first_record_is_its_own_anchor(tmp_path: Path) -> None:
    """It names its own items, which are stored once."""
    record = walked(tmp_path, 0.01)
    assert record.anchor["items"] == record.data["items"]
    assert (record.anchor["reason"], record.steps) == ("recorded first", 0)
    assert len(items_files(record.path)) == 1


def test_the_items_of_the_anchor_survive_every_accepted_step(tmp_path: Path) -> None:
    """After five steps there are the anchor's items and the record's; those between are gone."""
    first = walked(tmp_path, 0.0)
    (anchor,) = items_files(first.path)
    content = anchor.read_bytes()
    for turn in range(1, 6):
        run(tmp_path, off(turn * 0.03), accept=f"step {turn}")
        record = Baselines(tmp_path).load("exact")
        assert record.steps == turn
        assert {*items_files(record.path)} == {anchor, tmp_path / record.data["items"]["file"]}
    assert anchor.read_bytes() == content
    assert record.anchor_items is not None
    np.testing.assert_array_equal(record.anchor_items.correct, off(0.0).correct)
    np.testing.assert_array_equal(record.anchor_items.item_ids, off(0.0).item_ids)
    assert record.anchor["model"] == "off-by-0"
    assert len(record.superseded) == 3
    remove_record(record.path)
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize("damage", [Path.unlink, lambda p: p.write_bytes(b"PK")], ids=["gone", "x"])
def test_damaged_items_of_the_anchor_are_refused(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """The digest in the YAML covers them as it covers the record's own."""
    record = walked(tmp_path, 0.01, 0.04)
    name = record.anchor["items"]["file"]
    assert name != record.data["items"]["file"]
    damage(tmp_path / name)
    with pytest.raises(UnreadableBaseline, match=rf"{name}.*restore"):
        Baselines(tmp_path).load("exact")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", -1, r"anchor\.steps must be at least 0, got -1\."),
        ("steps", "2", r"anchor\.steps must be a whole number, got '2'\."),
        ("model", 3, r"anchor\.model must be text, got 3\."),
        ("items", "x.npz", r"anchor\.items must be a mapping, got 'x\.npz'\."),
        ("items", {"file": "../x.npz"}, r"the field anchor\.items\.sha256 is missing\."),
        ("colour", "red", r"unknown field anchor\.colour; known fields: ece, "),
    ],
)
def test_a_bad_field_of_the_anchor_is_named(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    """A file with a fitting checksum is refused by the field that cannot be."""
    path = walked(tmp_path, 0.01).path
    data = yaml.safe_load(path.read_text("utf-8"))
    data["anchor"][key] = value
    path.write_text(to_yaml(data | {"checksum": checksum(data)}), "utf-8")
    with pytest.raises(UnreadableBaseline, match=message):
        Baselines(tmp_path).load("exact")


@pytest.mark.parametrize("key", ["ece", "steps", "reason", "items"])
def test_the_checksum_covers_the_anchor(tmp_path: Path, key: str) -> None:
    """No value of the anchor can be edited unnoticed."""
    path = walked(tmp_path, 0.01, 0.04).path
    data = yaml.safe_load(path.read_text("utf-8"))
    data["anchor"][key] = {"ece": 0.3, "steps": 0, "reason": "x", "items": data["items"]}[key]
    path.write_text(to_yaml(data), "utf-8")
    with pytest.raises(UnreadableBaseline, match="the checksum does not fit"):
        Baselines(tmp_path).load("exact")


@settings(max_examples=20)
@given(groups=st.lists(st.integers(-3, 3), min_size=60, max_size=60), tokens=st.booleans())
def test_moving_the_anchor_changes_no_item(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], *, tokens: bool
) -> None:
    """The record that becomes its own anchor has the same items, to the byte."""
    folder = tmp_path_factory.mktemp("store")
    first = replace(off(0.0, each=60), groups=np.array(groups))
    first = replace(first, unit="token" if tokens else "item")
    store = Baselines(folder)
    store.record(first)
    store.record(replace(first, correct=~first.correct), reason="step")
    before = store.load("exact")
    store.anchor_draft(before, "here").write()
    after = store.load("exact")
    assert after.data["items"] == before.data["items"] == after.anchor["items"]
    assert (after.steps, after.anchor["reason"]) == (0, "here")
    assert after.metrics == before.metrics
    assert after.superseded == before.superseded
    (file,) = items_files(after.path)
    assert file.name == after.data["items"]["file"]


# --- drift --------------------------------------------------------------------------------------


def test_the_comparison_is_that_of_the_two_sets_of_items(tmp_path: Path) -> None:
    """It equals a paired comparison with the first predictions, with twice the tolerance."""
    record = walked(tmp_path, 0.01, 0.04, 0.07)
    found = compare_with_record(off(0.08), record, DEFAULT).since_anchor
    direct = compare(off(0.08), off(0.01), tolerance=0.04, accuracy_tolerance=0.04)
    assert found is not None
    # As text: what does not apply is NaN, which equals nothing.
    assert repr(found.components) == repr(direct.components)
    assert (found.state, found.against, found.reference) == (State.REGRESSED, "anchor", "anchor")
    assert found.headline == "calibration drifted: probe exact on off-by-0.08"


def test_steps_that_add_up_fail_and_say_since_when(tmp_path: Path) -> None:
    """Each step was accepted; their sum is beyond the drift tolerance, and nobody has seen it."""
    walked(tmp_path, 0.01, 0.04, 0.07)
    with pytest.raises(AssertionError) as caught:
        assert_no_regression(off(0.07), Baselines(tmp_path))
    text = " ".join(str(caught.value).split())
    assert text.startswith("calibration drifted: probe exact on off-by-0.07")
    assert (
        "since the anchor off-by-0.01 (recorded first; ECE 0.010) the steps that were accepted "
        "have added up: 2 accepted steps ('to 0.04', 'to 0.07'); accepting does not move the "
        "anchor."
    ) in text
    assert "to count drift from here: " in text
    # The comparison with the record passes: it is the record.
    assert compare_with_stored(off(0.07), Baselines(tmp_path), DEFAULT).state is State.PASSED


def test_the_second_step_that_is_accepted_fails_at_once(tmp_path: Path) -> None:
    """It is recorded, and the run says that the sum is too large."""
    walked(tmp_path, 0.01, 0.035)
    v = run(tmp_path, off(0.065), accept="second")
    assert v.state is State.RECORDED
    assert v.since_anchor is not None
    assert v.since_anchor.state is State.REGRESSED
    assert "1 accepted step" not in v.since_anchor.reason
    assert Baselines(tmp_path).load("exact").steps == 2


@pytest.mark.parametrize("gaps", [(0.01,), (0.01, 0.2)], ids=["none", "one"])
def test_one_accepted_step_adds_up_to_nothing(tmp_path: Path, gaps: tuple[float, ...]) -> None:
    """It has been signed off as a whole: there is no second comparison."""
    record = walked(tmp_path, *gaps)
    assert compare_with_record(off(gaps[-1]), record, DEFAULT).since_anchor is None


def test_steps_back_and_forth_pass(tmp_path: Path) -> None:
    """What ends where it began has not drifted, however many steps it took."""
    record = walked(tmp_path, 0.01, 0.05, 0.01, 0.05, 0.01)
    found = compare_with_record(off(0.01), record, DEFAULT).since_anchor
    assert found is not None
    assert (found.state, record.steps) == (State.PASSED, 4)
    assert not found.improved


@pytest.mark.parametrize(
    ("strict", "tolerance", "guard"),
    [
        ({}, 0.04, 0.04),
        ({"tolerance": 0.03}, 0.06, 0.04),
        ({"drift_tolerance": 0.1}, 0.1, 0.04),
        ({"drift_tolerance": 0.0, "accuracy_tolerance": None}, 0.0, None),
        ({"tolerance": 0.7, "accuracy_tolerance": 0.1}, np.nextafter(1, 0), 0.2),
    ],
)
def test_the_drift_tolerance_is_twice_the_tolerance_unless_named(
    strict: dict[str, Any], tolerance: float, guard: float | None
) -> None:
    """Accuracy may fall by twice its own; below 1 in any case."""
    found = Strictness(**strict).since_anchor()
    assert (found.tolerance, found.accuracy_tolerance) == (tolerance, guard)


def test_a_drift_tolerance_of_its_own_is_told(tmp_path: Path) -> None:
    """It stands among the cautions of that comparison, and of no other."""
    record = walked(tmp_path, 0.01, 0.04, 0.07)
    verdict = compare_with_record(
        off(0.07), record, Strictness(drift_tolerance=0.2, accuracy_tolerance=None)
    )
    found = verdict.since_anchor
    assert found is not None
    assert found.state is State.PASSED
    assert found.cautions == ("drift tolerance 0.2 instead of 0.04.",)
    assert verdict.cautions == ("accuracy tolerance off instead of 0.02.",)


def test_unchanged_models_hardly_ever_drift() -> None:
    """On 60 unchanged pairs of 500 items, the paired comparison fails at most twice."""
    failures = 0
    for seed in range(60):
        logits, labels = four_way(500, seed)
        rng = np.random.default_rng(seed)
        runs = [
            Predictions.from_logits(
                0.9 * (logits + 0.3 * rng.standard_normal(logits.shape)), labels
            )
            for _ in range(2)
        ]
        failures += compare(*runs, **DEFAULT.since_anchor().arguments()).state is State.REGRESSED
    assert failures <= 2


# --- moving it ----------------------------------------------------------------------------------


def test_the_anchor_moves_to_what_is_stored_not_to_the_run(tmp_path: Path) -> None:
    """A run that passes moves the anchor to the record: a lucky run becomes no reference."""
    walked(tmp_path, 0.01, 0.04, 0.07)
    v = run(tmp_path, off(0.08), anchor="v2 is the reference")
    assert v.state is State.PASSED
    assert v.since_anchor.state is State.RECORDED
    assert v.since_anchor.reason == "anchored: v2 is the reference"
    record = Baselines(tmp_path).load("exact")
    assert (record.steps, record.anchor["model"]) == (0, "off-by-0.07")
    assert record.anchor["reason"] == "v2 is the reference"
    assert compare_with_record(off(0.08), record, DEFAULT).since_anchor is None


def test_accepting_and_anchoring_in_one_run(tmp_path: Path) -> None:
    """What is accepted becomes the anchor; the verdict says both reasons."""
    walked(tmp_path, 0.01, 0.04)
    v = run(tmp_path, off(0.3), accept="v3", anchor="new data")
    assert (v.state, v.reason) == (State.RECORDED, "accepted: v3; anchored: new data")
    assert v.since_anchor is None
    record = Baselines(tmp_path).load("exact")
    assert (record.steps, record.anchor["model"]) == (0, "off-by-0.3")
    assert [step["reason"] for step in record.superseded] == ["v3", "to 0.04"]


def test_a_run_that_fails_moves_no_anchor(tmp_path: Path) -> None:
    """Without accepting, a regression leaves everything as it is, to the byte."""
    path = walked(tmp_path, 0.01, 0.04).path
    before = path.read_bytes()
    assert run(tmp_path, off(0.3), anchor="no").state is State.REGRESSED
    assert path.read_bytes() == before


def test_moving_it_to_where_it_is_writes_nothing(tmp_path: Path) -> None:
    """The record is the anchor already."""
    path = walked(tmp_path, 0.01).path
    drafts: list[Draft] = []
    store = Baselines(tmp_path, policy=Policy(anchor="why"), submit=drafts.append)
    assert compare_with_stored(off(0.01), store, DEFAULT).since_anchor is None
    assert (drafts, path.exists()) == ([], True)


def test_what_is_not_comparable_starts_a_new_count(tmp_path: Path) -> None:
    """From other questions, no drift can be counted: what is accepted is its own anchor."""
    walked(tmp_path, 0.01, 0.04)
    other = replace(off(0.2), signature=Signature({"shots": "5"}))
    assert run(tmp_path, other, accept="five shots").state is State.RECORDED
    record = Baselines(tmp_path).load("exact")
    assert (record.steps, record.anchor["items"]) == (0, record.data["items"])
    assert record.anchor["reason"] == "five shots"


def test_a_limit_from_a_baseline_moves_it_too(tmp_path: Path) -> None:
    """A run whose only comparison is with the stored ECE counts from what is stored."""
    walked(tmp_path, 0.01, 0.04, 0.07)
    store = Baselines(tmp_path, policy=Policy(anchor="here"))
    v = compare_ece_with_stored(off(0.07), store, DEFAULT, bins=15)
    assert v.since_anchor is not None
    assert (v.state, v.since_anchor.state) == (State.PASSED, State.RECORDED)
    assert Baselines(tmp_path).load("exact").steps == 0


def test_a_run_without_the_items_of_the_anchor_says_so(tmp_path: Path) -> None:
    """Where too few of them are left, drift is not judged, and a caution says what to do."""
    full, part = off(0.01), np.arange(2000) >= 60
    Baselines(tmp_path).record(full)
    for gap in (0.04, 0.07):
        Baselines(tmp_path).record(off(gap).take(np.flatnonzero(part)), reason="step")
    record = Baselines(tmp_path).load("exact")
    assert record.steps == 2
    v = compare_with_record(off(0.07).take(np.flatnonzero(part)[:1860]), record, DEFAULT)
    assert (v.state, v.since_anchor) == (State.PASSED, None)
    assert v.cautions[-1].startswith(
        "drift since the anchor is not judged: only 93 % of the anchor"
    )


# --- records made before ------------------------------------------------------------------------


def test_a_record_made_before_says_once_that_drift_is_not_judged(tmp_path: Path) -> None:
    """With steps accepted, the items of the first record are gone: one caution, and what to do."""
    path = walked(tmp_path, 0.01, 0.04, 0.07).path
    without_items(path)
    record = Baselines(tmp_path).load("exact")
    assert (record.anchor_items, record.steps) == (None, 2)
    v = compare_with_record(off(0.07), record, DEFAULT)
    assert v.since_anchor is None
    assert v.cautions == (
        "drift over 2 accepted steps is not judged: the baseline was made before the items of the "
        "first record were kept; --calibration-anchor=REASON counts it from what is stored now.",
    )
    run(tmp_path, off(0.11), accept="another")
    assert Baselines(tmp_path).load("exact").anchor_items is None
    run(tmp_path, off(0.11), anchor="from here")
    record = Baselines(tmp_path).load("exact")
    assert record.anchor_items is not None
    assert compare_with_record(off(0.11), record, DEFAULT).cautions == ()


def test_a_first_record_made_before_keeps_its_items_when_it_is_replaced(tmp_path: Path) -> None:
    """It is the anchor itself, so its items are there."""
    path = walked(tmp_path, 0.01).path
    without_items(path)
    run(tmp_path, off(0.04), accept="one")
    record = Baselines(tmp_path).load("exact")
    assert record.anchor_items is not None
    np.testing.assert_array_equal(record.anchor_items.correct, off(0.01).correct)
    assert (record.steps, record.anchor["reason"]) == (1, "recorded first")


def test_a_token_probe_keeps_the_sample_of_its_anchor(tmp_path: Path) -> None:
    """The anchor of a token-level probe holds the sample that its record held."""
    first = replace(off(0.01, each=6000), unit="token")
    Baselines(tmp_path).record(first)
    Baselines(tmp_path).record(replace(off(0.04, each=6000), unit="token"), reason="step")
    found = Baselines(tmp_path).load("exact").anchor_items
    assert found is not None
    np.testing.assert_array_equal(found.item_ids, items_of(first).item_ids)
