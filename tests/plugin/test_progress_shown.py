"""Progress on the terminal: seen while a test works, and nothing of it left afterwards.

What a terminal shows is read from a terminal emulator: what is left on its screen after a run is
compared with the same run without progress. No test waits for time to pass.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pyte
import pytest
from _pytest._io import TerminalWriter
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.plugin import progress_line
from pytest_calibration.plugin.progress_line import (
    FIRST,
    GAP,
    LONGEST_GAP,
    PREFIX,
    LiveLine,
    LogLine,
    may_rewrite,
)
from pytest_calibration.progress import PROGRESS, Work

if TYPE_CHECKING:
    from user_project import Project

ROWS, COLUMNS = 12, 80
NEVER: Final = 1e9

CONFTEST: Final = """
import pytest
from fakes import FakeModel
from pytest_calibration.progress import PROGRESS

class Slow(FakeModel):
    def next_token(self, texts, *, choose=None):
        for done in range(6):
            PROGRESS.report(done, 6, "steps")
        return super().next_token(texts, choose=choose)

@pytest.fixture(scope="session")
def calibration_model():
    return Slow("slow")
"""
# In a process of its own, each report is shown on a terminal at once, and none in a log.
PATCH: Final = f"""
from pytest_calibration.plugin import progress_line
progress_line.LIVE, progress_line.FIRST = 0, {NEVER}
"""
ONE: Final = "tests/test_project.py::test_works[a]"

TESTS: Final = """
import os, sys
import pytest
from pytest_calibration import assert_ece_below

def test_quick():
    pass

# The second name takes more than a row, the third exactly one where names are shown.
@pytest.mark.parametrize("n", [101, 102, 103], ids=["a", "b" * 100, "c" * 44])
def test_works(calibration, n):
    print("printed before")
    assert_ece_below(calibration.run("facts", limit=n), 0.9)

def test_captures(calibration, capfd):
    os.write(1, b"one ")
    calibration.run("facts", limit=104)
    os.write(1, b"two")
    assert capfd.readouterr() == ("one two", "")

def test_fails(calibration, monkeypatch):
    monkeypatch.setattr(type(calibration.model), "generate", None)
    print("printed by the one that fails")
    calibration.run("facts", limit=105)
    sys.stderr.write("and after")
    calibration.model.generate()
"""


@pytest.fixture
def reporting(project: Project) -> Project:
    """A project whose model reports six steps for a probe."""
    project.pytester.makeconftest(CONFTEST)
    project.write("tests/test_project.py", TESTS)
    return project


# --- on a terminal -------------------------------------------------------------------------------


@dataclass
class Session:
    """What a user saw who watched a terminal.

    Attributes:
        ret: exit status.
        lines: what is left: all lines, those scrolled away too; without times and places.
        shown: the progress lines that were on the screen at any time.
    """

    ret: int
    lines: list[str]
    shown: list[str]


def lines_of(screen: pyte.HistoryScreen) -> list[str]:
    """Return all lines of a terminal, those scrolled away too, without empty ones at the end."""
    top = ["".join(row[x].data for x in range(screen.columns)) for row in screen.history.top]
    lines = [line.rstrip() for line in [*top, *screen.display]]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def neutral(line: str) -> str:
    """Leave out what differs between two equal runs: times and addresses."""
    return re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"=+ (.*) in [\d.]+s.*", r"= \1", line))


def watched(project: Project, *args: str, term: str = "xterm") -> Session:
    """Run pytest on a terminal in a process of its own."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    import fcntl
    import struct
    import termios

    conftest = project.path / "conftest.py"
    conftest.write_text(PATCH + conftest.read_text(encoding="utf-8"), encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    off = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *off, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=project.path,
        env={**env, "TERM": term},
        start_new_session=True,
    )
    os.close(theirs)
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=5000, ratio=0.1)
    stream = pyte.ByteStream(screen)
    shown: dict[str, None] = {}
    while data := _read(ours):
        # A line is complete when the cursor goes back to its beginning.
        for piece in re.split(rb"(?=\r)", data):
            lines = [line.rstrip() for line in screen.display if line.startswith(PREFIX)]
            if piece.startswith(b"\r"):
                shown |= dict.fromkeys(line for line in lines if "model:" not in line)
            stream.feed(piece)
    os.close(ours)
    return Session(process.wait(), [neutral(line) for line in lines_of(screen)], list(shown))


