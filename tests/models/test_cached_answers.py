"""A model whose answers are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes import FakeModel
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, TokenBoundaryError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.cached_answers import (
    SCORE_FIELDS,
    CachedAnswers,
    packed,
    unpacked,
)
from pytest_calibration.models.protocols import (
    Generation,
    Likelihood,
    Message,
    NextTokenScores,
)
from pytest_calibration.probes.facts import Facts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken

TEXTS = ["a b c d e", "", "one", "the end of it all"]


class Engine(FakeModel):
    """Says the most likely token and describes itself; some options merge with their prompt."""

    description: ClassVar = {"dtype": "float32", "device": "cpu"}

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """Write the turns, and what is known of variables."""
        self.calls.append("render_chat")
        return [f"{[dict(turn) for turn in chat]} {dict(variables)} é\n" for chat in chats]

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """Refuse options that begin with a space."""
        if any(option.startswith(" ") for row in options for option in row):
            self.calls.append("option_logprobs")
            raise TokenBoundaryError(f"merges {prompts[0]!r} with {options[0][0]!r}")
        begin = "<s>" * add_special_tokens
        return super().option_logprobs([f"{begin}{prompt}" for prompt in prompts], options)

    def next_token(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, **more: Any
    ) -> list[NextTokenScores]:
        """Add the words."""
        self.salt = "" if add_special_tokens else "chat"
        return [
            NextTokenScores(
                s.spans,
                s.top_probability,
                s.hit,
                s.target_logprob,
                s.token_ids,
                [f"w{i}\ud800é" for i in s.token_ids],
            )
            for s in super().next_token(texts, **more)
        ]

    def generate(
        self, prompts: Sequence[str], *, add_special_tokens: bool = True, **more: Any
    ) -> list[Generation]:
        """Say more before a text that is whole."""
        written = super().generate(prompts, **more)
        end = "" if add_special_tokens else "!"
        return [Generation(one.text + end, one.token_logprobs) for one in written]

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False, cut: bool = False
    ) -> list[Likelihood]:
        """Say what depends on both texts."""
        self.calls.append("loglikelihood")
        return [
            Likelihood(
                *(-len(a) - len(b) / 3, a < b, -1 / (i + 3) if own else None, f"é{i}" * own),
                n_cut=i + cut,
            )
            for i, (a, b) in enumerate(requests)
        ]

    def sample(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], **how: Any
    ) -> list[Generation]:
        """Say how it was asked; every second answer is cut off."""
        self.calls.append("sample")
        return [
            Generation(f"{prompt} {how}", np.full(most, -0.25), finished=i % 2 == 0)
            for i, (prompt, most) in enumerate(zip(prompts, max_new_tokens, strict=True))
        ]


class Bench:
    """One engine and its cache; every :meth:`model` is that of another run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine()
        self.cache = Cache(folder)
        self.loads = 0

    def load(self) -> Engine:
        """Count."""
        self.loads += 1
        return self.engine

    def model(self, key: bytes = b"key", *, unchanged: bool = True) -> CachedAnswers:
        """Return the answers of another run, with a cache of its own on the same folder."""
        self.cache = Cache(self.folder)
        return Answers(self, key, unchanged)


class Answers(CachedAnswers):
    """The answers of a bench's engine."""

    name = "fake"
    fingerprint = "f"
    cache_key = b""

    def __init__(self, bench: Bench, key: bytes, unchanged: bool) -> None:
        super().__init__(bench.cache)
        self.cache_key = key
        self.load = bench.load  # type: ignore[method-assign]
        self.unchanged = lambda: unchanged  # type: ignore[method-assign]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty cache."""
    return Bench(tmp_path)


