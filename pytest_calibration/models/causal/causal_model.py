"""A causal language model, as probes ask it: texts become rows of tokens, scores become answers.

Where the tokens are scored is left to the classes of the backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError
from pytest_calibration.models.causal.continuation import Continuation
from pytest_calibration.models.causal.encoding import (
    TextEncoder,
    check_boundary,
    check_texts,
    excerpt,
)
from pytest_calibration.models.causal.harness_requests import (
    encoded,
    likelihoods,
    own_continuations,
)
from pytest_calibration.models.causal.rows import Row, RowScores
from pytest_calibration.models.protocols import (
    Choose,
    Generation,
    Likelihood,
    NextTokenScores,
)
from pytest_calibration.models.stops import before_stop


class CausalModel(TextEncoder):
    """Answers probes with what is found out about rows of tokens.

    Attributes:
        name: what errors call the model.
        tokenizer: its tokenizer, of transformers.
        max_tokens: how many tokens of a text it can read.
    """

    max_tokens: float

    def _prepare_answers(self) -> None:
        """Get ready to answer, once the tokenizer is known."""
        self._prepare_encoding()
        self._token_texts: dict[int, str] = {}

    def _score(self, rows: list[Row], count: tuple[int, int, str] | None = None) -> list[RowScores]:
        """Score rows; ``count`` is (done before, total, unit) of the work they are a part of."""
        raise NotImplementedError

    def _grow(
        self,
        rows: list[Continuation],
        temperature: float | None,
        check: Callable[[Sequence[Continuation]], None],
        stop: Sequence[str],
    ) -> None:
        """Continue rows until none is active.

        Args:
            rows: what to continue.
            temperature: of the distribution that tokens are drawn from; None for the most likely.
            check: is given rows before they are continued; what it raises ends the work.
            stop: texts that end a continuation, of which each row knows.
        """
        raise NotImplementedError

    def _end_tokens(self) -> frozenset[int]:
        """Return the tokens that end a continuation and are no part of it."""
        raise NotImplementedError

    # --- what probes call --------------------------------------------------------------------

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`.

        A prompt and its single-token options are one row; each longer option is a row of its own.
        """
        check_texts(self.name, chain(prompts, *options))
        prompt_ids, option_ids = self._encode_options(prompts, options, add_special_tokens)
        rows: list[Row] = []
        # For each (prompt, option): the row, and first and one-past-last of its positions.
        places: list[list[tuple[int, int, int]]] = []
        for i, (head, texts, tokens) in enumerate(
            zip(prompt_ids, options, option_ids, strict=True)
        ):
            contexts: dict[tuple[int, ...], int] = {}
            slices: list[tuple[int, int, int]] = []
            for text, ids in zip(texts, tokens, strict=True):
                check_boundary(head, ids, prompts[i], text)
                self._check_length(len(ids) - 1, prompts[i])
                context = tuple(ids[:-1])
                if context not in contexts:
                    contexts[context] = len(rows)
                    rows.append(Row(ids[:-1], [], []))
                row = rows[contexts[context]]
                first = len(row.positions)
                row.positions.extend(range(len(head) - 1, len(ids) - 1))
                row.targets.extend(ids[len(head) :])
                slices.append((contexts[context], first, len(row.positions)))
            places.append(slices)
        scores = self._score(rows)
        out = [
            np.array([scores[r].target_logprob[a:b].sum() for r, a, b in slices], dtype=np.float64)
            for slices in places
        ]
        for prompt, values in zip(prompts, out, strict=True):
            if not np.isfinite(values).all():
                raise ModelError(f"{self.name}: not a finite score for {excerpt(prompt)}.")
        return out

    def next_token(
        self,
        texts: Sequence[str],
        *,
        choose: Choose | None = None,
        add_special_tokens: bool = True,
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`.

        A text longer than the model's context is read in windows that overlap by half, so every
        token past the first window has at least half a context before it. Each window begins with
        the tokens that the tokenizer puts before a text. Scores come in the order of the text.

        Raises:
            ModelError: the tokenizer gives no character offsets, or a score is not finite.
        """
        if not texts:
            return []
        check_texts(self.name, texts)
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                f"{self.name}: its tokenizer gives no character offsets, which next-token probes "
                "need; use a fast tokenizer (model: {tokenizer: ...} in calibration.yaml)."
            )
        bare = [self._without_opening(text) if add_special_tokens else text for text in texts]
        encoded = self.tokenizer(
            bare,
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        rows: list[Row] = []
        owner: list[int] = []
        wanted: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for i in range(len(texts)):
            ids = np.array(encoded["input_ids"][i], dtype=np.int64)
            spans = np.array(encoded["offset_mapping"][i], dtype=np.int64).reshape(-1, 2)
            spans += len(texts[i]) - len(bare[i])
            special = np.array(encoded["special_tokens_mask"][i], dtype=np.bool_)
            target = np.flatnonzero(~special)
            target = target[target > 0]
            if choose is not None:
                target = target[np.sort(np.asarray(choose(i, spans[target]), dtype=np.int64))]
            wanted.append((spans[target], ids[target]))
            for row in self._windows(ids, target):
                rows.append(row)
                owner.append(i)
        scores = self._score(rows)
        parts: list[list[RowScores]] = [[] for _ in texts]
        for i, score in zip(owner, scores, strict=True):
            parts[i].append(score)
        return [
            self._next_token_scores(text, spans, ids, part)
            for text, (spans, ids), part in zip(texts, wanted, parts, strict=True)
        ]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        stop: Sequence[str] = (),
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.SamplingModel`.

        Raises:
            ModelError: a prompt does not fit, or a score is not finite.
        """
        return self._continued(prompts, max_new_tokens, stop, add_special_tokens)

    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int],
        stop: Sequence[str] = (),
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """See :class:`~pytest_calibration.models.protocols.SamplingModel`.

        Raises:
            ModelError: a prompt does not fit, or a score is not finite.
        """
        return self._continued(
            prompts, max_new_tokens, stop, add_special_tokens, temperature, seeds
        )

    # --- how -----------------------------------------------------------------------------------

    def _continued(
        self,
        prompts: Sequence[str],
        max_new_tokens: Sequence[int],
        stop: Sequence[str],
        add_special_tokens: bool,
        temperature: float | None = None,
        seeds: Sequence[int] = (),
    ) -> list[Generation]:
        """Continue each prompt: by the most likely tokens, or at a temperature by drawn ones.

        What is drawn depends on the seed and on how many tokens came before, not on what else is
        continued.
        """
        check_texts(self.name, prompts)

        def is_end(added: list[int]) -> bool:
            return bool(stop) and before_stop(self._decoded(added), stop) is not None

        ends = self._end_tokens()

        def check(active: Sequence[Continuation]) -> None:
            for row in active:
                self._check_length(len(row.ids), row.text, len(row.added))

        read = self._encode(list(prompts), add_special_tokens)
        rows = [
            Continuation(text, ids, most, is_end, ends, seeds[i] if seeds else None)
            for i, (text, ids, most) in enumerate(zip(prompts, read, max_new_tokens, strict=True))
        ]
        self._grow(rows, temperature, check, stop)
        for row in rows:
            if not np.isfinite(row.logprobs).all():
                raise ModelError(f"{self.name}: not a finite score for {excerpt(row.text)}.")
        return [
            Generation(self._decoded(row.added), np.array(row.logprobs, np.float64), row.finished)
            for row in rows
        ]

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False, cut: bool = False
    ) -> list[Likelihood]:
        """See :class:`~pytest_calibration.models.protocols.HarnessModel`."""
        check_texts(self.name, chain.from_iterable(requests))
        whole = encoded(self.tokenizer, self.name, requests)
        tokens = [one.fitted(self.max_tokens) for one in whole] if cut else whole
        for (context, _), (head, rest) in zip(requests, tokens, strict=True):
            self._check_length(len(head) + len(rest) - 1, context)
        found, parts = likelihoods(requests, tokens, self._score)
        found = [
            replace(one, n_cut=len(before.context) - len(after.context))
            for one, before, after in zip(found, whole, tokens, strict=True)
        ]
        if own:
            found = [
                replace(
                    one,
                    own_logprob=logprob,
                    own_text=self._decoded(ids),
                )
                for one, (ids, logprob) in zip(
                    found, own_continuations(tokens, parts, self._score), strict=True
                )
            ]
        for (context, _), one in zip(requests, found, strict=True):
            if not math.isfinite(one.logprob) or not math.isfinite(one.own_logprob or 0.0):
                raise ModelError(f"{self.name}: not a finite score for {excerpt(context)}.")
        return found

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _check_length(self, n: int, prompt: str, written: int = 0) -> None:
        if n > self.max_tokens:
            answer = f", {written:,} of them its answer" if written else ""
            raise ModelError(
                f"{self.name}: the prompt {excerpt(prompt)} takes {n:,} tokens{answer}, more than "
                f"the {self.max_tokens:,} this model can read; use fewer shots or shorter items"
                f"{' or answers' if written else ''}."
            )

    def _windows(self, ids: NDArray[np.int64], target: NDArray[np.int64]) -> Iterator[Row]:
        """Yield rows that cover the targets, each as short as they allow."""
        size = int(min(self.max_tokens, 1 << 30))
        stride = max(1, size // 2)
        opening = self._opening
        if size - len(opening) < stride or ids[: len(opening)].tolist() != opening:
            opening = []
        done = 0
        start = 0
        while done < len(target):
            # The first window holds the opening already.
            before = opening if start else []
            here = target[done:][target[done:] <= start + size - len(before)]
            if len(here):
                last = int(here[-1])
                yield Row(
                    [*before, *ids[start:last].tolist()],
                    (here - 1 - start + len(before)).tolist(),
                    ids[here].tolist(),
                )
                done += len(here)
            start += stride

    def _next_token_scores(
        self, text: str, spans: NDArray[np.int64], ids: NDArray[np.int64], parts: list[RowScores]
    ) -> NextTokenScores:
        def joined(name: str) -> NDArray[Any]:
            arrays = [getattr(part, name) for part in parts]
            return np.concatenate(arrays) if arrays else np.empty(0)

        top, logprob = joined("top_logprob"), joined("target_logprob")
        if not (np.isfinite(top).all() and np.isfinite(logprob).all()):
            raise ModelError(f"{self.name}: not a finite score in {excerpt(text)}.")
        top_ids = joined("top_id")
        return NextTokenScores(
            spans=spans,
            top_probability=np.exp(np.minimum(top, 0.0)),
            hit=top_ids == ids,
            target_logprob=logprob,
            token_ids=ids,
            top_text=[self._token_text(int(i)) for i in top_ids],
        )

    def _token_text(self, token: int) -> str:
        """Return a token as text; each is decoded once."""
        if token not in self._token_texts:
            self._token_texts[token] = self._decoded([token])
        return self._token_texts[token]
