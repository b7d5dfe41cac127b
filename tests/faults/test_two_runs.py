"""Two runs on one folder at once; of two that record, one writes: ``test_option_record.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import HISTORY, Project

from pytest_calibration import Predictions
from pytest_calibration.baselines import Baselines, record
from pytest_calibration.baselines.store import remove_record
from pytest_calibration.history.file import History


def answers(hits: int) -> Predictions:
    """Answers of which so many are right."""
    return Predictions.from_confidence([0.5] * 9, [i < hits for i in range(9)], probe="facts")


@pytest.mark.parametrize("replaced", ["replaced", "removed"])
def test_what_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: str
) -> None:
    """The items go with the record that named them: a gate neither fails nor mixes the two."""
    store = Baselines(tmp_path)
    for hits in (1, 2):
        store.record(answers(hits), reason="new")
    read = record._read_items
    times = []

    def meanwhile(*arguments: Any) -> Predictions:
        times.append(arguments)
        if len(times) == 1:
            if replaced == "removed":
                remove_record(store.path_of("facts"))
            else:
                store.record(answers(3), reason="newer")
        return read(*arguments)

    monkeypatch.setattr(record, "_read_items", meanwhile)
    found = store.find("facts")
    if replaced == "removed":
        assert found is None
    else:
        assert found is not None
        assert found.metrics["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
        assert int(found.predictions.correct.sum()) == 3


def test_what_is_damaged_is_told_though_others_write_beside_it(tmp_path: Path) -> None:
    """It is not read again and again: only a record that changes is."""
    store = Baselines(tmp_path)
    path = store.record(answers(1))
    for items in tmp_path.glob("*.npz"):
        items.unlink()
    with pytest.raises(record.UnreadableBaseline, match="is missing; restore it"):
        store.find("facts")
    assert path.exists()


@pytest.mark.faults
def test_runs_that_gate_while_others_accept_read_whole_records(tmp_path: Path) -> None:
    """Two runs accept in turns, two gate: no record is unreadable, and the history has all."""
    project = Project(tmp_path / "project")
    code, output = project.run(*project.arguments("base", "--calibration-record"))
    assert code == 0, output
    for turn in range(3):
        runs = [
            project.start(*project.arguments("hot", "--calibration-accept=new")),
            project.start(*project.arguments("base", "--calibration-accept=new")),
            project.start(*project.arguments("hot")),
            project.start(*project.arguments("base", "-n", "2")),
        ]
        outputs = [run.communicate(timeout=600)[0] for run in runs]
        for output in outputs:
            for wrong in ("is missing", "cannot be read", "Traceback", "INTERNALERROR", "damaged"):
                assert wrong not in output, (turn, output)
        # What one replaced the other does not replace again, and says so.
        for run, output in zip(runs[:2], outputs[:2], strict=True):
            changed = "was changed by another process" in output
            assert run.returncode == 1 if changed else run.returncode in (0, 1), output
            # Small steps that add up are red, too.
            assert run.returncode == 0 or changed or "calibration drifted" in output, output
        assert runs[2].returncode in (0, 1)
        assert project.damage() == []
        assert project.leftovers() == []
    lines = History(project.path / HISTORY).read()
    assert lines.skipped == ()
    assert {line.model for line in lines} == {"toy:base", "toy:hot"}
