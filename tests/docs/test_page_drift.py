"""The blocks of the page on drift, on histories whose calibration is known and on stand-ins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from console import Console
from documents import Section, agrees
from fakes import FakeModel
from histories import at_gap, write_history

from pytest_calibration import Baselines, assert_no_regression
from pytest_calibration.models import running_job

GAPS = {100: 0.03, 200: 0.05, 300: 0.08, 400: 0.12}


class Loaded(FakeModel):
    """What stands for a checkpoint; a later one is surer of itself."""

    notes = ()

    def __init__(self, spec: Any, *_: Any, **__: Any) -> None:
        text = str(getattr(spec, "text", spec))
        step = re.search(r"checkpoint-(\d+)", text)
        super().__init__(Path(text).name, sharpen=int(step[1]) / 1e5 if step else 0.0)

    def release(self) -> None:
        """Hold nothing."""


@pytest.fixture
def checkpoints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve checkpoints of a run beside its base, of which none is a real one."""
    for step in range(100, 1300, 100):
        (folder / f"runs/sft/checkpoint-{step}").mkdir(parents=True)
    (folder / "runs/base").mkdir()
    (folder / "calibration.yaml").write_text("probes: {facts: {limit: 300}}\n", "utf-8")
    monkeypatch.setattr("pytest_calibration.models.loading.load_model", Loaded)
    monkeypatch.setattr("pytest_calibration.load_model", Loaded, raising=False)
    return folder


@pytest.mark.usefixtures("gate", "checkpoints")
def test_a_history_is_written_and_read(section: Section, console: Console) -> None:
    """The run adds a line for each model; its keys are those shown, and Python reads it."""
    command, line, code = section("docs/how-to/drift.md", "The history")
    console.type(command)
    written = json.loads(Path("calibration_history.jsonl").read_text("utf-8").splitlines()[-1])
    assert list(json.loads(line.text)) == list(written)
    known: dict[str, Any] = {}
    exec(code.text, known)
    assert len(known["lines"].lines) == 13
    assert known["history"].predictions(known["lines"].lines[0]) is not None


def test_a_test_of_every_checkpoint(
    section: Section, checkpoints: Path, pytester: pytest.Pytester
) -> None:
    """It runs once for each, in order; what a job removes meanwhile is told in the page's words."""
    code, message = section("docs/how-to/drift.md", "Which checkpoint is this")
    (checkpoints / "test_it.py").write_text(code.text, "utf-8")
    pytester.runpytest_inprocess("test_it.py").assert_outcomes(passed=12)
    source = Path(running_job.__file__).read_text("utf-8")
    for part in ("was removed before it was read", "does that keeps few checkpoints"):
        assert part in message.text
        assert part in source


def test_the_command(
    section: Section, checkpoints: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows a known history as the page does, and reads or measures as the page says."""
    monkeypatch.setenv("COLUMNS", "100")
    pytest.importorskip("matplotlib")
    shown, several = section("docs/how-to/drift.md", "The command")
    write_history(checkpoints / "runs/history.jsonl", GAPS, parent=0.02)
    console.type(shown)
    write_history(checkpoints / "calibration_history.jsonl", GAPS, parent=0.02)
    console.type(several)
    assert (checkpoints / "drift.svg").is_file()


def test_two_models_or_files(section: Section, checkpoints: Path, console: Console) -> None:
    """Each pair is compared as in a test, and the exit code says what came of it."""
    (commands,) = section("docs/how-to/drift.md", "Two models, or two files")
    for name, gap in (("old", 0.02), ("new", 0.12)):
        Baselines(name).record(at_gap(gap)).rename(f"{name}.yaml")
        for items in Path(name).glob("*.npz"):
            items.rename(items.name)
    for name in ("before", "after"):
        rows = at_gap(0.02)
        pairs = zip(rows.confidence.tolist(), rows.correct.tolist(), strict=True)
        lines = (
            json.dumps({"id": i, "confidence": c, "correct": k}) for i, (c, k) in enumerate(pairs)
        )
        Path(f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    console.type(commands, codes=[0, 1, 0])


def test_a_test_of_the_trend(section: Section, folder: Path, pytester: pytest.Pytester) -> None:
    """It passes where nothing moves, and fails where small steps add up."""
    (code,) = section("docs/how-to/drift.md", "The trend")
    (folder / "test_it.py").write_text(code.text, "utf-8")
    (folder / "runs/sft").mkdir(parents=True)
    history = folder / "runs/sft/history.jsonl"
    write_history(history, dict.fromkeys(GAPS, 0.02))
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    history.unlink()
    write_history(history, GAPS)
    pytester.runpytest_inprocess().assert_outcomes(failed=1)


@pytest.mark.usefixtures("gate", "fakes")
def test_accepted_steps(section: Section, folder: Path, console: Console) -> None:
    """Two accepted steps are told as the page tells them, and its commands move the anchor."""
    message, commands = section("docs/how-to/drift.md", "Accepted steps that add up")
    store = Baselines(folder / "store")
    steps = (("base", 0.01, None), ("dpo-v2", 0.05, "DPO v2"), ("dpo-v3", 0.09, "DPO v3"))
    for name, gap, reason in steps:
        store.record(at_gap(gap).with_signature(model=name), reason=reason)
    with pytest.raises(AssertionError) as failure:
        assert_no_regression(at_gap(0.09).with_signature(model="dpo-v3"), store)
    assert agrees(message.text, str(failure.value)), str(failure.value)
    (folder / "calibration.yaml").write_text("probes: {facts: {limit: 300}}\n", "utf-8")
    model = "--calibration-model=base"
    console.pytester.runpytest_inprocess(model, "--calibration-record").assert_outcomes(passed=1)
    console.type(commands, add=[model])
