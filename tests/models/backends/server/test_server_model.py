"""A served model answers each kind of probe as the same model does in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CORPUS
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from stub_server import MODEL, WORDS, Stub, serving

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.server.service import in_order
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model

pytestmark = pytest.mark.torch

PROMPTS = ["The capital of France is", "Water boils at", "In the year 1969 the"]
OPTIONS = [[" Paris", " Rome", " the city of Oslo"], [" 100", " zero"], [" first people", " moon"]]
QUESTIONS = [f"{prompt}:" for prompt in PROMPTS]
# One token each.
LABELS = [["A", "B", "C", "D"]] * 3
# What a server knows, and whether it refuses what it does not know.
DIALECTS = {
    "vllm": (WORDS, True),
    "allowed": (WORDS - {"logprob_token_ids"}, False),
    "echo": (WORDS - {"prompt_logprobs", "ignore_eos", "top_k", "min_p"}, True),
    "echo-alone": (frozenset({"echo", "return_tokens_as_token_ids"}), False),
    "texts": (frozenset({"echo"}), True),
    "no-prompt": (WORDS - {"prompt_logprobs", "echo"}, False),
}
REQUESTS = [(p, o) for p, row in zip(PROMPTS, OPTIONS, strict=True) for o in row]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """Return the checkpoint that is served."""
    return checkpoints["gpt_neox"]


@pytest.fixture(scope="module")
def local(folder: Path) -> LazyModel:
    """Return the model in memory."""
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Stub]:
    """Return a server whose requests are not counted."""
    with serving(folder) as stub:
        yield stub


@pytest.fixture
def stub(shared: Stub) -> Iterator[Stub]:
    """Return an honest server that was asked nothing."""
    shared.asked.clear()
    shared.headers.clear()
    before = dict(vars(shared))
    yield shared
    vars(shared).update(before)


def served(stub: Stub, cache: Cache | None = None, **settings: object) -> LazyModel:
    """Return the model that a server has."""
    return load_model(f"{stub.address}#{MODEL}", cache=cache, **settings)


@pytest.fixture(scope="module")
def right(local: LazyModel) -> dict[str, Any]:
    """Return what the model in memory answers."""
    return {
        "options": local.option_logprobs(PROMPTS + QUESTIONS, OPTIONS + LABELS),
        "texts": local.next_token(CORPUS[:2]),
        "requests": local.loglikelihood(REQUESTS, own=True),
    }


@pytest.mark.parametrize(("knows", "strict"), DIALECTS.values(), ids=DIALECTS)
def test_scores_are_those_of_the_model_in_memory(
    stub: Stub, right: dict[str, Any], knows: frozenset[str], strict: bool
) -> None:
    """Options, texts and continuations score the same, whatever the server takes."""
    stub.knows, stub.strict = knows, strict
    model = served(stub)
    found = model.option_logprobs(PROMPTS + QUESTIONS, OPTIONS + LABELS)
    for one, other in zip(found, right["options"], strict=True):
        assert_allclose(one, other, atol=1e-4)
    # Where each token is a request of its own, these are enough.
    texts = CORPUS[:2] if "echo" in knows else ()
    for mine, theirs in zip(model.next_token(texts), right["texts"], strict=bool(texts)):
        assert_allclose(mine.target_logprob, theirs.target_logprob, atol=1e-4)
        assert_allclose(mine.top_probability, theirs.top_probability, atol=1e-4)
        assert (mine.hit == theirs.hit).all()
        same = [
            one in (other, "") for one, other in zip(mine.top_text, theirs.top_text, strict=True)
        ]
        assert all(same)
    for likelihood, other in zip(
        model.loglikelihood(REQUESTS, own="return_tokens_as_token_ids" in knows),
        right["requests"],
        strict=True,
    ):
        assert likelihood.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert likelihood.is_greedy == other.is_greedy
        assert likelihood.own_text in (other.own_text, "")


@pytest.mark.parametrize("stop", [(), (" ",), ("\n", "e")], ids=["none", "space", "letter"])
def test_answers_are_those_of_the_model_in_memory(
    stub: Stub, local: LazyModel, stop: tuple[str, ...]
) -> None:
    """What is written ends where it does in memory, with the same tokens and probabilities."""
    most = [3, 9, 14]
    mine = served(stub).generate(PROMPTS, max_new_tokens=most, stop=stop)
    theirs = local.generate(PROMPTS, max_new_tokens=most, stop=stop)
    for one, other in zip(mine, theirs, strict=True):
        assert (one.text, one.finished) == (other.text, other.finished)
        assert_allclose(one.token_logprobs, other.token_logprobs, atol=1e-4)


def test_a_token_that_ends_an_answer_need_not_be_that_of_the_tokenizer(stub: Stub) -> None:
    """The server's own settings may name more of them: it says which token ended an answer."""

    def ended(reply: dict[str, Any]) -> dict[str, Any]:
        (choice,) = reply["choices"]
        if len(choice["logprobs"]["tokens"]) < 5:
            return reply
        short = {name: values[:3] for name, values in choice["logprobs"].items()}
        token = int(short["tokens"][2].removeprefix("token_id:"))
        how = {"finish_reason": "stop", "stop_reason": token, "logprobs": short}
        return {**reply, "choices": [{**choice, **how}]}

    model = served(stub)
    model.load()
    (whole,) = model.generate(PROMPTS[:1], max_new_tokens=[2], stop=("never written",))
    stub.spoil = lambda reply: ended(reply) if "choices" in reply else reply
    (one,) = model.generate(PROMPTS[:1], max_new_tokens=[24], stop=("never written",))
    assert one.finished
    assert (one.text, len(one.token_logprobs)) == (whole.text, 3)


