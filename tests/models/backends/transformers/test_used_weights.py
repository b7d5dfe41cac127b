"""Weights that a checkpoint holds and its model does not use."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe, edit_json, new_model, quietly, save

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402  only where torch is

from pytest_calibration.models.backends.transformers.foreign_code import (  # noqa: E402
    check_kernels,
    kernel_arguments,
)

Weights = dict[str, Any]
Q0 = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def llama(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the Llama checkpoint that a test may spoil; two layers."""
    return Path(shutil.copytree(checkpoints["llama"], tmp_path / "llama"))


def load(folder: Path, **settings: Any) -> LazyModel:
    """Load a checkpoint on the CPU."""
    model = load_model(str(folder), **{"device": "cpu", "dtype": "float32"} | settings)
    model.load()
    return model


def edit(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """Write changed weights in place of those of a checkpoint or an adapter."""
    (file,) = folder.glob("*model.safetensors")
    changed = {name: one.contiguous().clone() for name, one in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})
    return folder


def refused(folder: Path, **settings: Any) -> str:
    """Return why a checkpoint is refused: one sentence of a readable length."""
    with pytest.raises(ModelError) as caught:
        load(folder, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 600
    return text


def scaled(dtype: Any, scale: str, of: str = "proj") -> Callable[[Weights], Weights]:
    """Return a change that stores weights in few bits, with their scales beside them."""

    def change(weights: Weights) -> Weights:
        out: Weights = {}
        for name, one in weights.items():
            out[name] = one
            if of in name and one.ndim == 2:
                step = one.abs().max() / 100
                out[name] = (one / step).round().to(dtype)
                out[name.removesuffix(".weight") + scale] = step.reshape(1)
        return out

    return change


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        ("float8_e4m3fn", ".weight_scale"),
        ("float8_e4m3fn", ".weight_scale_inv"),
        ("float8_e5m2", ".input_scale"),
        ("int8", ".weight_scale"),
        ("int8", ".SCB"),
        ("int8", ".scales"),
        ("float8_e4m3fn", ".scale_weight"),
        ("int8", ".weight.absmax"),
        ("int8", ".weight.quant_state.bitsandbytes__nf4"),
    ],
)
@pytest.mark.parametrize("method", [None, "modelopt"])
def test_scales_that_nothing_applies(
    llama: Path, dtype: str, scale: str, method: str | None
) -> None:
    """Quantised weights without a method that is known are refused, however scales are called."""
    edit(llama, scaled(getattr(torch, dtype), scale))
    if method is not None:
        edit_json(llama / "config.json", quantization_config={"quant_method": method})
    text = refused(llama)
    assert "14 tensors" in text or "28 tensors" in text
    assert "of quantised weights" in text
    assert (f"quant_method '{method}'" if method else "no quantization_config") in text


def test_a_method_that_is_known_is_applied(llama: Path) -> None:
    """Weights in eight bits with their scales are those that they were made of, without a note."""

    def blocks(weights: Weights) -> Weights:
        return scaled(torch.float8_e4m3fn, ".weight_scale_inv")(weights)

    whole = load(llama).option_logprobs(["a"], [[" The", " of"]])[0]
    edit(
        llama,
        lambda weights: {
            n: w.reshape(1, 1) if n.endswith("inv") else w for n, w in blocks(weights).items()
        },
    )
    method = {"quant_method": "fp8", "weight_block_size": [128, 128], "dequantize": True}
    edit_json(llama / "config.json", quantization_config=method)
    model = load(llama)
    assert model.notes == ()
    assert abs(model.option_logprobs(["a"], [[" The", " of"]])[0] - whole).max() < 1.0


def test_weights_packed_in_place_of_the_plain_ones(llama: Path) -> None:
    """GPTQ leaves no weight of the usual name; the reason is told, not only what is lacking."""

    def packed(weights: Weights) -> Weights:
        out = {name: one for name, one in weights.items() if "q_proj" not in name}
        for layer in (0, 1):
            for name in ("qweight", "qzeros", "scales", "g_idx"):
                out[f"model.layers.{layer}.self_attn.q_proj.{name}"] = torch.ones(4, 4)
        return out

    (llama / "quantize_config.json").write_text('{"bits": 4}')
    text = refused(edit(llama, packed))
    assert "holds 8 tensors (first: model.layers.0.self_attn.q_proj.g_idx)" in text


