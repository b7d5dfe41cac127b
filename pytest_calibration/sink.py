"""Where assertions tell a test session what they saw. Light: a plugin imports it at start-up."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol, TypeAlias

    from pytest_calibration.baselines.check import Settings
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Result

    class Sink(Protocol):
        """What a test session offers to the assertions of the running test."""

        @property
        def width(self) -> int:
            """Columns that the text of a failure has."""

        @property
        def verbose(self) -> bool:
            """Whether the text of a failure has all numbers."""

        def scored(self, predictions: Predictions) -> None:
            """Take note of what is being judged."""

        def seen(self, verdict: Verdict) -> Result:
            """Count a verdict, and return what a reader sees of it.

            A project may refuse inconclusive ones; and the session knows the command that records.
            """

        def settings(self, predictions: Predictions) -> Settings:
            """Return what the project's configuration says."""

        def parents(self, predictions: Predictions) -> Iterable[tuple[str, Predictions]]:
            """Return (name, predictions) of the parent model on the same probe, if given."""

    Held: TypeAlias = "Sink | Later | None"


class Later:
    """A sink that is made when the first assertion asks for it.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Sink]) -> None:
        self.make = make


class Slot:
    """Holds the sink of the running test.

    One for the whole process: a test may assert in threads of its own, or in an event loop that
    was started by another test, and pytest runs one test at a time.
    """

    def __init__(self) -> None:
        self._held: Held = None
        # Two threads of one test may be the first to ask.
        self._lock = RLock()

    def get(self) -> Sink | None:
        """Return the sink of the running test, made now at the latest; None outside a session."""
        if isinstance(self._held, Later):
            with self._lock:
                if isinstance(self._held, Later):
                    self._held = self._held.make()
        return self.made

    @property
    def made(self) -> Sink | None:
        """The sink of the running test; None where no assertion has asked for it."""
        held = self._held
        return None if isinstance(held, Later) else held

    def set(self, sink: Held) -> Held:
        """Put a sink in place and return what was there before."""
        before, self._held = self._held, sink
        return before


SINK: Final = Slot()