def test_what_is_drawn_depends_on_prompt_and_seed_alone(stub: Stub) -> None:
    """The order and company of prompts change nothing; another seed does."""
    model = served(stub)
    how = {"temperature": 1.5, "stop": ("\n",)}
    texts = [
        one.text
        for one in model.sample(
            PROMPTS * 2, max_new_tokens=[6] * 6, seeds=[1, 2, 3, 7, 8, 9], **how
        )
    ]
    again = model.sample([PROMPTS[1], PROMPTS[0]], max_new_tokens=[6] * 2, seeds=[2, 7], **how)
    assert [one.text for one in again] == [texts[1], texts[3]]
    assert len(set(texts)) > 3


def test_a_question_with_labels_is_one_request(stub: Stub) -> None:
    """However many labels of one token: one request a question, with all of them.

    Afterwards the server shows that it is still the same, and that it mixes nothing up.
    """
    model = served(stub)
    model.option_logprobs(QUESTIONS[:1], LABELS[:1])
    before = len(stub.completions)
    model.option_logprobs(QUESTIONS, LABELS)
    asked = stub.completions[before:]
    text, again = asked[len(QUESTIONS) :]
    assert "prompt_logprobs" in text
    del asked[len(QUESTIONS) :]
    assert again in asked
    assert all(len(body["logprob_token_ids"]) == 4 for body in asked)
    assert all(isinstance(token, int) for body in asked for token in body["prompt"])


def test_the_first_of_prompts_that_begin_alike_goes_ahead() -> None:
    """Prompts with one begin follow each other, and wait until the first of them is answered."""
    shots = [[i] * 40 for i in range(3)]
    prompts = [[*shots[i % 3], 50 + i, 7] for i in range(9)]
    order = in_order(prompts)
    assert sorted(i for i, _ in order) == list(range(9))
    begun: set[int] = set()
    for i, leader in order:
        assert leader == i or (leader in begun and prompts[i][:40] == prompts[leader][:40])
        begun.add(i)
    assert sum(i == leader for i, leader in order) == 3
    assert in_order([[1, 2], [1, 3], [1, 2, 9]]) == [(0, 0), (2, 2), (1, 1)]
    assert in_order([]) == []


