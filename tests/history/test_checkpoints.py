"""Which state of a training run a model is, and checkpoints in order of their steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import checkpoints
from pytest_calibration.errors import UsageError
from pytest_calibration.history.checkpoints import (
    Checkpoint,
    checkpoint_of,
    in_order,
    natural_key,
    run_of,
)


def make(folder: Path, state: object = None, *files: str) -> Path:
    """Make a checkpoint: the state of its Trainer, if it has one, and empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).touch()
    if state is not None:
        text = state if isinstance(state, str) else json.dumps(state)
        (folder / "trainer_state.json").write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("runs/sft/checkpoint-400", {"step": 400}),
        ("runs/sft/checkpoint-400/", {"step": 400}),
        ("step_400", {"step": 400}),
        ("step400", {"step": 400}),
        ("runs/global_step400", {"step": 400}),
        ("iter_0000400", {"step": 400}),
        ("ckpt-7", {"step": 7}),
        ("epoch-3", {"epoch": 3.0}),
        ("epoch_2.5", {"epoch": 2.5}),
        ("Epoch3", {"epoch": 3.0}),
        ("checkpoint-epoch-3", {"epoch": 3.0}),
        ("epoch=3-step=1200", {"step": 1200, "epoch": 3.0}),
        ("checkpoint-400-merged", {"step": 400}),
        ("runs/checkpoint-400/merged", {"step": 400}),
        ("global_step_40/actor/huggingface", {"step": 40}),
        ("EleutherAI/pythia-70m@step143000", {"revision": "step143000", "step": 143000}),
        (
            "allenai/OLMo-7B@step1000-tokens4B",
            {"revision": "step1000-tokens4B", "step": 1000, "tokens": 4 * 10**9},
        ),
        ("EleutherAI/pythia-70m@main", {"revision": "main"}),
        ("EleutherAI/pythia-70m", {}),
        ("runs/base", {}),
        ("runs/misstep-4", {}),
        ("runs/step-10k", {}),
        ("checkpoint-100/sft", {}),
        ("", {}),
    ],
)
def test_a_name_tells_the_step(text: str, known: dict[str, Any]) -> None:
    """Of a directory or a revision, as far as it is one of a checkpoint."""
    location = text.partition("@")[0]
    assert checkpoint_of(text, order=5) == Checkpoint(location, **known, order=5)


def test_the_state_of_a_trainer_wins_over_the_name(tmp_path: Path) -> None:
    """Step, epoch, and the tokens where it counts them; what it lacks, the name tells."""
    state = {"global_step": 500, "epoch": 1.25, "num_input_tokens_seen": 3200}
    folder = make(tmp_path / "checkpoint-400", state)
    assert checkpoint_of(folder) == Checkpoint(str(folder), 500, 1.25, 3200)
    make(folder, {"epoch": 2})
    assert checkpoint_of(folder) == Checkpoint(str(folder), 400, 2.0)


def test_tokens_are_counted_in_the_log_of_trl(tmp_path: Path) -> None:
    """The Trainer itself counts 0 unless it is asked to."""
    log = [{"step": 1, "num_tokens": 10.0}, {"step": 2, "num_tokens": 30.0}, {"eval_loss": 1.0}]
    state = {"global_step": 2, "num_input_tokens_seen": 0, "log_history": log}
    assert checkpoint_of(make(tmp_path / "checkpoint-2", state)).tokens == 30


@pytest.mark.parametrize(
    "state",
    [
        "",
        '{"global_step": 4',
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        {"global_step": None, "epoch": "x", "log_history": 3},
        {"global_step": -1, "epoch": float("nan"), "log_history": [None, {"num_tokens": []}]},
        {"global_step": True, "epoch": 1e999, "num_input_tokens_seen": 10**30},
    ],
)
def test_a_damaged_state_leaves_the_name(tmp_path: Path, state: object) -> None:
    """A checkpoint that is half written, or edited, is still one of its step."""
    folder = make(tmp_path / "checkpoint-400", state)
    assert checkpoint_of(folder) == Checkpoint(str(folder), 400)


def test_what_a_state_cannot_be_leaves_the_name(tmp_path: Path) -> None:
    """A folder in its place, and a pointer of Git LFS."""
    folder = make(tmp_path / "checkpoint-400")
    (folder / "trainer_state.json").mkdir()
    assert checkpoint_of(folder).step == 400
    other = make(tmp_path / "epoch-2", "version https://git-lfs.github.com/spec/v1\n")
    assert checkpoint_of(other).epoch == 2.0


