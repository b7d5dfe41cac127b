"""What a checkpoint is, by content, found out before it is loaded and without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import (
    FileState,
    checkpoint_files,
    file_digest,
    read_json,
)
from pytest_calibration.models.backends.transformers.hub import snapshot
from pytest_calibration.models.backends.transformers.layers import (
    Layer,
    hub_access,
    layers,
)
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.digests import Digest

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache


@dataclass(frozen=True)
class CheckpointIdentity:
    """What a checkpoint and its settings are.

    Attributes:
        digest: the same for the same content; hexadecimal.
        exact: whether the same digest means the same answers; not so where something is known by
            name alone (a branch of the hub) or by an address in memory.
        files: the files that were read, as they were then.
        digests: of the contents of these files, in their order.
        folders: each directory with the subfolders that count, and the names of its files.
    """

    digest: str
    exact: bool
    files: tuple[FileState, ...] = ()
    digests: tuple[str, ...] = ()
    folders: tuple[tuple[Path, tuple[str, ...], frozenset[str]], ...] = ()

    def unchanged(self) -> bool:
        """Whether no file was changed since, and none was added until this is first asked."""
        return all(file.unchanged() for file in self.files) and self._unchanged_by_loading

    @cached_property
    def _unchanged_by_loading(self) -> bool:
        """Whether what a file system does not tell was the same as well, after loading."""
        try:
            return all(
                {name for name, _ in checkpoint_files(folder, subfolders)} == names
                for folder, subfolders, names in self.folders
            ) and all(
                file.tells_changes or file_digest(file.asked)[0] == digest
                for file, digest in zip(self.files, self.digests, strict=False)
            )
        except OSError:
            return False


def identify_checkpoint(
    spec: ModelSpec,
    settings: TransformersSettings,
    cache: Cache | None = None,
    *,
    hub: bool = False,
) -> CheckpointIdentity:
    """Identify weights, configuration, tokenizer and adapter by content, and the settings.

    An adapter counts with the model under it. What lies on the hub counts by id and revision.

    Args:
        spec: the checkpoint.
        settings: how it is loaded.
        cache: where digests of unchanged files are kept.
        hub: whether to find the commits that hub ids stand for, and count these too.

    Raises:
        ModelError: an adapter names no base, or there is no such subfolder.
        OSError: a file cannot be read.
    """
    parts = _Parts(settings, cache)
    for arguments in (settings.arguments, settings.tokenizer_arguments):
        parts.digest.add(dict(arguments))
        parts.exact &= not any(_names_a_place(key, value) for key, value in arguments.items())
    parts.digest.add(settings.dtype)
    if settings.temperature != 1:
        parts.digest.add(["temperature", float(settings.temperature)])
    top, *below = layers(spec, settings, hub=hub)
    parts.add(top)
    for layer in below:
        parts.add(layer)
    if not below:
        parts.digest.add(None)
    if settings.tokenizer is not None:
        local = os.path.isdir(settings.tokenizer)
        folder = None
        if hub and not local:
            folder = snapshot(settings.tokenizer, None, **hub_access(settings))
        parts.add(Layer(settings.tokenizer, local=local, copy=str(folder or "")))
    exact = parts.exact and parts.digest.stable
    return CheckpointIdentity(
        parts.digest.text(), exact, tuple(parts.files), tuple(parts.digests), tuple(parts.folders)
    )


class _Parts:
    """Collects what an identity is made of."""

    def __init__(self, settings: TransformersSettings, cache: Cache | None) -> None:
        self.digest = Digest(size=16)
        self.exact = True
        self.files: list[FileState] = []
        self.digests: list[str] = []
        self.folders: list[tuple[Path, tuple[str, ...], frozenset[str]]] = []
        self._settings = settings
        self._cache = cache

    def add(self, layer: Layer) -> None:
        """Add a directory by content, a hub id by name and, where it is known, commit."""
        if layer.local:
            self._add_folder(Path(layer.root or layer.location))
            return
        self.digest.add(layer.text)
        if layer.copy:
            self.digest.add(Path(layer.copy).name)
            self._check_code(Path(layer.copy))
        else:
            self.exact = False

    def _add_folder(self, folder: Path) -> None:
        settings = self._settings
        subfolders = tuple(
            name for name in (settings.subfolder, settings.tokenizer_subfolder) if name
        )
        names = dict(checkpoint_files(folder, subfolders))
        self.folders.append((folder.absolute(), subfolders, frozenset(names)))
        for name, file in names.items():
            digest, state = file_digest(file, self._cache)
            self.files.append(state)
            self.digests.append(digest)
            self.digest.add([name, digest])
        for place in (folder, *(folder / name for name in subfolders)):
            self._check_code(place)

    def _check_code(self, folder: Path) -> None:
        """Note code that a checkpoint takes from another repository, at any commit."""
        if self._settings.trust_remote_code:
            configs = (read_json(folder / n) for n in ("config.json", "tokenizer_config.json"))
            if any("--" in json.dumps(config.get("auto_map")) for config in configs):
                self.exact = False


# Arguments of text that stand for no weights, nor for code.
_NO_PLACES: Final = frozenset(
    {"subfolder", "cache_dir", "token", "id2label", "label2id"}
    | {"device_map", "max_memory", "offload_folder"}
)


def _names_a_place(key: str, value: object) -> bool:
    """Whether an argument stands for a file, or something on the hub, that may change."""
    if key in _NO_PLACES:
        return False
    if isinstance(value, Mapping):
        return any(_names_a_place(str(name), one) for name, one in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_names_a_place("", one) for one in value)
    if isinstance(value, PurePath):
        return True
    return isinstance(value, str) and ("/" in value or "\\" in value or os.path.exists(value))