def every_second(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose every second position, from the last."""
    return np.arange(len(spans))[::-2]


CHAT: list[dict[str, str]] = [{"role": "user", "content": "a?"}]
WHOLE: dict[str, Any] = {"add_special_tokens": False}

ASKS: dict[str, Callable[[Any], Any]] = {
    "options": lambda m: m.option_logprobs(["a", "b"], [["x", "y"], ["x", "y", "z"]]),
    "no options": lambda m: m.option_logprobs([], []),
    "all tokens": lambda m: m.next_token(TEXTS),
    "some tokens": lambda m: m.next_token(TEXTS, choose=every_second),
    "no text": lambda m: m.next_token([]),
    "continuations": lambda m: m.generate(["a", "b", "c"], max_new_tokens=[3, 0, 1]),
    "requests of lm-eval": lambda m: m.loglikelihood([("a", "b"), ("", "x")]),
    "own continuations": lambda m: m.loglikelihood([("a", "b"), ("", "x")], own=True),
    "no requests": lambda m: m.loglikelihood([]),
    "drawn continuations": lambda m: m.sample(
        ["a", "b", "a"], max_new_tokens=[3, 0, 1], temperature=0.5, seeds=[1, 2**62, 3], stop=("x",)
    ),
    "description": lambda m: m.description,
    "chats": lambda m: m.render_chat([CHAT, CHAT * 2], {"enable_thinking": False}),
    "options in a chat": lambda m: m.option_logprobs(["a", "b"], [["x", "y"]] * 2, **WHOLE),
    "tokens in a chat": lambda m: m.next_token(TEXTS, **WHOLE),
    "continuations in a chat": lambda m: m.generate(["a", "b"], max_new_tokens=[3, 1], **WHOLE),
}


def same(a: Any, b: Any) -> None:
    """Hold two answers against each other, types and bits included."""
    assert len(a) == len(b)
    if isinstance(a, dict):
        assert a == b
        return
    for one, two in zip(a, b, strict=True):
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype
            assert one.tobytes() == two.tobytes()
            assert one.shape == two.shape
        elif isinstance(one, str | Likelihood):
            assert one == two
        elif isinstance(one, Generation):
            assert (one.text, one.finished) == (two.text, two.finished)
            same([one.token_logprobs], [two.token_logprobs])
        else:
            names = ("spans", "top_probability", "hit", "target_logprob", "token_ids")
            same([getattr(one, n) for n in names], [getattr(two, n) for n in names])
            assert list(one.top_text) == list(two.top_text)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_an_answer_is_served_as_it_was_given(bench: Bench, ask: Callable[[Any], Any]) -> None:
    """Bit for bit what the engine says, and without the engine."""
    plain = ask(Engine())
    first = ask(bench.model())
    loads = bench.loads
    assert loads >= 1
    model = bench.model()
    second = ask(model)
    assert bench.loads == loads
    if ask is not ASKS["description"]:
        assert (model.served, model.computed) == (1, 0)
    if ask is ASKS["some tokens"]:
        # The order in which positions are named does not matter to the engine proper.
        plain = first
    same(first, plain)
    same(second, plain)


@pytest.mark.parametrize(
    ("ask", "other"),
    [
        (
            lambda m: m.option_logprobs(["a"], [["x", "y"]]),
            lambda m: m.option_logprobs(["a"], [["x", "yz"]]),
        ),
        (
            lambda m: m.option_logprobs(["a"], [["x", "y"]]),
            lambda m: m.option_logprobs(["b"], [["x", "y"]]),
        ),
        (
            lambda m: m.option_logprobs(["a", "b"], [["x", "y"], ["z"]]),
            lambda m: m.option_logprobs(["a", "b"], [["x"], ["y", "z"]]),
        ),
        (lambda m: m.next_token(["a b"]), lambda m: m.next_token(["a c"])),
        (lambda m: m.next_token(["a b", "c"]), lambda m: m.next_token(["a bc", ""])),
        (
            lambda m: m.loglikelihood([("a", "b")]),
            lambda m: m.loglikelihood([("a", "b")], own=True),
        ),
        (
            lambda m: m.loglikelihood([("a", "b")]),
            lambda m: m.loglikelihood([("a", "b")], cut=True),
        ),
        (
            lambda m: m.generate(["a"], max_new_tokens=[1]),
            lambda m: m.generate(["a"], max_new_tokens=[2]),
        ),
        (
            lambda m: m.generate(["a"], max_new_tokens=[1]),
            lambda m: m.generate(["b"], max_new_tokens=[1]),
        ),
        (
            lambda m: m.option_logprobs(["a"], [["x", "y"]]),
            lambda m: m.option_logprobs(["a"], [["x", "y"]], **WHOLE),
        ),
        (lambda m: m.next_token(["a b"]), lambda m: m.next_token(["a b"], **WHOLE)),
        (
            lambda m: m.generate(["a"], max_new_tokens=[1]),
            lambda m: m.generate(["a"], max_new_tokens=[1], **WHOLE),
        ),
        (
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=1.0, seeds=[1]),
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=1.0, seeds=[2]),
        ),
        (
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=1.0, seeds=[1]),
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=0.5, seeds=[1]),
        ),
        (
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=1.0, seeds=[1]),
            lambda m: m.sample(["a"], max_new_tokens=[1], temperature=1.0, seeds=[1], stop=("x",)),
        ),
        (lambda m: m.render_chat([CHAT], {}), lambda m: m.render_chat([CHAT], {"x": 1})),
        (lambda m: m.render_chat([CHAT * 2], {}), lambda m: m.render_chat([CHAT, CHAT], {})),
    ],
)
def test_another_question_is_another_entry(
    bench: Bench, ask: Callable[[Any], Any], other: Callable[[Any], Any]
) -> None:
    """Every part of a question counts, and where one ends and the next begins."""
    ask(bench.model())
    model = bench.model()
    other(model)
    assert (model.served, model.computed) == (0, 1)
    ask(model)
    assert (model.served, model.computed) == (1, 1)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_another_key_is_another_entry(bench: Bench, ask: Callable[[Any], Any]) -> None:
    """The answers of one model are never those of another."""
    ask(bench.model())
    before = bench.loads
    ask(bench.model(b"other"))
    assert bench.loads > before


def test_what_a_caller_writes_into_an_answer_stays_with_it(bench: Bench) -> None:
    """Answers are arrays of one's own, which may be written to."""
    model = bench.model()
    model.option_logprobs(["a"], [["x", "y"]])
    first = model.option_logprobs(["a"], [["x", "y"]])
    first[0][:] = 7
    assert model.option_logprobs(["a"], [["x", "y"]])[0][0] != 7


# --- choosing ------------------------------------------------------------------------------------


class Chooser:
    """Chooses some positions and remembers what it was asked."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.asked: list[tuple[int, bytes]] = []

    def __call__(self, i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        """Choose, and then spoil what was shown."""
        self.asked.append((i, spans.tobytes()))
        chosen = np.arange(0, len(spans), self.step)
        spans[:] = -1
        return chosen


def test_choose_is_asked_once_per_text_whether_or_not_it_is_served(bench: Bench) -> None:
    """A probe remembers what it chose; it sees the same characters each time."""
    asked = []
    for step in (1, 1, 2, 2):
        chooser = Chooser(step)
        bench.model().next_token(TEXTS, choose=chooser)
        asked.append(chooser.asked)
    assert [i for i, _ in asked[0]] == list(range(len(TEXTS)))
    assert asked[0] == asked[1] == asked[2] == asked[3]
    assert bench.loads == 2


def test_only_what_is_chosen_now_is_served(bench: Bench) -> None:
    """Two choices over one text have entries side by side."""
    whole = bench.model().next_token(TEXTS)
    for step in (2, 3, 2, 3):
        model = bench.model()
        scores = model.next_token(TEXTS, choose=Chooser(step))
        for one, part in zip(whole, scores, strict=True):
            # The engine here takes spans from choose's own copy, so compare by number.
            assert part.target_logprob.tolist() == one.target_logprob[::step].tolist()
    assert bench.loads == 3


def test_choose_has_the_last_word_over_the_characters_there_are(bench: Bench) -> None:
    """Where the kept characters are not those of the engine, it is asked over the engine's."""
    texts = ["a b c d", "e f g"]
    key = bench.model()._entry_key("spans", texts)
    wrong = np.array([[0, 1], [1, 2]], dtype=np.int64)
    bench.cache.put(key, packed({}, {"spans": [wrong, wrong]}))
    chooser = Chooser(1)
    scores = bench.model().next_token(texts, choose=chooser)
    assert [len(s.hit) for s in scores] == [3, 2]
    assert dict(chooser.asked) == {i: s.spans.tobytes() for i, s in enumerate(scores)}
    assert bench.model().next_token(texts, choose=Chooser(1))[0].spans.tolist() != wrong.tolist()
    assert bench.loads == 1


def test_what_choose_refuses_is_raised_without_weights(bench: Bench) -> None:
    """The kept characters are enough for a probe to see that a token straddles its edge."""
    bench.model().next_token(TEXTS)

    def refuse(i: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        raise TokenBoundaryError("straddles")

    with pytest.raises(TokenBoundaryError, match="straddles"):
        bench.model().next_token(TEXTS, choose=refuse)
    assert bench.loads == 1


# --- errors --------------------------------------------------------------------------------------


def test_that_options_merge_with_their_prompt_is_an_answer(bench: Bench) -> None:
    """The error comes back word for word, without weights."""
    errors = []
    for _ in range(2):
        with pytest.raises(TokenBoundaryError) as caught:
            bench.model().option_logprobs(["a"], [[" x"]])
        errors.append(str(caught.value))
    assert errors == ["merges 'a' with ' x'"] * 2
    assert bench.loads == 1


def test_other_errors_are_never_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that could not score is asked again."""

    def fail(*args: object) -> None:
        raise ModelError("out of order")

    with monkeypatch.context() as patched:
        patched.setattr(bench.engine, "option_logprobs", fail)
        with pytest.raises(ModelError, match="out of order"):
            bench.model().option_logprobs(["a"], [["x"]])
    assert len(bench.model().option_logprobs(["a"], [["x"]])) == 1
    assert bench.loads == 2


def test_nothing_is_kept_of_files_that_changed_meanwhile(bench: Bench) -> None:
    """A checkpoint that is written while it is read answers for no digest."""
    bench.model(unchanged=False).generate(["a"], max_new_tokens=[1])
    model = bench.model()
    model.generate(["a"], max_new_tokens=[1])
    assert (model.served, model.computed) == (0, 1)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_an_entry_that_makes_no_sense_is_computed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Any], Any]
) -> None:
    """Well-formed and yet another's: it is marked, and replaced by the right one."""
    plain = ask(bench.model())
    loads = bench.loads
    # Well-formed, and the answer to a question of another size.
    names = ("logprobs", *SCORE_FIELDS)
    sizes = [
        packed({"texts": ["a"] * n}, {name: [np.zeros((1, 2))] * n for name in names})
        for n in (1, 9)
    ]
    array = BytesIO()
    np.save(array, np.zeros(3))
    for junk in (b"", b"{}", b"PK\x03\x04", array.getvalue(), packed([1], {}), *sizes):
        monkeypatch.setattr(Cache, "get", lambda *_, junk=junk: junk)
        model = bench.model()
        same(ask(model), plain)
        assert bench.loads == (loads := loads + 1)
        assert bench.cache.damaged
        monkeypatch.undo()
    ask(bench.model())
    assert bench.loads == loads


# --- probes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        Facts,
        lambda: Facts(mode="whole_entity"),
        lambda: MultipleChoice(shots=2),
        lambda: MultipleChoice(scoring="text"),
        NextToken,
        lambda: NextToken(positions="all"),
        lambda: MultipleChoice(chat=True, shots=2),
        lambda: Facts(chat={"x": 1}, mode="whole_entity"),
    ],
    ids=["facts", "whole", "letters", "texts", "sample", "all", "chat", "facts in a chat"],
)
@pytest.mark.parametrize("limit", [None, 30])
def test_a_probe_makes_the_same_of_kept_answers(
    bench: Bench, make: Callable[[], Any], limit: int | None
) -> None:
    """Predictions are equal in every array, in signature and in words; nothing is loaded."""
    plain, first = make().run(bench.engine, limit=limit), make().run(bench.model(), limit=limit)
    loads = bench.loads
    second = make().run(bench.model(), limit=limit)
    assert bench.loads == loads
    for other in (first, second):
        assert other.signature == plain.signature
        for name in ("confidence", "correct", "item_ids", "probabilities", "label_logprobs"):
            np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))
        assert [other.texts[i] for i in range(5)] == [plain.texts[i] for i in range(5)]


