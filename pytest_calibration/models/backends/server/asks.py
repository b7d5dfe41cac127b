"""Rows of tokens as questions to a server, and its answers as scores of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pytest_calibration.models.backends.server.dialect import Answer, Ask, Dialect
from pytest_calibration.models.causal.rows import Row, RowScores

# Tokens that a server computes anew for a prompt that it has in its cache, in part a block of the
# cache. A prompt whose own log-probabilities are asked for is computed anew as a whole.
STEP: Final = 32


class _Place(NamedTuple):
    """Where the score of a place in a row is found: in which answer, and there under what."""

    along: bool
    answer: int
    at: int


class Plan:
    """What to ask about rows.

    A place in a row is asked for by itself, as what follows the tokens up to there, or together
    with others along the row, whichever lets the server compute less.

    Args:
        rows: what to score.
        dialect: how the server is asked.

    Attributes:
        asks: the questions, each once.
    """

    def __init__(self, rows: Sequence[Row], dialect: Dialect) -> None:
        self._dialect = dialect
        self._after: dict[tuple[int, ...], tuple[int, dict[int, None]]] = {}
        self._along: dict[tuple[int, ...], int] = {}
        self._places = [self._places_of(row) for row in rows]
        self.asks = [
            *(Ask(ids, tuple(targets)) for ids, (_, targets) in self._after.items()),
            *(Ask(ids, along=True) for ids in self._along),
        ]

    def _places_of(self, row: Row) -> list[_Place]:
        ids, last = row.ids, len(row.ids) - 1
        pairs = list(zip(row.positions, row.targets, strict=True))
        inner = {p for p, target in pairs if p < last and target == ids[p + 1]}
        ends = {target for p, target in pairs if p == last}
        along = bool(inner) and self._is_along(len(inner), len(ids))
        # A single token that follows the row becomes a part of it.
        whole = (*ids, *ends) if len(ends) == 1 else tuple(ids)
        out = []
        for p, target in pairs:
            if along and p + 1 < len(whole) and target == whole[p + 1]:
                out.append(_Place(True, self._along.setdefault(whole, len(self._along)), p))
            else:
                prefix = tuple(ids[: p + 1])
                index, targets = self._after.setdefault(prefix, (len(self._after), {}))
                targets[target] = None
                out.append(_Place(False, index, target))
        return out

    def _is_along(self, places: int, tokens: int) -> bool:
        dialect = self._dialect
        return bool(dialect.along) and (not dialect.after or places * STEP > tokens)

    def scores(self, answers: Sequence[Answer]) -> list[RowScores]:
        """Return the scores of the rows, from the answers to ``asks``."""
        after, along = answers[: len(self._after)], answers[len(self._after) :]

        def score(place: _Place) -> tuple[float, int, float]:
            if place.along:
                return along[place.answer].along[place.at]
            answer = after[place.answer]
            value = answer.targets[place.at]
            token, best = answer.top or (place.at, value)
            return value, token, best

        out = []
        for places in self._places:
            found = [score(place) for place in places]
            out.append(
                RowScores(
                    np.array([value for value, _, _ in found], dtype=np.float64),
                    np.array([best for _, _, best in found], dtype=np.float64),
                    np.array([token for _, token, _ in found], dtype=np.int64),
                )
            )
        return out
