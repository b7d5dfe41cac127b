"""What a Hugging Face ``Trainer`` predicts, as confidence and correctness of each counted label.

``Trainer.predict`` gives logits (n, k) of a classifier, or (n, t, k) of a token-level model, with
labels (n,) or (n, t) in which -100 marks what does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions.arrays import IGNORED, BoolArray, FloatArray, IntArray
from pytest_calibration.predictions.conversion import as_array


@dataclass(frozen=True)
class Answers:
    """The answers to the m labels that count.

    Attributes:
        confidence: (m,) probability of the answer.
        correct: (m,) whether it is the label.
        label_logprobs: (m,) log P(label); None where logits were not kept.
        rows: (m,) row of each.
        positions: (m,) position of its label in the row; None for a classifier.
        labels: (m,) the labels.
        logits: (m, k) of a classifier; None of a token-level model, or where they were not kept.
    """

    confidence: FloatArray
    correct: BoolArray
    label_logprobs: FloatArray | None
    rows: IntArray
    positions: IntArray | None
    labels: IntArray
    logits: FloatArray | None = None


def parts_of(output: Any, where: str) -> tuple[Any, Any]:
    """Return predictions and labels of what a Trainer gives, or of a pair of these."""
    pair = output if isinstance(output, tuple) else ()
    values = getattr(output, "predictions", pair[0] if len(pair) == 2 else None)
    labels = getattr(output, "label_ids", pair[1] if len(pair) == 2 else None)
    if values is None:
        raise PredictionsError(
            f"{where}: expected what Trainer.predict returns, or a pair (logits, labels), got "
            f"{type(output).__name__}."
        )
    if labels is None:
        raise PredictionsError(
            f"{where}: there are no labels; predict on a data set with the column 'labels'."
        )
    return values, labels


def answers_of(values: Any, labels: Any, shift: bool | None, where: str) -> Answers:
    """Return the answers to the labels that count.

    Args:
        values: logits, (n, k) or (n, t, k), the first of several outputs; or (confidence, class),
            each (n,) or (n, t), as ``preprocess_logits_for_calibration`` keeps them.
        labels: (n,) or (n, t) class indices.
        shift: whether position t predicts label t + 1; needed where labels are (n, t).
        where: start of an error.

    Raises:
        PredictionsError: shapes that do not fit, labels that are no classes, nothing to count, or
            token-level labels without ``shift``.
    """
    table, answer = _values(values, where)
    label = _labels(labels, table.shape if answer is not None else table.shape[:-1], where)
    positions = np.broadcast_to(np.arange(label.shape[-1]), label.shape)
    if label.ndim == 2:
        if shift is None:
            raise PredictionsError(
                f"{where}: labels have shape {label.shape}, so say whether a position predicts the "
                "next label: shift=True for language models, shift=False for tagging (of metrics: "
                "partial(calibration_compute_metrics, shift=True))."
            )
        if shift:
            table, label, positions = table[:, :-1], label[:, 1:], positions[:, 1:]
            answer = None if answer is None else answer[:, :-1]
    counted = label != IGNORED
    if not counted.any():
        _refuse(f"no label but {IGNORED}", where)
    if answer is None:
        _check_range(label, counted, table.shape[-1], where)
        found = _of_logits(table, label, counted, where)
    else:
        found = np.stack([table[counted], answer[counted], np.full(counted.sum(), np.nan)])
    whole = label.ndim == 1
    return Answers(
        confidence=found[0],
        correct=found[1] == label[counted],
        label_logprobs=None if answer is not None else found[2],
        rows=np.nonzero(counted)[0],
        positions=None if whole else positions[counted],
        labels=label[counted],
        logits=np.asarray(table[counted], np.float64) if whole and answer is None else None,
    )


def _values(values: Any, where: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return logits and None, or confidence and class."""
    parts = list(values) if isinstance(values, tuple | list) else [values]
    arrays = [as_array(part, "the predictions", where) for part in parts[:2] if part is not None]
    if not arrays:
        _refuse("no logits", where)
    first, second = arrays[0], arrays[1] if len(arrays) == 2 else None
    kept = second is not None and second.dtype.kind in "iu" and first.shape == second.shape
    if kept and first.dtype.kind == "f" and first.ndim in (1, 2):
        return first, second
    if first.dtype.kind not in "fiu" or first.ndim not in (2, 3) or first.shape[-1] < 2:
        _refuse(f"logits of shape {first.shape} and {first.dtype}", where)
    return first, None


def _labels(labels: Any, shape: tuple[int, ...], where: str) -> NDArray[np.int64]:
    if isinstance(labels, tuple):
        _refuse("labels that are several arrays", where)
    label = as_array(labels, "labels", where)
    if label.shape != shape or label.dtype.kind not in "iu":
        advice = ""
        if label.ndim == 2 and len(shape) == 1:
            advice = (
                "; of several labels a row, judge each by itself with from_probabilities, and "
                "predict text with predict_with_generate=False, which gives logits"
            )
        found = f"labels that are {label.dtype} of shape {label.shape}"
        _refuse(f"{found} for answers of shape {shape}{advice}", where)
    return label.astype(np.int64)


def _check_range(label: IntArray, counted: BoolArray, k: int, where: str) -> None:
    for place in np.argwhere(counted & ((label < 0) | (label >= k)))[:1]:
        index = ", ".join(map(str, place))
        raise PredictionsError(
            f"{where}: labels[{index}] is {label[tuple(place)]}, and there are classes 0 to "
            f"{k - 1}; what does not count is {IGNORED}."
        )


def _of_logits(
    table: NDArray[Any], label: IntArray, counted: BoolArray, where: str
) -> NDArray[np.float64]:
    """Return (3, m): confidence, class and log P(label) of each label that counts.

    Row by row: the copy in float64 is that of one row.
    """
    parts = []
    for row in range(len(table)):
        chosen = counted[row]
        logits = np.atleast_2d(np.asarray(table[row][chosen] if label.ndim == 2 else table[row]))
        if not np.any(chosen):
            continue
        logits = logits.astype(np.float64)
        largest = logits.max(axis=1)
        if not np.isfinite(largest).all() or np.isnan(logits).any():
            raise PredictionsError(
                f"{where}: logits of row {row} hold NaN or infinity; the model is broken there, or "
                "was read in too short a type."
            )
        total = np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        of_label = logits[
            np.arange(len(logits)), label[row][chosen] if label.ndim == 2 else [label[row]]
        ]
        # A masked class has probability 0, whose logarithm is none.
        logprob = np.maximum(of_label - largest - total, np.log(np.finfo(np.float64).tiny))
        parts.append(np.stack([np.exp(-total), logits.argmax(axis=1), logprob]))
    return np.concatenate(parts, axis=1)


def _refuse(found: str, where: str) -> NoReturn:
    raise PredictionsError(
        f"{where}: a classifier of two classes or more, whose labels are class indices, or a "
        f"token-level model can be read, and here are {found}."
    )
