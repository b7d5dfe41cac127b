"""What a spec stands for: subfolders, adapters on adapters, moved bases, added tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, edit_json, new_model, quietly, save

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration.errors import ModelError, UsageError  # noqa: E402
from pytest_calibration.models.backends.transformers import hub as hub_module  # noqa: E402
from pytest_calibration.models.cache import Cache  # noqa: E402
from pytest_calibration.models.loading import LazyModel, load_model  # noqa: E402

pytestmark = pytest.mark.torch

CLOSE = 1e-4
PROMPTS = ["The capital of Italy is", "Water"]
OPTIONS = [[" Rome", " the city of Oslo"], [" is", " boils"]]
COMMIT = "a" * 40


def load(path: Path | str, **settings: Any) -> LazyModel:
    """Return a model that scores in float32 on the CPU."""
    return load_model(str(path), **{"dtype": "float32", "device": "cpu"} | settings)


def scores(path: Path | str, **settings: Any) -> np.ndarray[Any, Any]:
    """Return log-probabilities of the options, in nats."""
    return np.concatenate(load(path, **settings).option_logprobs(PROMPTS, OPTIONS))


def near(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether scores differ by rounding alone."""
    return bool(np.abs(one - other).max() < CLOSE)


# --- subfolders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["run/checkpoint-100", "checkpoint-100/"])
@pytest.mark.parametrize("tokenizer", ["beside the model", "at the top", "named", "elsewhere"])
def test_a_subfolder_is_where_all_parts_are_looked_for(
    neox: Path, tmp_path: Path, where: str, tokenizer: str
) -> None:
    """Configuration, weights and digest; the tokenizer too, where it lies there."""
    inner = tmp_path / "repo" / where
    shutil.copytree(neox, inner)
    settings: dict[str, Any] = {"arguments": {"subfolder": where}}
    if tokenizer == "at the top":
        for file in inner.glob("tokenizer*"):
            file.rename(tmp_path / "repo" / file.name)
    elif tokenizer == "named":
        settings["tokenizer_arguments"] = {"subfolder": where}
    elif tokenizer == "elsewhere":
        for file in inner.glob("tokenizer*"):
            (tmp_path / "repo" / "tok").mkdir(exist_ok=True)
            file.rename(tmp_path / "repo" / "tok" / file.name)
        settings["tokenizer_arguments"] = {"subfolder": "tok"}
    assert near(scores(tmp_path / "repo", **settings), scores(neox))
    before = load(tmp_path / "repo", **settings).fingerprint
    edit_json(inner / "config.json", rotary_pct=0.5)
    assert load(tmp_path / "repo", **settings).fingerprint != before


def test_a_subfolder_that_is_not_there_names_what_is(neox: Path, tmp_path: Path) -> None:
    """A typo is one sentence with the folders there."""
    shutil.copytree(neox, tmp_path / "repo" / "checkpoint-100")
    message = (
        r"^repo: arguments: \{subfolder: ck\}: there is no such directory; .*'checkpoint-100';"
    )
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "repo", arguments={"subfolder": "ck"}).load()
    with pytest.raises(UsageError, match="arguments: subfolder must be text, got 3"):
        load(tmp_path / "repo", arguments={"subfolder": 3})


@pytest.mark.parametrize("which", ["adapter", "base"])
def test_a_subfolder_of_an_adapter_or_of_its_base(
    adapters: dict[str, Path], tmp_path: Path, which: str
) -> None:
    """It belongs to the layer that has it."""
    for name in ("adapter", "base"):
        shutil.copytree(adapters[name], tmp_path / name / ("inner" if name == which else ""))
    config = tmp_path / "adapter" / ("inner" if which == "adapter" else "") / "adapter_config.json"
    edit_json(config, base_model_name_or_path=str(tmp_path / "base"))
    settings = {"arguments": {"subfolder": "inner"}}
    assert near(scores(tmp_path / "adapter", **settings), scores(adapters["merged"]))
    before = load(tmp_path / "adapter", **settings).fingerprint
    weights = next((tmp_path / "base").rglob("config.json"))
    edit_json(weights, rotary_pct=0.5)
    assert load(tmp_path / "adapter", **settings).fingerprint != before


# --- bases ---------------------------------------------------------------------------------------


@pytest.fixture
def moved(adapters: dict[str, Path], tmp_path: Path) -> Path:
    """An adapter that names a base which is not there; the base lies beside it."""
    for name in ("base", "adapter"):
        shutil.copytree(adapters[name], tmp_path / name)
    edit_json(
        tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="/trained/on/model"
    )
    return tmp_path / "adapter"


