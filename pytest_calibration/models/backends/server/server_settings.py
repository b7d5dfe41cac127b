"""How a served model is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pytest_calibration.errors import UsageError
from pytest_calibration.models.settings import BackendSettings


@dataclass(frozen=True)
class ServerSettings(BackendSettings):
    """How a served model is asked.

    Attributes:
        concurrency: most requests that wait for an answer at one time.
        patience: seconds in which a request must be answered, all tries together.
        tokenizer: where the model's tokenizer lies; None for where the server says it lies.
        tokenizer_arguments: passed to ``from_pretrained`` of the tokenizer as they are.
        trust_remote_code: run Python code that is part of a tokenizer.
        temperature: refused, unless it is 1: only a checkpoint's logits can be divided by it.

    Raises:
        UsageError: a value of another type or out of range.
    """

    concurrency: int = 16
    patience: float = 300.0
    tokenizer: str | None = None
    tokenizer_arguments: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    temperature: float = 1.0

    FOLDERS: ClassVar[frozenset[str]] = frozenset({"tokenizer"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.concurrency <= 1024:
            raise UsageError(f"concurrency must be between 1 and 1,024, got {self.concurrency}.")
        if not 0 < self.patience < math.inf:
            raise UsageError(
                f"patience must be a finite number of seconds above 0, got {self.patience:g}."
            )
