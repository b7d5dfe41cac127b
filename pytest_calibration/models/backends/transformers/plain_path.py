"""Rows side by side, each computed from its first token: right for every causal model.

Rows are padded on the right, where a causal model never looks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.models.backends.transformers.attention import to_device
from pytest_calibration.models.backends.transformers.vocabulary import Collector, Vocabulary
from pytest_calibration.models.causal.rows import Row, ScoreTable


class PlainPath:
    """Scores rows in batches of similar length.

    Args:
        vocabulary: the model.
        device: where it is.
    """

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device

    def run(
        self, rows: Sequence[Row], table: ScoreTable, indices: Sequence[int], budget: int
    ) -> Generator[float, None, None]:
        """Score rows; yield the share that is done, before each batch.

        Args:
            rows: all rows.
            table: filled in when the last batch is done or an error ends the run.
            indices: the rows to score.
            budget: tokens of a batch, padding included; a longer row is a batch of its own.
        """
        collector = Collector(self._vocabulary, table)
        order = sorted(indices, key=lambda i: -len(rows[i].ids))
        # Long rows come first and take longer, so the share is counted in tokens.
        done, total = 0, sum(len(rows[i].ids) for i in order)
        try:
            while order:
                size = max(1, budget // max(1, len(rows[order[0]].ids)))
                batch, order = order[:size], order[size:]
                yield done / total
                self._score([rows[i] for i in batch], [table.slots(i) for i in batch], collector)
                done += sum(len(rows[i].ids) for i in batch)
            collector.flush()
        finally:
            collector.write()

    def _score(
        self, batch: list[Row], slots: list[NDArray[np.int64]], collector: Collector
    ) -> None:
        width = max(len(row.ids) for row in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        for k, row in enumerate(batch):
            ids[k, : len(row.ids)] = row.ids
        at = [k * width + p for k, row in enumerate(batch) for p in row.positions]
        targets = [t for row in batch for t in row.targets]
        # A position read for several options is reduced over the vocabulary once.
        reads, read_of = np.unique(np.array(at, dtype=np.int64), return_inverse=True)
        outputs = self._vocabulary.outputs_at(
            to_device(reads, self._device), to_device(ids, self._device)
        )
        collector.add(outputs, read_of, np.array(targets, dtype=np.int64), np.concatenate(slots))
