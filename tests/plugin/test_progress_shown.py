"""Progress on the terminal: seen while a test works, and nothing of it left afterwards.

What a terminal shows is asked of a terminal emulator: what is left on its screen after a run is
held against the same run without progress.
"""

from __future__ import annotations

import io
import itertools
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pyte
import pytest
from _pytest._io import TerminalWriter
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.plugin.progress_line import (
    FIRST,
    GAP,
    KEY,
    LIVE,
    LONGEST_GAP,
    PREFIX,
    Live,
    Plain,
    Shown,
    Style,
    Told,
    Watch,
    joined,
    may_rewrite,
    read_told,
)
from pytest_calibration.progress import PROGRESS, Work

if TYPE_CHECKING:
    from conftest import Project

ROWS, COLUMNS = 12, 80

CONFTEST: Final = """
import time
import pytest
from fakes import FakeModel
from pytest_calibration.plugin import progress_line as progress
from pytest_calibration.progress import PROGRESS

# A third of a second is long enough here.
progress.LIVE, progress.TOLD = 0.05, 0.05

class Slow(FakeModel):
    steps = 6

    def next_token(self, texts, *, choose=None):
        for done in range(self.steps):
            PROGRESS.report(done, self.steps, "steps")
            time.sleep(0.05)
        return super().next_token(texts, choose=choose)

@pytest.fixture(scope="session")
def calibration_model():
    return Slow("slow")
"""
ONE: Final = "tests/test_project.py::test_works[a]"
QUICK: Final = "progress.FIRST, progress.GAP, progress.LONGEST_GAP = 0.1, 10, 10\n"

TESTS: Final = """
import os, sys
import pytest
from pytest_calibration import assert_ece_below

def test_quick():
    pass

# The second name takes more than a row, the third exactly one where names are shown.
@pytest.mark.parametrize("n", [101, 102, 103], ids=["a", "b" * 100, "c" * {row}])
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


@dataclass
class Seen:
    """What somebody saw who watched a terminal.

    Attributes:
        ret: exit status.
        lines: what is left: all lines, those scrolled away too; without times and places.
        shown: the lines of ours that were on the screen at any time.
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
    """Leave out what differs between two equal runs: times, addresses, which worker."""
    line = re.sub(r"=+ (.*) in [\d.]+s.*", r"= \1", line)
    line = re.sub(r"0x[0-9a-f]+", "0x", line)
    return re.sub(r"\[ *\d+%\]", "[%]", re.sub(r"\bgw\d", "gw", line))


