"""The shared path against the plain one and against the model called as its owner would."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from checkpoints import FAMILIES, MORE_FAMILIES, OTHER_FAMILIES, WINDOW, quietly
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from scorers import (
    CONTEXT,
    Numbers,
    apart,
    distinct_beginnings,
    family_of_rows,
    make,
    numbers,
    on_the_plain_path,
    only_the_ends,
    passes,
    reference,
    scorer_of,
    settled,
)

from pytest_calibration.models.backends.transformers import sharing
from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.backends.transformers.shared_path import SharedPath
from pytest_calibration.models.causal.rows import Row

pytestmark = pytest.mark.torch

CLOSE = 1e-4
"""Nats: float32 rounding in another order of operations."""
SHARING = (*FAMILIES, *MORE_FAMILIES)
BUDGETS = (16, 40, 4096)


def takes_the_shared_path(scorer: Scorer) -> bool:
    """Tell whether the shared path is taken, without a note."""
    return isinstance(scorer._path, SharedPath) and scorer.notes == []


# --- equality ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHARING)
def test_both_paths_score_as_the_model_does(family: str) -> None:
    """Within 1e-4 nats, with any budget, read all over or at the end, and fewer tokens computed."""
    model = make(family)
    scorer = scorer_of(model)
    assert takes_the_shared_path(scorer)
    for rows in (family_of_rows(), only_the_ends(family_of_rows(2))):
        expected = reference(model, rows)
        likely = float(np.exp(np.median(numbers(expected)[1])))
        assert 0.04 < likely < 0.999, "a model that has a favourite, and no certainty"
        for budget in BUDGETS:
            scorer.budget = budget
            with passes(model) as seen:
                shared = scorer.score(rows)
            assert apart(shared, expected) <= CLOSE
            assert distinct_beginnings(rows) <= sum(map(len, seen))
            assert sum(map(len, seen)) < 0.4 * sum(len(row.ids) for row in rows)
            assert max(map(len, seen)) <= budget
            with on_the_plain_path(scorer):
                plain = scorer.score(rows)
            assert apart(plain, expected) <= CLOSE
            assert apart(shared, plain) <= CLOSE
            clear = numbers(plain)[1] - second(model, rows) > CLOSE
            assert clear.mean() > 0.9
            for one in (shared, plain):
                best = np.concatenate([s.top_id for s in one])
                assert (best == np.concatenate([s.top_id for s in expected]))[clear].all()


def second(model: object, rows: list[Row]) -> Numbers:
    """Return the second largest log-probability at every position."""
    out = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0].double()  # type: ignore[operator]
        table = torch.log_softmax(logits, -1)[row.positions]
        out.append(table.topk(2).values[:, 1].numpy())
    return np.concatenate(out)


@pytest.mark.parametrize("family", SHARING)
def test_half_precision_is_no_worse_shared(family: str) -> None:
    """In bfloat16 sharing rounds otherwise, and no more: it is as near to float32 as without.

    Single log-probabilities move by several hundredths of a nat from float32 to bfloat16, whatever
    computes them; so two ways in bfloat16 agree to 2e-2 on the whole and in every probability.
    """
    model = settled(make(family)).to(torch.bfloat16)
    exact = copy.deepcopy(model).float()
    scorer = scorer_of(model)
    assert takes_the_shared_path(scorer)
    rows = [*family_of_rows(), *family_of_rows(2)]
    expected = numbers(reference(exact, rows))
    with on_the_plain_path(scorer):
        plain = numbers(scorer.score(rows))
    for budget in (40, 4096):
        scorer.budget = budget
        shared = numbers(scorer.score(rows))
        assert size(shared - plain) <= 2e-2
        assert np.abs(np.exp(shared) - np.exp(plain)).max() <= 2e-2
        assert size(shared - expected) <= 1.1 * size(plain - expected)


def size(differences: Numbers) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((differences**2).mean()))


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3", "gpt_oss"])
def test_windows_are_shorter_than_what_is_shared(family: str) -> None:
    """A token beyond the window of all layers changes nothing; one full layer sees everything."""
    model = make(family)
    scorer = scorer_of(model)
    kinds = getattr(model.config, "layer_types", None) or ["sliding_attention"] * 2
    rows = family_of_rows()[:9]
    changed = [Row([6, *row.ids[1:]], row.positions, row.targets) for row in rows]
    off = apart(only(scorer, rows), only(scorer, changed))
    assert (off < CLOSE) is (set(kinds) == {"sliding_attention"})
    assert CONTEXT > len(rows[0].ids) > 2 * WINDOW


def only(scorer: Scorer, rows: list[Row]) -> list[object]:
    """Score the last position of rows."""
    return scorer.score(only_the_ends(rows))  # type: ignore[return-value]


# --- what is computed ----------------------------------------------------------------------------


def five_shot(subjects: int = 2, questions: int = 6) -> list[Row]:
    """Return rows like those of questions with solved examples before them."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(subjects):
        examples = rng.integers(2, 360, 60).tolist()
        for _ in range(questions):
            ids = examples + rng.integers(2, 360, int(rng.integers(15, 25))).tolist()
            rows.append(Row(ids, [len(ids) - 1] * 4, [4, 5, 6, 7]))
    return rows


