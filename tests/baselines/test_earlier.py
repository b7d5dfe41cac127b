"""Records that earlier versions of this package wrote, byte for byte, are read and replaced.

Each was made by the code of the commit named here, from the same 60 items: recorded, and then, but
for the first, accepted twice.

=====================  =======
no-sharpness           84881bd
no-sharpness-first     84881bd
spelled-checksum       3a66a6d
anchor-without-items   236876a
=====================  =======
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pytest_calibration.baselines import Baselines, Policy, Record
from pytest_calibration.baselines.check import compare_with_stored
from pytest_calibration.baselines.record import checksum
from pytest_calibration.errors import UnreadableBaseline
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import DEFAULT
from pytest_calibration.predictions import Predictions

EARLIER = Path(__file__).parent / "earlier"
LAYOUTS = sorted(path.name for path in EARLIER.iterdir())


def the_items(steps: int) -> Predictions:
    """The items that the records were made of, after so many accepted steps."""
    draws = np.random.default_rng(5)
    confidence = np.round(draws.uniform(0.3, 1, 60), 4)
    correct = draws.uniform(size=60) < confidence
    for _ in range(steps):
        confidence = np.clip(confidence + 0.001, 0, 1)
    return Predictions.from_confidence(confidence, correct, probe="facts")


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a record of an earlier layout."""
    return Path(shutil.copytree(EARLIER / request.param, tmp_path / request.param))


def steps_of(folder: Path) -> int:
    """How often the record was accepted."""
    return 0 if folder.name.endswith("first") else 2


def same_items(record: Record, expected: Predictions) -> bool:
    """Whether a record holds these items, as float32."""
    stored = record.predictions
    return (
        np.array_equal(stored.item_ids, expected.item_ids)
        and np.array_equal(stored.confidence, expected.confidence.astype(np.float32))
        and np.array_equal(stored.correct, expected.correct)
    )


def test_it_is_read_as_it_was_meant(folder: Path) -> None:
    """Items, numbers and history are those that were recorded, and no file changes."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    record, expected = Baselines(folder).load("facts"), the_items(steps_of(folder))
    assert same_items(record, expected)
    assert record.n == 60
    assert record.steps == len(record.superseded) == steps_of(folder)
    # The share of answers with a confidence of at least 0.9.
    assert record.sharpness.share_confident == pytest.approx(
        np.mean(expected.confidence >= 0.9), abs=1e-6
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert Baselines(folder).probes() == ["facts"]


def test_the_gate_holds_against_it(folder: Path) -> None:
    """The same items are comparable; accepting others writes the layout of today."""
    same = compare_with_stored(the_items(steps_of(folder)), Baselines(folder), DEFAULT)
    # 60 items are too few to see a small worsening.
    assert same.state is State.INCONCLUSIVE
    assert same.difference == pytest.approx(0, abs=1e-6)
    worse = the_items(steps_of(folder) + 300)
    store = Baselines(folder, policy=Policy(accept="new data"))
    assert compare_with_stored(worse, store, DEFAULT).state is State.RECORDED
    record = Baselines(folder).load("facts")
    assert same_items(record, worse)
    assert record.superseded[0]["reason"] == "new data"
    assert record.steps == steps_of(folder) + 1
    assert "sharpness" in record.data


def test_an_edit_of_it_is_noticed(folder: Path) -> None:
    """Its own checksum still covers what it says."""
    path = folder / "facts.yaml"
    path.write_text(path.read_text("utf-8").replace("n: 60", "n: 61", 1), "utf-8")
    with pytest.raises(UnreadableBaseline, match="the checksum does not fit"):
        Baselines(folder).load("facts")


def test_a_field_of_today_may_not_be_left_out(tmp_path: Path) -> None:
    """A record of this version without a field that earlier ones lack is refused."""
    Baselines(tmp_path).record(the_items(0))
    path = tmp_path / "facts.yaml"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(one for one in lines if not one.startswith("sharpness")), "utf-8")
    with pytest.raises(UnreadableBaseline, match="the checksum does not fit"):
        Baselines(tmp_path).load("facts")


def test_items_of_an_anchor_that_are_gone_are_named(tmp_path: Path) -> None:
    """Also where the record lacks a field of today: what it is read as is not what is stored."""
    Baselines(tmp_path).record(the_items(0))
    (first,) = (path for path in tmp_path.iterdir() if path.suffix == ".npz")
    store = Baselines(tmp_path, policy=Policy(accept="new data"))
    compare_with_stored(the_items(300), store, DEFAULT)
    data = yaml.safe_load((tmp_path / "facts.yaml").read_text("utf-8"))
    del data["sharpness"]
    data["checksum"] = checksum(data)
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(data), "utf-8")
    assert Baselines(tmp_path).load("facts").n == 60
    first.unlink()
    with pytest.raises(UnreadableBaseline, match="anchor"):
        Baselines(tmp_path).load("facts")
