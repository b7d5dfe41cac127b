"""What a training costs: seconds of a processor, and sequences that pass forward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Cost:
    """Counts seconds of a processor, and sequences that pass forward through models."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.seconds = 0.0
        self.forward_passes = 0

    def watch(self, *watched: torch.nn.Module) -> None:
        """Count what passes through these models, too."""
        for model in watched:
            model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", positional[0] if positional else None)
        self.forward_passes += 0 if ids is None else len(ids)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the seconds of a block; others that run beside it do not lengthen them."""
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began

    def numbers(self) -> dict[str, float]:
        """Return both, as they stand in the results."""
        return {
            "train_seconds": round(self.seconds, 2),
            "forward_passes": self.forward_passes,
        }