def test_a_moved_base_is_named_in_the_settings(moved: Path, adapters: dict[str, Path]) -> None:
    """``base`` takes the place of what the adapter names, and counts by content."""
    found = scores(moved, base=str(moved.parent / "base"))
    assert near(found, scores(adapters["merged"]))
    before = load(moved, base=str(moved.parent / "base")).fingerprint
    shutil.copytree(moved.parent / "base", moved.parent / "copy")
    assert load(moved, base=str(moved.parent / "copy")).fingerprint == before
    edit_json(moved.parent / "copy" / "config.json", rotary_pct=0.5)
    assert load(moved, base=str(moved.parent / "copy")).fingerprint != before


def test_a_base_in_the_settings_changes_no_whole_model(neox: Path, moved: Path) -> None:
    """It is for adapters; a run may gate a whole model beside them."""
    assert near(scores(neox, base=str(moved)), scores(neox))
    assert load(neox, base=str(moved)).fingerprint == load(neox).fingerprint


@pytest.mark.parametrize(
    "base",
    ["/trained/on/model", "../gone", "runs/sft/gone", "C:\\models\\gone", "~/gone", "here/x"],
)
def test_a_base_that_is_not_there_is_named_with_the_adapter(moved: Path, base: str) -> None:
    """What looks like a path is not asked of the hub; the setting that helps is named."""
    (moved / "here").mkdir()
    edit_json(moved / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(ModelError) as caught:
        load(moved).load()
    assert str(caught.value) == (
        f"{moved}/adapter_config.json: its base model {base!r} is not there; write where it is "
        "now; or name it: model: {base: ...} in calibration.yaml."
    )


def test_a_base_that_cannot_be_loaded_is_named_with_the_adapter(moved: Path) -> None:
    """The hub has no such model, or the base is broken: both are named."""
    edit_json(moved / "adapter_config.json", base_model_name_or_path="nobody-there/nothing")
    message = (
        rf"^adapter '{moved}': the model it was trained on, 'nobody-there/nothing', cannot be "
        r"used: cannot load hub id 'nobody-there/nothing'.*; to load another: model: \{base: \.\.\."
        r"\} in calibration.yaml\.$"
    )
    with pytest.raises(ModelError, match=message):
        load(moved).load()
    (moved.parent / "base" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"adapter '{moved}': .*base', cannot be used: cannot loa"):
        load(moved, base=str(moved.parent / "base")).load()


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/no/where", "base: model '/no/where': there is no such directory"),
        ("http://x/y", "base: 'http://x/y' is neither a directory nor a hub id"),
        ("x@", "base: model 'x@': nothing stands after the '@'"),
    ],
)
def test_a_base_in_the_settings_that_is_none(moved: Path, base: str, message: str) -> None:
    """The setting is named with what is wrong about it."""
    with pytest.raises(ModelError, match=message):
        load(moved, base=base).load()


# --- adapters on adapters ------------------------------------------------------------------------


