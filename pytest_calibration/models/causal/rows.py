"""A sequence, the positions in it that are read, and what a model predicts there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One sequence to score.

    Attributes:
        ids: token ids of the sequence, as far as it is needed.
        positions: (t,) index of the token whose logits are read (they predict the next one).
        targets: (t,) token ids whose log-probability is wanted there; positions may repeat.
        draws: (t,) numbers in [0, 1), each of which picks a token where tokens are drawn.
    """

    ids: list[int]
    positions: list[int]
    targets: list[int]
    draws: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class RowScores:
    """What the model predicts at the positions of a row; (t,) each.

    Attributes:
        target_logprob: log P(target), nats.
        top_logprob: log-probability of the most likely token, or of the one that was drawn.
        top_id: that token.
    """

    target_logprob: NDArray[np.float64]
    top_logprob: NDArray[np.float64]
    top_id: NDArray[np.int64]


class ScoreTable:
    """The scores at all positions of all rows, filled in as passes come back.

    Every (row, position) has a *slot*: rows one after the other, each in its own order.

    Args:
        rows: what is scored.
        temperature: of the distribution that tokens are drawn from; None to take the most likely.

    Attributes:
        temperature: as given.
        draws: (slots,) number that picks the token to draw; empty where none is drawn.
        first: (rows + 1,) first slot of each row.
        known: (slots,) bool, whether it has been scored.
        rows_done: number of rows all of whose positions have been computed.
    """

    def __init__(self, rows: list[Row], temperature: float | None = None) -> None:
        self.temperature = temperature
        self.draws = np.array([draw for row in rows for draw in row.draws], dtype=np.float64)
        counts = [len(row.positions) for row in rows]
        self.first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        n = int(self.first[-1])
        self._row = np.repeat(np.arange(len(rows)), counts)
        self._left = np.array(counts, dtype=np.int64)
        self.rows_done = counts.count(0)
        self.known = np.zeros(n, dtype=np.bool_)
        self._target = np.full(n, np.nan)
        self._top = np.full(n, np.nan)
        self._top_id = np.zeros(n, dtype=np.int64)

    def slots(self, row: int) -> NDArray[np.int64]:
        """Return the slots of a row."""
        return np.arange(self.first[row], self.first[row + 1])

    def missing(self) -> list[int]:
        """Return the rows with a position that is not scored, and count their positions again."""
        bounds = enumerate(zip(self.first, self.first[1:], strict=False))
        out = [i for i, (a, b) in bounds if not self.known[a:b].all()]
        self._left[out] = np.diff(self.first)[out]
        self.rows_done = len(self._left) - len(out)
        return out

    def count(self, slots: NDArray[np.int64]) -> None:
        """Count positions as computed; their scores may still be on the device."""
        rows, counts = np.unique(self._row[slots], return_counts=True)
        self._left[rows] -= counts
        self.rows_done += int((self._left[rows] == 0).sum())

    def fill(
        self,
        slots: NDArray[np.int64],
        target: NDArray[np.float64],
        top: NDArray[np.float64],
        top_id: NDArray[np.int64],
    ) -> None:
        """Write the scores of these slots; (k,) each."""
        self._target[slots], self._top[slots], self._top_id[slots] = target, top, top_id
        self.known[slots] = True

    def scores(self) -> list[RowScores]:
        """Return the scores of every row, in order."""
        return [
            RowScores(self._target[a:b], self._top[a:b], self._top_id[a:b])
            for a, b in zip(self.first, self.first[1:], strict=False)
        ]
