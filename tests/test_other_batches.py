"""A model asked in another order and in other batches gives each question its own answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering
from fakes import FakeModel

from pytest_calibration import Agreement, Classification, Facts, MultipleChoice, NextToken, PTrue
from pytest_calibration.asking.other_batches import LARGEST, OtherBatches
from pytest_calibration.errors import ModelError
from pytest_calibration.models.protocols import NextTokenScores


class Sizes(FakeModel):
    """Notes how many questions each call has."""

    def __init__(self) -> None:
        super().__init__("sizes")
        self.sizes: list[int] = []
        self.asked: list[str] = []

    def option_logprobs(self, prompts: Sequence[str], options: Any) -> Any:
        """Note and answer."""
        self.sizes.append(len(prompts))
        self.asked += prompts
        return super().option_logprobs(prompts, options)


class Reviewer:
    """A classifier whose probabilities depend on the length of a text alone."""

    name = "reviewer"
    class_names = ("bad", "good")

    def class_probabilities(self, texts: Sequence[str]) -> Any:
        """Return an array."""
        good = np.array([1 / (1 + len(text)) for text in texts])
        return np.stack([1 - good, good], axis=1)


def says(prompt: str, seed: int = 0) -> str:
    """Answer by the prompt's length and the seed."""
    return str((len(prompt) + seed) % 3)


@pytest.mark.parametrize(
    ("probe", "model"),
    [
        (MultipleChoice(), FakeModel()),
        (Facts(), FakeModel()),
        (Facts("whole", mode="whole_entity"), FakeModel()),
        (NextToken(), FakeModel()),
        (Agreement(samples=3), Answering(says)),
        (PTrue(samples=2), Answering(says, true=lambda prompt: (len(prompt) % 7 + 1) / 9)),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_each_question_keeps_its_answer(probe: Any, model: Any) -> None:
    """Where answers depend on the question alone, nothing moves, whatever the batch."""
    plain, other = probe.run(model, limit=40), probe.run(OtherBatches(model, 3), limit=40)
    np.testing.assert_array_equal(plain.item_ids, other.item_ids)
    np.testing.assert_array_equal(plain.confidence, other.confidence)
    np.testing.assert_array_equal(plain.correct, other.correct)


def test_a_table_of_classes_stays_one(tmp_path: Path) -> None:
    """Rows of an array are put together to an array, each in its place."""
    path = tmp_path / "reviews.csv"
    lines = [f"{'long ' * i}text,{('bad', 'good')[i % 2]}" for i in range(50)]
    path.write_text("\n".join(["text,label", *lines]))
    probe = Classification("reviews", path=path)
    plain, other = (probe.run(one) for one in (Reviewer(), OtherBatches(Reviewer(), 1)))
    np.testing.assert_array_equal(plain.probabilities, other.probabilities)


def test_a_model_that_cannot_take_every_batch_is_named(tmp_path: Path) -> None:
    """One that drops the axis of a single text, or a text, fails with what it gave."""

    class Squeezing(Reviewer):
        def class_probabilities(self, texts: Sequence[str]) -> Any:
            return super().class_probabilities(texts).squeeze()

    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *(["text,good"] * 300)]))
    probe = Classification("reviews", path=path)
    assert len(probe.run(Squeezing())) == 300
    words = r"reviewer: class_probabilities gave an array of shape \(2,\) for a batch of 1 quest"
    with pytest.raises(ModelError, match=words):
        probe.run(OtherBatches(Squeezing(), 1))

    class Lazy(FakeModel):
        def next_token(self, texts: Sequence[str], **how: Any) -> list[NextTokenScores]:
            return super().next_token(texts, **how)[1:]

    with pytest.raises(ModelError, match=r"fake: next_token gave \d+ answers for a batch of \d+ q"):
        Facts().run(OtherBatches(Lazy(), 1), limit=40)


def test_batches_are_small_and_of_several_sizes() -> None:
    """Each question is asked once, alone or with at most 31 others, in an order of its own."""
    probe, models = MultipleChoice(), [Sizes(), Sizes(), Sizes()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        probe.run(OtherBatches(model, seed), limit=200)
    first, again, other = models
    assert sum(first.sizes) == len(set(first.asked)) == 200
    assert set(first.sizes[:-1]) <= {2**i for i in range(LARGEST + 1)}
    assert {1, 2**LARGEST} <= set(first.sizes)
    assert (first.sizes, first.asked) == (again.sizes, again.asked)
    assert first.asked != other.asked
    plain = Sizes()
    probe.run(plain, limit=200)
    assert plain.asked != first.asked
    assert sorted(plain.asked) == sorted(first.asked)


def test_the_rest_of_the_model_is_as_it_is() -> None:
    """Its name, its type, and what a probe sets on it."""
    model = FakeModel("base")
    other = OtherBatches(model, 1)
    assert isinstance(other, FakeModel)
    assert other.name == "base"
    other.note = 3
    assert model.note == 3  # type: ignore[attr-defined]
