"""Checkpoints that a running job removes, or has not written to the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.running_job import running_job_told


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """A checkpoint of a run, with another one that is whole."""
    folder = tmp_path / "checkpoint-400"
    for one in (folder, tmp_path / "checkpoint-300"):
        one.mkdir()
        for name in ("config.json", "model.safetensors", "trainer_state.json"):
            (one / name).touch()
    return ModelSpec(str(folder), local=True, name="checkpoint-400")


def failing(spec: ModelSpec, problem: Exception, happens: Callable[[], object]) -> str:
    """What is told where something happens to a checkpoint while it is read."""

    def read() -> None:
        with running_job_told(spec):
            happens()
            raise problem

    with pytest.raises((ModelError, type(problem))) as caught:
        read()
    return str(caught.value)


GONE = "as a running job does that keeps few checkpoints (save_total_limit); copy those that are"


@pytest.mark.parametrize("problem", [ModelError(), FileNotFoundError()], ids=["model", "system"])
def test_a_checkpoint_that_vanishes_while_it_is_read_is_told(
    spec: ModelSpec, problem: Exception
) -> None:
    """Whatever the loader says of it."""
    told = failing(spec, problem, lambda: shutil.rmtree(spec.location))
    assert told == (
        f"{spec.location!r}: was removed before it was read (gone: config.json, model.safetensors, "
        f"trainer_state.json), {GONE} tested."
    )


def test_one_that_is_being_removed_is_told(spec: ModelSpec) -> None:
    """Files go one by one."""
    told = failing(spec, ModelError(), lambda: Path(spec.location, "model.safetensors").unlink())
    assert f"before it was read (gone: model.safetensors), {GONE}" in told


def test_one_that_is_gone_already_is_told(spec: ModelSpec) -> None:
    """Between collection and its test."""
    shutil.rmtree(spec.location)
    assert f"before it was read, {GONE}" in failing(spec, ModelError(), lambda: None)


def test_one_that_is_half_written_is_told(spec: ModelSpec) -> None:
    """It lacks what others of its run have, and the loader says what."""
    Path(spec.location, "trainer_state.json").unlink()
    problem = ModelError("no weights.")
    assert failing(spec, problem, lambda: None) == (
        "no weights; trainer_state.json, which a Trainer writes last, is not there yet: test it "
        "again when it is whole."
    )


def test_files_that_programs_work_with_may_go(spec: ModelSpec) -> None:
    """They say nothing of the checkpoint."""
    files = [Path(spec.location, name) for name in (".cache", "model.safetensors.lock", "a.tmp")]
    for file in files:
        file.touch()
    told = failing(spec, ModelError("no weights."), lambda: [file.unlink() for file in files])
    assert told == "no weights."


def test_other_errors_stay_as_they_are(spec: ModelSpec, tmp_path: Path) -> None:
    """Of a checkpoint that is whole, of one whose run has no states, and of the hub."""
    problem = ModelError("no weights.")
    assert failing(spec, problem, lambda: None) == "no weights."
    for file in tmp_path.rglob("trainer_state.json"):
        file.unlink()
    assert failing(spec, problem, lambda: None) == "no weights."
    hub = ModelSpec("EleutherAI/pythia-70m", "step400", name="pythia-70m")
    assert failing(hub, problem, lambda: None) == "no weights."
    assert failing(spec, ValueError("a defect"), lambda: None) == "a defect"


def test_what_can_be_read_is_read(spec: ModelSpec) -> None:
    """Nothing is said where nothing fails, though files are gone."""
    with running_job_told(spec):
        shutil.rmtree(spec.location)
