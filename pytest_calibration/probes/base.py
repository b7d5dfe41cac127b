"""What every probe shares: the protocol, item identity, limits, reading rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import numpy as np

from pytest_calibration.errors import ItemError, ProbeError, UsageError
from pytest_calibration.models.protocols import Model, NextTokenScores
from pytest_calibration.predictions import IdArray, Predictions, Signature, digest, hash_ids

MAX_LINE: Final = 1 << 20


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


# --- items ---------------------------------------------------------------------------------------

Row = Mapping[str, Any]
T = TypeVar("T")


def read_rows(path: Path, check: Callable[[Row], T], keys: Sequence[str]) -> list[T]:
    """Read a JSONL file, one object a line; blank lines are skipped.

    Args:
        path: the file.
        check: turns a row into an item; raises ``ValueError`` with what is wrong.
        keys: the keys a row may have.

    Raises:
        ItemError: the first bad row, by file and line; or a file that is missing or empty.
    """
    items: list[T] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    items.append(_item(path, number, line, check, keys))
    except FileNotFoundError:
        raise ItemError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ItemError(f"{path}: cannot be read ({problem}).") from None
    if not items:
        raise ItemError(f"{path}: holds no rows; write one JSON object a line.")
    return items


def _item(path: Path, number: int, line: str, check: Callable[[Row], T], keys: Sequence[str]) -> T:
    at = f"{path}, line {number}"
    if len(line) > MAX_LINE:
        raise ItemError(f"{at}: is longer than {MAX_LINE:,} characters.")
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except _KeyTwiceError as problem:
        raise ItemError(f"{at}: {problem}.") from None
    except (ValueError, RecursionError) as problem:
        raise ItemError(f"{at}: is no JSON ({problem}).") from None
    if not isinstance(row, dict):
        raise ItemError(f"{at}: must be a JSON object, got {type(row).__name__}.")
    unknown = [key for key in row if key not in keys]
    if unknown:
        raise ItemError(f"{at}: unknown key {unknown[0]!r}; known keys: {', '.join(keys)}.")
    try:
        return check(row)
    except ValueError as problem:
        raise ItemError(f"{at}: {problem}.") from None


class _KeyTwiceError(ValueError):
    """A key given twice in one object, of which JSON would keep the last in silence."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _KeyTwiceError(f"the key {twice!r} is given twice")
    return row


def text_of(row: Row, key: str) -> str:
    """Return a key that must hold text that is not blank."""
    if key not in row:
        raise ValueError(f"the key {key!r} is missing")
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        what = "must not be empty" if isinstance(value, str) else f"must be text, got {value!r}"
        raise ValueError(f"{key!r} {what}")
    return value


def optional_text(row: Row, key: str) -> str | None:
    """Return a key that may be left out; numbers are taken as text."""
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{key!r} must be text or a whole number, got {value!r}")


def item_ids(contents: Sequence[Sequence[object]], own: Sequence[str | None], salt: str) -> IdArray:
    """Give every item its id: its own id if it has one, its content, and which repeat it is.

    The content is part of the id even where a row brings its own, so that an edited question is
    never paired with its former self.
    """
    seen: dict[str, int] = {}
    keys = []
    for content, name in zip(contents, own, strict=True):
        key = digest(name or "", *content)
        seen[key] = seen.get(key, 0) + 1
        keys.append(f"{key}#{seen[key]}")
    return hash_ids(keys, salt)


def check_limit(limit: int | None) -> None:
    """Raise UsageError for a limit below 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise UsageError(f"a limit must be a whole number, got {limit!r}.")
    if limit is not None and limit < 1:
        raise UsageError(f"a limit must be at least 1, got {limit}.")


def chosen(ids: IdArray, limit: int | None) -> list[int]:
    """Return the positions of the ``limit`` smallest ids, in source order."""
    check_limit(limit)
    if limit is None or limit >= len(ids):
        return list(range(len(ids)))
    return sorted(int(i) for i in np.argsort(ids, kind="stable")[:limit])


def signature(model: Model, hard: Mapping[str, object], **soft: str) -> Signature:
    """Join what makes runs of this probe comparable with what describes the model."""
    described: Mapping[str, str] = getattr(model, "description", {})
    return Signature(
        {key: str(value) for key, value in hard.items()},
        {"model": str(model.name), **described, **soft},
    )


def softmax(logprobs: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> np.ndarray[Any, Any]:
    """Renormalise each row over its options, (n, k); rows of fewer options end in zeros."""
    width = max(len(row) for row in logprobs)
    table = np.full((len(logprobs), width), -math.inf)
    for i, row in enumerate(logprobs):
        table[i, : len(row)] = row
    shifted = np.exp(table - table.max(axis=1, keepdims=True))
    out: np.ndarray[Any, Any] = shifted / shifted.sum(axis=1, keepdims=True)
    return out


def all_scored(name: str, n: int, scored: int) -> None:
    """Raise ProbeError unless every item was scored: none is ever dropped."""
    if n != scored:
        raise ProbeError(f"probe {name!r}: {scored} of {n} items were scored; none may be dropped.")


def all_positions_scored(
    name: str, wanted: Mapping[int, int], scores: Sequence[NextTokenScores]
) -> None:
    """Raise ProbeError unless each text was scored at as many positions as were chosen in it."""
    for i, score in enumerate(scores):
        if len(score.hit) != wanted.get(i, 0):
            raise ProbeError(
                f"probe {name!r}: {len(score.hit)} positions of text {i} were scored where "
                f"{wanted.get(i, 0)} were chosen; a model scores what `choose` returns."
            )
