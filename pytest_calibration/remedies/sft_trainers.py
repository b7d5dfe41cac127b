"""CFT and RCFT for the SFTTrainer of TRL."""

from __future__ import annotations

from typing import Any

from pytest_calibration.errors import UsageError
from pytest_calibration.extras import require
from pytest_calibration.remedies.calibrating import Calibrating
from pytest_calibration.remedies.question_set import QuestionSet

require("trl", "remedies")

from trl import SFTConfig, SFTTrainer  # noqa: E402


class _OnQuestions(Calibrating):
    """An SFTTrainer that gets questions in tokens, and leaves them as they are."""

    def __init__(self, model: Any = None, args: Any = None, **kwargs: Any) -> None:
        config = SFTConfig() if args is None else args
        if getattr(config, "packing", False) or getattr(config, "padding_free", False):
            raise UsageError(
                "packing and padding_free join questions, whose options are then not found; "
                "switch them off in SFTConfig."
            )
        config.dataset_kwargs = {**(config.dataset_kwargs or {}), "skip_prepare_dataset": True}
        super().__init__(model, config, **kwargs)

    def _taken(self, questions: QuestionSet) -> Any:
        return questions.to_datasets()


class CFTSFTTrainer(_OnQuestions, SFTTrainer):  # type: ignore[misc]
    """:class:`~.trainers.CFTTrainer` on TRL's SFTTrainer, with its arguments."""


class RCFTSFTTrainer(_OnQuestions, SFTTrainer):  # type: ignore[misc]
    """:class:`~.trainers.RCFTTrainer` on TRL's SFTTrainer, with its arguments."""

    CONTEXT_WEIGHT = 1.0
    CALIBRATION_WEIGHT = 1.0