def _read(terminal: int) -> bytes:
    """Return what a process wrote; nothing when it is over."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


@pytest.mark.parametrize(
    "args", [[], ["-v"], ["-x", "--capture=sys"]], ids=["plain", "verbose", "first-failure"]
)
def test_nothing_is_left_of_the_line(reporting: Project, args: list[str]) -> None:
    """Model, probe, steps, rate and time left are shown; in the end the screen is as without."""
    with_line = watched(reporting, *args)
    # A terminal that cannot move its cursor is treated as a log.
    without = watched(reporting, *args, term="dumb")
    assert without.shown == []
    assert with_line.ret == without.ret == 1
    assert with_line.shown[:2] == [
        "calibration: slow, facts",
        "calibration: slow, facts: 0 of 6 steps",
    ]
    line = re.compile(r"calibration: slow, facts: 5 of 6 steps, [\d,.]+/s, 0:0\d left")
    assert any(line.fullmatch(text) for text in with_line.shown), with_line.shown
    assert with_line.lines == without.lines


@pytest.mark.parametrize("args", [["-q"], ["-s"], ["--log-cli-level=INFO"], ["-n2"]])
def test_no_line_is_rewritten_where_it_is_not_wanted(reporting: Project, args: list[str]) -> None:
    """None under -q; none where a test may write on the same terminal; none under -n."""
    assert watched(reporting, *args, "-k", "works").shown == []


@pytest.mark.parametrize("step", [0, 3])
def test_an_interrupt_leaves_nothing(reporting: Project, step: int) -> None:
    """Ctrl-C while the line is shown: it is removed, and pytest prints what it always does."""
    loop = "        for done in range(6):\n"
    stop = f"            if done == {step}: raise KeyboardInterrupt\n"
    reporting.write("conftest.py", CONFTEST.replace(loop, loop + stop))
    session = watched(reporting, ONE)
    assert session.ret == 2
    assert session.shown
    assert not [line for line in session.lines if line.startswith("calibration: slow")]
    assert any("KeyboardInterrupt" in line for line in session.lines)


def test_a_model_that_reports_nothing_is_named(reporting: Project) -> None:
    """Any object with the methods will do: model and probe are shown, without counts."""
    reporting.write("conftest.py", CONFTEST.replace("PROGRESS.report", "(lambda *_: None)"))
    assert watched(reporting, ONE).shown == ["calibration: slow, facts"]


# --- in a log ------------------------------------------------------------------------------------


def log(project: Project, *args: str) -> list[str]:
    """Run pytest without a terminal and return its lines from the first test on."""
    lines = project.run(*args).outlines
    start = next((i for i, line in enumerate(lines) if "model: none named" in line), 0)
    return lines[start + 1 : next(i for i, line in enumerate(lines) if " calibration " in line)]


@pytest.fixture
def one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets its first line at once, and no other."""
    monkeypatch.setattr(progress_line, "FIRST", 0.0)
    monkeypatch.setattr(progress_line, "GAP", NEVER)


@pytest.fixture
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets a line at every report."""
    for name in ("FIRST", "GAP", "LONGEST_GAP"):
        monkeypatch.setattr(progress_line, name, 0.0)


@pytest.mark.usefixtures("one_line")
def test_a_log_gets_separate_lines(reporting: Project) -> None:
    """The result stands beside its file as ever, and no line is empty."""
    lines = log(reporting, "tests/test_project.py::test_quick", ONE)
    assert [line.rstrip() for line in lines] == [
        "",
        "tests/test_project.py .",
        "calibration: slow, facts",
        f"{'tests/test_project.py .':<72} [100%]",
        "",
    ]


@pytest.mark.usefixtures("one_line")
def test_a_verbose_log_repeats_the_name_of_the_test(reporting: Project) -> None:
    """Under -v the result stands beside the test's name."""
    lines = log(reporting, "-v", ONE)
    assert lines[1:3] == [f"{ONE} ", "calibration: slow, facts"]
    assert re.fullmatch(r"tests/test_project.py::test_works\[a\] PASSED +\[100%\]", lines[3])


@pytest.mark.usefixtures("every_line")
@pytest.mark.parametrize("args", [["-s"], ["--capture=tee-sys"], ["-p", "no:capture"]])
def test_a_line_is_not_mixed_with_what_a_test_prints(reporting: Project, args: list[str]) -> None:
    """Where output is not captured, ours is still a line of its own."""
    reporting.isolated = "no:capture" in args
    lines = log(reporting, *args, ONE)
    if not reporting.isolated:
        assert sum(line.startswith("calibration: slow, facts: ") for line in lines) == 6
    assert sum("printed before" in line for line in lines) == 1


