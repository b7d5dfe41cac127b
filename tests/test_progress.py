"""How far long work is: who is shown it, how often, and in which words."""

from __future__ import annotations

import itertools
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.progress import PROGRESS, Progress, Work, duration_text, rate_text


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Screen:
    """Keeps the text of each line that was shown; an empty one where the line was removed.

    Args:
        every: seconds until it wants to show the next.
        raises: what it raises at each call, after it has kept the line.
    """

    def __init__(self, every: float = 1.0, raises: BaseException | None = None) -> None:
        self.every = every
        self.raises = raises
        self.lines: list[str] = []
        self.works: list[Work] = []

    def show(self, work: Work) -> float:
        """Keep the line."""
        self.lines.append(str(work))
        self.works.append(work)
        return self._answer()

    def clear(self) -> None:
        """Keep that it was removed."""
        self.lines.append("")
        self._answer()

    def _answer(self) -> float:
        if self.raises is not None:
            raise self.raises
        return self.every


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
def progress(clock: Clock) -> Progress:
    """Progress of its own, so that the running session's is left alone."""
    return Progress(clock)


@pytest.fixture
def screen(progress: Progress) -> Screen:
    """A screen that shows the progress."""
    screen = Screen()
    progress.set(screen)
    return screen


# --- what is shown -------------------------------------------------------------------------------


def test_work_is_shown_from_beginning_to_end(
    progress: Progress, screen: Screen, clock: Clock
) -> None:
    """Model and probe at once, then counts with the rate since 0; in the end nothing."""
    with progress.of(BASE, "facts"):
        clock.now += 2
        progress.report(0, 2000, "rows")
        clock.now += 4
        progress.report(1000, 2000, "rows")
    assert screen.lines == [
        "base, facts",
        "base, facts: 0 of 2,000 rows",
        "base, facts: 1,000 of 2,000 rows, 250/s, 0:04 left",
        "",
    ]


def test_a_report_is_shown_when_its_time_has_come(
    progress: Progress, screen: Screen, clock: Clock
) -> None:
    """Between two times that the listener names, no report reaches it."""
    with progress.of(BASE, FACTS):
        for done in range(1000):
            clock.now += 0.01
            progress.report(done, 1000, "rows")
    shown = [work.done for work in screen.works[1:]]
    # One report a second for 10 seconds.
    assert len(shown) in (9, 10)
    assert {b - a for a, b in itertools.pairwise(shown)} <= {99, 100, 101}


def test_a_new_count_begins_at_zero(progress: Progress, screen: Screen, clock: Clock) -> None:
    """The rate of a second count is not that of the first, even where its 0 was not shown."""
    with progress.of(BASE, FACTS):
        clock.now += 1
        progress.report(0, 10, "rows")
        clock.now += 100
        progress.report(1, 10, "rows")
        clock.now += 0.5
        progress.report(0, 10, "tokens")
        clock.now += 2
        progress.report(4, 10, "tokens")
    assert screen.lines[-2] == "base, facts: 4 of 10 tokens, 2.0/s, 0:03 left"


def test_loading_is_shown_and_then_the_probe_again(progress: Progress, screen: Screen) -> None:
    """A model that is loaded when a probe first asks it: loading, then the probe again."""
    with progress.of(BASE, FACTS), progress.loading(BASE):
        pass
    assert screen.lines == ["base, facts", "loading base", "base, facts", ""]


def test_loading_outside_of_a_probe_is_shown(
    progress: Progress, screen: Screen, clock: Clock
) -> None:
    """A model that a test loads itself: loading, its counts, and nothing after it."""
    with progress.loading(BASE):
        clock.now += 1
        progress.report(0, 10, "files")
    clock.now += 1
    progress.report(1, 10, "rows")
    assert screen.lines == ["loading base", "base: 0 of 10 files", ""]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_the_line_is_removed_whatever_ends_the_work(
    progress: Progress, screen: Screen, problem: type[BaseException]
) -> None:
    """An error, or Ctrl-C, passes through."""
    with pytest.raises(problem), progress.of(BASE, FACTS), progress.loading(BASE):
        raise problem
    assert screen.lines[-1] == ""
    progress.report(1, 2, "rows")
    assert screen.lines[-1] == ""


def test_ctrl_c_while_the_first_line_is_written_removes_it(progress: Progress) -> None:
    """What was written before the interrupt is removed."""
    for block, line in ((progress.of, "base, facts"), (lambda m, _: progress.loading(m), None)):
        screen = Screen(raises=KeyboardInterrupt())
        progress.set(screen)
        with pytest.raises(KeyboardInterrupt), block(BASE, FACTS):
            pass
        assert screen.lines == [line or "loading base", ""]


def test_what_has_no_name_is_shown_all_the_same(progress: Progress, screen: Screen) -> None:
    """A model that lacks a name fails where its name is needed, not here."""
    with progress.of(object(), object()):
        pass
    assert screen.lines == ["model, probe", ""]


# --- what must not disturb a test ----------------------------------------------------------------


