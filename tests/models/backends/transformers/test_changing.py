"""Checkpoints that change after they were loaded, and those that are cut off or lack tokens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe, edit_json, new_model, save

pytest.importorskip("torch")

import torch

from pytest_calibration.errors import ModelError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.probes.facts import FactItem, Facts

pytestmark = pytest.mark.torch

TOLD = "was changed while the model was tested, so what was measured is of no one model"


def load(path: Path, **options: Any) -> LazyModel:
    """Name a checkpoint."""
    return load_model(str(path), device="cpu", **options)


def answers(model: LazyModel) -> list[float]:
    """Confidences on a few facts."""
    return list(Facts().run(model, limit=3).confidence.tolist())


def others(file: Path) -> bytes:
    """The same tensors with other numbers, in a file of the same size."""
    content = bytearray(file.read_bytes())
    # The last bytes of a tensor: another float, and a finite one.
    content[-4:] = b"\x00\x00\x80\x3f" if content[-4:] != b"\x00\x00\x80\x3f" else b"\x00" * 4
    return bytes(content)


def in_place(file: Path) -> None:
    """Write into a file, as ``cp`` does; weights in memory may be those of the file."""
    content = others(file)
    with file.open("r+b") as opened:
        opened.write(content)


def anew(file: Path) -> None:
    """Put another file in its place, as training programs do."""
    new = file.with_name("new")
    new.write_bytes(others(file))
    os.replace(new, file)


# --- what changes after it was loaded ------------------------------------------------------------


@pytest.mark.parametrize("change", [in_place, anew])
def test_weights_that_change_are_told_and_not_kept(
    copy: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Every further answer is refused, and no cache has answers of one as those of the other."""
    model = load(copy, cache=Cache(tmp_path / "cache"))
    model.load()
    change(copy / "model.safetensors")
    with pytest.raises(ModelError, match=rf"^copy: .*model\.safetensors {TOLD}; test it again"):
        answers(model)
    again = load(copy, cache=Cache(tmp_path / "cache"))
    assert answers(again) == answers(load(copy))
    assert again.use.loads == 1


@pytest.mark.parametrize("part", ["adapter", "base"])
def test_an_adapter_that_changes_is_told(
    adapters: dict[str, Path], tmp_path: Path, part: str
) -> None:
    """And so is the model under it."""
    base = Path(shutil.copytree(adapters["base"], tmp_path / "base"))
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    model = load(adapter)
    model.load()
    name = "adapter_model" if part == "adapter" else "model"
    anew({"adapter": adapter, "base": base}[part] / f"{name}.safetensors")
    with pytest.raises(ModelError, match=TOLD):
        answers(model)


def test_a_checkpoint_that_is_removed_after_it_was_loaded_is_tested(copy: Path) -> None:
    """A job that keeps few checkpoints may remove it: what is in memory stays as it was."""
    before = answers(load(copy))
    model = load(copy)
    model.load()
    shutil.rmtree(copy)
    assert answers(model) == before


def test_a_tokenizer_that_is_removed_after_it_was_loaded_is_tested(copy: Path) -> None:
    """It was read; before, it is missing."""
    model = load(copy)
    model.load()
    (copy / "tokenizer.json").unlink()
    assert len(answers(model)) == 3
    with pytest.raises(ModelError, match="tokenizer"):
        answers(load(copy))


def test_rights_and_names_may_change(copy: Path) -> None:
    """A copy by hard links, or other rights, are not other content."""
    model = load(copy)
    model.load()
    os.link(copy / "model.safetensors", copy.parent / "link")
    (copy / "model.safetensors").chmod(0o400)
    assert len(answers(model)) == 3


# --- what is cut off -----------------------------------------------------------------------------


def test_weights_that_are_cut_off_anywhere_are_told(copy: Path) -> None:
    """In the length of the header, in it, after it, and at the last byte of the numbers."""
    file = copy / "model.safetensors"
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    for size in (0, 1, 7, 8, 9, 8 + header // 2, 8 + header - 1, 8 + header, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(ModelError) as caught:
            load(copy).load()
        told = str(caught.value)
        assert told.startswith(f"cannot load directory {str(copy)!r}: "), size
        assert told.endswith(".")
        assert "\n" not in told
    file.write_bytes(content)
    assert len(answers(load(copy))) == 3


def test_a_shard_that_is_missing_or_cut_off_is_told(copy: Path) -> None:
    """By its name."""
    content = (copy / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    shard = "model-00001-of-00001.safetensors"
    names = {name: shard for name in header if name != "__metadata__"}
    index = {"metadata": {"total_size": len(content)}, "weight_map": names}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model.safetensors").rename(copy / shard)
    assert len(answers(load(copy))) == 3
    (copy / shard).write_bytes(content[:5000])
    with pytest.raises(ModelError, match="cannot load directory"):
        load(copy).load()
    (copy / shard).unlink()
    with pytest.raises(ModelError, match=shard):
        load(copy).load()


# --- what lacks tokens, or numbers ---------------------------------------------------------------


def test_a_tokenizer_without_special_tokens_reads_the_same(neox: Path, copy: Path) -> None:
    """Without tokens for start, end, padding and the unknown, which no score needs."""
    settings = json.loads((copy / "tokenizer_config.json").read_text("utf-8"))
    kept = {key: value for key, value in settings.items() if not key.endswith("_token")}
    (copy / "tokenizer_config.json").write_text(json.dumps(kept))
    (copy / "special_tokens_map.json").unlink(missing_ok=True)
    whole, bare = load(neox).load(), load(copy).load()
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        assert getattr(bare.tokenizer, name) is None
    assert answers(load(copy)) == answers(load(neox))
    texts = ["The city of Oslo is the capital.", "Water boils"]
    for one, other in zip(bare.next_token(texts), whole.next_token(texts), strict=True):
        assert one.target_logprob.tolist() == other.target_logprob.tolist()
    written = [m.generate(texts, max_new_tokens=[3, 3]) for m in (bare, whole)]
    assert [one.text for one in written[0]] == [one.text for one in written[1]]


def test_numbers_that_fail_on_one_item_alone_fail_the_probe(tmp_path: Path) -> None:
    """It is named; the others can be asked."""
    model, tokenizer = new_model("gpt_neox"), bpe()
    (bad,) = set(tokenizer.encode(" Norway")) - set(tokenizer.encode(" the city of France is"))
    with torch.no_grad():
        model.get_input_embeddings().weight[bad] = torch.nan
    path = save(tmp_path / "broken", model, tokenizer)
    probe = Facts("own")
    probe.items = [FactItem("The city of France is", "Paris"), FactItem("in Norway is", "Oslo")]
    with pytest.raises(ModelError, match="broken: not a finite score in 'in Norway is Oslo'"):
        probe.run(load(path))
    probe.items = probe.items[:1]
    assert probe.run(load(path)).n == 1
