"""Where assertions tell a test session what they saw. Light: a plugin imports it at start-up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pytest_calibration.gate import Settings
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.results import Result
    from pytest_calibration.verdict import Verdict


class Sink(Protocol):
    """What a test session offers to the assertions of the running test."""

    @property
    def width(self) -> int:
        """Columns that the text of a failure has."""

    def scored(self, predictions: Predictions) -> None:
        """Take note of what is being judged."""

    def seen(self, verdict: Verdict) -> Result:
        """Count a verdict, and return what a reader sees of it.

        A project may refuse inconclusive ones; and the session knows the command that records.
        """

    def settings(self, predictions: Predictions) -> Settings:
        """Return what the project's configuration says."""

    def parents(self, predictions: Predictions) -> Iterable[tuple[str, Predictions]]:
        """Return (name, predictions) of the parent model on the same probe, if one is given."""


class Slot:
    """Holds the sink of the running test.

    One for the whole process: a test may assert in threads of its own, or in an event loop that
    was started by another test, and pytest runs one test at a time.
    """

    def __init__(self) -> None:
        self._sink: Sink | None = None

    def get(self) -> Sink | None:
        """Return the sink of the running test; None outside a test session."""
        return self._sink

    def set(self, sink: Sink | None) -> Sink | None:
        """Put a sink in place and return the one before."""
        before, self._sink = self._sink, sink
        return before


SINK: Final = Slot()
