"""Log-likelihood requests as lm-eval makes them, where they can be checked without lm-eval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import bpe, new_model

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel
from pytest_calibration.models.causal.harness_requests import encoded

pytestmark = pytest.mark.torch
CONTEXT = "The capital of France is"
OPTIONS = (" Paris", " Rome", " the city of Oslo", " in Norway")


@pytest.fixture(scope="module")
def model() -> Iterator[TransformersModel]:
    """A tiny GPT-NeoX in memory."""
    made = TransformersModel.of(new_model("gpt_neox").eval(), bpe())
    yield made
    made.close()


def test_where_no_token_crosses_the_boundary_scores_are_those_of_options(
    model: TransformersModel,
) -> None:
    """The harness's way to cut tokens differs only where a tokenizer merges the two."""
    answers = model.loglikelihood([(CONTEXT, option) for option in OPTIONS])
    (expected,) = model.option_logprobs([CONTEXT], [OPTIONS])
    assert np.allclose([one.logprob for one in answers], expected, atol=1e-6)
    assert all(one.own_logprob is None for one in answers)


def test_white_space_at_the_end_of_a_context_belongs_to_what_follows(
    model: TransformersModel,
) -> None:
    """As in the harness: a space and the word after it are one token."""
    (one,) = model.loglikelihood([(f"{CONTEXT} ", "Paris")])
    (other,) = model.loglikelihood([(CONTEXT, " Paris")])
    assert one == other


def test_what_is_scored_are_the_tokens_beyond_the_number_of_those_of_the_context() -> None:
    """Where the tokenizer merges the two, they begin with those of the context alone."""
    tokenizer = bpe()
    context, continuation = "The capital of Fran", "ce is Paris"
    head, rest = encoded(tokenizer, "model", [(context, continuation)])[0]
    whole = tokenizer(context + continuation)["input_ids"]
    assert head == tokenizer(context)["input_ids"]
    assert head != whole[: len(head)]
    assert rest == whole[len(head) :]


def test_tokens_around_a_text_are_kept_and_no_context_is_the_token_that_begins_one() -> None:
    """A text that begins with that token has it once."""
    tokenizer = bpe(start=True, end=True)
    begin = tokenizer.bos_token_id
    (with_both, without, written) = encoded(
        tokenizer, "model", [("The city", " of Oslo"), ("", " of Oslo"), ("<end>The", " city")]
    )
    assert with_both.context == [begin, *tokenizer("The city")["input_ids"][1:-1], begin]
    assert without.context == [begin]
    assert without.continuation == tokenizer(" of Oslo", add_special_tokens=False)["input_ids"]
    assert written.context == tokenizer("<end>The", add_special_tokens=False)["input_ids"]


def test_the_models_own_continuation_is_greedy_and_as_long(model: TransformersModel) -> None:
    """It is what the model generates; where the given one is greedy, it is that one."""
    pairs = [(CONTEXT, option) for option in OPTIONS]
    lengths = [len(one.continuation) for one in encoded(model.tokenizer, "model", pairs)]
    written = model.generate([CONTEXT] * len(pairs), max_new_tokens=lengths)
    answers = model.loglikelihood(pairs, own=True)
    for one, generation, length in zip(answers, written, lengths, strict=True):
        if len(generation.token_logprobs) == length:
            assert one.own_text == generation.text
            assert one.own_logprob == pytest.approx(generation.token_logprobs.sum(), abs=1e-5)
    (again,) = model.loglikelihood([(CONTEXT, answers[0].own_text)], own=True)
    assert again.own_logprob >= again.logprob - 1e-6
    assert again.is_greedy == (again.own_text == answers[0].own_text)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("a", ""), "the continuation of the request .* has no token"),
        (("", ""), "the continuation of the request .* has no token"),
        (("x " * 60, "y"), "tokens, more than the 48 this model can read"),
        (("a", "\ud83d"), "half a surrogate pair"),
    ],
)
def test_what_cannot_be_scored_is_an_error(
    model: TransformersModel, pair: tuple[str, str], words: str
) -> None:
    """The harness would fail in an assertion, or cut off the begin."""
    with pytest.raises(ModelError, match=words):
        model.loglikelihood([pair])


def test_without_a_token_to_begin_with_there_is_no_empty_context() -> None:
    """A tokenizer may have neither a token that begins a text nor one that ends it."""
    tokenizer = bpe()
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ModelError, match=r"the context of the request .* has no token"):
        encoded(tokenizer, "model", [("", " Paris")])
