"""Hugging Face causal language models, scored with torch.

Light, needing no torch:

``loading_settings``
    how a checkpoint is loaded and scored.
``identity``, ``checkpoint_files``, ``hub``, ``environment``
    what a checkpoint is, by content: its files, commits of the hub, libraries and hardware.

With torch:

``transformers_model``
    a model in memory: tokenising, windows, greedy continuation.
``reading``
    from a checkpoint on disk to weights in memory.
``rows``
    a sequence, the positions in it that are read, and their scores.
``scorer``
    rows to scores within a budget of tokens; chooses one of the two paths below.
``shared_path``, ``sharing``, ``attention``
    tokens that several rows begin with are computed once, in packed passes.
``plain_path``
    rows side by side, right for every causal model.
``vocabulary``
    the soft-max over the vocabulary at the positions that are read.
``onednn``
    float32 products on processors that torch's usual library does not use fully.
``threads``
    how torch's threads wait for each other.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends import Identity, ModelSpec, require
from pytest_calibration.models.backends.transformers.environment import current_environment
from pytest_calibration.models.backends.transformers.identity import identify_checkpoint
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.threads import patient_threads
from pytest_calibration.models.digests import Digest

if TYPE_CHECKING:
    from pytest_calibration.models.backends.transformers.transformers_model import (
        TransformersModel,
    )
    from pytest_calibration.models.cache import Cache

KINDS = (
    "a directory that holds a checkpoint or an adapter, or a hub id (name, owner/name, "
    "owner/name@revision)"
)
Settings = TransformersSettings
# ``http:``, and no drive of Windows.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def parse(text: str) -> ModelSpec | None:
    """Return the spec of a directory or a hub id; None for what looks like neither.

    Raises:
        UsageError: a path that does not exist, a file, or half a revision.
    """
    if os.path.isdir(text):
        return ModelSpec(text, local=True)
    if os.path.exists(text):
        raise UsageError(
            f"model {text!r} is a file; pass the directory that holds config.json or "
            "adapter_config.json."
        )
    if _SCHEME.match(text):
        return None
    location, at, revision = text.rpartition("@")
    if not at:
        location, revision = text, ""
    elif not location or not revision:
        side = "after" if location else "before"
        raise UsageError(f"model {text!r}: nothing stands {side} the '@'; write id@revision.")
    if at and os.path.isdir(location):
        raise UsageError(
            f"model {text!r}: {location!r} is a directory, and only the hub has revisions; leave "
            f"out @{revision}."
        )
    # A hub id is `name` or `owner/name`.
    if location.startswith(("/", "./", "../", "~")) or location.count("/") > 1 or "\\" in location:
        raise UsageError(f"model {text!r}: there is no such directory.")
    return ModelSpec(location, revision or None)


def check_installed() -> None:
    """Raise MissingExtra where torch or transformers is not installed."""
    require("torch", "hf")
    require("transformers", "hf")


def identify(spec: ModelSpec, settings: TransformersSettings, cache: Cache | None) -> Identity:
    """Identify a checkpoint by content; see :class:`~pytest_calibration.models.backends.Backend`.

    Without a cache, what lies on the hub counts by id and revision, and nothing is asked of it.
    """
    checkpoint = identify_checkpoint(spec, settings, cache, hub=cache is not None)
    key = None
    if cache is not None and checkpoint.exact:
        key = Digest(
            current_environment(),
            checkpoint.digest,
            settings.device,
            settings.trust_remote_code,
            settings.safetensors_only,
            # It is part of the description.
            spec.revision,
        ).bytes()
    return Identity(checkpoint.digest, key, checkpoint.unchanged)


def load(spec: ModelSpec, settings: TransformersSettings) -> TransformersModel:
    """Load a checkpoint; see :class:`~pytest_calibration.models.backends.Backend`."""
    with patient_threads():
        from pytest_calibration.models.backends.transformers.transformers_model import (
            TransformersModel,
        )
    return TransformersModel.load(spec, settings)
