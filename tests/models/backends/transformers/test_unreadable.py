"""Files and texts that no model can be made of, or asked: each is told in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoints import edit_json

pytest.importorskip("torch")

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.transformers_model import (
    TransformersModel,
)
from pytest_calibration.models.loading import load_model
from pytest_calibration.probes.facts import FactItem, Facts

pytestmark = pytest.mark.torch

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n"
TOLD = r"{}.*: a pointer of Git LFS, not the file itself; fetch the files: git lfs pull"


def load(path: Path) -> TransformersModel:
    """Load a checkpoint."""
    model: TransformersModel = load_model(str(path), device="cpu").load()
    return model


# --- pointers of Git LFS -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_checkpoint_that_was_not_fetched_is_told(copy: Path, name: str) -> None:
    """A clone without git-lfs holds pointers in place of weights, tokenizer or settings."""
    (copy / name).write_text(POINTER)
    with pytest.raises(ModelError, match=TOLD.format(name.replace(".", r"\."))):
        load(copy)


def test_shards_that_were_not_fetched_are_told(copy: Path) -> None:
    """Their index is no pointer: it is small."""
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(
        '{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}'
    )
    (copy / "model-00001-of-00001.safetensors").write_text(POINTER)
    with pytest.raises(ModelError, match=TOLD.format("model-00001-of-00001")):
        load(copy)


def test_a_list_of_words_that_was_not_fetched_is_not_taken_for_words(copy: Path) -> None:
    """The three lines of a pointer would be read as a vocabulary of three words."""
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text(POINTER)
    edit_json(copy / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    with pytest.raises(ModelError, match=TOLD.format("vocab.txt")):
        load(copy)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_that_was_not_fetched_is_told(
    adapters: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Neither a missing base nor damaged weights are the reason."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    (adapter / name).write_text(POINTER)
    with pytest.raises(ModelError, match=TOLD.format(name)):
        load(adapter)


def test_a_pointer_that_is_not_needed_keeps_nothing_from_loading(copy: Path) -> None:
    """`git lfs pull --include="*.safetensors"` leaves the others as they are."""
    for name in ("pytorch_model.bin", "training_args.bin", "README.md", "consolidated.safetensors"):
        (copy / name).write_text(POINTER)
    assert load(copy).option_logprobs(["The city"], [[" of", " is"]])[0].shape == (2,)


# --- half a surrogate pair -----------------------------------------------------------------------


@pytest.mark.parametrize("half", ["\ud83d", "\ude00\ud83d"])
def test_half_a_character_is_told_by_its_text(neox: Path, half: str) -> None:
    """The tokenizer's own error, of its arguments' types, names no text."""
    model = load(neox)
    text = f"What is {half}"
    told = "the text 'What is .* holds half a surrogate pair"
    for prompts, options in (([text], [[" a", " b"]]), (["What"], [[" a", text]])):
        with pytest.raises(ModelError, match=told) as caught:
            model.option_logprobs(prompts, options)
        str(caught.value).encode("utf-8")
    with pytest.raises(ModelError, match=told):
        model.next_token(["a", text])
    with pytest.raises(ModelError, match=told):
        model.generate([text], max_new_tokens=[1])


def test_half_a_character_in_an_item_made_in_python_is_told(neox: Path) -> None:
    """Items need not come from a file."""
    probe = Facts("own")
    probe.items = [FactItem("The capital of France \ud83d is", "Paris")]
    with pytest.raises(ModelError, match=r"'The capital of France .*half a surrogate pair"):
        probe.run(load(neox))
