"""Checkpoints as a training run leaves them: in shards, merged, of an adapter, or half written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import quietly

pytest.importorskip("torch")

from pytest_calibration.errors import ModelError
from pytest_calibration.history.checkpoints import Checkpoint, checkpoint_of, checkpoints
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model
from pytest_calibration.probes.facts import Facts

pytestmark = pytest.mark.torch


def saved_state(folder: Path, step: int) -> None:
    """Save the state of a Trainer as transformers does."""
    from transformers import TrainerState

    TrainerState(global_step=step, epoch=step / 100).save_to_json(
        str(folder / "trainer_state.json")
    )


def answers(folder: Path | str, **options: Any) -> list[float]:
    """The confidences of a checkpoint on a few facts."""
    predictions = Facts().run(load_model(str(folder), device="cpu", **options), limit=5)
    return list(predictions.confidence.tolist())


def test_checkpoints_of_every_form_are_read(
    tmp_path: Path, copy: Path, adapters: dict[str, Path]
) -> None:
    """Whole, in shards, of an adapter alone and merged into its base; in order of their steps."""
    from transformers import AutoModelForCausalLM

    run = tmp_path / "sft"
    whole = Path(shutil.copytree(copy, run / "checkpoint-1000"))
    saved_state(whole, 1000)
    shards = Path(shutil.copytree(copy, run / "checkpoint-900"))
    (shards / "model.safetensors").unlink()
    with quietly():
        AutoModelForCausalLM.from_pretrained(copy).save_pretrained(shards, max_shard_size="50KB")
    adapter = Path(shutil.copytree(adapters["adapter"], run / "checkpoint-20"))
    saved_state(adapter, 20)
    Path(shutil.copytree(adapters["merged"], run / "checkpoint-30" / "merged"))
    assert (shards / "model.safetensors.index.json").is_file()
    names = ["checkpoint-20", "checkpoint-30", "checkpoint-900", "checkpoint-1000"]
    assert checkpoints(run) == [str(run / name) for name in names]
    assert checkpoint_of(adapter) == Checkpoint(str(adapter), 20, 0.2)
    assert checkpoint_of(run / "checkpoint-30" / "merged").step == 30
    assert answers(shards) == answers(whole)
    merged = answers(run / "checkpoint-30" / "merged")
    assert answers(adapter) == pytest.approx(merged, abs=1e-5)


LACKING = {
    "weights": ("model.safetensors", None),
    "the end of its weights": ("model.safetensors", slice(0, 3000)),
    "all of its weights": ("model.safetensors", slice(0, 0)),
    "the end of its configuration": ("config.json", slice(0, 40)),
    "its configuration": ("config.json", None),
    "a tokenizer": ("tokenizer.json", None),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_checkpoint_that_is_half_written_is_told(copy: Path, lacking: str) -> None:
    """In one sentence, which says that it lacks what a Trainer writes last."""
    run = copy.parent / "run"
    (run / "checkpoint-300").mkdir(parents=True)
    saved_state(run / "checkpoint-300", 300)
    half = copy.rename(run / "checkpoint-400")
    name, part = LACKING[lacking]
    content = (half / name).read_bytes()
    (half / name).unlink()
    if part is not None:
        (half / name).write_bytes(content[part])
    (half / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError) as caught:
        answers(half)
    told = str(caught.value)
    assert "\n" not in told
    assert "checkpoint-400" in told
    assert told.endswith(
        "; trainer_state.json, which a Trainer writes last, is not there yet: test it again when "
        "it is whole."
    )
    assert checkpoints(run) == [str(run / "checkpoint-300"), str(half)]


@pytest.mark.parametrize("cached", [False, True], ids=["no-cache", "cache"])
def test_a_checkpoint_that_is_removed_is_told(copy: Path, tmp_path: Path, cached: bool) -> None:
    """By a running job, after it was named and before it is read."""
    model = load_model(str(copy), device="cpu", cache=Cache(tmp_path / "cache") if cached else None)
    shutil.rmtree(copy)
    with pytest.raises(ModelError, match=r"was removed before it was read.*save_total_limit"):
        Facts().run(model, limit=5)
