"""The files that hold a checkpoint's weights: which are read, and what they say of themselves."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import read_json
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings

_WHOLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"(?:pytorch_)?model(?:\.[\w-]+)?-\d+-of-\d+\.(?:safetensors|bin)")
# How safetensors writes the types that matter here.
_TYPES: Final = {
    **{f"int{n}": f"I{n}" for n in (8, 16, 32, 64)},
    **{f"uint{n}": f"U{n}" for n in (8, 16, 32, 64)},
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
# Bytes; no header of safetensors may be larger.
_LONGEST_HEADER: Final = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """What a file says of one tensor.

    Attributes:
        dtype: as safetensors writes it, such as ``BF16`` or ``F8_E4M3``.
        shape: numbers of elements along each dimension.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def check_weight_files(spec: ModelSpec, settings: TransformersSettings) -> list[str]:
    """Look at the weights of a checkpoint directory before they are read.

    Returns:
        Sentences on files that are not read.

    Raises:
        ModelError: it holds two sets of weights, or a tensor twice, or an index names pickled
            weights that are not allowed.
    """
    if not spec.local:
        return []
    folder, variant = Path(spec.location), _variant(settings)
    whole, index = _with_variant(_WHOLE, variant), _with_variant(_INDEX, variant)
    indexed = index_names(folder / index)
    if settings.safetensors_only:
        check_safetensors(spec, index, indexed)
    beside = sorted(file.name for file in folder.glob("*model*") if _SHARD.fullmatch(file.name))
    if not (folder / whole).is_file():
        _check_once(spec, [folder / name for name in sorted(indexed)])
        stray = [name for name in beside if indexed and name not in indexed]
        return _unread(stray, f"{index} does not name") if stray else []
    shards = [
        name
        for name in sorted({*indexed, *beside})
        if name != whole and name.endswith(".safetensors") and (folder / name).is_file()
    ]
    if shards:
        raise ModelError(
            f"{spec.name}: holds {whole} and {len(shards)} shards (first: {shards[0]}), two sets "
            f"of weights of which only {whole} would be read; remove the set that is out of date."
        )
    newer = [name for name in ("pytorch_model.bin", *beside) if _newer(folder / name, whole)]
    return _unread(newer, f"are newer than {whole}") if newer else []


def _check_once(spec: ModelSpec, shards: list[Path]) -> None:
    """Raise ModelError if two shards hold the same tensor, of which the last would be read."""
    seen: dict[str, Path] = {}
    for shard in shards:
        for name, _ in _header(shard):
            if name in seen:
                raise ModelError(
                    f"{spec.name}: the tensor {name[:80]} lies in {seen[name].name} and in "
                    f"{shard.name}, so one of them is out of date; save the model again with "
                    "save_pretrained."
                )
            seen[name] = shard


def check_adapter_files(spec: ModelSpec) -> list[str]:
    """Return sentences on weights in an adapter's directory that are not read."""
    folder = Path(spec.location)
    used = "adapter_model.safetensors"
    unread = [name for name in (_WHOLE, _INDEX) if (folder / name).is_file()]
    notes = _unread(unread, "lie beside the adapter") if unread else []
    if _newer(folder / "adapter_model.bin", used):
        notes += _unread(["adapter_model.bin"], f"are newer than {used}")
    return notes


def check_safetensors(spec: ModelSpec, index: str, names: Iterable[str]) -> None:
    """Raise ModelError if an index names weights that are pickled."""
    pickled = sorted(name for name in names if not name.endswith(".safetensors"))
    if pickled:
        raise ModelError(
            f"{spec.name}: {index} names {pickled[0][:80]!r}, which is no safetensors file; "
            "pickled weights can run code, so they are read only where calibration.yaml says "
            "model: {safetensors_only: false}."
        )


def index_names(index: Path) -> set[str]:
    """Return the files that an index of shards names; none where it cannot be read."""
    named = read_json(index).get("weight_map")
    return {str(name) for name in named.values()} if isinstance(named, dict) else set()


def stored_tensors(spec: ModelSpec, settings: TransformersSettings) -> dict[str, StoredTensor]:
    """Return what the files of a checkpoint directory say of their tensors, by name."""
    if not spec.local:
        return {}
    folder, variant = Path(spec.location), _variant(settings)
    kinds = [(_WHOLE, _INDEX)]
    if not settings.safetensors_only:
        kinds.append(("pytorch_model.bin", "pytorch_model.bin.index.json"))
    for whole, index in kinds:
        file = folder / _with_variant(whole, variant)
        names = index_names(folder / _with_variant(index, variant))
        files = [file] if file.is_file() else [folder / name for name in sorted(names)]
        if files:
            return {
                name: tensor
                for one in files
                for name, tensor in (_header if one.suffix == ".safetensors" else _pickled)(one)
            }
    return {}


def _header(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield name and description of each tensor of a file; nothing where it cannot be read."""
    if not file.is_file():
        return
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header: Any = json.loads(opened.read(size)) if size <= _LONGEST_HEADER else {}
        for name, one in header.items():
            if name != "__metadata__":
                yield name, StoredTensor(str(one["dtype"]), tuple(map(int, one["shape"])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Loading meets the same damage and reports it.
        return


def _pickled(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the same of a pickled file, without reading the numbers; only where it is allowed."""
    import torch

    content: Any = {}
    # The library may raise anything; loading meets it again and reports it.
    with contextlib.suppress(Exception):
        content = torch.load(file, map_location="meta", weights_only=True, mmap=True)
    for name, one in content.items() if isinstance(content, dict) else ():
        if isinstance(one, torch.Tensor):
            dtype = str(one.dtype).removeprefix("torch.")
            yield str(name), StoredTensor(_TYPES.get(dtype, dtype.upper()), tuple(one.shape))


def _variant(settings: TransformersSettings) -> str | None:
    variant = settings.arguments.get("variant")
    return variant if isinstance(variant, str) else None


def _with_variant(name: str, variant: str | None) -> str:
    stem, _, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{ending}"


def _newer(file: Path, name: str) -> bool:
    """Whether a file is newer than another of its folder; both must be there."""
    try:
        return file.stat().st_mtime_ns > file.with_name(name).stat().st_mtime_ns
    except OSError:
        return False


def _unread(names: list[str], why: str) -> list[str]:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"weights that {why} are not read: {names[0]}{more}"]
