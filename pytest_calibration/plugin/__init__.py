"""The pytest plugin: options, fixtures, hooks, and no arithmetic.

Loaded at every start of pytest, and therefore small:

``options``
    flags and ini keys, one table.
``fixtures``
    what a test asks for.
``session``
    creates the run of a session when something first needs it.

Loaded by a run, from the bottom up:

``resolved_options``, ``rootdir``
    the values of the options, checked.
``usage``
    what was loaded, and what came from the cache.
``xdist_groups``
    tests of one model go to one worker.
``outcomes``
    what came of each test.
``pending_records``
    baselines to be written at the end of the run.
``resolution``
    models, probes and settings of the run.
``run``
    the state of the run, which holds all of these.
``runner``
    what the fixture ``calibration`` gives.
``collecting``, ``listing``
    calibration tests are parametrised, marked and counted; probes are listed.
``reporting``, ``session_lines``
    report files, step summary, annotations; lines on the terminal.
``session_sink``, ``tracebacks``, ``progress_line``
    verdicts of a test and the text of its failure; progress while it runs.
``workers``
    what travels between the processes of pytest-xdist.
``pruning``, ``ending``
    what is written and checked after the last test.
``run_hooks``
    the hooks of a run.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_calibration.plugin.fixtures import (
    NAMES,
    calibration,
    calibration_baseline,
    calibration_model,
    calibration_model_spec,
    calibration_parent,
    calibration_probe,
)
from pytest_calibration.plugin.options import add_options, any_option_given
from pytest_calibration.plugin.session import LEFT_OUT, package_in_use, run_made, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from pytest_calibration.plugin.session_sink import SessionSink
    from pytest_calibration.probes.probe import Probe

__all__ = [
    "calibration",
    "calibration_baseline",
    "calibration_model",
    "calibration_model_spec",
    "calibration_parent",
    "calibration_probe",
]


class Specifications:
    """The hook by which another package, or a project's ``conftest.py``, adds probes."""

    @staticmethod
    def pytest_calibration_probes(config: pytest.Config) -> Mapping[str, Callable[[], Probe]]:  # type: ignore[empty-body]
        """Return probe names and what builds each; nothing is built until a probe is run."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Register options, ini keys and the hook that adds probes."""
    pluginmanager.add_hookspecs(Specifications)
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; check all options, so that a wrong one stops pytest at its start."""
    config.addinivalue_line(
        "markers",
        "calibration: a test of a model's calibration (set automatically on tests that use a "
        "calibration fixture)",
    )
    if any_option_given(config):
        run_of(config)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the probes and stop, for ``--calibration-list``."""
    if not config.getoption("calibration_list"):
        return None
    from pytest_calibration.plugin.listing import list_probes

    return list_probes(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Create the run where workers of pytest-xdist may report to it."""
    if session.config.pluginmanager.hasplugin("dsession"):
        run_of(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per model, and once per selected probe where it asks for one."""
    if not NAMES.isdisjoint(metafunc.fixturenames):
        from pytest_calibration.plugin.collecting import parametrize

        parametrize(metafunc, run_of(metafunc.config))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that use a calibration fixture, before ``-m`` selects."""
    if not NAMES.isdisjoint(getattr(item, "fixturenames", ())):
        from pytest_calibration.plugin.collecting import mark, uses_our_fixture

        if uses_our_fixture(item, NAMES):
            mark(item, run_of(item.config))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember that not all tests are run."""
    if items:
        items[0].config.stash.setdefault(LEFT_OUT, {})[items[0].nodeid] = "deselected"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Remember a file that cannot be collected, or that skips itself."""
    report = yield
    if report.outcome != "passed":
        collector.config.stash.setdefault(LEFT_OUT, {})[report.nodeid] = report.outcome
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let the assertions of a test, also one without fixtures, report their verdicts."""
    from pytest_calibration.sink import SINK

    if package_in_use("assertions", "progress"):
        run_of(item.config)
    before = SINK.set(lambda: _sink_of(item))
    try:
        return (yield)
    finally:
        SINK.set(before)


def _sink_of(item: pytest.Item) -> SessionSink:
    from pytest_calibration.plugin.session_sink import SessionSink

    return SessionSink(run_of(item.config), item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error that a user can cause at the user's own line."""
    if call.excinfo is not None and package_in_use("errors"):
        from pytest_calibration.plugin.tracebacks import cut_traceback

        cut_traceback(item, call)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After the last test: write baselines and reports, and fail a run that decided nothing."""
    finished = False
    try:
        result = yield
        finished = not (session.shouldstop or session.shouldfail)
        return result
    finally:
        run = run_made(session.config)
        if run is not None:
            from pytest_calibration.plugin.ending import end

            end(run, session, finished=finished)
