"""Where assertions send their verdicts in a pytest session. Light: every session imports it.

PYTEST_DONT_REWRITE: there is no assert statement in this module.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol, TypeAlias

    from pytest_calibration.baselines import Baselines
    from pytest_calibration.gate.strictness import OperatingPoint, Strictness
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Result

    class Sink(Protocol):
        """What a pytest session offers to the assertions of the running test."""

        @property
        def width(self) -> int:
            """Columns that the text of a failure may have."""

        @property
        def verbose(self) -> bool:
            """Whether the text of a failure has all numbers."""

        def named(self, predictions: Predictions) -> Predictions:
            """Return predictions that reports and dumps can tell from those of other tests."""

        def dump(self, predictions: Predictions, before: Predictions | None) -> None:
            """Write the items of what is judged, if the session dumps them.

            Args:
                predictions: what is judged.
                before: those of a baseline on some of the same items, if there is one.
            """

        def measured(self, predictions: Predictions, verdicts: Sequence[Verdict]) -> None:
            """Keep what is judged for the history of the session, if there is one."""

        def add(self, verdict: Verdict) -> Result:
            """Keep a verdict, and return what a reader sees of it.

            The session knows whether an inconclusive one fails, and the command that records.
            """

        def raised(self, error: AssertionError, failing: Sequence[Result]) -> None:
            """Know the error that is about to tell a test of these verdicts."""

        def strictness(self, predictions: Predictions) -> Strictness:
            """Return how strict the project is on the probe of these predictions."""

        def points(self, predictions: Predictions) -> tuple[OperatingPoint, ...]:
            """Return the operating points of the project for the probe of these predictions."""

        def store(self, baselines: Baselines) -> Baselines:
            """Return a store of the session, which writes what the session was asked to."""

        def parents(self, predictions: Predictions) -> Iterable[tuple[str, Predictions]]:
            """Return (name, predictions) of the parent model on the same probe, if there is one."""

    SinkOrFactory: TypeAlias = Sink | Callable[[], Sink] | None


class CurrentSink:
    """The sink of the running test, or what creates it when an assertion first asks for it.

    One for the whole process: a test may assert in threads of its own, or in an event loop that
    another test started, and pytest runs one test at a time.
    """

    def __init__(self) -> None:
        self._value: SinkOrFactory = None
        # Two threads of one test may be the first to ask.
        self._lock = RLock()

    def get(self) -> Sink | None:
        """Return the sink, created if need be; None outside a pytest session."""
        with self._lock:
            if callable(self._value):
                self._value = self._value()
        return self.made

    @property
    def made(self) -> Sink | None:
        """The sink, if it has been created."""
        return None if callable(self._value) else self._value

    def set(self, value: SinkOrFactory) -> SinkOrFactory:
        """Put a sink, or what creates one, in place; return what was there before."""
        before, self._value = self._value, value
        return before


SINK: Final = CurrentSink()
