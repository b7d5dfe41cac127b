"""The hooks of a run. They are registered with it, and so cost other sessions nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_calibration.plugin import expected, progress_line, workers, xdist_groups
from pytest_calibration.plugin.collecting import MARKED, finish_collection
from pytest_calibration.plugin.ending import hear_the_last
from pytest_calibration.plugin.reporting import annotation_lines, inert
from pytest_calibration.plugin.run import Run
from pytest_calibration.plugin.session_lines import collection_line, session_lines
from pytest_calibration.plugin.session_sink import SessionSink
from pytest_calibration.sink import SINK


class RunHooks:
    """The hooks of one run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        run.config.add_cleanup(expected.watch(run.expect))

    # --- collection --------------------------------------------------------------------------

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember, in the controller, what workers could not collect."""
        if report.outcome != "passed":
            self.run.left_out[report.nodeid] = report.outcome

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let plugins that select tests see the ids that pytest knows."""
        if xdist_groups.are_used(self.run.config):
            marked = [item for item in items if item.stash.get(MARKED, False)]
            xdist_groups.rename(marked, grouped=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the calibration tests, before a worker sends their ids."""
        finish_collection(session, self.run)
        progress_line.start(session.config)

    def pytest_report_collectionfinish(self) -> str | list[str]:
        """Say how many calibration tests there are; nothing where there is none."""
        return collection_line(self.run) or []

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Let go of a model with the fixture that brought it."""
        if fixturedef.argname == "calibration_model":
            self.run.resolved.drop_adopted()

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Remember which calibration tests are not run."""
        marked = [item for item in items if item.stash.get(MARKED, False)]
        self.run.deselected.update(map(xdist_groups.plain_id, marked))

    # --- running -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give each attempt of a test a sink of its own: a rerun may fail before it asserts."""
        SINK.set(SessionSink(self.run, item))
        self.run.resolved.project = self.run.project_of(item)
        # Where the run was created after the collection.
        progress_line.start(item.config)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the verdicts of a test to its report."""
        report = yield
        sink = SINK.made
        if isinstance(sink, SessionSink) and sink.item is item:
            sink.complete(report)
        if item.stash.get(MARKED, False):
            setattr(report, progress_line.COLLECTED, self.run.collected)
            if xdist_groups.are_used(item.config):
                setattr(report, xdist_groups.PLAIN_ID, xdist_groups.plain_id(item))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the reports in the process that prints them."""
        # xdist compares the id of a worker's report with that of its test.
        if not self.run.is_worker:
            # First: every other plugin shows the id that pytest knows.
            report.nodeid = getattr(report, xdist_groups.PLAIN_ID, report.nodeid)
            self.run.outcomes.add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the verdicts; nothing where there is none."""
        lines = list(session_lines(self.run, terminalreporter))
        if lines:
            terminalreporter.write_sep("=", "calibration")
            for line in (*inert(lines), *annotation_lines(self.run)):
                terminalreporter.write_line(line)

    # --- pytest-xdist ------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the state of this worker to the controller; hear what other hooks have concluded."""
        if self.run.is_worker:
            output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
            output["calibration"] = workers.from_worker(self.run)
        else:
            hear_the_last(self.run, session)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        """Let a worker send any text."""
        return workers.encodable((yield))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send to a worker what the controller resolved."""
        node.workerinput["calibration"] = workers.for_worker(self.run)
        progress_line.start(self.run.config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Add the state of a worker; one that died leaves the run incomplete."""
        output = None if error else getattr(node, "workeroutput", None)
        if output is None:
            self.run.complete = False
        elif "calibration" in output:
            workers.merge(self.run, output["calibration"])
