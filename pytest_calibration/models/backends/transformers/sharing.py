"""Rows as a forest of prefixes: tokens that several rows begin with are computed once.

Questions of one subject begin with the same solved examples, the options of one question with the
same question. Sorted by their tokens, rows with a common prefix are neighbours, and the length of
each neighbours' common prefix is all a tree of prefixes needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.models.causal.rows import Row, ScoreTable

# A shared prefix costs every token after it one more piece of attention. To compute a few tokens
# several times, or few beside what follows, costs less.
MIN_TOKENS: Final = 12
MIN_SHARE: Final = 0.04


def _none() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(eq=False)
class Segment:
    """Tokens that are computed once, after those of the segments before.

    Attributes:
        ids: (t,) the tokens.
        start: number of tokens before them.
        parent: the segment before; None where a row begins.
        children: the segments that continue this one.
        offsets: (r,) the tokens of this segment that are read.
        targets: (r,) the tokens whose log-probability is wanted there.
        slots: (r,) the slots of their scores.
        key_values: keys and values, one pair per layer, while descendants need them.
    """

    ids: NDArray[np.int64]
    start: int
    parent: Segment | None = None
    children: list[Segment] = field(default_factory=list)
    offsets: NDArray[np.int64] = field(default_factory=_none)
    targets: NDArray[np.int64] = field(default_factory=_none)
    slots: NDArray[np.int64] = field(default_factory=_none)
    key_values: list[tuple[Any, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def end(self) -> int:
        """Number of tokens up to the last of this segment."""
        return self.start + len(self.ids)

    @property
    def ancestors(self) -> Iterator[Segment]:
        """The segments before, nearest first."""
        segment = self.parent
        while segment is not None:
            yield segment
            segment = segment.parent

    def read(
        self, offsets: NDArray[np.int64], targets: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> None:
        """Add positions that are read; (k,) each."""
        self.offsets = np.concatenate([self.offsets, offsets])
        self.targets = np.concatenate([self.targets, targets])
        self.slots = np.concatenate([self.slots, slots])


def forest(
    rows: Sequence[Row], table: ScoreTable, indices: Sequence[int], *, most: int, least: int = 0
) -> list[Segment]:
    """Return the roots of the forest of these rows.

    Every row is the tokens along one path from a root, and every position of it is read once.

    Args:
        rows: all rows.
        table: gives their slots.
        indices: the rows to score.
        most: tokens of a segment; a longer one becomes a chain of several.
        least: tokens that sharing a prefix must save.
    """
    ids = {i: np.asarray(rows[i].ids, dtype=np.int64) for i in indices}
    # Big-endian bytes sort as the numbers do, and are compared fast.
    order = sorted(ids, key=lambda i: ids[i].astype(">u4").tobytes())
    lengths = np.array([len(ids[i]) for i in order])
    common = np.zeros(len(order), dtype=np.int64)
    for k in range(1, len(order)):
        common[k] = _common(ids[order[k - 1]], ids[order[k]])
    roots: list[Segment] = []
    # (first row, one past the last, tokens already placed, segment that they end in)
    todo: list[tuple[int, int, int, Segment | None]] = [(0, len(order), 0, None)] if order else []
    while todo:
        first, last, depth, parent = todo.pop()
        if last - first == 1:
            row = order[first]
            leaf = _chain(ids[row][depth:], depth, parent, roots, most)
            _place(leaf, rows[row], table.slots(row))
            continue
        shared = int(common[first + 1 : last].min(initial=np.iinfo(np.int64).max))
        splits = [first, *(first + 1 + np.flatnonzero(common[first + 1 : last] == shared)), last]
        saved = (last - first - 1) * (shared - depth)
        tokens = int((lengths[first:last] - depth).sum())
        if shared - depth >= MIN_TOKENS and saved >= max(least, MIN_SHARE * tokens):
            parent = _chain(ids[order[first]][depth:shared], depth, parent, roots, most)
            depth = shared
        parts = [(int(a), int(b), depth, parent) for a, b in pairwise(splits)]
        # The last one added is taken first.
        todo += parts[::-1]
    return roots


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Return the length of the common prefix."""
    n = min(len(a), len(b))
    same = a[:n] == b[:n]
    return n if bool(same.all()) else int(np.argmin(same))


def _chain(
    ids: NDArray[np.int64], start: int, parent: Segment | None, roots: list[Segment], most: int
) -> Segment | None:
    """Append tokens after a segment; return the last new one, or the parent without tokens."""
    for a in range(0, len(ids), most):
        child = Segment(ids[a : a + most], start + a, parent)
        (roots if parent is None else parent.children).append(child)
        parent = child
    return parent


def _place(segment: Segment | None, row: Row, slots: NDArray[np.int64]) -> None:
    """Add each position of a row to the segment that holds it."""
    positions = np.asarray(row.positions, dtype=np.int64)
    targets = np.asarray(row.targets, dtype=np.int64)
    while segment is not None and len(positions):
        here = positions >= segment.start
        if here.any():
            segment.read(positions[here] - segment.start, targets[here], slots[here])
            positions, targets, slots = positions[~here], targets[~here], slots[~here]
        segment = segment.parent


def tokens_of(roots: Sequence[Segment]) -> int:
    """Count the tokens of a forest."""
    total, todo = 0, list(roots)
    while todo:
        segment = todo.pop()
        total += len(segment)
        todo += segment.children
    return total


def batches(segments: Sequence[Segment], budget: int) -> Iterator[list[Segment]]:
    """Yield segments in order, as many at a time as the budget of tokens allows, at least one."""
    batch: list[Segment] = []
    size = 0
    for segment in segments:
        if batch and size + len(segment) > budget:
            yield batch
            batch, size = [], 0
        batch.append(segment)
        size += len(segment)
    if batch:
        yield batch


def in_order(segments: Sequence[Segment]) -> list[Segment]:
    """Sort segments for computing: those of one parent together, longest first.

    Segments of similar length share a pass, and keys and values are freed soon.
    """
    place: dict[Segment | None, int] = {}
    for segment in segments:
        place.setdefault(segment.parent, len(place))
    return sorted(segments, key=lambda s: (place[s.parent], not s.children, -len(s)))
