"""The last step of a model against its own logits, and tiles against the whole in float64."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from checkpoints import FAMILIES, MORE_FAMILIES, OTHER_FAMILIES, VOCABULARY, quietly
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from scorers import apart, family_of_rows, make, numbers, reference, scorer_of, settled

from pytest_calibration.models.backends.transformers import vocabulary as module
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary

pytestmark = pytest.mark.torch

CLOSE = 1e-4
IDS = torch.tensor([(7919 * (i + 1)) % VOCABULARY for i in range(16)])


def of(model: Any) -> Vocabulary:
    """Return the last step of a model."""
    with torch.inference_mode():
        return Vocabulary(model, IDS)


# --- body and head -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES, *OTHER_FAMILIES])
def test_body_and_head_apart_give_the_models_logits(family: str) -> None:
    """Every family is called in two steps, whatever it does to its logits after the head."""
    model = make(family)
    last = of(model)
    assert last.split
    assert last.body is not model
    keep = torch.tensor([15, 3, 4])
    asked, where = torch.tensor([5, 9, 5, 300]), torch.tensor([2, 0, 0, 1])
    with torch.inference_mode():
        found = last.reduce(last.outputs_at(keep, IDS[None]), asked, where)
        table = torch.log_softmax(model(IDS[None]).logits[0].double(), -1)[keep]
    assert_allclose(found[0], table[where, asked], rtol=0, atol=CLOSE)
    assert_allclose(found[1], table.max(1).values[where], rtol=0, atol=CLOSE)
    assert found[2].tolist() == table.argmax(1)[where].tolist()


def test_a_head_with_a_bias_is_called_apart() -> None:
    """A bias is part of the head."""
    model = make("llama")
    torch.manual_seed(4)
    model.lm_head = torch.nn.Linear(32, VOCABULARY, bias=True)
    with torch.no_grad():
        model.lm_head.bias.normal_(0, 3)
    scorer = scorer_of(model)
    assert scorer._vocabulary.split
    rows = family_of_rows()
    assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE


def shaped(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a model change its logits in an unknown way."""
    original = type(model).forward

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        out = original(self, *given, **named)
        out.logits = out.logits * 1.01
        return out

    monkeypatch.setattr(type(model), "forward", forward)
    return model


def test_logits_that_are_changed_afterwards_come_from_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where body and head do not add up to the model's logits, the model is asked for them."""
    model = shaped(make("llama"), monkeypatch)
    scorer = scorer_of(model)
    assert not scorer._vocabulary.split
    rows = family_of_rows()
    for budget in (40, 4096):
        scorer.budget = budget
        assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE
        scorer._path = scorer._plain
        assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE


@pytest.mark.parametrize("where", ["head", "layers"])
def test_an_adapter_on_the_head_is_asked_as_a_whole(where: str) -> None:
    """A head that is more than a matrix is left to the model; adapted layers are no matter."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    settings = peft.LoraConfig(
        r=4,
        target_modules=["lm_head", "q_proj"] if where == "head" else ["q_proj"],
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    bare = make("llama")
    plain = reference(bare, family_of_rows())
    with quietly():
        model = peft.get_peft_model(bare, settings).eval()
    scorer = scorer_of(model)
    assert scorer._vocabulary.split is (where == "layers")
    assert scorer.notes == []
    rows = family_of_rows()
    scores = scorer.score(rows)
    assert apart(scores, reference(model, rows)) <= CLOSE
    assert apart(scores, plain) > 0.1


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gemma2", "qwen2"])
def test_the_head_in_float32_is_nearer_to_the_truth(family: str) -> None:
    """A bfloat16 model's own logits are rounded to three digits; the same body says more."""
    model = settled(make(family)).to(torch.bfloat16)
    rows = family_of_rows()
    exact = numbers(reference(copy.deepcopy(model).float(), rows))
    own = np.abs(numbers(reference(model, rows)) - exact).mean()
    ours = np.abs(numbers(scorer_of(model).score(rows)) - exact).mean()
    assert ours < 0.9 * own


# --- tiles ---------------------------------------------------------------------------------------


@cache
def last_step() -> Vocabulary:
    """Return a last step whose parts are replaced."""
    return of(make("llama"))


