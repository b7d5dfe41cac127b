"""The run of a session, made by whatever first needs one.

Most sessions of an environment in which this package is installed have nothing to do with it. For
them no :class:`~pytest_calibration.plugin.run.Run` is made, and none of what it needs is imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pytest_calibration.plugin.run import Run

RUN: Final = pytest.StashKey["Run"]()
COLLECTION: Final = pytest.StashKey["Collection"]()
# Whoever loads one of these means to assert something, or to ask a model.
USERS: Final = frozenset({"pytest_calibration.assertions", "pytest_calibration.progress"})


class Collection:
    """Remembers, in every process, that not everything was collected.

    Attributes:
        deselected: whether any test was deselected, or a file could not be collected.
        uncollected: files that could not be collected.
    """

    def __init__(self) -> None:
        self.deselected = False
        self.uncollected: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a file that cannot be collected or skips itself: the run is not a full one."""
        if report.outcome != "passed":
            self.deselected = True
        if report.failed:
            self.uncollected.add(report.nodeid or "a part of the tests")


def run_made(config: pytest.Config) -> Run | None:
    """Return the run of this session, if there is one."""
    return config.stash.get(RUN, None)


def run_of(config: pytest.Config) -> Run:
    """Return the run of this session, made now at the latest.

    Raises:
        pytest.UsageError: settings that make no sense.
    """
    run = config.stash.get(RUN, None)
    if run is None:
        from pytest_calibration.plugin.gathering import Reporter
        from pytest_calibration.plugin.run import Run

        run = config.stash[RUN] = Run(config)
        if not run.is_worker:
            config.pluginmanager.register(Reporter(run), "calibration-reporter")
    return run


def run_to_end(config: pytest.Config) -> Run | None:
    """Return the run of this session, if there is one, with all that is known of the collection."""
    run, seen = run_made(config), config.stash.get(COLLECTION, None)
    if run is not None and seen is not None:
        run.deselected |= seen.deselected
        run.uncollected |= seen.uncollected
    return run


def in_use() -> bool:
    """Whether a test, or its conftest, has begun to use this package without a fixture."""
    return not USERS.isdisjoint(sys.modules)
