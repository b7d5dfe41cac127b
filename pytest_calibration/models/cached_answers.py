"""A model whose answers are kept: asked once, it is not asked the same again.

One entry per call: the log-probabilities of options, or the error that options cannot be told
apart from their prompts; the continuations; of next tokens, the characters of all tokens (under the
texts alone) and the scores (under the texts and the positions chosen), so that ``choose`` decides
anew over the kept characters and only what it then chooses is served.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import TokenBoundaryError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.protocols import (
    Choose,
    Generation,
    LanguageModel,
    NextTokenScores,
)

T = TypeVar("T")
Picks = NDArray[np.int64]
FORMAT: Final = 1
# What arrays are kept as.
_TYPES: Final = ("<f8", "<i8", "<i4", "|b1")


class Remembered:
    """Answers from a cache, or from the model and into the cache.

    Args:
        load: returns the model with its weights in memory.
        cache: where answers are kept.
        state: digest of everything but the question that an answer depends on.
        keeps: says, once the model is loaded, whether that digest is still its own.

    Attributes:
        served: calls that were answered from the cache.
        computed: calls that the model answered.
    """

    def __init__(
        self,
        load: Callable[[], LanguageModel],
        cache: Cache,
        state: bytes,
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        self._load = load
        self._cache = cache
        self._state = state
        self._keeps = keeps
        self.served = 0
        self.computed = 0

    @cached_property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that stand beside every number."""
        key = self._key("description")
        found = self._read(key, lambda meta, _: _texts(meta["description"]))
        if found is not None:
            return found
        loaded: Mapping[str, str] = getattr(self._load(), "description", {})
        self._keep(key, {"description": dict(loaded)})
        return loaded

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        key = self._key("option_logprobs", list(prompts), [list(row) for row in options])
        found = self._read(key, _option_logprobs, len(prompts))
        if isinstance(found, TokenBoundaryError):
            self.served += 1
            raise found
        if found is not None:
            self.served += 1
            return found
        self.computed += 1
        model = self._load()
        try:
            given = model.option_logprobs(prompts, options)
        except TokenBoundaryError as problem:
            # The same for ever: it is the tokenizer's answer.
            self._keep(key, {"boundary": str(problem)})
            raise
        counts = [len(row) for row in given]
        self._keep(key, {"counts": counts}, logprobs=_joined(given, np.float64))
        return given

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        texts = list(texts)
        key = self._key("spans", texts)
        known = self._read(key, _spans, len(texts))
        picks: list[Picks] = []
        if known is not None:
            picks = [_picked(choose, i, spans) for i, spans in enumerate(known)]
            found = self._read(self._scores_key(texts, picks), _next_token, len(texts))
            if found is not None:
                self.served += 1
                return found
        self.computed += 1
        model = self._load()
        spans: dict[int, NDArray[np.int64]] = {}
        taken: dict[int, Picks] = {}

        def watch(i: int, these: NDArray[np.int64]) -> Picks:
            spans[i] = np.array(these, dtype=np.int64)
            # Asked already over the kept characters; over others only if they are others.
            asked = known is not None and np.array_equal(known[i], spans[i])
            taken[i] = picks[i] if asked else _picked(choose, i, these)
            return taken[i]

        given = model.next_token(texts, choose=None if choose is None else watch)
        if choose is None:
            spans = {i: scores.spans for i, scores in enumerate(given)}
            taken = {i: np.arange(len(scores.spans)) for i, scores in enumerate(given)}
        if len(spans) == len(texts) == len(given):
            seen = [spans[i] for i in range(len(texts))]
            self._keep(key, {"counts": [len(s) for s in seen]}, spans=_joined(seen, np.int64, 2))
            chosen = [taken[i] for i in range(len(texts))]
            self._keep(self._scores_key(texts, chosen), *_next_token_entry(given))
        return given

    def _scores_key(self, texts: Sequence[str], picks: Sequence[Picks]) -> bytes:
        plain = [np.ascontiguousarray(p, dtype="<i8").tobytes() for p in picks]
        return self._key("next_token", texts, plain)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`."""
        key = self._key("generate", list(prompts), [int(n) for n in max_new_tokens])
        found = self._read(key, _generations, len(prompts))
        if found is not None:
            self.served += 1
            return found
        self.computed += 1
        given = self._load().generate(prompts, max_new_tokens=max_new_tokens)
        logprobs = [one.token_logprobs for one in given]
        self._keep(
            key,
            {"texts": [one.text for one in given], "counts": [len(row) for row in logprobs]},
            logprobs=_joined(logprobs, np.float64),
        )
        return given

    # --- entries -----------------------------------------------------------------------------

    def _key(self, *question: object) -> bytes:
        return Digest(FORMAT, self._state, *question).bytes()

    def _read(
        self, key: bytes, made: Callable[[Any, dict[str, NDArray[Any]]], T], n: int | None = None
    ) -> T | None:
        """Return what is made of an entry, n answers where it is a list; None without one."""
        content = self._cache.get(key)
        if content is None:
            return None
        try:
            found = made(*unpacked(content))
            if isinstance(found, list) and len(found) != n:
                raise ValueError(f"{len(found)} answers where there should be {n}")
        except (ValueError, KeyError, TypeError, IndexError):
            self._cache.mark_damaged(key)
            return None
        return found

    def _keep(
        self,
        key: bytes,
        meta: Mapping[str, object],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        **more: NDArray[Any],
    ) -> None:
        if self._keeps():
            self._cache.put(key, packed(meta, {**(arrays or {}), **more}))


def _picked(choose: Choose | None, i: int, spans: NDArray[np.int64]) -> Picks:
    """Return the positions that are chosen in a text, in its order."""
    if choose is None:
        return np.arange(len(spans))
    # A copy: what is shown may be written to, and is compared afterwards.
    return np.sort(np.asarray(choose(i, spans.copy()), dtype=np.int64))


def _option_logprobs(
    meta: Any, arrays: Mapping[str, NDArray[Any]]
) -> list[NDArray[np.float64]] | TokenBoundaryError:
    if "boundary" in meta:
        return TokenBoundaryError(str(meta["boundary"]))
    return _parted(arrays["logprobs"], meta["counts"])


def _spans(meta: Any, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[np.int64]]:
    return _parted(arrays["spans"].astype(np.int64).reshape(-1, 2), meta["counts"])


def _next_token_entry(
    given: Sequence[NextTokenScores],
) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
    words = [word for one in given for word in one.top_text]
    table = {word: i for i, word in enumerate(dict.fromkeys(words))}
    meta = {
        "counts": [len(one.hit) for one in given],
        "words": list(table),
        "worded": [len(one.top_text) for one in given],
    }
    arrays = {
        "spans": _joined([one.spans for one in given], np.int64, 2),
        "top_probability": _joined([one.top_probability for one in given], np.float64),
        "hit": _joined([one.hit for one in given], np.bool_),
        "target_logprob": _joined([one.target_logprob for one in given], np.float64),
        "token_ids": _joined([one.token_ids for one in given], np.int64),
        "top_text": np.array([table[word] for word in words], dtype=np.int64),
    }
    return meta, arrays


def _next_token(meta: Any, arrays: Mapping[str, NDArray[Any]]) -> list[NextTokenScores]:
    counts, words = meta["counts"], [str(word) for word in meta["words"]]
    columns = [
        _spans(meta, arrays),
        *(
            _parted(arrays[name].astype(kind), counts)
            for name, kind in (
                ("top_probability", np.float64),
                ("hit", np.bool_),
                ("target_logprob", np.float64),
                ("token_ids", np.int64),
            )
        ),
    ]
    said = [[words[i] for i in row.tolist()] for row in _parted(arrays["top_text"], meta["worded"])]
    return [NextTokenScores(*row) for row in zip(*columns, said, strict=True)]


def _generations(meta: Any, arrays: Mapping[str, NDArray[Any]]) -> list[Generation]:
    rows = _parted(arrays["logprobs"], meta["counts"])
    return [Generation(str(text), row) for text, row in zip(meta["texts"], rows, strict=True)]


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in dict(value).items()}


def _joined(rows: Sequence[NDArray[Any]], kind: Any, width: int = 0) -> NDArray[Any]:
    empty = np.empty((0, width) if width else 0, dtype=kind)
    return np.concatenate([empty, *(np.asarray(row, dtype=kind) for row in rows)])


def _parted(values: NDArray[Any], counts: Sequence[int]) -> list[NDArray[Any]]:
    """Cut an array into pieces of so many rows each, which must be all of it.

    The pieces are copies: what one caller writes into them no other sees.
    """
    if any(n < 0 for n in counts) or sum(counts) != len(values):
        raise ValueError(f"{len(values)} values where there should be {sum(counts)}")
    ends = np.cumsum([0, *counts]).tolist()
    return [values[a:b].copy() for a, b in pairwise(ends)]


# --- bytes ---------------------------------------------------------------------------------------


def packed(meta: Mapping[str, object], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return plain values and arrays as bytes: a line of JSON, then the arrays as they lie."""
    kept = {name: _narrow(array) for name, array in arrays.items()}
    plan = [[name, a.dtype.str, a.shape] for name, a in kept.items()]
    # ASCII: JSON then holds half a surrogate pair, too.
    head = json.dumps({"arrays": plan, **meta}).encode("ascii")
    return b"\n".join([head, b"".join(a.tobytes() for a in kept.values())])


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what :func:`packed` was given; integers may be narrower.

    Raises:
        ValueError: these are no such bytes.
    """
    head, _, body = content.partition(b"\n")
    meta = json.loads(head)
    if not isinstance(meta, dict):
        raise ValueError("not an entry")
    arrays, start = {}, 0
    for name, kind, shape in meta["arrays"]:
        if kind not in _TYPES:
            raise ValueError(f"an array of {kind!r}")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {shape}")
        count = math.prod(shape)
        if start + count * np.dtype(kind).itemsize > len(body):
            raise ValueError("an array that is cut off")
        arrays[name] = np.frombuffer(body, kind, count, start).reshape(shape)
        start += arrays[name].nbytes
    if start != len(body):
        raise ValueError("more bytes than arrays")
    return meta, arrays


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as it is kept: integers in half the bytes where they fit."""
    if array.dtype.kind == "i":
        least, most = (int(array.min()), int(array.max())) if array.size else (0, 0)
        fits = least >= -(1 << 31) and most < 1 << 31
        return np.ascontiguousarray(array, dtype="<i4" if fits else "<i8")
    return np.ascontiguousarray(array, dtype="<f8" if array.dtype.kind == "f" else "|b1")