def lora(model: Any, folder: Path, seed: int, **settings: Any) -> Any:
    """Save a LoRA adapter with random weights; return the model with it."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(seed)
    with quietly():
        config = {"target_modules": ["query_key_value"], "init_lora_weights": False, "r": 4}
        made = peft.get_peft_model(
            model, peft.LoraConfig(task_type="CAUSAL_LM", **config | settings)
        )
        made.save_pretrained(folder)
    return made.eval()


@pytest.fixture
def chain(neox: Path, tmp_path: Path) -> tuple[Path, Any]:
    """An adapter on an adapter on a checkpoint, and the model that was trained."""
    base = Path(shutil.copytree(neox, tmp_path / "base"))
    with quietly():
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    first = lora(model, tmp_path / "sft", 1).merge_and_unload()
    second = lora(first, tmp_path / "dpo", 2)
    edit_json(tmp_path / "dpo" / "adapter_config.json", base_model_name_or_path="../sft")
    return tmp_path / "dpo", second


def test_an_adapter_on_an_adapter_is_loaded_on_both(chain: tuple[Path, Any], neox: Path) -> None:
    """The lower one is merged first, which a note says; each of the three counts."""
    path, model = chain
    save(path.parent / "whole", model.merge_and_unload(), bpe())
    lazy = load(path)
    found = np.concatenate(lazy.option_logprobs(PROMPTS, OPTIONS))
    assert near(found, scores(path.parent / "whole"))
    assert not near(found, scores(path.parent / "sft"))
    sft = path / ".." / "sft"
    assert (
        lazy.notes[0] == f"its base '{sft}' is an adapter itself, and was merged into its own base"
    )
    prints = {load(path).fingerprint}
    for name in ("dpo", "sft", "base"):
        (path.parent / name / "added.json").write_text("{}")
        prints.add(load(path).fingerprint)
    assert len(prints) == 4


def test_a_base_in_the_settings_is_what_the_lowest_adapter_is_loaded_on(
    chain: tuple[Path, Any],
) -> None:
    """An adapter that is there keeps its place in the chain."""
    path, _ = chain
    expected = scores(path)
    (path.parent / "base").rename(path.parent / "moved")
    with pytest.raises(
        ModelError, match=rf"base' is not there; .*\('{path}' is an adapter on it\)"
    ):
        load(path).load()
    assert near(scores(path, base=str(path.parent / "moved")), expected)
    (path.parent / "sft").rename(path.parent / "first")
    edit_json(
        path.parent / "first" / "adapter_config.json",
        base_model_name_or_path=str(path.parent / "moved"),
    )
    assert near(scores(path, base=str(path.parent / "first")), expected)


@pytest.mark.parametrize("base", [".", "../sft"])
def test_an_adapter_that_leads_back_to_itself(chain: tuple[Path, Any], base: str) -> None:
    """A circle of adapters has no model at its end."""
    path, _ = chain
    edit_json(path / "adapter_config.json", base_model_name_or_path=base)
    if base == ".":
        edit_json(path / "adapter_config.json", base_model_name_or_path=str(path))
    else:
        edit_json(path.parent / "sft" / "adapter_config.json", base_model_name_or_path=str(path))
    with pytest.raises(ModelError, match=rf"^adapter '{path}': its base leads back to '{path}'; "):
        load(path).load()


def test_an_adapter_on_one_that_cannot_be_merged(chain: tuple[Path, Any]) -> None:
    """Virtual tokens are no weights: the message says what is to be done."""
    peft = pytest.importorskip("peft")
    path, _ = chain
    with quietly():
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent / "base")
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        shutil.rmtree(path.parent / "sft")
        peft.get_peft_model(model, config).save_pretrained(path.parent / "sft")
    message = (
        rf"^adapter '{path}' lies on the adapter '.*sft', of kind PROMPT_TUNING, which cannot be "
        r"merged into its base here; save the two as one model \(merge_and_unload, save_pretrained"
    )
    with pytest.raises(ModelError, match=message):
        load(path).load()


# --- added tokens (EleutherAI/lm-evaluation-harness#1828) ----------------------------------------

ADDED: dict[str, dict[str, Any]] = {
    "attention": {},
    "embeddings": {"target_modules": ["query_key_value", "embed_in"]},
    "embeddings and head": {"target_modules": ["query_key_value", "embed_in", "embed_out"]},
    "whole": {"modules_to_save": ["embed_in", "embed_out"]},
    "some tokens": {"trainable_token_indices": [-2, -1]},
}


@pytest.mark.parametrize("pad", [None, 64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ADDED)
def test_an_adapter_trained_after_adding_tokens(
    neox: Path, tmp_path: Path, kind: str, tied: bool, pad: int | None
) -> None:
    """The base gets as many tokens as the adapter's weights have, and all scores are its own."""
    base = save(tmp_path / "base", new_model("gpt_neox", tie_word_embeddings=tied), bpe())
    with quietly():
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        before = model.get_input_embeddings().num_embeddings
        tokenizer.add_tokens(["<x1>", "<x2>"], special_tokens=True)
        model.resize_token_embeddings(before + 2, pad_to_multiple_of=pad, mean_resizing=True)
    settings = dict(ADDED[kind])
    if "trainable_token_indices" in settings:
        settings["trainable_token_indices"] = [before, before + 1]
    if tied and kind in ("embeddings and head", "whole"):
        settings = {key: value[:-1] for key, value in settings.items()}
    made = lora(model, tmp_path / "adapter", 3, **settings)
    tokenizer.save_pretrained(tmp_path / "adapter")
    size = made.get_base_model().config.vocab_size
    assert size == (before + 2 if pad is None else 384)
    lazy = load(tmp_path / "adapter")
    (found,) = lazy.option_logprobs(PROMPTS[:1], [["<x1>", " "]])
    with torch.no_grad():
        ids = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
        table = made(ids).logits[0, -1].double().log_softmax(-1)
    expected = [float(table[before]), float(table[tokenizer(" ")["input_ids"][0]])]
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    assert lazy.notes[0] == (
        f"its adapter was trained with {size} tokens, so the embeddings of its base were resized "
        f"from {before}"
    )


