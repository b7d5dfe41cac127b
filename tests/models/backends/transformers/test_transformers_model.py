"""The torch engine against a plain reference: one unpadded sequence at a time, all logits."""

from __future__ import annotations

import gc
import json
import math
import shutil
import subprocess
import sys
import warnings
import weakref
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CONTEXT, CORPUS, END, VOCABULARY, WINDOW, bpe, edit_json, new_model, save
from checkpoints import quietly as quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration.errors import (  # noqa: E402
    MissingExtra,
    ModelError,
    TokenBoundaryError,
    UsageError,
)
from pytest_calibration.metrics import accuracy, ece  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.models.loading import LazyModel, load_model  # noqa: E402
from pytest_calibration.models.protocols import LanguageModel  # noqa: E402
from pytest_calibration.probes.facts import Facts  # noqa: E402
from pytest_calibration.probes.multiple_choice import MultipleChoice  # noqa: E402
from pytest_calibration.probes.next_token import NextToken  # noqa: E402
from pytest_calibration.progress import PROGRESS, Work  # noqa: E402

pytestmark = pytest.mark.torch

CLOSE = 1e-4
"""Nats (or probability): float32 rounding in another order of operations."""

PROMPTS = ("The capital of Italy is", "Water", "In the year 1969 the first people", "The city of")
OPTIONS = (
    (" Paris", " Rome", " the", " the city of Oslo"),
    (" boils at 100 degrees", " is", " is the"),
    (" walked", " melts on the moon"),
    (" Oslo", " Bern", ", Xyz"),
)


def load(path: Path | str, **settings: Any) -> LazyModel:
    """Return a model that scores in float32 on the CPU."""
    return load_model(str(path), **{"dtype": "float32", "device": "cpu"} | settings)


class Reference:
    """What the engine must agree with, as directly as it can be written."""

    def __init__(self, path: Path, tokenizer: Path | None = None) -> None:
        from tokenizers import Tokenizer

        with quiet():
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, attn_implementation="eager"
            ).eval()
        self.tokenizer = Tokenizer.from_file(str((tokenizer or path) / "tokenizer.json"))

    def encode(self, text: str) -> list[int]:
        """Return the token ids."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def logprobs(self, ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Return log P of every token after each of these, (t, v), in nats."""
        with torch.no_grad():
            logits = self.model(torch.tensor([list(ids)])).logits[0]
        out: np.ndarray[Any, Any] = torch.log_softmax(logits.double(), dim=-1).numpy()
        return out

    def option(self, prompt: str, option: str) -> float:
        """Return log P(option | prompt): the sum over the tokens that the option adds."""
        head, whole = self.encode(prompt), self.encode(prompt + option)
        assert whole[: len(head)] == head
        table = self.logprobs(whole)
        return float(sum(table[i - 1, whole[i]] for i in range(len(head), len(whole))))

    def next_token(self, ids: Sequence[int]) -> tuple[list[float], list[bool], list[float]]:
        """Return top probability, hit and log P(target) of every token but the first."""
        table = self.logprobs(ids)[:-1]
        targets = list(ids[1:])
        return (
            np.exp(table.max(axis=1)).tolist(),
            (table.argmax(axis=1) == targets).tolist(),
            table[np.arange(len(targets)), targets].tolist(),
        )


@cache
def reference(path: Path, tokenizer: Path | None = None) -> Reference:
    """Return the reference for a checkpoint, made once."""
    return Reference(path, tokenizer)


def numbers(score: Any) -> tuple[Any, Any, Any]:
    """Return what :meth:`Reference.next_token` returns."""
    return score.top_probability, score.hit, score.target_logprob


# --- scores --------------------------------------------------------------------------------------


def test_option_logprobs_equal_the_reference(checkpoint: Path) -> None:
    """Log P(option | prompt) is the sum of log-softmax over the tokens that the option adds."""
    plain = reference(checkpoint)
    expected = [[plain.option(p, o) for o in os] for p, os in zip(PROMPTS, OPTIONS, strict=True)]
    added = {
        len(plain.encode(p + o)) - len(plain.encode(p))
        for p, os in zip(PROMPTS, OPTIONS, strict=True)
        for o in os
    }
    assert 1 in added, "a single-token option is among them"
    assert max(added) > 2, "and one of several tokens"
    assert len({len(plain.encode(p)) for p in PROMPTS}) > 1, "and prompts of unequal length"
    scores = load(checkpoint).option_logprobs(PROMPTS, OPTIONS)
    assert [len(row) for row in scores] == [len(os) for os in OPTIONS]
    assert_allclose(np.concatenate(scores), np.concatenate(expected), rtol=0, atol=CLOSE)
    assert all(row.dtype == np.float64 for row in scores)


def test_next_token_equals_the_reference(checkpoint: Path) -> None:
    """Top probability, hit and log P(target) are those of the whole vocabulary at each position."""
    plain = reference(checkpoint)
    texts = [p + os[-1] for p, os in zip(PROMPTS, OPTIONS, strict=True)]
    for text, score in zip(texts, load(checkpoint).next_token(texts), strict=True):
        encoding = plain.tokenizer.encode(text)
        top, hit, logprob = plain.next_token(encoding.ids)
        assert_allclose(score.top_probability, top, rtol=0, atol=CLOSE)
        assert score.hit.tolist() == hit
        assert_allclose(score.target_logprob, logprob, rtol=0, atol=CLOSE)
        assert score.token_ids.tolist() == encoding.ids[1:]
        assert score.spans.tolist() == [list(span) for span in encoding.offsets[1:]]


def test_confidence_is_a_probability_and_a_hit_is_the_most_likely_token(checkpoint: Path) -> None:
    """A hit scores log P(target) = log(top probability); a miss scores below it."""
    for score in load(checkpoint).next_token(CORPUS):
        assert ((score.top_probability > 0) & (score.top_probability <= 1)).all()
        top = np.log(score.top_probability)
        assert_allclose(score.target_logprob[score.hit], top[score.hit], atol=1e-6)
        assert (score.target_logprob[~score.hit] < top[~score.hit]).all()