def test_examples_before_questions_are_computed_once() -> None:
    """Each token of a subject's examples once, each question once, in passes of the budget."""
    model = make("gpt_neox")
    scorer = scorer_of(model, 256)
    rows = five_shot()
    with passes(model) as seen:
        scores = scorer.score(rows)
    assert sum(map(len, seen)) == 2 * 60 + sum(len(row.ids) - 60 for row in rows)
    assert len(seen) == 2, "one pass of examples, one of questions"
    assert apart(scores, reference(model, rows)) <= CLOSE


def test_nothing_shared_is_packed_without_padding() -> None:
    """Rows with nothing in common take as many tokens as they have, in passes of the budget."""
    model = make("llama")
    rng = np.random.default_rng(6)
    rows = [
        Row([i, *rng.integers(2, 360, n).tolist()], [n], [1]) for i, n in enumerate(range(3, 43))
    ]
    scorer = scorer_of(model, 128)
    with passes(model) as seen:
        scores = scorer.score(rows)
    total = sum(len(row.ids) for row in rows)
    assert sum(map(len, seen)) == total
    assert len(seen) <= total / (128 - 43) + 1
    assert apart(scores, reference(model, rows)) <= CLOSE


def test_the_last_layer_is_computed_where_it_is_read() -> None:
    """Where little is read, the feed-forward part of the last layer sees what is read alone."""
    model = make("llama")
    scorer = scorer_of(model)
    sizes: list[int] = []
    last = model.model.layers[-1].mlp.gate_proj
    hook = last.register_forward_pre_hook(lambda _m, given: sizes.append(given[0].shape[1]))
    rows = five_shot()
    scorer.score(rows)
    hook.remove()
    # Nobody reads the examples; one token of a pass goes through all the same.
    assert sizes == [1, len(rows)]
    # Its owner's model is as it was: all tokens pass.
    again = last.register_forward_pre_hook(lambda _m, given: sizes.append(given[0].shape[1]))
    with torch.no_grad():
        model(torch.tensor([rows[0].ids]))
    again.remove()
    assert sizes[2:] == [len(rows[0].ids)]


# --- properties ----------------------------------------------------------------------------------


@cache
def ready(family: str) -> Scorer:
    """Return a scorer that stays for tests that ask many small things of it."""
    return scorer_of(make(family), 64)


@settings(max_examples=25)
@given(
    which=st.lists(st.integers(0, 24), min_size=1, max_size=12),
    budget=st.sampled_from([16, 30, 1000]),
    family=st.sampled_from(["gpt_neox", "gemma2"]),
)
def test_scores_do_not_depend_on_the_company(which: list[int], budget: int, family: str) -> None:
    """Whatever is scored beside a row, and however eagerly beginnings are shared: same scores."""
    rows = [*family_of_rows(3), *family_of_rows(4, trunk=5)]
    scorer = ready(family)
    alone = everything(family)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "MIN_TOKENS", 1)
        patch.setattr(sharing, "MIN_SHARE", 0.0)
        patch.setattr(scorer, "budget", budget)
        assert takes_the_shared_path(scorer)
        scores = scorer.score([rows[i] for i in which])
    for i, score in zip(which, scores, strict=True):
        assert np.abs(score.target_logprob - alone[i][0]).max() <= CLOSE
        assert np.abs(score.top_logprob - alone[i][1]).max() <= CLOSE


