"""What came of the tests of a run, gathered from their reports in the process that prints them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.plugin.progress_line import COLLECTED

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result

# Attribute of a report: the verdicts of its test, as JSON in ASCII. It travels from a worker.
RESULTS: Final = "calibration_results"


class Outcomes:
    """What came of each test, by node id. The last attempt of a test counts.

    Attributes:
        results: the verdicts of each test.
        places: file and line of each test.
        order: place of each test in the collection.
        calibration_tests: tests that use a calibration fixture, of those that were run.
        failed_before: what failed in an earlier attempt of each test that was run again.
    """

    def __init__(self) -> None:
        self.results: dict[str, list[Result]] = {}
        self.places: dict[str, tuple[str, int]] = {}
        self.order: dict[str, int] = {}
        self.calibration_tests: set[str] = set()
        self.failed_before: dict[str, list[str]] = {}
        # Phase (setup, call, teardown) to outcome.
        self._phases: dict[str, dict[str, str]] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Add the report of one phase of a test."""
        test = report.nodeid
        if report.when == "setup":
            self._phases[test] = {}
            before = [r.headline for r in self.results.get(test, ()) if r.fails]
            self.failed_before.setdefault(test, []).extend(before)
        phases = self._phases.setdefault(test, {})
        # A test that holds subtests has a report for each, and one of its own.
        if phases.get(str(report.when)) != "failed":
            phases[str(report.when)] = report.outcome
        self._place(report, test)
        if hasattr(report, COLLECTED):
            self.calibration_tests.add(test)
        if report.when == "teardown":
            self.results.pop(test, None)
            if hasattr(report, RESULTS):
                from pytest_calibration.reports.model import Result, from_plain

                sent = json.loads(getattr(report, RESULTS))
                results = [from_plain(Result, values) for values in sent]
                # Its own id, which has no group of pytest-xdist.
                self._place(report, results[0].test)
                self.results[test] = self._with_lost_noted(test, results)

    def add_late(self, results: Iterable[Result]) -> None:
        """Add verdicts that were reached after the last report of their test."""
        for result in results:
            late = self._with_lost_noted(result.test, [result])
            self.results.setdefault(result.test, []).extend(late)

    def _with_lost_noted(self, test: str, results: list[Result]) -> list[Result]:
        """Say of a verdict that fails, and did not fail its test, that it fails the run."""
        from pytest_calibration.reports.model import lost

        if self._failed(test):
            return results
        return [lost(result) if result.fails else result for result in results]

    def replace(self, changed: Mapping[int, Result]) -> None:
        """Put other results in place of these, by the identity of each."""
        for results in self.results.values():
            results[:] = [changed.get(id(result), result) for result in results]

    def lost(self) -> list[Result]:
        """Return the verdicts that fail, of tests that did not fail."""
        tests = [test for test in self.results if not self._failed(test)]
        return [result for test in tests for result in self.results[test] if result.fails]

    def not_recorded(self, written: Collection[str], problems: Mapping[str, str]) -> None:
        """Let no verdict say that it was recorded where it was not.

        Args:
            written: YAML files of the records that were written.
            problems: why others were not; without an entry, because the run did not finish.
        """
        if not self.results:
            return
        from pytest_calibration.reports.model import not_recorded

        for results in self.results.values():
            for i, result in enumerate(results):
                file = result.recorded_in
                if file and file not in written:
                    why = problems.get(file, "the run did not finish, so nothing was recorded.")
                    results[i] = not_recorded(result, why)

    def lacking_a_record(self) -> set[str]:
        """Return the tests whose record was not written; known after :meth:`not_recorded`."""
        found = self.results.items()
        return {test for test, rs in found if any(r.state == "not_recorded" for r in rs)}

    def _place(self, report: pytest.TestReport, test: str) -> None:
        self.places[test] = report.location[0], (report.location[1] or 0) + 1
        # A worker sends the place in the collection.
        if hasattr(report, "item_index"):
            self.order[test] = report.item_index

    def _failed(self, test: str) -> bool:
        return "failed" in self._phases.get(test, {}).values()

    def passed_when_run_again(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the tests that failed no more, each with what failed before."""
        for test, before in self.failed_before.items():
            if before and not self._failed(test):
                yield test, before

    def without_verdict(self) -> Iterator[tuple[str, str]]:
        """Yield what became of each calibration test that did not fail and has no verdict."""
        for test in sorted(self.calibration_tests - {*self.results}):
            if not self._failed(test):
                skipped = "skipped" in self._phases[test].values()
                yield ("skipped" if skipped else "passed"), test

    def failed_any(self) -> bool:
        """Whether any calibration test failed."""
        return any(map(self._failed, self.calibration_tests))

    def not_passed(self) -> list[str]:
        """Return the calibration tests that failed, were skipped or did not run to the end."""
        return sorted(
            test
            for test in self.calibration_tests
            if {*self._phases[test].values()} != {"passed"} or "call" not in self._phases[test]
        )

    def verdicts(self, models: Iterable[str]) -> list[Result]:
        """Return every verdict, models in this order and then in that of their first verdict.

        Workers finish in any order; a reader wants the tests of a model in the order of collection.
        """
        verdicts = [result for results in self.results.values() for result in results]
        rank = {name: i for i, name in enumerate(dict.fromkeys(r.model for r in verdicts))}
        rank |= {name: i for i, name in enumerate(models)}
        last = len(self.order)
        # Stable: several verdicts of one test stay in their order.
        return sorted(verdicts, key=lambda r: (rank[r.model], self.order.get(r.test, last)))

    def failed_without_verdict(self) -> list[str]:
        """Return the tests with calibration that failed for another reason than a verdict."""
        ours = self.calibration_tests | {*self.results}
        explained = {test for test, rs in self.results.items() if any(r.fails for r in rs)}
        broken = [test for test in ours - explained if self._failed(test)]
        return sorted(broken, key=lambda test: self.order.get(test, 0))
