"""Two processes train one model: the first measures, the other waits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import bpe
from trainings import facts_file, tiny

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration import Baselines, Facts
from pytest_calibration.models.backends.transformers.transformers_model import (
    TransformersModel,
)

pytestmark = [pytest.mark.torch, pytest.mark.training]

TRAIN = """
import json, os, sys
from pathlib import Path
from trainings import facts_file, logged, make_trainer
from pytest_calibration import CalibrationCallback, Facts

class Counted(Facts):
    asked = 0
    def run(self, model, *, limit=None):
        self.asked += 1
        if os.environ.get("FAILS") and self.asked == 2:
            raise ValueError("the probe broke")
        return super().run(model, limit=limit)

folder = Path(sys.argv[1])
rank = int(os.environ["RANK"])
trainer = make_trainer(
    folder / "run", metric_for_best_model="calibration_ece", load_best_model_at_end=True,
    per_device_train_batch_size=8, ddp_backend="gloo", save_strategy="best",
)
probe = Counted("codes", path=folder / "codes-1000.jsonl")
stored = folder / "baselines"
CalibrationCallback(
    [probe],
    history=folder / "history.jsonl",
    baseline=stored if stored.is_dir() else None,
    raise_on_regression=stored.is_dir(),
).attach(trainer)
error = ""
try:
    trainer.train()
except BaseException as problem:
    error = f"{type(problem).__name__}: {problem}"
report = {"asked": probe.asked, "logged": logged(trainer), "error": error,
          "best": trainer.state.best_model_checkpoint, "world": trainer.args.world_size,
          "weights": float(sum(w.double().abs().sum() for w in trainer.model.parameters()))}
(folder / f"rank-{rank}.json").write_text(json.dumps(report))
"""


def run_two(folder: Path, **environment: str) -> list[dict]:  # type: ignore[type-arg]
    """Train in two processes, and return what each reports."""
    facts_file(folder)
    script = folder / "train.py"
    script.write_text(TRAIN, "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | environment | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = []
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    paths = [folder / f"rank-{rank}.json" for rank in range(2)]
    assert all(path.exists() for path in paths), "\n".join(outputs)
    return [json.loads(path.read_text()) for path in paths]


def test_one_process_measures_for_both(tmp_path: Path) -> None:
    """Both have the same numbers, choose the same checkpoint, and end with the same weights."""
    first, second = run_two(tmp_path)
    assert first["error"] == second["error"] == ""
    assert first["world"] == 2
    assert (first["asked"], second["asked"]) == (4, 0)
    assert first["logged"] == second["logged"]
    assert list(first["logged"]) == ["20", "40", "60", "80"]
    assert first["best"] == second["best"]
    assert not first["best"].endswith("checkpoint-80")
    assert first["weights"] == second["weights"]
    history = (tmp_path / "history.jsonl").read_text().splitlines()
    assert len(history) == 4


def test_what_stops_the_first_stops_the_other(tmp_path: Path) -> None:
    """The one that waits gets the error of the one that measures, instead of waiting for ever."""
    first, second = run_two(tmp_path, FAILS="1")
    assert first["error"] == "ValueError: the probe broke"
    assert second["error"] == (
        "CalibrationError: the main process stopped: ValueError: the probe broke"
    )


def test_a_regression_stops_both(tmp_path: Path) -> None:
    """The one that waits bears the text of the failure, too."""
    probe = Facts("codes", path=facts_file(tmp_path))
    untrained = TransformersModel.of(tiny(), bpe())
    Baselines(tmp_path / "baselines").record(probe.run(untrained))
    first, second = run_two(tmp_path)
    text = "AssertionError: calibration regressed: probe codes on checkpoint-"
    assert first["error"].startswith(text)
    assert second["error"].startswith(f"CalibrationError: the main process stopped: {text}")
    assert first["logged"] == second["logged"]