def test_whole_numbers_whose_scales_are_lost(llama: Path) -> None:
    """Weights in int8 are no weights without a scale, which may lie in a file that is not read."""

    def lost(weights: Weights) -> Weights:
        return {
            n: w.mul(9).to(torch.int8) if n == f"{Q0}.weight" else w for n, w in weights.items()
        }

    assert f"1 tensor ({Q0}.weight) of quantised weights" in refused(edit(llama, lost))


def test_eight_bit_floats_without_scales_are_noted(llama: Path) -> None:
    """They may have been cast as they are; a reader is told."""

    def cast(weights: Weights) -> Weights:
        return {n: w.to(torch.float8_e4m3fn) if "proj" in n else w for n, w in weights.items()}

    (note,) = load(edit(llama, cast)).notes
    assert note.startswith("14 tensors (first: model.layers.0.mlp.down_proj.weight) are stored in")


def test_a_method_that_is_not_known_is_noted_where_the_weights_are_whole(llama: Path) -> None:
    """Plain weights under the name of a method may be what they seem, and it is said."""
    edit_json(llama / "config.json", quantization_config={"quant_method": "modelopt"})
    (note,) = load(llama).notes
    assert note.startswith("config.json has quant_method 'modelopt', which transformers")


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "opt"])
@pytest.mark.parametrize("layers", [1, 2])
def test_layers_beyond_the_configuration(tmp_path: Path, family: str, layers: int) -> None:
    """A deeper model's weights beside a shallower one's configuration are refused, with numbers."""
    names = {"gpt2": "n_layer"}
    name = names.get(family, "num_hidden_layers")
    folder = save(tmp_path / "m", new_model(family, **{name: 3}), bpe(family))
    edit_json(folder / "config.json", **{name: layers, "layer_types": None})
    assert f"of {'layers 1 to 2' if layers == 1 else 'layer 2'}, and its" in refused(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{Q0}.lora_A.default.weight", (4, 32)),
        (f"{Q0}.lora_B.weight", (32, 4)),
        (f"{Q0}.lora_magnitude_vector", (32,)),
        ("base_model.model.model.norm.lora_embedding_A", (4, 32)),
        ("lm_head.modules_to_save.default.weight", (360, 32)),
        (f"{Q0}.ia3_l", (32, 1)),
        (f"{Q0}.hada_w1_a", (32, 4)),
        ("prompt_encoder.default.embedding.weight", (3, 32)),
        ("model.layers.0.self_attn.adaption_prompt", (1, 3, 32)),
    ],
)
def test_an_adapter_that_is_not_merged(llama: Path, name: str, shape: tuple[int, ...]) -> None:
    """Adapter tensors within a whole checkpoint are refused: nothing applies them."""
    text = refused(edit(llama, lambda weights: weights | {name: torch.ones(shape)}))
    assert f"holds 1 tensor ({name}) of an adapter that is not merged" in text


def test_layers_wrapped_for_an_adapter(llama: Path) -> None:
    """Where the plain weights are called base_layer, the adapter is the reason that is told."""

    def wrapped(weights: Weights) -> Weights:
        return {n.replace("q_proj.", "q_proj.base_layer."): w for n, w in weights.items()}

    assert "of an adapter that is not merged" in refused(edit(llama, wrapped))


@pytest.mark.parametrize(
    "name",
    [
        f"{Q0}.bias",
        "model.layers.0.self_attn.value_proj.bias",
        "model.layers.0.score.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.shared_expert.up_proj.weight",
        "lm_head.bias",
        "model.norm.bias",
        "model.embed_positions.weight",
        "model.layers.0.self_attn.bias",
    ],
)
def test_a_tensor_that_belongs_into_the_computation(llama: Path, name: str) -> None:
    """Biases, norms, experts and positions that the configuration does not ask for are refused."""
    text = refused(edit(llama, lambda weights: weights | {name: torch.ones(32)}))
    assert f"holds 1 tensor ({name}) that the model of its config.json has no place for" in text


@pytest.mark.parametrize(
    "name",
    [
        "model.visual.blocks.0.weight",
        "model.vision_tower.layers.7.weight_scale",
        "multi_modal_projector.linear.bias",
        "other_part.weight",
        # Of a cache that only servers quantise.
        "model.layers.0.self_attn.k_proj.k_scale",
        "model.layers.1.self_attn.attn.v_scale",
        "model.layers.1.self_attn.v_proj.output_scale",
    ],
)
def test_a_part_beside_the_model_is_noted(llama: Path, name: str) -> None:
    """A tower for pictures, or a part that is not known: named, and not refused."""
    model = load(edit(llama, lambda weights: weights | {name: torch.ones(4, 4)}))
    assert model.notes == (f"not used: 1 tensor ({name}) of the checkpoint",)
    assert list(model.notes) == model.load().notes


