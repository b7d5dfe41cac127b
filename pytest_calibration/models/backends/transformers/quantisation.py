"""How the weights of a model in memory are quantised, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

# Libraries whose layers or tensors a model bears that was quantised in memory.
_LIBRARIES: Final = ("bitsandbytes", "hqq", "optimum.quanto", "torch.ao", "torchao")
_BITS: Final = {"load_in_4bit": 4, "load_in_8bit": 8}


def quantised_by(model: torch.nn.Module) -> str:
    """Return what quantised a model, and to how many bits where that is told; empty for none."""
    config: Any = getattr(getattr(model, "config", None), "quantization_config", None)
    if config is None:
        parts = (*model.modules(), *model.parameters())
        places = {type(part).__module__ for part in parts}
        return next((n for n in _LIBRARIES if any(p.startswith(f"{n}.") for p in places)), "")
    known: Mapping[str, Any] = config if isinstance(config, Mapping) else vars(config)
    method = known.get("quant_method", "unknown method")
    # Settings with a default are kept with a line before their names.
    told = (n for key, n in _BITS.items() if known.get(key) or known.get(f"_{key}"))
    bits = next(told, known.get("bits"))
    return f"{getattr(method, 'value', method)}" + (f" to {bits} bits" if bits else "")
