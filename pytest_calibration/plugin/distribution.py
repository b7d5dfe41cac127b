"""Tests of one model go to one worker of pytest-xdist, where the user chose ``--dist loadgroup``.

pytest-xdist appends ``@group`` to the id of a test that has a group: its workers send ids to the
controller, which has no other way to learn of groups. Nobody can give such an id to pytest, and
``--last-failed`` does not know it in a run that is distributed in another way. So tests of this
plugin bear the group while ids are sent and tests run, and neither while tests are selected nor in
any report.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pytest

from pytest_calibration.plugin.session import run_of

PLAIN_ID: Final = "calibration_id"
GROUP: Final = "xdist_group"
# Tests whose model has no name when they are collected: a project brings it.
NAMELESS: Final = "calibration"


def mark_group(item: pytest.Item) -> None:
    """Give a test the group of its model, unless the user gave it one."""
    if item.get_closest_marker(GROUP) is None:
        # The controller takes what follows the last "@", where no "]" comes after it.
        group = _model_of(item).replace("@", "-").replace("]", ")")
        item.add_marker(pytest.mark.xdist_group(group))


def _model_of(item: pytest.Item) -> str:
    """Return the name of the model that a test will load."""
    from pytest_calibration.plugin.run import model_name

    name = model_name(item)
    if name is None and "calibration_model_spec" in getattr(item, "fixturenames", ()):
        # A test that cannot be parametrised, of a TestCase say, uses the one model there is.
        names = run_of(item.config).model_names() if run_of(item.config).options["model"] else []
        name = names[0] if len(names) == 1 else None
    return name or NAMELESS


def plain_id(item: pytest.Item) -> str:
    """Return the id that pytest knows a test by, without any group."""
    if not getattr(item.config.option, "loadgroup", False):
        return item.nodeid
    return item.nodeid.removesuffix(_suffix(item))


def _suffix(item: pytest.Item) -> str:
    """Return what pytest-xdist appends to the id of a test that has a group."""
    groups = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers(GROUP)
    }
    return f"@{'_'.join(sorted(groups))}" if groups else ""


def unname_groups(items: Iterable[pytest.Item]) -> None:
    """Take from the ids of these tests what pytest-xdist appended."""
    for item in items:
        _rename(item, plain_id(item))


def name_groups(items: Iterable[pytest.Item]) -> None:
    """Append the group to the ids of these tests, as pytest-xdist does.

    With pytest 9.2, pytest-xdist 3.8 appends it in vain, and groups nothing
    (https://github.com/pytest-dev/pytest-xdist/issues/1386): these tests stay together.
    """
    for item in items:
        _rename(item, plain_id(item) + _suffix(item))


def tell_plain_id(item: pytest.Item, report: pytest.TestReport) -> None:
    """Send the controller the id that reports shall show: a worker must not change it there."""
    setattr(report, PLAIN_ID, plain_id(item))


def _rename(item: pytest.Item, nodeid: str) -> None:
    """Give a test another id; what pytest does not let us rename keeps its own."""
    if item.nodeid == nodeid:
        return
    node: Any = item
    try:
        # Since pytest 9.2 an id is an object of its own.
        node._id = type(node._id).parse(nodeid)
    except AttributeError:
        node._nodeid = nodeid