@pytest.mark.usefixtures("every_line")
def test_workers_are_counted(reporting: Project) -> None:
    """Under -n 2 the lines say how many calibration tests are done; other tests do not count."""
    lines = log(reporting, "-n2", "-k", "works or quick")
    ours = [line for line in lines if line.startswith(PREFIX)]
    # One for each phase of each test.
    assert len(ours) == 9
    counts = [int(re.fullmatch(r"calibration: (\d) of 3 tests done", line)[1]) for line in ours]
    assert counts == sorted(counts)
    assert {*counts} == {0, 1, 2, 3}
    # A test counts from its result on, not from its teardown.
    assert counts[-2:] == [3, 3]


@pytest.mark.usefixtures("every_line")
@pytest.mark.parametrize("args", [["-q"], ["-q", "-n2"]])
def test_a_quiet_log_is_left_alone(reporting: Project, args: list[str]) -> None:
    """Nothing under -q."""
    lines = log(reporting, *args, "-k", "works")
    assert not [line for line in lines if line.startswith(PREFIX)]


@pytest.mark.usefixtures("every_line")
def test_a_run_without_a_terminal_plugin_is_left_alone(reporting: Project) -> None:
    """``-p no:terminal`` leaves nobody to show anything to."""
    result = reporting.run("-p", "no:terminal", "tests")
    assert result.outlines == []
    assert result.ret == 1


