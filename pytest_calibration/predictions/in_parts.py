"""Predictions that are asked for in parts: a comparison that is decided early asks for no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from threading import RLock
from typing import Any, Final

import numpy as np

from pytest_calibration.predictions.arrays import BoolArray, IdArray
from pytest_calibration.predictions.predictions import Predictions

# What is not known before the items are asked.
_ASKED: Final = frozenset(f.name for f in fields(Predictions)) - {"probe"}


@dataclass(frozen=True)
class Part:
    """The first items of a probe, as a model answers them.

    Attributes:
        number: which part it is, from 1.
        parts: number of parts of the whole.
        predictions: n items; their ``asked_of`` says that they are a part.
        item_ids: (N,) ids of all items of the whole, in the order in which they are asked.
        sizes: number of items of each part up to this one.
        later: share of the items that is planned for each part after it.
    """

    number: int
    parts: int
    predictions: Predictions
    item_ids: IdArray
    sizes: tuple[int, ...]
    later: tuple[float, ...]


class PredictionsInParts(Predictions):
    """Predictions of which a part is asked; whoever reads their items has the rest asked first.

    Nothing that reads predictions ever sees a part of them for the whole. Only a comparison that
    may stop early takes :meth:`in_turn`, one part after the other.
    """

    def __new__(cls, *fields: Any, **named: Any) -> Any:
        """Return whole predictions: what is made of all fields, as by ``dataclasses.replace``."""
        return Predictions(*fields, **named)

    def __reduce_ex__(self, _: Any) -> Any:
        # A copy has all items, in another process too.
        return getattr, (self.whole, "whole")

    @classmethod
    def of(
        cls,
        probe: str,
        ask: Callable[[float], tuple[Predictions, IdArray]],
        shares: Sequence[float],
        first: tuple[Predictions, IdArray],
    ) -> PredictionsInParts:
        """Return predictions whose items are asked as they are needed.

        Args:
            probe: name of the probe.
            ask: given a share, returns the predictions on that share of the items, whole groups in
                the order of :func:`first_units`, and the ids of all items.
            shares: of the items in each part, rising to 1.
            first: what ``ask`` returned for the first of them.
        """
        made: PredictionsInParts = object.__new__(cls)
        known = {shares[0]: first}
        vars(made).update(probe=probe, _ask=ask, _shares=tuple(shares), _known=known, _lock=RLock())
        return made

    def __getattribute__(self, name: str) -> Any:
        if name in _ASKED:
            return getattr(self.whole, name)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        # Printed beside a failing test: nothing is asked for that.
        return f"<predictions of probe {self.probe!r}, asked in parts>"

    @property
    def whole(self) -> Predictions:
        """The predictions on all items, which are asked now unless they were before."""
        return self._asked(1.0)[0]

    def in_turn(self) -> Iterator[Part]:
        """Yield the first part, then the first two, and so on to the whole.

        A part that adds nothing to the one before, since a large group is asked at once, is left
        out.
        """
        shares: tuple[float, ...] = vars(self)["_shares"]
        asked = np.empty(0, dtype=np.uint64)
        sizes: list[int] = []
        for number, share in enumerate(shares, 1):
            predictions, ids = self._asked(share)
            n = len(predictions)
            if n == len(asked):
                continue
            sizes.append(n)
            asked = np.concatenate([asked, np.setdiff1d(predictions.item_ids, asked)])
            if n < len(ids):
                predictions = replace(predictions, asked_of=len(ids))
            order = np.concatenate([asked, np.setdiff1d(ids, asked)])
            later = tuple(share for share in shares[number:] if share > n / len(ids))
            yield Part(number, len(shares), predictions, order, tuple(sizes), later)
            if n == len(ids):
                return

    def _asked(self, share: float) -> tuple[Predictions, IdArray]:
        state = vars(self)
        # A test may judge in threads of its own.
        with state["_lock"]:
            if share not in state["_known"]:
                state["_known"][share] = state["_ask"](share)
            found: tuple[Predictions, IdArray] = state["_known"][share]
            return found


def first_units(ids: IdArray, groups: Sequence[object] | None, share: float) -> BoolArray:
    """Return which items a share of them takes, (n,): whole groups, in the order of their ids.

    The id of a group is the smallest of its items. Groups are taken until the share is reached.

    Args:
        ids: (n,) distinct ids.
        groups: (n,) group of each item; an item with an empty one is alone in its own. None where
            all are.
        share: of the items, in (0, 1].
    """
    n = len(ids)
    wanted = math.ceil(share * n - 1e-9)
    if groups is None:
        groups = [None] * n
    # An item without a group is known by its own id.
    keys: list[object] = [
        str(group) if group else one for group, one in zip(groups, ids.tolist(), strict=True)
    ]
    first: dict[object, int] = {}
    sizes: dict[object, int] = {}
    for key, one in zip(keys, ids.tolist(), strict=True):
        first[key] = min(one, first.get(key, one))
        sizes[key] = sizes.get(key, 0) + 1
    taken, count = set(), 0
    for key in sorted(first, key=first.__getitem__):
        if count >= wanted:
            break
        taken.add(key)
        count += sizes[key]
    return np.array([key in taken for key in keys], dtype=np.bool_)
