"""Continuations, token by token: keys and values of what came before are kept, not computed again.

Rows of one length are continued together, without padding. So nothing depends on a mask, and a row
gets the scores that it would get alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from transformers import DynamicCache

from pytest_calibration.models.backends.transformers.attention import to_device
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary
from pytest_calibration.models.causal.continuation import Continuation

# What models call the keys and values that they are given.
CACHE_NAMES: Final = ("cache", "past_key_values")
# Tokens whose keys and values are kept at once, at least.
KEPT_TOKENS: Final = 4096


class Decoder:
    """Continues texts with one model.

    Args:
        model: a causal language model.
        vocabulary: its output layer.
        device: where it is.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary, device: torch.device) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._device = device
        called = vocabulary.body if vocabulary.split else model
        known = inspect.signature(called.forward).parameters
        self._name = next((name for name in CACHE_NAMES if name in known), "")

    @property
    def keeps(self) -> bool:
        """Whether the model takes keys and values at all."""
        return bool(self._name)

    def forced(self, ids: torch.Tensor, first: int) -> torch.Tensor:
        """Return the outputs at the last of the first tokens, and at each after it, one by one.

        Args:
            ids: (b, t) tokens.
            first: how many are read at once.

        Returns:
            (b · (t − first + 1), ·) outputs, row by row.
        """
        cache = self._new_cache()
        outputs = [self._outputs(ids[:, :first], cache)]
        # What is selected when rows come to an end: here, all of them.
        cache.batch_select_indices(torch.arange(len(ids)))
        outputs += [self._outputs(ids[:, i : i + 1], cache) for i in range(first, ids.shape[1])]
        return torch.stack(outputs, 1).flatten(0, 1)

    def run(
        self, batch: list[Continuation], temperature: float | None
    ) -> Iterator[list[Continuation]]:
        """Continue rows of one length until none is active; yield the active ones at each pass.

        Args:
            batch: what to continue, one of :func:`batches`.
            temperature: of the distribution that tokens are drawn from; None for none.
        """
        # Several continuations of one text read it once.
        distinct = list({tuple(row.ids): None for row in batch})
        places = {ids: i for i, ids in enumerate(distinct)}
        # On the CPU: the layers of a model may lie on several devices.
        index = torch.tensor([places[tuple(row.ids)] for row in batch])
        cache = self._new_cache()
        yield batch
        outputs = self._outputs(torch.tensor(distinct, device=self._device), cache)
        if len(distinct) < len(batch):
            cache.batch_select_indices(index)
        outputs = outputs[index]
        while True:
            logprobs, tokens = self._next(outputs, batch, temperature)
            for row, token, logprob in zip(batch, tokens, logprobs, strict=True):
                row.take(token, logprob)
            kept = [i for i, row in enumerate(batch) if row.active]
            if not kept:
                return
            if len(kept) < len(batch):
                cache.batch_select_indices(torch.tensor(kept))
                batch = [batch[i] for i in kept]
            last = torch.tensor([[row.ids[-1]] for row in batch], device=self._device)
            yield batch
            outputs = self._outputs(last, cache)

    def _next(
        self, outputs: torch.Tensor, batch: list[Continuation], temperature: float | None
    ) -> tuple[list[float], list[int]]:
        """Return the log-probability of the next token of each row, and the token."""
        of = torch.arange(len(batch), device=self._device)
        if temperature is None:
            _, logprob, token = self._vocabulary.reduce(outputs, torch.zeros_like(of), of)
        else:
            draws = to_device(np.array([row.draw for row in batch]), self._device)
            logprob, token = self._vocabulary.draw(outputs, draws, of, temperature)
        return logprob.double().tolist(), token.tolist()

    def _outputs(self, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Run the model on the next tokens of each row; return its outputs at the last."""
        rows, width = ids.shape
        reads = torch.arange(1, rows + 1, device=self._device) * width - 1
        return self._vocabulary.outputs_at(reads, ids, use_cache=True, **{self._name: cache})

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)


def batches(rows: Sequence[Continuation], budget: int) -> Iterator[list[Continuation]]:
    """Yield rows of one length, as many as may be read and kept at once; longest first.

    Rows that begin alike stay together, to be read once.
    """
    active = sorted((row for row in rows if row.active), key=lambda row: (-len(row.ids), row.ids))
    kept = max(KEPT_TOKENS, budget)
    while active:
        length, most = len(active[0].ids), active[0].most
        batch: list[Continuation] = []
        read = 0
        for row in active:
            new = not batch or row.ids != batch[-1].ids
            most = max(most, row.most)
            fits = (len(batch) + 1) * (length + most) <= kept and (read + new) * length <= budget
            if len(row.ids) != length or (batch and not fits):
                break
            read += new
            batch.append(row)
        active = active[len(batch) :]
        yield batch
