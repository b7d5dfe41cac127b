"""Log-likelihood requests of lm-eval, tokenised as its ``HFLM`` does, so that scores are the same.

White space at the end of a context belongs to what continues it. The context, and the context with
its continuation, are tokenised each for itself, with whatever tokens the tokenizer adds around a
text; what is scored are the tokens of the second beyond the number of tokens of the first, whether
or not it begins with them. An empty context is the token that begins a text, or else ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pytest_calibration.errors import ModelError
from pytest_calibration.models.causal.rows import Row, RowScores
from pytest_calibration.models.protocols import Likelihood
from pytest_calibration.text.visible import quoted

Score: TypeAlias = Callable[[list[Row], tuple[int, int, str] | None], list[RowScores]]
"""(rows, how far the work is) → their scores."""


class Encoded(NamedTuple):
    """The tokens of a context, and those of it that are scored after it."""

    context: list[int]
    continuation: list[int]

    def fitted(self, most: float) -> Encoded:
        """Return the same without the begin of a context that does not fit into so many tokens.

        One token of the context is left, to predict from.
        """
        over = len(self.context) + len(self.continuation) - 1 - most
        n_cut = int(min(max(over, 0), len(self.context) - 1))
        return Encoded(self.context[n_cut:], self.continuation)


def encoded(tokenizer: Any, name: str, requests: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Return the tokens of each (context, continuation).

    Raises:
        ModelError: there is no token to predict from, or none to predict.
    """
    pairs = []
    for context, continuation in requests:
        bare = context.rstrip()
        pairs.append((bare, context[len(bare) :] + continuation) if context else ("", continuation))
    prefix = tokenizer.bos_token_id
    if prefix is None:
        prefix = tokenizer.eos_token_id
    opening = "" if prefix is None else tokenizer.decode(prefix)
    contexts = list(dict.fromkeys(context for context, _ in pairs))
    heads = dict(zip(contexts, _tokens(tokenizer, contexts, opening), strict=True))
    wholes = _tokens(tokenizer, [context + rest for context, rest in pairs], opening)
    out = []
    for (given, _), (context, rest), whole in zip(requests, pairs, wholes, strict=True):
        head, ids = heads[context], whole
        if not given:
            # Without a context the continuation is tokenised alone, with nothing around it.
            head = [] if prefix is None else [prefix]
            ids = list(tokenizer(rest, add_special_tokens=False, verbose=False)["input_ids"])
            ids = ids if ids[:1] == head else head + ids
        one = Encoded(head, ids[len(head) :])
        if not one.context or not one.continuation:
            what = "the continuation" if one.context else "the context"
            raise ModelError(
                f"{name}: {what} of the request {quoted((given, rest))} has no token, so it cannot "
                "be scored; change the prompt of the task."
            )
        out.append(one)
    return out


def _tokens(tokenizer: Any, texts: Sequence[str], opening: str) -> list[list[int]]:
    """Tokenise texts; one that begins with the opening is given no special tokens."""
    out: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        index = [
            i for i, t in enumerate(texts) if special != bool(opening and t.startswith(opening))
        ]
        if index:
            rows = tokenizer(
                [texts[i] for i in index],
                add_special_tokens=special,
                return_attention_mask=False,
                verbose=False,
            )["input_ids"]
            for i, row in zip(index, rows, strict=True):
                out[i] = list(row)
    return out


def likelihoods(
    requests: Sequence[tuple[str, str]], tokens: Sequence[Encoded], score: Score
) -> tuple[list[Likelihood], list[RowScores]]:
    """Score continuations; also return what the model predicts at each of their tokens.

    Continuations of one context that differ in their last token alone are one row.
    """
    rows: list[Row] = []
    row_of: dict[tuple[str, tuple[int, ...]], int] = {}
    places = []
    for (context, _), one in zip(requests, tokens, strict=True):
        key = context, tuple(one.continuation[:-1])
        if key not in row_of:
            row_of[key] = len(rows)
            rows.append(Row([*one.context, *one.continuation[:-1]], [], []))
        row = rows[row_of[key]]
        first, start = len(row.positions), len(one.context) - 1
        row.positions.extend(range(start, start + len(one.continuation)))
        row.targets.extend(one.continuation)
        places.append((row_of[key], slice(first, len(row.positions))))
    scores = score(rows, None)
    parts = [
        RowScores(scores[r].target_logprob[s], scores[r].top_logprob[s], scores[r].top_id[s])
        for r, s in places
    ]
    found = [
        Likelihood(
            float(part.target_logprob.sum()),
            part.top_id.tolist() == one.continuation,
        )
        for part, one in zip(parts, tokens, strict=True)
    ]
    return found, parts


def own_continuations(
    tokens: Sequence[Encoded], parts: Sequence[RowScores], score: Score
) -> list[tuple[list[int], float]]:
    """Return the model's own continuation of each context, as long as the given one.

    Its tokens are the most likely ones, each after those before it; with the log-probability of
    all together.
    """
    out: list[tuple[list[int], float]] = []
    for one, part in zip(tokens, parts, strict=True):
        # Both are the same up to the first token that is not the most likely.
        differs = np.flatnonzero(part.top_id != one.continuation)
        known = int(differs[0]) + 1 if len(differs) else len(one.continuation)
        out.append((part.top_id[:known].tolist(), float(part.top_logprob[:known].sum())))
    total = sum(len(one.continuation) - len(ids) for one, (ids, _) in zip(tokens, out, strict=True))
    done = 0
    while active := [i for i, one in enumerate(tokens) if len(out[i][0]) < len(one.continuation)]:
        rows = [[*tokens[i].context, *out[i][0]] for i in active]
        scores = score([Row(ids, [len(ids) - 1], [0]) for ids in rows], (done, total, "tokens"))
        for i, found in zip(active, scores, strict=True):
            ids, logprob = out[i]
            out[i] = [*ids, int(found.top_id[0])], logprob + float(found.top_logprob[0])
        done += len(active)
    return out
