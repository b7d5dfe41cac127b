"""The pytest plugin: options, fixtures, hooks, and no arithmetic.

This module, ``options``, ``fixtures`` and ``session`` are loaded at every start of pytest, and
therefore small. A :class:`~pytest_calibration.plugin.run.Run`, with all other modules, is created
by ``session`` when something first needs it; its hooks are in ``run_hooks``.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

import os
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
from pytest_calibration.plugin.options import BASELINES, add_options, any_option_given
from pytest_calibration.plugin.session import (
    FOLDERS,
    LEFT_OUT,
    package_in_use,
    run_made,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

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
    from pytest_calibration.plugin.session_lines import list_probes

    return list_probes(config, run_of)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Create the run where workers of pytest-xdist may report to it."""
    if session.config.pluginmanager.hasplugin("dsession"):
        run_of(session.config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> None:
    """Remember a folder of baselines, also beside tests that are gone or ignored."""
    folder = os.path.join(collection_path, BASELINES)
    if os.path.isdir(folder):
        config.stash.setdefault(FOLDERS, set()).add(folder)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Give the packaged suite an id: it lies outside rootdir, where pytest has none for a file."""
    if module_path.name != "suite.py":
        return None
    from pytest_calibration.plugin.projects import SUITE, SUITE_FILE

    if module_path != SUITE_FILE:
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid=SUITE)
    return module


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
        # A thread may outlive its test; a sink that was made knows that it is late.
        SINK.set(before or SINK.made or (lambda: _sink_of(item, late=True)))


def _sink_of(item: pytest.Item, *, late: bool = False) -> SessionSink:
    from pytest_calibration.plugin.session_sink import SessionSink

    return SessionSink(run_of(item.config), item, late=late)


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
    from pytest_calibration.sink import SINK

    finished = False
    # A session within a test of another has sinks of its own, to the end of its last hook.
    outer = SINK.set(None)

    def restore() -> None:
        SINK.set(outer)

    session.config.add_cleanup(restore)
    try:
        result = yield
        finished = not (session.shouldstop or session.shouldfail)
        return result
    finally:
        run = run_made(session.config)
        if run is not None:
            from pytest_calibration.plugin.ending import end

            end(run, session, finished=finished)
