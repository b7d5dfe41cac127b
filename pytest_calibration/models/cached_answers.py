"""A model's answers, kept in a cache: what was asked once is answered without the model.

An entry belongs to one call. A call of ``next_token`` has two: the characters of all tokens, under
the texts alone, and the scores, under the texts and the positions chosen. So ``choose`` runs again
on the kept characters, and only the scores of what it chooses are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import TokenBoundaryError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest, code_digest
from pytest_calibration.models.fitness import CLASSIFYING, unfit
from pytest_calibration.models.protocols import (
    Choose,
    Generation,
    Likelihood,
    Message,
    NextTokenScores,
    Text,
)

T = TypeVar("T")
# (n, 2) first and one-past-last character of each token.
Spans: TypeAlias = NDArray[np.int64]
Indices: TypeAlias = NDArray[np.int64]
# Name of a field: one array per text or prompt.
Columns: TypeAlias = Mapping[str, Sequence[NDArray[Any]]]
SCORE_FIELDS: Final = ("spans", "top_probability", "hit", "target_logprob", "token_ids")
META: Final = "meta"


class CachedAnswers:
    """A model that answers from a cache, else loads itself, and keeps what it answers.

    It has the methods of all kinds of models; those that the loaded model lacks raise ModelError.

    Args:
        cache: where answers are kept; None for nowhere.

    Attributes:
        cache: where answers are kept; None for nowhere.
        served: calls that were answered from the cache.
        computed: calls that needed the loaded model.
    """

    def __init__(self, cache: Cache | None) -> None:
        self.cache = cache
        self.served = 0
        self.computed = 0

    def load(self) -> Any:
        """Return the model with its weights in memory."""
        raise NotImplementedError

    @property
    def cache_key(self) -> bytes | None:
        """Digest of everything but the question that an answer depends on; None to keep none."""
        raise NotImplementedError

    def unchanged(self) -> bool:
        """Return whether the model, now loaded, is still the one of ``cache_key``."""
        raise NotImplementedError

    @cached_property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that describe how it scores."""
        key = self._entry_key("description")
        kept = self._read(key, lambda meta, _: (dict(meta["description"]), list(meta["notes"])))
        if kept is not None:
            description, notes = kept
            self.note(notes)
            return description
        model = self.load()
        description = dict(getattr(model, "description", {}))
        notes = list(getattr(model, "checkpoint_notes", ()))
        self._write(key, {"description": description, "notes": notes})
        return description

    def note(self, sentences: Sequence[str]) -> None:
        """Take note of what was noted about the model that gave the kept answers."""

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        key = self._entry_key("render_chat", list(chats), variables)
        kept = self._read(key, lambda meta, _: list(map(str, meta["texts"])), len(chats))
        if kept is not None:
            self.served += 1
            return kept
        texts: list[str] = self._ask("render_chat", chats, variables)
        self._write(key, {"texts": texts})
        return texts

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        **special: bool,
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        rows = [list(row) for row in options]
        key = self._entry_key("option_logprobs", list(prompts), rows, special)
        kept = self._read(key, _read_option_logprobs, len(prompts))
        if kept is not None:
            self.served += 1
            if isinstance(kept, TokenBoundaryError):
                raise kept
            return kept
        try:
            logprobs: list[NDArray[np.float64]] = self._ask(
                "option_logprobs", prompts, options, **special
            )
        except TokenBoundaryError as error:
            # The tokenizer's answer, the same every time.
            self._write(key, {"boundary": str(error)})
            raise
        self._write(key, {}, {"logprobs": logprobs})
        return logprobs

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None, **special: bool
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        texts = list(texts)
        key = self._entry_key("spans", texts, special)
        kept_spans = self._read(key, _read_spans, len(texts))
        kept_chosen: list[Indices] = []
        if kept_spans is not None:
            kept_chosen = [_chosen(choose, i, spans) for i, spans in enumerate(kept_spans)]
            scores_key = self._scores_key(texts, kept_chosen, special)
            kept = self._read(scores_key, _read_next_token, len(texts))
            if kept is not None:
                self.served += 1
                return kept
        spans: dict[int, Spans] = {}
        chosen: dict[int, Indices] = {}

        def choose_and_keep(i: int, text_spans: Spans) -> Indices:
            spans[i] = np.array(text_spans, dtype=np.int64)
            # The probe is asked again only where the characters are not those that were kept.
            same = kept_spans is not None and np.array_equal(kept_spans[i], spans[i])
            chosen[i] = kept_chosen[i] if same else _chosen(choose, i, text_spans)
            return chosen[i]

        scores: list[NextTokenScores] = self._ask(
            "next_token", texts, choose=None if choose is None else choose_and_keep, **special
        )
        if choose is None:
            spans = {i: one.spans for i, one in enumerate(scores)}
            chosen = {i: np.arange(len(one.spans)) for i, one in enumerate(scores)}
        if len(spans) == len(texts) == len(scores):
            order = range(len(texts))
            self._write(key, {}, {"spans": [spans[i] for i in order]})
            scores_key = self._scores_key(texts, [chosen[i] for i in order], special)
            self._write(scores_key, *_next_token_entry(scores))
        return scores

    def _scores_key(
        self, texts: Sequence[str], chosen: Sequence[Indices], special: Mapping[str, bool]
    ) -> bytes:
        plain = [np.ascontiguousarray(one, dtype="<i8").tobytes() for one in chosen]
        return self._entry_key("next_token", texts, plain, special)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], **how: Any
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.SamplingModel`."""
        return self._continuations("generate", prompts, max_new_tokens=max_new_tokens, **how)

    def sample(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], **how: Any
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.SamplingModel`."""
        return self._continuations("sample", prompts, max_new_tokens=max_new_tokens, **how)

    def _continuations(self, name: str, prompts: Sequence[str], **how: Any) -> list[Generation]:
        key = self._entry_key(name, list(prompts), how)
        kept = self._read(key, _read_generations, len(prompts))
        if kept is not None:
            self.served += 1
            return kept
        written: list[Generation] = self._ask(name, prompts, **how)
        meta = {
            "texts": [one.text for one in written],
            "finished": [bool(one.finished) for one in written],
        }
        self._write(key, meta, {"logprobs": [one.token_logprobs for one in written]})
        return written

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False, cut: bool = False
    ) -> list[Likelihood]:
        """See :class:`~pytest_calibration.models.protocols.HarnessModel`."""
        key = self._entry_key("loglikelihood", [list(pair) for pair in requests], own, cut)
        kept = self._read(key, _read_likelihoods, len(requests))
        if kept is not None:
            self.served += 1
            return kept
        found: list[Likelihood] = self._ask("loglikelihood", requests, own=own, cut=cut)
        own_logprobs = [math.nan if one.own_logprob is None else one.own_logprob for one in found]
        columns = {
            "logprob": [np.array([one.logprob for one in found])],
            "is_greedy": [np.array([one.is_greedy for one in found])],
            "own_logprob": [np.array(own_logprobs)],
            "n_cut": [np.array([one.n_cut for one in found], dtype=np.int64)],
        }
        self._write(key, {"texts": [one.own_text for one in found]}, columns)
        return found

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], bool]:
        """Names of the classes, and whether a text may have any number of them."""
        key = self._entry_key("classes")
        kept = self._read(key, lambda meta, _: (tuple(map(str, meta["names"])), bool(meta["many"])))
        if kept is not None:
            return kept
        model = self.load()
        if not any(hasattr(model, method) for method in CLASSIFYING):
            raise unfit(model, CLASSIFYING[0])
        names = tuple(map(str, getattr(model, "class_names", ())))
        many = bool(getattr(model, "multi_label", False))
        self._write(key, {"names": names, "many": many})
        return names, many

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns; empty where they have none."""
        return self._classes[0]

    @property
    def multi_label(self) -> bool:
        """Whether a text may have any number of classes."""
        return self._classes[1]

    def class_probabilities(self, texts: Sequence[Text], **options: Any) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.Classifier`."""
        return self._table("class_probabilities", texts, options)

    def class_logits(self, texts: Sequence[Text], **options: Any) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.InferenceModel`."""
        return self._table("class_logits", texts, options)

    def rewards(self, texts: Sequence[Text], **options: Any) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.RewardModel`."""
        return self._table("rewards", texts, options)

    def truncated(self, texts: Sequence[Text]) -> NDArray[np.bool_]:
        """Return which texts a classifier with ``truncate`` would cut, (n,)."""
        return self._table("truncated", texts, {})

    def _table(
        self, method: str, texts: Sequence[Text], options: Mapping[str, Any]
    ) -> NDArray[Any]:
        """Return the array that a method gives for texts, a row each."""
        key = self._entry_key(method, list(texts), options)
        kept = self._read(key, lambda _, columns: columns["rows"][0], len(texts))
        if kept is not None:
            self.served += 1
            return kept
        table: NDArray[Any] = self._ask(method, texts, **options)
        self._write(key, {}, {"rows": [table]})
        return table

    def token_class_probabilities(
        self, texts: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.TokenClassifier`."""
        key = self._entry_key("token_class_probabilities", [list(words) for words in texts])
        kept = self._read(key, lambda _, columns: list(columns["rows"]), len(texts))
        if kept is not None:
            self.served += 1
            return kept
        tables: list[NDArray[np.float64]] = self._ask("token_class_probabilities", texts)
        self._write(key, {}, {"rows": tables})
        return tables

    # --- the model and the cache -------------------------------------------------------------

    def _ask(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the model.

        Raises:
            ModelError: a model of this kind does not have it.
        """
        self.computed += 1
        model = self.load()
        method = getattr(model, name, None)
        if method is None:
            raise unfit(model, name)
        return method(*arguments, **named)

    def _entry_key(self, *question: object) -> bytes:
        if self._active_cache is None:
            return b""
        return Digest(code_digest(), self.cache_key, *question).bytes()

    @property
    def _active_cache(self) -> Cache | None:
        return None if self.cache is None or self.cache_key is None else self.cache

    def _read(
        self, key: bytes, make: Callable[[Any, Columns], T], n: int | None = None
    ) -> T | None:
        """Return the answers that ``make`` reads from an entry; None without a sound one.

        Args:
            key: of the entry.
            make: reads answers from an unpacked entry.
            n: how many there must be, if they are a list or an array.
        """
        content = None if self._active_cache is None else self._active_cache.get(key)
        if self._active_cache is None or content is None:
            return None
        try:
            answers = make(*unpacked(content))
            if isinstance(answers, list | np.ndarray) and len(answers) != n:
                raise ValueError(f"{len(answers)} answers where there should be {n}")
        except Exception:  # damaged bytes fail in many ways, which all mean the same
            self._active_cache.mark_damaged(key)
            return None
        return answers

    def _write(
        self, key: bytes, meta: Mapping[str, object], columns: Columns | None = None
    ) -> None:
        if self._active_cache is not None and self.unchanged():
            self._active_cache.put(key, packed(meta, columns or {}))


def _chosen(choose: Choose | None, i: int, spans: Spans) -> Indices:
    """Return the positions that are chosen in a text, in its order."""
    if choose is None:
        return np.arange(len(spans))
    # A copy: the probe may write to it, and it is compared afterwards.
    return np.sort(np.asarray(choose(i, spans.copy()), dtype=np.int64))


# --- entries -------------------------------------------------------------------------------------


def _read_option_logprobs(
    meta: Any, columns: Columns
) -> list[NDArray[np.float64]] | TokenBoundaryError:
    if "boundary" in meta:
        return TokenBoundaryError(str(meta["boundary"]))
    return list(columns["logprobs"])


def _read_spans(_: Any, columns: Columns) -> list[Spans]:
    return [rows.reshape(-1, 2) for rows in columns["spans"]]


def _next_token_entry(scores: Sequence[NextTokenScores]) -> tuple[dict[str, object], Columns]:
    token_texts = dict.fromkeys(text for one in scores for text in one.top_text)
    index = {text: i for i, text in enumerate(token_texts)}
    columns = {name: [getattr(one, name) for one in scores] for name in SCORE_FIELDS}
    columns["top_text"] = [np.array([index[text] for text in one.top_text], int) for one in scores]
    return {"token_texts": list(token_texts)}, columns


def _read_next_token(meta: Any, columns: Columns) -> list[NextTokenScores]:
    texts = [[str(meta["token_texts"][i]) for i in row] for row in columns["top_text"]]
    rows = zip(*(columns[name] for name in SCORE_FIELDS), texts, strict=True)
    return [NextTokenScores(*row) for row in rows]


def _read_generations(meta: Any, columns: Columns) -> list[Generation]:
    rows = zip(meta["texts"], columns["logprobs"], meta["finished"], strict=True)
    return [Generation(str(text), logprobs, bool(ended)) for text, logprobs, ended in rows]


def _read_likelihoods(meta: Any, columns: Columns) -> list[Likelihood]:
    rows = zip(
        *(columns[name][0] for name in ("logprob", "is_greedy", "own_logprob", "n_cut")),
        meta["texts"],
        strict=True,
    )
    return [
        Likelihood(
            *(float(logprob), bool(greedy), None if math.isnan(own) else float(own)),
            *(str(text), int(n_cut)),
        )
        for logprob, greedy, own, n_cut, text in rows
    ]


def packed(meta: Mapping[str, object], columns: Columns) -> bytes:
    """Return plain values and arrays as the bytes of an npz file.

    Args:
        meta: what JSON can hold.
        columns: by name, arrays of any length that are alike in type and other dimensions.
    """
    # ASCII: JSON then holds half a surrogate pair, too.
    text = json.dumps(meta).encode("ascii")
    arrays: dict[str, NDArray[Any]] = {META: np.frombuffer(text, np.uint8)}
    for name, rows in columns.items():
        arrays[name] = np.concatenate(rows) if rows else np.empty(0)
        arrays[f"{name} lengths"] = np.array([len(row) for row in rows], dtype=np.int64)
    file = BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, list[NDArray[Any]]]]:
    """Return what :func:`packed` was given.

    Raises:
        Exception: of any kind, where these are no such bytes.
    """
    with np.load(BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays.pop(META).tobytes())
    columns = {}
    for name in [name for name in arrays if f"{name} lengths" in arrays]:
        lengths = arrays[f"{name} lengths"]
        if lengths.sum() != len(arrays[name]) or (lengths < 0).any():
            raise ValueError(f"{len(arrays[name])} values where there should be {lengths.sum()}")
        columns[name] = np.split(arrays[name], np.cumsum(lengths)[:-1]) if len(lengths) else []
    return meta, columns