def watched(project: Project, *args: str, term: str = "xterm", interrupt: str = "") -> Seen:
    """Run pytest on a terminal, and interrupt it when a line of ours holds this text."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    process = subprocess.Popen(
        [*command, *args],
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
    shown: list[str] = []
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
        for line in screen.display:
            if line.startswith(PREFIX) and "model:" not in line and line.rstrip() not in shown:
                shown.append(line.rstrip())
                if interrupt and interrupt in line:
                    os.kill(process.pid, signal.SIGINT)
                    interrupt = ""
    os.close(ours)
    return Seen(process.wait(), [neutral(line) for line in lines_of(screen)], shown)


@pytest.fixture
def slow(project: Project) -> Project:
    """A project whose model takes a third of a second for a probe."""
    project.pytester.makeconftest(CONFTEST)
    project.write("tests/test_project.py", TESTS.replace("{row}", "44"))
    return project


# --- on a terminal -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="plain"),
        pytest.param(["-v"], id="verbose"),
        pytest.param(["-x", "--capture=sys"], id="first-failure"),
        pytest.param(["-n2"], id="workers"),
        pytest.param(["-n2", "-v"], id="workers-verbose"),
    ],
)
def test_nothing_is_left_of_it(slow: Project, args: list[str]) -> None:
    """The line is seen while work is done; when all is over, the screen is as if it never was."""
    with_it = watched(slow, *args)
    # A terminal that cannot move its cursor gets plain lines, and none in so short a time.
    without = watched(slow, *args, term="dumb")
    assert without.shown == []
    assert with_it.ret == without.ret == 1
    counted = [line for line in with_it.shown if "steps" in line or " %" in line]
    assert len(counted) >= 3, with_it.shown
    if "-n2" in args:
        # Two workers finish in any order.
        for seen in (with_it, without):
            seen.lines[:] = sorted(re.sub(r"^[.F]{6}", "", line) for line in seen.lines)
    assert with_it.lines == without.lines


def test_the_line_says_what_is_done(slow: Project) -> None:
    """Model, probe, steps done of how many, rate and time left, on one row."""
    seen = watched(slow, ONE)
    assert seen.shown[0] == "calibration: slow, facts"
    line = re.compile(r"calibration: slow, facts: \d+ of 6 steps, \d+/s, 0:01 left")
    assert any(line.fullmatch(text) for text in seen.shown)


@pytest.mark.parametrize("args", [["-q"], ["-s"], ["--log-cli-level=INFO"]])
def test_no_line_is_rewritten_where_it_is_not_wanted(slow: Project, args: list[str]) -> None:
    """None under -q; none where a test may write on the same terminal at any time."""
    assert watched(slow, *args, "-k", "works").shown == []


@pytest.mark.parametrize(
    ("args", "when"),
    [
        pytest.param([], "slow, facts", id="at-first"),
        pytest.param([], " of 60", id="later"),
        pytest.param(["-n2"], " of 60", id="workers"),
    ],
)
def test_an_interrupt_leaves_nothing(slow: Project, args: list[str], when: str) -> None:
    """Ctrl-C while the line is shown: it goes away, and pytest says what it always says."""
    slow.write("conftest.py", CONFTEST.replace("steps = 6", "steps = 60"))
    seen = watched(slow, *args, ONE, interrupt=when)
    assert seen.ret == 2
    assert seen.shown
    assert not [line for line in seen.lines if line.startswith("calibration: slow")]
    assert any("KeyboardInterrupt" in line for line in seen.lines)


def test_a_model_that_reports_nothing_is_named(slow: Project) -> None:
    """Any object with the methods will do: model and probe are shown, without counts."""
    slow.write("conftest.py", CONFTEST.replace("PROGRESS.report", "(lambda *_: None)"))
    assert watched(slow, ONE).shown == ["calibration: slow, facts"]


def test_a_screen_that_fails_fails_no_test(slow: Project) -> None:
    """Whatever goes wrong in showing, the tests go on as if nothing was."""
    broken = "\ndef fail(*_): raise RuntimeError\nprogress.fitted = fail\n"
    slow.write("conftest.py", CONFTEST + broken)
    for args in ([], ["-n2"]):
        seen = watched(slow, *args, "-k", "works")
        assert seen.ret == 0
        assert seen.shown == []


# --- in a log ------------------------------------------------------------------------------------


def log(project: Project, *args: str) -> list[str]:
    """Run pytest without a terminal and return its lines from the first test on."""
    project.isolated = True
    lines = project.run("-p", "no:hypothesispytest", *args).outlines
    start = next((i for i, line in enumerate(lines) if "model: none named" in line), 0)
    return lines[start + 1 : next(i for i, line in enumerate(lines) if " calibration " in line)]


def test_a_log_gets_a_line_now_and_then(slow: Project) -> None:
    """A line of its own; the result stands beside its file as ever, and no line is empty."""
    slow.write("conftest.py", CONFTEST + QUICK)
    lines = log(slow, "tests/test_project.py::test_quick", ONE)
    assert [re.sub(r"\d of|\d+/s", "N", line).rstrip() for line in lines] == [
        "",
        "tests/test_project.py .",
        "calibration: slow, facts: N 6 steps, N, 0:01 left",
        f"{'tests/test_project.py .':<72} [100%]",
        "",
    ]


def test_a_verbose_log_repeats_the_name_of_the_test(slow: Project) -> None:
    """Under -v the result stands beside the test's name."""
    slow.write("conftest.py", CONFTEST + QUICK)
    lines = log(slow, "-v", ONE)
    assert lines[1] == f"{ONE} "
    assert lines[2].startswith("calibration: slow, facts: ")
    assert re.fullmatch(r"tests/test_project.py::test_works\[a\] PASSED +\[100%\]", lines[3])


