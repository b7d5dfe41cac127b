"""Asking a model only as many items as a comparison needs."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeModel, unit
from numpy.typing import NDArray

from pytest_calibration.asking import Answer, Asker
from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.gate.looks import SHARES
from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores
from pytest_calibration.predictions import Predictions, PredictionsInParts
from pytest_calibration.probes.agreement import Agreement
from pytest_calibration.probes.classification import Classification
from pytest_calibration.probes.facts import Facts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken
from pytest_calibration.probes.p_true import PTrue
from pytest_calibration.probes.preference import Preference
from pytest_calibration.probes.probe import Item, ItemProbe
from pytest_calibration.probes.probe_set import KINDS, probe_set
from pytest_calibration.probes.sequence import SequenceLogprob
from pytest_calibration.probes.verbalized import Verbalized

N = 40


class Counting(FakeModel):
    """Answers whatever is asked, and counts how often it computes each answer."""

    class_names = ("no", "yes")

    def __init__(self, *, multi_label: bool = False, names: Sequence[str] = ("no", "yes")) -> None:
        super().__init__("counting")
        self.multi_label = multi_label
        self.class_names = tuple(names)  # type: ignore[assignment]
        self.scored: Counter[tuple[object, ...]] = Counter()

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Count prompts with their options."""
        self.scored.update(zip(prompts, map(tuple, options), strict=True))
        return super().option_logprobs(prompts, options)

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Count positions."""
        out = super().next_token(texts, choose=choose)
        for text, scores in zip(texts, out, strict=True):
            self.scored.update((text, *span) for span in scores.spans.tolist())
        return out

    def _written(self, prompt: str, seed: int = 0) -> Generation:
        self.scored[prompt, seed] += 1
        p = unit("stated", prompt)
        text = f" {int(4 * unit(prompt, seed))}\nProbability: {p:.2f}\n"
        return Generation(text, np.full(3, -0.2))

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Count prompts."""
        assert (len(max_new_tokens), len(stop) < 5) == (len(prompts), True)
        return [self._written(prompt) for prompt in prompts]

    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int],
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Count draws."""
        assert (len(max_new_tokens), len(stop) < 5, temperature) == (len(prompts), True, 1)
        return [self._written(*one) for one in zip(prompts, seeds, strict=True)]

    def rewards(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Count texts."""
        self.scored.update((text,) for text in texts)
        return np.array([6 * unit(text) - 3 for text in texts])

    def class_probabilities(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Count texts."""
        self.scored.update((text,) for text in texts)
        table = np.array([[unit(text, name) for name in self.class_names] for text in texts])
        return table if self.multi_label else table / table.sum(axis=1, keepdims=True)

    def class_logits(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Count pairs of a text and a hypothesis."""
        self.scored.update((text,) for text in texts)
        return np.array([[3 * unit(text, name) for name in self.class_names] for text in texts])

    def token_class_probabilities(
        self, texts: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Count texts of words."""
        self.scored.update((tuple(words),) for words in texts)
        tables = [np.array([[unit(w, n) for n in self.class_names] for w in t]) for t in texts]
        return [table / table.sum(axis=1, keepdims=True) for table in tables]


def rows(kind: Callable[[int], Mapping[str, object]]) -> list[dict[str, object]]:
    """Some rows, every third one in a group with the one after it."""
    out = [dict(kind(i)) for i in range(N)]
    for i in range(0, N - 1, 3):
        out[i]["group"] = out[i + 1]["group"] = f"g{i}"
    return out


QUESTIONS = rows(lambda i: {"question": f"How much is {i}?", "answer": str(i % 4)})
CHOICES = rows(lambda i: {"question": f"Q{i}?", "options": ["a", "b", f"c{i}"], "answer": i % 3})
TEXTS = [{"text": " ".join(f"w{i}-{j}" for j in range(9))} for i in range(N)]
LABELS = rows(lambda i: {"text": f"text {i}", "label": ["no", "yes"][i % 2]})
SEVERAL = rows(lambda i: {"text": f"text {i}", "label": [["no"], ["yes"], ["no", "yes"]][i % 3]})
WORDS = rows(lambda i: {"tokens": [f"w{i}", f"v{i}"], "labels": ["no", "yes"]})
PAIRS = rows(lambda i: {"prompt": f"P{i} ", "chosen": f"good {i}", "rejected": f"bad {i}"})
ENTAILS = ("contradiction", "neutral", "entailment")
Case = tuple[Callable[..., Any], list[dict[str, object]], dict[str, Any], Callable[[], Counting]]
CASES: dict[str, Case] = {
    "multiple_choice": (MultipleChoice, CHOICES, {"shots": 2}, Counting),
    "multiple_choice text": (MultipleChoice, CHOICES, {"scoring": "text"}, Counting),
    "facts": (
        Facts,
        rows(lambda i: {"prompt": f"The number {i} is", "answer": f"n{i}"}),
        {},
        Counting,
    ),
    "facts whole": (
        Facts,
        rows(lambda i: {"prompt": f"The number {i} is", "answer": f"n{i} m{i}"}),
        {"mode": "whole_entity"},
        Counting,
    ),
    "next_token": (NextToken, [dict(t) for t in TEXTS], {"positions": 5}, Counting),
    "classification": (Classification, LABELS, {}, Counting),
    "classification several": (
        Classification,
        SEVERAL,
        {},
        lambda: Counting(multi_label=True),
    ),
    "classification words": (Classification, WORDS, {}, Counting),
    "classification hypothesis": (
        Classification,
        LABELS,
        {"hypothesis": "This is {}."},
        lambda: Counting(names=ENTAILS),
    ),
    "preference": (Preference, PAIRS, {}, Counting),
    "p_true": (PTrue, QUESTIONS, {}, Counting),
    "verbalized": (Verbalized, QUESTIONS, {"max_failures": 1.0}, Counting),
    "agreement": (Agreement, QUESTIONS, {"samples": 3}, Counting),
    "sequence": (SequenceLogprob, QUESTIONS, {}, Counting),
}


def made(case: str, folder: Path) -> tuple[Any, Counting]:
    """The probe of a case, and a model that it can ask."""
    make, content, settings, model = CASES[case]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return make("mine", path=path, **settings), model()


def in_parts(probe: Any, model: object, limit: int | None = None) -> Any:
    """What asking in parts gives."""
    return Asker(probe_set(), shares=SHARES).ask(model, probe, limit)  # type: ignore[arg-type]


def in_groups_of(part: Predictions, whole: Predictions) -> set[int]:
    """The items of the whole that share a named group with one of the part."""
    if part.groups is None or whole.groups is None:
        return set()
    named = {str(g) for g in part.groups if re.match("g|text|document", str(g))}
    return {int(i) for i, g in zip(whole.item_ids, whole.groups, strict=True) if str(g) in named}


def test_every_kind_is_tried() -> None:
    """All kinds of probes but that of lm-eval, which has a test beside the harness."""
    assert {case.split()[0] for case in CASES} == {*KINDS} - {"lm_eval"}


@pytest.mark.parametrize("case", CASES)
def test_a_model_scores_what_was_asked_and_nothing_twice(case: str, tmp_path: Path) -> None:
    """A quarter of the items costs a quarter of the answers; all of them are those of one run."""
    probe, model = made(case, tmp_path)
    _, other = made(case, tmp_path)
    whole = probe.run(other)
    found = in_parts(probe, model)
    assert isinstance(found, PredictionsInParts)
    everything = sum(other.scored.values())
    known: set[int] = set()
    for part in found.in_turn():
        share = part.sizes[-1] / len(whole)
        assert len(part.predictions) == part.sizes[-1]
        assert part.predictions.signature.hard.items() <= whole.signature.hard.items()
        same = whole.take(np.isin(whole.item_ids, part.predictions.item_ids))
        assert np.array_equal(part.predictions.confidence, same.confidence)
        assert np.array_equal(part.predictions.correct, same.correct)
        assert share < SHARES[part.number - 1] + 0.1
        assert sum(model.scored.values()) == pytest.approx(share * everything, rel=0.12)
        assert known < {*part.predictions.item_ids.tolist()}
        known = {*part.predictions.item_ids.tolist()}
        assert {*part.item_ids.tolist()} == {*whole.item_ids.tolist()}
        assert known >= in_groups_of(part.predictions, whole)
    assert max(model.scored.values()) == 1
    assert model.scored == other.scored
    assert np.array_equal(found.item_ids, whole.item_ids)
    assert np.array_equal(found.confidence, whole.confidence)
    assert np.array_equal(found.correct, whole.correct)
    assert (found.signature, found.notes) == (whole.signature, whole.notes)


@pytest.mark.parametrize("case", ["multiple_choice", "next_token", "classification words"])
def test_a_limit_is_asked_in_parts(case: str, tmp_path: Path) -> None:
    """The parts are those of the items that the limit takes."""
    probe, model = made(case, tmp_path)
    _, other = made(case, tmp_path)
    whole = probe.run(other, limit=24)
    *parts, last = in_parts(probe, model, limit=24).in_turn()
    assert len(parts) >= 2
    assert np.array_equal(last.predictions.item_ids, whole.item_ids)
    for part in parts:
        assert {*part.item_ids.tolist()} == {*whole.item_ids.tolist()}
        assert part.predictions.asked_of == 24


def test_the_first_part_is_asked_at_once_and_the_rest_when_it_is_read(tmp_path: Path) -> None:
    """What a test prints asks nothing; what it reads asks for all."""
    probe, model = made("multiple_choice", tmp_path)
    found = in_parts(probe, model)
    first = sum(model.scored.values())
    assert N / 4 <= first < N / 2
    assert repr(found) == "<predictions of probe 'mine', asked in parts>"
    assert found.probe == "mine"
    assert sum(model.scored.values()) == first
    assert len(found) == N
    assert sum(model.scored.values()) == N
    assert found.asked_of == 0


def test_the_parent_is_asked_at_once(tmp_path: Path) -> None:
    """All candidates are compared with the same answers of it."""
    probe, model = made("multiple_choice", tmp_path)
    parent = Counting()
    asker = Asker(probe_set(), parent=parent, shares=SHARES)
    asker.ask(model, probe)
    assert sum(parent.scored.values()) == N
    assert sum(model.scored.values()) < N / 2
    answers = asker.parent_predictions("mine")
    assert answers is not None
    assert not isinstance(answers, PredictionsInParts)


def at_once(probe: Any, _model: Any, *, limit: int | None = None) -> Predictions:
    """Answer all items."""
    assert limit is None
    right = np.arange(N) % 2 == 0
    return Predictions.from_confidence(np.full(N, 0.5), right, probe=probe.name)


class Own:
    """A probe that knows nothing of parts."""

    name, kind, unit, size = "own", "own", "items", N
    run = at_once


class OwnItems(MultipleChoice):
    """A probe of our base class that chooses its items itself."""

    run = at_once  # type: ignore[assignment]


@pytest.mark.parametrize("probe", [Own(), OwnItems("own")])
def test_a_probe_that_chooses_its_items_itself_is_asked_at_once(probe: Any) -> None:
    """There is nothing to stop early."""
    found = in_parts(probe, Counting())
    assert not isinstance(found, PredictionsInParts)
    assert (len(found), found.asked_of) == (N, 0)


def test_a_model_that_may_change_unseen_is_asked_at_once(tmp_path: Path) -> None:
    """A project's own model without a fingerprint may be trained between two parts."""
    probe, model = made("multiple_choice", tmp_path)
    model.__class__ = type("Unmarked", (Counting,), {"fingerprint": ""})
    assert not isinstance(in_parts(probe, model), PredictionsInParts)


def test_a_model_that_changed_is_not_asked_for_the_rest(tmp_path: Path) -> None:
    """Two states of a model are never mixed."""
    probe, model = made("multiple_choice", tmp_path)
    found = in_parts(probe, model)
    model.salt = "trained"
    with pytest.raises(UsageError, match="has changed since, and the others are needed"):
        _ = found.confidence


def test_predictions_keep_no_model_in_memory(tmp_path: Path) -> None:
    """Whoever reads on after the model is gone is told."""
    probe, model = made("multiple_choice", tmp_path)
    found = in_parts(probe, model)
    del model
    gc.collect()
    with pytest.raises(UsageError, match="is gone, and the others are needed; judge"):
        len(found)


def test_each_part_is_told(tmp_path: Path) -> None:
    """How many items were asked by then, and of how many."""
    probe, model = made("multiple_choice", tmp_path)
    told: list[Answer] = []
    found = Asker(probe_set(), shares=SHARES, on_answer=told.append).ask(model, probe)
    assert isinstance(found, PredictionsInParts)
    list(found.in_turn())
    counts = [answer.part for answer in told]
    assert all(part is not None and part[1] == N for part in counts)
    assert counts == sorted(counts)  # type: ignore[type-var]
    assert counts[-1] == (N, N)


class OwnSample(ItemProbe[Item]):
    """A probe of our base class, which answers from its sample as it likes.

    Args:
        answer: makes predictions from the probe, the model, the items and their fields.
    """

    kind, unit = "own", "items"

    def __init__(self, answer: Callable[..., Predictions]) -> None:
        super().__init__("mine", [Item(id=f"i{k}") for k in range(N)])
        self.answer = answer

    def content(self, item: Item) -> tuple[str]:
        """Its id."""
        return (str(item.id),)

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Answer a sample."""
        items, fields = self.sample(limit)
        return self.answer(model, [str(item.id) for item in items], fields)


def scored(ids: Sequence[str], copies: int = 1, **fields: Any) -> Predictions:
    """Predictions of some confidence on these, each so often."""
    confidence = np.array([0.5 + unit(name) / 2 for name in ids for _ in range(copies)])
    return Predictions.from_confidence(confidence, confidence > 0.7, probe="mine", **fields)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _, ids, __: scored(ids, 3, item_ids=[(i, k) for i in ids for k in range(3)]),
        lambda _, ids, __: scored(ids, item_ids=ids),
        lambda _, ids, __: scored(ids),
        lambda _, ids, __: scored(kept := [i for i in ids if "7" not in i], item_ids=kept),
    ],
    ids=["several rows", "own ids", "no ids", "some left out"],
)
def test_a_sample_that_is_answered_otherwise_is_asked_at_once(
    answer: Callable[..., Predictions],
) -> None:
    """Which part of the whole it is would not be known."""
    found = in_parts(OwnSample(answer), Counting())
    assert not isinstance(found, PredictionsInParts)
    assert np.array_equal(found.item_ids, OwnSample(answer).run(Counting()).item_ids)


def test_a_later_part_that_leaves_items_out_is_refused() -> None:
    """The whole would never be known, and nothing decided."""

    def answer(_: object, ids: Sequence[str], fields: Mapping[str, Any]) -> Predictions:
        ids = ids if len(ids) <= N / 4 else ids[1:]
        return replace(scored(ids), item_ids=fields["item_ids"][-len(ids) :])

    model = Counting()
    found = in_parts(OwnSample(answer), model)
    with pytest.raises(ProbeError, match=r"returned 39 items that are not the 40 of self\.sample"):
        len(found)


class Drawing(Counting):
    """Answers otherwise each time, and only when it is told how."""

    told: int | None = None

    def __call__(self, prompts: Sequence[str]) -> list[float]:
        """A function of its own."""
        return [unit(p) for p in prompts]

    def rewards(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Draw anew."""
        assert self.told == 3
        self.scored.update((str(text),) for text in texts)
        return np.array([10 * sum(self.scored.values()) + i for i in range(len(texts))], float)


def test_a_model_is_to_a_probe_what_it_is() -> None:
    """Its type, its attributes and a call of it; draws of one question in one run are several."""
    draws = []

    def answer(model: Any, ids: Sequence[str], fields: Mapping[str, Any]) -> Predictions:
        assert isinstance(model, Drawing)
        model.told = 3
        assert model(ids) == [unit(i) for i in ids]
        draws.append({i: {*model.rewards([i, i]), *model.rewards([i])} for i in ids})
        return replace(scored(ids), item_ids=fields["item_ids"])

    model = Drawing()
    found = in_parts(OwnSample(answer), model)
    assert len(found) == N
    first, last = draws
    assert all(len(drawn) == 3 for drawn in last.values())
    assert all(last[i] == drawn for i, drawn in first.items())
    assert {*model.scored.values()} == {3}


def test_a_probe_that_changes_answers_does_not_change_those_that_are_kept() -> None:
    """Each part reads what the model said."""
    seen = []

    def answer(model: Any, ids: Sequence[str], fields: Mapping[str, Any]) -> Predictions:
        rows = model.option_logprobs(ids, [[" a", " b"]] * len(ids))
        seen.append({i: row.copy() for i, row in zip(ids, rows, strict=True)})
        for row in rows:
            np.divide(row, 2, out=row)
        return replace(scored(ids), item_ids=fields["item_ids"])

    model = Counting()
    assert len(in_parts(OwnSample(answer), model)) == N
    first, last = seen
    assert all(np.array_equal(last[i], row) for i, row in first.items())


class Picture:
    """A question without a text of its own."""

    def __repr__(self) -> str:
        return "<Picture at 0x7f00>"


@pytest.mark.parametrize(
    "question",
    [lambda _: Picture(), lambda k: np.arange(5000) + (np.arange(5000) == 2500) * k],
    ids=["objects", "long arrays"],
)
def test_questions_that_look_alike_are_not_taken_for_one(question: Callable[[int], Any]) -> None:
    """Where a question is not known by value, it is asked again."""
    asked: list[Any] = []

    class Looking(Counting):
        def rewards(self, texts: Sequence[Any]) -> NDArray[np.float64]:
            asked.extend(texts)
            return np.array([0.0] * len(texts))

    def answer(model: Any, ids: Sequence[str], fields: Mapping[str, Any]) -> Predictions:
        assert len(model.rewards([question(int(i[1:])) for i in ids])) == len(ids)
        return replace(scored(ids), item_ids=fields["item_ids"])

    model = Looking()
    assert len(in_parts(OwnSample(answer), model)) == N
    assert len(asked) >= N


def test_what_is_made_of_predictions_in_parts_has_all_items(tmp_path: Path) -> None:
    """By replace, as a copy, or in another process: none is a part, or knows of parts."""
    for make in (
        copy.copy,
        copy.deepcopy,
        lambda p: pickle.loads(pickle.dumps(p)),
        lambda p: replace(p, source="elsewhere"),
        lambda p: p.with_signature(model="other"),
        lambda p: p.take(np.arange(N)),
    ):
        probe, model = made("multiple_choice", tmp_path)
        found = make(in_parts(probe, model))
        assert type(found) is Predictions
        assert (len(found), found.asked_of) == (N, 0)


def test_a_probe_of_ones_own_may_use_the_words_asked_share_and_planned() -> None:
    """What a run in parts notes of a probe has names that a subclass hardly has."""

    class Mine(Facts):
        asked, share, planned = 0, "mine", ("a",)

        def run(self, model: Any, *, limit: int | None = None) -> Predictions:
            self.asked += 1
            return super().run(model, limit=limit)

    probe = Mine("mine")
    assert len(probe.run(Counting(), limit=20)) == 20
    assert (probe.asked, probe.share, probe.planned) == (1, "mine", ("a",))
