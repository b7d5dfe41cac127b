"""Whether the weights in memory are those of a checkpoint.

The Trainer of transformers reads a checkpoint back with ``load_state_dict(..., strict=False)``, by
the names in the file. Where a family saves a weight under another name than its module has
(GPT-NeoX: ``embed_out`` and ``lm_head``), that weight silently stays what it was
(huggingface/transformers#43701). ``from_pretrained`` knows both names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from pytest_calibration.models.backends.transformers.reading import quiet
from pytest_calibration.training.undisturbed import random_state_kept

WHOLE: Final = tuple(
    f"{stem}{ending}"
    for stem in ("model.safetensors", "pytorch_model.bin")
    for ending in ("", ".index.json")
)
ADAPTER: Final = ("adapter_model.safetensors", "adapter_model.bin")
_NAMED: Final = 3


class Differing(NamedTuple):
    """Weights in memory that are not those of a checkpoint.

    Attributes:
        by: name of each, and by how much it differs at most; infinite where the checkpoint has none
            of that name and shape.
        compared: number of weights in memory.
    """

    by: dict[str, float]
    compared: int

    def __str__(self) -> str:
        names = ", ".join(sorted(self.by)[:_NAMED])
        more = "" if len(self.by) <= _NAMED else ", ..."
        largest = max(self.by.values(), default=0.0)
        count = f"{len(self.by)} of {self.compared} weights differ"
        return f"{count} ({names}{more}; by up to {largest:.2g})"


def differing_weights(model: Any, checkpoint: Path) -> Differing:
    """Return the weights in memory that are not those of a checkpoint.

    One more copy of the weights is held meanwhile, in the memory of the CPU, as the Trainer holds
    one when it reads a checkpoint back.

    Args:
        model: a model of transformers, or of peft around one.
        checkpoint: a folder that the Trainer saved; one without weights has nothing to compare.
    """
    with quiet(), random_state_kept():
        sides = _adapter if hasattr(model, "peft_config") else _whole
        memory, saved = sides(model, checkpoint)
        return Differing(dict(_differences(memory, saved)), len(memory))


def _whole(model: Any, checkpoint: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if not any((checkpoint / name).is_file() for name in WHOLE):
        return {}, {}
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    # float32 holds the types of half the size exactly.
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return model.state_dict(), type(model).from_pretrained(checkpoint, dtype=dtype).state_dict()


def _adapter(model: Any, checkpoint: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from peft import get_peft_model_state_dict, load_peft_weights

    name = model.active_adapters[0]
    folders = [
        f for f in (checkpoint, checkpoint / name) if any((f / a).is_file() for a in ADAPTER)
    ]
    if not folders:
        return {}, {}
    memory = get_peft_model_state_dict(model, adapter_name=name)
    return memory, load_peft_weights(str(folders[0]), device="cpu")


def _differences(
    memory: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, float]]:
    for name, weight in memory.items():
        other = saved.get(name)
        if other is None or other.shape != weight.shape:
            yield name, float("inf")
            continue
        here = weight.detach().cpu()
        there = other.to(here.dtype)
        if not torch.equal(here, there):
            yield name, float((here.double() - there.double()).abs().max())
