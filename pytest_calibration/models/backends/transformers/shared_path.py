"""Packed passes over a forest of rows: shared prefixes are computed once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import numpy as np
import torch

from pytest_calibration.models.backends.transformers.attention import (
    NAME,
    Pass,
    UnknownAttentionError,
    active,
    to_device,
    trimmed_to_reads,
)
from pytest_calibration.models.backends.transformers.sharing import (
    Segment,
    batches,
    forest,
    in_order,
    tokens_of,
)
from pytest_calibration.models.backends.transformers.vocabulary import Collector, Vocabulary
from pytest_calibration.models.causal.rows import Row, ScoreTable

# Tokens whose keys and values are kept at once, at least: with fewer, the passes over the segments
# that follow them would be small.
KEPT_TOKENS: Final = 4096
# Tokens that a shared prefix must save where the number of steps counts, not the arithmetic.
MIN_SAVED_ON_GPU: Final = 512


class SharedPath:
    """Scores rows in packed passes, with our own attention function.

    Args:
        model: a causal language model that calls its attention by name.
        vocabulary: its output layer.
        device: where it is.
        fused: whether to use torch's fused attention kernels.
    """

    def __init__(
        self, model: Any, vocabulary: Vocabulary, device: torch.device, *, fused: bool
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._device = device
        self._fused = fused
        self._layers = 0
        self._last: int | None = None

    def run(
        self, rows: Sequence[Row], table: ScoreTable, indices: Sequence[int], budget: int
    ) -> Generator[float, None, None]:
        """Score rows in passes; see :meth:`PlainPath.run`.

        Raises:
            UnknownAttentionError: the model's attention has changed since it was tried.
        """
        least = 0 if self._device.type == "cpu" else MIN_SAVED_ON_GPU
        roots = forest(rows, table, indices, most=budget, least=least)
        collector = Collector(self._vocabulary, table)
        done, total = 0, tokens_of(roots)
        # Segments to compute, or to free once their descendants are done.
        todo: list[tuple[list[Segment], bool]] = [(in_order(roots), False)]
        try:
            with self._attention_replaced():
                while todo:
                    segments, computed = todo.pop()
                    if computed:
                        for segment in segments:
                            segment.key_values.clear()
                        continue
                    now, later = _split_by_kept(segments, max(KEPT_TOKENS, budget))
                    for batch in batches(now, budget):
                        yield done / total
                        self._score(batch, collector)
                        done += sum(map(len, batch))
                    if later:
                        todo.append((later, False))
                    todo.append((now, True))
                    below = [child for segment in now for child in segment.children]
                    if below:
                        todo.append((in_order(below), False))
                collector.flush()
        finally:
            collector.write()

    def _score(self, batch: list[Segment], collector: Collector) -> None:
        current = Pass(batch, self._device, fused=self._fused, last=self._last)
        ids = np.concatenate([segment.ids for segment in batch])[None]
        with active(current):
            outputs = self._vocabulary.outputs_at(
                current.read_index(),
                to_device(ids, self._device),
                position_ids=to_device(current.positions[None], self._device),
            )
        if not current.layers or (self._layers and current.layers != self._layers):
            raise UnknownAttentionError("its attention is not called by name")
        self._layers = current.layers
        if len(current.read_of):
            collector.add(
                outputs,
                current.read_of,
                np.concatenate([segment.targets for segment in batch]),
                np.concatenate([segment.slots for segment in batch]),
            )

    @contextmanager
    def _attention_replaced(self) -> Iterator[None]:
        before = self._model.config._attn_implementation
        self._model.set_attn_implementation(NAME)
        try:
            if self._model.config._attn_implementation != NAME:
                raise UnknownAttentionError("its attention is not called by name")
            mlp = self._last_mlp()
            self._last = None if mlp is None else self._layers - 1
            with nullcontext() if mlp is None else trimmed_to_reads(mlp):
                yield
        finally:
            self._model.set_attn_implementation(before)

    def _last_mlp(self) -> torch.nn.Module | None:
        """Return the feed-forward part of the last layer, if it can be found.

        In the last layer only the tokens that are read matter, and they are few: on a CPU that
        saves most of a layer. A GPU would wait for the many small steps.
        """
        layers = getattr(self._vocabulary.body, "layers", None)
        if self._device.type != "cpu" or layers is None or len(layers) != self._layers:
            return None
        mlp = getattr(layers[-1], "mlp", None)
        return mlp if isinstance(mlp, torch.nn.Module) else None


def _split_by_kept(segments: list[Segment], most: int) -> tuple[list[Segment], list[Segment]]:
    """Split segments in two, after as many as may keep keys and values; at least one."""
    size = 0
    for i, segment in enumerate(segments):
        size += len(segment) if segment.children else 0
        if size > most and i:
            return segments[:i], segments[i:]
    return segments, []