def test_what_was_answered_is_not_asked_again(stub: Stub, tmp_path: Path) -> None:
    """A run that ends in the middle asks for the rest alone when it is started again."""
    model = served(stub, Cache(tmp_path), concurrency=1)
    want = served(stub).option_logprobs(QUESTIONS, LABELS)
    stub.asked.clear()
    prompts = [stub.tokenizer(prompt)["input_ids"] for prompt in QUESTIONS]
    stub.raw = lambda handler, _: (
        stub.asked[-1][1].get("prompt") == prompts[2] and not handler.send(b"full", 400)
    )
    with pytest.raises(ModelError, match=r"refuses a request \(HTTP 400: full\)"):
        model.option_logprobs(QUESTIONS, LABELS)
    answered = {tuple(body["prompt"]) for body in stub.completions} - {tuple(prompts[2])}
    stub.raw = None
    stub.asked.clear()
    again = served(stub, Cache(tmp_path), concurrency=1).option_logprobs(QUESTIONS, LABELS)
    rest = {tuple(body["prompt"]) for body in stub.completions if body["prompt"] in prompts}
    assert sorted(rest) == sorted({*map(tuple, prompts)} - answered)
    assert len(rest) < len(prompts)
    for one, other in zip(again, want, strict=True):
        assert_allclose(one, other)


def test_a_temperature_is_refused(stub: Stub) -> None:
    """It divides all logits, of which a server gives few; the server is not even asked."""
    model = served(stub, temperature=2.0)
    with pytest.raises(ModelError, match=r"temperature: 2 divides all logits of a checkpoint"):
        model.option_logprobs(QUESTIONS, LABELS)
    assert not stub.asked


def test_a_tokenizer_that_is_not_here_is_told(stub: Stub) -> None:
    """Where the server's model lies is no place of this machine: the sentence says what to name."""
    stub.spoil = lambda reply: (
        {"data": [{"id": MODEL, "root": "/not/here"}]} if "data" in reply else reply
    )
    with pytest.raises(ModelError, match=r"/not/here is no directory here\); name a directory"):
        served(stub).option_logprobs(QUESTIONS, LABELS)
    named = served(stub, tokenizer=str(stub.folder)).option_logprobs(QUESTIONS, LABELS)
    assert len(named) == len(QUESTIONS)


def test_an_adapter_has_what_its_parent_has(stub: Stub) -> None:
    """Its tokenizer and the length of its context, of which a server says nothing for itself."""
    base = {"id": "base", "root": str(stub.folder), "max_model_len": stub.longest}
    adapter = {"id": MODEL, "root": "/not/here", "parent": "base"}
    stub.spoil = lambda reply: {"data": [base, adapter]} if "data" in reply else reply
    model = served(stub)
    assert len(model.option_logprobs(QUESTIONS, LABELS)) == len(QUESTIONS)
    assert model.load().max_tokens == stub.longest - 2


def test_the_only_model_needs_no_name(stub: Stub) -> None:
    """An address without a model stands for the one that is there; of several one is named."""
    found = load_model(stub.address).option_logprobs(QUESTIONS, LABELS)
    assert len(found) == len(QUESTIONS)
    stub.spoil = lambda reply: {"data": [{"id": "b"}, {"id": "a"}]} if "data" in reply else reply
    with pytest.raises(ModelError, match=r"has 2 models \(a, b\); name one: http"):
        load_model(stub.address).option_logprobs(QUESTIONS, LABELS)


def test_a_prompt_that_is_too_long_is_told(stub: Stub) -> None:
    """As in memory, by its begin and the number of tokens; the server is not asked for it."""
    model = served(stub)
    with pytest.raises(ModelError, match=r"takes \d+ tokens, more than the 46 this model can read"):
        model.option_logprobs([" ".join(CORPUS) * 2], [["A", "B"]])


def test_what_it_says_of_itself_is_in_the_signature(stub: Stub) -> None:
    """Id, folder, version and the way of asking; no address and no path."""
    description = dict(served(stub).description)
    assert description == {
        "served as": MODEL,
        "served from": "gpt_neox",
        "server version": "1.2.3",
        "asked by": "logprob_token_ids and prompt_logprobs",
    }
