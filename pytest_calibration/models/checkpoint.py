"""What is known of a checkpoint before it is loaded: settings, adapter base, fingerprint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.errors import MissingExtra, ModelError, UsageError
from pytest_calibration.models.digests import Digest, State, checkpoint_files, file_digest
from pytest_calibration.models.hub import adapter_file, snapshot
from pytest_calibration.models.spec import ModelSpec

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache

DEVICES: Final = ("auto", "cpu", "cuda", "mps")
_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps)(:\d+)?")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadSettings:
    """How models are loaded and scored.

    Attributes:
        device: ``cpu``, ``cuda`` (``cuda:1``), ``mps``, or ``auto`` for the best there is.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_tokens: tokens per forward pass; None for what suits the device.
        tokenizer: where the tokenizer comes from, if not from the model.
        trust_remote_code: run Python code that a checkpoint brings along.
        safetensors_only: refuse pickled weights.
        arguments: passed to ``from_pretrained`` of the model as they are.
        threads: CPU threads of torch; None leaves torch's own choice.
        tokenizer_arguments: passed to ``from_pretrained`` of the tokenizer as they are.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    safetensors_only: bool = True
    threads: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"unknown device {self.device!r}; use one of {', '.join(DEVICES)}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"unknown dtype {self.dtype!r}; use one of {', '.join(DTYPES)}.")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UsageError(f"batch tokens must be at least 1, got {self.batch_tokens}.")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}.")


def require(package: str, extra: str) -> None:
    """Check that an optional package is there without importing it.

    Raises:
        MissingExtra: it is not installed; the message holds the install command.
    """
    if find_spec(package) is None:
        raise MissingExtra(
            f"{package} is not installed, and this needs it: "
            f'pip install "pytest-calibration[{extra}]"'
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
    try:
        config = json.loads(adapter.read_text(encoding="utf-8"))
        named, revision = config["base_model_name_or_path"], config.get("revision")
    except (OSError, ValueError, KeyError, TypeError):
        named, revision = None, None
    if not isinstance(named, str) or not named.strip():
        raise ModelError(
            f"{adapter}: names no base_model_name_or_path; write the hub id or the directory of "
            "the model it was trained on."
        )
    for folder in (Path(named), Path(spec.location) / named):
        if folder.is_dir():
            return ModelSpec(str(folder), None, local=True, name=spec.name)
    if Path(named).is_absolute() or named.startswith("."):
        raise ModelError(f"{adapter}: its base model {named!r} is not there.")
    return ModelSpec(named, revision, local=False, name=spec.name)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint and its settings are.

    Attributes:
        digest: the same for the same content; hexadecimal.
        exact: whether the same digest means the same answers; not so where something is known by
            name alone (a branch of the hub) or has no name that lasts.
        files: the files that were read, as they were then.
    """

    digest: str
    exact: bool
    files: tuple[State, ...] = ()

    def holds(self) -> bool:
        """Whether no file was changed since."""
        try:
            return all(State.of(Path(file.path)) == file for file in self.files)
        except OSError:
            return False


def fingerprint(spec: ModelSpec, settings: LoadSettings) -> str:
    """Identify weights, configuration, tokenizer and adapter by content, and the settings.

    An adapter counts with the model under it. What lies on the hub counts by id and revision.
    """
    return identify(spec, settings).digest


def identify(
    spec: ModelSpec, settings: LoadSettings, memo: Cache | None = None, *, hub: bool = False
) -> Identity:
    """Identify a checkpoint as :func:`fingerprint` does, and say how far that can be relied on.

    Args:
        spec: the checkpoint.
        settings: how it is loaded.
        memo: where digests of unchanged files are kept.
        hub: whether to find the commits that hub ids stand for.

    Raises:
        ModelError: an adapter names no base.
        OSError: a file cannot be read.
    """
    asked = _Asked(settings, memo, hub)
    for arguments in (settings.arguments, settings.tokenizer_arguments):
        asked.state.add(dict(arguments))
        if any(_names_something(key, value) for key, value in arguments.items()):
            asked.exact = False
    asked.state.add(settings.dtype)
    asked.add(spec)
    asked.add(adapter_base(spec))
    tokenizer = settings.tokenizer
    if tokenizer is not None:
        local = Path(tokenizer).is_dir()
        asked.add(ModelSpec(tokenizer, None, local=local))
    return Identity(asked.state.text(), asked.exact and asked.state.stable, tuple(asked.files))


class _Asked:
    """Gathers what makes an identity."""

    def __init__(self, settings: LoadSettings, memo: Cache | None, hub: bool) -> None:
        self.state = Digest(size=16)
        self.exact = True
        self.files: list[State] = []
        self._settings = settings
        self._memo = memo
        self._hub = hub

    def add(self, place: ModelSpec | None) -> None:
        """Add a directory by content, a hub id by name and, where wanted, commit."""
        if place is None:
            self.state.add(None)
        elif place.local:
            self._add_folder(Path(place.location))
        else:
            self.state.add(place.text)
            self._add_commit(place)

    def _add_folder(self, folder: Path) -> None:
        settings = self._settings
        named = [a.get("subfolder") for a in (settings.arguments, settings.tokenizer_arguments)]
        subfolders = [name for name in named if isinstance(name, str) and name]
        for name, file in checkpoint_files(folder, subfolders):
            digest, state = file_digest(file, self._memo)
            self.files.append(state)
            self.state.add([name, digest])
        if settings.trust_remote_code and _code_elsewhere(folder):
            self.exact = False

    def _add_commit(self, place: ModelSpec, depth: int = 0) -> None:
        options = {
            key: value
            for key, value in self._settings.arguments.items()
            if key in ("cache_dir", "token", "local_files_only")
        }
        found = self._hub and snapshot(place.location, place.revision, **options)
        # An adapter on an adapter is as deep as any goes.
        if not found or depth > 1:
            self.exact = False
            return
        self.state.add(found.name)
        if self._settings.trust_remote_code and _code_elsewhere(found):
            self.exact = False
        adapter = adapter_file(place.location, found, **options)
        if adapter is None:
            return
        try:
            config = json.loads(adapter.read_text(encoding="utf-8"))
            base, revision = config["base_model_name_or_path"], config.get("revision")
        except (OSError, ValueError, KeyError, TypeError):
            base, revision = None, None
        if not isinstance(base, str) or not isinstance(revision, str | None):
            self.exact = False
        elif Path(base).is_dir():
            self._add_folder(Path(base))
        else:
            # Loading may take the adapter's revision or the default of the base: both count.
            for one in dict.fromkeys((revision, None)):
                self.state.add([base, one])
                self._add_commit(ModelSpec(base, one, local=False), depth + 1)


def _names_something(key: str, value: object) -> bool:
    """Whether an argument stands for a file, or something on the hub, that may change."""
    if key in ("subfolder", "cache_dir", "token"):
        return False
    if isinstance(value, Mapping):
        return any(_names_something(str(name), one) for name, one in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_names_something("", one) for one in value)
    if isinstance(value, PurePath):
        return True
    return isinstance(value, str) and ("/" in value or "\\" in value or Path(value).exists())


def _code_elsewhere(folder: Path) -> bool:
    """Whether a checkpoint takes code from another repository, at whatever commit."""
    for name in ("config.json", "tokenizer_config.json"):
        try:
            code = json.loads((folder / name).read_text(encoding="utf-8"))["auto_map"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if "--" in json.dumps(code):
            return True
    return False