# Numbers that float32 multiplies and adds without rounding, so that equal logits stay equal.
WHOLE = st.integers(-3, 3)


@given(
    hidden=st.lists(st.lists(WHOLE, min_size=3, max_size=3), min_size=1, max_size=13),
    weight=st.lists(st.lists(WHOLE, min_size=3, max_size=3), min_size=1, max_size=40),
    size=st.sampled_from([1.0, 0.125, 256.0]),
    scale=st.sampled_from([1.0, 0.25]),
    softcap=st.sampled_from([None, 30.0]),
    bias=st.booleans(),
    whole=st.booleans(),
    data=st.data(),
)
def test_tiles_give_the_soft_max_of_the_whole(
    hidden: list[list[int]],
    weight: list[list[int]],
    size: float,
    scale: float,
    softcap: float | None,
    bias: bool,
    whole: bool,
    data: st.DataObject,
) -> None:
    """Any number of rows and tokens, ties and logits of thousands: log-softmax, the first token."""
    n, v = len(hidden), len(weight)
    head = torch.nn.Linear(3, v, bias=bias)
    x, w = torch.tensor(hidden).double() * size, torch.tensor(weight).double()
    b = torch.arange(v).double() % 3 if bias else torch.zeros(v).double()
    with torch.no_grad():
        head.weight.copy_(w)
        if bias:
            head.bias.copy_(b)
    logits = (x @ w.T + b) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    asked = data.draw(st.lists(st.tuples(st.integers(0, v - 1), st.integers(0, n - 1)), min_size=1))
    targets, where = torch.tensor(asked).T
    last = last_step()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(module, "TILE", (4, 7))
        patch.setattr(module, "WAITING", 5)
        patch.setattr(last, "_head", head)
        patch.setattr(last, "_scale", scale)
        patch.setattr(last, "_softcap", softcap)
        if whole:
            patch.setattr(last, "split", False)
            found = last.reduce(logits.float(), targets, where)
        else:
            found = last.reduce(x.float(), targets, where)
    table = torch.log_softmax(logits, -1)
    # Float32 has 24 bits; a log-probability is the difference of two logits.
    slack = 1e-5 + float(logits.abs().max()) * 2.0**-22
    assert_allclose(found[0], table[where, targets], rtol=0, atol=slack)
    assert_allclose(found[1], table.max(1).values[where], rtol=0, atol=slack)
    if softcap is None:
        assert found[2].tolist() == [int(np.argmax(row)) for row in logits[where].numpy()]
    else:
        assert (logits[where, found[2]] >= logits.max(1).values[where] - slack).all()


def test_the_head_waits_for_enough_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows of each pass are put together for one product; what waits is bounded."""
    model = make("llama")
    scorer = scorer_of(model, 32)
    rows = family_of_rows()
    sizes: list[int] = []
    original = Vocabulary.reduce

    def reduce(self: Vocabulary, rows: Any, targets: Any, of: Any) -> Any:
        sizes.append(len(rows))
        return original(self, rows, targets, of)

    monkeypatch.setattr(Vocabulary, "reduce", reduce)
    expected = reference(model, rows)
    assert apart(scorer.score(rows), expected) <= CLOSE
    assert len(sizes) == 1
    whole = sum(sizes)
    sizes.clear()
    monkeypatch.setattr(module, "WAITING", 20)
    assert apart(scorer.score(rows), expected) <= CLOSE
    assert sum(sizes) == whole
    assert len(sizes) > 2
    # No more than what waited, and one pass.
    assert max(sizes) <= 20 + 32


@pytest.mark.parametrize("height", [0.0, 1e3, 6e4])
def test_what_lies_beyond_the_largest_logit_keeps_its_digits(height: float) -> None:
    """Log P of the largest is -log(1 + e^-1 + e^-2), however large the logits are."""
    logits = torch.tensor([[height - 1, height, height - 2]], dtype=torch.float32)
    target, top, best = module._reduced(logits, torch.tensor([2]), torch.tensor([0]))
    beyond = math.log(1 + math.exp(-1) + math.exp(-2))
    assert float(top[0]) == pytest.approx(-beyond, abs=1e-6)
    assert float(target[0]) == pytest.approx(-2 - beyond, abs=1e-6)
    assert int(best[0]) == 1
