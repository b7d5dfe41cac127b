"""What is known of a checkpoint before it is loaded: settings, adapter base, fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import MissingExtra, ModelError, UsageError
from pytest_calibration.models.spec import ModelSpec

BATCH_TOKENS: Final = 2048
DEVICES: Final = ("auto", "cpu", "cuda", "mps")
_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps)(:\d+)?")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
_CONTENT: Final = frozenset({".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".py"})


@dataclass(frozen=True)
class LoadSettings:
    """How models are loaded and scored.

    Attributes:
        device: ``cpu``, ``cuda`` (``cuda:1``), ``mps``, or ``auto`` for the best there is.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_tokens: padded tokens per forward pass.
        tokenizer: where the tokenizer comes from, if not from the model.
        trust_remote_code: run Python code that a checkpoint brings along.
        safetensors_only: refuse pickled weights.
        arguments: passed to ``from_pretrained`` of the model as they are.
        threads: CPU threads of torch; None leaves torch's own choice.
        tokenizer_arguments: passed to ``from_pretrained`` of the tokenizer as they are.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int = BATCH_TOKENS
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
        if self.batch_tokens < 1:
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


def fingerprint(spec: ModelSpec, settings: LoadSettings) -> str:
    """Identify weights, configuration, tokenizer and adapter by content, and the settings.

    An adapter counts with the model under it. What lies on the hub counts by id and revision.
    """
    state = hashlib.blake2b(digest_size=16)
    state.update(
        repr(
            (
                settings.dtype,
                sorted(settings.arguments.items()),
                sorted(settings.tokenizer_arguments.items()),
            )
        ).encode()
    )
    base = adapter_base(spec)
    for place in (spec, base, settings.tokenizer):
        name = place.location if isinstance(place, ModelSpec) else place
        state.update(b"\0")
        if name is not None and Path(name).is_dir():
            _add_files(state, Path(name))
        else:
            state.update(repr(place.text if isinstance(place, ModelSpec) else place).encode())
    return state.hexdigest()


def _add_files(state: hashlib.blake2b, folder: Path) -> None:
    for file in sorted(p for p in folder.iterdir() if p.suffix in _CONTENT and p.is_file()):
        state.update(f"{file.name}:{file.stat().st_size}:".encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 22):
                state.update(block)
