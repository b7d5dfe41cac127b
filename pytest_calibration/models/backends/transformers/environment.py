"""What besides a checkpoint its answers depend on: libraries and hardware; imports none of them."""

from __future__ import annotations

import contextlib
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
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def accelerators(root: Path = Path("/")) -> list[str]:
    """Return the accelerators that can be seen, so that machines do not share each other's answers.

    Args:
        root: where ``dev`` and ``proc`` are looked for.
    """
    # Kinds, not counts: cards of one kind compute the same numbers.
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
    drivers = {match[1] for match in map(_DEVICES.fullmatch, names) if match}
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
