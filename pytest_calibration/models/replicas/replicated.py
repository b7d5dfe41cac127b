"""The replicas of a model as one loaded model: each call is shared out among them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec, backend_named
from pytest_calibration.models.protocols import Choose, NextTokenScores
from pytest_calibration.models.replicas.batching import batches
from pytest_calibration.models.replicas.cluster import Pool
from pytest_calibration.models.replicas.replica import METHODS, POSITIONAL
from pytest_calibration.models.settings import BackendSettings
from pytest_calibration.progress import PROGRESS

AGAIN: Final = "a replica died, was started again, and was asked again what it had not answered"
# Arguments that have a value for each thing that is asked.
_PER_THING: Final = ("options", "max_new_tokens", "seeds", "chosen")
# Characters of text that take as long as a token that is written.
_WRITTEN: Final = 8


class ReplicatedModel:
    """A model that several replicas on a Ray cluster answer for.

    It has the methods of the model that they load.

    Args:
        spec: the model.
        settings: how it is loaded.
        replicas: how many there are.

    Attributes:
        name: what reports call it.
        notes: sentences about how it is scored that a user should know.
        checkpoint_notes: those about what was loaded.
        description: settings and versions that describe how it scores.
        class_names: names of its classes, if any.
        multi_label: whether a text may have any number of them.

    Raises:
        ModelError: there is no cluster or no room in it, or a replica cannot load the model, or has
            another than this machine.
    """

    def __init__(self, spec: ModelSpec, settings: BackendSettings, replicas: int) -> None:
        self.name = spec.name
        spec, settings = _anywhere(spec, settings)
        backend = backend_named(spec.backend)
        self._pool = Pool(
            spec, settings, replicas, lambda: backend.identify(spec, settings, None).fingerprint
        )
        try:
            all_facts = self._pool.facts()
        except BaseException:
            self.close()
            raise
        facts = all_facts[0]
        self._methods = facts.methods
        self._processes = {one.process for one in all_facts}
        self.description = facts.description
        self.checkpoint_notes = facts.checkpoint_notes
        self.class_names = facts.class_names
        self.multi_label = facts.multi_label
        machines = len({node for node, _ in self._processes})
        self.notes = [
            f"it was scored by {replicas} replica{'s' * (replicas > 1)} on {machines} "
            f"machine{'s' * (machines > 1)}, {self._pool.share} each",
            *facts.checkpoint_notes,
        ]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Asked for before there are facts, by copy and pickle.
        if name in METHODS and name in self.__dict__.get("_methods", ()):
            return self._next_token if name == "next_token" else partial(self._ask, name)
        raise AttributeError(name)

    def _next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None, **special: bool
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`.

        What chooses the positions stays in this process: the replicas say where the tokens are
        first.
        """
        if choose is not None:
            spans = self._ask("spans", texts, **special)
            chosen = [
                np.sort(np.asarray(choose(i, one), dtype=np.int64)) for i, one in enumerate(spans)
            ]
            special = {**special, "chosen": chosen}  # type: ignore[dict-item]
        scores: list[NextTokenScores] = self._ask("next_token", texts, **special)
        return scores

    def _ask(self, method: str, things: Sequence[Any], *more: Any, **named: Any) -> Any:
        """Share out a call, and put the answers together in the order of the things."""
        things = list(things)
        named |= dict(zip(POSITIONAL.get(method, ()), more, strict=False))
        per_thing: dict[str, Any] = {name: named.pop(name) for name in _PER_THING if name in named}
        parts = batches([*map(_text, things)], self._pool.size, _costs(per_thing))
        questions = [
            (
                [things[i] for i in part],
                named | {name: [values[i] for i in part] for name, values in per_thing.items()},
            )
            for part in parts
        ]
        done, answers = 0, dict[int, Any]()
        PROGRESS.report(0, len(things), "items")
        for number, reply in self._pool.run(method, questions):
            answers[number], notes, process = pickle.loads(reply)
            if len(answers[number]) != len(parts[number]):
                raise ModelError(
                    f"{self.name}: {method} returned {len(answers[number])} answers for "
                    f"{len(parts[number])} items."
                )
            if process not in self._processes:
                notes = (*notes, AGAIN)
            self.notes += [note for note in notes if note not in self.notes]
            done += len(parts[number])
            PROGRESS.report(done, len(things), "items")
        return _joined(parts, [answers[number] for number in range(len(parts))])

    def close(self) -> None:
        """End the replicas."""
        self._pool.close()


def _anywhere(spec: ModelSpec, settings: BackendSettings) -> tuple[ModelSpec, BackendSettings]:
    """Return a model and how each replica loads it: folders by their whole path."""
    changes: dict[str, Any] = {"replicas": None}
    for name in settings.FOLDERS:
        value = getattr(settings, name)
        if isinstance(value, str) and os.path.isdir(value):
            changes[name] = os.path.abspath(value)
    # Ray sets the number of threads by the cores of a replica.
    if hasattr(settings, "threads"):
        changes["threads"] = None
    if spec.local:
        spec = replace(spec, location=os.path.abspath(spec.location))
    return spec, replace(settings, **changes)


def _text(thing: Any) -> str:
    """Return the text of what is asked, by which questions that begin alike are found."""
    return thing if isinstance(thing, str) else "\n".join(map(str, thing))


def _costs(per_thing: dict[str, Sequence[Any]]) -> list[float]:
    """Return what each thing costs beside its own text, in characters; empty for nothing."""
    if "max_new_tokens" in per_thing:
        return [_WRITTEN * int(most) for most in per_thing["max_new_tokens"]]
    return [float(sum(map(len, options))) for options in per_thing.get("options", ())]


def _joined(parts: Sequence[Sequence[int]], answers: Sequence[Any]) -> Any:
    """Return the answers of all parts in the order of what was asked: a table, or a list."""
    order = [i for part in parts for i in part]
    if all(isinstance(one, np.ndarray) for one in answers):
        table = np.concatenate(answers)
        return table[np.argsort(order)]
    by_index = dict(zip(order, (one for part in answers for one in part), strict=True))
    return [by_index[i] for i in range(len(order))]
