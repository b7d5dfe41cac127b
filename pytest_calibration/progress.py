"""How far long work has come: which model, which probe, how much of it is done.

Whoever works says so to :data:`PROGRESS`; whoever has a screen listens. Nobody listening costs a
comparison, and a listener that fails is let go: progress never decides what a test does. Light: a
plugin imports it at start-up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Final, NamedTuple, Protocol


class Work(NamedTuple):
    """What is being done.

    Attributes:
        model: name of the model; empty where none is asked.
        probe: name of the probe; empty where a model is loaded outside of any.
        loading: whether the weights are being read.
        done: how many are done; 0 where nothing is counted.
        total: how many there are to do; 0 where nothing is counted.
        unit: what is counted, in the plural.
        share: share of the work that is done, in [0, 1].
        counting: seconds since the count was 0.
        seconds: seconds since the work began.
    """

    model: str
    probe: str = ""
    loading: bool = False
    done: int = 0
    total: int = 0
    unit: str = ""
    share: float = 0.0
    counting: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.total < 1 or self.loading:
            return self.brief
        counts = count_text(self.done, self.total, self.unit, self.counting, self.share)
        return f"{self._name}: {counts}"

    @property
    def brief(self) -> str:
        """The same in fewer columns, with the share instead of the counts."""
        if self.loading:
            return f"loading {self.model}"
        if self.total < 1:
            return self._name
        left = time_left(self.counting, self.share)
        # Rounded down: 100 % is said by the line that goes away.
        return f"{self._name} {math.floor(100 * self.share)} %{left and f', {left}'}"

    @property
    def _name(self) -> str:
        return ", ".join(filter(None, (self.model, self.probe)))


class Listener(Protocol):
    """Shows work to somebody."""

    def show(self, work: Work) -> float:
        """Show how far it is, and return after how many seconds to show it again."""

    def clear(self) -> None:
        """Nothing is being done any more."""


class Slot:
    """Holds who listens, and what is being done.

    Only the thread that sets a listener is heard: a screen, and the capture of a test's output,
    belong to the thread that runs the tests. What a test does in threads of its own is not shown.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener: Listener | None = None
        self._thread = 0
        self._work: Work | None = None
        self._began = 0.0
        self._next = 0.0
        self._zero = 0.0

    def set(self, listener: Listener | None) -> Listener | None:
        """Put a listener in place and return the one before."""
        before, self._listener = self._listener, listener
        self._thread = get_ident()
        self._work = None
        return before

    @contextmanager
    def of(self, model: object, probe: object) -> Iterator[None]:
        """Say that a model is asked a probe, as long as the block runs.

        Args:
            model: what has a name, or its name.
            probe: what has a name, or its name.
        """
        before = self._work
        try:
            # Inside: an interrupt may come while the first line is written.
            self._enter(_name(model, "model"), _name(probe, "probe"))
            yield
        finally:
            self._leave(before)

    @contextmanager
    def loading(self, model: object) -> Iterator[None]:
        """Say that the weights of a model are being read, as long as the block runs."""
        before = self._work
        try:
            probe = "" if before is None else before.probe
            self._enter(_name(model, "model"), probe, loading=True)
            yield
        finally:
            self._leave(before)

    def report(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        """Say how far the work is. May be called often: most calls end at a look at the clock.

        Args:
            done: how many are done; 0 begins a new count.
            total: how many there are.
            unit: what is counted, in the plural.
            share: share of the work done, in [0, 1], where the items are not alike; by default
                ``done / total``.
        """
        if self._work is None or get_ident() != self._thread:
            return
        now = self._clock()
        if done == 0:
            self._zero = now
        if now < self._next:
            return
        try:
            share = min(max(done / total if share is None else share, 0.0), 1.0)
            self._work = self._work._replace(
                loading=False,
                done=done,
                total=total,
                unit=unit,
                share=share,
                counting=now - self._zero,
                seconds=now - self._began,
            )
        except Exception:
            # Numbers that are none; a test must not fail where they happen to be looked at.
            return
        self._tell(now)

    def _enter(self, model: str, probe: str, *, loading: bool = False) -> None:
        if self._listener is None or get_ident() != self._thread:
            return
        now = self._clock()
        if self._work is None:
            self._began = now
        self._work = Work(model, probe, loading, seconds=now - self._began)
        self._tell(now)

    def _leave(self, before: Work | None) -> None:
        if self._listener is None or get_ident() != self._thread:
            return
        if before is not None:
            now = self._clock()
            self._work = before._replace(seconds=now - self._began)
            self._tell(now)
            return
        self._work = None
        try:
            self._listener.clear()
        except Exception:
            self._listener = None

    def _tell(self, now: float) -> None:
        if self._listener is None or self._work is None:
            return
        try:
            self._next = now + self._listener.show(self._work)
        except Exception:
            # Whatever the reason, it would be the same again at the next call.
            self._listener = self._work = None


def _name(thing: object, otherwise: str) -> str:
    return thing if isinstance(thing, str) else str(getattr(thing, "name", otherwise))


# --- in words ------------------------------------------------------------------------------------


def count_text(done: int, total: int, unit: str, seconds: float, share: float | None = None) -> str:
    """Write a count: ``1,200 of 2,000 rows, 350/s, 0:03 left``.

    Args:
        done: how many are done.
        total: how many there are.
        unit: what is counted, in the plural; may be empty.
        seconds: how long it took so far.
        share: share of the work done; ``done / total`` by default.
    """
    text = f"{done:,} of {total:,} {unit}".rstrip()
    if done < 1 or seconds <= 0:
        return text
    left = time_left(seconds, done / total if share is None else share)
    return f"{text}, {rate_text(done / seconds)}{left and f', {left}'}"


def rate_text(rate: float) -> str:
    """Write a rate, given per second, per the shortest unit of time in which it is 1 or more."""
    for per, name in ((1, "s"), (60, "min")):
        if rate * per >= 0.95:
            return f"{_short(rate * per)}/{name}"
    return f"{_short(rate * 3600)}/h"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.1f}"


def time_left(seconds: float, share: float) -> str:
    """Write how long the rest takes if it goes on like this; empty where that cannot be said."""
    if share <= 0 or seconds <= 0:
        return ""
    rest = seconds * max(0.0, 1 - share) / share
    return f"{duration(rest)} left"


def duration(seconds: float) -> str:
    """Write a duration as ``0:05`` or ``1:02:03``, rounded up to whole seconds."""
    minutes, rest = divmod(math.ceil(seconds - 1e-9), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


PROGRESS: Final = Slot()
