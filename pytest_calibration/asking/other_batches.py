"""A model whose questions are asked in another order and in other batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.asking.stand_in import Questions, StandIn
from pytest_calibration.errors import ModelError
from pytest_calibration.models.protocols import Choose, NextTokenScores
from pytest_calibration.predictions.conversion import as_array

# A batch has 2 to the power of a number up to this one questions.
LARGEST: Final = 5


class OtherBatches(StandIn):
    """The model, asked in batches of 1, 2, 4, ... 32 questions that are drawn at random.

    A batch then holds short questions beside long ones, and some are asked alone. All else of the
    model is as it is.

    Args:
        model: the model.
        seed: of the random numbers.
    """

    def __init__(self, model: object, seed: int) -> None:
        super().__init__(model, _rng=np.random.default_rng(seed))

    def asking(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`~pytest_calibration.asking.stand_in.StandIn`."""
        model = str(getattr(self._model, "name", "the model"))

        @wraps(ask)
        def asked(*lists: Any, **how: Any) -> Any:
            questions = Questions.of(lists, how)
            if questions is None or not questions.each:
                return ask(*lists, **how)
            n, is_array = len(questions.each), False
            rows: list[Any] = [None] * n
            for batch in self._batches(n):
                answers = questions.put(ask, batch)
                if not isinstance(answers, list | tuple):
                    answers, is_array = as_array(answers, f"what {name} returned", model), True
                if not getattr(answers, "ndim", 1) or len(answers) != len(batch):
                    raise _other_number(model, name, answers, batch)
                for i, row in zip(batch, answers, strict=True):
                    rows[i] = row
            return np.array(rows) if is_array else rows

        return asked

    def asking_positions(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`~pytest_calibration.asking.stand_in.StandIn`."""
        model = str(getattr(self._model, "name", "the model"))

        @wraps(ask)
        def asked(
            texts: Sequence[str], *, choose: Choose | None = None, **how: Any
        ) -> list[NextTokenScores]:
            texts = list(texts)
            found: list[Any] = [None] * len(texts)
            for batch in self._batches(len(texts)):
                answers = list(
                    ask([texts[i] for i in batch], choose=_chosen_in(batch, choose), **how)
                )
                if len(answers) != len(batch):
                    raise _other_number(model, "next_token", answers, batch)
                for i, scores in zip(batch, answers, strict=True):
                    found[i] = scores
            return found

        return asked

    def _batches(self, n: int) -> list[list[int]]:
        """Divide the numbers below n, in a random order, into batches of random size."""
        sizes = 2 ** self._rng.integers(LARGEST + 1, size=n)
        order = self._rng.permutation(n)
        parts = np.split(order, np.cumsum(sizes))
        return [part.tolist() for part in parts if len(part)]


def _other_number(model: str, name: str, answers: Any, batch: Sequence[int]) -> ModelError:
    got = (
        f"an array of shape {answers.shape}"
        if hasattr(answers, "shape")
        else f"{len(answers)} answers"
    )
    return ModelError(
        f"{model}: {name} gave {got} for a batch of {len(batch)} questions; a model gives "
        "one answer to each, in batches of any size."
    )


def _chosen_in(batch: Sequence[int], choose: Choose | None) -> Choose | None:
    if choose is None:
        return None

    def chosen(j: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        return choose(batch[j], spans)

    return chosen