# --- bytes ---------------------------------------------------------------------------------------

KINDS = st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.bool_])
COLUMNS = st.tuples(KINDS, st.integers(0, 3), st.lists(st.integers(0, 4), max_size=4)).flatmap(
    lambda drawn: st.tuples(
        *(
            hnp.arrays(drawn[0], (n, drawn[1]) if drawn[1] else n, elements={"allow_nan": True})
            if np.issubdtype(drawn[0], np.floating)
            else hnp.arrays(drawn[0], (n, drawn[1]) if drawn[1] else n)
            for n in drawn[2]
        )
    )
)


@given(st.dictionaries(st.sampled_from("abcdef"), COLUMNS), st.lists(st.text()))
def test_arrays_and_texts_survive_packing(
    columns: dict[str, Sequence[NDArray[Any]]], texts: list[str]
) -> None:
    """Each array comes back bit for bit (NaN included), in its type and shape."""
    meta, found = unpacked(packed({"texts": texts}, columns))
    assert meta == {"texts": texts}
    assert {*found} == {*columns}
    for name, rows in columns.items():
        assert len(found[name]) == len(rows)
        for one, two in zip(found[name], rows, strict=True):
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
            assert one.tobytes() == two.tobytes()


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_an_entry_or_one_of_the_known_errors(
    content: bytes, place: int, byte: int
) -> None:
    """Nothing else is raised, whatever lies on the disk; objects are never unpickled."""
    entry = bytearray(packed({"a": 1}, {"b": [np.arange(3)]}))
    entry[place % len(entry)] = byte
    for one in (content, bytes(entry)):
        with contextlib.suppress(Exception):
            unpacked(one)


@pytest.mark.parametrize("lengths", [[1], [2, 2], [4, -1], [-1, 4, 0]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    """The pieces of an array are all of it."""
    file = BytesIO()
    meta = np.frombuffer(b"{}", np.uint8)
    np.savez(file, **{"meta": meta, "a": np.arange(3), "a lengths": np.array(lengths)})
    with pytest.raises(ValueError, match="3 values where there should be"):
        unpacked(file.getvalue())


def test_an_array_of_objects_is_refused() -> None:
    """Unpickling runs code."""
    file = BytesIO()
    np.savez(file, meta=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        unpacked(file.getvalue())
