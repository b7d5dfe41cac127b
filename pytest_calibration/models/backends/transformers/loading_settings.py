"""How checkpoints of Hugging Face are loaded and scored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pytest_calibration.errors import UsageError
from pytest_calibration.models.settings import BackendSettings

DEVICES: Final = ("auto", "cpu", "cuda", "mps")
_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps)(:\d+)?")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TransformersSettings(BackendSettings):
    """How a checkpoint is loaded and scored.

    Attributes:
        device: ``cpu``, ``cuda`` (``cuda:1``), ``mps``, or ``auto`` for the best there is.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_tokens: tokens per forward pass; None for what suits the device.
        tokenizer: where the tokenizer comes from, if not from the model.
        base: what adapters are loaded on, in place of the model that they name.
        trust_remote_code: run Python code that is part of a checkpoint.
        safetensors_only: refuse pickled weights.
        temperature: that the model is served at: its logits are divided by it before any soft-max.
        threads: CPU threads of torch; None leaves torch's own choice.
        replicas: how many processes of a Ray cluster load it; None for this process alone.
        arguments: passed to ``from_pretrained`` of the model as they are.
        tokenizer_arguments: passed to ``from_pretrained`` of the tokenizer as they are.

    Raises:
        UsageError: a value of another type or out of range.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    tokenizer: str | None = None
    base: str | None = None
    trust_remote_code: bool = False
    safetensors_only: bool = True
    temperature: float = 1.0
    threads: int | None = None
    replicas: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_arguments: Mapping[str, Any] = field(default_factory=dict)

    # A run divides the cores among its processes.
    NOT_IN_FILE: ClassVar[frozenset[str]] = frozenset({"threads"})
    FOLDERS: ClassVar[frozenset[str]] = frozenset({"tokenizer", "base"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"unknown device {self.device!r}; use one of {', '.join(DEVICES)}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"unknown dtype {self.dtype!r}; use one of {', '.join(DTYPES)}.")
        if not 0 < self.temperature < math.inf:
            raise UsageError(
                f"temperature must be a finite number above 0, got {self.temperature:g}; 1 leaves "
                "the model as it is."
            )
        for name in ("batch_tokens", "threads", "replicas"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}.")
        for name in ("arguments", "tokenizer_arguments"):
            value = getattr(self, name).get("subfolder")
            if not isinstance(value, str | None):
                raise UsageError(f"{name}: subfolder must be text, got {value!r}.")
        self._check_quantisation()

    def _check_quantisation(self) -> None:
        """Raise UsageError for what transformers takes for something else, or took once."""
        config = self.arguments.get("quantization_config", {})
        if not isinstance(config, Mapping) and not hasattr(config, "quant_method"):
            found = f"quantization_config: {config!r}"
        else:
            old = [n for n in ("load_in_8bit", "load_in_4bit") if n in self.arguments]
            found = ", ".join(f"{n}: {self.arguments[n]!r}" for n in old)
        if found:
            raise UsageError(
                f"arguments: {{{found:.80}}} is no quantisation that transformers knows; name the "
                "method with its settings: arguments: {quantization_config: {quant_method: "
                "bitsandbytes, load_in_8bit: true}}."
            )

    @property
    def subfolder(self) -> str:
        """Where in a directory or hub model the model lies; empty for at the top."""
        return str(self.arguments.get("subfolder") or "").strip("/")

    @property
    def tokenizer_subfolder(self) -> str:
        """Where the tokenizer lies; empty for where the model does, or else at the top."""
        return str(self.tokenizer_arguments.get("subfolder") or "").strip("/")
