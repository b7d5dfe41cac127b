"""How far long work has come: who hears it, how often, and in which words."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.progress import (
    PROGRESS,
    Slot,
    Work,
    count_text,
    duration,
    rate_text,
    time_left,
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


class Heard:
    """Writes down what it hears, and wants to hear again after ``every`` seconds."""

    def __init__(self, every: float = 1.0) -> None:
        self.every = every
        self.works: list[Work | None] = []
        self.texts: list[str] = []

    def show(self, work: Work) -> float:
        """Keep the work, and its text as a screen would show it."""
        self.works.append(work)
        self.texts.append(str(work))
        return self.every

    def clear(self) -> None:
        """Keep that it is over; its text is empty."""
        self.works.append(None)
        self.texts.append("")


class Broken(Heard):
    """Fails whenever it is called."""

    def show(self, work: Work) -> float:
        """Fail."""
        super().show(work)
        raise OSError("no screen")

    def clear(self) -> None:
        """Fail."""
        super().clear()
        raise OSError("no screen")


class Named:
    """Something with a name."""

    def __init__(self, name: str) -> None:
        self.name = name


BASE = Named("base")
FACTS = Named("facts")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def slot(clock: Clock) -> Iterator[Slot]:
    """A slot of its own, so that the running session's is left alone."""
    return Slot(clock)


@pytest.fixture
def heard(slot: Slot) -> Heard:
    """Somebody who listens."""
    heard = Heard()
    slot.set(heard)
    return heard


# --- who hears it --------------------------------------------------------------------------------


def test_what_is_done_is_heard_from_beginning_to_end(
    slot: Slot, heard: Heard, clock: Clock
) -> None:
    """Model and probe at once, then counts with the rate since 0, then that it is over."""
    with slot.of(BASE, FACTS):
        clock.now += 2
        slot.report(0, 2000, "rows")
        clock.now += 4
        slot.report(1000, 2000, "rows")
    assert heard.texts == [
        "base, facts",
        "base, facts: 0 of 2,000 rows",
        "base, facts: 1,000 of 2,000 rows, 250/s, 0:04 left",
        "",
    ]
    assert [work.seconds for work in heard.works if work] == [0, 2, 6]


def test_a_report_is_heard_only_when_its_time_has_come(
    slot: Slot, heard: Heard, clock: Clock
) -> None:
    """Between two times that the listener names, nothing reaches it, however many reports."""
    with slot.of(BASE, FACTS):
        for done in range(1000):
            clock.now += 0.01
            slot.report(done, 1000, "rows")
    # 10 seconds, one report a second; the first and the last are model and probe, and the end.
    assert len(heard.works) == pytest.approx(10 + 2, abs=1)
    done = [work.done for work in heard.works[1:-1] if work]
    assert {b - a for a, b in itertools.pairwise(done)} <= {99, 100, 101}


def test_a_new_count_begins_at_zero(slot: Slot, heard: Heard, clock: Clock) -> None:
    """The rate of a second pass knows nothing of the first, even where its 0 was not shown."""
    with slot.of(BASE, FACTS):
        clock.now += 1
        slot.report(0, 10, "rows")
        clock.now += 100
        slot.report(1, 10, "rows")
        clock.now += 0.5
        slot.report(0, 10, "tokens")
        clock.now += 2
        slot.report(4, 10, "tokens")
    assert heard.texts[-2] == "base, facts: 4 of 10 tokens, 2.0/s, 0:03 left"


def test_loading_is_said_and_then_the_probe_again(slot: Slot, heard: Heard, clock: Clock) -> None:
    """A model that is read while a probe asks it: loading, and then the probe goes on."""
    with slot.of(BASE, FACTS):
        clock.now += 1
        with slot.loading(BASE):
            clock.now += 60
    assert heard.texts == ["base, facts", "loading base", "base, facts", ""]
    assert [work.seconds for work in heard.works if work] == [0, 1, 61]


