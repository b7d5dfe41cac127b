"""Progress on the terminal while a long test prints nothing.

A terminal gets one line below pytest's own, rewritten in place and removed when the work is done. A
log gets a plain line now and then, and none for short work. ``-q`` shows nothing.

Lines are written only while pytest itself writes nothing: in one process when the running test
reports progress, under pytest-xdist from hooks that the controller calls about calibration tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final

import pytest

from pytest_calibration.progress import PROGRESS, Listener, Work
from pytest_calibration.text import layout

PREFIX: Final = "calibration: "
# Set by a worker on the report of a test: the number of calibration tests that it collected.
COLLECTED: Final = "calibration_collected"
STARTED: Final = pytest.StashKey[bool]()
# All in seconds. Between two states of a line that is rewritten:
LIVE: Final = 0.25
# before the first line in a log, and between two: doubled each time, up to the longest.
FIRST: Final = 10.0
GAP: Final = 20.0
LONGEST_GAP: Final = 120.0
# A log has no width.
UNLIMITED: Final = 10_000


def start(config: pytest.Config) -> None:
    """Show progress until the end of the session; only the first call has an effect."""
    if config.stash.get(STARTED, False):
        return
    config.stash[STARTED] = True
    # Also where nothing is shown: a session within a session must not write to the outer's line.
    before = PROGRESS.set(_listener(config))

    def restore() -> None:
        PROGRESS.set(before)

    config.add_cleanup(restore)


def _listener(config: pytest.Config) -> Listener | None:
    """Return what shows the work of this process; None where nothing does."""
    manager = config.pluginmanager
    reporter = manager.getplugin("terminalreporter")
    # A worker of pytest-xdist has a reporter that nobody reads.
    if reporter is None or hasattr(config, "workerinput") or config.get_verbosity() < 0:
        return None
    if manager.hasplugin("dsession"):
        manager.register(WorkersLine(LogLine(reporter)), "calibration-progress")
        return None
    style = LiveLine if may_rewrite(config, reporter) else LogLine
    line = style(reporter, manager.getplugin("capturemanager"))
    manager.register(line, "calibration-progress")
    return line


def may_rewrite(config: pytest.Config, reporter: Any) -> bool:
    """Whether this is a terminal on which only pytest writes while a test runs."""
    return bool(
        reporter.isatty
        and os.environ.get("TERM") != "dumb"
        # Another kind of reporter may move the cursor.
        and type(reporter) is pytest.TerminalReporter
        and config.getoption("capture", "no") in ("fd", "sys")
        # Live logging.
        and config.getoption("log_cli_level", None) is None
        and not (config.pluginmanager.hasplugin("logging-plugin") and config.getini("log_cli"))
    )


class Line:
    """Writes on the terminal of a reporter.

    Args:
        reporter: pytest's terminal reporter.
        capture: pytest's capture manager, if it captures the running test.
    """

    def __init__(self, reporter: Any, capture: Any = None) -> None:
        self.reporter = reporter
        self.writer = reporter._tw
        self.uncaptured = nullcontext if capture is None else capture.global_and_fixture_disabled

    def fitted(self, text: str, width: int) -> str:
        """Return a text that the terminal can show, without control characters, cut to a width."""
        encoding = getattr(self.writer._file, "encoding", None) or "utf-8"
        shown = text.encode(encoding, errors="backslashreplace").decode(encoding)
        return layout.fitted(f"{PREFIX}{shown}", width)


class LiveLine(Line):
    """One line below the line that pytest is writing, rewritten in place."""

    # Column at which pytest goes on, one row up; None while nothing is shown.
    _column: int | None = None
    _shown = ""
    _paused = False

    def show(self, work: Work) -> float:
        """Write the work in place of what was shown before."""
        if not self._paused:
            with self.uncaptured():
                # The last column stays free: some terminals wrap when it is filled.
                self._write(self.fitted(str(work), self.writer.fullwidth - 1))
        return LIVE

    def _write(self, line: str) -> None:
        if self._column is not None:
            if line != self._shown:
                self.writer.write_raw(f"\r\x1b[K{line}", flush=True)
        else:
            column = _column(self.writer)
            if column is None:
                return
            # Set before writing, which Ctrl-C may interrupt.
            self._column = column
            # Raw: the writer must not count this as a part of pytest's own line.
            self.writer.write_raw(f"\n{line}" if column else f"\r{line}", flush=True)
        self._shown = line

    def clear(self) -> None:
        """Erase the line and put the cursor back where pytest left it."""
        self._paused = False
        if self._column is None:
            return
        back = f"\x1b[A\x1b[{self._column}C" if self._column else ""
        self._column = None
        with self.uncaptured():
            self.writer.write_raw(f"\r\x1b[K{back}", flush=True)

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger until the work is done."""
        self._column = None
        self._paused = True


def _column(writer: Any) -> int | None:
    """Return the column of the cursor; None where it cannot be known."""
    width, columns = writer.width_of_current_line, writer.fullwidth
    if width < columns:
        return None if width < 0 else int(width)
    # A wide character is not split over two rows; after a full row the cursor waits at its end.
    exact = str(writer._current_line).isascii() and width % columns
    return int(width % columns) if exact else None


class LogLine(Line):
    """Separate lines, fewer and fewer, for a log."""

    def __init__(
        self, reporter: Any, capture: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(reporter, capture)
        self._clock = clock
        # When the current work began.
        self._began: float | None = None
        self._next = 0.0
        self._gap = GAP
        self._test: tuple[str, tuple[str, int | None, str]] | None = None

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Remember the test that pytest has begun a line for."""
        self._test = nodeid, location

    def show(self, work: Work) -> float:
        """Write the work, if a line is due."""
        return self.write(str(work))

    def write(self, text: str) -> float:
        """Write a line, if one is due, and return the seconds until the next."""
        now = self._clock()
        if self._began is None:
            self._began = now
        wait = max(self._began + FIRST, self._next) - now
        if wait > 0:
            return wait
        with self.uncaptured():
            self._write(self.fitted(text, UNLIMITED))
        gap, self._gap = self._gap, min(2 * self._gap, LONGEST_GAP)
        self._next = now + gap
        return gap

    def clear(self) -> None:
        """End the work; what was written stays."""
        self._began = None

    def _write(self, line: str) -> None:
        if self.writer.width_of_current_line:
            self.writer.line()
        self.reporter.currentfspath = None
        self.writer.write(line)
        if self._test is not None and type(self.reporter) is pytest.TerminalReporter:
            # The result of the running test stands beside its file or name, as always.
            self.reporter.pytest_runtest_logstart(*self._test)
        if self.reporter.currentfspath is None:
            self.writer.line()
        self.writer.flush()


class WorkersLine:
    """Under pytest-xdist: how many calibration tests the workers have finished.

    Args:
        log: writes the lines.
    """

    def __init__(self, log: LogLine) -> None:
        self._log = log
        self._done: set[str] = set()

    # After the terminal reporter, so that the line stands below the result of the test.
    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a finished calibration test, and write a line if one is due."""
        if "calibration" in report.keywords:
            # From its result on, which stands above the line; some set-ups fail or skip.
            if report.when != "setup" or not report.passed:
                self._done.add(report.nodeid)
            total = getattr(report, COLLECTED, "?")
            # The run goes on, whatever is wrong with the terminal.
            with suppress(Exception):
                self._log.write(f"{len(self._done)} of {total} tests done")
