"""A language model without torch: whitespace tokens, a fixed table of beliefs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores


def unit(*parts: object) -> float:
    """A number in (0, 1) that depends on the parts alone."""
    data = "|".join(map(str, parts)).encode()
    return (int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "big") + 0.5) / 2.0**56


class FakeModel:
    """Tokens are words with the space before them; it is right as often as it believes.

    Args:
        name: what reports call it.
        sharpen: how much it overstates its beliefs (0: calibrated).
        salt: another salt gives other beliefs and other truths, just as well calibrated.
    """

    def __init__(self, name: str = "fake", sharpen: float = 0.0, salt: str = "") -> None:
        self.name = name
        self.sharpen = sharpen
        self.salt = salt
        self.calls: list[str] = []

    @property
    def fingerprint(self) -> str:
        """The settings."""
        return f"{self.name}:{self.sharpen}:{self.salt}"

    def belief(self, *key: object) -> tuple[float, bool]:
        """(confidence, whether it is right) for one question."""
        honest = 0.3 + 0.7 * unit("belief", self.salt, *key)
        hit = unit("truth", self.salt, *key) < honest
        return honest + self.sharpen * (1 - honest), hit

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Put its belief on one option (the last of those whose hash is least), rest evenly."""
        self.calls.append("option_logprobs")
        out = []
        for prompt, texts in zip(prompts, options, strict=True):
            honest, _ = self.belief(prompt)
            favourite = min(range(len(texts)), key=lambda i: unit(prompt, texts[i]))
            rest = (1 - honest) / max(1, len(texts) - 1)
            out.append(
                np.log([honest if i == favourite else rest for i in range(len(texts))])
                + np.log(0.9)
            )
        return out

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Believe something about every word but the first."""
        self.calls.append("next_token")
        out = []
        for i, text in enumerate(texts):
            spans = np.array([m.span() for m in re.finditer(r" ?\S+", text)], dtype=np.int64)
            spans = spans.reshape(-1, 2)[1:]
            if choose is not None:
                spans = spans[np.asarray(choose(i, spans), dtype=np.int64)]
            beliefs = [self.belief(text[:a], text[a:b]) for a, b in spans.tolist()]
            top = np.array([c for c, _ in beliefs], dtype=np.float64)
            hit = np.array([h for _, h in beliefs], dtype=np.bool_)
            target = np.log(np.where(hit, top, (1 - top) / 2 + 1e-9))
            ids = np.array([hash_word(text[a:b]) for a, b in spans.tolist()], dtype=np.int64)
            out.append(NextTokenScores(spans, top, hit, target, ids))
        return out

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Say a wrong word with probability one half each."""
        self.calls.append("generate")
        return [
            Generation(" wrong" * most, np.full(most, np.log(0.5)))
            for _, most in zip(prompts, max_new_tokens, strict=True)
        ]


def hash_word(word: str) -> int:
    """A token id."""
    return int(unit("word", word) * 2**31)
