"""What is being done, on the terminal, while a test that takes long says nothing.

On a terminal it is one line below pytest's own, rewritten in place and gone when the work is done.
In a log it is a plain line now and then, none for work that is soon done. Nothing under ``-q``.

All is written by the thread that writes pytest's own output, at moments when pytest writes nothing,
so the two cannot mix:

- in one process, when the running test reports how far it is;
- under pytest-xdist, while the controller waits for its workers. A worker has no terminal: it keeps
  a small file up to date in a folder that the controller names and removes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_calibration.progress import PROGRESS, Listener, Work

KEY: Final = "calibration_progress"
PREFIX: Final = "calibration: "
# Seconds between two looks at the workers, and between two states of a line that is rewritten.
LIVE: Final = 0.25
# Seconds between two files of a worker.
TOLD: Final = 1.0
# Seconds before the first line in a log, and between two: doubled each time, up to a most.
FIRST: Final = 10.0
GAP: Final = 20.0
LONGEST_GAP: Final = 120.0
# A log has no width.
UNLIMITED: Final = 10_000


STARTED: Final = pytest.StashKey[bool]()


def start(config: pytest.Config) -> None:
    """Show progress until the end of the session, where there is somebody to see it.

    May be called again and again: only the first time counts.
    """
    if config.stash.get(STARTED, False):
        return
    config.stash[STARTED] = True
    # In place of a listener of the process's, too: a session in a session shows its own or none.
    before = PROGRESS.set(_listener(config))
    config.add_cleanup(lambda: _put_back(before))


def _put_back(before: Listener | None) -> None:
    PROGRESS.set(before)


def _listener(config: pytest.Config) -> Listener | None:
    given = getattr(config, "workerinput", None)
    if given is not None:
        return _worker(config, given)
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or config.get_verbosity() < 0:
        return None
    distributed = config.pluginmanager.hasplugin("dsession")
    # The controller waits for its workers outside of any test, where nothing is captured.
    capture = None if distributed else config.pluginmanager.getplugin("capturemanager")
    style = Live(reporter, capture) if may_rewrite(config, reporter) else Plain(reporter, capture)
    if distributed:
        watch = Watch(config, style)
        config.pluginmanager.register(watch, "calibration-progress")
        config.add_cleanup(watch.close)
        return None
    config.pluginmanager.register(style, "calibration-progress")
    return Shown(style)


def _worker(config: pytest.Config, given: dict[str, Any]) -> Listener | None:
    if KEY not in given:
        return None
    told = Told(Path(given[KEY]), given["workerid"])
    config.add_cleanup(told.close)
    return told


def may_rewrite(config: pytest.Config, reporter: Any) -> bool:
    """Whether this is a terminal on which nobody but pytest writes while a test runs."""
    if not reporter.isatty or os.environ.get("TERM") == "dumb":
        return False
    # A reporter of another kind may move the cursor as it likes.
    if type(reporter) is not pytest.TerminalReporter:
        return False
    if config.getoption("capture", "no") not in ("fd", "sys"):
        return False
    with suppress(ValueError):
        if config.getoption("log_cli_level", None) is not None or config.getini("log_cli"):
            return False
    return True


# --- two ways to write a line --------------------------------------------------------------------


class Style(ABC):
    """A way to write where the process stands.

    Args:
        reporter: pytest's own.
        capture: what keeps the output of a running test from the terminal, if anything.
    """

    def __init__(self, reporter: Any, capture: Any = None) -> None:
        self.reporter = reporter
        self.capture = capture

    def uncaptured(self) -> AbstractContextManager[None]:
        """Reach the terminal past the capture of the running test."""
        if self.capture is None:
            return nullcontext()
        reach: AbstractContextManager[None] = self.capture.global_and_fixture_disabled()
        return reach

    def room(self) -> int:
        """Columns that a text has."""
        return UNLIMITED

    @abstractmethod
    def put(self, text: str, seconds: float, /) -> float:
        """Write a text, if it is time.

        Args:
            text: one line.
            seconds: since the work began.

        Returns:
            seconds after which it is time again.
        """

    def clear(self) -> None:  # noqa: B027  a style that rewrites nothing leaves nothing
        """Leave nothing of what the work is no longer at."""


class Live(Style):
    """One line below the one that pytest is writing, rewritten in place."""

    def __init__(self, reporter: Any, capture: Any = None) -> None:
        super().__init__(reporter, capture)
        # Column at which pytest goes on, one row up; None while nothing is shown.
        self._column: int | None = None
        self._line = ""
        self._off = False

    def room(self) -> int:
        """Columns that a text has."""
        # The last column stays free: a terminal may go to the next row when it is filled.
        return int(self.reporter._tw.fullwidth) - 1

    def put(self, text: str, _seconds: float, /) -> float:
        """Write a text in place of the one before."""
        if self._off:
            return LIVE
        with self.uncaptured():
            writer = self.reporter._tw
            line = fitted(writer, text, self.room())
            if self._column is not None and line == self._line:
                return LIVE
            self._line = line
            if self._column is not None:
                writer.write_raw(f"\r\x1b[K{line}", flush=True)
                return LIVE
            column = _column(writer)
            if column is not None:
                # First: an interrupt comes while the terminal is written to, if ever.
                self._column = column
                # Raw: what pytest remembers of its own line stays true.
                writer.write_raw(f"\n{line}" if column else f"\r{line}", flush=True)
        return LIVE

    def clear(self) -> None:
        """Erase the line and put the cursor back where pytest left it."""
        self._off = False
        if self._column is None:
            return
        with self.uncaptured():
            back = f"\x1b[A\x1b[{self._column}C" if self._column else ""
            self._column = None
            self.reporter._tw.write_raw(f"\r\x1b[K{back}", flush=True)

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to a debugger until the work is done."""
        self._column = None
        self._off = True


