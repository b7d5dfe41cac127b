"""Hugging Face causal language models and classifiers, scored with torch.

Light, needing no torch:

``loading_settings``
    how a checkpoint is loaded and scored.
``spec_text``, ``layers``
    what a spec stands for: a directory or a hub id; a checkpoint, or adapters on one.
``weight_files``
    the files that hold weights: which are read, and what their headers say.
``identity``, ``checkpoint_files``, ``hub``, ``environment``
    what a checkpoint is, by content: its files, commits of the hub, libraries and hardware.

With torch:

``in_memory``, ``choosing``
    what all models in memory have, and which class asks a model.
``transformers_model``
    a causal language model, asked as ``models.causal`` asks one.
``classifier_models``
    classifiers of texts and of words, reward models.
``reading``, ``kinds``, ``adapters``
    from a checkpoint on disk to weights in memory.
``used_weights``, ``foreign_code``
    weights that a model would not use, and code that it would bring along.
``quantisation``
    how the weights of a model in memory are quantised, in words.
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

from typing import TYPE_CHECKING

from pytest_calibration.extras import require
from pytest_calibration.models.backends import Identity, ModelSpec
from pytest_calibration.models.backends.transformers.environment import current_environment
from pytest_calibration.models.backends.transformers.identity import identify_checkpoint
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.spec_text import parse
from pytest_calibration.models.backends.transformers.threads import patient_threads
from pytest_calibration.models.digests import Digest

if TYPE_CHECKING:
    from pytest_calibration.models.backends.transformers.in_memory import ModelInMemory
    from pytest_calibration.models.cache import Cache

__all__ = ["KINDS", "Settings", "check_installed", "identify", "load", "parse"]

KINDS = (
    "a directory that holds a checkpoint or an adapter, or a hub id (name, owner/name, "
    "owner/name@revision)"
)
Settings = TransformersSettings


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


def load(spec: ModelSpec, settings: TransformersSettings) -> ModelInMemory:
    """Load a checkpoint; see :class:`~pytest_calibration.models.backends.Backend`."""
    with patient_threads():
        from pytest_calibration.models.backends.transformers.choosing import load_checkpoint
    return load_checkpoint(spec, settings)
