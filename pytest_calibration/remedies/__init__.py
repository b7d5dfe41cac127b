"""Training that restores calibration: CFT and RCFT of Xiao et al. 2025 (arXiv 2505.01997).

``losses``
    the losses, as functions of tensors.
``question_set``
    multiple-choice questions as the probe asks them, in tokens; the collator of batches.
``calibrating``
    what CFT and RCFT add to a Trainer.
``trainers``
    the two for the Trainer of transformers.
``sft_trainers``
    the two for the SFTTrainer of TRL.

Nothing else of the package imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_calibration.extras import require

if TYPE_CHECKING:
    from pytest_calibration.remedies.question_set import QuestionCollator as QuestionCollator
    from pytest_calibration.remedies.question_set import QuestionSet as QuestionSet
    from pytest_calibration.remedies.sft_trainers import CFTSFTTrainer as CFTSFTTrainer
    from pytest_calibration.remedies.sft_trainers import RCFTSFTTrainer as RCFTSFTTrainer
    from pytest_calibration.remedies.trainers import CFTTrainer as CFTTrainer
    from pytest_calibration.remedies.trainers import RCFTTrainer as RCFTTrainer

require("torch", "remedies")
require("transformers", "remedies")

# Loaded on first use: TRL is needed for its own trainers alone.
_MODULES = {
    "CFTSFTTrainer": "sft_trainers",
    "CFTTrainer": "trainers",
    "QuestionCollator": "question_set",
    "QuestionSet": "question_set",
    "RCFTSFTTrainer": "sft_trainers",
    "RCFTTrainer": "trainers",
}
__all__ = [*_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