def test_generate_equals_greedy_generate(checkpoint: Path) -> None:
    """Text and log-probabilities are those of transformers' own greedy generation."""
    plain = reference(checkpoint)
    most = [5, 1, 0, 9]
    written = load(checkpoint).generate(PROMPTS, max_new_tokens=most)
    for prompt, n, generation in zip(PROMPTS, most, written, strict=True):
        if n == 0:
            assert (generation.text, len(generation.token_logprobs)) == ("", 0)
            continue
        ids = torch.tensor([plain.encode(prompt)])
        out = plain.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=n,
            pad_token_id=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new = out.sequences[0, ids.shape[1] :].tolist()
        ended = new[-1] == plain.model.generation_config.eos_token_id
        written_ids = new[: len(new) - ended]
        assert generation.text == plain.tokenizer.decode(written_ids, skip_special_tokens=False)
        assert generation.finished == ended
        logprobs = [
            float(torch.log_softmax(row[0].double(), dim=-1)[token])
            for row, token in zip(out.logits, new, strict=True)
        ]
        assert_allclose(generation.token_logprobs, logprobs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("as_list", [False, True], ids=["one end token", "several"])
def test_generation_stops_at_the_end_token(copy: Path, as_list: bool) -> None:
    """The end token of the generation configuration ends a text: counted, and no part of it."""
    plain = reference(copy.parent / "copy")
    ids = plain.encode(PROMPTS[0])
    greedy = []
    for _ in range(6):
        greedy.append(int(plain.logprobs([*ids, *greedy])[-1].argmax()))
    end = next(i for i, token in enumerate(greedy) if i >= 1 and token not in greedy[:i])
    edit_json(
        copy / "generation_config.json",
        eos_token_id=[VOCABULARY - 1, greedy[end]] if as_list else greedy[end],
    )
    (one, other) = load(copy).generate([PROMPTS[0], PROMPTS[1]], max_new_tokens=[6, 6])
    assert len(one.token_logprobs) == end + 1
    assert one.text == plain.tokenizer.decode(greedy[:end], skip_special_tokens=False)
    assert one.finished
    assert len(other.token_logprobs) >= 1


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_scores_do_not_depend_on_the_batch(checkpoint: Path, batch_tokens: int) -> None:
    """Any number of padded tokens per forward pass gives the scores of one row at a time."""
    plain = reference(checkpoint)
    model = load(checkpoint, batch_tokens=batch_tokens)
    expected = [[plain.option(p, o) for o in os] for p, os in zip(PROMPTS, OPTIONS, strict=True)]
    scores = model.option_logprobs(PROMPTS, OPTIONS)
    assert_allclose(np.concatenate(scores), np.concatenate(expected), rtol=0, atol=CLOSE)
    for text, score in zip(PROMPTS, model.next_token(PROMPTS), strict=True):
        top, hit, logprob = plain.next_token(plain.encode(text))
        assert_allclose(score.top_probability, top, rtol=0, atol=CLOSE)
        assert score.hit.tolist() == hit
        assert_allclose(score.target_logprob, logprob, rtol=0, atol=CLOSE)


def passes(model: LazyModel) -> list[int]:
    """Return a list that grows by the tokens of each forward pass from now on."""
    sizes: list[int] = []
    model.load().model.get_decoder().register_forward_pre_hook(
        lambda _, given, named: sizes.append((given[0] if given else named["input_ids"]).numel()),
        with_kwargs=True,
    )
    return sizes


def test_forward_passes_hold_at_most_batch_tokens(neox: Path) -> None:
    """A pass holds at most ``batch_tokens`` tokens, none of them padding."""
    model = load(neox, batch_tokens=30)
    sizes = passes(model)
    texts = [*CORPUS, *PROMPTS]
    rows = [reference(neox).encode(text)[:-1] for text in texts]
    model.next_token(texts)
    distinct = {tuple(row[: n + 1]) for row in rows for n in range(len(row))}
    assert len(distinct) <= sum(sizes) <= sum(map(len, rows))
    assert max(sizes) <= 30
    assert max(map(len, rows)) <= 30 < sum(map(len, rows))
    assert len(sizes) < len(texts), "rows share passes"


@settings(max_examples=20)
@given(order=st.permutations(range(4)), size=st.integers(1, 4))
def test_scores_do_not_depend_on_order_or_company(
    checkpoints: dict[str, Path], order: list[int], size: int
) -> None:
    """Each prompt scores the same wherever it stands and whatever is scored beside it."""
    for family in ("gpt_neox", "opt", "mistral"):
        model = loaded(checkpoints[family])
        alone = [model.option_logprobs([p], [o])[0] for p, o in zip(PROMPTS, OPTIONS, strict=True)]
        single = [model.next_token([p])[0] for p in PROMPTS]
        some = order[:size]
        prompts = [PROMPTS[i] for i in some]
        scores = model.option_logprobs(prompts, [OPTIONS[i] for i in some])
        for i, row in zip(some, scores, strict=True):
            assert_allclose(row, alone[i], rtol=0, atol=CLOSE)
        for i, score in zip(some, model.next_token(prompts), strict=True):
            assert_allclose(score.target_logprob, single[i].target_logprob, rtol=0, atol=CLOSE)
            assert_allclose(score.top_probability, single[i].top_probability, rtol=0, atol=CLOSE)


@cache
def loaded(path: Path) -> LazyModel:
    """Return a model that stays in memory for the tests that ask many small things of it."""
    return load(path)


def test_the_order_of_options_does_not_matter(neox: Path) -> None:
    """Options listed in another order score the same, an option listed twice scores twice."""
    model = load(neox)
    (forward,) = model.option_logprobs([PROMPTS[0]], [OPTIONS[0]])
    (backward,) = model.option_logprobs([PROMPTS[0]], [[*reversed(OPTIONS[0]), OPTIONS[0][0]]])
    assert_allclose(backward, [*reversed(forward), forward[0]], rtol=0, atol=CLOSE)


def test_single_token_options_of_a_whole_vocabulary_sum_to_one(neox: Path) -> None:
    """The probabilities of all tokens after one prompt sum to 1."""
    model = load(neox).load()
    head = reference(neox).encode(PROMPTS[0])
    from pytest_calibration.models.causal.rows import Row

    every = list(range(VOCABULARY))
    (score,) = model._scorer.score([Row(head, [len(head) - 1] * VOCABULARY, every)])
    assert np.exp(score.target_logprob).sum() == pytest.approx(1, abs=1e-5)


def test_nothing_asked_is_nothing_answered(neox: Path) -> None:
    """Empty lists of prompts, options or texts give empty answers, and no forward pass."""
    model = load(neox)
    assert model.option_logprobs([], []) == []
    assert model.next_token([]) == []
    assert model.generate([], max_new_tokens=[]) == []
    (none,) = model.option_logprobs(["The"], [[]])
    assert none.shape == (0,)
    for score in model.next_token(["", "T"]):
        assert [len(array) for array in numbers(score)] == [0, 0, 0]
        assert score.spans.shape == (0, 2)


def test_sliding_window_is_kept(checkpoints: dict[str, Path]) -> None:
    """With window w and 2 layers, a token sees the 2(w - 1) tokens before it and none before."""
    model = load(checkpoints["mistral"]).load()
    ids = reference(checkpoints["mistral"]).encode(CORPUS[1])
    reach = 2 * (WINDOW - 1)
    last = len(ids) - 1
    from pytest_calibration.models.causal.rows import Row

    def score(changed: int | None) -> float:
        row = [(token + 7) % VOCABULARY if i == changed else token for i, token in enumerate(ids)]
        return float(model._scorer.score([Row(row, [last], [5])])[0].target_logprob[0])

    assert score(last - reach - 1) == pytest.approx(score(None), abs=1e-6)
    assert score(last - reach) != pytest.approx(score(None), abs=1e-4)


# --- windows -------------------------------------------------------------------------------------

LONG = " ".join(CORPUS + CORPUS[::-1])


def windowed(plain: Reference, ids: list[int], size: int) -> list[tuple[float, bool, float]]:
    """Score token t with the first window, starting at a multiple of half, that reaches it.

    Later windows begin with the token that the tokenizer puts before a text.
    """
    half = max(1, size // 2)
    before = [ids[0]] if ids[0] == 0 and plain.encode("Water")[0] == 0 else []
    out = []
    for t in range(1, len(ids)):
        rest = size - len(before)
        start = 0 if t <= size else math.ceil((t - rest) / half) * half
        assert start == 0 or t - start >= half, "half a window of context past the first window"
        row = plain.logprobs([*(before if start else []), *ids[start:t]])[-1]
        out.append((math.exp(row.max()), int(row.argmax()) == ids[t], float(row[ids[t]])))
    return out


def test_text_longer_than_the_context_is_read_in_windows(checkpoint: Path) -> None:
    """Each token is scored once: after all before it in the first window, later half or more."""
    plain = reference(checkpoint)
    model = load(checkpoint)
    text = f"{LONG} {LONG}"
    encoding = plain.tokenizer.encode(text)
    size = plain.model.config.max_position_embeddings
    assert len(encoding.ids) > 2 * size
    (score,) = model.next_token([text])
    assert score.token_ids.tolist() == encoding.ids[1:]
    assert score.spans.tolist() == [list(span) for span in encoding.offsets[1:]]
    top, hit, logprob = zip(*windowed(plain, encoding.ids, size), strict=True)
    assert_allclose(score.top_probability, top, rtol=0, atol=CLOSE)
    assert score.hit.tolist() == list(hit)
    assert_allclose(score.target_logprob, logprob, rtol=0, atol=CLOSE)
    _, _, first = plain.next_token(encoding.ids[: size + 1][:size])
    assert_allclose(score.target_logprob[: size - 1], first, rtol=0, atol=CLOSE)


@settings(max_examples=25)
@given(
    # A context of one token holds no text beside the first token.
    size=st.integers(2, CONTEXT),
    words=st.integers(1, 30),
    picked=st.sets(st.integers(0, 60)),
)
@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_windows_of_any_size(
    checkpoints: dict[str, Path], family: str, size: int, words: int, picked: set[int]
) -> None:
    """Whatever the context, the text and the positions asked for, each is scored once."""
    plain = reference(checkpoints[family])
    model = loaded(checkpoints[family]).load()
    ids = plain.encode(" ".join(LONG.split()[:words]))
    expected = windowed(plain, ids, size)
    chosen = sorted(i for i in picked if i < len(expected))
    before, model.max_tokens = model.max_tokens, size
    try:
        (score,) = model.next_token(
            [" ".join(LONG.split()[:words])], choose=lambda *_: np.array(chosen, np.int64)
        )
    finally:
        model.max_tokens = before
    assert score.token_ids.tolist() == [ids[i + 1] for i in chosen]
    assert_allclose(score.target_logprob, [expected[i][2] for i in chosen], rtol=0, atol=CLOSE)


def test_chosen_positions_score_as_they_do_among_all(checkpoint: Path) -> None:
    """Choosing positions leaves their scores as they are; they come in the order of the text."""
    model = load(checkpoint)
    seen: list[tuple[int, list[list[int]]]] = []

    def choose(i: int, spans: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append((i, spans.tolist()))
        return np.array([len(spans) - 1, 2, 0] if i else [], dtype=np.int64)

    every = model.next_token([PROMPTS[0], LONG])
    none, some = model.next_token([PROMPTS[0], LONG], choose=choose)
    assert seen == [(i, score.spans.tolist()) for i, score in enumerate(every)]
    assert [len(array) for array in numbers(none)] == [0, 0, 0]
    at = [0, 2, len(every[1].hit) - 1]
    assert some.spans.tolist() == every[1].spans[at].tolist()
    assert some.hit.tolist() == every[1].hit[at].tolist()
    assert_allclose(some.target_logprob, every[1].target_logprob[at], rtol=0, atol=CLOSE)
    assert_allclose(some.top_probability, every[1].top_probability[at], rtol=0, atol=CLOSE)


# --- how it runs ---------------------------------------------------------------------------------


def test_dropout_is_off(checkpoint: Path) -> None:
    """A checkpoint with dropout in its configuration scores the same twice, bit for bit."""
    model = load(checkpoint)
    once, again = (model.option_logprobs(PROMPTS, OPTIONS) for _ in range(2))
    assert [row.tolist() for row in once] == [row.tolist() for row in again]
    assert not any(module.training for module in model.load().model.modules())


def test_no_gradients_are_kept(neox: Path) -> None:
    """Every forward pass runs in inference mode and leaves no gradient behind."""
    model = load(neox)
    network = model.load().model
    modes: list[tuple[bool, bool]] = []
    network.get_decoder().register_forward_hook(
        lambda *_: modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
    )
    model.option_logprobs(PROMPTS, OPTIONS)
    model.next_token(PROMPTS)
    model.generate(PROMPTS, max_new_tokens=[1, 1, 1, 1])
    assert len(modes) >= 3
    assert set(modes) == {(False, True)}
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.is_grad_enabled()


class Heard:
    """Keeps every report that the engine makes."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    def show(self, work: Work) -> float:
        """Keep it, and want to hear the next at once."""
        self.works.append(work)
        return 0.0

    def clear(self) -> None:
        """Nothing to take away."""

    def counts(self, unit: str) -> list[tuple[int, int, float]]:
        """Return (done, total, share) of each report."""
        return [(w.done, w.total, w.share) for w in self.works if w.unit == unit]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Somebody who listens to the engine."""
    heard = Heard()
    before = PROGRESS.set(heard)
    with PROGRESS.of("model", "probe"):
        yield heard
    PROGRESS.set(before)


def test_rows_are_counted_as_they_are_scored(neox: Path, heard: Heard) -> None:
    """One report a pass, from 0; the share of the work is that of the tokens, long rows first."""
    model = load(neox, batch_tokens=16)
    texts = ["one two three four five six seven eight", "The boils at", "Water is"]
    sizes = passes(model)
    model.next_token(texts)
    reports = heard.counts("rows")
    assert len(reports) == len(sizes) > 1
    before = [sum(sizes[:k]) / sum(sizes) for k in range(len(sizes))]
    assert [share for *_, share in reports] == pytest.approx(before)
    done = [count[0] for count in reports]
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] < 3, "the last pass is reported before it is made"
    assert {count[1] for count in reports} == {3}


def test_tokens_are_counted_as_they_are_generated(neox: Path, heard: Heard) -> None:
    """Over all steps of all continuations: the count never falls, and the total is a bound."""
    most = [5, 2, 4]
    given = load(neox, batch_tokens=1).generate(PROMPTS[:3], max_new_tokens=most)
    written = [len(one.token_logprobs) for one in given]
    counts = heard.counts("tokens")
    done = [count[0] for count in counts]
    assert done == sorted(done)
    assert {*done} == {*range(sum(written))}
    assert counts[0][1] == sum(most)
    assert all(sum(written) <= total <= sum(most) for _, total, _ in counts)
    assert [share for *_, share in counts] == pytest.approx([d / t for d, t, _ in counts])


def test_a_continuation_that_ends_early_lowers_the_total(copy: Path, heard: Heard) -> None:
    """What an end token spares is taken off the total, so that the time left is not overstated."""
    plain = reference(copy.parent / "copy")
    first = int(plain.logprobs(plain.encode(PROMPTS[0]))[-1].argmax())
    edit_json(copy / "generation_config.json", eos_token_id=first)
    model = load(copy)
    model.load()
    heard.works.clear()
    one, other = model.generate([PROMPTS[0], PROMPTS[1]], max_new_tokens=[5, 5])
    assert len(one.token_logprobs) == 1
    totals = [total for _, total, _ in heard.counts("tokens")]
    steps = len(other.token_logprobs)
    assert totals == [10, *[6] * steps]


def test_reading_the_weights_is_said(neox: Path, heard: Heard) -> None:
    """Progress shows loading when the weights are read, once, and not when it scores."""
    model = load(neox)
    model.next_token(["one two"])
    model.next_token(["one two"])
    loading = [work.loading for work in heard.works]
    assert loading.count(True) == 1
    assert str(heard.works[loading.index(True)]) == f"loading {model.name}"
    assert loading[-1] is False


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_described(neox: Path, dtype: str) -> None:
    """Half precision changes scores by some 2^-9 of the logits per operation, and is described."""
    full, half = load(neox), load(neox, dtype=dtype)
    assert half.description["dtype"] == dtype
    assert full.description["dtype"] == "float32"
    with torch.no_grad():
        logits = reference(neox).model(torch.tensor([[5, 6, 7]])).logits
    # Eight bits of significand in bfloat16, a few tens of roundings on the way, by the square root.
    bound = float(logits.abs().max()) * 2.0**-8 * 8
    assert bound < 0.2
    a, b = (np.array([row[0] for row in m.option_logprobs(PROMPTS, OPTIONS)]) for m in (full, half))
    assert_allclose(a, b, rtol=0, atol=bound)
    assert np.abs(a - b).max() > 1e-5


def test_dtype_auto_is_the_checkpoints_own(tmp_path: Path) -> None:
    """A checkpoint saved in bfloat16 is scored in bfloat16 unless another dtype is asked for."""
    path = save(tmp_path / "half", new_model("gpt_neox").to(torch.bfloat16), bpe())
    assert load(path, dtype="auto").description["dtype"] == "bfloat16"
    assert load(path, dtype="float32").description["dtype"] == "float32"


def test_description_names_settings_and_versions(neox: Path) -> None:
    """What stands beside a number: dtype, device, and the versions of both libraries."""
    assert load(neox).description == {
        "dtype": "float32",
        "device": "cpu",
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
    }


def test_it_is_a_language_model(neox: Path) -> None:
    """The lazy model and the loaded one both fulfil the protocol, under one name."""
    lazy = load(neox)
    assert isinstance(lazy, LanguageModel)
    assert isinstance(lazy.load(), LanguageModel)
    assert lazy.name == lazy.load().name == "gpt_neox"


def test_threads_setting_reaches_torch(neox: Path) -> None:
    """``threads`` is the number of CPU threads of torch."""
    load(neox, threads=2).load()
    assert torch.get_num_threads() == 2


# --- tokenizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "option"),
    [("The capital of France is ", "Paris"), ("The capi", "tal of Norway"), ("The moo", "n")],
    ids=["space at the end", "middle of a word", "last letter"],
)
def test_merged_boundary_is_an_error(neox: Path, prompt: str, option: str) -> None:
    """A prompt whose last token changes when the option follows is refused, both named."""
    plain = reference(neox)
    assert plain.encode(prompt + option)[: len(plain.encode(prompt))] != plain.encode(prompt)
    message = f"merges the end of the prompt '{prompt}' with the option '{option}', so"
    with pytest.raises(TokenBoundaryError, match=message):
        load(neox).option_logprobs(["Water", prompt], [[" is"], [option]])


def test_long_prompts_are_named_by_their_end(neox: Path) -> None:
    """The boundary message shows the last forty characters, where the trouble is."""
    prompt = f"{CORPUS[0]} Now "
    with pytest.raises(TokenBoundaryError, match=rf"prompt \.\.\.{prompt[-40:]!r} with"):
        load(neox).option_logprobs([prompt], [["the"]])


def test_option_without_a_token_is_an_error(neox: Path) -> None:
    """An option that adds nothing to the prompt has no probability."""
    with pytest.raises(ModelError, match="the option '' adds no token to 'Water'"):
        load(neox).option_logprobs(["Water"], [[" is", ""]])


def test_empty_prompt_needs_a_start_token(neox: Path, checkpoints: dict[str, Path]) -> None:
    """Without a token there is nothing to predict from; a start token is one."""
    with pytest.raises(ModelError, match="the prompt '' has no tokens; a model needs at least one"):
        load(neox).option_logprobs([""], [[" is"]])
    with pytest.raises(ModelError, match="the prompt '' has no tokens"):
        load(neox).generate(["Water", ""], max_new_tokens=[1, 1])
    llama = checkpoints["llama"]
    (row,) = load(llama).option_logprobs([""], [["The", "Water"]])
    expected = [reference(llama).option("", "The"), reference(llama).option("", "Water")]
    assert_allclose(row, expected, rtol=0, atol=CLOSE)


def test_start_token_comes_once_and_is_no_target(checkpoints: dict[str, Path]) -> None:
    """With a start token the first token of a text is predicted, the start token never."""
    llama = checkpoints["llama"]
    (score,) = load(llama).next_token(["Water boils"])
    ids = reference(llama).encode("Water boils")
    assert ids[0] == 0
    assert 0 not in ids[1:]
    assert score.token_ids.tolist() == ids[1:]
    assert score.spans[0].tolist()[0] == 0


def test_a_text_that_begins_with_the_start_token_has_it_once(
    checkpoints: dict[str, Path],
) -> None:
    """The scores are those of the text without it; characters are counted in the text given."""
    model = load(checkpoints["llama"])
    for text in (PROMPTS[0], f"{LONG} {LONG}"):
        (plain,), (begun,) = model.next_token([text]), model.next_token([END + text])
        assert begun.spans.tolist() == (plain.spans + len(END)).tolist()
        assert begun.token_ids.tolist() == plain.token_ids.tolist()
        assert_allclose(begun.target_logprob, plain.target_logprob, rtol=0, atol=CLOSE)
    (plain_row,), (row,) = (model.option_logprobs([p], [[" Rome"]]) for p in ("It", f"{END}It"))
    assert_allclose(row, plain_row, rtol=0, atol=CLOSE)
    (one,), (other,) = (model.generate([p], max_new_tokens=[3]) for p in ("It", f"{END}It"))
    assert one.text == other.text


def test_token_after_the_text_is_left_out(neox: Path, tmp_path: Path) -> None:
    """A tokenizer that ends every text with a token scores as one that does not."""
    ending = save(tmp_path / "ending", bpe(end=True))
    assert reference(neox, ending).encode("Water")[-1] == 0
    plain, other = load(neox), load(neox, tokenizer=str(ending))
    for a, b in zip(
        plain.option_logprobs(PROMPTS, OPTIONS),
        other.option_logprobs(PROMPTS, OPTIONS),
        strict=True,
    ):
        assert_allclose(a, b, rtol=0, atol=CLOSE)
    for a, b in zip(plain.next_token([LONG]), other.next_token([LONG]), strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert_allclose(a.target_logprob, b.target_logprob, rtol=0, atol=CLOSE)
    most = [3] * len(PROMPTS)
    for a, b in zip(
        plain.generate(PROMPTS, max_new_tokens=most),
        other.generate(PROMPTS, max_new_tokens=most),
        strict=True,
    ):
        assert a.text == b.text


def test_special_tokens_written_in_a_text_are_tokens_of_it(neox: Path) -> None:
    """Only what the tokenizer adds is no target; what the text itself says is scored."""
    text = f"Water{END} boils"
    (score,) = load(neox).next_token([text])
    assert score.token_ids.tolist() == reference(neox).encode(text)[1:]
    assert 0 in score.token_ids.tolist()


def test_truncation_stored_with_a_tokenizer_is_ignored(neox: Path, tmp_path: Path) -> None:
    """A tokenizer saved while it truncated and padded still reads the whole text, and no more."""
    other = bpe()
    other.backend_tokenizer.enable_truncation(3)
    other.backend_tokenizer.enable_padding(length=40, pad_id=1, pad_token="<pad>")
    path = save(tmp_path / "truncating", other)
    assert json.loads((path / "tokenizer.json").read_text("utf-8"))["truncation"]["max_length"] == 3
    (score,) = load(neox, tokenizer=str(path)).next_token([CORPUS[0]])
    assert score.token_ids.tolist() == reference(neox).encode(CORPUS[0])[1:]


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    """A checkpoint whose tokenizer is pure Python: byte b is token b + 3, token 1 ends a text."""
    model = new_model("gpt_neox", vocab_size=400)
    return save(tmp_path / "bytes", model, transformers.ByT5Tokenizer())


def test_tokenizer_without_offsets(byte_level: Path) -> None:
    """Next-token scores need character offsets; without them the message says what to change."""
    message = r"bytes: its tokenizer gives no character offsets.*model: \{tokenizer: \.\.\.\}"
    with pytest.raises(ModelError, match=message):
        load(byte_level).next_token(["Water"])


def test_options_need_no_offsets(byte_level: Path) -> None:
    """A slow tokenizer scores options: the sum over the bytes of the option."""
    with quiet():
        plain = transformers.AutoModelForCausalLM.from_pretrained(byte_level).eval()
    ids = [byte + 3 for byte in b"Water is"]
    with torch.no_grad():
        table = torch.log_softmax(plain(torch.tensor([ids])).logits[0].double(), dim=-1)
    expected = sum(float(table[i - 1, ids[i]]) for i in range(len(b"Water"), len(ids)))
    (row,) = load(byte_level).option_logprobs(["Water"], [[" is"]])
    assert_allclose(row, [expected], rtol=0, atol=CLOSE)


def test_tokens_that_share_characters_are_items_of_their_own(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Each token of an emoji or accent cut into bytes keeps an id of its own."""
    texts = ["🎉🎉 été 🇫🇷", "日本語 naïve 🎉", "🎉"]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), "utf-8")
    plain = reference(checkpoint)
    tokens = [plain.tokenizer.encode(t) for t in texts]
    assert any(len(set(e.offsets)) < len(e.offsets) for e in tokens), "some share characters"
    predictions = NextToken(path=path, positions="all").run(load(checkpoint))
    assert predictions.n == sum(len(e.ids) - 1 for e in tokens)
    assert len(set(predictions.item_ids.tolist())) == predictions.n


def test_separate_tokenizer(copy: Path, tmp_path: Path) -> None:
    """A model without a tokenizer is scored with the one that is named."""
    aside = tmp_path / "aside"
    aside.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(copy / file, aside / file)
    plain = reference(copy, aside)
    (row,) = load(copy, tokenizer=str(aside)).option_logprobs([PROMPTS[0]], [OPTIONS[0]])
    expected = [plain.option(PROMPTS[0], option) for option in OPTIONS[0]]
    assert_allclose(row, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("short", [0, 20], ids=["by one token", "by many"])
def test_tokenizer_of_another_model(neox: Path, tmp_path: Path, short: int) -> None:
    """A token the model has no embedding for is named, before it can crash a device."""
    token = max(reference(neox).encode("The capital is"))
    size = token - short
    lazy = load(save(tmp_path / "small", new_model("gpt_neox", vocab_size=size), bpe()))
    message = (
        rf"small: the tokenizer gives token {token}, but the model knows {size} tokens; "
        "use the tokenizer it was trained with"
    )
    with pytest.raises(ModelError, match=message):
        lazy.option_logprobs(["The capital"], [[" is"]])
    with pytest.raises(ModelError, match=message):
        lazy.next_token(["The capital is"])
    with pytest.raises(ModelError, match=message):
        lazy.generate(["The capital is"], max_new_tokens=[1])


# --- lengths -------------------------------------------------------------------------------------


def prompt_of(path: Path, n: int) -> str:
    """Return a prompt of exactly n tokens that ends at a word."""
    words = (LONG * 3).split(" ")
    for count in range(1, len(words)):
        prompt = " ".join(words[:count])
        if len(reference(path).encode(prompt)) >= n:
            break
    while len(reference(path).encode(prompt)) > n:
        prompt = prompt[1:]
    assert len(reference(path).encode(prompt)) == n
    return prompt


def test_prompt_as_long_as_the_context_fits(neox: Path) -> None:
    """The last token of an option is predicted, not read: it needs no room."""
    prompt = prompt_of(neox, CONTEXT)
    (row,) = load(neox).option_logprobs([prompt], [[" the"]])
    ids = reference(neox).encode(f"{prompt} the")
    expected = reference(neox).logprobs(ids[:-1])[-1, ids[-1]]
    assert len(ids) == CONTEXT + 1
    assert_allclose(row, [expected], rtol=0, atol=CLOSE)
    (one,) = load(neox).generate([prompt], max_new_tokens=[1])
    assert len(one.token_logprobs) == 1


def test_prompt_longer_than_the_context_is_an_error(neox: Path) -> None:
    """A prompt is never cut: its length and the model's are named."""
    model = load(neox)
    long = prompt_of(neox, CONTEXT + 1)
    takes = rf"\.\.\. takes {CONTEXT + 1} tokens, more than the {CONTEXT} this model can read; use"
    with pytest.raises(ModelError, match=rf"gpt_neox: the prompt {long[:40]!r}{takes} fewer shots"):
        model.option_logprobs(["Water", long], [[" is"], [" the"]])
    with pytest.raises(ModelError, match=takes):
        model.generate([long], max_new_tokens=[1])
    with pytest.raises(ModelError, match=takes.replace("tokens,", "tokens, 1 of them its answer,")):
        model.generate([prompt_of(neox, CONTEXT)], max_new_tokens=[2])


# --- weights that are no numbers -----------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("layer", ["first", "last"])
def test_weights_that_are_not_finite_give_no_score(
    tmp_path: Path, value: float, layer: str
) -> None:
    """One weight that is NaN or infinite makes every method raise; no score comes of it."""
    model = new_model("gpt_neox")
    weights = model.get_input_embeddings() if layer == "first" else model.get_output_embeddings()
    with torch.no_grad():
        # An embedding of the prompts' own first token; a whole row of the output layer.
        if layer == "first":
            weights.weight[:, 3] = value
        else:
            weights.weight[9, :] = value
    lazy = load(save(tmp_path / "broken", model, bpe()))
    with pytest.raises(ModelError, match="broken: not a finite score for 'Water'"):
        lazy.option_logprobs(["Water"], [[" is", " boils at"]])
    with pytest.raises(ModelError, match="broken: not a finite score in 'Water is'"):
        lazy.next_token(["Water is"])
    with pytest.raises(ModelError, match="broken: not a finite score for 'Water'"):
        lazy.generate(["Water"], max_new_tokens=[2])


def test_option_of_probability_zero_is_an_error(neox: Path, tmp_path: Path) -> None:
    """A logit of minus infinity is no score that options could be compared by."""
    model = new_model("gpt_neox").eval()
    head, option = reference(neox).encode("Water is")
    with torch.no_grad():
        sign = model.gpt_neox(torch.tensor([[head]])).last_hidden_state[0, -1, 0].sign()
        row = torch.zeros(32)
        row[0] = -sign * math.inf
        model.get_output_embeddings().weight[option] = row
        assert float(model(torch.tensor([[head]])).logits[0, -1, option]) == -math.inf
    lazy = load(save(tmp_path / "broken", model, bpe()))
    with pytest.raises(ModelError, match="broken: not a finite score for 'Water'"):
        lazy.option_logprobs(["Water"], [[" boils", " is"]])
    with pytest.raises(ModelError, match="broken: not a finite score in 'Water is'"):
        lazy.next_token(["Water is"])


def test_large_logits_neither_overflow_nor_exceed_one(neox: Path, tmp_path: Path) -> None:
    """Logits far beyond 88, where exp overflows in float32, still give probabilities."""
    model = new_model("gpt_neox")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(60)
    path = save(tmp_path / "sharp", model, bpe())
    plain = reference(path)
    ids = plain.encode(CORPUS[0])
    with torch.no_grad():
        assert float(plain.model(torch.tensor([ids])).logits.max()) > 120
    (score,) = load(path).next_token([CORPUS[0]])
    top, hit, logprob = plain.next_token(ids)
    assert_allclose(score.top_probability, top, rtol=0, atol=2e-3)
    assert score.top_probability.max() <= 1
    assert score.hit.tolist() == hit
    # Float32 keeps seven digits of logits that are some hundreds.
    assert_allclose(score.target_logprob, logprob, rtol=1e-5, atol=2e-3)


# --- what reaches from_pretrained ----------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, neox: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Record what each library class is asked to load, and load the GPT-NeoX checkpoint."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {}

    def listen(kind: str) -> None:
        original = getattr(transformers, kind).from_pretrained

        def from_pretrained(location: str, **arguments: Any) -> Any:
            # The classes also ask one another; ours is the first question.
            calls.setdefault(kind, (location, arguments))
            return original(neox, **arguments | {"revision": "main"})

        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", from_pretrained)

    for kind in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"):
        listen(kind)
    return calls


def test_revision_reaches_every_part(asked: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """``id@revision`` loads configuration, weights and tokenizer of that revision, and says so."""
    lazy = load("owner/name@step1000")
    assert lazy.description["revision"] == "step1000"
    assert set(asked) == {"AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"}
    for location, arguments in asked.values():
        assert location == "owner/name"
        assert arguments["revision"] == "step1000"
        assert arguments["trust_remote_code"] is False
    weights = asked["AutoModelForCausalLM"][1]
    assert weights["use_safetensors"] is True
    assert weights["dtype"] is torch.float32


def test_permissions_reach_every_part(asked: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """Code and pickles that a user allows are allowed: to all parts, and not by default."""
    load("owner/name", trust_remote_code=True, safetensors_only=False).load()
    for _, arguments in asked.values():
        assert arguments["trust_remote_code"] is True
        assert arguments["revision"] is None
    assert not asked["AutoModelForCausalLM"][1].get("use_safetensors")


def test_adapter_base_revision_reaches_every_part(
    asked: dict[str, tuple[str, dict[str, Any]]], adapters: dict[str, Path], tmp_path: Path
) -> None:
    """The base of an adapter is loaded at the revision the adapter names."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="owner/name", revision="abc")
    load(adapter).load()
    for location, arguments in asked.values():
        assert (location, arguments["revision"]) == ("owner/name", "abc")


def test_arguments_pass_through(neox: Path) -> None:
    """What calibration.yaml says under ``arguments`` reaches the library as it is."""
    model = load(
        neox,
        arguments={"attn_implementation": "eager"},
        tokenizer_arguments={"model_max_length": 7},
    ).load()
    assert model.model.config._attn_implementation == "eager"
    assert model.tokenizer.model_max_length == 7
    other = load(neox, arguments={"attn_implementation": "sdpa"}).load()
    assert other.model.config._attn_implementation == "sdpa"
    for a, b in zip(
        model.option_logprobs(PROMPTS, OPTIONS),
        other.option_logprobs(PROMPTS, OPTIONS),
        strict=True,
    ):
        assert_allclose(a, b, rtol=0, atol=CLOSE)


def test_argument_that_is_said_twice(neox: Path) -> None:
    """An argument that a setting already decides cannot slip past that setting."""
    with pytest.raises(
        ModelError, match="multiple values for keyword argument 'trust_remote_code'"
    ):
        load(neox, arguments={"trust_remote_code": True}).load()


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["absolute", "relative"])
def test_adapter_scores_as_the_merged_model(
    adapters: dict[str, Path], tmp_path: Path, path: str
) -> None:
    """A LoRA adapter on its base scores as the two merged, and not as the base alone."""
    root = tmp_path / "moved"
    for name in ("base", "adapter"):
        shutil.copytree(adapters[name], root / name)
    base = str(root / "base") if path == "absolute" else "../base"
    edit_json(root / "adapter" / "adapter_config.json", base_model_name_or_path=base)
    adapter, merged, alone = (
        load(p) for p in (root / "adapter", adapters["merged"], root / "base")
    )
    for ours, same, other in zip(
        adapter.option_logprobs(PROMPTS, OPTIONS),
        merged.option_logprobs(PROMPTS, OPTIONS),
        alone.option_logprobs(PROMPTS, OPTIONS),
        strict=True,
    ):
        assert_allclose(ours, same, rtol=0, atol=CLOSE)
        assert np.abs(ours - other).max() > 0.01
    for ours, same in zip(adapter.next_token([LONG]), merged.next_token([LONG]), strict=True):
        assert_allclose(ours.target_logprob, same.target_logprob, rtol=0, atol=CLOSE)
    a, b = (m.generate(PROMPTS, max_new_tokens=[2] * 4) for m in (adapter, merged))
    assert [g.text for g in a] == [g.text for g in b]
    assert adapter.name == "adapter"
    assert not any(module.training for module in adapter.load().model.modules())


@pytest.mark.parametrize("method", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_virtual_tokens_are_not_read_as_text(neox: Path, tmp_path: Path, method: str) -> None:
    """Adapters that put virtual tokens before the text are scored at the text's own tokens."""
    peft = pytest.importorskip("peft")
    family = new_model("llama")
    base = save(tmp_path / "base", family, bpe())
    torch.manual_seed(2)
    with quiet():
        wrapped = peft.get_peft_model(
            transformers.AutoModelForCausalLM.from_pretrained(base),
            getattr(peft, method)(task_type="CAUSAL_LM", num_virtual_tokens=3),
        ).eval()
        wrapped.save_pretrained(tmp_path / "adapter")
    ids = reference(base).encode(CORPUS[1])
    row = torch.tensor([ids])
    with torch.no_grad():
        logits = wrapped(input_ids=row, attention_mask=torch.ones_like(row)).logits
    table = torch.log_softmax(logits[0, -len(ids) :].double(), dim=-1)
    expected = [float(table[i - 1, ids[i]]) for i in range(1, len(ids))]
    model = load(tmp_path / "adapter")
    assert_allclose(model.next_token([CORPUS[1]])[0].target_logprob, expected, rtol=0, atol=CLOSE)
    (score,) = model.option_logprobs([CORPUS[1]], [[" The"]])
    assert score[0] < 0
    assert model.load().max_tokens == CONTEXT - 3


@pytest.mark.parametrize("lost", ["one", "all"])
def test_adapter_without_its_weights(adapters: dict[str, Path], tmp_path: Path, lost: str) -> None:
    """An adapter file that lacks weights is refused; PEFT alone would leave them random."""
    from safetensors.torch import load_file, save_file

    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    weights = load_file(adapter / "adapter_model.safetensors")
    for name in sorted(weights)[: 1 if lost == "one" else None]:
        del weights[name]
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not hold all the weights its configuration names"):
        load(adapter).load()


def test_adapter_without_a_weights_file(adapters: dict[str, Path], tmp_path: Path) -> None:
    """An adapter directory without weights is refused, and not looked for on the hub."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    (adapter / "adapter_model.safetensors").unlink()
    message = "holds adapter_config.json and no adapter_model.safetensors; save the adapter again"
    with pytest.raises(ModelError, match=message):
        load(adapter).load()


def test_pickled_adapter_is_refused_unless_allowed(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Adapter weights in pickle are read only where safetensors_only is false."""
    from safetensors.torch import load_file

    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    message = r"adapter: holds adapter_model.bin and no safetensors.*\{safetensors_only: false\}"
    with pytest.raises(ModelError, match=message):
        load(adapter).load()
    allowed = load(adapter, safetensors_only=False).option_logprobs(PROMPTS, OPTIONS)
    merged = load(adapters["merged"]).option_logprobs(PROMPTS, OPTIONS)
    assert_allclose(np.concatenate(allowed), np.concatenate(merged), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("base", ["", None, 5], ids=repr)
def test_adapter_that_names_no_base(
    adapters: dict[str, Path], tmp_path: Path, base: object
) -> None:
    """An adapter of a model that was never saved names no base; the working folder is not one."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(ModelError, match=r"adapter_config.json: names no base_model_name_or_path"):
        load(adapter).load()


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_adapter_configuration_that_cannot_be_read(
    adapters: dict[str, Path], tmp_path: Path, text: str
) -> None:
    """A configuration that is no JSON object, or an empty one, is named by its path."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    (adapter / "adapter_config.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=r"adapter_config.json: names no base_model_name_or_path"):
        load(adapter).load()


@pytest.mark.parametrize("base", ["../gone", "/nowhere/gone"])
def test_adapter_whose_base_is_gone(adapters: dict[str, Path], tmp_path: Path, base: str) -> None:
    """A base that can only be a path is not looked for on the hub."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(ModelError, match=f"its base model '{base}' is not there"):
        load(adapter).load()


def test_adapter_of_another_architecture(adapters: dict[str, Path], tmp_path: Path) -> None:
    """An adapter whose layers the base does not have is refused in one sentence."""
    adapter = Path(shutil.copytree(adapters["adapter"], tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", target_modules=["q_proj"])
    with pytest.raises(ModelError, match=r"cannot load directory .*adapter'.*q_proj"):
        load(adapter).load()


def test_missing_peft(
    adapters: dict[str, Path], neox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without peft an adapter names the install command, and other models load as ever."""
    monkeypatch.setitem(sys.modules, "peft", None)
    command = r'peft is not installed.*pip install "pytest-calibration\[peft\]"'
    with pytest.raises(MissingExtra, match=command):
        load(adapters["adapter"]).load()
    load(neox).load()


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_missing_torch(neox: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without torch or transformers the install command is named before anything is loaded."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r'pip install "pytest-calibration\[hf\]"'):
        load(neox)


# --- what is refused -----------------------------------------------------------------------------


def one_sentence(problem: BaseException) -> str:
    """Check that a message is one short line, and return it."""
    text = str(problem)
    assert "\n" not in text
    assert "Traceback" not in text
    assert text.endswith(".")
    assert len(text) < 500
    return text


def test_pickled_weights_are_refused_unless_allowed(copy: Path) -> None:
    """Weights in pickle can run code: refused by name, loaded where a user says so."""
    (copy / "model.safetensors").unlink()
    torch.save(new_model("gpt_neox").state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"copy: holds pytorch_model.bin and no safetensors.*safetensors_only"
    ) as caught:
        load(copy).load()
    one_sentence(caught.value)
    (row,) = load(copy, safetensors_only=False).option_logprobs(["Water"], [[" is"]])
    assert math.isfinite(row[0])


def test_files_that_are_no_weights_are_not_taken_for_weights(copy: Path) -> None:
    """Training arguments left beside no weights are not offered as pickled weights."""
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "training_args.bin")
    with pytest.raises(ModelError, match=r"no file named model.safetensors") as caught:
        load(copy).load()
    assert "training_args" not in one_sentence(caught.value)


@pytest.fixture
def with_code(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A checkpoint that brings Python code, which writes a file beside itself when it runs."""
    copy = Path(shutil.copytree(checkpoints["llama"], tmp_path / "copy"))
    marker = tmp_path / "ran"
    (copy / "configuration_own.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import LlamaConfig\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own_kind'\n"
    )
    (copy / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n"
        "from .configuration_own import OwnConfig\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    edit_json(
        copy / "config.json",
        model_type="own_kind",
        architectures=["OwnForCausalLM"],
        auto_map={
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    )
    # Modules of checkpoints are copied into a cache folder and imported from there.
    folder = tmp_path / "modules"
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield copy
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


def test_code_of_a_checkpoint_is_not_run_unless_allowed(
    with_code: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """A checkpoint that needs its own code is refused, unrun; with leave it scores as ever."""
    with pytest.raises(
        ModelError, match=r"copy: needs Python code.*\{trust_remote_code: true\}"
    ) as caught:
        load(with_code).load()
    one_sentence(caught.value)
    assert not (tmp_path / "ran").exists()
    rows = load(with_code, trust_remote_code=True).option_logprobs(PROMPTS, OPTIONS)
    assert (tmp_path / "ran").exists()
    expected = load(checkpoints["llama"]).option_logprobs(PROMPTS, OPTIONS)
    assert_allclose(np.concatenate(rows), np.concatenate(expected), rtol=0, atol=CLOSE)


def test_directory_without_config(tmp_path: Path) -> None:
    """A directory that is no checkpoint is named, with what belongs there."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty' holds no config.json and no adapter_config.json"):
        load(tmp_path / "empty").load()


def test_directory_without_tokenizer(copy: Path) -> None:
    """A model without a tokenizer says where to name one."""
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"copy' holds no tokenizer.*model: \{tokenizer: \.\.\.\}"):
        load(copy).load()


@pytest.mark.parametrize(
    "kind",
    ["BertModel", "BertForMaskedLM", "BertForQuestionAnswering"],
)
def test_models_that_predict_no_next_token(tmp_path: Path, kind: str) -> None:
    """A model that is no causal language model is named by its class."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    path = save(tmp_path / "bert", getattr(transformers, kind)(config), bpe())
    with pytest.raises(ModelError, match=f"bert: is a {kind}, no causal language model"):
        load(path).load()


def test_model_that_sees_what_follows_is_refused(tmp_path: Path) -> None:
    """A bidirectional model with a causal name would see each answer before it gives it."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    path = save(tmp_path / "bert", transformers.BertLMHeadModel(config), bpe())
    with pytest.raises(ModelError, match="bert: its predictions depend on the tokens that follow"):
        load(path).load()
    config.is_decoder = True
    path = save(tmp_path / "decoder", transformers.BertLMHeadModel(config), bpe())
    assert load(path).load().name == "decoder"


def test_encoder_decoder_is_no_causal_language_model(tmp_path: Path) -> None:
    """The decoder of a translation model alone would load, and mean nothing."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4
    )
    path = save(tmp_path / "t5", transformers.T5ForConditionalGeneration(config), bpe())
    message = "t5: is a T5ForConditionalGeneration, an encoder with a decoder"
    with pytest.raises(ModelError, match=message) as caught:
        load(path).load()
    one_sentence(caught.value)


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
def test_checkpoint_that_lacks_a_weight(
    checkpoints: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """A weight that is not in the file is never a random number: the checkpoint is refused."""
    from safetensors.torch import load_file, save_file

    path = Path(shutil.copytree(checkpoints["llama"], tmp_path / "copy"))
    weights = load_file(path / "model.safetensors")
    del weights[name]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    message = rf"lacks 1 weights \(first: {name}\), which would be random numbers; save the whole"
    with pytest.raises(ModelError, match=message):
        load(path).load()


def test_tied_weights_are_not_missing(checkpoints: dict[str, Path]) -> None:
    """An output layer that shares the embeddings is not in the file, and lacks nothing."""
    from safetensors import safe_open

    with safe_open(checkpoints["gpt2"] / "model.safetensors", "pt") as file:
        assert not any("lm_head" in name for name in file.keys())  # noqa: SIM118
    load(checkpoints["gpt2"]).load()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.safetensors", b"", "header too small"),
        ("model.safetensors", None, "incomplete metadata"),
        ("config.json", b"{", "not a valid JSON file"),
        ("config.json", b'{"model_type": "gpt_neox", "hidden_size": "x"}', "hidden_size"),
        ("config.json", b'{"model_type": "no_such_kind"}', "no_such_kind"),
        ("tokenizer.json", b"{}", "'added_tokens' is missing"),
    ],
    ids=["no bytes", "half", "half a configuration", "wrong type", "unknown kind", "no tokens"],
)
def test_damaged_files(copy: Path, file: str, content: bytes | None, reason: str) -> None:
    """Whatever a library raises over a damaged file becomes one sentence with the directory."""
    path = copy / file
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ModelError, match=f"cannot load directory .*copy'.*{reason}") as caught:
        load(copy).load()
    one_sentence(caught.value)
    assert caught.value.__cause__ is not None


def test_hub_that_cannot_be_reached() -> None:
    """A hub id that is neither cached nor reachable is one sentence, with the id as typed."""
    lazy = load("nobody-there/nothing-here@v1")
    message = (
        r"^cannot load hub id 'nobody-there/nothing-here@v1' \(no such directory here\): "
        r"HF_HUB_OFFLINE is set, .* fetch it: hf download nobody-there/nothing-here --revision v1\."
    )
    with pytest.raises(ModelError, match=message) as caught:
        lazy.option_logprobs(["a"], [["b"]])
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("device", "kind", "count"), [("cuda", "cuda", 0), ("cuda:1", "cuda", 1), ("mps", "mps", 0)]
)
def test_device_that_is_not_there(
    neox: Path, monkeypatch: pytest.MonkeyPatch, device: str, kind: str, count: int
) -> None:
    """A device that this machine lacks is named before anything is read."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match=f"device '{device}' is not available here; use cpu or"):
        load(neox, device=device).load()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'; use one of auto, cpu, cuda, mps"),
        ({"device": "auto:1"}, "unknown device 'auto:1'"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
        ({"device": ""}, "unknown device ''"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; use one of auto, float32, bfloat16, float16"),
        ({"dtype": "torch.float32"}, "unknown dtype 'torch.float32'"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"precision": "high"}, "precision.*known settings: device, dtype"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_settings_that_make_no_sense(neox: Path, setting: dict[str, Any], message: str) -> None:
    """A setting that is unknown or out of range is refused with the value and what is known."""
    with pytest.raises(UsageError, match=message):
        load_model(str(neox), **setting)


# --- lazy ----------------------------------------------------------------------------------------


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_nothing_is_imported_until_a_score_is_asked_for(neox: Path) -> None:
    """A model that is named and fingerprinted has imported neither torch nor transformers."""
    done = python(
        "import sys\n"
        "from pytest_calibration.models.loading import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "print(model.name, len(model.fingerprint))\n"
        "model.release()\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'peft'} & set(sys.modules)))\n",
        neox,
    )
    assert done.stdout == "gpt_neox 32\n[]\n"
    assert done.stderr == ""


def test_a_run_says_nothing_on_either_stream(adapters: dict[str, Path]) -> None:
    """No bar, log line or warning of a library is printed while an adapter loads and scores."""
    done = python(
        "import sys\n"
        "from pytest_calibration.models.loading import load_model\n"
        "for path in sys.argv[2:]:\n"
        "    model = load_model(path, device='cpu')\n"
        "    model.next_token([sys.argv[1]])\n"
        "    model.option_logprobs(['Water'], [[' is']])\n"
        "    model.generate(['Water'], max_new_tokens=[2])\n",
        LONG,
        adapters["adapter"],
        adapters["base"],
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_loading_draws_no_progress_bar(
    neox: Path, adapters: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """The bars that the library draws by itself are off while a model loads, and on again after."""
    for path in (neox, adapters["adapter"]):
        load(path).next_token([LONG])
    assert capfd.readouterr() == ("", "")
    transformers.AutoModelForCausalLM.from_pretrained(neox)
    assert "Loading weights" in capfd.readouterr().err


def test_what_loading_silences_is_restored(neox: Path, tmp_path: Path) -> None:
    """Verbosity, progress bars and warning filters are as they were, after errors too."""
    logging = transformers.utils.logging
    (tmp_path / "empty").mkdir()
    level = logging.get_verbosity()
    logging.set_verbosity_info()
    try:
        filters = list(warnings.filters)
        load(neox).load()
        with pytest.raises(ModelError):
            load(tmp_path / "empty").load()
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
        assert warnings.filters == filters
    finally:
        logging.set_verbosity(level)


def test_warnings_of_a_library_do_not_stop_a_load(
    neox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where warnings are errors, as they often are in tests, a deprecation is still no error."""
    original = transformers.AutoTokenizer.from_pretrained

    def from_pretrained(*given: Any, **arguments: Any) -> Any:
        warnings.warn("going away", FutureWarning, stacklevel=1)
        return original(*given, **arguments)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(neox).load()


def test_progress_bars_that_were_off_stay_off(neox: Path) -> None:
    """Loading does not switch on what a user switched off."""
    logging = transformers.utils.logging
    logging.disable_progress_bar()
    try:
        load(neox).load()
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.enable_progress_bar()


@pytest.mark.parametrize("kind", ["whole model", "adapter"])
def test_release_frees_and_reloads(neox: Path, adapters: dict[str, Path], kind: str) -> None:
    """After release the weights are gone; the next question reads them again, same scores."""
    lazy = load(adapters["adapter"] if kind == "adapter" else neox)
    first = lazy.option_logprobs(PROMPTS, OPTIONS)
    # A reference to the model does not keep the weights in memory.
    engine = lazy.load()
    weights = weakref.ref(next(engine.model.parameters()))
    lazy.release()
    gc.collect()
    assert weights() is None
    lazy.release()
    again = lazy.option_logprobs(PROMPTS, OPTIONS)
    assert [row.tolist() for row in first] == [row.tolist() for row in again]


def test_a_model_is_read_once(neox: Path) -> None:
    """Further questions go to the weights already in memory."""
    lazy = load(neox)
    assert lazy.load() is lazy.load()
    lazy.next_token(["Water is"])
    assert lazy.load() is lazy.load()


# --- models in memory ----------------------------------------------------------------------------


def in_training(path: Path) -> tuple[Any, Any]:
    """Return model and tokenizer as a training run has them, with dropout switched on."""
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        return model.train(), transformers.AutoTokenizer.from_pretrained(path)


def answers(model: Any) -> list[Any]:
    """Return all answers of a model to a few questions, as plain numbers."""
    return [
        [row.tolist() for row in model.option_logprobs(PROMPTS, OPTIONS)],
        [[part.tolist() for part in numbers(score)] for score in model.next_token(PROMPTS)],
        [one.text for one in model.generate(PROMPTS, max_new_tokens=[4] * len(PROMPTS))],
    ]


def test_a_model_in_memory_scores_as_its_checkpoint(checkpoint: Path) -> None:
    """Bit for bit, without dropout, and it stays in training."""
    model, tokenizer = in_training(checkpoint)
    next(model.get_decoder().children()).eval()
    modes = [module.training for module in model.modules()]
    found = TransformersModel.of(model, tokenizer, name="mine")
    assert isinstance(found, LanguageModel)
    assert found.name == "mine"
    assert answers(found) == answers(load(checkpoint))
    assert [module.training for module in model.modules()] == modes
    assert found.description == load(checkpoint).description
    assert found.fingerprint == load(checkpoint).load().fingerprint


def test_a_training_step_makes_another_model(neox: Path, tmp_path: Path) -> None:
    """Fingerprint and scores are those of the weights as they are when the model is asked."""
    model, tokenizer = in_training(neox)
    found = TransformersModel.of(model, tokenizer)
    before, prints = answers(found), [found.fingerprint]
    ids = torch.tensor([tokenizer.encode(CORPUS[0])])
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    prints.append(found.fingerprint)
    with torch.no_grad():
        model.get_output_embeddings().weight[3, 3] += 1e-6
    prints.append(found.fingerprint)
    assert len({*prints}) == 3
    assert answers(found) != before
    assert answers(found) == answers(load(save(tmp_path / "stepped", model, tokenizer)))


def test_an_adapter_in_memory_scores_as_its_directory(adapters: dict[str, Path]) -> None:
    """A peft model around a model of transformers is taken, too."""
    peft = pytest.importorskip("peft")
    model, tokenizer = in_training(adapters["base"])
    with quiet():
        wrapped = peft.PeftModel.from_pretrained(model, adapters["adapter"], is_trainable=True)
    assert answers(TransformersModel.of(wrapped, tokenizer)) == answers(load(adapters["adapter"]))


# --- the probes on the example checkpoint --------------------------------------------------------


@pytest.fixture(scope="module")
def base(example: Path) -> LazyModel:
    """The example project's trained model."""
    return load(example / "checkpoints" / "base")


def every_25th(example: Path, name: str, folder: Path) -> Path:
    """Copy sixty items of a probe, from famous people to obscure, to a file of their own."""
    path = folder / name
    lines = (example / "probes" / name).read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[::25]), "utf-8")
    return path


@pytest.mark.parametrize("mode", ["first_token", "whole_entity"])
def test_facts_on_the_example(base: LazyModel, example: Path, tmp_path: Path, mode: Any) -> None:
    """Confidence and outcome are those of the greedy continuation, token by token."""
    plain = reference(example / "checkpoints" / "base")
    probe = Facts("f", path=every_25th(example, "almanac_facts.jsonl", tmp_path), mode=mode)
    predictions = probe.run(base, limit=60)
    confidence, correct = [], []
    for item in probe.items:
        head = plain.encode(item.prompt)
        entity = plain.encode(f"{item.prompt} {item.answer}")[len(head) :]
        entity = entity[:1] if mode == "first_token" else entity
        new: list[int] = []
        logprob = 0.0
        for _ in entity:
            row = plain.logprobs([*head, *new])[-1]
            new.append(int(row.argmax()))
            logprob += float(row.max())
        confidence.append(math.exp(logprob))
        correct.append(new == entity)
    assert predictions.n == 60
    assert 0 < sum(correct) < 60
    assert_allclose(predictions.confidence, confidence, rtol=0, atol=CLOSE)
    assert predictions.correct.tolist() == correct


def test_whole_entities_that_are_all_known(base: LazyModel, example: Path, tmp_path: Path) -> None:
    """Where every entity is the greedy continuation there is nothing left to generate."""
    path = every_25th(example, "almanac_facts.jsonl", tmp_path)
    known = Facts("f", path=path, mode="whole_entity").run(base).correct
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(x for x, hit in zip(lines, known, strict=True) if hit), "utf-8")
    again = Facts("f", path=path, mode="whole_entity").run(base)
    assert again.n == known.sum()
    assert again.correct.all()


@pytest.mark.parametrize("scoring", ["text", "letter"])
def test_multiple_choice_on_the_example(
    base: LazyModel, example: Path, tmp_path: Path, scoring: Any
) -> None:
    """Probabilities are the soft-max of the options' reference log-probabilities."""
    plain = reference(example / "checkpoints" / "base")
    path = every_25th(example, "almanac_questions.jsonl", tmp_path)
    template = "{question}" if scoring == "text" else "{question}\n{options}\nAnswer:"
    probe = MultipleChoice("q", path=path, scoring=scoring, header="", template=template)
    predictions = probe.run(base, limit=60)
    assert predictions.n == 60
    assert predictions.probabilities is not None
    assert predictions.option_mass is not None
    for i, item in enumerate(probe.items):
        options = item.options if scoring == "text" else "ABCD"
        mass = np.exp([plain.option(probe.prompt(item), f" {option}") for option in options])
        assert_allclose(predictions.probabilities[i], mass / mass.sum(), rtol=0, atol=CLOSE)
        assert_allclose(predictions.option_mass[i], mass.sum(), rtol=0, atol=CLOSE)
        assert predictions.correct[i] == (int(mass.argmax()) == item.answer)


def test_next_token_on_the_example(base: LazyModel) -> None:
    """Sixty sampled positions of the built-in texts, of which fewer positions are a subset."""
    probe = NextToken()
    predictions, fewer = (probe.run(base, limit=n) for n in (60, 20))
    assert (predictions.n, fewer.n) == (60, 20)
    assert set(fewer.item_ids.tolist()) <= set(predictions.item_ids.tolist())
    assert ((predictions.confidence > 0) & (predictions.confidence <= 1)).all()
    assert predictions.signature.soft["dtype"] == "float32"


def test_built_in_facts_on_the_example(base: LazyModel) -> None:
    """A model that has read nothing but the Almanac knows next to none of the world's facts."""
    for mode in ("first_token", "whole_entity"):
        predictions = Facts(mode=mode).run(base, limit=60)  # type: ignore[arg-type]
        assert predictions.n == 60
        assert accuracy(predictions) < 0.1


def test_built_in_questions_do_not_fit_the_example(base: LazyModel) -> None:
    """A prompt that the small context cannot hold stops the probe; nothing is cut or dropped."""
    with pytest.raises(ModelError, match=r"takes \d+ tokens, more than the 64 this model can read"):
        MultipleChoice().run(base, limit=60)


def test_the_example_is_calibrated_on_its_own_facts(base: LazyModel, example: Path) -> None:
    """On all 1500 held-out facts the trained model's ECE lies below 0.05."""
    path = example / "probes" / "almanac_facts.jsonl"
    predictions = Facts("almanac-facts", path=path).run(base)
    assert predictions.n == 1500
    # The textbook formula beside the package's own.
    which = np.clip(np.ceil(predictions.confidence * 15 - 1e-6) - 1, 0, 14)
    gap = [predictions.gap[which == b].sum() for b in range(15)]
    assert ece(predictions) == pytest.approx(np.abs(gap).sum() / 1500, abs=1e-9)
    assert ece(predictions) < 0.05
    assert accuracy(predictions) > 0.4
