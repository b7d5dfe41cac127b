"""Models whose weights accelerate spreads over devices and the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration import extras
from pytest_calibration.config import read_config
from pytest_calibration.errors import MissingExtra, ModelError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model

pytestmark = pytest.mark.torch
pytest.importorskip("accelerate")
PROMPTS = ["The capital of France is", "Water boils at"]
OPTIONS = [[" a", " the moon"], [" b", " c"]]


def scores(model: Any) -> list[Any]:
    """What probes ask for: options, positions, and a continuation with its log-probabilities."""
    return [
        *model.option_logprobs(PROMPTS, OPTIONS),
        *(one.target_logprob for one in model.next_token(PROMPTS)),
        *(one.token_logprobs for one in model.generate(PROMPTS, max_new_tokens=[3, 3])),
    ]


@pytest.mark.parametrize(
    "spread",
    [
        pytest.param("device_map: {'': cpu}", id="one-device"),
        pytest.param("device_map: {'': disk}", id="all-on-disk"),
        pytest.param(
            "device_map: {gpt_neox.embed_in: cpu, gpt_neox.layers.0: cpu, gpt_neox.layers.1: disk, "
            "gpt_neox.final_layer_norm: disk, gpt_neox.rotary_emb: cpu, gpt_neox.emb_dropout: cpu, "
            "lm_head: disk}",
            id="some-layers-on-disk",
        ),
        pytest.param("device_map: auto, max_memory: {cpu: 60KB}", id="what-does-not-fit-on-disk"),
    ],
)
def test_a_spread_model_scores_as_in_one_place(
    spread: str, neox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As calibration.yaml says; in one precision its log-probabilities differ by rounding alone."""
    config = tmp_path / "calibration.yaml"
    config.write_text(
        f"model: {{dtype: float32, arguments: {{{spread}, offload_folder: {tmp_path / 'off'}}}}}\n",
        "utf-8",
    )
    settings = read_config(config).load_settings(device="cpu")
    model = load_model(str(neox), settings, cache=Cache(tmp_path / "kept"))
    one = scores(load_model(str(neox), dtype="float32", device="cpu"))
    for found, expected in zip(scores(model), one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.load().device.type == "cpu"
    assert dict(model.description)["dtype"] == "float32"
    assert model.cache_key is not None
    assert not caplog.records


def test_a_pair_in_memory_may_be_spread(neox: Path, tmp_path: Path) -> None:
    """A model that a project has loaded itself, with weights on the disk."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pytest_calibration.models.adopted import adopted

    model = AutoModelForCausalLM.from_pretrained(
        neox, dtype="float32", device_map={"": "disk"}, offload_folder=str(tmp_path)
    )
    pair = adopted((model, AutoTokenizer.from_pretrained(neox)), dict, None)
    one = scores(load_model(str(neox), dtype="float32", device="cpu"))
    for found, expected in zip(scores(pair), one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spread", "said"),
    [
        ({"gpt_neox.embed_in": "cpu", "gpt_neox.layers.0": "disk"}, "gpt_neox.layers.1"),
        ("everywhere", "everywhere"),
        ({"": "gpu"}, "gpu"),
        ({"": 99}, "99|accelerator|CUDA"),
    ],
)
def test_a_wrong_map_is_told_in_a_sentence(spread: Any, said: str, neox: Path) -> None:
    """Layers left out, a word that is no map, devices that are none or not there."""
    model = load_model(str(neox), arguments={"device_map": spread}, device="cpu")
    with pytest.raises(ModelError, match=rf"cannot load directory .*({said})"):
        model.load()


def test_without_accelerate_it_is_named(neox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    find_spec = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda n: None if n == "accelerate" else find_spec(n))
    with pytest.raises(MissingExtra, match=r"accelerate is not installed, .*pytest-calibration\["):
        load_model(str(neox), arguments={"device_map": "auto"}).load()
