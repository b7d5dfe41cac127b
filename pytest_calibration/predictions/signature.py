"""The settings that produced some predictions: what makes two runs comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Signature:
    """The settings that produced the numbers, as plain text that can be stored and compared.

    A score and its settings travel together, as in sacreBLEU.

    Attributes:
        hard: a difference in any of these makes two runs *not comparable* (probe kind, prompt
            template, shots, scoring mode, digest of the encoded tokens of token-level probes).
        soft: shown with every number; a difference is allowed (model, revision, dtype, device,
            versions).
        known: whether ``hard`` says how the model was asked. A dump does not hold it; only the
            items are compared then.
    """

    hard: Mapping[str, str] = field(default_factory=dict)
    soft: Mapping[str, str] = field(default_factory=dict)
    known: bool = True

    def hard_differences(self, other: Signature) -> list[tuple[str, str, str]]:
        """Return (field, here, there) for every hard field that differs; empty if comparable.

        Nothing is known to differ where one side does not hold them.
        """
        if not (self.known and other.known):
            return []
        keys = sorted({*self.hard, *other.hard})
        return [
            (key, self.hard.get(key, "(none)"), other.hard.get(key, "(none)"))
            for key in keys
            if self.hard.get(key) != other.hard.get(key)
        ]

    def soft_differences(self, other: Signature) -> list[tuple[str, str, str]]:
        """Return (field, here, there) for the soft fields of both sides that differ."""
        keys = sorted({*self.soft} & {*other.soft})
        return [(k, self.soft[k], other.soft[k]) for k in keys if self.soft[k] != other.soft[k]]

    def __str__(self) -> str:
        """Join all fields, hard ones first, as ``name:value|name:value``."""
        fields = [*sorted(self.hard.items()), *sorted(self.soft.items())]
        return "|".join(f"{key}:{value}" for key, value in fields)
