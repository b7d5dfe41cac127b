"""Probes with free answers on real models, against transformers' own generation and torch."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe, chat_model, chat_tokenizer, new_model, quietly
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration import Agreement, PTrue, SequenceLogprob, Verbalized  # noqa: E402
from pytest_calibration.errors import ProbeError  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.models.causal.continuation import uniform  # noqa: E402
from pytest_calibration.probes.agreement import seeds_of  # noqa: E402
from pytest_calibration.probes.answer_matching import normalised  # noqa: E402
from pytest_calibration.probes.free_answer import HEADER  # noqa: E402
from pytest_calibration.probes.p_true import CHECK_HEADER  # noqa: E402

pytestmark = pytest.mark.torch

CLOSE = 1e-4
QUESTIONS = ("Who walked on the moon?", "Is Oslo in Norway?", "What melts?")
TOKENS = 6
STOP = "e"


@cache
def parts() -> tuple[Any, Any]:
    """A random Llama, and its tokenizer, which puts a token before every text."""
    return new_model("llama", max_position_embeddings=512).eval(), bpe(start=True)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Questions, the first of them with the answer that the model gives."""
    ids, _ = greedy(f"{HEADER}Question: {QUESTIONS[0]}\nAnswer:")
    rows = [{"question": q, "answer": "nobody"} for q in QUESTIONS]
    rows[0]["answer"] = cut(parts()[1].decode(ids)) or "nothing"
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def cut(text: str) -> str:
    """What comes before the stop text."""
    return text.lstrip().partition(STOP)[0].strip()


@torch.no_grad()
def greedy(prompt: str) -> tuple[list[int], list[float]]:
    """Return the tokens that transformers generates up to the stop text, and log-probabilities."""
    model, tokenizer = parts()
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with quietly():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
        )
    new, kept = out.sequences[0, ids.shape[1] :].tolist(), 0
    while kept < len(new) and STOP not in tokenizer.decode(new[:kept]).lstrip():
        kept += 1
    logprobs = [
        float(torch.log_softmax(row[0].double(), -1)[token])
        for row, token in zip(out.logits[:kept], new, strict=False)
    ]
    return [token for token in new[:kept] if token != tokenizer.eos_token_id], logprobs


@torch.no_grad()
def logprob(prompt: str, continuation: str) -> float:
    """Return log P(continuation | prompt) of the model alone."""
    model, tokenizer = parts()
    head, whole = (tokenizer(text)["input_ids"] for text in (prompt, prompt + continuation))
    logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(logits[i - 1, whole[i]]) for i in range(len(head), len(whole)))


def settings(path: Path) -> dict[str, Any]:
    """Settings of all kinds."""
    return {"path": path, "stop": STOP, "max_new_tokens": TOKENS}


def test_sequence_probabilities_are_those_of_transformers(items: Path) -> None:
    """Product and geometric mean over the tokens of its greedy generation, up to the stop text."""
    engine = TransformersModel.of(*parts())
    product = SequenceLogprob(**settings(items)).run(engine)
    mean = SequenceLogprob(**settings(items), logprob="mean").run(engine)
    answers = [greedy(f"{HEADER}Question: {q}\nAnswer:") for q in QUESTIONS]
    logprobs = [torch.tensor(values) for _, values in answers]
    assert {len(values) for values in logprobs} != {TOKENS}, "no answer ends early"
    assert_allclose(product.confidence, [float(v.sum().exp()) for v in logprobs], rtol=1e-3)
    assert_allclose(mean.confidence, [float(v.mean().exp()) for v in logprobs], atol=CLOSE)
    assert product.correct.tolist() == [True, False, False]
    assert product.texts is not None
    assert [product.texts[i].answer for i in range(3)] == [
        cut(parts()[1].decode(ids)) for ids, _ in answers
    ]


def test_p_true_is_the_soft_max_over_both_verdicts(items: Path) -> None:
    """Of the log-probabilities that torch gives them after the model's own answer."""
    predictions = PTrue(**settings(items)).run(TransformersModel.of(*parts()))
    expected, mass = [], []
    for question in QUESTIONS:
        ids, _ = greedy(f"{HEADER}Question: {question}\nAnswer:")
        prompt = (
            f"{CHECK_HEADER}Question: {question}\nProposed answer: {cut(parts()[1].decode(ids))}\n"
            "Is the proposed answer true?\n(A) True\n(B) False\nThe proposed answer is:"
        )
        both = torch.tensor([logprob(prompt, " (A)"), logprob(prompt, " (B)")])
        expected.append(float(both.softmax(0)[0]))
        mass.append(float(both.exp().sum()))
    assert_allclose(predictions.confidence, expected, rtol=0, atol=CLOSE)
    assert_allclose(predictions.option_mass, mass, rtol=1e-3)
    assert predictions.correct.tolist() == [True, False, False]


