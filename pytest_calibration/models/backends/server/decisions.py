"""Typed decisions of ``transformers serve``: a probability for each option of a question.

The server puts state and options into a prompt of its own, and divides by the temperatures of the
model's ``decision.json``. So probabilities are those of the decision model as it is served: they
add up to 1 over the options, and are not those of the same checkpoint asked by its text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, UntrustedServerError
from pytest_calibration.models.backends.server.client import Client
from pytest_calibration.models.backends.server.dialect import WrongReplyError
from pytest_calibration.models.backends.server.replies import Decision
from pytest_calibration.models.backends.server.service import Service
from pytest_calibration.models.cache import Cache
from pytest_calibration.progress import PROGRESS
from pytest_calibration.text.visible import quoted

ROUTE: Final = "/systemone"
"""How the address of the route ends."""
_NAME: Final = "question"
# How far a sum of probabilities may lie from 1, and a probability from what it was before.
_SAME: Final = 0.01
_LEAST: Final = 1e-30
# What a server is asked first: the same about different states.
_TRIALS: Final = (
    ("The kettle boils, and steam rises from it.", ("hot", "cold", "wet")),
    ("Snow fell all night, and the lake is frozen.", ("hot", "cold", "wet")),
    ("Snow fell all night, and the lake is frozen.", ("night", "morning")),
)


class DecisionModel:
    """A decision model on a server that has proved itself.

    Args:
        name: what reports call it.
        service: asks the server; its address ends in the route.
        model: id of the model.
    """

    notes: Sequence[str] = ()
    checkpoint_notes: tuple[str, ...] = ()

    def __init__(self, name: str, service: Service, model: str) -> None:
        self.name = name
        self.service = service
        self._model = model
        with service.trusted():
            self.proof = _prove(service.client, model)

    @property
    def description(self) -> Mapping[str, str]:
        """What is known of it, for signatures."""
        return {"served as": self._model, "asked by": "typed decisions"}

    def keep_in(self, cache: Cache, key: bytes) -> None:
        """Keep each answer of the server as it comes."""
        self.service.keep_in(cache, key)

    def close(self) -> None:
        """Close the connections."""
        self.service.client.close()

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Return the logarithm of the probability of each option among the options, (k,) each.

        Raises:
            ModelError: two options of a prompt are the same but for white space.
        """
        rows = [[text.strip() for text in row] for row in options]
        for prompt, row in zip(prompts, rows, strict=True):
            if len({*row, ""}) <= len(row):
                raise ModelError(
                    f"{self.name}: two options of {quoted(prompt)} are the same, or one is empty, "
                    "and a server tells them apart by their texts; change the item."
                )

        def find(i: int) -> list[float]:
            body = _body(self._model, prompts[i], rows[i])
            return self.service.kept_or(
                self.service.key([body]),
                list[float],
                lambda: _probabilities(self.service.client, body, rows[i]),
            )

        def report(n: int, of: int) -> None:
            PROGRESS.report(n, of, "prompts")

        before = self.service.asked
        try:
            with self.service.trusted():
                found = self.service.find_all(prompts, find, report)
            if self.service.asked > before:
                self._confirm()
        except UntrustedServerError:
            self.service.forget()
            raise
        return [np.log(np.maximum(np.array(row, dtype=np.float64), _LEAST)) for row in found]

    def _confirm(self) -> None:
        with self.service.trusted():
            now = _prove(self.service.client, self._model)
            if max(abs(a - b) for a, b in zip(now, self.proof, strict=True)) > _SAME:
                raise WrongReplyError("it gives other probabilities than when it was asked first")
        self.service.confirmed()


def _prove(client: Client, model: str) -> tuple[float, ...]:
    """Have a server answer what shows made-up numbers; return its probabilities.

    Raises:
        WrongReplyError: with what is wrong.
    """
    found = [
        _probabilities(client, _body(model, state, options), options) for state, options in _TRIALS
    ]
    again = _probabilities(client, _body(model, *_TRIALS[0]), _TRIALS[0][1])
    if max(abs(a - b) for a, b in zip(found[0], again, strict=True)) > _SAME:
        raise WrongReplyError("it gives other probabilities when it is asked the same again")
    if found[0] == found[1]:
        raise WrongReplyError("it gives the same probabilities whatever the state is")
    return tuple(value for row in found for value in row)


def _body(model: str, state: str, options: Sequence[str]) -> dict[str, Any]:
    question = {"type": "choice", "criteria": dict.fromkeys(options)}
    return {"model": model, "state": state, "questions": {_NAME: question}}


def _probabilities(client: Client, body: Mapping[str, Any], options: Sequence[str]) -> list[float]:
    """Return the probability of each option.

    Raises:
        WrongReplyError: they cannot be right.
    """
    reply = client.post("", body, Decision)
    if reply.model is not None and reply.model != body["model"]:
        raise WrongReplyError(f"model {body['model']!r} was asked, and {reply.model!r} answered")
    answer = reply.answers.get(_NAME)
    if answer is None or answer.probabilities.keys() != set(options):
        raise WrongReplyError("it gives probabilities of other options than were asked for")
    values = [answer.probabilities[option] for option in options]
    if not all(math.isfinite(value) and 0 <= value <= 1 + _SAME for value in values):
        raise WrongReplyError(f"it gives {quoted(values)} as probabilities")
    if abs(sum(values) - 1) > _SAME:
        raise WrongReplyError(f"its probabilities of the options add up to {sum(values):.4g}")
    if answer.probabilities.get(answer.choice, -1.0) < max(values) - _SAME:
        raise WrongReplyError("the option that it chooses is not the most likely one")
    return values
