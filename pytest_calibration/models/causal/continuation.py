"""A text that a model continues, token by token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Continuation:
    """A text that a model continues.

    Attributes:
        text: what is continued.
        ids: the tokens so far; they grow.
        most: how many may be added.
        is_end: whether a continuation ends with the last of its tokens.
        closes: tokens that end a continuation and are no part of it.
        seed: what the tokens to draw depend on; None to take the most likely ones.
        logprobs: of each token taken, the one that closes it included.
        finished: whether it came to an end.
    """

    text: str
    ids: list[int]
    most: int
    is_end: Callable[[list[int]], bool]
    closes: frozenset[int]
    seed: int | None = None
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False

    def __post_init__(self) -> None:
        self._start = len(self.ids)

    @property
    def added(self) -> list[int]:
        """The tokens added so far."""
        return self.ids[self._start :]

    @property
    def active(self) -> bool:
        """Whether another token is wanted."""
        return not self.finished and len(self.logprobs) < self.most

    @property
    def draw(self) -> float:
        """A number in [0, 1) for the next token, which depends on seed and place alone."""
        return uniform(self.seed or 0, len(self.logprobs))

    def take(self, token: int, logprob: float) -> None:
        """Add the next token."""
        self.logprobs.append(logprob)
        if token in self.closes:
            self.finished = True
        else:
            self.ids.append(token)
            self.finished = self.is_end(self.added)


def uniform(seed: int, place: int) -> float:
    """Return a number in [0, 1) that depends on these two alone."""
    state = hashlib.blake2b(f"{seed} {place}".encode(), digest_size=8)
    return (int.from_bytes(state.digest(), "little") >> 11) / 2.0**53