def test_an_inner_folder_is_of_the_checkpoint_around_it(tmp_path: Path) -> None:
    """Programs put merged weights into the checkpoint of an adapter."""
    inner = make(make(tmp_path / "out", {"global_step": 70}) / "merged")
    assert checkpoint_of(inner).step == 70


def test_a_directory_wins_over_a_revision(tmp_path: Path) -> None:
    """As in every text of a model."""
    folder = make(tmp_path / "org" / "model@step5")
    assert checkpoint_of(folder) == Checkpoint(str(folder), 5)


# --- in order ------------------------------------------------------------------------------------


def test_checkpoints_of_a_folder_are_in_order_of_steps(tmp_path: Path) -> None:
    """Sharded, merged, of an adapter alone and half written ones; nothing else is among them."""
    run = tmp_path / "sft"
    make(run / "checkpoint-1000", {"global_step": 1000}, "config.json", "model.safetensors")
    make(run / "checkpoint-900", None, "config.json", "model.safetensors.index.json")
    make(run / "checkpoint-50", None)
    make(run / "lora", {"global_step": 70}, "adapter_config.json", "adapter_model.safetensors")
    make(run / "checkpoint-400-merged", None, "config.json")
    make(run / "final", None, "config.json")
    for other in ("logs", "tmp-checkpoint-1100", ".cache", "_step_3", "runs/Nov27"):
        make(run / other, None, "config.json" if other != "logs" else "events.out.tfevents.1")
    (run / "checkpoint-7").touch()
    names = ["checkpoint-50", "lora", "checkpoint-400-merged", "checkpoint-900", "checkpoint-1000"]
    assert checkpoints(run) == [str(run / name) for name in [*names, "final"]]
    assert checkpoints(str(run)) == checkpoints(run)


def test_epochs_order_what_has_no_step(tmp_path: Path) -> None:
    """And the natural order what has neither."""
    for name in ("epoch-10", "epoch-9", "epoch-2.5"):
        make(tmp_path / name)
    names = ["epoch-2.5", "epoch-9", "epoch-10"]
    assert [Path(path).name for path in checkpoints(tmp_path)] == names


def test_paths_are_as_the_folder_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that ids of tests are the same on every machine."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "step-1")
    assert checkpoints("runs") == [str(Path("runs", "step-1"))]


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    """A parametrised test would be none at all."""
    make(tmp_path / "logs")
    with pytest.raises(UsageError, match=r"none is there; a checkpoint is a folder with config\."):
        checkpoints(tmp_path)
    with pytest.raises(UsageError, match=r"there is no such directory; \S+ holds 'logs'\."):
        checkpoints(tmp_path / "log")
    with pytest.raises(UsageError, match="there is no such directory"):
        checkpoints("a\0b")


def test_runs_stay_together(tmp_path: Path) -> None:
    """Steps order the checkpoints of one folder, and names the folders."""
    names = ["dpo/step-9", "dpo/step-10", "sft/step-1", "sft/step-2"]
    paths = [str(make(tmp_path / name)) for name in reversed(names)]
    assert in_order(paths) == [str(tmp_path / name) for name in names]


ORDER = ["step-3", "step-20", "epoch-1", "epoch-2.5", "epoch-10", "a-1", "a-2", "a-10", "b"]


@given(st.permutations(ORDER))
def test_the_order_does_not_hang_on_the_order_given(names: list[str]) -> None:
    """A system lists a folder in any order."""
    assert in_order(names) == ORDER


def test_natural_order_takes_digits_for_numbers() -> None:
    """Of any length, and beside text."""
    names = ["a2b", "a10", "a", "a2", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a2", "a2b", "a10"]


@pytest.mark.parametrize(
    ("model", "revision", "run"),
    [
        ("runs/sft/checkpoint-4", "", "runs/sft"),
        ("runs/sft/checkpoint-4/merged", "", "runs/sft"),
        ("checkpoint-4", "", "."),
        ("runs/sft", "", ""),
        ("EleutherAI/pythia-70m", "step4", "EleutherAI/pythia-70m"),
        ("EleutherAI/pythia-70m", "main", ""),
    ],
)
def test_checkpoints_of_a_run_share_it(model: str, revision: str, run: str) -> None:
    """The folder above, or the name on the hub."""
    assert run_of(model, revision) == run


def test_to_order_checkpoints_loads_nothing_heavy() -> None:
    """It is done at collection, and before."""
    code = "import pytest_calibration, sys; pytest_calibration.checkpoints; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "yaml", "torch", "transformers", "msgspec"} & {*done.stdout.split()}
