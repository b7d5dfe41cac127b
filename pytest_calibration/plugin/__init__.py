"""The pytest plugin: options, fixtures, hooks, and no arithmetic.

``options``
    flags and ini keys as one table.
``fixtures``
    what a test asks for.
``session``
    the run of a session, made by whatever first needs one.
``run``
    the state of a session and what happens at its end.
``distribution``
    tests of one model go to one worker.
``rootdir``
    a path given to a flag must not be taken for a place of tests.
``session_sink``
    what assertions tell the session.
``gathering``
    verdicts travel on the reports of their test.
``reporting``
    report files, step summary and annotations.
``progress``
    a line that says how far long work has come.
``summary``
    the lines at the end of a run.
``usage``
    what was loaded, and what came from the cache.
``tracebacks``
    errors a user can cause are shown at the user's own line.
``hookspecs``
    the hook that adds probes.

A session that has nothing to do with calibration loads this module, the table of options, the
fixtures, and what they need, which is little; everything else is imported inside the hooks. Nothing
loads numpy, yaml, torch or transformers until a calibration test needs it, and nothing is printed
or written in a run without calibration tests.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_calibration.plugin import hookspecs
from pytest_calibration.plugin.fixtures import (
    NAMES,
    calibration,
    calibration_baseline,
    calibration_model,
    calibration_model_spec,
    calibration_parent,
    calibration_probe,
)
from pytest_calibration.plugin.options import add_options, read_options
from pytest_calibration.plugin.session import (
    COLLECTION,
    Collection,
    in_use,
    run_made,
    run_of,
    run_to_end,
)
from pytest_calibration.sink import SINK, Later

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_calibration.plugin.session_sink import SessionSink

OURS: Final = pytest.StashKey[bool]()

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
    options = read_options(config)
    if options.flags:
        from pytest_calibration.plugin.rootdir import check_rootdir

        check_rootdir(config)
    if any(value is not None for value in options.values.values()):
        run_of(config)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the probes where that is all that was asked for."""
    if not config.getoption("calibration_list"):
        return None
    from pytest_calibration.errors import CalibrationError
    from pytest_calibration.plugin.session_lines import probe_lines

    config._do_configure()
    try:
        for line in probe_lines(run_of(config)):
            print(line)
    except CalibrationError as problem:
        raise pytest.UsageError(str(problem)) from None
    finally:
        config._ensure_unconfigure()
    return 0


def pytest_sessionstart(session: pytest.Session) -> None:
    """Watch the collection; where tests are distributed, be ready for what workers report."""
    config = session.config
    config.stash[COLLECTION] = Collection()
    config.pluginmanager.register(config.stash[COLLECTION], "calibration-collection")
    if config.pluginmanager.hasplugin("dsession"):
        run_of(config)
    _show_progress(config)


def _show_progress(config: pytest.Config) -> None:
    """Show how far long work has come, from the thread that writes pytest's own output."""
    if run_made(config) is not None:
        from pytest_calibration.plugin import progress_line as progress

        progress.start(config)


# --- collection ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per model, and once per selected probe where it asks for one."""
    wanted = NAMES & {*metafunc.fixturenames}
    if not wanted:
        return
    from pytest_calibration.errors import CalibrationError

    run = run_of(metafunc.config)
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
        run_of(item.config)
        if item.config.pluginmanager.hasplugin("xdist"):
            from pytest_calibration.plugin.distribution import mark_group

            mark_group(item)


def ours(item: pytest.Item) -> bool:
    """Whether a test uses one of this plugin's fixtures, and not another of the same name."""
    names = NAMES & {*getattr(item, "fixturenames", ())}
    if not names:
        return False
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name in names:
        nearest = known[name][-1].func.__module__ if known.get(name) else __name__
        # A project brings its own model by overriding this one fixture.
        if nearest.startswith("pytest_calibration.") or name == "calibration_model":
            return True
    return False


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember that this run is not a full one."""
    if items:
        items[0].config.stash[COLLECTION].deselected = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let whoever selects tests see the ids that pytest knows them by."""
    if getattr(config.option, "loadgroup", False) and run_made(config) is not None:
        from pytest_calibration.plugin.distribution import unname_groups

        unname_groups(item for item in items if item.stash.get(OURS, False))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the calibration tests, and refuse to record from fewer items than are stored."""
    run = run_made(session.config)
    if run is None:
        return
    from pytest_calibration.errors import CalibrationError
    from pytest_calibration.plugin.run import model_name

    _show_progress(session.config)
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
    if getattr(session.config.option, "loadgroup", False):
        from pytest_calibration.plugin.distribution import name_groups

        name_groups(marked)


def pytest_report_collectionfinish(config: pytest.Config) -> str | list[str]:
    """Say what will be probed; nothing where there is no calibration test."""
    run = run_made(config)
    if run is None:
        return []
    from pytest_calibration.plugin.session_lines import collection_line

    return collection_line(run) or []


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
    if run_made(item.config) is None and not in_use():
        SINK.set(Later(partial(_sink_of, item)))
        return
    # Now, and not when the first assertion asks: a rerun may fail before it comes to one.
    SINK.set(_sink_of(item))
    _show_progress(item.config)


def _sink_of(item: pytest.Item) -> SessionSink:
    """Return a sink for a test; the first that needs one makes the run."""
    from pytest_calibration.plugin.session_sink import SessionSink

    return SessionSink(run_of(item.config), item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error a user can cause at the user's own line; add what the assertions saw."""
    if call.excinfo is not None:
        from pytest_calibration.plugin.tracebacks import at_the_users_line

        at_the_users_line(item, call)
    report = yield
    if SINK.made is not None:
        from pytest_calibration.plugin.gathering import attach

        attach(item, report)
        if item.stash.get(OURS, False) and getattr(item.config.option, "loadgroup", False):
            from pytest_calibration.plugin.distribution import tell_plain_id

            tell_plain_id(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After the last test: write records, and fail a session that decided nothing."""
    try:
        result = yield
    except BaseException:
        run = run_to_end(session.config)
        if run is not None and not run.is_worker:
            run.finish(finished=False)
        raise
    run = run_to_end(session.config)
    if run is not None and not run.is_worker and not session.config.option.collectonly:
        session.testsfailed += run.finish(
            finished=not (session.shouldstop or session.shouldfail),
            failed=session.testsfailed > 0,
        )
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker saw to the controller."""
    run = run_to_end(session.config)
    if run is not None and run.is_worker:
        session.config.workeroutput["calibration"] = run.from_worker()  # type: ignore[attr-defined]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the verdicts; nothing where there is none."""
    run = run_made(config)
    if run is None:
        return
    from pytest_calibration.plugin.reporting import annotation_lines, inert
    from pytest_calibration.plugin.session_lines import session_lines

    lines = list(session_lines(run, terminalreporter))
    if lines:
        terminalreporter.write_sep("=", "calibration")
        for line in (*inert(lines), *annotation_lines(run)):
            terminalreporter.write_line(line)


# --- pytest-xdist --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker what the controller resolved."""
    node.workerinput["calibration"] = run_of(node.config).for_worker()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take in what a worker saw; one that died leaves the run incomplete."""
    output = None if error else getattr(node, "workeroutput", None)
    run = run_of(node.config)
    if output is None:
        run.merge(None)
    elif "calibration" in output:
        run.merge(output["calibration"])
