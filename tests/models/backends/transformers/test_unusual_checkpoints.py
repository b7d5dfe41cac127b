"""Checkpoints that are causal language models, though not by the letter of their configuration."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CORPUS, VOCABULARY, bpe, edit_json, new_model, quietly, save

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration.errors import ModelError  # noqa: E402
from pytest_calibration.models.backends.transformers.in_memory import evaluating  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.models.loading import LazyModel, load_model  # noqa: E402

pytestmark = pytest.mark.torch

CLOSE = 1e-4
PROMPTS = ["The capital of Italy is", "Water"]
OPTIONS = [[" Rome", " the city of Oslo"], [" is", " boils"]]
POSITIONS = 64
USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 1,
    "max_position_embeddings": POSITIONS,
}


def load(path: Path, **settings: Any) -> LazyModel:
    """Return a model that scores in float32 on the CPU."""
    return load_model(str(path), **{"dtype": "float32", "device": "cpu"} | settings)


def answers(path: Path, **settings: Any) -> np.ndarray[Any, Any]:
    """Return scores of options and of tokens in a row, in nats."""
    model = load(path, **settings)
    return np.concatenate(
        [
            *model.option_logprobs(PROMPTS, OPTIONS),
            *(score.target_logprob for score in model.next_token(CORPUS)),
        ]
    )


# --- members of a configuration that change the form of the output -------------------------------

FORMS: list[dict[str, object]] = [
    {"return_dict": False},
    {"return_dict": None},
    {"output_hidden_states": True},
    {"output_attentions": True},
    {"output_router_logits": True},
    {"torchscript": True},
    {"use_cache": True},
    {"use_cache": False},
    {"return_dict": False, "output_hidden_states": True, "output_attentions": True},
]


@pytest.mark.parametrize("form", FORMS, ids=",".join)
@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "mixtral", "bloom", "mamba"])
def test_the_form_of_the_output_changes_no_score(
    tmp_path: Path, family: str, form: dict[str, object]
) -> None:
    """A tuple instead of named outputs, and outputs beside the logits."""
    path = save(tmp_path / "model", new_model(family), bpe(family))
    plain = answers(path)
    edit_json(path / "config.json", **form)
    np.testing.assert_allclose(answers(path), plain, rtol=0, atol=CLOSE)


def test_a_model_in_memory_keeps_the_form_of_its_output() -> None:
    """It is scored by name and returns what it returned before."""
    model = new_model("llama")
    model.config.return_dict = False
    model.config.output_hidden_states = True
    TransformersModel.of(model, bpe()).option_logprobs(PROMPTS, OPTIONS)
    with evaluating(model):
        assert model.config.return_dict is True
    assert model.config.return_dict is False
    assert model.config.output_hidden_states is True


# --- names of classes ----------------------------------------------------------------------------


def decoder(kind: str, config: str, **changes: Any) -> Callable[[], Any]:
    """Return what makes an untrained model of a class."""
    return lambda: getattr(transformers, kind)(
        getattr(transformers, config)(**USUAL | {"is_decoder": True} | changes)
    )


DECODERS = {
    "BertGenerationDecoder": decoder("BertGenerationDecoder", "BertGenerationConfig"),
    "BertLMHeadModel": decoder("BertLMHeadModel", "BertConfig"),
    "XLMWithLMHeadModel": lambda: transformers.XLMWithLMHeadModel(
        transformers.XLMConfig(
            vocab_size=VOCABULARY,
            emb_dim=32,
            n_layers=2,
            n_heads=4,
            causal=True,
            max_position_embeddings=POSITIONS,
        )
    ),
    "ReformerModelWithLMHead": lambda: transformers.ReformerModelWithLMHead(
        transformers.ReformerConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_attention_heads=4,
            attention_head_size=8,
            feed_forward_size=64,
            is_decoder=True,
            axial_pos_embds=False,
            attn_layers=["local", "local"],
            local_attn_chunk_length=8,
            max_position_embeddings=POSITIONS,
        )
    ),
    "OpenAIGPTLMHeadModel": lambda: transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS
        )
    ),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_of_any_name_scores_as_the_class_itself(tmp_path: Path, kind: str) -> None:
    """What transformers lists as a causal language model is one, whatever its class is called."""
    torch.manual_seed(0)
    with quietly():
        model = DECODERS[kind]().eval()
    tokenizer = bpe()
    path = save(tmp_path / "model", model, tokenizer)
    ids = tokenizer(PROMPTS[0] + OPTIONS[0][0])["input_ids"]
    head = len(tokenizer(PROMPTS[0])["input_ids"])
    with torch.no_grad():
        table = model(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    expected = sum(float(table[i - 1, ids[i]]) for i in range(head, len(ids)))
    (scores,) = load(path).option_logprobs(PROMPTS[:1], [OPTIONS[0][:1]])
    np.testing.assert_allclose(scores, [expected], rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    "kind", ["BertForMaskedLM", "LlamaForQuestionAnswering", "LlamaModel", "Foo4ForTokenClass"]
)
def test_a_head_for_another_task_is_refused(copy: Path, kind: str) -> None:
    """Weights that fit a causal language model may be those of another kind."""
    edit_json(copy / "config.json", architectures=[kind])
    with pytest.raises(ModelError, match=f"copy: is a {kind}, no causal language model; it pred"):
        load(copy).load()


@pytest.mark.parametrize("kind", ["MyNeoX", "GPTNeoXForCausalLMWithValueHead", "RewardlessChat"])
def test_a_class_of_ones_own_is_loaded_as_its_model_type_and_said(copy: Path, kind: str) -> None:
    """A subclass that was saved by its own code has the weights of its model type."""
    plain = answers(copy)
    edit_json(copy / "config.json", architectures=[kind])
    model = load(copy)
    np.testing.assert_allclose(answers(copy), plain, rtol=0, atol=CLOSE)
    model.load()
    assert model.notes[0] == (
        f"its configuration names the class {kind}, which transformers does not know: it was "
        "loaded as GPTNeoXForCausalLM"
    )


@pytest.mark.parametrize("saved", [None, [], "GPTNeoXForCausalLM"], ids=repr)
def test_a_configuration_that_names_no_class(copy: Path, saved: object) -> None:
    """Old and hand-written configurations have none, or a text in place of a list."""
    plain = answers(copy)
    edit_json(copy / "config.json", architectures=saved)
    try:
        assert np.allclose(answers(copy), plain, rtol=0, atol=CLOSE)
    except ModelError as problem:
        # Some releases of transformers refuse the text themselves.
        assert "architectures" in str(problem)  # noqa: PT017


REMOTE = """\
from transformers import {model} as Base, {config} as BaseConfig
class ChatConfig(BaseConfig):
    model_type = 'mychat'
