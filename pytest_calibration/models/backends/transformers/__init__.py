"""Hugging Face causal language models, scored with torch. Only these modules import torch.

``model``
    what probes ask, as rows of tokens: tokenising, windows, greedy continuation.
``reading``
    from a checkpoint on disk to weights in memory.
``rows``
    a sequence and the positions in it that are read; what is said there.
``sharing``
    rows as a forest: tokens that several rows begin with are computed once.
``scorer``
    rows to scores, within a budget of tokens; which of the two paths is taken, and why.
``shared_path``, ``plain_path``
    packed passes over the forest; rows side by side, for a model whose attention is its own.
``attention``
    a packed pass through a model: each token attends to its own row and to what that row shares.
``vocabulary``
    the soft-max over the vocabulary at the positions that are read.
``onednn``
    float32 products on processors that torch's usual library does not use fully.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_calibration.models.backends.transformers.model import TransformersModel

__all__ = ["TransformersModel"]


def __getattr__(name: str) -> Any:
    """Import torch and transformers when the model class is first asked for, not before."""
    if name != "TransformersModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_calibration.models.backends.transformers.model import TransformersModel

    return TransformersModel
