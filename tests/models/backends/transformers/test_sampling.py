"""Drawn continuations, and where continuations end, against torch alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, new_model
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration.models.backends.transformers.decoding import Decoder  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.models.cache import Cache  # noqa: E402
from pytest_calibration.models.causal.continuation import uniform  # noqa: E402
from pytest_calibration.models.loading import load_model  # noqa: E402
from pytest_calibration.models.protocols import SamplingModel  # noqa: E402

pytestmark = pytest.mark.torch

PROMPTS = ("The capital of Italy is", "Water", "The city of", "Water")
SEEDS = (3, 1 << 62, 5, 3)
MOST = (6, 1, 0, 9)
CLOSE = 1e-4


@cache
def parts(family: str) -> tuple[Any, Any]:
    """A random model in evaluation mode, and its tokenizer."""
    return new_model(family, eos_token_id=None).eval(), bpe(family)


def engine(family: str = "gpt_neox", **settings: Any) -> TransformersModel:
    """The engine around it."""
    return TransformersModel.of(*parts(family), **settings)


def draw(model: Any, **changes: Any) -> list[Any]:
    """All prompts."""
    how: dict[str, Any] = {"max_new_tokens": MOST, "temperature": 0.7, "seeds": SEEDS}
    written: list[Any] = model.sample(PROMPTS, **how | changes)
    return written


@torch.no_grad()
def logits_after(family: str, ids: list[int]) -> Any:
    """What the model alone says after some tokens."""
    return parts(family)[0](torch.tensor([ids])).logits[0, -1].double()


# A head that is split from its body, one whose logits are capped, and one that is called whole.
@pytest.mark.parametrize("family", ["gpt_neox", "gemma2", "mamba"])
def test_tokens_are_drawn_from_the_soft_max(family: str) -> None:
    """Each token is where the cumulated soft-max passes the number that seed and place give."""
    tokenizer = parts(family)[1]
    for prompt, seed, most, one in zip(PROMPTS, SEEDS, MOST, draw(engine(family)), strict=True):
        ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        start, logprobs = len(ids), []
        for step in range(most):
            logits = logits_after(family, ids)
            shares = torch.softmax(logits / 0.7, -1).cumsum(-1)
            token = int((shares <= uniform(seed, step)).sum())
            logprobs.append(float(torch.log_softmax(logits, -1)[token]))
            ids.append(token)
        assert one.text == tokenizer.decode(ids[start:], clean_up_tokenization_spaces=False)
        assert_allclose(one.token_logprobs, logprobs, rtol=0, atol=CLOSE)
        assert not one.finished


def test_what_is_drawn_depends_on_prompt_and_seed_alone() -> None:
    """One by one, in another order, and with any number of tokens a pass it is the same."""
    whole = draw(engine())
    for budget in (1, 16, 4096):
        assert [o.text for o in draw(engine(batch_tokens=budget))] == [o.text for o in whole]
    model = engine()
    for i, one in enumerate(whole):
        (alone,) = model.sample(
            [PROMPTS[i]], max_new_tokens=[MOST[i]], temperature=0.7, seeds=[SEEDS[i]]
        )
        assert alone.text == one.text
        assert_allclose(alone.token_logprobs, one.token_logprobs, rtol=0, atol=CLOSE)
    back = model.sample(
        PROMPTS[::-1], max_new_tokens=MOST[::-1], temperature=0.7, seeds=SEEDS[::-1]
    )
    assert [o.text for o in back[::-1]] == [o.text for o in whole]
    # However much is asked for, it begins alike.
    (short,) = model.sample(["Water"], max_new_tokens=[4], temperature=0.7, seeds=[SEEDS[3]])
    assert_allclose(short.token_logprobs, whole[3].token_logprobs[:4], rtol=0, atol=CLOSE)


def test_tokens_are_drawn_as_often_as_the_model_believes() -> None:
    """Over many seeds, the share of each first token is its probability (five standard errors)."""
    n, tokenizer = 2000, parts("gpt_neox")[1]
    drawn = engine().sample(
        ["Water"] * n, max_new_tokens=[1] * n, temperature=1.5, seeds=list(range(n))
    )
    ids = list(tokenizer("Water", add_special_tokens=False)["input_ids"])
    p = torch.softmax(logits_after("gpt_neox", ids) / 1.5, -1).numpy()
    texts = Counter(one.text for one in drawn)
    believed: Counter[str] = Counter()
    for token, share in enumerate(p):
        believed[tokenizer.decode([token], clean_up_tokenization_spaces=False)] += share
    for text, share in believed.items():
        assert abs(texts[text] / n - share) <= 5 * np.sqrt(share * (1 - share) / n) + 1e-3


def test_near_temperature_0_the_likeliest_token_is_drawn() -> None:
    """The draw comes to the greedy continuation."""
    greedy = engine().generate(PROMPTS, max_new_tokens=MOST)
    cold = draw(engine(), temperature=1e-6)
    assert [one.text for one in cold] == [one.text for one in greedy]
    for one, other in zip(cold, greedy, strict=True):
        assert_allclose(one.token_logprobs, other.token_logprobs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("drawn", [False, True])
def test_a_stop_text_ends_a_continuation(drawn: bool) -> None:
    """With the token that completes it, which is counted; others go on."""
    model = engine()

    def continued(most: int = 9, **how: Any) -> list[Any]:
        if drawn:
            return draw(model, max_new_tokens=[most] * 4, **how)
        return model.generate(PROMPTS, max_new_tokens=[most] * 4, **how)

    plain = continued()
    # Two characters of the first continuation, whole ones: within a token, or across two.
    (stop,) = re.findall("[!-~]{2}", plain[0].text.lstrip()[2:])[:1]
    stopped = continued(stop=[stop, "never\n"])
    assert (stopped[0].finished, plain[0].finished) == (True, False)
    for one, other in zip(stopped, plain, strict=True):
        n = len(one.token_logprobs)
        assert other.text.startswith(one.text)
        assert_allclose(one.token_logprobs, other.token_logprobs[:n], rtol=0, atol=CLOSE)
        assert (stop in one.text.lstrip()) == (stop in other.text.lstrip())
        assert stop in one.text.lstrip() or one.text == other.text
    n = len(stopped[0].token_logprobs)
    before, *_ = continued(most=n - 1)
    assert stop not in before.text.lstrip()


def test_what_was_drawn_is_kept(neox: Path, tmp_path: Path) -> None:
    """The second time it comes from the cache; another seed, stop or temperature does not."""
    first = load_model(str(neox), cache=Cache(tmp_path), device="cpu")
    plain = draw(first)
    again = load_model(str(neox), cache=Cache(tmp_path), device="cpu")
    kept = draw(again)
    assert (again.served, again.computed) == (1, 0)
    assert [(o.text, o.finished) for o in kept] == [(o.text, o.finished) for o in plain]
    for one, other in zip(kept, plain, strict=True):
        assert one.token_logprobs.tobytes() == other.token_logprobs.tobytes()
    for change in ({"seeds": (9, *SEEDS[1:])}, {"temperature": 0.8}, {"stop": ["x"]}):
        computed = again.computed
        draw(again, **change)
        assert again.computed == computed + 1
    assert isinstance(engine(), SamplingModel)


@pytest.mark.parametrize("drawn", [False, True])
def test_kept_keys_and_values_change_nothing(drawn: bool) -> None:
    """Texts that are read anew for each token, and those that are not, are continued alike."""
    answers = []
    for fixed_length in (math.inf, 3):
        model = engine()
        # As for a model whose rotary factors are others beyond so many tokens.
        model._scorer._fixed_length = fixed_length
        answers.append(draw(model) if drawn else model.generate(PROMPTS, max_new_tokens=MOST))
    for one, other in zip(*answers, strict=True):
        assert (one.text, one.finished) == (other.text, other.finished)
        assert_allclose(one.token_logprobs, other.token_logprobs, rtol=0, atol=CLOSE)


def test_a_model_that_keeps_something_else_is_read_anew() -> None:
    """It says so once, and only where something is continued."""
    model = engine("mamba")
    said = [note for note in model.notes if "continuations" in note]
    assert said == []
    for _ in range(2):
        model.generate(PROMPTS, max_new_tokens=MOST)
    (note,) = (note for note in model.notes if "continuations" in note)
    assert note.startswith("continuations are read anew for each of their tokens, since ")
    assert not any("continuations" in note for note in engine("gpt_neox").notes)


def test_memory_that_runs_out_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written stands, and the rest is drawn as it would have been."""
    plain = draw(engine())
    outputs, calls = Decoder._outputs, []

    def failing(self: Decoder, *arguments: Any) -> Any:
        calls.append(arguments)
        # The passes before belong to the trial: one over both texts, four of a token each.
        if len(calls) == 8:
            raise MemoryError
        return outputs(self, *arguments)

    monkeypatch.setattr(Decoder, "_outputs", failing)
    model = engine()
    again = draw(model)
    assert len(calls) > 8
    assert [one.text for one in again] == [one.text for one in plain]
    for one, other in zip(again, plain, strict=True):
        assert_allclose(one.token_logprobs, other.token_logprobs, rtol=0, atol=CLOSE)
    assert any("ran out of memory" in note for note in model.notes)


def test_samples_of_one_text_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass holds each text once, the others a token of each continuation."""
    outputs, shapes = Decoder._outputs, []

    def noted(self: Decoder, ids: Any, cache: Any) -> Any:
        shapes.append(tuple(ids.shape))
        return outputs(self, ids, cache)

    model = engine()
    draw(model)
    monkeypatch.setattr(Decoder, "_outputs", noted)
    prompt = "The capital of Italy is"
    model.sample([prompt] * 5, max_new_tokens=[3] * 5, temperature=1e-6, seeds=list(range(5)))
    length = len(parts("gpt_neox")[1](prompt)["input_ids"])
    assert shapes == [(1, length), (5, 1), (5, 1)]
