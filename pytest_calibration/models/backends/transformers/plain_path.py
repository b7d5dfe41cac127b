"""Rows side by side, each computed from its first token: right for every causal model.

Rows are padded on the right, where a causal model never looks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch

from pytest_calibration.models.backends.transformers.attention import to_device
from pytest_calibration.models.backends.transformers.rows import Answers, Row
from pytest_calibration.models.backends.transformers.vocabulary import Reading, Vocabulary


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
        self, rows: Sequence[Row], answers: Answers, which: Sequence[int], budget: int
    ) -> Generator[float, None, None]:
        """Score rows; yield the share that is done, before each batch.

        Args:
            rows: all rows.
            answers: filled in, when the last batch is done or an error ends the run.
            which: the rows to score.
            budget: tokens of a batch, padding included; a longer row is a batch of its own.
        """
        reading = Reading(self._vocabulary, answers)
        order = sorted(which, key=lambda i: -len(rows[i].ids))
        # Long rows come first and take longer: how much is done is counted in tokens.
        done, total = 0, sum(len(rows[i].ids) for i in order)
        try:
            while order:
                size = max(1, budget // max(1, len(rows[order[0]].ids)))
                batch, order = order[:size], order[size:]
                yield done / total
                self._score(rows, answers, batch, reading)
                done += sum(len(rows[i].ids) for i in batch)
            reading.flush()
        finally:
            reading.settle()

    def _score(
        self, rows: Sequence[Row], answers: Answers, batch: list[int], reading: Reading
    ) -> None:
        width = max(len(rows[i].ids) for i in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        for k, i in enumerate(batch):
            ids[k, : len(rows[i].ids)] = rows[i].ids
        at = [k * width + p for k, i in enumerate(batch) for p in rows[i].positions]
        targets = [t for i in batch for t in rows[i].targets]
        # A position read for several options is reduced over the vocabulary once.
        keep, of = np.unique(np.array(at, dtype=np.int64), return_inverse=True)
        found = self._vocabulary.at(to_device(keep, self._device), to_device(ids, self._device))
        slots = np.concatenate([answers.slots(i) for i in batch])
        reading.add(found, of, np.array(targets, dtype=np.int64), slots)