def _column(writer: Any) -> int | None:
    """Return the column of the cursor; None where it cannot be known."""
    width, columns = writer.width_of_current_line, writer.fullwidth
    if width < columns:
        return None if width < 0 else int(width)
    # A wide character does not go in two rows, and a full row leaves the cursor in between.
    whole = str(writer._current_line).isascii() and width % columns
    return int(width % columns) if whole else None


class Plain(Style):
    """A line of its own now and then, for a log."""

    def __init__(
        self, reporter: Any, capture: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(reporter, capture)
        self._clock = clock
        self._quiet_until = 0.0
        self._gap = GAP
        self._test: tuple[str, tuple[str, int | None, str]] | None = None

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Remember what pytest has begun a line with."""
        self._test = nodeid, location

    def put(self, text: str, seconds: float, /) -> float:
        """Write a line where the work takes long and the last line was long ago."""
        now = self._clock()
        wait = max(FIRST - seconds, self._quiet_until - now)
        if wait > 0:
            return wait
        with self.uncaptured():
            self._write(fitted(self.reporter._tw, text, UNLIMITED))
        gap, self._gap = self._gap, min(2 * self._gap, LONGEST_GAP)
        self._quiet_until = now + gap
        return gap

    def _write(self, line: str) -> None:
        reporter, writer = self.reporter, self.reporter._tw
        if writer.width_of_current_line:
            writer.line()
        reporter.currentfspath = None
        writer.write(line)
        if self._test is not None and type(reporter) is pytest.TerminalReporter:
            # The result of the running test stands beside its file or name, as always.
            reporter.pytest_runtest_logstart(*self._test)
        if reporter.currentfspath is None:
            writer.line()
        writer.flush()


def fitted(writer: Any, text: str, room: int) -> str:
    """Return a text that does nothing to a terminal, fits in it, and that it can show."""
    # Loads numpy, which whoever asks a model has loaded.
    from pytest_calibration.text import layout

    encoding = getattr(writer._file, "encoding", None) or "utf-8"
    shown = text.encode(encoding, errors="backslashreplace").decode(encoding)
    return layout.fitted(shown, room)


# --- one process ---------------------------------------------------------------------------------


class Shown:
    """Shows the work of this process.

    Args:
        style: how.
    """

    def __init__(self, style: Style) -> None:
        self._style = style

    def show(self, work: Work) -> float:
        """Write how far it is."""
        return self._style.put(f"{PREFIX}{work}", work.seconds)

    def clear(self) -> None:
        """Leave nothing."""
        self._style.clear()


# --- pytest-xdist --------------------------------------------------------------------------------


class Told:
    """Tells the controller about the work of a worker: two lines in a file, full and brief.

    Args:
        folder: where; made when there is something to tell.
        name: the worker.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name
        self._next = self._file.with_suffix(".new")

    def show(self, work: Work) -> float:
        """Write the file anew; whoever reads it finds the old one or the new."""
        # A disk that is full, or a reader that holds the file: the next time, perhaps.
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            lines = (" ".join(text.split()) for text in (str(work), work.brief))
            self._next.write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
            os.replace(self._next, self._file)
        return TOLD

    def clear(self) -> None:
        """Nothing is being done: no file."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave nothing, on another machine either."""
        self.clear()
        with suppress(OSError):
            self._file.parent.rmdir()


class Watch:
    """Shows the work of all workers while the controller waits for them.

    The controller's loop takes events from a queue, and nothing else is written while it waits
    there. So the wait is where lines are written and, before an event is handed on, erased: no
    second thread has to take turns with pytest. A run without calibration tests is left alone.

    Args:
        config: the controller's.
        style: how lines are written.
        clock: gives seconds.
    """

    def __init__(
        self,
        config: pytest.Config,
        style: Style,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._style = style
        self._clock = clock
        # A name that nobody can guess; the first worker with something to tell makes it.
        self.folder = Path(tempfile.gettempdir(), f"pytest-calibration-{os.urandom(8).hex()}")
        self._queue: Any = None
        self._get: Any = None
        self._began: float | None = None
        self._next = 0.0

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to tell."""
        node.workerinput[KEY] = str(self.folder)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Begin to watch when a calibration test is set up: its work comes next."""
        if self._get is None and "calibration" in report.keywords:
            session = self._config.pluginmanager.getplugin("dsession")
            self.watch(getattr(session, "queue", None))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Forget what a worker told last; one that died did not take it back."""
        with suppress(OSError, AttributeError):
            (self.folder / node.gateway.id).unlink(missing_ok=True)

    def watch(self, queue: Any) -> None:
        """Look at the workers whenever this queue is waited for."""
        if hasattr(queue, "get"):
            self._queue, self._get = queue, queue.get
            queue.get = self.get

    def close(self) -> None:
        """Leave nothing."""
        self._unwatch()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unwatch(self) -> None:
        if self._queue is not None:
            del self._queue.get
            self._queue = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for an event as ``queue.Queue.get`` does."""
        from queue import Empty

        end = None if timeout is None else self._clock() + timeout
        try:
            while True:
                now = self._clock()
                wait = min(max(self._next - now, 0.0), LIVE)
                wait = wait if end is None else min(wait, max(end - now, 0.0))
                try:
                    event = self._get(block, wait if block else None)
                except Empty:
                    self._look()
                    if not block or (end is not None and self._clock() >= end):
                        raise
                else:
                    self._erase()
                    return event
        except Empty:
            raise
        except BaseException:
            self._erase()
            raise

    def _look(self) -> None:
        """Write where the workers stand."""
        now = self._clock()
        self._next = max(self._next, now + LIVE)
        try:
            told = read_told(self.folder)
            if not told:
                self._began = None
                self._style.clear()
                return
            if self._began is None:
                self._began = now
            self._style.put(
                PREFIX + joined(told, self._style.room() - len(PREFIX)), now - self._began
            )
        except Exception:
            self._unwatch()

    def _erase(self) -> None:
        with suppress(Exception):
            self._style.clear()


def read_told(folder: Path) -> list[tuple[str, str, str]]:
    """Return (worker, full text, brief text) of each worker that is at work."""
    out = []
    files = [file for file in folder.iterdir() if not file.suffix] if folder.is_dir() else []
    for file in files:
        # It may be gone by now.
        with suppress(OSError, ValueError):
            full, _, brief = file.read_text(encoding="utf-8").partition("\n")
            out.append((file.name, full, brief))
    return sorted(out, key=lambda one: (len(one[0]), one[0]))


def joined(told: list[tuple[str, str, str]], room: int) -> str:
    """Return one line about all workers: in full where it fits, else as many as fit in brief."""
    if len(told) == 1 and len(told[0][1]) <= room:
        return told[0][1]
    full = "; ".join(f"[{name}] {text}" for name, text, _ in told)
    if len(full) <= room:
        return full
    brief = [text for _, _, text in told]
    for left in range(len(brief)):
        shown = brief[: len(brief) - left]
        line = "; ".join([*shown, f"{left} more"] if left else shown)
        if len(line) <= room:
            return line
    # Cut by whoever writes it.
    return line
