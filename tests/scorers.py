"""Scorers of tiny models in memory, rows that begin alike, and what the rows should score.

Import it where torch is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from checkpoints import VOCABULARY, new_model, quietly

from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.causal.rows import Row, RowScores

CONTEXT: Final = 128
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def make(family: str, **changes: Any) -> Any:
    """Return an untrained model that reads 128 tokens, ready to score."""
    with quietly():
        return new_model(family, **{"max_position_embeddings": CONTEXT} | changes).eval()


def settled(model: Any) -> Any:
    """Give a model what training leaves: layers that change little each, logits of some size.

    Logits spread by about 2.5, so that the likeliest of 360 tokens has a probability near 0.15.
    """
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    with torch.no_grad():
        for weight in model.model.parameters() if hasattr(model, "model") else model.parameters():
            if weight.ndim >= 2 and weight.shape[0] != VOCABULARY and weight is not head:
                weight.mul_(0.25)
        if not tied:
            ids = torch.tensor([[(7 * i) % VOCABULARY for i in range(40)]])
            head.mul_(2.5 / float(model(ids).logits.std()))
    return model


def scorer_of(
    model: Any, budget: int | None = None, *, longest: float = CONTEXT, virtual: int = 0
) -> Scorer:
    """Return a scorer on the CPU."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with quietly():
        return Scorer(
            model,
            base,
            name="tiny",
            device=torch.device("cpu"),
            budget=budget,
            longest=longest,
            virtual=virtual,
        )


def family_of_rows(
    seed: int = 1, *, trunk: int = 40, levels: tuple[int, int] = (3, 3)
) -> list[Row]:
    """Return rows that share beginnings on two levels, read all over, at the end, and in between.

    Among them: a row twice, a row that others begin with, a row of one token, and a stranger.
    """
    rng = np.random.default_rng(seed)

    def some(n: int) -> list[int]:
        return [int(i) for i in rng.integers(2, VOCABULARY, n)]

    start, rows = some(trunk), []
    for a in range(levels[0]):
        question = start + some(14 + a)
        for b in range(levels[1]):
            ids = question + some(1 + 5 * b + a)
            n = len(ids)
            places = ([*range(n)], [n - 1] * 3, [n - 3, n - 2, n - 1], [n - 1, 2, 2, n // 2])
            at = places[(a + b) % len(places)]
            rows.append(Row(ids, at, some(len(at))))
    return [
        *rows,
        rows[0],
        Row(start, [trunk - 1], [7]),
        Row([5], [0], [9]),
        Row(some(30), [29], [3]),
    ]


def only_the_ends(rows: Sequence[Row]) -> list[Row]:
    """Return the same rows, read after their last token."""
    return [Row(row.ids, [len(row.ids) - 1], row.targets[-1:]) for row in rows]


def reference(model: Any, rows: Sequence[Row]) -> list[RowScores]:
    """Score each row alone: the model called as its owner would, log-softmax in float64."""
    out = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.ids]), use_cache=False).logits[0].double()
        table = torch.log_softmax(logits, -1).numpy()[row.positions]
        out.append(
            RowScores(
                table[np.arange(len(table)), row.targets], table.max(axis=1), table.argmax(axis=1)
            )
        )
    return out


def numbers(scores: Sequence[RowScores]) -> Numbers:
    """Return log P(target) and the largest log-probability of all positions of all rows."""
    return np.concatenate([np.stack([s.target_logprob, s.top_logprob]) for s in scores], axis=1)


def apart(one: Sequence[RowScores], other: Sequence[RowScores]) -> float:
    """Return the largest difference in nats."""
    return float(np.abs(numbers(one) - numbers(other)).max())


@contextmanager
def on_the_plain_path(scorer: Scorer) -> Iterator[None]:
    """Score with each row computed from its first token."""
    before = scorer._path
    scorer._path = scorer._plain
    try:
        yield
    finally:
        scorer._path = before


@contextmanager
def passes(model: Any) -> Iterator[list[list[int]]]:
    """Collect the tokens of every forward pass."""
    seen: list[list[int]] = []
    body = model.get_decoder()

    def look(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((given[0] if given else named["input_ids"]).flatten().tolist())

    hook = body.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def distinct_beginnings(rows: Sequence[Row]) -> int:
    """Count the tokens that have to be computed at least: the nodes of the rows' prefix tree."""
    return len({tuple(row.ids[: n + 1]) for row in rows for n in range(len(row.ids))})
