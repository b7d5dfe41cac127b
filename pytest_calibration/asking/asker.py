"""Asks models probes: each question once per process, and one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary, ref

import numpy as np

from pytest_calibration.asking.asked_once import AskedOnce
from pytest_calibration.errors import CalibrationError, ProbeError, UsageError
from pytest_calibration.models.loading import LazyModel, Use
from pytest_calibration.models.protocols import Model
from pytest_calibration.predictions import Predictions, PredictionsInParts
from pytest_calibration.predictions.arrays import IdArray
from pytest_calibration.probes.probe import ItemProbe, Probe, check_limit
from pytest_calibration.probes.probe_set import ProbeSet, checked_probe
from pytest_calibration.progress import PROGRESS

# State of the model, identity of the probe, limit.
Question: TypeAlias = tuple[str, int, int | None]


class Answer(NamedTuple):
    """What a model answered to a probe.

    Attributes:
        model: name of the model.
        probe: the probe.
        predictions: what the probe made of the model's scores.
        from_cache: whether all scores came from the cache; None where the model has no cache or
            gave no scores.
        part: number of items that were asked by now, and of all, where they are asked in parts.
    """

    model: str
    probe: Probe
    predictions: Predictions
    from_cache: bool | None
    part: tuple[int, int] | None = None


class Asker:
    """Asks models probes, and keeps the answers as long as the model exists.

    Args:
        probes: the probes there are.
        limit: number of items of every probe; wins over ``limits``.
        limits: number of items by probe name.
        parent: the model that the others are compared with. It is asked all of ``selected`` before
            any other model, and then releases its weights.
        selected: names of the probes of this run.
        on_use: is given the usage counts of each model that this package loads, before it is asked.
        on_answer: is given each new answer.
        shares: of the items, rising to 1, after each of which a comparison may be decided: models
            but for the parent are asked in such parts. Empty: each probe is asked at once.
    """

    def __init__(
        self,
        probes: ProbeSet,
        *,
        limit: int | None = None,
        limits: Mapping[str, int] | None = None,
        parent: Model | None = None,
        selected: Sequence[str] = (),
        on_use: Callable[[Use], None] | None = None,
        on_answer: Callable[[Answer], None] | None = None,
        shares: Sequence[float] = (),
    ) -> None:
        self.probes = probes
        self.parent = parent
        self._limit = limit
        self._limits = limits or {}
        self._selected = selected
        self._on_use = on_use
        self._on_answer = on_answer
        self._shares = tuple(shares)
        # Weak: answers must not keep a model in memory that its owner has dropped.
        self._answers: WeakKeyDictionary[object, dict[Question, Answer]] = WeakKeyDictionary()

    def ask(self, model: Model, probe: str | Probe, limit: int | None = None) -> Predictions:
        """Return a model's predictions on a probe.

        They may be :class:`~pytest_calibration.predictions.PredictionsInParts`, of which the first
        part is asked by now.

        Args:
            model: what is asked.
            probe: a probe or its name.
            limit: number of items; wins over the limits of this asker.

        Raises:
            UsageError: an unknown name, an object that is no probe, or a limit below 1.
            ProbeError: the probe did not return predictions of its own name.
            CalibrationError: whatever else the probe or the model raises.
        """
        probe = self.probes.get(probe) if isinstance(probe, str) else checked_probe(probe)
        check_limit(limit)
        limit = self._limit_of(probe, limit)
        parent = self.parent
        if parent is not None and model is not parent:
            question = _question(parent, probe, limit)
            if question not in self._answers_of(parent):
                self._ask_parent(parent, model, probe, limit)
        return self._ask(model, probe, limit)

    def parent_predictions(self, probe: str) -> Predictions | None:
        """Return the parent's predictions on a probe, those of most items; None without any."""
        answers = self._answers_of(self.parent).values() if self.parent is not None else ()
        found = [a.predictions for a in answers if a.predictions.probe == probe]
        return max(found, key=len, default=None)

    def _limit_of(self, probe: Probe, limit: int | None) -> int | None:
        choices = (limit, self._limit, self._limits.get(probe.name))
        return next((choice for choice in choices if choice is not None), None)

    def _ask_parent(self, parent: Model, model: Model, probe: Probe, limit: int | None) -> None:
        """Ask the parent this probe and all selected ones, while the other model is released."""
        _release(model)
        self._ask(parent, probe, limit)
        for name in self._selected:
            # What goes wrong with another probe is raised when that one is asked.
            with suppress(CalibrationError):
                other = self.probes.get(name)
                self._ask(parent, other, self._limit_of(other, None))
        _release(parent)

    def _ask(self, model: Model, probe: Probe, limit: int | None) -> Predictions:
        answers = self._answers_of(model)
        question = _question(model, probe, limit)
        if question not in answers:
            # The answer refers to the probe, so that no other probe gets its id meanwhile.
            if self._shares and isinstance(probe, ItemProbe) and self._may_be_parted(model):
                answer = self._run_in_parts(model, probe, limit)
            else:
                answer = self._run(model, probe, limit)
            answers[question] = answer
            if self._on_answer is not None:
                self._on_answer(answer)
        return answers[question].predictions

    def _may_be_parted(self, model: Model) -> bool:
        """Whether a model is asked in parts: not the parent, and not one that may change unseen."""
        return model is not self.parent and bool(isinstance(model, LazyModel) or _state(model))

    def _run_in_parts(self, model: Model, probe: Any, limit: int | None) -> Answer:
        """Ask the first part now, and the others as they are needed."""
        parts, known, state = probe.in_parts(), dict[bytes, Any](), _state(model)
        held = _held(model)

        def ask(share: float) -> tuple[Answer, IdArray | None]:
            model: Any = held()
            if model is None or _state(model) != state:
                raise UsageError(
                    f"probe {probe.name!r}: the model that answered its first items "
                    f"{'is gone' if model is None else 'has changed since'}, and the others are "
                    "needed; judge predictions before that, or run without "
                    "--calibration-early-stop."
                )
            parts.part_share = share
            answer = self._run(model, parts, limit, AskedOnce(model, known))
            # A probe of the project's own may choose its items, or ids for them, itself.
            ids, asked = answer.predictions.item_ids, parts.part_asked
            if asked is None or not np.array_equal(np.sort(ids), np.sort(asked)):
                return answer._replace(probe=probe), None
            part = len(ids), len(parts.part_planned)
            return answer._replace(probe=probe, part=part), parts.part_planned

        def ask_more(share: float) -> tuple[Predictions, IdArray]:
            answer, planned = ask(share)
            if planned is None:
                raise ProbeError(
                    f"probe {probe.name!r} returned {len(answer.predictions):,} items that are not "
                    f"the {len(parts.part_asked):,} of self.sample(limit), as its first items "
                    "were; answer each of these, or run without --calibration-early-stop."
                )
            if self._on_answer is not None:
                self._on_answer(answer)
            return answer.predictions, planned

        first, planned = ask(self._shares[0])
        if planned is None and parts.part_asked is not None:
            first, _ = ask(1.0)
        if planned is None or len(planned) == len(first.predictions):
            # A kind that chooses its items itself, or so few that they are all asked at once.
            return first
        in_parts = PredictionsInParts.of(
            probe.name, ask_more, self._shares, (first.predictions, planned)
        )
        return first._replace(predictions=in_parts)

    def _run(self, model: Model, probe: Probe, limit: int | None, asked: Any = None) -> Answer:
        """Run a probe.

        Args:
            model: the model.
            probe: the probe.
            limit: number of items.
            asked: what the probe is given in place of the model, and asks it in turn.
        """
        lazy = model if isinstance(model, LazyModel) else None
        if lazy is not None and self._on_use is not None:
            self._on_use(lazy.use)
        before = _calls(lazy)
        with PROGRESS.of(model, probe):
            predictions = probe.run(model if asked is None else asked, limit=limit)
        after = _calls(lazy)
        if not isinstance(predictions, Predictions) or predictions.probe != probe.name:
            known = isinstance(predictions, Predictions)
            got = predictions.probe if known else type(predictions).__name__
            raise ProbeError(
                f"probe {probe.name!r} must return Predictions of its own name, got {got!r}."
            )
        # A project's own probe need not know of limits.
        predictions = predictions.limited(limit)
        name = str(getattr(model, "name", ""))
        if name and not predictions.signature.soft.get("model"):
            # A project's own probe need not say which model it asked.
            predictions = predictions.with_signature(model=name)
        used_cache = lazy is not None and lazy.cache is not None and after != before
        from_cache = after[1] == before[1] if used_cache else None
        return Answer(name, probe, predictions, from_cache)

    def _answers_of(self, model: object) -> dict[Question, Answer]:
        """Return the known answers of a model; an empty one where it takes no weak reference."""
        try:
            return self._answers.setdefault(model, {})
        except TypeError:
            return {}


def _question(model: Model, probe: Probe, limit: int | None) -> Question:
    return _state(model), id(probe), limit


def _state(model: Model) -> str:
    """Return what changes with a model; empty where nothing tells, and for checkpoints.

    A checkpoint does not change while it is probed; a model that a project brings may.
    """
    return "" if isinstance(model, LazyModel) else str(getattr(model, "fingerprint", ""))


def _calls(model: LazyModel | None) -> tuple[int, int]:
    """Return how many calls came from the cache, and how many took the weights."""
    return (0, 0) if model is None else (model.served, model.computed)


def _held(model: object) -> Callable[[], object]:
    """Return what gives the model as long as its owner keeps it, if it takes a weak reference."""
    try:
        return ref(model)
    except TypeError:
        return lambda: model


def _release(model: object) -> None:
    """Free a model's weights, if it can."""
    release = getattr(model, "release", None)
    if callable(release):
        release()
