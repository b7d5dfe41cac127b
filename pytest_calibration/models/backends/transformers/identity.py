"""What a checkpoint is, by content, found out before it is loaded and without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.errors import ModelError
from pytest_calibration.files import read_text
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import (
    FileState,
    checkpoint_files,
    file_digest,
    pointers,
)
from pytest_calibration.models.backends.transformers.hub import adapter_file, snapshot
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.digests import Digest

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache

# Bytes of a configuration in JSON.
MOST_JSON: Final = 1 << 24


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
        ModelError: an adapter names no base.
        OSError: a file cannot be read.
    """
    parts = _Parts(settings, cache, hub)
    for arguments in (settings.arguments, settings.tokenizer_arguments):
        parts.digest.add(dict(arguments))
        parts.exact &= not any(_names_a_place(key, value) for key, value in arguments.items())
    parts.digest.add(settings.dtype)
    parts.add(spec)
    parts.add(adapter_base(spec))
    if settings.tokenizer is not None:
        parts.add(ModelSpec(settings.tokenizer, local=os.path.isdir(settings.tokenizer)))
    exact = parts.exact and parts.digest.stable
    return CheckpointIdentity(
        parts.digest.text(), exact, tuple(parts.files), tuple(parts.digests), tuple(parts.folders)
    )


def adapter_base(spec: ModelSpec) -> ModelSpec | None:
    """Return the spec of the model that an adapter directory was trained on; None for no adapter.

    A path may be relative to the working directory or to the adapter.

    Raises:
        ModelError: the adapter names no model, or a path where there is none.
    """
    adapter = Path(spec.location) / "adapter_config.json"
    if not spec.local or not adapter.is_file():
        return None
    base, revision = _base_of(adapter)
    if base is None or not base.strip():
        refuse_pointers(spec, (adapter.name,))
        raise ModelError(
            f"{adapter}: names no base_model_name_or_path; write the hub id or the directory of "
            "the model it was trained on."
        )
    for folder in (Path(base), Path(spec.location) / base):
        if os.path.isdir(folder):
            return ModelSpec(str(folder), local=True, name=spec.name)
    if Path(base).is_absolute() or base.startswith("."):
        raise ModelError(f"{adapter}: its base model {base!r} is not there.")
    return ModelSpec(base, revision, name=spec.name)


def refuse_pointers(spec: ModelSpec, names: Collection[str] | None = None) -> None:
    """Raise ModelError where files of a checkpoint are pointers of Git LFS.

    Args:
        spec: the checkpoint.
        names: the files that matter; all by default.
    """
    if not spec.local:
        return
    found = [n for n in pointers(Path(spec.location)) if names is None or n in names]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ModelError(
            f"{spec.location!r}: {found[0]}{more}: a pointer of Git LFS, not the file itself; "
            "fetch the files: git lfs pull."
        )


def _base_of(adapter: Path) -> tuple[str | None, Any]:
    """Return base model and its revision of an adapter configuration; None where it names none."""
    config = _json(adapter)
    base = config.get("base_model_name_or_path")
    return (base if isinstance(base, str) else None), config.get("revision")


def _json(file: Path) -> dict[str, Any]:
    """Return a JSON object in a file; an empty one where it cannot be read."""
    try:
        content = json.loads(read_text(file, MOST_JSON, ModelError))
    except (ModelError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class _Parts:
    """Collects what an identity is made of."""

    def __init__(self, settings: TransformersSettings, cache: Cache | None, hub: bool) -> None:
        self.digest = Digest(size=16)
        self.exact = True
        self.files: list[FileState] = []
        self.digests: list[str] = []
        self.folders: list[tuple[Path, tuple[str, ...], frozenset[str]]] = []
        self._settings = settings
        self._cache = cache
        self._hub = hub

    def add(self, place: ModelSpec | None) -> None:
        """Add a directory by content, a hub id by name and, where wanted, commit."""
        if place is None:
            self.digest.add(None)
        elif place.local:
            self._add_folder(Path(place.location))
        else:
            self.digest.add(place.text)
            self._add_commit(place)

    def _add_folder(self, folder: Path) -> None:
        settings = self._settings
        named = [a.get("subfolder") for a in (settings.arguments, settings.tokenizer_arguments)]
        subfolders = tuple(name for name in named if isinstance(name, str) and name)
        names = dict(checkpoint_files(folder, subfolders))
        self.folders.append((folder.absolute(), subfolders, frozenset(names)))
        for name, file in names.items():
            digest, state = file_digest(file, self._cache)
            self.files.append(state)
            self.digests.append(digest)
            self.digest.add([name, digest])
        self._check_code(folder)

    def _add_commit(self, place: ModelSpec, depth: int = 0) -> None:
        options = {
            key: value
            for key, value in self._settings.arguments.items()
            if key in ("cache_dir", "token", "local_files_only")
        }
        folder = self._hub and snapshot(place.location, place.revision, **options)
        # An adapter on an adapter is as deep as any goes.
        if not folder or depth > 1:
            self.exact = False
            return
        self.digest.add(folder.name)
        self._check_code(folder)
        adapter = adapter_file(place.location, folder, **options)
        if adapter is None:
            return
        base, revision = _base_of(adapter)
        if base is None or not isinstance(revision, str | None):
            self.exact = False
        elif os.path.isdir(base):
            self._add_folder(Path(base))
        else:
            # Loading may take the adapter's revision or the default of the base: both count.
            for one in dict.fromkeys((revision, None)):
                self.digest.add([base, one])
                self._add_commit(ModelSpec(base, one), depth + 1)

    def _check_code(self, folder: Path) -> None:
        """Note code that a checkpoint takes from another repository, at any commit."""
        if self._settings.trust_remote_code:
            configs = (_json(folder / n) for n in ("config.json", "tokenizer_config.json"))
            if any("--" in json.dumps(config.get("auto_map")) for config in configs):
                self.exact = False


def _names_a_place(key: str, value: object) -> bool:
    """Whether an argument stands for a file, or something on the hub, that may change."""
    if key in ("subfolder", "cache_dir", "token"):
        return False
    if isinstance(value, Mapping):
        return any(_names_a_place(str(name), one) for name, one in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_names_a_place("", one) for one in value)
    if isinstance(value, PurePath):
        return True
    return isinstance(value, str) and ("/" in value or "\\" in value or os.path.exists(value))