class ChatModel(Base):
    config_class = ChatConfig
class ChatForSequenceClassification(Base):
    config_class = ChatConfig
"""


@pytest.mark.parametrize(
    ("saved", "loads"),
    [
        ("ChatModel", True),
        ("ChatGLMModel", True),
        ("Chat", True),
        ("LlamaModel", True),
        ("ChatForSequenceClassification", False),
    ],
)
def test_a_checkpoint_with_code_says_itself_which_class_it_is(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved: str,
    loads: bool,
) -> None:
    """``auto_map`` names its causal language model, whatever the saved class is called."""
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = Path(shutil.copytree(checkpoints["llama"], tmp_path / "chat"))
    (path / "modeling_chat.py").write_text(
        REMOTE.format(model="LlamaForCausalLM", config="LlamaConfig")
    )
    edit_json(
        path / "config.json",
        model_type="mychat",
        architectures=[saved],
        auto_map={
            "AutoConfig": "modeling_chat.ChatConfig",
            "AutoModelForCausalLM": "modeling_chat.ChatModel",
        },
    )
    if loads:
        expected = answers(checkpoints["llama"])
        got = answers(path, trust_remote_code=True)
        np.testing.assert_allclose(got, expected, rtol=0, atol=CLOSE)
    else:
        with pytest.raises(ModelError, match=f"chat: is a {saved}, no causal language model"):
            load(path, trust_remote_code=True).load()


# --- positions -----------------------------------------------------------------------------------

# Two positions are kept for padding, so there are two more than tokens.
PADDED = {"max_position_embeddings": POSITIONS + 2}
POSITIONED = {
    **{
        name: decoder(f"{name}ForCausalLM", f"{name}Config", **PADDED)
        for name in (
            *("Roberta", "Camembert", "XLMRoberta", "XLMRobertaXL"),
            *("RobertaPreLayerNorm", "Data2VecText"),
        )
    },
    "Xmod": decoder("XmodForCausalLM", "XmodConfig", **PADDED, default_language="en_XX"),
    "Electra": decoder("ElectraForCausalLM", "ElectraConfig"),
    "BioGpt": decoder("BioGptForCausalLM", "BioGptConfig"),
    "OPT": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
        )
    ),
    "Whisper": lambda: transformers.WhisperForCausalLM(
        transformers.WhisperConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=64,
            max_target_positions=POSITIONS,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=2,
        )
    ),
}


@pytest.mark.parametrize("family", POSITIONED)
def test_a_model_reads_as_many_tokens_as_it_has_positions_for(tmp_path: Path, family: str) -> None:
    """Positions for padding hold no token: the longest prompt scores, one token more is refused."""
    torch.manual_seed(0)
    with quietly():
        model = POSITIONED[family]().eval()
    tokenizer = bpe()
    lazy = load(save(tmp_path / "model", model, tokenizer))
    ids = tokenizer(CORPUS[1] * 9)["input_ids"][: POSITIONS + 2]
    prompt, option, after = (tokenizer.decode(ids[a:b]) for a, b in ((0, -2), (-2, -1), (-1, None)))
    assert tokenizer(prompt)["input_ids"] == ids[:-2]
    (scores,) = lazy.option_logprobs([prompt], [[option]])
    with torch.no_grad():
        table = model(torch.tensor([ids[:-2]]), use_cache=False).logits[0, -1].double()
    expected = float(table.log_softmax(-1)[ids[-2]])
    np.testing.assert_allclose(scores, [expected], rtol=0, atol=CLOSE)
    message = f"takes {POSITIONS + 1} tokens, more than the {POSITIONS} this model can read"
    with pytest.raises(ModelError, match=message):
        lazy.option_logprobs([prompt + option], [[after]])
    (read,) = lazy.next_token([CORPUS[1] * 9])
    assert np.isfinite(read.target_logprob).all()


def test_what_a_models_own_code_raises_is_one_sentence(
    neox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong inside a model is named with the model; nothing is scored."""
    lazy = load(neox)
    model = lazy.load()

    def fail(*_: Any, **__: Any) -> Any:
        raise IndexError("index out of\nrange in self")

    monkeypatch.setattr(model._scorer._vocabulary, "outputs_at", fail)
    message = (
        r"^gpt_neox: the model's own code fails at scoring \(IndexError: index out of range in "
        r"self\)\.$"
    )
    with pytest.raises(ModelError, match=message):
        lazy.option_logprobs(PROMPTS, OPTIONS)