@cache
def everything(family: str) -> list[Numbers]:
    """Return the reference scores of the rows of the property above."""
    rows = [*family_of_rows(3), *family_of_rows(4, trunk=5)]
    return [numbers([score]) for score in reference(make(family), rows)]


# --- the plain path, and its note ----------------------------------------------------------------

NOTE = "prefixes that prompts share are computed for each prompt, since "


def check_plain(scorer: Scorer, model: object, reason: str, *, noted: bool = True) -> None:
    """Check that the plain path is taken, noted once, and right."""
    if noted:
        assert scorer._path is scorer._plain
        assert scorer.notes == [NOTE + reason]
    rows = family_of_rows(trunk=10)
    for _ in range(2):
        assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE
    assert scorer.notes == [NOTE + reason], "it is noted once"


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_families_of_uncommon_attention(family: str) -> None:
    """Scores are right on whichever path the model's code allows; the plain one alone is noted."""
    model = make(family)
    scorer = scorer_of(model)
    rows = family_of_rows(trunk=10)
    assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE
    plain = scorer._path is scorer._plain
    assert [note.startswith(NOTE) for note in scorer.notes] == [True] * plain


def ask(monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    """Make the attention layers of a Llama hand on more than they do."""
    from transformers.models.llama import modeling_llama

    original = modeling_llama.LlamaAttention.forward

    def forward(self: object, *given: object, **named: object) -> object:
        return original(self, *given, **named | more)

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)


def test_layers_that_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument of the attention that is not known here might change the result."""
    model = make("llama")
    ask(monkeypatch, slopes=torch.zeros(1))
    check_plain(scorer_of(model), model, "its layers ask for slopes")


@pytest.mark.parametrize("later", ["asks for more", "is not called"])
def test_a_model_that_changes_after_it_was_tried(
    monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    """What shows only while scoring leads to the plain path too; no item lacks its score."""
    model = make("llama")
    scorer = scorer_of(model, 40)
    assert takes_the_shared_path(scorer)
    if later == "asks for more":
        ask(monkeypatch, slopes=torch.zeros(1))
        reason = "its layers ask for slopes"
    else:
        model.model.layers[1].self_attn.forward = lambda **named: (named["hidden_states"], None)
        reason = "its attention is not called by name"
    check_plain(scorer, model, reason, noted=False)
    assert model.config._attn_implementation == "sdpa"


def test_layers_that_bring_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that a layer makes by itself is not ours to leave out."""
    from transformers.models.llama import modeling_llama

    model = make("llama")
    original = modeling_llama.LlamaAttention.forward

    def forward(self: object, hidden_states: object, **named: object) -> object:
        if named.get("attention_mask") is None:
            t = hidden_states.shape[1]  # type: ignore[attr-defined]
            mask = torch.full((t, t), -torch.inf).triu(1)[None, None]
            named["attention_mask"] = mask
        return original(self, hidden_states=hidden_states, **named)

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    check_plain(scorer_of(model), model, "its layers bring a mask of their own")


def test_code_that_breaks_on_a_packed_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a model's own code raises on the shared path, there is the plain one."""
    model = make("llama")
    original = type(model.model).forward

    def forward(self: object, *given: object, **named: object) -> object:
        if named.get("position_ids") is not None:
            raise KeyError("packed")
        return original(self, *given, **named)

    monkeypatch.setattr(type(model.model), "forward", forward)
    check_plain(scorer_of(model), model, "'packed'")


def test_layers_of_an_unknown_kind() -> None:
    """A kind of layer that is not known is not tried."""
    model = make("llama")
    model.config.layer_types = ["full_attention", "linear_attention"]
    check_plain(scorer_of(model), model, "it has layers of linear_attention")


