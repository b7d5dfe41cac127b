"""Running out of memory, and what is left after scoring: every score, no tensors, no hook."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from checkpoints import VOCABULARY

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from scorers import apart, family_of_rows, make, reference, scorer_of

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers import scorer as module
from pytest_calibration.models.backends.transformers import shared_path, sharing
from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.backends.transformers.sharing import Segment
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary
from pytest_calibration.models.causal.rows import Row, ScoreTable
from pytest_calibration.progress import PROGRESS

pytestmark = pytest.mark.torch

CLOSE = 1e-4
NOTE = "it ran out of memory, and went on with fewer tokens at a time"
PROBLEMS: dict[str, Callable[[], Exception]] = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "python": MemoryError,
    "allocator": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"),
    "system": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
}


@pytest.fixture(params=["shared", "plain"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """A scorer of a tiny Llama, on either path."""
    made = scorer_of(make("llama"), 128)
    assert made.notes == []
    if request.param == "plain":
        made._path = made._plain
    return made


def fail(
    monkeypatch: pytest.MonkeyPatch, where: str, when: Callable[[int, int], Exception | None]
) -> list[int]:
    """Let a step of the model fail; ``when`` gets the number of the call and its tokens or rows."""
    original = getattr(Vocabulary, where)
    sizes: list[int] = []

    def step(self: Vocabulary, first: Any, second: Any, *given: Any, **named: Any) -> Any:
        sizes.append(second.numel() if where == "outputs_at" else len(first))
        problem = when(len(sizes), sizes[-1])
        if problem is not None:
            raise problem
        return original(self, first, second, *given, **named)

    monkeypatch.setattr(Vocabulary, where, step)
    return sizes


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("where", ["outputs_at", "reduce"])
@pytest.mark.parametrize("call", [1, 2, 4])
def test_out_of_memory_once_goes_on_with_half(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, kind: str, where: str, call: int
) -> None:
    """Whichever pass fails, the budget is halved, it is noted once, and no score is missing."""
    rows = family_of_rows()
    expected = scorer.score(rows)
    if where == "reduce":
        from pytest_calibration.models.backends.transformers import vocabulary

        monkeypatch.setattr(vocabulary, "WAITING", 10)
    scorer.budget = 32
    fail(monkeypatch, where, lambda n, _: PROBLEMS[kind]() if n == call else None)
    assert apart(scorer.score(rows), expected) <= CLOSE
    assert scorer.budget == 16
    assert scorer.notes == [NOTE]


def test_passes_that_stay_too_large_shrink_until_they_fit(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved as often as needed, noted once, and kept for what is scored next."""
    rows = [Row([i, *range(20)], [20], [3]) for i in range(30, 40)]
    expected = scorer.score(rows)
    scorer.budget = 1024
    sizes = fail(monkeypatch, "outputs_at", lambda _, n: MemoryError() if n > 50 else None)
    assert apart(scorer.score(rows), expected) <= CLOSE
    assert scorer.budget == 32
    assert scorer.notes == [NOTE]
    failed = len([n for n in sizes if n > 50])
    assert failed == 5
    assert apart(scorer.score(rows), expected) <= CLOSE
    assert len([n for n in sizes if n > 50]) == failed, "what did not fit is not tried again"
    assert scorer.notes == [NOTE]


