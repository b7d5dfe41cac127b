"""Asking models probes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import ref

import pytest
from fakes import FakeModel
from known_calibration import calibrated

from pytest_calibration.asking import Answer, Asker
from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.probe_set import ProbeSet


class Recorder:
    """A probe that writes down whom it was asked of.

    Args:
        name: name of the probe.
        log: where it writes.
        answer: what it returns instead of its predictions.
    """

    kind = unit = "items"
    size = 40

    def __init__(self, name: str, log: list[str], answer: Any = None) -> None:
        self.name = name
        self.log = log
        self.answer = answer

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Return as many predictions as the limit allows."""
        self.log.append(f"{model.name} {self.name} {limit}")
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return replace(calibrated(limit or self.size, 1), probe=self.name)


class Releasing(FakeModel):
    """A model that writes down that it was released."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(name)
        self.log = log

    def release(self) -> None:
        """Write it down."""
        self.log.append(f"{self.name} released")


@pytest.fixture
def log() -> list[str]:
    """What was done, in order."""
    return []


@pytest.fixture
def asker(log: list[str]) -> Callable[..., Asker]:
    """Make an asker of two probes, ``one`` and ``two``, and of one that fails, ``bad``."""
    probes: dict[str, Any] = {name: Recorder(name, log) for name in ("one", "two")}
    probes["bad"] = Recorder("bad", log, ProbeError("no items"))
    factories = {name: (lambda probe=probe: probe) for name, probe in probes.items()}

    def make(**settings: Any) -> Asker:
        return Asker(ProbeSet(factories, tuple(factories)), **settings)

    return make


def test_a_question_is_asked_once(asker, log) -> None:
    """The same model, probe and limit give the same predictions without asking again."""
    model = FakeModel()
    ask = asker().ask
    assert ask(model, "one") is ask(model, "one")
    assert ask(model, "one", 10) is ask(model, "one", 10)
    assert ask(FakeModel("other"), "one").n == 40
    assert log == ["fake one None", "fake one 10", "other one None"]


def test_a_model_that_changed_is_asked_again(asker, log) -> None:
    """Another fingerprint of the same object is another question."""
    model = FakeModel()
    ask = asker().ask
    ask(model, "one")
    model.salt = "trained"
    ask(model, "one")
    assert log == ["fake one None"] * 2


def test_two_probes_of_one_name_are_two_questions(asker, log) -> None:
    """A probe counts by identity: two objects may ask different items under one name."""
    model = FakeModel()
    ask = asker().ask
    for _ in range(3):
        # None of them may be given the id of one that is gone.
        ask(model, Recorder("mine", log))
    assert log == ["fake mine None"] * 3


def test_a_model_without_weak_references_is_asked_each_time(asker, log) -> None:
    """Answers are kept only where that does not keep the model in memory."""

    class Slotted:
        __slots__ = ("name",)

    model = Slotted()
    model.name = "slotted"
    ask = asker().ask
    assert ask(model, "one").n == ask(model, "one").n == 40
    assert len(log) == 2


def test_answers_do_not_keep_a_model_in_memory(asker) -> None:
    """A model that its owner drops is gone."""
    one = asker()
    model = FakeModel()
    one.ask(model, "one")
    gone = ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("call", "option", "limits", "expected"),
    [
        (5, 6, {"one": 7}, 5),
        (None, 6, {"one": 7}, 6),
        (None, None, {"one": 7, "two": 8}, 7),
        (None, None, {"two": 8}, None),
        (None, None, None, None),
    ],
)
def test_the_nearest_limit_wins(asker, log, call, option, limits, expected) -> None:
    """A limit of the call wins over one for all probes, and that over the probe's own."""
    asker(limit=option, limits=limits).ask(FakeModel(), "one", call)
    assert log == [f"fake one {expected}"]


def test_the_parent_is_asked_everything_first_and_released(asker, log) -> None:
    """Two models change places in memory once, however many probes are selected."""
    parent, model = Releasing("parent", log), Releasing("child", log)
    one = asker(parent=parent, selected=["one", "bad", "two"], limits={"two": 9})
    for name in ("one", "two"):
        one.ask(model, name)
    assert log == [
        "child released", "parent one None", "parent bad None", "parent two 9", "parent released",
        "child one None", "child two 9",
    ]  # fmt: skip


def test_the_parent_is_asked_alone_where_it_is_the_model(asker, log) -> None:
    """A test may ask the parent itself."""
    parent = Releasing("parent", log)
    asker(parent=parent, selected=["one", "two"]).ask(parent, "two")
    assert log == ["parent two None"]