@pytest.mark.parametrize("args", [["-s"], ["--capture=tee-sys"], ["-p", "no:capture"]])
def test_a_line_is_not_mixed_with_what_a_test_prints(slow: Project, args: list[str]) -> None:
    """Where output is not captured, ours is still a line of its own."""
    slow.write("conftest.py", CONFTEST + QUICK)
    lines = log(slow, *args, ONE)
    assert [line for line in lines if line.startswith("calibration: slow, facts: ")]
    assert sum("printed before" in line for line in lines) == 1


def test_workers_share_a_line(slow: Project) -> None:
    """Under -n 2 one line tells of every worker at work, and starts at the margin."""
    slow.write("conftest.py", CONFTEST + QUICK)
    lines = log(slow, "-n2", "-k", "works")
    ours = [line for line in lines if "slow, facts" in line and "::" not in line]
    text = r"slow, facts(: \d+ of 6 steps(, \d+/s, 0:01 left)?)?"
    assert len(ours) == 1, lines
    assert re.fullmatch(rf"calibration: ({text}|\[gw\d\] {text}; \[gw\d\] {text})", ours[0])


@pytest.mark.parametrize("args", [["-q"], ["-q", "-n2"], []])
def test_a_log_is_left_alone(slow: Project, args: list[str]) -> None:
    """Nothing under -q, and nothing where the work is soon done."""
    slow.write("conftest.py", CONFTEST + (QUICK if args else ""))
    assert not [line for line in log(slow, *args, "-k", "works") if "slow, facts" in line]


def test_a_run_without_a_terminal_plugin_is_left_alone(slow: Project) -> None:
    """``-p no:terminal`` leaves nobody to show anything to."""
    slow.isolated = True
    slow.write("conftest.py", CONFTEST + QUICK)
    result = slow.run("-p", "no:terminal", "-p", "no:hypothesispytest", "tests")
    assert result.outlines == []
    assert result.ret == 1


def test_no_folder_is_left_behind(slow: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers tell lies in a folder for the user alone, which is gone when the run is over."""
    place = slow.path / "temporary"
    place.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(place))
    slow.isolated = True
    mode = """
import pathlib, stat, tempfile
def test_mode(calibration, monkeypatch):
    def look(self, *args, **kwargs):
        told.extend(pathlib.Path(tempfile.gettempdir()).glob("pytest-calibration-*"))
        modes.extend(stat.S_IMODE(one.stat().st_mode) for one in told)
        return answer(self, *args, **kwargs)
    told, modes, answer = [], [], type(calibration.model).next_token
    monkeypatch.setattr(type(calibration.model), "next_token", look)
    calibration.run("facts", limit=50)
    assert modes == [0o700]
"""
    slow.write("tests/test_mode.py", mode if os.name == "posix" else "")
    result = slow.run("-n1", "-p", "no:hypothesispytest", "-k", "mode or works")
    assert "failed" not in result.parseoutcomes(), result.outlines
    assert not list(place.glob("pytest-calibration-*"))


def test_a_worker_that_dies_leaves_no_folder(
    slow: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in the middle of work is reported as ever, and what the worker told is removed."""
    place = slow.path / "temporary"
    place.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(place))
    slow.isolated = True
    slow.write("conftest.py", CONFTEST.replace("return super()", "import os; os._exit(3)"))
    result = slow.run("-n1", "--max-worker-restart=0", "-p", "no:hypothesispytest", ONE)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*"])
    assert not list(place.glob("pytest-calibration-*"))


