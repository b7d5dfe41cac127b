"""Collection: calibration tests are parametrised, marked, ordered into groups and counted."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from pytest_calibration.errors import CalibrationError
from pytest_calibration.plugin import xdist_groups
from pytest_calibration.plugin.options import BASELINES
from pytest_calibration.plugin.resolution import ModelParameter
from pytest_calibration.plugin.resolved_options import usage_errors
from pytest_calibration.plugin.run import Run, model_name
from pytest_calibration.text.visible import MOST_QUOTED, visible

# Whether a test is one of calibration.
MARKED = pytest.StashKey[bool]()
# Group of the tests whose model has no name at collection: a project brings it.
NAMELESS = "calibration"


def parametrize(metafunc: pytest.Metafunc, run: Run) -> None:
    """Run a test once per model, and once per selected probe where it asks for one.

    Raises:
        pytest.Collector.CollectError: models or probes cannot be resolved.
    """
    wanted = {"calibration_model_spec", "calibration_probe"} & {*metafunc.fixturenames}
    # What the test parametrises itself is left to it.
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
        wanted -= {*(names.replace(",", " ").split() if isinstance(names, str) else names)}
    project = run.resolved.projects.of(metafunc.definition.path)
    try:
        if "calibration_model_spec" in wanted and run.options["model"]:
            names = [spec.name for spec in run.resolved.models]
            models = [ModelParameter(name, project) for name in names]
            metafunc.parametrize(
                "calibration_model_spec", models, indirect=True, scope="session", ids=names
            )
        if "calibration_probe" in wanted:
            probes: Sequence[Any] = project.selected
            if not probes:
                reason = f"--calibration-probe names none of {project.shown}"
                probes = [pytest.param("", id="none", marks=pytest.mark.skip(reason=reason))]
            metafunc.parametrize("calibration_probe", probes, indirect=True, ids=_id)
    except CalibrationError as problem:
        raise pytest.Collector.CollectError(str(problem)) from None


def _id(name: str) -> str:
    """Return the part of a test's id that names a probe: what CI would obey is escaped."""
    return visible(name, MOST_QUOTED)


def uses_our_fixture(item: pytest.Item, names: Collection[str]) -> bool:
    """Whether a test uses one of this plugin's fixtures, and not another of the same name.

    Args:
        item: the test.
        names: names of this plugin's fixtures.
    """
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name in {*names} & {*getattr(item, "fixturenames", ())}:
        nearest = definitions.get(name)
        module = nearest[-1].func.__module__ if nearest else "pytest_calibration.plugin"
        # A project brings its own model by overriding this one fixture.
        if module.startswith("pytest_calibration.") or name == "calibration_model":
            return True
    return False


def mark(item: pytest.Item, run: Run) -> None:
    """Mark a test as one of calibration, and give it the group of its model."""
    item.add_marker("calibration")
    item.stash[MARKED] = True
    if item.config.pluginmanager.hasplugin("xdist"):
        xdist_groups.mark(item, run.model_of(item) or NAMELESS)


def finish_collection(session: pytest.Session, run: Run) -> None:
    """Count the calibration tests, and refuse to record fewer items than are stored.

    Raises:
        pytest.UsageError: a stored baseline has more items than ``--calibration-limit`` allows.
    """
    marked = [item for item in session.items if item.stash.get(MARKED, False)]
    run.collected = len(marked)
    run.outcomes.order = {item.nodeid: i for i, item in enumerate(session.items)}
    run.resolved.used_models.update(filter(None, map(model_name, marked)))
    # Baselines may be stored beside tests that no longer ask for any.
    beside = {item.path.parent / BASELINES for item in session.items}
    run.records.folders |= {str(folder) for folder in beside if os.path.isdir(folder)}
    writes = any(run.options[name] for name in ("record", "accept", "anchor"))
    if writes and run.options["limit"] and not run.is_worker:
        with usage_errors():
            folders = {run.store_of(item).folder for item in marked}
            for folder in sorted(folders):
                run.records.check_limit(sorted(folder.glob("*.yaml")))
    if xdist_groups.are_used(session.config):
        xdist_groups.rename(marked, grouped=True)
