"""A model that is asked each question once, while a probe is run on a growing part of its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.asking.stand_in import Questions, StandIn
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.protocols import Choose, NextTokenScores
from pytest_calibration.predictions.conversion import as_array


class AskedOnce(StandIn):
    """The model, which hands on only the questions that it was not asked before.

    All else of the model is as it is. One of these serves one run of a probe: what a run asks n
    times, such as draws without a seed, is answered n times.

    Args:
        model: the model.
        answers: what it has answered so far, by a digest of the question; grows.
    """

    def __init__(self, model: object, answers: dict[bytes, Any]) -> None:
        super().__init__(model, _answers=answers, _times=Counter())

    def asking(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`~pytest_calibration.asking.stand_in.StandIn`."""
        model = str(getattr(self._model, "name", "the model"))
        return _once(model, name, ask, self._answers, self._times)

    def asking_positions(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`~pytest_calibration.asking.stand_in.StandIn`."""
        return _positions_once(ask, self._answers)


def _once(
    model: str, name: str, ask: Callable[..., Any], known: dict[bytes, Any], times: Counter[bytes]
) -> Callable[..., Any]:
    @wraps(ask)
    def asked(*lists: Any, **how: Any) -> Any:
        questions = Questions.of(lists, how)
        if questions is None:
            # Not as the protocols say: a model of the project's own.
            return ask(*lists, **how)
        keys: list[bytes] = []
        for question in questions.each:
            of_question = Digest(name, questions.common, list(questions.by_name), *question)
            if not of_question.exact:
                return ask(*lists, **how)
            key = of_question.bytes()
            times[key] += 1
            keys.append(Digest(key, times[key]).bytes())
        new = [i for i, key in enumerate(keys) if key not in known]
        if new or not keys:
            answers = questions.put(ask, new)
            is_array = not isinstance(answers, list | tuple)
            rows = as_array(answers, f"what {name} returned", model) if is_array else answers
            if (is_array and not rows.ndim) or len(rows) != len(new):
                # The probe says what is wrong with it.
                return answers
            known.update((keys[i], (row, is_array)) for i, row in zip(new, rows, strict=True))
        # A probe may change what it gets.
        found = deepcopy([known[key] for key in keys])
        rows = [row for row, _ in found]
        return np.array(rows) if any(is_array for _, is_array in found) else rows

    return asked


def _positions_once(ask: Callable[..., Any], known: dict[bytes, Any]) -> Callable[..., Any]:
    """Ask for the scores of positions; what was encoded or scored before is not asked again."""

    @wraps(ask)
    def asked(
        texts: Sequence[str], *, choose: Choose | None = None, **how: Any
    ) -> list[NextTokenScores]:
        texts = list(texts)
        if choose is None:
            every: list[NextTokenScores] = ask(texts, **how)
            return every
        keys = [Digest("next_token", how, text).bytes() for text in texts]
        found: dict[int, NextTokenScores] = {}
        wanted: dict[int, NDArray[np.int64]] = {}
        for i, key in enumerate(keys):
            if key in known:
                wanted[i] = np.sort(np.asarray(choose(i, known[key].copy()), dtype=np.int64))
                scores = known.get(_at(key, wanted[i]))
                if scores is not None:
                    found[i] = scores
        new = [i for i in range(len(texts)) if i not in found]

        def choose_new(j: int, spans: NDArray[np.int64]) -> NDArray[np.int64]:
            i = new[j]
            known[keys[i]] = np.array(spans, dtype=np.int64)
            if i not in wanted:
                wanted[i] = np.sort(np.asarray(choose(i, spans), dtype=np.int64))
            return wanted[i]

        if new:
            answers = list(ask([texts[i] for i in new], choose=choose_new, **how))
            if len(answers) != len(new):
                return answers
            for i, scores in zip(new, answers, strict=True):
                found[i] = scores
                if i in wanted:
                    known[_at(keys[i], wanted[i])] = scores
        return [found[i] for i in range(len(texts))]

    return asked


def _at(key: bytes, positions: NDArray[np.int64]) -> bytes:
    return Digest(key, positions.tobytes()).bytes()