def test_a_session_in_a_session_gives_back_the_listener(slow: Project) -> None:
    """Whoever listened before is not told of the inner session, and hears again after it."""
    # In this process: its constants are not the inner session's to change.
    slow.write("conftest.py", CONFTEST.replace("progress.LIVE, progress.TOLD = 0.05, 0.05", ""))
    style = Kept()
    outer = Shown(style)
    before = PROGRESS.set(outer)
    try:
        slow.run("-q", ONE).assert_outcomes(passed=1)
        assert PROGRESS.set(before) is outer
    finally:
        PROGRESS.set(before)
    assert style.texts == []


# --- the line that is rewritten ------------------------------------------------------------------


class Terminal:
    """A terminal, and a reporter that writes on it.

    Attributes:
        screen: what is on it.
        reporter: what pytest's reporter has.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self.screen = pyte.HistoryScreen(24, 4, history=1000, ratio=0.1)
        # As a terminal's driver does: a new line starts at the margin.
        self.screen.set_mode(pyte.modes.LNM)
        stream = pyte.Stream(self.screen)
        file = io.StringIO()
        file.write = stream.feed  # type: ignore[method-assign]
        self.writer = TerminalWriter(file)
        self.writer._file = SimpleNamespace(
            write=stream.feed, flush=lambda: None, encoding=encoding
        )  # type: ignore[assignment]
        self.writer.fullwidth = 24
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


@given(st.lists(st.one_of(WRITTEN, st.integers(0, 40).map(lambda n: "y" * n).map(list))))
def test_a_line_that_was_erased_was_never_there(steps: list[Any]) -> None:
    """Whatever pytest writes and wherever its line ends: the same screen, the same cursor."""
    seen, other = Terminal(), Terminal()
    live = Live(seen.reporter)
    for step in steps:
        if isinstance(step, list):
            live.put("".join(step), 0.0)
        else:
            live.clear()
            seen.writer.write(step)
            other.writer.write(step)
    live.clear()
    assert seen.state == other.state


@pytest.mark.parametrize("before", ["", "tests/test_a.py ..", "x" * 30])
def test_one_line_is_shown_however_long_it_is(before: str) -> None:
    """It stands below pytest's own line, is cut to the terminal, and the next takes its place."""
    terminal = Terminal()
    terminal.writer.write(before)
    live = Live(terminal.reporter)
    above = lines_of(terminal.screen)
    for text in ("first", "second " * 20, "third"):
        assert live.put(text, 0.0) == LIVE
        cut = text if len(text) <= 23 else f"{text[:20]}..."
        assert lines_of(terminal.screen) == [*above, cut]


def test_an_equal_line_is_not_written_again() -> None:
    """A terminal far away is not sent what it shows."""
    terminal = Terminal()
    live = Live(terminal.reporter)
    live.put("same", 0.0)
    terminal.screen.reset()
    live.put("same", 0.0)
    assert lines_of(terminal.screen) == []
    live.clear()
    live.put("same", 0.0)
    assert lines_of(terminal.screen) == ["same"]


def test_names_do_nothing_to_the_terminal() -> None:
    """What a terminal would obey is shown as text; what it cannot show, as an escape sequence."""
    terminal = Terminal(encoding="ascii")
    Live(terminal.reporter).put("a\x1b[2J\r\u202e\né", 0.0)
    assert lines_of(terminal.screen) == [r"a\x1b[2J\r\u202e\n\xe9"]


def test_a_debugger_has_the_terminal_to_itself() -> None:
    """After a breakpoint nothing is drawn or erased until the work is done."""
    terminal = Terminal()
    live = Live(terminal.reporter)
    terminal.writer.write("name ")
    live.put("first", 0.0)
    live.pytest_enter_pdb()
    terminal.writer.write("\n(Pdb) ")
    live.put("second", 0.0)
    assert lines_of(terminal.screen) == ["name", "first", "(Pdb)"]
    live.clear()
    assert lines_of(terminal.screen) == ["name", "first", "(Pdb)"]
    live.put("third", 0.0)
    assert lines_of(terminal.screen)[-1] == "third"


