"""How far a long computation is: which model answers which probe, and how much of it is done.

Code that computes reports to :data:`PROGRESS`, and a listener, such as a line on the terminal,
shows it. A listener that raises is dropped, so progress never changes the result of a test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident
from typing import Final, NamedTuple, Protocol


class Work(NamedTuple):
    """The state of the current computation; ``str()`` gives one line of text.

    Attributes:
        model: name of the model; empty where no model is involved.
        probe: name of the probe; empty where a model is loaded outside of a probe.
        loading: whether the weights are being read.
        done: number of units done.
        total: number of units in all; 0 where nothing is counted.
        unit: what is counted, in the plural.
        share: share of the work that is done, in [0, 1].
        seconds: since the count began.
    """

    model: str
    probe: str = ""
    loading: bool = False
    done: int = 0
    total: int = 0
    unit: str = ""
    share: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.loading:
            return f"loading {self.model}"
        name = ", ".join(filter(None, (self.model, self.probe)))
        if self.total < 1:
            return name
        text = f"{name}: {self.done:,} of {self.total:,} {self.unit}"
        if self.done < 1 or self.seconds <= 0:
            return text
        text = f"{text}, {rate_text(self.done / self.seconds)}"
        if self.share <= 0:
            return text
        return f"{text}, {duration_text(self.seconds * (1 - self.share) / self.share)} left"


def rate_text(rate: float) -> str:
    """Return a rate, given per second, per the shortest unit of time in which it is about 1."""
    seconds, unit = next((u for u in ((1, "s"), (60, "min")) if rate * u[0] >= 0.95), (3600, "h"))
    number = rate * seconds
    return f"{number:,.0f}/{unit}" if number >= 9.95 else f"{number:.1f}/{unit}"


def duration_text(seconds: float) -> str:
    """Return a duration as ``0:05`` or ``1:02:03``, rounded up to whole seconds."""
    minutes, rest = divmod(math.ceil(seconds - 1e-9), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Listener(Protocol):
    """Shows the current work to a user."""

    def show(self, work: Work) -> float:
        """Show the work; return the seconds until it may be shown again."""

    def clear(self) -> None:
        """Remove what was shown: the work is over."""


class Progress:
    """The current work of the process and the listener that shows it.

    Reports count only from the thread that set the listener: the terminal, and pytest's capture of
    the output, belong to the thread that runs the tests.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener: Listener | None = None
        self._thread = 0
        self._work: Work | None = None
        self._count_began = 0.0
        self._next = 0.0

    def set(self, listener: Listener | None) -> Listener | None:
        """Replace the listener and return the one before."""
        before, self._listener = self._listener, listener
        self._thread = get_ident()
        self._work = None
        return before

    def of(self, model: object, probe: object) -> AbstractContextManager[None]:
        """Show, while the block runs, that a model answers a probe: two names, or what has one."""
        return self._during(Work(_name(model, "model"), _name(probe, "probe")))

    def loading(self, model: object) -> AbstractContextManager[None]:
        """Show, while the block runs, that the weights of a model are being read."""
        probe = "" if self._work is None else self._work.probe
        return self._during(Work(_name(model, "model"), probe, loading=True))

    def report(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        """Report how far the work is. Cheap enough to be called at every step.

        Args:
            done: number of units done; 0 begins a new count.
            total: number of units in all.
            unit: what is counted, in the plural.
            share: share of the work done, in [0, 1], where units differ in size; by default
                ``done / total``.
        """
        if self._work is None or get_ident() != self._thread:
            return
        now = self._clock()
        if done == 0:
            self._count_began = now
        if now < self._next:
            return
        try:
            share = min(max(done / total if share is None else share, 0.0), 1.0)
        except Exception:
            # A model of the user's own may report counts that are no numbers.
            return
        model, probe, seconds = self._work.model, self._work.probe, now - self._count_began
        self._show(Work(model, probe, False, done, total, unit, share, seconds))

    @contextmanager
    def _during(self, work: Work) -> Iterator[None]:
        if self._listener is None or get_ident() != self._thread:
            yield
            return
        outer = self._work
        try:
            # Within the block: Ctrl-C may come while the first line is written.
            self._show(work)
            yield
        finally:
            self._show(outer)

    def _show(self, work: Work | None) -> None:
        """Show the work, or nothing, whenever the last was shown."""
        self._work = work
        if self._listener is None:
            return
        try:
            if work is None:
                self._listener.clear()
            else:
                self._next = self._clock() + self._listener.show(work)
        except Exception:
            # It would fail again at the next call.
            self._listener = self._work = None


def _name(thing: object, otherwise: str) -> str:
    return thing if isinstance(thing, str) else str(getattr(thing, "name", otherwise))


PROGRESS: Final = Progress()