@pytest.mark.parametrize("at", ["of", "report", "clear"])
def test_a_listener_that_raises_is_dropped(
    progress: Progress, screen: Screen, clock: Clock, at: str
) -> None:
    """A broken screen fails no test, and is not called again."""
    for _ in range(3):
        screen.raises = OSError("no screen") if at == "of" else screen.raises
        with progress.of(BASE, FACTS):
            screen.raises = OSError("no screen")
            for done in range(10):
                clock.now += 10
                if at == "report":
                    progress.report(done, 10, "rows")
    assert len(screen.lines) == (1 if at == "of" else 2)


@pytest.mark.parametrize("counts", [(1, 0), (1, -1), ("1", "2"), (None, 2), (1, math.nan)])
def test_counts_that_are_no_numbers_raise_nothing(
    progress: Progress, screen: Screen, clock: Clock, counts: tuple
) -> None:
    """A model of the user's own that counts badly is judged all the same."""
    with progress.of(BASE, FACTS):
        clock.now += 10
        progress.report(*counts, "rows")
    assert screen.lines[0] == "base, facts"


def test_without_a_listener_nothing_is_kept(progress: Progress) -> None:
    """Work that nobody is shown leaves the state as it was."""
    before = dict(vars(progress))
    with progress.of(BASE, FACTS), progress.loading(BASE):
        progress.report(1, 2, "rows")
    assert vars(progress) == before


def test_the_listener_before_comes_back(progress: Progress, screen: Screen) -> None:
    """A session within a session has its own listener and gives back the outer's."""
    inner = Screen()
    assert progress.set(inner) is screen
    with progress.of(BASE, FACTS):
        pass
    assert progress.set(screen) is inner
    assert screen.lines == []
    assert inner.lines == ["base, facts", ""]


def test_other_threads_are_not_shown(progress: Progress, screen: Screen, clock: Clock) -> None:
    """What a test does in threads of its own changes neither the screen nor the count."""

    def work() -> None:
        with progress.of("other", FACTS), progress.loading("other"):
            progress.report(1, 2, "rows")

    with progress.of(BASE, FACTS):
        clock.now += 10
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert screen.lines == ["base, facts"]
    assert screen.lines == ["base, facts", ""]


def test_the_process_has_one_progress() -> None:
    """Code that computes and code that shows meet in one object."""
    assert isinstance(PROGRESS, Progress)


# --- in words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (Work("m", "p"), "m, p"),
        (Work("m", "p", loading=True), "loading m"),
        (Work("", "p", total=3, unit="trials"), "p: 0 of 3 trials"),
        (Work("m", "p", total=1234, unit="rows"), "m, p: 0 of 1,234 rows"),
        (Work("m", "p", done=1, total=9, unit="rows", seconds=0), "m, p: 1 of 9 rows"),
        (Work("m", "p", done=1, total=9, unit="rows", seconds=1), "m, p: 1 of 9 rows, 1.0/s"),
        (
            Work("m", "p", done=50, total=200, unit="rows", share=0.25, seconds=10),
            "m, p: 50 of 200 rows, 5.0/s, 0:30 left",
        ),
        # Long rows first: a quarter of the rows may be half of the work.
        (
            Work("m", "p", done=50, total=200, unit="rows", share=0.5, seconds=10),
            "m, p: 50 of 200 rows, 5.0/s, 0:10 left",
        ),
    ],
)
def test_work_in_words(work: Work, text: str) -> None:
    """What is known is shown, what is not is left out."""
    assert str(work) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (1234.4, "1,234/s"),
        (9.96, "10/s"),
        (9.94, "9.9/s"),
        (1.0, "1.0/s"),
        (0.5, "30/min"),
        (1 / 60, "1.0/min"),
        (1 / 3600, "1.0/h"),
    ],
)
def test_a_rate_is_given_per_the_unit_in_which_it_is_about_one(rate: float, text: str) -> None:
    """Per second, minute or hour."""
    assert rate_text(rate) == text


@given(st.floats(0, 1e6))
def test_a_duration_reads_back(seconds: float) -> None:
    """Read as a clock, it is the seconds rounded up; hours are shown only where there are some."""
    parts = [int(part) for part in duration_text(seconds).split(":")]
    total = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    assert seconds - 1e-6 <= total <= seconds + 1
    assert len(parts) == (3 if total >= 3600 else 2)


@given(seconds=st.floats(0.001, 1e5), done=st.integers(1, 10**6), more=st.integers(0, 10**6))
def test_the_time_left_is_what_the_rest_takes_at_this_rate(
    seconds: float, done: int, more: int
) -> None:
    """Time left = time so far * units left / units done."""
    work = Work("m", done=done, total=done + more, share=done / (done + more), seconds=seconds)
    parts = str(work).rpartition(", ")[2].removesuffix(" left").split(":")
    left = sum(int(part) * 60**i for i, part in enumerate(reversed(parts)))
    assert left == pytest.approx(seconds * more / done, rel=1e-6, abs=1.001)
