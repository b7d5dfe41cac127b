"""Packed passes over a forest of rows: what rows begin with is computed once."""

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
    read_only,
    to_device,
    underway,
)
from pytest_calibration.models.backends.transformers.rows import Answers, Row
from pytest_calibration.models.backends.transformers.sharing import (
    Segment,
    batches,
    forest,
    in_order,
    tokens_of,
)
from pytest_calibration.models.backends.transformers.vocabulary import Reading, Vocabulary

# Tokens whose keys and values are held at once for segments below, at least: with few of them, the
# passes below would be small.
HELD: Final = 4096
# Tokens that a shared beginning must spare where not the arithmetic but the number of steps counts.
WORTH: Final = 512


class SharedPath:
    """Scores rows in packed passes, with attention of our own.

    Args:
        model: a causal language model that calls its attention by name.
        vocabulary: its last step.
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
        self, rows: Sequence[Row], answers: Answers, which: Sequence[int], budget: int
    ) -> Generator[float, None, None]:
        """Score rows; yield the share that is done, before each pass.

        Args:
            rows: all rows.
            answers: filled in, when the last pass is done or an error ends the run.
            which: the rows to score.
            budget: tokens of a pass.

        Raises:
            UnknownAttentionError: the model's attention is not what it seemed.
        """
        roots = forest(
            rows, answers, which, most=budget, least=0 if self._device.type == "cpu" else WORTH
        )
        reading = Reading(self._vocabulary, answers)
        done, total = 0, tokens_of(roots)
        # Segments to compute; or, once those below them are done, to let go.
        todo: list[tuple[list[Segment], bool]] = [(in_order(roots), False)]
        try:
            with self._own_attention():
                while todo:
                    segments, over = todo.pop()
                    if over:
                        for segment in segments:
                            segment.held.clear()
                        continue
                    now, later = _until_held(segments, max(HELD, budget))
                    for batch in batches(now, budget):
                        yield done / total
                        self._score(batch, reading)
                        done += sum(map(len, batch))
                    if later:
                        todo.append((later, False))
                    todo.append((now, True))
                    below = [child for segment in now for child in segment.children]
                    if below:
                        todo.append((in_order(below), False))
                reading.flush()
        finally:
            reading.settle()

    def _score(self, batch: list[Segment], reading: Reading) -> None:
        one = Pass(batch, self._device, fused=self._fused, last=self._last)
        ids = np.concatenate([segment.ids for segment in batch])[None]
        with underway(one):
            found = self._vocabulary.at(
                one.rows_read(),
                to_device(ids, self._device),
                position_ids=to_device(one.positions[None], self._device),
            )
        if not one.layers or (self._layers and one.layers != self._layers):
            raise UnknownAttentionError("its attention is not called by name")
        self._layers = one.layers
        if len(one.of):
            reading.add(
                found,
                one.of,
                np.concatenate([segment.targets for segment in batch]),
                np.concatenate([segment.slots for segment in batch]),
            )

    @contextmanager
    def _own_attention(self) -> Iterator[None]:
        before = self._model.config._attn_implementation
        self._model.set_attn_implementation(NAME)
        try:
            if self._model.config._attn_implementation != NAME:
                raise UnknownAttentionError("its attention is not called by name")
            step = self._last_step()
            self._last = None if step is None else self._layers - 1
            with nullcontext() if step is None else read_only(step):
                yield
        finally:
            self._model.set_attn_implementation(before)

    def _last_step(self) -> torch.nn.Module | None:
        """Return the feed-forward part of the last layer, where it is known which that is.

        Few tokens are read, and in the last layer nobody looks at the others: on a CPU that saves
        most of a layer. A GPU would wait for the many small steps.
        """
        layers = getattr(self._vocabulary.body, "layers", None)
        if self._device.type != "cpu" or layers is None or len(layers) != self._layers:
            return None
        step = getattr(layers[-1], "mlp", None)
        return step if isinstance(step, torch.nn.Module) else None


def _until_held(segments: list[Segment], most: int) -> tuple[list[Segment], list[Segment]]:
    """Split segments in two, after as many as may be held for those below; at least one."""
    size = 0
    for i, segment in enumerate(segments):
        size += len(segment) if segment.children else 0
        if size > most and i:
            return segments[:i], segments[i:]
    return segments, []