@torch.no_grad()
def drawn(prompt: str, seed: int) -> str:
    """Draw an answer with torch alone."""
    model, tokenizer = parts()
    ids = list(tokenizer(prompt)["input_ids"])
    start = len(ids)
    for step in range(TOKENS):
        shares = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1).cumsum(-1)
        token = int((shares <= uniform(seed, step)).sum())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
        if STOP in tokenizer.decode(ids[start:]).lstrip():
            break
    return cut(tokenizer.decode(ids[start:]))


def test_agreement_is_the_share_of_the_commonest_draw(items: Path) -> None:
    """Of answers that torch draws from the same seeds; a limit or a batch changes nothing."""
    short = settings(items) | {"max_new_tokens": 1}
    probe = Agreement(**short, samples=5)
    expected = []
    for item in probe.items:
        prompt = f"{HEADER}Question: {item.question}\nAnswer:"
        # The first token of each draw is the whole answer.
        ids = parts()[1](prompt)["input_ids"]
        with torch.no_grad():
            shares = parts()[0](torch.tensor([ids])).logits[0, -1].double().softmax(-1).cumsum(-1)
        tokens = [int((shares <= uniform(seed, 0)).sum()) for seed in seeds_of(0, item, 5)]
        end = parts()[1].eos_token_id
        answers = [cut(parts()[1].decode([t])) if t != end else "" for t in tokens]
        expected.append(max(Counter(map(normalised, answers)).values()) / 5)
    predictions = probe.run(TransformersModel.of(*parts()))
    assert_allclose(predictions.confidence, expected, rtol=1e-6)
    one_by_one = probe.run(TransformersModel.of(*parts(), batch_tokens=1), limit=2)
    index = [predictions.item_ids.tolist().index(i) for i in one_by_one.item_ids]
    assert one_by_one.confidence.tolist() == predictions.confidence[index].tolist()
    whole = Agreement(**settings(items), samples=3)
    texts = whole.run(TransformersModel.of(*parts())).texts
    assert texts is not None
    for i, item in enumerate(whole.items):
        prompt = f"{HEADER}Question: {item.question}\nAnswer:"
        said = [drawn(prompt, seed) for seed in seeds_of(0, item, 3)]
        assert texts[i].answer == whole.largest(item, said)[0]


def test_a_model_that_states_nothing_fails_by_name(items: Path) -> None:
    """Random weights write no probability: too many failures, or all wrong with confidence 1."""
    engine = TransformersModel.of(*parts())
    with pytest.raises(ProbeError, match="'verbalized': no probability can be read from 3 of 3"):
        Verbalized(path=items, max_new_tokens=4).run(engine)
    predictions = Verbalized(path=items, max_new_tokens=4, max_failures=1.0).run(engine)
    assert (predictions.confidence.tolist(), predictions.correct.any()) == ([1.0] * 3, False)


# --- a model that was trained to state its confidence ---------------------------------------------

SAID = [(f"a{i}", f"0.{i + 1}") for i in range(4)]
FORMS: dict[str, Any] = {
    "top_1": {"form": "top_1"},
    "top_k": {"form": "top_k", "guesses": 2},
    "tag": {"form": "tag"},
}
WRITTEN = {
    "top_1": "Guess: {}\nProbability: {}",
    "top_k": "G1: none\nP1: 5 %\nG2: {}\nP2: {}",
    "tag": "<answer>{}</answer> <confidence>{}</confidence>",
}


@pytest.mark.data
def test_stated_confidences_of_a_trained_model_are_read(tmp_path: Path) -> None:
    """In its chat template, each form: what transformers generates is what is read and judged."""
    path = tmp_path / "rows.jsonl"
    # Every second of its answers is wrong.
    rows = [{"question": f"Q{i}?", "answer": f"a{i - i % 2}"} for i in range(len(SAID))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    # Short prompts, which a model this small learns in seconds.
    probes = {
        name: Verbalized(name, path=path, chat=True, template=f"{name} {{question}}", **settings)
        for name, settings in FORMS.items()
    }
    tokenizer = chat_tokenizer()
    asked = [
        [
            *map(dict, probe.conversation([], probe.show(item), probe.header)),
            {"role": "assistant", "content": WRITTEN[name].format(*said)},
        ]
        for name, probe in probes.items()
        for item, said in zip(probe.items, SAID, strict=True)
    ]
    model = chat_model(tokenizer, asked, steps=500)
    engine = TransformersModel.of(model, tokenizer)
    for name, probe in probes.items():
        # The checkpoint names another end token than its template writes.
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        predictions = probe.run(engine)
        model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|end|>")
        stated = []
        for item in probe.items:
            chat = [dict(turn) for turn in probe.conversation([], probe.show(item), "")]
            ids = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt"
            )["input_ids"]
            with quietly():
                out = model.generate(ids, do_sample=False, max_new_tokens=64, pad_token_id=1)
            text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            stated.append(probe.form.read(text))
        assert [tuple(one) for one in stated if one] == [(a, float(p)) for a, p in SAID], name
        assert_allclose(predictions.confidence, [float(p) for _, p in SAID], rtol=1e-6)
        assert predictions.correct.tolist() == [True, False] * 2
        assert predictions.notes == ()
