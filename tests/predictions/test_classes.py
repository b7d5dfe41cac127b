"""Names of the classes of a classifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions import (
    ItemText,
    ItemTexts,
    Predictions,
    Signature,
    as_predictions,
)


class Frame:
    """A table that names its columns, as data frames do."""

    def __init__(self, columns: list[object]) -> None:
        self.columns = columns

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float64]:
        return np.array([[0.9, 0.1], [0.3, 0.7]])


def test_classes_have_names_or_numbers() -> None:
    """Those that are given, the columns of a table, else numbers; the options of questions none."""
    table, labels = [[0.9, 0.1], [0.3, 0.7]], [0, 1]
    made = Predictions.from_probabilities
    assert made(table, labels).classes == ("class 0", "class 1")
    assert made(table, labels, class_names=["ham", "spam"]).classes == ("ham", "spam")
    assert made(Frame(["ham", "spam"]), labels).classes == ("ham", "spam")
    assert as_predictions((Frame(["ham", "spam"]), labels)).classes == ("ham", "spam")
    assert made(Frame([0, 1]), labels).classes == ("class 0", "class 1")
    assert made(Frame(["one cell of lists"]), labels).classes == ("class 0", "class 1")
    assert made(Frame(["ham", "spam"]), labels, class_names=("a", "b")).classes == ("a", "b")
    logits = Predictions.from_logits(np.log(table), labels, class_names=["ham", "spam"])
    assert logits.classes == ("ham", "spam")
    assert logits.take(np.array([1])).limited(1).classes == ("ham", "spam")
    assert Predictions.from_confidence([0.5], [True]).classes == ()
    asked = Signature({"kind": "multiple_choice"})
    assert made(table, labels, signature=asked).classes == ()
    texts = ItemTexts.from_list([ItemText("q", options=("x", "y"))] * 2)
    assert replace(made(table, labels), texts=texts).classes == ()
    assert replace(made(table, labels), option_mass=np.ones(2)).classes == ()


def test_as_many_names_as_classes() -> None:
    """Another number of them is an error that says both."""
    with pytest.raises(PredictionsError) as caught:
        Predictions.from_probabilities([[0.9, 0.1]], [0], class_names=["one"])
    assert str(caught.value) == (
        "predictions of probe 'probabilities': class_names has 1 entries for 2 columns of "
        "probabilities; give one name per class."
    )
