"""Tests of one model go to one worker of pytest-xdist, under ``--dist loadgroup``.

pytest-xdist appends ``@group`` to the id of a test that has a group: its workers send ids to the
controller, which does not know groups otherwise. pytest does not accept such an id, and
``--last-failed`` does not know it in a run that is distributed in another way. So the ids of
calibration tests have their group while they are sent and tests run, and not while tests are
selected, nor in reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pytest

# Attribute of a report: the id to show. The worker cannot change the id of the report itself.
PLAIN_ID: Final = "calibration_id"
GROUP: Final = "xdist_group"


def are_used(config: pytest.Config) -> bool:
    """Whether this process has ids with groups."""
    return bool(getattr(config.option, "loadgroup", False))


def mark(item: pytest.Item, name: str) -> None:
    """Put a test into a group, unless the user gave it one."""
    if item.get_closest_marker(GROUP) is None:
        # The controller takes what follows the last "@", where no "]" comes after it.
        item.add_marker(pytest.mark.xdist_group(name.replace("@", "-").replace("]", ")")))


def plain_id(item: pytest.Item) -> str:
    """Return the id that pytest knows a test by, without any group."""
    return item.nodeid.removesuffix(_suffix(item)) if are_used(item.config) else item.nodeid


def _suffix(item: pytest.Item) -> str:
    """Return what pytest-xdist appends to the id of a test that has a group."""
    groups = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers(GROUP)
    }
    return f"@{'_'.join(sorted(groups))}" if groups else ""


def rename(items: Iterable[pytest.Item], *, grouped: bool) -> None:
    """Give tests their ids with the group, as pytest-xdist does, or those that pytest knows.

    With pytest 9.2, pytest-xdist 3.8 appends groups in vain, and groups nothing
    (https://github.com/pytest-dev/pytest-xdist/issues/1386): these tests stay together.
    """
    for item in items:
        _set_id(item, plain_id(item) + (_suffix(item) if grouped else ""))


def _set_id(item: pytest.Item, nodeid: str) -> None:
    """Give a test another id; one that pytest does not let us rename keeps its own."""
    if item.nodeid == nodeid:
        return
    node: Any = item
    try:
        # Since pytest 9.2 an id is an object of its own.
        node._id = type(node._id).parse(nodeid)
    except AttributeError:
        node._nodeid = nodeid
