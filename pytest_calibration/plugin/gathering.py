"""Verdicts travel on the reports of their test, to the process that prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.plugin.distribution import PLAIN_ID
from pytest_calibration.plugin.session_sink import SessionSink, in_short
from pytest_calibration.sink import SINK

if TYPE_CHECKING:
    from pytest_calibration.plugin.run import Run

RESULTS: Final = "calibration_results"


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add to the report of a test what its assertions saw."""
    sink = SINK.made
    if not isinstance(sink, SessionSink) or sink.item is not item:
        return
    if report.when == "call" and report.failed:
        report.sections.extend(sink.sections())
        in_short(report, sink.results)
    if report.when == "teardown" and sink.results:
        from pytest_calibration.reports.model import plain

        # An attribute of a report travels from a worker to the controller.
        setattr(report, RESULTS, plain(tuple(sink.results)))


class Reporter:
    """Gathers reports in the process that prints them.

    Args:
        run: the session.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdicts of each test's last attempt."""
        # First: whoever comes next shows the id that pytest knows the test by.
        report.nodeid = getattr(report, PLAIN_ID, report.nodeid)
        ours = "calibration" in report.keywords
        if report.when == "setup":
            self.run.broken.discard(report.nodeid)
        self._place(report, report.nodeid)
        if report.failed:
            self.run.broken.add(report.nodeid)
        if report.when == "teardown":
            self.run.results.pop(report.nodeid, None)
            if hasattr(report, RESULTS):
                from pytest_calibration.reports.model import Result, from_plain, not_failing

                made = [from_plain(Result, one) for one in getattr(report, RESULTS)]
                self._place(report, made[0].test)
                failed = report.nodeid in self.run.broken
                self.run.results[report.nodeid] = made if failed else not_failing(made)
        if not ours:
            return
        self.run.marked.add(report.nodeid)
        if report.outcome in ("failed", "skipped", "rerun"):
            self.run.unfinished.add(report.nodeid)
        elif report.when == "call":
            self.run.unfinished.discard(report.nodeid)

    def _place(self, report: pytest.TestReport, test: str) -> None:
        """Keep where a test stands: in its file, and, as a worker tells it, among all tests."""
        self.run.lines[test] = report.location[0], (report.location[1] or 0) + 1
        if hasattr(report, "item_index"):
            self.run.order[test] = report.item_index