@pytest.mark.usefixtures("every_line")
@pytest.mark.parametrize("args", [[], ["-n2"]])
def test_a_screen_that_fails_fails_no_test(
    reporting: Project, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """Whatever goes wrong in showing, the tests go on as if nothing was."""
    monkeypatch.setattr(progress_line.Line, "fitted", lambda *_: 1 / 0)
    assert reporting.run(*args, "-k", "works").ret == 0


def test_a_session_in_a_session_gives_back_the_listener(reporting: Project) -> None:
    """The outer listener is not shown the inner session's work, and is back after it."""
    terminal = Terminal()
    outer = LiveLine(terminal.reporter)
    before = PROGRESS.set(outer)
    try:
        reporting.run("-q", ONE).assert_outcomes(passed=1)
        assert PROGRESS.set(before) is outer
    finally:
        PROGRESS.set(before)
    assert lines_of(terminal.screen) == []


# --- the line that is rewritten ------------------------------------------------------------------


class Terminal:
    """A terminal, and a reporter that writes on it.

    Attributes:
        screen: what is on it.
        reporter: what pytest's reporter has.
    """

    def __init__(self, encoding: str = "utf-8", columns: int = 24) -> None:
        self.screen = pyte.HistoryScreen(columns, 4, history=1000, ratio=0.1)
        # As a terminal's driver does: a new line starts at the margin.
        self.screen.set_mode(pyte.modes.LNM)
        stream = pyte.Stream(self.screen)
        self.writer = TerminalWriter(io.StringIO())
        self.writer._file = SimpleNamespace(
            write=stream.feed, flush=lambda: None, encoding=encoding
        )  # type: ignore[assignment]
        self.writer.fullwidth = columns
        self.writer.hasmarkup = False
        self.reporter = SimpleNamespace(_tw=self.writer, currentfspath=None)

    @property
    def state(self) -> tuple[list[str], int, int]:
        """All lines, and where the cursor is counted from the first of them."""
        cursor = self.screen.cursor
        return lines_of(self.screen), len(self.screen.history.top) + cursor.y, cursor.x


WRITTEN = st.one_of(
    st.text("ab.F s", max_size=60),
    st.sampled_from(
        ["\n", "...\n", "x" * 23, "x" * 24, "x" * 48, "漢字", "x" + 13 * "漢", "e\u0301", "\rback "]
    ),
)


@given(st.lists(st.one_of(WRITTEN, st.none(), st.integers(0, 40).map(lambda n: Work("y" * n)))))
def test_a_line_that_was_erased_was_never_there(steps: list[Any]) -> None:
    """Whatever pytest writes and wherever its line ends: the same screen, the same cursor."""
    seen, other = Terminal(), Terminal()
    live = LiveLine(seen.reporter)
    for step in steps:
        if isinstance(step, Work):
            live.show(step)
            continue
        live.clear()
        for terminal in (seen, other):
            terminal.writer.write(step or "")
    live.clear()
    assert seen.state == other.state


@pytest.mark.parametrize("before", ["", "tests/test_a.py ..", "x" * 30])
def test_one_line_is_shown_however_long_it_is(before: str) -> None:
    """It stands below pytest's own line, is cut to the terminal, and the next takes its place."""
    terminal = Terminal()
    terminal.writer.write(before)
    live = LiveLine(terminal.reporter)
    above = lines_of(terminal.screen)
    for text, line in (
        ("a", "calibration: a"),
        ("b" * 20, "calibration: bbbbbbb..."),
        ("", "calibration:"),
    ):
        live.show(Work(text))
        assert lines_of(terminal.screen) == [*above, line]


def test_an_equal_line_is_not_written_again() -> None:
    """A terminal far away is not sent what it shows."""
    terminal = Terminal()
    live = LiveLine(terminal.reporter)
    live.show(Work("same"))
    terminal.screen.reset()
    live.show(Work("same"))
    assert lines_of(terminal.screen) == []
    live.clear()
    live.show(Work("same"))
    assert lines_of(terminal.screen) == ["calibration: same"]


def test_names_do_nothing_to_the_terminal() -> None:
    """Control characters are shown as text; what it cannot show, as an escape sequence."""
    terminal = Terminal(encoding="ascii", columns=40)
    LiveLine(terminal.reporter).show(Work("a\x1b[2J\r\u202e\né"))
    assert lines_of(terminal.screen) == [r"calibration: a\x1b[2J\r\u202e\n\xe9"]


def test_a_debugger_has_the_terminal_to_itself() -> None:
    """After a breakpoint nothing is drawn or erased until the work is done."""
    terminal = Terminal()
    live = LiveLine(terminal.reporter)
    terminal.writer.write("name ")
    live.show(Work("first"))
    live.pytest_enter_pdb()
    terminal.writer.write("\n(Pdb) ")
    live.show(Work("second"))
    live.clear()
    assert lines_of(terminal.screen) == ["name", "calibration: first", "(Pdb)"]
    live.show(Work("third"))
    assert lines_of(terminal.screen)[-1] == "calibration: third"


def test_another_reporter_is_not_rewritten() -> None:
    """One that is not pytest's own may have lines of its own that move."""
    config: Any = SimpleNamespace(getoption=lambda name, _=None: {"capture": "fd"}.get(name))
    config.pluginmanager = SimpleNamespace(hasplugin=lambda _: False)
    reporter = object.__new__(pytest.TerminalReporter)
    reporter.isatty = True
    assert may_rewrite(config, reporter)
    assert not may_rewrite(config, SimpleNamespace(isatty=True))


# --- the line in a log ---------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "other: 3 passed", "漢字 "])
def test_a_line_of_a_log_starts_at_the_margin(before: str) -> None:
    """Whatever stands on the line, under whichever reporter: ours is a line of its own."""
    terminal = Terminal()
    times = iter((0.0, FIRST))
    line = LogLine(terminal.reporter, clock=lambda: next(times))
    line.pytest_runtest_logstart("a.py::test", ("a.py", 1, "test"))
    line.show(Work("text"))
    terminal.writer.write(before)
    line.show(Work("text"))
    terminal.writer.write("next")
    lines = [line.replace(" ", "") for line in lines_of(terminal.screen)]
    assert lines[-2:] == ["calibration:text", "next"]
    assert len(lines) == (3 if before else 2)


def seconds_of_lines(works: list[int]) -> list[int]:
    """Return when a log gets lines about works that take so many seconds, one after the other."""
    now = 0
    terminal, times = Terminal(), []
    line = LogLine(terminal.reporter, clock=lambda: float(now))
    line._write = lambda _: times.append(now)  # type: ignore[method-assign]
    for seconds in works:
        for _ in range(seconds):
            assert line.show(Work("text")) > 0
            now += 1
        line.clear()
    return times


def test_lines_of_a_log_grow_rare() -> None:
    """The first after FIRST seconds of one work, then at doubled gaps up to the longest."""
    times = seconds_of_lines([3600])
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == FIRST
    assert gaps[:4] == [GAP, 2 * GAP, 4 * GAP, LONGEST_GAP]
    assert {*gaps[4:]} == {LONGEST_GAP}


def test_many_works_get_no_more_lines_than_one() -> None:
    """Gaps are those of the session: a hundred probes of eleven seconds do not fill a log."""
    assert len(seconds_of_lines([11] * 100)) <= len(seconds_of_lines([1100]))


def test_short_work_gets_no_line() -> None:
    """Work that ends within FIRST seconds is not mentioned."""
    assert seconds_of_lines([int(FIRST)] * 100) == []
