"""A Hugging Face causal language model in memory.

Texts become rows of tokens here, and scores of rows become answers. Scores do not depend on what is
scored together: each token sees its own row only, and the soft-max is computed in float32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, TokenBoundaryError
from pytest_calibration.models.backends.transformers.decoding import Continuation
from pytest_calibration.models.backends.transformers.harness_requests import (
    encoded,
    likelihoods,
    own_continuations,
)
from pytest_calibration.models.backends.transformers.in_memory import (
    ModelInMemory,
    check_texts,
    evaluating,
    excerpt,
    explained,
)
from pytest_calibration.models.backends.transformers.kinds import CAUSAL_LM, check_class
from pytest_calibration.models.backends.transformers.reading import quiet
from pytest_calibration.models.backends.transformers.rows import Row, RowScores
from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.protocols import (
    Choose,
    Generation,
    Likelihood,
    NextTokenScores,
)
from pytest_calibration.models.stops import before_stop

# Where a prompt may be cut, to tokenise both parts separately: between a word and the space after
# it, where tokenizers split texts into words. It is checked each time.
_CUT: Final = re.compile(r"(?<=[^\W_])(?=\s)")
TAIL: Final = (40, 400)
"""Fewest and most characters between the cut and the end of a prompt."""


class TransformersModel(ModelInMemory):
    """A causal language model in memory, with its tokenizer."""

    TASK = CAUSAL_LM

    def _prepare(self, batch_tokens: int | None) -> None:
        with quiet(), evaluating(self.model), explained(self.name):
            self._scorer = Scorer(
                self.model,
                self.base,
                name=self.name,
                device=self.device,
                budget=batch_tokens,
                longest=self.max_tokens,
                virtual=self.virtual,
            )
        self._opening, self._closing = _added_tokens(self.tokenizer)
        self._opening_text = _text_of_opening(self.tokenizer, self._opening)
        self._token_texts: dict[int, str] = {}

    @classmethod
    def check(cls, name: str, model: Any) -> None:
        """See :class:`ModelInMemory`."""
        check_class(name, model)

    @property
    def notes(self) -> list[str]:
        """See :class:`ModelInMemory`."""
        return self._scorer.notes

    def close(self) -> None:
        """Free the weights."""
        del self._scorer
        super().close()

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
                _check_boundary(head, ids, prompts[i], text)
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

    def _score(self, rows: list[Row], count: tuple[int, int, str] | None = None) -> list[RowScores]:
        with evaluating(self.model), explained(self.name):
            return self._scorer.score(rows, count=count)

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
        with evaluating(self.model), explained(self.name):
            self._scorer.grow(rows, temperature=temperature, check=check)
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

    def _encode_options(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        add_special_tokens: bool = True,
    ) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Return the tokens of each prompt, and of each prompt with each of its options.

        A long prompt is tokenised once, with its first option; for every other option only its
        last few words are tokenised again. The first option also shows whether the cut changes a
        token; if it does, prompt and options are tokenised whole.
        """
        cuts = [_cut(p) if texts else 0 for p, texts in zip(prompts, options, strict=True)]
        firsts = self._encode(
            [p + texts[0] for p, texts, cut in zip(prompts, options, cuts, strict=True) if cut],
            add_special_tokens,
        )
        ends = [p[cut:] for p, cut in zip(prompts, cuts, strict=True) if cut]
        tails = self._encode_bare(
            [
                end + text
                for end, texts in zip(ends, _of_cut(options, cuts), strict=True)
                for text in ("", *texts)
            ]
        )
        prompt_ids: list[list[int]] = [[] for _ in prompts]
        option_ids: list[list[list[int]]] = [[] for _ in prompts]
        rest: list[int] = []
        first, tail = iter(firsts), iter(tails)
        for i, (texts, cut) in enumerate(zip(options, cuts, strict=True)):
            if cut:
                whole = next(first)
                end, *ids = [next(tail) for _ in range(len(texts) + 1)]
                if ids[0] and whole[-len(ids[0]) :] == ids[0]:
                    begin = whole[: -len(ids[0])]
                    prompt_ids[i], option_ids[i] = begin + end, [begin + one for one in ids]
                    continue
            rest.append(i)
        heads = self._encode([prompts[i] for i in rest], add_special_tokens)
        for i, head in zip(rest, heads, strict=True):
            prompt_ids[i] = head
        wholes = [prompts[i] + text for i in rest for text in options[i]]
        each = iter(self._encode(wholes, add_special_tokens))
        for i in rest:
            option_ids[i] = [next(each) for _ in options[i]]
        return prompt_ids, option_ids

    def _encode_bare(self, texts: list[str]) -> list[list[int]]:
        """Return token ids without those that the tokenizer adds around a text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [list(row) for row in encoded["input_ids"]]

    def _encode(self, texts: list[str], add_special_tokens: bool = True) -> list[list[int]]:
        """Return token ids without the end token that some tokenizers add to every text."""
        if not texts:
            return []
        if add_special_tokens:
            bare = [self._without_opening(text) for text in texts]
            whole = self.tokenizer(bare, return_attention_mask=False, verbose=False)["input_ids"]
            ids = [list(row)[: len(row) - self._closing] for row in whole]
        else:
            ids = self._encode_bare(texts)
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise ModelError(
                    f"{self.name}: the prompt {excerpt(text)} has no tokens; a model needs at "
                    "least one to predict from."
                )
        return ids

    def _without_opening(self, text: str) -> str:
        """Return a text without what the tokenizer puts before it: a model reads one BOS."""
        while self._opening_text and text.startswith(self._opening_text):
            text = text.removeprefix(self._opening_text)
        return text

    def _end_tokens(self) -> frozenset[int]:
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        if configured is None:
            configured = self.tokenizer.eos_token_id
        if configured is None:
            return frozenset()
        return frozenset([configured] if isinstance(configured, int) else configured)

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


def _check_boundary(head: list[int], ids: list[int], prompt: str, option: str) -> None:
    if ids[: len(head)] != head:
        raise TokenBoundaryError(
            f"the tokenizer merges the end of the prompt {excerpt(prompt, tail=True)} with the "
            f"option {option!r}, so their probabilities cannot be told apart; end the prompt or "
            "begin the option elsewhere."
        )
    if len(ids) == len(head):
        raise ModelError(f"the option {option!r} adds no token to {excerpt(prompt, tail=True)}.")


def _cut(prompt: str) -> int:
    """Return where a prompt is cut; 0 where it is too short or has no such place."""
    least, most = TAIL
    if len(prompt) < 2 * least:
        return 0
    start = max(1, len(prompt) - most)
    found = [match.start() for match in _CUT.finditer(prompt, start, len(prompt) - least)]
    return found[-1] if found else 0


def _of_cut(options: Sequence[Sequence[str]], cuts: Sequence[int]) -> list[Sequence[str]]:
    return [texts for texts, cut in zip(options, cuts, strict=True) if cut]


def _added_tokens(tokenizer: Any) -> tuple[list[int], int]:
    """Return the tokens that it puts before every text, and how many after."""
    whole, bare = (
        list(tokenizer("a", add_special_tokens=added, verbose=False)["input_ids"])
        for added in (True, False)
    )
    for first in range(len(whole) - len(bare) + 1):
        if bare and whole[first : first + len(bare)] == bare:
            return whole[:first], len(whole) - first - len(bare)
    return [], 0


def _text_of_opening(tokenizer: Any, opening: list[int]) -> str:
    """Return the text that is read as these tokens; empty where there is none."""
    text = "".join(map(str, tokenizer.convert_ids_to_tokens(opening)))
    read = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
    return text if list(read) == opening else ""