@pytest.mark.parametrize("longest", [43, 44])
def test_a_context_too_short_to_try(longest: int) -> None:
    """The paths are compared on 44 tokens; a model that reads fewer is scored row by row."""
    model = make("gpt_neox", max_position_embeddings=longest)
    scorer = scorer_of(model, longest=longest)
    if longest == 44:
        assert takes_the_shared_path(scorer)
        return
    assert scorer.notes == [NOTE + "the model reads only 43 tokens"]
    assert scorer._path is scorer._plain
    rows = [Row(list(range(n)), [n - 1], [3]) for n in (3, 20, 43)]
    assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE


def test_prompt_tuning_takes_the_plain_path() -> None:
    """Virtual tokens stand before every text; they are put in by the adapter alone."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    settings_ = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with quietly():
        model = peft.get_peft_model(make("llama"), settings_).eval()
    scorer = scorer_of(model, virtual=3)
    assert scorer._path is scorer._plain
    assert scorer.notes == [NOTE + "an adapter puts virtual tokens before every text"]
    rows = family_of_rows(trunk=10)
    scores = scorer.score(rows)
    for row, score in zip(rows, scores, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, 3:].double()
        table = torch.log_softmax(logits, -1).numpy()
        assert np.abs(score.target_logprob - table[row.positions, row.targets]).max() <= CLOSE


@pytest.mark.parametrize("only_where", ["everywhere", "where little is read"])
def test_scores_that_would_differ_are_noticed(
    monkeypatch: pytest.MonkeyPatch, only_where: str
) -> None:
    """Attention that is wrong by a hundredth is found at load; the note says by how much."""
    from pytest_calibration.models.backends.transformers import attention

    original = attention.Pass.attend

    def attend(self: attention.Pass, *given: object, **named: object) -> object:
        out = original(self, *given, **named)  # type: ignore[arg-type]
        return out * 1.01 if self.trimmed or only_where == "everywhere" else out

    monkeypatch.setattr(attention.Pass, "attend", attend)
    model = make("llama")
    scorer = scorer_of(model)
    assert scorer._path is scorer._plain
    (note,) = scorer.notes
    start, end = NOTE + "shared prefixes would change its scores by ", " nats"
    assert note.startswith(start)
    assert note.endswith(end)
    assert CLOSE < float(note.removeprefix(start).removesuffix(end)) < 1
    rows = family_of_rows()
    assert apart(scorer.score(rows), reference(model, rows)) <= CLOSE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_that_sees_another_is_noticed(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Rows that attend to a beginning that is not theirs are found in half precision too."""
    from pytest_calibration.models.backends.transformers import attention

    def contexts(self: attention.Pass) -> list[object]:
        shared = [s for segment in self.segments for s in segment.ancestors]
        return [(0, self.starts[-1], s) for s in shared[:2]]

    monkeypatch.setattr(attention.Pass, "_contexts", contexts)
    model = make("llama").to(getattr(torch, dtype))
    scorer = scorer_of(model)
    assert scorer._path is scorer._plain
    assert "would change its scores" in scorer.notes[0]


# --- positions that depend on how long a text is -------------------------------------------------


@pytest.mark.parametrize("family", ["phi3", "llama"])
def test_long_context_factors(family: str) -> None:
    """Texts beyond the original length encode all positions differently: they share nothing."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 48,
    }
    model = make(family, rope_parameters=rope)
    scorer = scorer_of(model)
    assert takes_the_shared_path(scorer)
    rows = [*family_of_rows(), *family_of_rows(2, trunk=25)]
    lengths = [len(row.ids) for row in rows]
    assert min(lengths) < 48 < max(lengths)
    expected = reference(model, rows)
    for budget in BUDGETS:
        scorer.budget = budget
        with passes(model) as seen:
            assert apart(scorer.score(rows), expected) <= CLOSE
    short = sum(n for n in lengths if n <= 48)
    assert sum(map(len, seen)) < sum(lengths)
    assert short > 0
