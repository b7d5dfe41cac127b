"""Calibration on the evaluation set of a Trainer, without keeping its logits.

A Trainer keeps what ``preprocess_logits_for_metrics`` returns of each batch until the evaluation
ends. Logits are n·T·V numbers; confidence and answer, which calibration needs, are 2·n·T.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from pytest_calibration.errors import PredictionsError
from pytest_calibration.metrics import METRICS
from pytest_calibration.predictions import Predictions
from pytest_calibration.training.measuring import MEASURED


def preprocess_logits_for_calibration(
    logits: Any,
    labels: Any,  # noqa: ARG001  the Trainer gives it
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep of each answer its confidence and its class.

    For ``Trainer(preprocess_logits_for_metrics=...)``, with :func:`calibration_compute_metrics`.

    Args:
        logits: (n, k) of a classifier, or (n, t, k) of a token-level model; in a tuple with other
            outputs, the first counts.
        labels: not used.

    Returns:
        (confidence in float32, index of the most likely class in int64), each (n,) or (n, t).

    Raises:
        PredictionsError: logits of another shape, or of one class.
    """
    table = logits[0] if isinstance(logits, tuple | list) else logits
    if table.ndim not in (2, 3) or table.shape[-1] < 2:
        _refuse(f"logits of shape {tuple(table.shape)}")
    # Row by row: the copy in float32 is that of one row.
    answers = [row.float().log_softmax(-1).max(-1) for row in table]
    if not answers:
        empty = table.new_empty(table.shape[:-1])
        return empty.float(), empty.long()
    confidence = torch.stack([one.values.exp() for one in answers])
    return confidence, torch.stack([one.indices for one in answers])


def calibration_compute_metrics(evaluated: Any, *, shift: bool | None = None) -> dict[str, float]:
    """Return ECE, accuracy, signed gap and Brier score on the evaluation set.

    For ``Trainer(compute_metrics=...)``, which calls them ``eval_ece`` and so on. Labels of -100 do
    not count::

        Trainer(..., compute_metrics=calibration_compute_metrics,
                preprocess_logits_for_metrics=preprocess_logits_for_calibration)

    A token-level model has to say whose label a position predicts, the next one's (language
    models) or its own (tagging)::

        compute_metrics=partial(calibration_compute_metrics, shift=True)

    Args:
        evaluated: ``EvalPrediction``: what :func:`preprocess_logits_for_calibration` returned, or
            logits, and the labels, (n,) or (n, t) class indices.
        shift: whether position t predicts label t + 1. Needed where labels are (n, t).

    Raises:
        PredictionsError: shapes that do not fit, labels that are no classes, nothing to count, or
            token-level labels without ``shift``.
    """
    predictions = Predictions.from_trainer(evaluated, shift=shift)
    return {name: METRICS[name](predictions) for name in MEASURED}


def _refuse(found: str) -> NoReturn:
    raise PredictionsError(
        "calibration_compute_metrics takes classifiers of two classes or more, whose labels are "
        f"class indices, and token-level models, and got {found}."
    )
