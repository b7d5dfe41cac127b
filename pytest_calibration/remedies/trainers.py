"""CFT and RCFT for the Trainer of transformers."""

from __future__ import annotations

from transformers import Trainer

from pytest_calibration.remedies.calibrating import Calibrating


class CFTTrainer(Calibrating, Trainer):  # type: ignore[misc]
    """Calibration-aware fine-tuning: the loss on the answer alone, −log P(answer | question).

    Its arguments are those of the Trainer and of :class:`~.calibrating.Calibrating`;
    ``train_dataset`` is a :class:`~.question_set.QuestionSet`.
    """


class RCFTTrainer(Calibrating, Trainer):  # type: ignore[misc]
    """Regularised CFT: answer and question are learnt, and options drawn to the bins' accuracy.

    Its arguments are those of the Trainer and of :class:`~.calibrating.Calibrating`.
    """

    CONTEXT_WEIGHT = 1.0
    CALIBRATION_WEIGHT = 1.0
