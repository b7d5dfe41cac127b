"""The pytest plugin: options, fixtures, hooks, and no arithmetic.

``options``
    flags and ini keys as one table.
``fixtures``
    what a test asks for.
``run``
    the state of a session and what happens at its end.
``rootdir``
    a path given to a flag must not be taken for a place of tests.
``session_sink``
    what assertions tell the session.
``reporting``
    report files, step summary and annotations.
``progress``
    a line that says how far long work has come.
``summary``
    the lines at the end of a run.
``tracebacks``
    errors a user can cause are shown at the user's own line.
``hookspecs``
    the hook that adds probes.

Nothing here loads numpy, yaml, torch or transformers until a calibration test needs it, and nothing
is printed or written in a run without calibration tests.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import pytest

from pytest_calibration.errors import CalibrationError
from pytest_calibration.plugin import hookspecs, progress
from pytest_calibration.plugin.fixtures import (
    NAMES,
    RUN,
    calibration,
    calibration_baseline,
    calibration_model,
    calibration_model_spec,
    calibration_parent,
    calibration_probe,
)
from pytest_calibration.plugin.options import add_options
from pytest_calibration.plugin.reporting import annotation_lines, inert
from pytest_calibration.plugin.rootdir import check_rootdir
from pytest_calibration.plugin.run import Run, model_name
from pytest_calibration.plugin.session_sink import SessionSink, in_short
from pytest_calibration.plugin.summary import collection_line, probe_lines, session_lines
from pytest_calibration.plugin.tracebacks import at_the_users_line
from pytest_calibration.sink import SINK

RESULTS: Final = "calibration_results"
OURS = pytest.StashKey[bool]()

__all__ = [
    "calibration",
    "calibration_baseline",
    "calibration_model",
    "calibration_model_spec",
    "calibration_parent",
    "calibration_probe",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and ini keys."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hook that adds probes."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Read all settings, so that a bad one is told before any test runs."""
    config.addinivalue_line(
        "markers",
        "calibration: a test of a model's calibration (set by itself on tests that use a "
        "calibration fixture)",
    )
    check_rootdir(config)
    config.stash[RUN] = Run(config)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the probes where that is all that was asked for."""
    if not config.getoption("calibration_list"):
        return None
    config._do_configure()
    try:
        for line in probe_lines(config.stash[RUN]):
            print(line)
    except CalibrationError as problem:
        raise pytest.UsageError(str(problem)) from None
    finally:
        config._ensure_unconfigure()
    return 0


# --- collection ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per model, and once per selected probe where it asks for one."""
    wanted = NAMES & {*metafunc.fixturenames}
    if not wanted:
        return
    run = metafunc.config.stash[RUN]
    # What the test parametrises itself is left to it.
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
        wanted -= {*(names.replace(",", " ").split() if isinstance(names, str) else names)}
    try:
        if "calibration_model_spec" in wanted and run.options["model"]:
            names = [spec.name for spec in run.models]
            metafunc.parametrize(
                "calibration_model_spec", names, indirect=True, scope="session", ids=names
            )
        if "calibration_probe" in wanted:
            metafunc.parametrize("calibration_probe", run.selected, indirect=True, ids=str)
    except CalibrationError as problem:
        raise pytest.Collector.CollectError(str(problem)) from None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that use a calibration fixture, before ``-m`` selects."""
    if ours(item):
        item.add_marker("calibration")
        item.stash[OURS] = True


def ours(item: pytest.Item) -> bool:
    """Whether a test uses one of this plugin's fixtures, and not another of the same name."""
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name in NAMES & {*getattr(item, "fixturenames", ())}:
        nearest = known[name][-1].func.__module__ if known.get(name) else __name__
        # A project brings its own model by overriding this one fixture.
        if nearest.startswith("pytest_calibration.") or name == "calibration_model":
            return True
    return False


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember that this run is not a full one."""
    if items:
        items[0].config.stash[RUN].deselected = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the calibration tests, and refuse to record from fewer items than are stored."""
    run = session.config.stash[RUN]
    marked = [item for item in session.items if item.stash.get(OURS, False)]
    run.collected = len(marked)
    run.order = {item.nodeid: i for i, item in enumerate(session.items)}
    run.used_models.update(filter(None, map(model_name, marked)))
    writes = run.options["record"] or run.options["accept"]
    if marked and writes and run.options["limit"] and not run.is_worker:
        folders = {run.store_of(item).folder for item in marked}
        try:
            run.refuse_smaller(
                p for folder in sorted(folders) for p in sorted(folder.glob("*.yaml"))
            )
        except CalibrationError as problem:
            raise pytest.UsageError(str(problem)) from None