def test_a_note_on_weights_is_told_with_kept_answers_too(llama: Path, tmp_path: Path) -> None:
    """A second run reads no weights, and says what the first said of them."""
    edit(llama, lambda weights: weights | {"other_part.weight": torch.ones(4)})
    notes = []
    for loads in (1, 0):
        model = load_model(str(llama), cache=Cache(tmp_path / "kept"), device="cpu")
        model.option_logprobs(["a"], [[" b"]])
        assert model.description["device"] == "cpu"
        assert model.use.loads == loads
        notes.append(model.notes)
    told = ("not used: 1 tensor (other_part.weight) of the checkpoint",)
    assert notes[0] == notes[1] == told


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("model.layers.0.self_attn.rotary_emb.cos_cached", (48, 8)),
        ("model.rotary_emb.original_inv_freq", (4,)),
        ("model.layers.0.self_attn.bias", (1, 1, 48, 48)),
        ("model.layers.0.self_attn.masked_bias", ()),
        ("model.layers.0.attn.causal_mask", (48, 48)),
        ("model.embeddings.position_ids", (1, 48)),
        ("model.layers.0.mlp._extra_state", (0,)),
        ("v_head.summary.weight", (1, 32)),
        ("value_head.bias", (1,)),
        ("v_head.0.weight", (1, 32)),
        ("critic_head.weight", (1, 32)),
        ("model.embed_positions.weights", (48, 32)),
        ("score.weight", (2, 32)),
        ("classifier.out_proj.weight", (2, 32)),
        ("mtp.layers.0.proj.weight", (4, 4)),
        ("model.mtp_layers.0.proj.weight", (4, 4)),
        ("medusa_head.0.weight", (4, 4)),
    ],
)
def test_what_no_answer_depends_on_stays_quiet(
    llama: Path, name: str, shape: tuple[int, ...]
) -> None:
    """Tables computed anew, masks, heads of training and of further tokens: no error, no note."""
    assert load(edit(llama, lambda weights: weights | {name: torch.ones(shape)})).notes == ()


def test_layers_that_predict_further_tokens_stay_quiet(llama: Path) -> None:
    """They are numbered on after the others, as many as the configuration says."""

    def more(weights: Weights) -> Weights:
        return weights | {n.replace("layers.1", "layers.2"): w for n, w in weights.items()}

    edit(llama, more)
    assert "of layer 2" in refused(llama)
    edit_json(llama / "config.json", num_nextn_predict_layers=1)
    assert load(llama).notes == ()


@pytest.mark.parametrize("head", ["same", "other"])
def test_a_head_stored_beside_the_embeddings_it_is_tied_to(
    checkpoints: dict[str, Path], tmp_path: Path, head: str
) -> None:
    """A second copy is no news; where it differs, the file wins over the configuration."""
    folder = Path(shutil.copytree(checkpoints["qwen2"], tmp_path / "m"))
    factor = 1.0 if head == "same" else 2.0

    def with_head(weights: Weights) -> Weights:
        return weights | {"lm_head.weight": weights["model.embed_tokens.weight"] * factor}

    before = load(folder).option_logprobs(["a"], [[" The", " of"]])[0]
    model = load(edit(folder, with_head))
    after = model.option_logprobs(["a"], [[" The", " of"]])[0]
    assert model.notes == ()
    assert (before.tolist() == after.tolist()) == (head == "same")


def test_what_a_family_declares_ignorable_stays_quiet(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """GPT-2 lists its masks itself."""
    folder = Path(shutil.copytree(checkpoints["gpt2"], tmp_path / "m"))
    mask = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 4, 4) for i in (0, 1)}
    assert load(edit(folder, lambda weights: weights | mask)).notes == ()


def test_names_with_a_prefix_of_training(llama: Path) -> None:
    """Weights saved from a wrapped model are lacking, and what they are called is said."""
    edit(llama, lambda weights: {f"module.{name}": one for name, one in weights.items()})
    text = refused(llama)
    assert "lacks 21 weights" in text
    assert "holds 21 tensors (first: module.lm_head.weight) of no use" in text


# --- shapes --------------------------------------------------------------------------------------