def test_an_error_of_the_parent_is_raised_for_its_own_probe(asker, log) -> None:
    """What the parent cannot answer fails the test that asks for it, and no other."""
    one = asker(parent=FakeModel("parent"), selected=["bad", "one"])
    assert one.ask(FakeModel(), "one").n == 40
    with pytest.raises(ProbeError, match="no items"):
        one.ask(FakeModel(), "bad")


def test_the_parent_predictions_are_those_of_most_items(asker) -> None:
    """A comparison uses the parent's longest answer to the probe, and none of another probe."""
    parent = FakeModel("parent")
    one = asker(parent=parent)
    assert one.parent_predictions("one") is None
    for limit in (10, 30, 20):
        one.ask(FakeModel(), "one", limit)
    found = one.parent_predictions("one")
    assert found is not None
    assert found.n == 30
    assert one.parent_predictions("two") is None
    assert asker().parent_predictions("one") is None


def test_a_limit_holds_for_a_probe_that_knows_of_none(asker, log) -> None:
    """It is asked whole, and the part that a limit takes is used."""
    whole = replace(calibrated(40, 1), probe="mine")
    found = asker().ask(FakeModel(), Recorder("mine", log, whole), 7)
    assert found.item_ids.tolist() == whole.limited(7).item_ids.tolist()


@pytest.mark.parametrize("answer", [3, replace(calibrated(9, 1), probe="other")])
def test_a_probe_returns_predictions_of_its_own_name(asker, log, answer: Any) -> None:
    """Anything else is an error that names the probe and what it returned."""
    got = "int" if answer == 3 else "other"
    with pytest.raises(ProbeError, match=f"probe 'mine' must return Predictions .* got '{got}'"):
        asker().ask(FakeModel(), Recorder("mine", log, answer))


def test_an_unknown_name_is_an_error(asker) -> None:
    """The error suggests the nearest name."""
    with pytest.raises(UsageError, match=r"unknown probe 'on' \(did you mean 'one'"):
        asker().ask(FakeModel(), "on")


def test_each_new_answer_is_given_to_the_callback(asker) -> None:
    """The parent's answers too, each once."""
    seen: list[Answer] = []
    one = asker(parent=FakeModel("parent"), on_answer=seen.append)
    predictions = [one.ask(FakeModel(), "one") for _ in range(2)]
    model = FakeModel("again")
    assert one.ask(model, "one") is one.ask(model, "one")
    assert [(a.model, a.probe.name, a.from_cache) for a in seen] == [
        ("parent", "one", None), ("fake", "one", None), ("fake", "one", None),
        ("again", "one", None),
    ]  # fmt: skip
    assert seen[1].predictions is predictions[0]


def test_predictions_name_the_model_that_was_asked(asker, log) -> None:
    """A probe that names none gets the model's name; one that does keeps its own."""
    one = asker()
    assert one.ask(FakeModel("sft"), "one").signature.soft["model"] == "sft"
    own = replace(calibrated(9, 1), probe="mine").with_signature(model="theirs")
    asked = one.ask(FakeModel("sft"), Recorder("mine", log, own))
    assert asked.signature.soft["model"] == "theirs"


class Nameless:
    """A probe without a name."""

    def run(self, model: Any, limit: int | None = None) -> Predictions:
        """Never asked."""
        raise AssertionError(model, limit)


class Unlimited:
    """A probe that takes no limit."""

    name = "unlimited"

    def run(self, model: Any) -> Predictions:
        """Never asked."""
        raise AssertionError(model)


class NotRun:
    """A probe that cannot be run."""

    name = "not run"


@pytest.mark.parametrize(
    ("probe", "got"),
    [
        (Recorder, "the class Recorder in place of one of its objects"),
        (Nameless(), "an object of type Nameless, whose `name` is no text"),
        (NotRun(), "an object of type NotRun, which has no `run`"),
        (Unlimited(), "an object of type Unlimited, whose `run` cannot be called so"),
        (print, "an object of type builtin_function_or_method, whose `name` is no text"),
        (3, "an object of type int, whose `name` is no text"),
        (None, "None, whose `name` is no text"),
    ],
)
def test_what_is_no_probe_is_named(asker, probe: Any, got: str) -> None:
    """One sentence: what a probe has, and what was given in its place."""
    with pytest.raises(UsageError) as raised:
        asker().ask(FakeModel(), probe)
    expected = "a probe has a `name`, a `kind` and `run(model, limit=None)`"
    assert str(raised.value) == f"{expected}, got {got}."


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "9"])
def test_an_impossible_limit_is_refused_for_every_probe(asker, log, limit: Any) -> None:
    """Also for a probe of a project, which may not look at it."""
    with pytest.raises(UsageError, match="a limit must be"):
        asker().ask(FakeModel(), "one", limit)
    assert log == []
