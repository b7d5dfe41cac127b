"""Checkpoints on disk, made once a session; torch is imported only where they are asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from checkpoints import FAMILIES, bpe, new_model, quietly, save

EXAMPLE: Final = Path(__file__).parents[2] / "example_project"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory per family; the Llama tokenizer puts a token before every text."""
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        family: save(root / family, new_model(family), bpe(family, start=family == "llama"))
        for family in FAMILIES
    }


@pytest.fixture(scope="session")
def example() -> Path:
    """Return the committed example project."""
    if not EXAMPLE.is_dir():
        pytest.skip("the example project is not beside these tests")
    return EXAMPLE


@pytest.fixture(params=[*FAMILIES, "example"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    """Each family in turn, and the trained model of the example project."""
    if request.param == "example":
        path: Path = request.getfixturevalue("example")
        return path / "checkpoints" / "base"
    found: Path = request.getfixturevalue("checkpoints")[request.param]
    return found


@pytest.fixture(scope="session")
def neox(checkpoints: dict[str, Path]) -> Path:
    """Return the GPT-NeoX checkpoint, where one family is enough."""
    return checkpoints["gpt_neox"]


@pytest.fixture
def copy(neox: Path, tmp_path: Path) -> Path:
    """Return a copy of the GPT-NeoX checkpoint that a test may spoil."""
    return Path(shutil.copytree(neox, tmp_path / "copy"))


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, neox: Path) -> dict[str, Path]:
    """A LoRA adapter with random weights, the base beside it, and the two merged into one."""
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root = tmp_path_factory.mktemp("adapters")
    base = Path(shutil.copytree(neox, root / "base"))
    torch.manual_seed(1)
    with quietly():
        wrapped = peft.get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            peft.LoraConfig(
                r=4,
                lora_alpha=8,
                lora_dropout=0.3,
                target_modules=["query_key_value", "dense_h_to_4h"],
                task_type="CAUSAL_LM",
                # Random numbers in B too: an adapter that changes something.
                init_lora_weights=False,
            ),
        )
        wrapped.save_pretrained(root / "adapter")
        merged = wrapped.merge_and_unload()
        save(root / "merged", merged, AutoTokenizer.from_pretrained(base))
    return {"base": base, "adapter": root / "adapter", "merged": root / "merged"}


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Models this small are slower on two threads than on one."""
    if request.node.get_closest_marker("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