def test_another_reporter_is_not_rewritten() -> None:
    """One that is not pytest's own may have lines of its own that move."""
    config: Any = SimpleNamespace(getoption=lambda name, _=None: {"capture": "fd"}.get(name))
    config.getini = lambda _: False
    other: Any = SimpleNamespace(isatty=True)
    assert not may_rewrite(config, other)


# --- the line in a log ---------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.mark.parametrize("before", ["", "other: 3 passed", "漢字 "])
def test_a_line_of_a_log_starts_at_the_margin(before: str) -> None:
    """Whatever stands on the line, under whichever reporter: ours is a line of its own."""
    terminal = Terminal()
    plain = Plain(terminal.reporter)
    plain.pytest_runtest_logstart("a.py::test", ("a.py", 1, "test"))
    terminal.writer.write(before)
    plain.put("text", FIRST)
    terminal.writer.write("next")
    lines = [line.replace(" ", "") for line in lines_of(terminal.screen)]
    assert lines[-2:] == ["text", "next"]
    assert len(lines) == (3 if before else 2)


def test_lines_of_a_log_grow_rare() -> None:
    """The first after FIRST seconds of one work, then at doubled gaps up to the longest."""
    terminal, clock = Terminal(), Clock()
    terminal.writer.fullwidth = 1000
    times = []
    plain = Plain(terminal.reporter, clock=clock)
    plain._write = lambda _: times.append(clock.now - 1000)  # type: ignore[method-assign]
    for _ in range(3600):
        plain.put("text", clock.now - 1000)
        clock.now += 1
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == FIRST
    assert gaps[:4] == [GAP, 2 * GAP, 4 * GAP, LONGEST_GAP]
    assert set(gaps[4:]) == {LONGEST_GAP}


def test_many_works_get_no_more_lines_than_one() -> None:
    """Gaps are those of the session: a hundred probes of eleven seconds do not fill a log."""
    terminal, clock = Terminal(), Clock()
    written = []
    plain = Plain(terminal.reporter, clock=clock)
    plain._write = written.append  # type: ignore[method-assign]
    for _ in range(100):
        for second in range(11):
            wait = plain.put("text", float(second))
            assert wait > 0
            clock.now += 1
        plain.clear()
    assert 1100 / LONGEST_GAP - 2 <= len(written) <= 1100 / LONGEST_GAP + 3


# --- workers -------------------------------------------------------------------------------------


class Kept(Style):
    """Keeps what is written."""

    def __init__(self, room: int = 200) -> None:
        super().__init__(None)
        self.texts: list[str] = []
        self._room = room

    def room(self) -> int:
        """Columns that a text has."""
        return self._room

    def put(self, text: str, _seconds: float, /) -> float:
        """Keep the text."""
        self.texts.append(text)
        return LIVE

    def clear(self) -> None:
        """Keep that it is over."""
        if self.texts[-1:] != [""]:
            self.texts.append("")


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A watch over a folder of workers."""
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda _: None))
    watch = Watch(config, Kept())
    watch.folder = tmp_path / "told"
    return watch


def kept(watch: Watch) -> list[str]:
    """Return what the watch wrote."""
    style = watch._style
    assert isinstance(style, Kept)
    return style.texts


WORK = Work("base", "facts", done=50, total=200, unit="rows", share=0.25, counting=10)


def test_what_a_worker_tells_is_read(tmp_path: Path) -> None:
    """Model, probe and counts come over in one piece, and go when the work is done."""
    told = Told(tmp_path / "told", "gw0")
    assert read_told(tmp_path / "told") == []
    told.show(WORK)
    told.show(Work("a\nb", "c"))
    Told(tmp_path / "told", "gw10").show(WORK)
    Told(tmp_path / "told", "gw2").show(WORK)
    (tmp_path / "told" / "gw3.new").write_text("half a li", encoding="utf-8")
    assert read_told(tmp_path / "told") == [
        ("gw0", "a b, c", "a b, c"),
        ("gw2", str(WORK), WORK.brief),
        ("gw10", str(WORK), WORK.brief),
    ]
    told.clear()
    told.clear()
    assert [name for name, *_ in read_told(tmp_path / "told")] == ["gw2", "gw10"]


def test_a_worker_cleans_up(tmp_path: Path) -> None:
    """The last worker of another machine leaves no folder there."""
    first, last = Told(tmp_path / "told", "gw0"), Told(tmp_path / "told", "gw1")
    first.show(WORK)
    last.show(WORK)
    first.close()
    assert [name for name, *_ in read_told(tmp_path / "told")] == ["gw1"]
    last.close()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_write_goes_on(tmp_path: Path) -> None:
    """A folder that cannot be made is no reason to fail a test."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    told = Told(tmp_path / "file" / "told", "gw0")
    assert told.show(WORK) > 0
    told.clear()
    told.close()


