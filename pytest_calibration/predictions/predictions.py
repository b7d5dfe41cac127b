"""What a model said and whether it was right: the record that every metric reads.

A probe of any kind reduces to one pair per item: the *confidence* a model gives to its own answer,
and whether that answer is *correct*. Whatever is validated is validated here, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions.item_text import ItemText, ItemTexts

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
IdArray: TypeAlias = NDArray[np.uint64]
StrArray: TypeAlias = NDArray[np.str_]
Unit: TypeAlias = Literal["item", "token"]

# Float32 softmax sums stray from 1 by a few 1e-6; anything beyond is no rounding.
RANGE_SLACK: Final = 1e-6
# Probabilities are often rounded to three decimals before they are stored.
SUM_SLACK: Final = 1e-2
# A log-probability is a difference of two float32 numbers, summed over the tokens of an answer.
LOG_SLACK: Final = 1e-3


def digest(*parts: object, size: int = 8) -> str:
    """Return a short hexadecimal digest of the parts, each set apart from its neighbours.

    Args:
        parts: anything whose ``str`` (or bytes) identifies it.
        size: number of bytes; the text has twice as many characters.
    """
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part if isinstance(part, bytes) else _bytes(part)
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def _bytes(part: object) -> bytes:
    # JSON may hold half a surrogate pair, which is text too.
    return str(part).encode("utf-8", "surrogatepass")


def hash_ids(ids: Sequence[object], salt: str) -> IdArray:
    """Hash item ids to 64 bits each, salted, so that a published baseline reveals no item."""
    prefix = hashlib.blake2b(salt.encode(), digest_size=8)
    out = np.empty(len(ids), dtype=np.uint64)
    for i, item in enumerate(ids):
        state = prefix.copy()
        state.update(_bytes(item))
        out[i] = int.from_bytes(state.digest(), "little")
    return out


def positional_ids(n: int) -> IdArray:
    """Return n distinct, well mixed ids that depend on the position alone (splitmix64)."""
    z = (np.arange(1, n + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Signature:
    """The settings that produced the numbers: what makes two runs comparable.

    Attributes:
        hard: a difference in any of these makes two runs *not comparable* (probe kind, prompt
            template, shots, scoring mode, digest of the encoded tokens of token-level probes).
        soft: shown beside every number and never refused (model, revision, dtype, device,
            versions).

    The two mappings hold plain text, so that a signature can be stored, compared and read.
    The idea is sacreBLEU's: a score and the settings that made it travel together.
    """

    hard: Mapping[str, str] = field(default_factory=dict)
    soft: Mapping[str, str] = field(default_factory=dict)

    def hard_differences(self, other: Signature) -> list[tuple[str, str, str]]:
        """Return (field, here, there) for every hard field that differs; empty if comparable."""
        keys = sorted({*self.hard, *other.hard})
        return [
            (key, self.hard.get(key, "(none)"), other.hard.get(key, "(none)"))
            for key in keys
            if self.hard.get(key) != other.hard.get(key)
        ]

    def soft_differences(self, other: Signature) -> list[tuple[str, str, str]]:
        """Return (field, here, there) for the soft fields both sides name and disagree on."""
        keys = sorted({*self.soft} & {*other.soft})
        return [(k, self.soft[k], other.soft[k]) for k in keys if self.soft[k] != other.soft[k]]

    def __str__(self) -> str:
        """Join all fields, hard ones first, as ``name:value|name:value``."""
        fields = [*sorted(self.hard.items()), *sorted(self.soft.items())]
        return "|".join(f"{key}:{value}" for key, value in fields)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outcome of one probe on one model.

    Attributes:
        probe: name of the probe; the key under which a baseline is stored.
        confidence: (n,) float64 in [0, 1], the probability the model gives to its own answer.
        correct: (n,) bool, whether that answer is right.
        item_ids: (n,) uint64, distinct; what pairs an item with itself in another run.
        probabilities: (n, k) float64, rows summing to 1; where the probe has options or classes.
        labels: (n,) int64, index of the right option or class.
        label_logprobs: (n,) float64, log P(right answer) in nats; what NLL is made of.
        option_mass: (n,) float64, total probability of all options before renormalisation.
        groups: (n,) text; items of one group stand or fall together (tokens of one document,
            questions on one passage), so standard errors are computed over groups.
        slices: (n,) text; what an item is about (subject, relation). For tables only: it changes
            no standard error.
        texts: what the items say, for a reader; never compared and never stored in a baseline.
        unit: what one item is; token-level probes keep a sample in their baseline.
        signature: the settings that made these numbers.

    Raises:
        PredictionsError: no items, NaN or infinity, a value outside [0, 1], lengths that differ,
            or an item id that occurs twice. The message names the first offending index.
    """

    probe: str
    confidence: FloatArray
    correct: BoolArray
    item_ids: IdArray
    probabilities: FloatArray | None = None
    labels: IntArray | None = None
    label_logprobs: FloatArray | None = None
    option_mass: FloatArray | None = None
    groups: StrArray | None = None
    slices: StrArray | None = None
    texts: ItemTexts | None = field(default=None, repr=False)
    unit: Unit = "item"
    signature: Signature = field(default_factory=Signature)

    def __post_init__(self) -> None:
        if not isinstance(self.probe, str) or not self.probe.isprintable() or not self.probe:
            raise PredictionsError(f"a probe needs a printable name, got {self.probe!r}.")
        object.__setattr__(self, "probe", str(self.probe))
        where = f"predictions of probe {self.probe!r}"
        confidence = _unit_interval(_floats(self.confidence, "confidence", where, 1), where)
        n = len(confidence)
        if n == 0:
            raise PredictionsError(f"{where}: there are no items (n = 0); score at least one.")
        self._set("confidence", confidence)
        self._set("correct", _truths(self.correct, where))
        self._set("item_ids", np.array(self.item_ids, dtype=np.uint64))
        if self.probabilities is not None:
            table = _floats(self.probabilities, "probabilities", where, 2)
            self._set("probabilities", _unit_interval(table, where, "probabilities"))
        if self.labels is not None:
            self._set("labels", _integers(self.labels, where))
        if self.label_logprobs is not None:
            logprobs = _floats(self.label_logprobs, "label_logprobs", where, 1)
            self._set("label_logprobs", _logarithms(logprobs, where))
        if self.option_mass is not None:
            self._set("option_mass", _floats(self.option_mass, "option_mass", where, 1))
        for name in ("groups", "slices"):
            if getattr(self, name) is not None:
                self._set(name, np.array([str(g) for g in getattr(self, name)], dtype=np.str_))
        self._check_lengths(n, where)
        self._check_ids(where)

    def _set(self, name: str, array: NDArray[Any]) -> None:
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_lengths(self, n: int, where: str) -> None:
        for name in (
            "correct",
            "item_ids",
            "probabilities",
            "labels",
            "label_logprobs",
            "option_mass",
            "groups",
            "slices",
            "texts",
        ):
            array = getattr(self, name)
            if array is not None and len(array) != n:
                raise PredictionsError(
                    f"{where}: {name} has {len(array)} entries for {n} confidences; "
                    "give one entry per item."
                )

    def _check_ids(self, where: str) -> None:
        unique, counts = np.unique(self.item_ids, return_counts=True)
        if len(unique) != len(self.item_ids):
            twice = unique[counts > 1][0]
            first, second = np.flatnonzero(self.item_ids == twice)[:2]
            raise PredictionsError(
                f"{where}: items {first} and {second} have the same id; give each item its own id, "
                "or none at all."
            )

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.confidence)

    @property
    def gap(self) -> FloatArray:
        """(n,) confidence minus correctness; its mean is the signed gap."""
        return np.asarray(self.confidence - self.correct, dtype=np.float64)

    @property
    def n_clusters(self) -> int:
        """Number of independent units: groups where there are any, else items."""
        return self.n if self.groups is None else len(np.unique(self.groups))

    @property
    def items_digest(self) -> str:
        """Digest of the set of item ids, whatever their order."""
        return digest(np.sort(self.item_ids).tobytes(), size=6)

    def take(self, index: NDArray[Any]) -> Predictions:
        """Return the items at these positions (or where this mask holds), in that order."""

        def pick(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[index]

        return replace(
            self,
            confidence=self.confidence[index],
            correct=self.correct[index],
            item_ids=self.item_ids[index],
            probabilities=pick(self.probabilities),
            labels=pick(self.labels),
            label_logprobs=pick(self.label_logprobs),
            option_mass=pick(self.option_mass),
            groups=pick(self.groups),
            slices=pick(self.slices),
            texts=None if self.texts is None else self.texts.take(index),
        )

    def limited(self, limit: int | None) -> Predictions:
        """Return the ``limit`` items with the smallest ids: a smaller limit gives a subset.

        Raises:
            PredictionsError: a limit below 1.
        """
        if limit is not None and limit < 1:
            raise PredictionsError(
                f"predictions of probe {self.probe!r}: the limit must be at least 1, got {limit}."
            )
        if limit is None or limit >= self.n:
            return self
        return self.take(np.sort(np.argsort(self.item_ids, kind="stable")[:limit]))

    def with_signature(self, **soft: str) -> Predictions:
        """Return the same predictions with these soft fields added to the signature."""
        joined = Signature(self.signature.hard, {**self.signature.soft, **soft})
        return replace(self, signature=joined)

    @classmethod
    def from_confidence(
        cls,
        confidence: Any,
        correct: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "confidence",
        signature: Signature | None = None,
    ) -> Predictions:
        """Build predictions from what a model believed and whether it was right.

        Args:
            confidence: (n,) probabilities in [0, 1].
            correct: (n,) booleans, or numbers that are 0 or 1.
            item_ids: (n,) distinct ids; without them items pair by position.
            groups: (n,) cluster of each item.
            slices: (n,) what each item is about, for tables.
            texts: (n,) what was asked, for a reader of a failure.
            probe: name under which a baseline is stored.
            signature: settings that made the numbers.

        Raises:
            PredictionsError: as the class says.
        """
        where = f"predictions of probe {probe!r}"
        conf = _floats(confidence, "confidence", where, 1)
        ids, signature = _identify(item_ids, len(conf), probe, None, signature)
        return cls(
            probe=probe,
            confidence=conf,
            correct=_truths(correct, where),
            item_ids=ids,
            groups=None if groups is None else np.array([str(g) for g in groups]),
            slices=None if slices is None else np.array([str(one) for one in slices]),
            texts=_in_words(item_ids, texts, len(conf), where),
            signature=signature,
        )

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Any,
        labels: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "probabilities",
        signature: Signature | None = None,
    ) -> Predictions:
        """Build predictions from class probabilities, as ``predict_proba`` gives them.

        The answer is the most probable class (the first of equals), its probability the confidence.

        Args:
            probabilities: (n, k) in [0, 1], each row summing to 1 (within 0.01: values are often
                stored rounded).
            labels: (n,) whole numbers, the index of the right class.
            item_ids: (n,) distinct ids; without them items pair by position, and the labels'
                digest is part of the signature, so that a shuffled set is not comparable.
            groups: (n,) cluster of each item.
            slices: (n,) what each item is about, for tables.
            texts: (n,) what was asked, for a reader of a failure.
            probe: name under which a baseline is stored.
            signature: settings that made the numbers.

        Raises:
            PredictionsError: not an (n, k) table of probabilities, rows that do not sum to 1, or
                labels that name no column.
        """
        where = f"predictions of probe {probe!r}"
        table = _table(probabilities, where)
        gold = _integers(labels, where)
        n, k = table.shape
        if len(gold) != n:
            raise PredictionsError(
                f"{where}: {len(gold)} labels for {n} rows of probabilities; give one per row."
            )
        outside = np.flatnonzero((gold < 0) | (gold >= k))
        if len(outside):
            raise PredictionsError(
                f"{where}: labels[{outside[0]}] is {gold[outside[0]]}, but the probabilities have "
                f"columns 0 to {k - 1}."
            )
        sums = np.einsum("ij->i", table)
        off = np.flatnonzero(np.abs(sums - 1) > SUM_SLACK)
        if len(off):
            raise PredictionsError(
                f"{where}: row {off[0]} of the probabilities sums to {sums[off[0]]:.6g}, not 1; "
                "pass logits to Predictions.from_logits."
            )
        answer = table.argmax(axis=1)
        ids, signature = _identify(item_ids, n, probe, gold, signature)
        own = table[np.arange(n), gold]
        return cls(
            probe=probe,
            confidence=table[np.arange(n), answer],
            correct=answer == gold,
            item_ids=ids,
            probabilities=table,
            labels=gold,
            label_logprobs=np.log(np.maximum(own, np.finfo(np.float64).tiny)),
            groups=None if groups is None else np.array([str(g) for g in groups]),
            slices=None if slices is None else np.array([str(one) for one in slices]),
            texts=_in_words(item_ids, texts, n, where),
            signature=signature,
        )

    @classmethod
    def from_logits(
        cls,
        logits: Any,
        labels: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "probabilities",
        signature: Signature | None = None,
    ) -> Predictions:
        """Build predictions from (n, k) logits: softmax over each row, then as probabilities.

        Raises:
            PredictionsError: not an (n, k) table of finite numbers, or labels that name no column.
        """
        where = f"predictions of probe {probe!r}"
        table = _floats(logits, "logits", where, 2)
        shifted = np.exp(table - table.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        return cls.from_probabilities(
            probabilities,
            labels,
            item_ids=item_ids,
            groups=groups,
            slices=slices,
            texts=texts,
            probe=probe,
            signature=signature,
        )


def _in_words(
    item_ids: Sequence[object] | None, texts: Sequence[str] | None, n: int, where: str
) -> ItemTexts | None:
    """Keep ids and texts that a caller gave, so that a report can name an item by its own."""
    if item_ids is None and texts is None:
        return None
    for name, given in (("item_ids", item_ids), ("texts", texts)):
        if given is not None and len(given) != n:
            raise PredictionsError(
                f"{where}: {name} has {len(given)} entries for {n} items; give one entry per item."
            )
    names = [""] * n if item_ids is None else [str(item) for item in item_ids]
    asked = [""] * n if texts is None else [str(text) for text in texts]
    return ItemTexts.held(
        [ItemText(prompt=text, name=name) for text, name in zip(asked, names, strict=True)]
    )


PredictionsLike: TypeAlias = Predictions | tuple[Any, Any]


def as_predictions(given: PredictionsLike) -> Predictions:
    """Return predictions as they are, or build them from a pair of arrays.

    A pair is (probabilities (n, k), labels (n,)), or (confidence (n,), correct (n,) of booleans).

    Raises:
        PredictionsError: anything else; one-dimensional probabilities with integer labels are
            refused, since "the probability of class 1" and "the confidence" look alike.
    """
    if isinstance(given, Predictions):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        first, second = given
        if np.ndim(_array(first, "probabilities", "predictions")) != 1:
            return Predictions.from_probabilities(first, second)
        if _array(second, "correct", "predictions").dtype == np.bool_:
            return Predictions.from_confidence(first, second)
        raise PredictionsError(
            "one-dimensional probabilities with labels are ambiguous: for a binary classifier pass "
            "both columns, (n, 2); for confidences pass booleans that say which answers are "
            "correct, or use Predictions.from_confidence(confidence, correct)."
        )
    raise PredictionsError(
        f"expected Predictions or a pair (probabilities, labels), got {type(given).__name__}."
    )


def _identify(
    item_ids: Sequence[object] | None,
    n: int,
    probe: str,
    labels: IntArray | None,
    signature: Signature | None,
) -> tuple[IdArray, Signature]:
    """Give every item its id; by position, the labels become part of what must agree."""
    signature = signature or Signature()
    if item_ids is not None:
        return hash_ids(list(item_ids), salt=probe), signature
    if labels is not None:
        hard = {**signature.hard, "labels": digest(labels.tobytes(), size=6)}
        signature = Signature(hard, signature.soft)
    return positional_ids(n), signature


def _array(values: Any, name: str, where: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError, ValueError) as error:
        raise PredictionsError(
            f"{where}: {name} cannot be read as an array ({error}); "
            "pass a numpy array, a list or a CPU tensor without gradient in float32."
        ) from None


def _floats(values: Any, name: str, where: str, ndim: int) -> FloatArray:
    array = _array(values, name, where)
    if array.dtype.kind not in "fiub":
        raise PredictionsError(f"{where}: {name} must be numbers, got dtype {array.dtype}.")
    if array.ndim != ndim:
        shape = "(n,)" if ndim == 1 else "(n, k)"
        raise PredictionsError(f"{where}: {name} must have shape {shape}, got {array.shape}.")
    out = np.array(array, dtype=np.float64)
    # Both ends are finite where all values are; only a bad table is searched.
    if out.size and not (np.isfinite(out.min()) and np.isfinite(out.max())):
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
        at = ", ".join(map(str, index))
        raise PredictionsError(
            f"{where}: {name}[{at}] is {out[index]}; NaN and infinity are no probabilities."
        )
    return out


def _unit_interval(array: FloatArray, where: str, name: str = "confidence") -> FloatArray:
    low, high = (array.min(), array.max()) if array.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return array
    bad = np.argwhere((array < -RANGE_SLACK) | (array > 1 + RANGE_SLACK))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        at = ", ".join(map(str, index))
        raise PredictionsError(
            f"{where}: {name}[{at}] is {array[index]:.6g}, outside [0, 1]; "
            "pass logits to Predictions.from_logits."
        )
    return np.clip(array, 0.0, 1.0)


def _logarithms(array: FloatArray, where: str) -> FloatArray:
    """Refuse what is no log-probability; rounding may leave one a little above 0."""
    bad = np.flatnonzero(array > LOG_SLACK)
    if len(bad):
        raise PredictionsError(
            f"{where}: label_logprobs[{bad[0]}] is {array[bad[0]]:.6g}, above 0; "
            "give log P(right answer) in nats."
        )
    return np.minimum(array, 0.0)


def _table(values: Any, where: str) -> FloatArray:
    array = _array(values, "probabilities", where)
    if array.ndim == 1:
        raise PredictionsError(
            f"{where}: probabilities must have shape (n, k), got {array.shape}; for a binary "
            "classifier pass both columns, for confidences use Predictions.from_confidence."
        )
    table = _unit_interval(_floats(array, "probabilities", where, 2), where, "probabilities")
    if table.shape[0] == 0 or table.shape[1] == 0:
        raise PredictionsError(f"{where}: there are no items (shape {table.shape}).")
    return table


def _truths(values: Any, where: str) -> BoolArray:
    array = _array(values, "correct", where)
    if array.ndim != 1:
        raise PredictionsError(f"{where}: correct must have shape (n,), got {array.shape}.")
    if array.dtype == np.bool_:
        return array.copy()
    if array.dtype.kind in "fiu":
        bad = np.flatnonzero((array != 0) & (array != 1))
        if not len(bad):
            return array.astype(np.bool_)
        raise PredictionsError(
            f"{where}: correct[{bad[0]}] is {array[bad[0]]}; an answer is correct (1) or not (0)."
        )
    raise PredictionsError(f"{where}: correct must be booleans, got dtype {array.dtype}.")


def _integers(values: Any, where: str) -> IntArray:
    array = _array(values, "labels", where)
    if array.ndim != 1:
        raise PredictionsError(f"{where}: labels must have shape (n,), got {array.shape}.")
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f" and bool(np.all(np.isfinite(array) & (array == np.floor(array)))):
        return array.astype(np.int64)
    raise PredictionsError(
        f"{where}: labels must be whole numbers, the index of the right class, "
        f"got dtype {array.dtype}."
    )
