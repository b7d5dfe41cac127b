"""A clock that is set back, between runs or within one: nothing is kept or dropped wrongly."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from histories import at_gap

from pytest_calibration import Predictions, files
from pytest_calibration.files import locked, write_atomically
from pytest_calibration.gate.decision import State
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.drift import judge_drift, series_of
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.models.cache import Cache
from pytest_calibration.reports.dump import read_both, write_dump

YEAR = 365 * 86_400.0


def test_answers_of_a_time_to_come_make_room_for_those_of_now(tmp_path: Path) -> None:
    """Else each new answer would drive out the one before, and none be found again."""
    cache = Cache(tmp_path, limit=10_000)
    for i in range(8):
        cache.put(b"before %d" % i, b"x" * 1000)
        os.utime(cache.path(b"before %d" % i), (time.time() + YEAR,) * 2)
    for i in range(6):
        cache.put(b"now %d" % i, b"y" * 1000)
    assert [cache.get(b"now %d" % i) is not None for i in range(6)] == [True] * 6


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no-locks"])
@pytest.mark.parametrize("ahead", [YEAR, -YEAR], ids=["to-come", "past"])
def test_leftovers_of_any_time_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool, ahead: float
) -> None:
    """Also where the file system has no locks, and their age alone tells."""
    left = tmp_path / ".a.yaml.abcdefgh.tmp"
    left.write_bytes(b"half")
    os.utime(left, (time.time() + ahead,) * 2)
    if not locks:
        monkeypatch.setattr(files, "_lock", lambda *_, **__: False)
    write_atomically(tmp_path / "b.yaml", b"whole")
    assert os.listdir(tmp_path) == ["b.yaml"]


def test_a_dump_of_a_time_to_come_is_of_an_earlier_run(tmp_path: Path) -> None:
    """Its baseline may be another by now; within the clock of a file system it is of this run."""
    made = Predictions.from_confidence([0.5, 0.7], [True, False], probe="facts")
    path = write_dump(tmp_path, made, made)
    os.utime(path, (time.time() + 5,) * 2)
    write_dump(tmp_path, made, since=time.time() - 60)
    assert read_both(path)[1] is not None
    os.utime(path, (time.time() + YEAR,) * 2)
    write_dump(tmp_path, made, since=time.time() - 60)
    assert read_both(path)[1] is None


def test_a_history_goes_by_steps_and_order_alone(tmp_path: Path) -> None:
    """Lines whose times go backwards tell the same drift."""
    told = []
    for direction in (1, -1):
        history = History(tmp_path / f"{direction}.jsonl")
        for step, gap in enumerate((0.0, 0.03, 0.06, 0.09)):
            made = at_gap(gap)
            when = datetime(2026, 6, 1, tzinfo=UTC) + direction * timedelta(days=30 * step)
            place = Checkpoint(f"runs/sft/checkpoint-{step}", step=step)
            line = replace(Line.of(made, checkpoint=place), time=f"{when:%Y-%m-%dT%H:%M:%SZ}")
            history.append(line, made)
        verdict = judge_drift(history, series_of(history, "facts")[0])
        told.append((verdict.state, verdict.steps, repr(verdict.components)))
    assert told[0] == told[1]
    assert told[0][:2] == (State.REGRESSED, (0, 1, 2, 3))


def test_a_lock_waits_by_a_clock_that_is_never_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up after its wait, though the time of day goes backwards at every look."""
    now = iter(-np.arange(1e6))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    with locked(tmp_path), pytest.raises(TimeoutError), locked(tmp_path, wait=0.05):
        pass
