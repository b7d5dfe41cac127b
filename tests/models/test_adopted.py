"""What a project brings, and the model that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, new_model
from classifiers import NAMES, new_classifier

from pytest_calibration import MultipleChoice
from pytest_calibration.errors import UsageError
from pytest_calibration.models.adopted import adopted, check_offers, lacking

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def no_settings() -> Mapping[str, Any]:
    """A project that says nothing of its models."""
    return {}


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    """A causal language model and its tokenizer."""
    return new_model("gpt_neox"), bpe()


def test_a_pair_and_a_pipeline_are_models(parts: tuple[Any, Any]) -> None:
    """Both score as the model that ``TransformersModel.of`` makes of their parts."""
    from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel

    model, tokenizer = parts
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    question = ["The capital of France is"], [[" Paris", " Rome"]]
    expected = TransformersModel.of(model, tokenizer).option_logprobs(*question)
    for value in (parts, list(parts), pipeline):
        one = adopted(value, no_settings, None)
        assert isinstance(one.name, str)
        assert one.name
        np.testing.assert_array_equal(one.option_logprobs(*question), expected)
        check_offers(one, "facts")


def test_a_pair_is_named_as_its_model(parts: tuple[Any, Any]) -> None:
    """The folder or hub id that the model was read from names it in reports."""
    model, tokenizer = parts
    model.name_or_path = "runs/sft/checkpoint-400"
    assert adopted((model, tokenizer), no_settings, None).name == "checkpoint-400"
    model.name_or_path = ""
    assert adopted((model, tokenizer), no_settings, None).name == "model"


def test_a_bare_model_is_left_to_the_probe_and_refused_there(parts: tuple[Any, Any]) -> None:
    """Without its tokenizer a model of transformers cannot be asked."""
    model, tokenizer = parts
    for value in (model, (tokenizer, model), (model, None), (model, tokenizer, 1)):
        assert adopted(value, no_settings, None) is value
        with pytest.raises(UsageError, match=r"does not have: .* the pair \(model, tokenizer\) of"):
            check_offers(value, "facts")


def test_a_classifier_of_transformers_is_asked_as_one() -> None:
    """Another kind of probe is told what the model is, and which probe to write."""
    one = adopted((new_classifier("bert"), bpe(end=True)), no_settings, None)
    assert one.class_probabilities(["ice"]).shape == (1, 3)
    assert one.class_names == NAMES
    text = str(lacking(one, "facts", "next_token"))
    assert text.startswith("model: is a classifier, and the probe asks a language model (next_tok")


def test_another_model_is_taken_as_it_is() -> None:
    """Whatever has the methods is a model."""

    class Mine:
        name = "mine"

    mine = Mine()
    assert adopted(mine, no_settings, None) is mine
    check_offers(mine, MultipleChoice("q").name)