def test_loading_outside_of_a_probe_is_said(slot: Slot, heard: Heard, clock: Clock) -> None:
    """A test that asks a model itself sees it load, counted where it is, and then nothing."""
    with slot.loading(BASE):
        clock.now += 1
        slot.report(0, 10, "files")
    clock.now += 1
    slot.report(1, 10, "rows")
    assert heard.texts == ["loading base", "base: 0 of 10 files", ""]


def test_the_end_is_heard_whatever_ends_it(slot: Slot, heard: Heard) -> None:
    """An error, or an interrupt, passes through and leaves nothing."""
    for problem in (ValueError, KeyboardInterrupt):
        with pytest.raises(problem), slot.of(BASE, FACTS), slot.loading(BASE):
            raise problem
        assert heard.works[-1] is None
    heard.works.clear()
    slot.report(1, 2, "rows")
    assert heard.works == []


def test_an_interrupt_at_the_first_line_clears_it(slot: Slot) -> None:
    """Ctrl-C may come while the listener writes; what it wrote is taken away."""

    class Interrupted(Heard):
        def show(self, work: Work) -> float:
            super().show(work)
            raise KeyboardInterrupt

    heard = Interrupted()
    slot.set(heard)
    for block in (slot.of(BASE, FACTS), slot.loading(BASE)):
        with pytest.raises(KeyboardInterrupt), block:
            pass
    assert heard.texts == ["base, facts", "", "loading base", ""]


@pytest.mark.parametrize("at", ["of", "report", "clear"])
def test_a_listener_that_fails_is_let_go(slot: Slot, clock: Clock, at: str) -> None:
    """A broken screen breaks no test and is asked once."""
    broken = Broken() if at == "of" else Heard()
    slot.set(broken)
    for _ in range(3):
        with slot.of(BASE, FACTS):
            if at != "of":
                broken.__class__ = Broken
            for done in range(10):
                clock.now += 10
                if at == "report":
                    slot.report(done, 10, "rows")
    # One call failed; those of `of` that went well come first.
    assert len(broken.works) == (1 if at == "of" else 2)


@pytest.mark.parametrize("counts", [(1, 0), (1, -1), ("1", "2"), (None, 2), (1, math.nan)])
def test_numbers_that_are_none_break_nothing(slot: Slot, clock: Clock, counts: tuple) -> None:
    """A model of the user's that counts badly is judged all the same."""
    heard = Heard()
    slot.set(heard)
    with slot.of(BASE, FACTS):
        clock.now += 10
        slot.report(*counts, "rows")
        clock.now += 10
        slot.report(*counts, "rows")
    assert heard.texts[0] == "base, facts"


def test_without_a_listener_nothing_is_kept(slot: Slot) -> None:
    """Work that nobody watches leaves the slot as it was."""
    before = dict(vars(slot))
    with slot.of(BASE, FACTS), slot.loading(BASE):
        slot.report(1, 2, "rows")
    assert vars(slot) == before


def test_the_listener_before_comes_back(slot: Slot, heard: Heard) -> None:
    """A session within a session puts its own in place and gives back the outer's."""
    inner = Heard()
    assert slot.set(inner) is heard
    with slot.of(BASE, FACTS):
        pass
    assert slot.set(heard) is inner
    assert heard.works == []
    assert inner.texts == ["base, facts", ""]


def test_work_is_told_to_whoever_listened_when_it_began(
    slot: Slot, heard: Heard, clock: Clock
) -> None:
    """Who comes later knows nothing of it, and so has nothing to show."""
    later = Heard()
    with slot.of(BASE, FACTS):
        slot.set(later)
        clock.now += 10
        slot.report(1, 2, "rows")
    assert heard.texts == ["base, facts"]
    assert later.texts == [""]


def test_other_threads_are_not_heard(slot: Slot, heard: Heard, clock: Clock) -> None:
    """What a test does in threads of its own touches neither the screen nor the count."""

    def work() -> None:
        with slot.of(Named("other"), FACTS), slot.loading(Named("other")):
            slot.report(1, 2, "rows")

    with slot.of(BASE, FACTS):
        clock.now += 10
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert heard.texts == ["base, facts"]
    assert heard.texts == ["base, facts", ""]