def test_empty_tensors_of_a_sharded_training(llama: Path) -> None:
    """What ZeRO-3 leaves is named with both shapes, and with the remedy (transformers#20082)."""

    def emptied(weights: Weights) -> Weights:
        return {n: torch.empty(0) if n == f"{Q0}.weight" else w for n, w in weights.items()}

    text = refused(edit(llama, emptied))
    assert f"(first: {Q0}.weight, (0,) in the file and (32, 32) in the model); ZeRO-3" in text
    assert "zero_to_fp32.py" in text


@pytest.mark.parametrize("arguments", [{}, {"ignore_mismatched_sizes": True}], ids=repr)
def test_a_tensor_of_another_shape(llama: Path, arguments: dict[str, Any]) -> None:
    """Named with both shapes; never replaced by random numbers, also where a user allows it."""
    edit_json(llama / "config.json", vocab_size=400)
    text = refused(llama, arguments=arguments)
    assert "2 of the checkpoint's tensors have not the model's shape" in text
    assert "(first: lm_head.weight, (360, 32) in the file and (400, 32) in the model)" in text


def test_an_empty_head_that_is_tied(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Where the library fails before it compares shapes, they are compared here."""
    folder = Path(shutil.copytree(checkpoints["qwen2"], tmp_path / "m"))
    text = refused(edit(folder, lambda weights: weights | {"lm_head.weight": torch.empty(0)}))
    assert "(first: lm_head.weight, (0,) in the file and (360, 32) in the model); ZeRO-3" in text


@pytest.mark.parametrize("what", ["empty", "whole numbers", "scales"])
def test_pickled_weights_are_looked_at_the_same_way(llama: Path, what: str) -> None:
    """Where a user allows them."""
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    change = {
        "empty": {f"{Q0}.weight": torch.empty(0)},
        "whole numbers": {f"{Q0}.weight": weights[f"{Q0}.weight"].mul(9).to(torch.int8)},
        "scales": {f"{Q0}.weight_scale": torch.ones(1)},
    }[what]
    torch.save(weights | change, llama / "pytorch_model.bin")
    text = refused(llama, safetensors_only=False)
    assert ("of quantised weights" in text) == (what != "empty")
    assert ("(0,) in the file and (32, 32) in the model" in text) == (what == "empty")


@pytest.mark.parametrize("empty", ["one", "all"])
def test_experts_that_cannot_be_joined(tmp_path: Path, empty: str) -> None:
    """Where experts become one tensor, one of another shape is named, and no log is pointed to."""
    folder = save(tmp_path / "m", new_model("mixtral"), bpe())

    def emptied(weights: Weights) -> Weights:
        which = r"layers\.1\..*experts\.0\.w1" if empty == "one" else r"layers\.1\..*experts\."
        return {n: torch.empty(0) if re.search(which, n) else w for n, w in weights.items()}

    text = refused(edit(folder, emptied))
    assert "model.layers.1.mlp.experts." in text
    assert "ZeRO-3" in text
    assert "[0]" in text or ", 0) in the file" in text
    assert "above report" not in text


@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapter_of_another_shape(adapters: dict[str, Path], tmp_path: Path, rank: int) -> None:
    """A rank that is not the configuration's, or none: the tensor, and both shapes."""
    folder = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))

    def cut(weights: Weights) -> Weights:
        return {n: w[:rank] if "lora_A" in n and rank else w for n, w in weights.items()} | {
            n: torch.empty(0) for n in weights if not rank
        }

    text = refused(edit(folder, cut))
    shape = r"\(2, 32\)" if rank else r"\(0,\)"
    assert re.search(rf"first: base_model\S+lora_\S+, {shape} in the file and \(\d+, \d+\)", text)


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["query_key_value"]},
        {"layers_to_transform": [0]},
        {"exclude_modules": ["dense_h_to_4h"]},
    ],
    ids=lambda one: next(iter(one)),
)
def test_adapter_tensors_that_its_configuration_does_not_name(
    adapters: dict[str, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Half an adapter is another model: refused, with the names (huggingface/peft#2118)."""
    folder = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(folder / "adapter_config.json", **changes)
    assert re.search(
        r"the adapter holds 4 tensors \(first: base_model\S+\) that its", refused(folder)
    )


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_magnitude_vector",
        "base_model.model.gpt_neox.layers.7.attention.query_key_value.lora_A.weight",
        "base_model.model.new_head.weight",
    ],
)
def test_an_adapter_tensor_without_a_place(
    adapters: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """A magnitude of DoRA, a layer that the base lacks, a module that is not named."""
    folder = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit(folder, lambda weights: weights | {name: torch.ones(96)})
    assert "the adapter holds 1 tensor (base_model.model." in refused(folder)


def test_a_head_of_training_beside_an_adapter_stays_quiet(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    """A value head of reinforcement learning scores no token."""
    folder = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit(folder, lambda weights: weights | {"v_head.summary.weight": torch.ones(1, 32)})
    assert load(folder).notes == ()


@pytest.mark.parametrize(
    "config",
    [
        ("LoraConfig", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("LoraConfig", {"target_modules": ["q_proj"], "use_dora": True}),
        ("LoraConfig", {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]}),
        ("IA3Config", {"target_modules": ["k_proj"], "feedforward_modules": []}),
        ("VeraConfig", {"target_modules": ["q_proj"]}),
        ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    ],
    ids=lambda one: f"{one[0]}-{list(one[1])[-1]}",
)
def test_adapters_as_they_were_saved_stay_quiet(
    checkpoints: dict[str, Path], tmp_path: Path, config: tuple[str, dict[str, Any]]
) -> None:
    """Whatever the method: what save_pretrained wrote is all used."""
    peft = pytest.importorskip("peft")
    base = Path(shutil.copytree(checkpoints["llama"], tmp_path / "base"))
    kind, settings = config
    with quietly():
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        made = getattr(peft, kind)(task_type="CAUSAL_LM", **settings)
        peft.get_peft_model(model, made).save_pretrained(tmp_path / "adapter")
    assert not [note for note in load(tmp_path / "adapter").notes if "not used" in note]


# --- files ---------------------------------------------------------------------------------------


def shard(folder: Path, *, index: bool = True, n: int = 2) -> None:
    """Write the weights of a checkpoint as shards, beside the file that holds them all."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    where = {}
    for i in range(n):
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        save_file({k: weights[k] for k in names[i::n]}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names[i::n], file)
    if index:
        text = json.dumps({"metadata": {"total_size": 1}, "weight_map": where})
        (folder / "model.safetensors.index.json").write_text(text)


@pytest.mark.parametrize("index", [True, False])
def test_a_whole_file_beside_shards(llama: Path, index: bool) -> None:
    """Two sets of weights, with or without an index: a user must say which."""
    shard(llama, index=index)
    text = refused(llama)
    assert "holds model.safetensors and 2 shards (first: model-00001-of-00002.safetensors)" in text
    (llama / "model.safetensors").unlink()
    if index:
        assert load(llama).notes == ()


def test_weights_in_a_subfolder_are_looked_at(llama: Path, tmp_path: Path) -> None:
    """As those at the top."""
    shard(llama)
    (tmp_path / "outer").mkdir()
    llama.rename(tmp_path / "outer" / "inner")
    text = refused(tmp_path / "outer", arguments={"subfolder": "inner"})
    assert "holds model.safetensors and 2 shards" in text


def test_an_index_that_was_left_behind_stays_quiet(llama: Path) -> None:
    """Without shards there is one set of weights."""
    shard(llama)
    for file in llama.glob("model-*"):
        file.unlink()
    assert load(llama).notes == ()


def test_a_tensor_that_lies_in_two_shards(llama: Path) -> None:
    """The last would win in silence: both files are named."""
    shard(llama)
    (llama / "model.safetensors").unlink()
    first, second = sorted(llama.glob("model-*"))
    extra = {name: one for name, one in load_file(first).items() if name == "lm_head.weight"}
    save_file(load_file(second) | extra, second, metadata={"format": "pt"})
    assert f"the tensor lm_head.weight lies in {first.name} and in {second.name}" in refused(llama)


def test_shards_of_an_earlier_split_are_noted(llama: Path) -> None:
    """What the index does not name is not read."""
    shard(llama)
    (llama / "model.safetensors").unlink()
    shutil.copy(
        llama / "model-00001-of-00002.safetensors", llama / "model-00001-of-00003.safetensors"
    )
    assert load(llama).notes == (
        "weights that model.safetensors.index.json does not name are not read: "
        "model-00001-of-00003.safetensors",
    )


@pytest.mark.parametrize("age", [-60, 60])
def test_pickled_weights_beside_safetensors(llama: Path, age: int) -> None:
    """They are not read; where they are newer, that is noted."""
    file = llama / "pytorch_model.bin"
    torch.save({}, file)
    time = (llama / "model.safetensors").stat().st_mtime + age
    os.utime(file, (time, time))
    newer = "weights that are newer than model.safetensors are not read: pytorch_model.bin"
    assert load(llama).notes == ((newer,) if age > 0 else ())


def test_whole_weights_beside_an_adapter_are_noted(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    """The adapter is applied to its base; the weights beside it are not read."""
    folder = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    shutil.copy(adapters["merged"] / "model.safetensors", folder)
    assert load(folder).notes == (
        "weights that lie beside the adapter are not read: model.safetensors",
    )


# --- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [["w.bin"], ["model-00001.safetensors", "w.pt"], ["w.pkl"]])
def test_an_index_that_names_pickles(llama: Path, files: list[str]) -> None:
    """An index of safetensors may name any file; pickles are refused unless they are allowed."""
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    names = sorted(weights)
    where = {name: files[i % len(files)] for i, name in enumerate(names)}
    for file in files:
        part = {name: weights[name] for name in names if where[name] == file}
        if file.endswith(".safetensors"):
            save_file(part, llama / file, metadata={"format": "pt"})
        else:
            torch.save(part, llama / file)
    text = json.dumps({"metadata": {}, "weight_map": where})
    (llama / "model.safetensors.index.json").write_text(text)
    message = refused(llama)
    assert f"model.safetensors.index.json names '{files[-1]}', which is no safetensors" in message
    assert "safetensors_only: false" in message
    if len(files) == 1:
        assert load(llama, safetensors_only=False).notes == ()


def test_no_other_way_leads_to_a_pickle(llama: Path) -> None:
    """What a configuration calls the weights file is no way around, either."""
    weights = load_file(llama / "model.safetensors")
    torch.save(weights, llama / "adapter_model.bin")
    edit_json(llama / "config.json", transformers_weights="adapter_model.bin")
    text = refused(llama)
    assert "adapter_model.bin' is no safetensors file" in text
    assert torch.load.__module__ == "torch.serialization", "it is given back"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kernel", ["owner/kernel", "owner/kernel@v1:name", "paged|owner/kernel"])
def test_a_configuration_that_asks_for_a_kernel(llama: Path, key: str, kernel: str) -> None:
    """Code from the hub is not run because a checkpoint names it; a user's choice wins."""
    edit_json(llama / "config.json", **{key: kernel})
    text = refused(llama)
    assert f"asks for the kernel '{kernel}', which is code from the hub" in text
    assert "{arguments: {attn_implementation: ...}}" in text
    chosen = {"arguments": {"attn_implementation": "eager"}}
    if key == "attn_implementation":
        assert load(llama, **chosen).notes == ()
    else:
        # The library lets this key of the file win.
        assert refused(llama, **chosen) == text


def test_a_kernel_that_a_user_names_is_tried(llama: Path) -> None:
    """What calibration.yaml says is the user's own choice, and the library's to judge."""
    text = refused(llama, arguments={"attn_implementation": "owner/kernel"})
    assert "asks for the kernel" not in text


@pytest.mark.parametrize(
    ("config", "arguments", "allowed"),
    [
        ({"model_type": "gemma3", "attn_implementation": {"text_config": "o/k"}}, {}, False),
        ({"model_type": "gemma3", "attn_implementation": {"": "o/k"}}, {}, False),
        ({"model_type": "mixtral", "experts_implementation": "o/k"}, {}, False),
        ({"model_type": "llama", "attn_implementation": "o/k"}, "o/k", True),
        ({"model_type": "llama", "attn_implementation": "o/other"}, {"": "o/k"}, True),
        ({"model_type": "llama", "_attn_implementation": "o/other"}, "o/k", False),
        ({"model_type": "llama", "attn_implementation": "sdpa"}, {}, True),
    ],
    ids=repr,
)
def test_which_kernels_are_allowed(
    tmp_path: Path, config: dict[str, Any], arguments: Any, allowed: bool
) -> None:
    """Those that the user's own arguments name, for any part of a model; what is used counts."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = TransformersSettings(
        arguments={"attn_implementation": arguments} if arguments else {}
    )
    read = transformers.AutoConfig.from_pretrained(tmp_path, **kernel_arguments(settings))
    spec = ModelSpec(str(tmp_path), local=True, name="m")
    if allowed:
        check_kernels(spec, read, settings)
        return
    with pytest.raises(ModelError, match="which is code from the hub"):
        check_kernels(spec, read, settings)
