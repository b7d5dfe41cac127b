"""Quantised models in memory: asked, told apart and named, without the library that did it."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import bpe, edit_json, new_model, quietly

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.models.adopted import adopted
from pytest_calibration.models.backends.transformers import onednn
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.quantisation import quantised_by
from pytest_calibration.models.loading import load_model

pytestmark = pytest.mark.torch

PROMPT = "The capital of France is"


class Foreign(torch.Tensor):
    """A tensor of another library."""


def quantised() -> tuple[Any, Any]:
    """Return a model and the same with linear layers in 8 bits, as torch quantises them."""
    model = new_model("gpt_neox").eval()
    with quietly():
        small = torch.ao.quantization.quantize_dynamic(
            deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8
        )
    return model, small


def test_a_model_quantised_by_torch_is_asked_and_named() -> None:
    """It is scored with its own 8-bit layers, and reports name what quantised it."""
    model, small = quantised()
    tokenizer = bpe()
    asked = adopted((small, tokenizer), dict, None)
    scores = [
        one.option_logprobs([PROMPT], [[" Par", " R"]])[0]
        for one in (asked, adopted((model, tokenizer), dict, None))
    ]
    apart = abs(scores[0] - scores[1])
    # Activations are quantised by what else is in the pass: no number of torch's own to compare.
    assert 1e-4 < apart.max() < 0.5
    assert asked.description["dtype"] == "float32 quantised by torch.ao"
    assert adopted((model, tokenizer), dict, None).description["dtype"] == "float32"


def test_the_fingerprint_is_that_of_the_quantised_weights() -> None:
    """It stays with the weights, and changes with them."""
    model, small = quantised()
    tokenizer = bpe()
    asked = adopted((small, tokenizer), dict, None)
    before = asked.fingerprint
    assert before == asked.fingerprint
    assert before != adopted((model, tokenizer), dict, None).fingerprint
    layer = small.gpt_neox.layers[0].mlp.dense_h_to_4h
    weight, bias = layer._packed_params._weight_bias()
    with quietly():
        layer._packed_params.set_weight_bias(weight.clone().fill_(0.5), bias)
    assert asked.fingerprint != before


def test_products_of_a_tensor_of_another_library_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a tensor refuses operations that it does not know, whatever dtype it claims."""
    monkeypatch.setattr(onednn, "helps", lambda: True)
    weight = torch.eye(2)
    assert onednn.fits(weight, torch.nn.Parameter(weight))
    assert not onednn.fits(weight, weight.as_subclass(Foreign))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq to 4 bits"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes to 8 bits"),
        (SimpleNamespace(quant_method="awq", bits=4), "awq to 4 bits"),
        (None, ""),
    ],
)
def test_what_the_configuration_names(settings: Any, named: str) -> None:
    """The method, and the number of bits where it is told."""
    model = torch.nn.Linear(1, 1)
    model.config = SimpleNamespace(quantization_config=settings)
    assert quantised_by(model) == named


@pytest.mark.parametrize(
    "arguments", [{"quantization_config": "int8"}, {"load_in_8bit": True}, {"load_in_4bit": True}]
)
def test_a_quantisation_that_is_none_is_told(arguments: dict[str, Any]) -> None:
    """The message shows what was found and how a method is named."""
    (found,) = arguments
    with pytest.raises(UsageError, match=f"arguments: {{{found}: .*quant_method: bitsandbytes"):
        TransformersSettings(arguments=arguments)


def test_a_package_that_is_missing_is_named(copy: Path) -> None:
    """A library that quantises is no part of the extra `hf`."""
    if find_spec("torchao"):
        pytest.skip("torchao is installed")
    edit_json(copy / "config.json", quantization_config={"quant_method": "torchao"})
    told = "the package 'torchao' that it needs is not installed"
    with pytest.raises(ModelError, match=told):
        load_model(str(copy)).load()