def test_an_adapter_that_holds_the_added_tokens_in_part(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Of Llama's kind peft saves the input embeddings alone; the rest is named in a note."""
    base = Path(shutil.copytree(checkpoints["llama"], tmp_path / "base"))
    with quietly():
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        before = model.get_input_embeddings().num_embeddings
        model.resize_token_embeddings(before + 2)
    lora(model, tmp_path / "adapter", 3, target_modules=["q_proj", "embed_tokens"])
    lazy = load(tmp_path / "adapter")
    model = lazy.load().model
    assert lazy.notes[0].endswith(
        f"from {before}; the adapter does not hold all their embeddings, which are the mean of the "
        "others"
    )
    weight = model.get_output_embeddings().weight
    torch.testing.assert_close(weight[-1], weight[:-2].mean(0))


def test_tokens_that_only_the_tokenizer_knows(adapters: dict[str, Path], tmp_path: Path) -> None:
    """Their embeddings are the mean of the others, the same in each run, and a note says so."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    tokenizer = bpe()
    tokenizer.add_tokens(["<x1>", "<x2>"], special_tokens=True)
    tokenizer.save_pretrained(adapter)
    lazy = load(adapter)
    (found,) = lazy.option_logprobs(["Water<x2>"], [["<x1>", " is"]])
    assert "the adapter does not hold all their embeddings, which are the mean" in lazy.notes[0]
    (again,) = load(adapter).option_logprobs(["Water<x2>"], [["<x1>", " is"]])
    assert found.tobytes() == again.tobytes()
    weight = lazy.load().model.get_input_embeddings().weight
    torch.testing.assert_close(weight[-1], weight[:-2].mean(0))


def test_a_tokenizer_of_the_same_size_changes_nothing(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    """An adapter with a copy of its base's tokenizer is loaded as without."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    bpe().save_pretrained(adapter)
    assert near(scores(adapter), scores(adapters["adapter"]))
    lazy = load(adapter)
    lazy.load()
    assert not any("resized" in note for note in lazy.notes)


# --- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path, str], None]:
    """Return what puts a directory into an empty local copy of the hub."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_module, "_SILENT", {})

    def add(repo: str, source: Path, within: str = "") -> None:
        place = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        shutil.copytree(source, place / "snapshots" / COMMIT / within)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(COMMIT)

    return add


@pytest.mark.parametrize("within", ["", "a/b"])
@pytest.mark.parametrize("tokenizer", [False, True])
def test_an_adapter_of_the_hub_is_loaded_on_its_base(
    hub: Callable[[str, Path, str], None],
    adapters: dict[str, Path],
    tmp_path: Path,
    within: str,
    tokenizer: bool,
) -> None:
    """Base and adapter are found by their ids, in a subfolder too; both commits count."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="org/base")
    if tokenizer:
        bpe().save_pretrained(adapter)
    hub("org/base", adapters["base"], "")
    hub("org/adapter", adapter, within)
    settings = {"arguments": {"subfolder": within}} if within else {}
    assert near(scores("org/adapter", **settings), scores(adapters["merged"]))
    lazy = load_model("org/adapter", cache=Cache(tmp_path / "kept"), **settings)
    assert lazy.cache_key is not None


def test_a_hub_model_in_a_subfolder(hub: Callable[[str, Path, str], None], neox: Path) -> None:
    """All its parts are looked for there."""
    hub("org/m", neox, "step/100")
    assert near(scores("org/m", arguments={"subfolder": "step/100"}), scores(neox))


def test_pickled_adapters_of_the_hub_are_refused(
    hub: Callable[[str, Path, str], None], adapters: dict[str, Path], tmp_path: Path
) -> None:
    """As those in a directory are."""
    from safetensors.torch import load_file

    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(adapters["base"]))
    hub("org/adapter", adapter, "")
    with pytest.raises(ModelError, match=r"'org/adapter' holds adapter_config.json and no"):
        load("org/adapter").load()
    assert near(scores("org/adapter", safetensors_only=False), scores(adapters["merged"]))


def test_a_hub_that_does_not_answer_is_asked_once(
    hub: Callable[[str, Path, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo that could be a hub id costs one request, however many tests and models ask."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    requests: list[str] = []

    def download(repo: str, name: str, **options: Any) -> str:
        if not options.get("local_files_only"):
            requests.append(name)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (tmp_path / "checkpoint-400").mkdir()
    monkeypatch.chdir(tmp_path)
    message = (
        r"^cannot load hub id 'chekpoint-400' \(no such directory here, but 'checkpoint-400'\): "
        r"the hub does not answer, and there is no local copy\.$"
    )
    for cache in (None, Cache(tmp_path / "kept")):
        lazy = load_model("chekpoint-400", device="cpu", cache=cache)
        for _ in range(3):
            with pytest.raises(ModelError, match=message):
                lazy.option_logprobs(PROMPTS, OPTIONS)
    assert requests == ["config.json"]


def test_the_base_of_an_adapter_can_be_of_the_hub(
    hub: Callable[[str, Path, str], None], moved: Path, adapters: dict[str, Path]
) -> None:
    """``base`` takes a hub id, with a revision."""
    hub("org/base", adapters["base"], "")
    assert near(scores(moved, base=f"org/base@{COMMIT}"), scores(adapters["merged"]))
    assert json.loads((moved / "adapter_config.json").read_text())["revision"] is None
