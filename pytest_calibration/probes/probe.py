"""What every probe has, and what probes over a list of items share: ids, limits, groups, checks."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, ProbeError, UsageError
from pytest_calibration.items.sources import Source
from pytest_calibration.items.sources import described as source_described
from pytest_calibration.models.protocols import Model, NextTokenScores
from pytest_calibration.predictions import (
    IdArray,
    Predictions,
    Signature,
    digest,
    first_units,
    hash_ids,
)
from pytest_calibration.predictions.conversion import as_array, shown
from pytest_calibration.predictions.item_text import ItemText


@runtime_checkable
class Probe(Protocol):
    """Something that can be asked of a model.

    Attributes:
        name: what it is called on the command line and in baselines.
        kind: which sort of probe it is.
        size: number of items in its source (documents, for a token-level probe).
        unit: what those items are, in the plural.
    """

    name: str
    kind: str
    unit: str

    @property
    def size(self) -> int:
        """Number of items in the source."""

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Ask the model.

        Args:
            model: a ``LanguageModel`` or a ``Classifier``, as the probe's kind needs.
            limit: at most so many items; a smaller limit takes a subset of a larger one.
        """


@dataclass(frozen=True, kw_only=True)
class Item:
    """What every item may have.

    Attributes:
        id: the row's own id.
        group: what the item is correlated with, such as its document.
        slice: what it is about, for tables.
    """

    id: str | None = None
    group: str | None = None
    slice: str | None = None


ItemT = TypeVar("ItemT", bound=Item)

Variant: TypeAlias = Callable[[int], Any] | str
"""(seed) → a probe that asks the same items in another way; or why there is none."""


class ItemProbe(Generic[ItemT]):
    """Base class of probes over a list of items.

    Args:
        name: name of the probe.
        items: all its items.
        source: where they were read.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    # The method of a model that every run calls; empty where that depends.
    asks: str = ""
    # Share of the items that a run asks; ids of all of them, and of those that the last run asked.
    part_share: float = 1.0
    part_planned: IdArray | None = None
    part_asked: IdArray | None = None

    def __init__(self, name: str, items: Sequence[ItemT], source: Source | None = None) -> None:
        self.name = name
        self.items = items
        self._source = source

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def digest(self) -> str:
        """Identifies kind and name; salts the item ids."""
        return digest(self.kind, self.name)

    def content(self, item: ItemT) -> Sequence[object]:
        """Return what identifies an item."""
        raise NotImplementedError

    def ids(self) -> IdArray:
        """Return the id of every item, (n,)."""
        contents = [self.content(item) for item in self.items]
        return item_ids(contents, [item.id for item in self.items], self.digest)

    def copied(self, **changes: Any) -> Self:
        """Return a copy in which some attributes are others."""
        made = copy.copy(self)
        # What the probe itself cleans up at its end is needed as long.
        vars(made).update(changes, _copied_from=self)
        return made

    def in_parts(self) -> Self:
        """Return a copy that asks a share of its items: its ``share``, which may change."""
        return self.copied()

    def variants(self) -> dict[str, Variant]:
        """Return what could be otherwise in how the items are asked, by name.

        ``options``: the order in which the options of each item are shown. ``shots``: which solved
        examples are shown. ``draws``: the random numbers that answers are drawn with. A variant has
        the items of this probe, with the ids that they have here.
        """
        return {
            "options": "the model is shown no options",
            "shots": "the model is shown no solved examples",
            "draws": "no answer is drawn",
        }

    def answer_named(self, text: ItemText) -> str:
        """Return a model's answer, the same in whichever order its options were shown."""
        return text.answer

    def _with_items(self, items: Sequence[ItemT]) -> Self:
        """Return a copy with other forms of the same items; they keep their ids."""
        ids = self.ids()
        return self.copied(items=items, ids=lambda: ids)

    def part(self, ids: IdArray, index: Sequence[int], groups: Sequence[object]) -> list[int]:
        """Return which of the items that a limit leaves are asked, whole groups first to last.

        Args:
            ids: ids of all items.
            index: positions of those that a limit leaves.
            groups: group of each of these; empty for an item that has none.
        """
        kept = list(index)
        self.part_planned = ids[kept]
        if self.part_share < 1:
            taken = first_units(self.part_planned, groups, self.part_share)
            kept = [i for i, is_taken in zip(kept, taken.tolist(), strict=True) if is_taken]
        self.part_asked = ids[kept]
        return kept

    def sample(self, limit: int | None) -> tuple[list[ItemT], dict[str, Any]]:
        """Return the items that a limit leaves, and their fields of ``Predictions``.

        Of a probe that is asked in parts, those of its ``part_share``.
        """
        ids = self.ids()
        index = chosen(ids, limit)
        index = self.part(ids, index, [self.items[i].group for i in index])
        items = [self.items[i] for i in index]
        fields: dict[str, Any] = {"probe": self.name, "item_ids": ids[index]}
        if any(item.group for item in items):
            fields["groups"] = [item.group for item in items]
        if any(item.slice for item in items):
            fields["slices"] = [item.slice for item in items]
        return items, fields

    def check_scored(self, scored: int, n: int) -> None:
        """Raise ProbeError unless all n items were scored: none is ever dropped."""
        if n != scored:
            raise ProbeError(
                f"probe {self.name!r}: {scored} of {n} items were scored; none may be dropped."
            )

    def check_positions(self, wanted: Mapping[int, int], scores: Sequence[NextTokenScores]) -> None:
        """Raise ProbeError unless each text was scored at as many positions as were chosen."""
        for i, score in enumerate(scores):
            if len(score.hit) != wanted.get(i, 0):
                raise ProbeError(
                    f"probe {self.name!r}: {len(score.hit)} positions of text {i} were scored "
                    f"where {wanted.get(i, 0)} were chosen; a model scores what `choose` returns."
                )

    def signature(self, model: Model, hard: Mapping[str, object], **soft: str) -> Signature:
        """Join what makes runs of this probe comparable with what describes the model."""
        described: Mapping[str, str] = getattr(model, "description", {})
        return Signature(
            {"kind": self.kind, **{key: str(value) for key, value in hard.items()}},
            {"model": str(model.name), **described, **soft, **source_described(self._source)},
        )


