"""Typed decisions of a server: probabilities of the options, which prove themselves first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from stub_server import MODEL, Reply, Stub, serving

from pytest_calibration.errors import ModelError, UntrustedServerError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model

pytestmark = pytest.mark.torch

STATES = ["The capital of Italy is", "Water boils at", "The people walked on the"]
OPTIONS = [[" Rome", " Oslo", " Bern"], ["100", "zero"], ["moon", "ice"]]


@pytest.fixture(scope="module")
def shared(checkpoints: dict[str, Path]) -> Iterator[Stub]:
    """Return a server for all tests."""
    with serving(checkpoints["gpt_neox"]) as stub:
        yield stub


@pytest.fixture
def stub(shared: Stub) -> Iterator[Stub]:
    """Return an honest server that was asked nothing."""
    shared.asked.clear()
    yield shared
    shared.spoil = None


def served(stub: Stub, cache: Cache | None = None) -> LazyModel:
    """Return the decision model that a server has."""
    return load_model(f"{stub.address}/systemone#{MODEL}", cache=cache)


def decisions(stub: Stub) -> list[Reply]:
    """Return the requests for decisions on the states."""
    return [b for p, b in stub.asked if p == "/v1/systemone" and b["state"] in STATES]


def changed(reply: Reply, change: Callable[[dict[str, float]], Any], **more: Any) -> Reply:
    """Change the probabilities of each answer."""
    for answer in reply.get("answers", {}).values():
        answer.update(probabilities=change(answer["probabilities"]), **more)
    return reply


def test_probabilities_are_those_of_the_server(stub: Stub, tmp_path: Path) -> None:
    """They are taken from ``probabilities``, not from the confidence, and asked for once."""
    found = served(stub, Cache(tmp_path)).option_logprobs(STATES, OPTIONS)
    for state, options, logprobs in zip(STATES, OPTIONS, found, strict=True):
        right = stub.decision(state, [option.strip() for option in options])
        assert_allclose(np.exp(logprobs), right, rtol=1e-6)
        assert np.exp(logprobs).sum() == pytest.approx(1)
    assert len(decisions(stub)) == len(STATES)
    again = served(stub, Cache(tmp_path))
    again.option_logprobs(STATES, OPTIONS)
    again.option_logprobs(STATES[:2], OPTIONS[:2])
    assert len(decisions(stub)) == len(STATES)


def halved(values: dict[str, float]) -> dict[str, float]:
    """Return half of each."""
    return {key: value / 2 for key, value in values.items()}


def even(values: dict[str, float]) -> dict[str, float]:
    """Return the same for all."""
    return dict.fromkeys(values, 1 / len(values))


LIES: dict[str, tuple[Callable[[Reply], Reply], str]] = {
    "half": (lambda r: changed(r, halved), r"add up to 0\.5"),
    "even": (lambda r: changed(r, even), "the same probabilities whatever the state is"),
    "other-options": (lambda r: changed(r, lambda _: {"x": 1.0}), "of other options"),
    "negative": (
        lambda r: changed(r, lambda v: {k: i * 3.0 - 1 for i, k in enumerate(v)}),
        r"gives \[-1\.0, 2\.0.* as probabilities",
    ),
    "nan": (lambda r: changed(r, lambda v: dict.fromkeys(v, float("nan"))), "no reply of this API"),
    "not-its-choice": (lambda r: changed(r, dict, choice="none"), "is not the most likely one"),
    "another-model": (lambda r: {**r, "model": "gpt-9"}, "'gpt-9' answered"),
    "no-answer": (lambda r: {**r, "answers": {}}, "of other options"),
    "completion": (lambda r: {"choices": [], "data": r.get("data", [])}, "has no model|no reply"),
}


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_made_up_probabilities_are_refused(
    stub: Stub, lie: Callable[[Reply], Reply], reason: str
) -> None:
    """What is no distribution, or no answer to the question, is told before any probe is asked."""
    stub.spoil = lie
    with pytest.raises(UntrustedServerError, match=reason):
        served(stub).option_logprobs(STATES, OPTIONS)
    assert decisions(stub) == []


def test_a_model_that_is_exchanged_meanwhile_is_found(stub: Stub, tmp_path: Path) -> None:
    """After the probe the server gives the same as before, or nothing of it is used or kept."""
    model = served(stub, Cache(tmp_path))
    model.load()
    stub.spoil = lambda r: changed(
        r, lambda v: {k: x / sum(y**2 for y in v.values()) * x for k, x in v.items()}
    )
    with pytest.raises(UntrustedServerError, match="other probabilities than when it was asked"):
        model.option_logprobs(STATES, OPTIONS)
    stub.spoil = None
    stub.asked.clear()
    served(stub, Cache(tmp_path)).option_logprobs(STATES, OPTIONS)
    assert len(decisions(stub)) == len(STATES)


def test_what_it_cannot_give_is_told(stub: Stub) -> None:
    """Scores of texts need the tokens; options are told apart by their texts."""
    model = served(stub)
    with pytest.raises(ModelError, match="has no next_token, which the probe needs"):
        model.next_token(STATES)
    with pytest.raises(ModelError, match="two options of 'Water boils at' are the same"):
        model.option_logprobs(STATES[1:2], [["100", " 100"]])
