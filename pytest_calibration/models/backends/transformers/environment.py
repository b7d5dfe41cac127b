"""What besides a checkpoint decides its answers: libraries and hardware, none of them imported."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Final

# Packages whose code computes, reads weights or makes tokens.
PACKAGES: Final = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "accelerate",
    "bitsandbytes",
    "compressed-tensors",
    "flash-attn",
    "gguf",
    "gptqmodel",
    "hqq",
    "kernels",
    "optimum",
    "sentencepiece",
    "tiktoken",
    "torchao",
    "triton",
)
# Which accelerators a process may see.
VISIBLE: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_DEVICES: Final = re.compile(r"(nvidia|kfd|dxg)\d*")


def current_environment() -> dict[str, object]:
    """Return what two runs must have in common to get the same numbers from one checkpoint."""
    return {
        "packages": versions(),
        "machine": f"{platform.system()} {platform.machine()}",
        "accelerators": accelerators(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def accelerators(root: Path = Path("/")) -> list[str]:
    """Name the accelerators that can be seen, so that no machine serves another's numbers.

    Args:
        root: where ``dev`` and ``proc`` are looked for.
    """
    # Kinds, not counts: which of several cards of one kind computes changes no number.
    cards = {
        line.partition(":")[2].strip()
        for file in (root / "proc/driver/nvidia/gpus").glob("*/information")
        for line in _text(file).splitlines()
        if line.startswith("Model:")
    }
    try:
        names = os.listdir(root / "dev")
    except OSError:
        names = []
    drivers = {found[1] for found in map(_DEVICES.fullmatch, names) if found}
    windows = os.environ.get("SYSTEMROOT")
    if windows and (Path(windows) / "System32" / "nvcuda.dll").is_file():
        drivers.add("nvcuda")
    if not (cards or drivers):
        return []
    out = [*sorted(cards), *sorted(drivers), _text(root / "proc/driver/nvidia/version")]
    for name in VISIBLE:
        value = os.environ.get(name)
        if value is not None:
            hidden = value.strip() in ("", "-1")
            out.append(f"{name}={'none' if hidden else value if len(cards) > 1 else 'some'}")
    return out


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