def test_what_has_no_name_is_shown_without() -> None:
    """A model that lacks a name fails where its name is needed, not here."""
    slot, heard = Slot(), Heard()
    slot.set(heard)
    with slot.of(object(), object()):
        pass
    assert heard.texts == ["model, probe", ""]


def test_the_process_has_one_slot() -> None:
    """Whoever works and whoever watches meet in the same place."""
    assert isinstance(PROGRESS, Slot)


# --- in words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "full", "brief"),
    [
        (Work("m", "p"), "m, p", "m, p"),
        (Work("m", "p", loading=True), "loading m", "loading m"),
        (Work("m"), "m", "m"),
        (Work("m", "p", total=1234, unit="rows"), "m, p: 0 of 1,234 rows", "m, p 0 %"),
        (
            Work("m", "p", done=50, total=200, unit="rows", share=0.25, counting=10),
            "m, p: 50 of 200 rows, 5.0/s, 0:30 left",
            "m, p 25 %, 0:30 left",
        ),
        # Long rows first: a quarter of the rows may be half of the work.
        (
            Work("m", "p", done=50, total=200, unit="rows", share=0.5, counting=10),
            "m, p: 50 of 200 rows, 5.0/s, 0:10 left",
            "m, p 50 %, 0:10 left",
        ),
        (
            Work("m", "p", done=1999, total=2000, unit="rows", share=0.9995, counting=1),
            "m, p: 1,999 of 2,000 rows, 1,999/s, 0:01 left",
            "m, p 99 %, 0:01 left",
        ),
    ],
)
def test_work_in_words(work: Work, full: str, brief: str) -> None:
    """What is known is said; what is not is left out; nothing is done before it is."""
    assert str(work) == full
    assert work.brief == brief


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (1234.4, "1,234/s"),
        (12.3, "12/s"),
        (9.96, "10/s"),
        (9.94, "9.9/s"),
        (1.0, "1.0/s"),
        (0.5, "30/min"),
        (1 / 60, "1.0/min"),
        (1 / 3600, "1.0/h"),
    ],
)
def test_a_rate_has_a_number_that_can_be_read(rate: float, text: str) -> None:
    """Per second, minute or hour: the first in which there is about one or more."""
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.2, "0:01"), (59.0, "0:59"), (59.1, "1:00"), (3600, "1:00:00")],
)
def test_a_duration_is_rounded_up(seconds: float, text: str) -> None:
    """Minutes and seconds; hours where there are some."""
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_reads_back(seconds: float) -> None:
    """Read as a clock, it is the seconds rounded up."""
    total = 0
    for part in duration(seconds).split(":"):
        total = 60 * total + int(part)
    assert seconds - 1e-6 <= total <= seconds + 1


@given(seconds=st.floats(0.001, 1e5), done=st.integers(1, 10**6), more=st.integers(0, 10**6))
def test_the_time_left_is_what_the_rest_takes_at_this_rate(
    seconds: float, done: int, more: int
) -> None:
    """Time so far plus time left is the time of all, at the rate so far."""
    parts = time_left(seconds, done / (done + more)).removesuffix(" left").split(":")
    left = sum(int(part) * 60**i for i, part in enumerate(reversed(parts)))
    assert left == pytest.approx(seconds * more / done, rel=1e-6, abs=1.001)


@pytest.mark.parametrize(("seconds", "share"), [(0, 0.5), (1, 0), (-1, 0.5)])
def test_no_time_is_left_to_say_before_anything_is_done(seconds: float, share: float) -> None:
    """Nothing done, or no time gone by: no guess."""
    assert time_left(seconds, share) == ""


def test_a_count_needs_no_unit() -> None:
    """A caller that says what is counted before the numbers leaves the unit out."""
    assert count_text(30, 400, "", 3.0) == "30 of 400, 10/s, 0:37 left"
    assert count_text(0, 400, "", 3.0) == "0 of 400"
