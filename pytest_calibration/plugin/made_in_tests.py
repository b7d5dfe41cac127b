"""Predictions that a test made itself: what tells them apart in reports and dumps.

A probe's answers bear the name of their model. Arrays in a test may bear none, and two checkpoints
would look alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from pytest_calibration.predictions import Predictions


class MadeInTests:
    """The predictions of a run that tests judge, by what tells them apart."""

    def __init__(self) -> None:
        # Probe, model, settings, items and source to the digest of the answers.
        self._answers: dict[tuple[str, ...], str] = {}
        # What was named once keeps its name, also in another test of the same model. Weak, since
        # predictions are large.
        self._named: WeakKeyDictionary[Predictions, dict[str, Predictions]] = WeakKeyDictionary()

    def named(self, predictions: Predictions, test: str, model: str) -> Predictions:
        """Return the predictions with the name of a model, and a source where that is not enough.

        Those that name their own model stay as they are, unless other answers of the same model to
        the same items were judged before.

        Args:
            predictions: what a test judges.
            test: node id of the test.
            model: name of the model that the test is run for; empty if there is none.
        """
        known = self._named.setdefault(predictions, {})
        if model in known:
            return known[model]
        named = self._told_apart(predictions, test, model)
        if named is not predictions:
            known[model] = named  # else the value would keep its own key alive
        return named

    def drop(self, test: str) -> None:
        """Forget what an earlier attempt of a test made."""
        self._answers = {k: v for k, v in self._answers.items() if not _is_of(k[-1], test)}

    def _told_apart(self, predictions: Predictions, test: str, model: str) -> Predictions:
        from pytest_calibration.predictions import digest

        p = predictions
        own = str(p.signature.soft.get("model", ""))
        sources = chain([p.source] if own or p.source else [], _numbered(test))
        settings = str(sorted(p.signature.hard.items()))
        answers = digest(p.confidence.tobytes(), p.correct.tobytes())
        for source in sources:
            key = (p.probe, own or model, settings, p.items_digest, source)
            if self._answers.setdefault(key, answers) == answers:
                break
        if source != p.source:
            p = replace(p, source=source)
        return p if own or not model else p.with_signature(model=model)


def _numbered(test: str) -> Iterator[str]:
    """Yield the test, then the test with a number from 2."""
    yield test
    yield from (f"{test} ({k})" for k in count(2))


def _is_of(source: str, test: str) -> bool:
    return source == test or source.startswith(f"{test} (")