def test_a_reader_never_finds_half_a_file(tmp_path: Path) -> None:
    """While a worker writes all the time, every reading is whole."""
    told, seen = Told(tmp_path / "told", "gw0"), set()
    works = [Work("m" * size, "p") for size in (1, 5000)]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for work in works:
                told.show(work)

    told.show(works[0])
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(500):
            seen |= {text for _, text, _ in read_told(tmp_path / "told")}
    finally:
        stop.set()
        thread.join()
    assert seen <= {str(work) for work in works}


@pytest.mark.parametrize(
    ("workers", "room", "line"),
    [
        (1, 100, "base, facts: 50 of 200 rows, 5.0/s, 0:30 left"),
        (1, 40, "base, facts 25 %, 0:30 left"),
        (
            2,
            110,
            "[gw0] base, facts: 50 of 200 rows, 5.0/s, 0:30 left; "
            "[gw1] base, facts: 50 of 200 rows, 5.0/s, 0:30 left",
        ),
        (2, 80, "base, facts 25 %, 0:30 left; base, facts 25 %, 0:30 left"),
        (4, 80, "base, facts 25 %, 0:30 left; base, facts 25 %, 0:30 left; 2 more"),
        (4, 40, "base, facts 25 %, 0:30 left; 3 more"),
        # Whoever writes it cuts it.
        (4, 5, "base, facts 25 %, 0:30 left; 3 more"),
    ],
)
def test_one_line_tells_of_all_workers(workers: int, room: int, line: str) -> None:
    """In full where it fits; else in brief; else as many as fit and how many more there are."""
    told = [(f"gw{i}", str(WORK), WORK.brief) for i in range(workers)]
    assert joined(told, room) == line


def test_the_line_is_gone_before_an_event_is_handled(watch: Watch) -> None:
    """Whatever pytest writes about an event, it finds the terminal as it left it."""
    events: queue.Queue[str] = queue.Queue()
    watch.watch(events)
    told = Told(watch.folder, "gw0")
    told.show(WORK)
    timer = threading.Timer(3 * LIVE, events.put, ["event"])
    timer.start()
    assert events.get(timeout=10) == "event"
    timer.join()
    texts = kept(watch)
    assert texts[0] == f"calibration: {WORK}"
    assert 2 <= len(texts) <= 6
    assert texts[-1] == ""


def test_the_line_is_gone_when_no_worker_is_at_work(watch: Watch) -> None:
    """While workers do something else, nothing is shown; the next work begins at 0 seconds."""
    told = Told(watch.folder, "gw0")
    for _ in range(2):
        told.show(WORK)
        watch._look()
        told.clear()
        watch._look()
        watch._look()
    assert kept(watch) == [f"calibration: {WORK}", ""] * 2
    assert watch._began is None


def test_nothing_that_workers_told_is_left(watch: Watch) -> None:
    """At the end of the session the folder goes, with whatever a worker left in it."""
    Told(watch.folder, "gw0").show(WORK)
    watch.close()
    assert not watch.folder.exists()
    watch.close()


