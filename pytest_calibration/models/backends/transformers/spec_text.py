"""The text that names a directory, or a model of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.hub import is_kept
from pytest_calibration.models.places import begins_in, can_only_be_path, shown, what_is_there

# ``http:`` and ``module:name``, and no drive of Windows.
_SCHEME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_+.-]+:")


def parse(text: str) -> ModelSpec | None:
    """Return the spec of a directory or a hub id; None for what looks like neither.

    Raises:
        UsageError: a path that does not exist, a file, or half a revision.
    """
    if os.path.isdir(text):
        return ModelSpec(text, local=True)
    if os.path.exists(text):
        raise UsageError(
            f"model {shown(text)} is a file; pass the directory that holds config.json or "
            "adapter_config.json."
        )
    if _SCHEME.match(text):
        return None
    location, at, revision = text.rpartition("@")
    if not at:
        location, revision = text, ""
    elif not location or not revision:
        side = "after" if location else "before"
        raise UsageError(f"model {shown(text)}: nothing stands {side} the '@'; write id@revision.")
    if at and os.path.isdir(location):
        raise UsageError(
            f"model {shown(text)}: {location!r} is a directory, and only the hub has revisions; "
            f"leave out @{revision}."
        )
    if can_only_be_path(location):
        raise UsageError(f"model {shown(text)}: {what_is_there(location)}.")
    # With a revision it is of the hub.
    if not at and begins_in(location, Path()) and not is_kept(location):
        raise UsageError(
            f"model {shown(text)}: {what_is_there(location)}; where the hub's model of this name "
            "is meant, write its revision, too (@main)."
        )
    return ModelSpec(location, revision or None)
