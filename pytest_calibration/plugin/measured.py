"""What the verdicts of a run measured: kept until its end, then added to the history together."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from pytest_calibration.history.checkpoints import Checkpoint
    from pytest_calibration.history.file import Appended, History
    from pytest_calibration.history.lines import Line, Number
    from pytest_calibration.models.backends import ModelSpec
    from pytest_calibration.plugin.outcomes import Outcomes
    from pytest_calibration.predictions import Predictions

# Of several verdicts on one measurement, the first of these is told.
WORST_FIRST: Final = (
    *("regressed", "above_limit", "not_comparable", "no_baseline", "not_recorded"),
    *("inconclusive", "recorded", "passed", ""),
)


@dataclass
class Measured:
    """One measurement.

    Attributes:
        line: what the history says of it, but for the verdict.
        items: its items, as files keep them.
        states: test to the states of its verdicts.
        at_points: coverage and precision at the thresholds that tests asked for.
    """

    line: Line
    items: bytes
    states: dict[str, list[str]] = field(default_factory=dict)
    at_points: dict[str, Number] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, to travel to another process."""
        items = b64encode(self.items).decode("ascii")
        # A line carries the numbers of its metrics as JSON.
        points = replace(self.line, metrics=self.at_points).to_json()
        return {
            "line": self.line.to_json(),
            "items": items,
            "states": self.states,
            "points": points,
        }

    def told(self, not_recorded: Container[str]) -> Line:
        """Return the line with the most serious verdict.

        Args:
            not_recorded: tests whose record could not be written.
        """
        states = {
            "not_recorded" if state == "recorded" and test in not_recorded else state
            for test, states in self.states.items()
            for state in states
        }
        return replace(
            self.line,
            verdict=min(states, key=WORST_FIRST.index, default=""),
            metrics={**self.line.metrics, **self.at_points},
        )


class Measurements:
    """The measurements of a run that are not written yet, each once."""

    def __init__(self) -> None:
        # By the line without its time.
        self._measured: dict[str, Measured] = {}
        # Weak, since predictions are large.
        self._known: WeakKeyDictionary[Predictions, str] = WeakKeyDictionary()
        self._specs: WeakKeyDictionary[Predictions, ModelSpec] = WeakKeyDictionary()

    def know(self, predictions: Predictions, spec: ModelSpec | None) -> None:
        """Know of which model some predictions are."""
        if spec is not None:
            self._specs[predictions] = spec

    def spec_of(self, predictions: Predictions) -> ModelSpec | None:
        """Return of which model some predictions are; None where it is not known."""
        return self._specs.get(predictions)

    def add(
        self,
        predictions: Predictions,
        test: str,
        states: Iterable[str],
        checkpoint: Checkpoint,
        *,
        stage: str = "",
        parent: str = "",
        thresholds: Iterable[float] = (),
    ) -> Measured:
        """Keep a measurement, and return it.

        Args:
            predictions: what was measured.
            test: node id of the test.
            states: those of its verdicts on them.
            checkpoint: which state of which training run they are of.
            stage: name of the stage; empty for none.
            parent: the model that it was trained from; empty for none.
            thresholds: of the operating points that are measured, too.
        """
        from pytest_calibration.history.lines import Line, at_thresholds
        from pytest_calibration.predictions.stored_items import items_bytes, items_of

        key = self._known.get(predictions, "")
        if key not in self._measured:
            line = Line.of(predictions, checkpoint=checkpoint, stage=stage, parent=parent)
            one = Measured(line, items_bytes(items_of(predictions)))
            key = self._known[predictions] = self._keep(one)
        one = self._measured[key]
        one.states.setdefault(test, []).extend(states)
        one.at_points |= at_thresholds(predictions, thresholds)
        return one

    def _keep(self, one: Measured) -> str:
        from pytest_calibration.predictions import digest

        key = digest(replace(one.line, time="").to_json(), one.items)
        known = self._measured.setdefault(key, one)
        known.at_points |= one.at_points
        if known is not one:
            for test, states in one.states.items():
                known.states.setdefault(test, []).extend(states)
        return key

    def drop(self, test: str) -> None:
        """Drop what a test measured, which is about to run again."""
        for one in self._measured.values():
            one.states.pop(test, None)
        self._measured = {key: one for key, one in self._measured.items() if one.states}

    def write(self, history: History, commit: str, outcomes: Outcomes) -> Appended:
        """Add all measurements to a history, in the order of their tests.

        Args:
            history: where they are added.
            commit: the commit that is checked out.
            outcomes: what came of the tests.

        Raises:
            HistoryError: it cannot be written.
        """
        # Workers finish in any order.
        order = outcomes.order

        def first(one: Measured) -> int:
            return min(order.get(test, len(order)) for test in one.states)

        kept = sorted(self._measured.values(), key=first)
        lines = [replace(one.told(outcomes.lacking_a_record()), commit=commit) for one in kept]
        return history.append(lines, [one.items for one in kept])

    def __len__(self) -> int:
        return len(self._measured)

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        """Model, revision and probe of each."""
        return {one.line.key for one in self._measured.values()}

    def as_list(self) -> list[dict[str, Any]]:
        """Return what JSON can hold, to travel to the controller."""
        return [one.as_dict() for one in self._measured.values()]

    def merge(self, sent: Iterable[Mapping[str, Any]]) -> None:
        """Add the measurements of another process, as :meth:`as_list` returns them."""
        from pytest_calibration.history.lines import Line

        for one in sent:
            line, items = Line.from_json(one["line"]), b64decode(one["items"])
            points = dict(Line.from_json(one["points"]).metrics)
            self._keep(Measured(line, items, one["states"], points))