def pytest_report_collectionfinish(config: pytest.Config) -> str | list[str]:
    """Say what will be probed; nothing where there is no calibration test."""
    return collection_line(config.stash[RUN]) or []


# --- running -------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Take the sink away when the test is over."""
    before = SINK.set(None)
    try:
        return (yield)
    finally:
        SINK.set(before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the assertions of this test their sink; a rerun gets one of its own."""
    SINK.set(SessionSink(item.config.stash[RUN], item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error a user can cause at the user's own line; add what the assertions saw."""
    at_the_users_line(item, call)
    report = yield
    sink = SINK.get()
    if isinstance(sink, SessionSink) and sink.item is item:
        if report.when == "call" and report.failed:
            report.sections.extend(sink.sections())
            in_short(report, sink.results)
        if report.when == "teardown" and sink.results:
            from pytest_calibration.results import plain

            # An attribute of a report travels from a worker to the controller.
            setattr(report, RESULTS, plain(tuple(sink.results)))
    return report


class Collection:
    """Watches collection, in every process.

    Args:
        run: the session.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a file that cannot be collected or skips itself: the run is not a full one."""
        if report.outcome != "passed":
            self.run.deselected = True
        if report.failed:
            self.run.uncollected.add(report.nodeid or "a part of the tests")


class Reporter:
    """Gathers reports in the process that prints them.

    Args:
        run: the session.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdicts of each test's last attempt."""
        ours = "calibration" in report.keywords
        if report.when == "setup":
            self.run.broken.discard(report.nodeid)
            self.run.lines[report.nodeid] = report.location[0], (report.location[1] or 0) + 1
        if report.failed:
            self.run.broken.add(report.nodeid)
        if report.when == "teardown":
            self.run.results.pop(report.nodeid, None)
            if hasattr(report, RESULTS):
                from pytest_calibration.results import Result, revived, spared

                made = [revived(Result, one) for one in getattr(report, RESULTS)]
                failed = report.nodeid in self.run.broken
                self.run.results[report.nodeid] = made if failed else spared(made)
        if not ours:
            return
        self.run.marked.add(report.nodeid)
        if report.outcome in ("failed", "skipped", "rerun"):
            self.run.unfinished.add(report.nodeid)
        elif report.when == "call":
            self.run.unfinished.discard(report.nodeid)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start gathering in the controller, and showing how far long work has come."""
    run = session.config.stash[RUN]
    progress.start(session.config)
    session.config.pluginmanager.register(Collection(run), "calibration-collection")
    if not run.is_worker:
        session.config.pluginmanager.register(Reporter(run), "calibration-reporter")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After the last test: write records, and fail a session that decided nothing."""
    run = session.config.stash[RUN]
    try:
        result = yield
    except BaseException:
        if not run.is_worker:
            run.finish(finished=False)
        raise
    if not run.is_worker and not session.config.option.collectonly:
        session.testsfailed += run.finish(
            finished=not (session.shouldstop or session.shouldfail),
            failed=session.testsfailed > 0,
        )
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker saw to the controller."""
    run = session.config.stash[RUN]
    if run.is_worker:
        session.config.workeroutput["calibration"] = run.from_worker()  # type: ignore[attr-defined]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the verdicts; nothing where there is none."""
    run = config.stash[RUN]
    lines = list(session_lines(run, terminalreporter))
    if lines:
        terminalreporter.write_sep("=", "calibration")
        for line in (*inert(lines), *annotation_lines(run)):
            terminalreporter.write_line(line)


# --- pytest-xdist --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker what the controller resolved."""
    node.workerinput["calibration"] = node.config.stash[RUN].for_worker()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Learn the order of the tests, which all workers collect alike."""
    node.config.stash[RUN].order = {name: i for i, name in enumerate(ids)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take in what a worker saw; one that died leaves the run incomplete."""
    seen = getattr(node, "workeroutput", {}).get("calibration") if not error else None
    node.config.stash[RUN].merge(seen)
