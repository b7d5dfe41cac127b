"""A Hugging Face causal language model in memory.

Scores do not depend on what is scored together: each token sees its own row only, and the soft-max
is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytest_calibration.models.backends.transformers.in_memory import (
    ModelInMemory,
    evaluating,
    explained,
)
from pytest_calibration.models.backends.transformers.kinds import CAUSAL_LM, check_class
from pytest_calibration.models.backends.transformers.reading import quiet
from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.causal.causal_model import CausalModel
from pytest_calibration.models.causal.continuation import Continuation
from pytest_calibration.models.causal.rows import Row, RowScores


class TransformersModel(CausalModel, ModelInMemory):
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
                temperature=self.temperature,
            )
        self._prepare_answers()

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

    # --- how -----------------------------------------------------------------------------------

    def _score(self, rows: list[Row], count: tuple[int, int, str] | None = None) -> list[RowScores]:
        with self._asking():
            return self._scorer.score(rows, count=count)

    def _grow(
        self,
        rows: list[Continuation],
        temperature: float | None,
        check: Callable[[Sequence[Continuation]], None],
        _stop: Sequence[str],
    ) -> None:
        with self._asking():
            self._scorer.grow(rows, temperature=temperature, check=check)

    def _end_tokens(self) -> frozenset[int]:
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        if configured is None:
            configured = self.tokenizer.eos_token_id
        if configured is None:
            return frozenset()
        return frozenset([configured] if isinstance(configured, int) else configured)