def item_ids(contents: Sequence[Sequence[object]], own: Sequence[str | None], salt: str) -> IdArray:
    """Return ids made of each item's own id, if it has one, its content, and which repeat it is.

    The content is part of the id even where a row brings its own, so that an edited question is
    never paired with what it was before.
    """
    seen: dict[str, int] = {}
    keys = []
    for content, name in zip(contents, own, strict=True):
        key = digest(name or "", *content)
        seen[key] = seen.get(key, 0) + 1
        keys.append(f"{key}#{seen[key]}")
    return hash_ids(keys, salt)


def other_order(k: int, *key: object) -> list[int]:
    """Return the numbers below k in an order that is not theirs and depends on the key alone."""
    order = list(range(k))
    draws = random.Random(digest(*key))
    while k > 1 and order == sorted(order):
        draws.shuffle(order)
    return order


def other_seed(own: int, seed: int) -> int:
    """Return a seed that depends on a probe's own seed and on another number."""
    return int(digest("another seed", own, seed), 16) >> 1


def check_limit(limit: int | None) -> None:
    """Raise UsageError for a limit below 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer)):
        raise UsageError(f"a limit must be a whole number, got {limit!r}.")
    if limit is not None and limit < 1:
        raise UsageError(f"a limit must be at least 1, got {limit}.")


def chosen(ids: IdArray, limit: int | None) -> list[int]:
    """Return the positions of the ``limit`` smallest ids, in source order."""
    check_limit(limit)
    if limit is None or limit >= len(ids):
        return list(range(len(ids)))
    return sorted(int(i) for i in np.argsort(ids, kind="stable")[:limit])


def numbers(model: Model, method: str, answer: object) -> NDArray[np.float64]:
    """Return what a model answers as an array of float64, in whatever type it comes.

    Raises:
        PredictionsError: it is no array, or a value is missing.
        ModelError: it is no array of numbers.
    """
    array = as_array(answer, f"what {method} returned", str(model.name))
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise ModelError(f"{model.name}: {method} must return numbers, got {shown(answer)}.")
    return np.asarray(array, dtype=np.float64)


def softmax(logprobs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Renormalise each row over its options, (n, k); rows of fewer options end in zeros."""
    width = max(len(row) for row in logprobs)
    table = np.full((len(logprobs), width), -math.inf)
    for i, row in enumerate(logprobs):
        table[i, : len(row)] = row
    shifted = np.exp(table - table.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