def test_scores_before_the_failure_are_kept(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows whose scores are known are not computed again."""
    from pytest_calibration.models.backends.transformers import vocabulary

    # Each pass is reduced at once.
    monkeypatch.setattr(vocabulary, "WAITING", 1)
    rows = [Row([i, *range(30)], [30, 29], [3, 4]) for i in range(40, 60)]
    scorer.budget = 64
    asked: list[list[int]] = []
    original = type(scorer._path).run

    def run(self: Any, rows: Any, answers: Any, which: Any, budget: int) -> Any:
        asked.append(list(which))
        return original(self, rows, answers, which, budget)

    monkeypatch.setattr(type(scorer._path), "run", run)
    fail(monkeypatch, "outputs_at", lambda n, _: MemoryError() if n == 4 else None)
    scorer.score(rows)
    assert [len(which) for which in asked] == [20, 20 - 3 * 2]


@pytest.mark.parametrize("budget", [16, 31, 100])
def test_memory_that_never_suffices_is_an_error(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    """Below 16 tokens at a time it gives up, with what was tried last and the first words."""
    scorer.budget = budget
    fail(monkeypatch, "outputs_at", lambda *_: RuntimeError("CUDA out of memory.\nTried 2 GiB."))
    least = {16: 16, 31: 31, 100: 25}[budget]
    message = (
        rf"^tiny: out of memory with {least} tokens at a time \(CUDA out of memory. Tried 2 GiB\); "
        r"use a smaller dtype or a larger machine\.$"
    )
    with pytest.raises(ModelError, match=message) as caught:
        scorer.score(family_of_rows())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_problems_are_not_taken_for_memory(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no lack of memory is raised as it is, and nothing is tried again."""
    sizes = fail(
        monkeypatch, "outputs_at", lambda n, _: RuntimeError("a kernel died") if n == 2 else None
    )
    with pytest.raises(RuntimeError, match=r"^a kernel died$"):
        scorer.score(family_of_rows())
    assert len(sizes) == 2
    assert scorer.notes == []
    assert scorer.budget == 128


# --- keys and values that are kept ---------------------------------------------------------------


def kept(roots: list[Segment]) -> dict[int, int]:
    """Return the tokens whose keys and values are in memory, by the level they are on."""
    found: dict[int, int] = {}
    level, depth = list(roots), 0
    while level:
        found[depth] = sum(len(segment) for segment in level if segment.key_values)
        level = [child for segment in level for child in segment.children]
        depth += 1
    return found


@pytest.fixture
def roots(monkeypatch: pytest.MonkeyPatch) -> list[list[Segment]]:
    """Keep the forests that are made, and share whatever can be."""
    made: list[list[Segment]] = []
    original = sharing.forest

    def forest(*given: Any, **named: Any) -> list[Segment]:
        made.append(original(*given, **named))
        return made[-1]

    monkeypatch.setattr(shared_path, "forest", forest)
    return made


def test_what_is_held_is_bounded_and_let_go(
    roots: list[list[Segment]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On each level no more than the bound is kept, or one segment; in the end nothing is."""
    monkeypatch.setattr(shared_path, "KEPT_TOKENS", 50)
    scorer = scorer_of(make("llama"), 40)
    rows = [row for seed in range(4) for row in family_of_rows(seed, trunk=30)]
    roots.clear()
    answers = ScoreTable(rows)
    most: dict[int, int] = {}
    with torch.inference_mode():
        for _ in scorer._path.run(rows, answers, range(len(rows)), 40):
            for depth, tokens in kept(roots[0]).items():
                most[depth] = max(most.get(depth, 0), tokens)
    assert answers.missing() == []
    assert set(kept(roots[0]).values()) == {0}
    segments = [s for root in roots[0] for s in (root, *root.children)]
    needed = [sum(len(s) for s in roots[0] if s.children)]
    assert needed[0] > 50, "not all prefixes may be kept at once"
    assert 0 < max(most.values()) <= 50
    assert all(len(s) <= 40 for s in segments)


@pytest.mark.parametrize("error", [MemoryError, ValueError, KeyboardInterrupt])
def test_nothing_is_held_after_an_error(
    roots: list[list[Segment]], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Keys and values of an interrupted run are gone when the error is; the model is as before."""
    model = make("llama")
    scorer = scorer_of(model, 64)
    before = model.config._attn_implementation
    fail(monkeypatch, "outputs_at", lambda n, _: error("no") if n >= 4 else None)  # type: ignore[return-value]
    roots.clear()
    with pytest.raises(ModelError if error is MemoryError else error):
        scorer.score(family_of_rows())
    tensors = [
        weakref.ref(part)
        for forest in roots
        for root in forest
        for s in (root, *root.children)
        for pair in s.key_values
        for part in pair
    ]
    assert tensors, "something was kept when it stopped"
    roots.clear()
    gc.collect()
    assert [ref() for ref in tensors if ref() is not None] == []
    assert model.config._attn_implementation == before
    assert hooks(model) == 0


# --- what is left behind -------------------------------------------------------------------------


def hooks(model: Any) -> int:
    """Count the hooks and replaced methods of all parts of a model."""
    return sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks) + ("forward" in vars(part))
        for part in model.modules()
    )


@pytest.mark.parametrize(
    ("family", "implementation"), [("gpt_neox", "sdpa"), ("llama", "eager"), ("gemma2", "eager")]
)
def test_the_model_is_left_as_it_was(family: str, implementation: str) -> None:
    """Its owner's attention, hooks and logits are the same before and after, bit for bit."""
    model = make(family)
    model.set_attn_implementation(implementation)
    ids = torch.tensor([family_of_rows()[0].ids])
    with torch.no_grad():
        before = model(ids).logits
    scorer = scorer_of(model)
    assert scorer.notes == []
    for _ in range(2):
        scorer.score(family_of_rows())
        assert model.config._attn_implementation == implementation
        assert hooks(model) == 0
        with torch.no_grad():
            assert torch.equal(model(ids).logits, before)


def test_a_listener_that_raises_gives_the_model_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even while the error is still looked at, the model is its owner's again."""
    model = make("llama")
    scorer = scorer_of(model, 32)

    def report(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(PROGRESS), "report", report)
    try:
        scorer.score(family_of_rows())
    except KeyboardInterrupt:
        assert model.config._attn_implementation == "sdpa"
        assert hooks(model) == 0
    else:
        pytest.fail("the interrupt was swallowed")


def test_two_models_in_one_process() -> None:
    """Models of different families take turns, and one may be scored while the other waits."""
    rows = family_of_rows()
    models = [make("llama"), make("gpt_neox")]
    expected = [reference(model, rows) for model in models]
    scorers = [scorer_of(model, 32) for model in models]
    for _ in range(2):
        for scorer, right in zip(scorers, expected, strict=True):
            assert apart(scorer.score(rows), right) <= CLOSE
    answers = ScoreTable(rows)
    with torch.inference_mode():
        for _ in scorers[0]._path.run(rows, answers, range(len(rows)), 64):
            assert apart(scorers[1].score(rows), expected[1]) <= CLOSE
    assert apart(answers.scores(), expected[0]) <= CLOSE


def test_a_token_that_the_model_does_not_know() -> None:
    """The highest token of all rows decides, read or asked for."""
    scorer = scorer_of(make("llama"))
    for row in (Row([VOCABULARY], [0], [1]), Row([1, 2], [1], [VOCABULARY])):
        with pytest.raises(ModelError, match=rf"gives token {VOCABULARY}, but the model knows 360"):
            scorer.score([Row([1], [0], [1]), row])
    (nothing,) = scorer.score([Row([1], [], [])])
    assert nothing.target_logprob.shape == (0,)


def test_the_budget_suits_the_device() -> None:
    """By default a CPU gets passes that stay in its cache."""
    assert scorer_of(make("llama")).budget == module.BUDGET["cpu"]
    assert scorer_of(make("llama"), 77).budget == 77


def test_a_masked_model_is_refused() -> None:
    """A model that sees what follows has seen the answer before it gives it."""
    model = make("gpt2")
    for block in model.transformer.h:
        block.attn.is_causal = False
    model.config.is_causal = False
    with pytest.raises(ModelError, match=r"tiny: its predictions depend on the tokens that follow"):
        scorer_of(model)