def test_waiting_is_what_it_was(watch: Watch) -> None:
    """A watched queue hands on every event in order, and is empty when and where it was."""
    events: queue.Queue[int] = queue.Queue()
    watch.watch(events)
    for number in range(5):
        events.put(number)
    assert [events.get(timeout=2.0) for _ in range(3)] == [0, 1, 2]
    assert [events.get(block=False), events.get_nowait()] == [3, 4]
    for wait in ({"timeout": 0.01}, {"block": False}):
        with pytest.raises(queue.Empty):
            events.get(**wait)
    assert kept(watch) in ([], [""])


def test_an_empty_queue_is_waited_for_as_long_as_asked(watch: Watch) -> None:
    """Looks at the workers do not end a wait early, nor draw it out."""
    clock = Clock()
    watch._clock = clock
    waits = []

    def get(block: bool = True, timeout: float | None = None) -> Any:
        waits.append(timeout)
        clock.now += timeout or 0
        raise queue.Empty

    watch._get = get
    with pytest.raises(queue.Empty):
        watch.get(timeout=2.1)
    assert clock.now == pytest.approx(1002.1)
    assert max(waits) <= LIVE


def test_an_interrupt_while_waiting_passes_through(watch: Watch) -> None:
    """Ctrl-C reaches pytest, after the line is erased."""
    Told(watch.folder, "gw0").show(WORK)
    watch._look()

    def get(block: bool = True, timeout: float | None = None) -> Any:
        raise KeyboardInterrupt

    watch._get = get
    with pytest.raises(KeyboardInterrupt):
        watch.get(timeout=2.0)
    assert kept(watch) == [f"calibration: {WORK}", ""]


def test_a_look_that_fails_is_the_last(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue goes on as if it had never been watched."""
    events: queue.Queue[str] = queue.Queue()
    own = events.get
    watch.watch(events)
    Told(watch.folder, "gw0").show(WORK)
    monkeypatch.setattr(Kept, "put", lambda *_: 1 / 0)
    timer = threading.Timer(2 * LIVE, events.put, ["event"])
    timer.start()
    assert events.get(timeout=10) == "event"
    timer.join()
    assert events.get == own


def test_only_calibration_tests_are_watched(watch: Watch) -> None:
    """In a run of other tests the controller's queue is left alone."""
    events: queue.Queue[str] = queue.Queue()
    own = events.get
    session = SimpleNamespace(queue=events)
    watch._config = SimpleNamespace(  # type: ignore[assignment]
        pluginmanager=SimpleNamespace(getplugin=lambda _: session)
    )
    watch.pytest_runtest_logreport(SimpleNamespace(keywords={"other": 1}))  # type: ignore[arg-type]
    assert events.get == own
    ours: Any = SimpleNamespace(keywords={"calibration": 1})
    watch.pytest_runtest_logreport(ours)
    assert events.get == watch.get
    watch.pytest_runtest_logreport(ours)
    events.put("event")
    assert events.get(timeout=1) == "event"
    watch.close()
    assert events.get == own


def test_a_session_without_a_queue_is_left_alone(watch: Watch) -> None:
    """Another version of pytest-xdist may wait in another way: then nothing is shown."""
    watch.pytest_runtest_logreport(SimpleNamespace(keywords={"calibration": 1}))  # type: ignore[arg-type]
    watch.close()


def test_a_worker_that_died_is_at_work_no_more(watch: Watch) -> None:
    """Its last word is taken away with it; a node of another kind is no trouble."""
    Told(watch.folder, "gw0").show(WORK)
    Told(watch.folder, "gw1").show(WORK)
    watch.pytest_testnodedown(SimpleNamespace(gateway=SimpleNamespace(id="gw0")))
    watch.pytest_testnodedown(SimpleNamespace())
    assert [name for name, *_ in read_told(watch.folder)] == ["gw1"]


def test_workers_learn_where_to_tell(watch: Watch) -> None:
    """The folder goes to every worker; two sessions never share one."""
    node = SimpleNamespace(workerinput={})
    watch.pytest_configure_node(node)
    assert node.workerinput == {KEY: str(watch.folder)}
    one, two = Watch(watch._config, Kept()), Watch(watch._config, Kept())
    assert one.folder != two.folder
    assert not one.folder.exists()
