"""The calibration run of a pytest session, created by whatever needs it first.

Most sessions where this package is installed have nothing to do with it. For them no
:class:`~pytest_calibration.plugin.run.Run` is created, and nothing that it needs is imported.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pytest_calibration.plugin.run import Run

# Folders of baselines, wherever tests are looked for, also where none is left.
FOLDERS: Final = pytest.StashKey[set[str]]()
# Name of the plugin whose hooks serve a run.
RUN: Final = "calibration-run"
# What is not run in this process, with the reason: node id to "deselected", "skipped" or "failed".
# Files that could not be collected are of the last two kinds.
LEFT_OUT: Final = pytest.StashKey[dict[str, str]]()


def run_made(config: pytest.Config) -> Run | None:
    """Return the run of this session, if it has been created."""
    hooks = config.pluginmanager.get_plugin(RUN)
    run: Run | None = None if hooks is None else hooks.run
    return run


def run_of(config: pytest.Config) -> Run:
    """Return the run of this session; create it if need be.

    Raises:
        pytest.UsageError: an option that has a wrong value, or that contradicts another.
    """
    run = run_made(config)
    if run is None:
        from pytest_calibration.plugin.run import Run
        from pytest_calibration.plugin.run_hooks import RunHooks

        stash = config.stash
        run = Run(config, stash.setdefault(LEFT_OUT, {}), stash.setdefault(FOLDERS, set()))
        config.pluginmanager.register(RunHooks(run), RUN)
    return run


def package_in_use(*modules: str) -> bool:
    """Whether test code has imported one of these modules of the package."""
    return any(f"pytest_calibration.{name}" in sys.modules for name in modules)
