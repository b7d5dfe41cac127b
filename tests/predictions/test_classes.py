"""Names of the classes of a classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (["ham", "spam"], ["spam", "ham"]),
        (["ham", "spam"], np.array(["spam", "ham"])),
        (np.array(["ham", "spam"]), [b"spam", "ham"]),
        (["ham", "spam"], [1, 0]),
        ([1, 2], [2, 1]),
        (np.array([1, 2]), np.array([2.0, 1.0])),
        ([-1, 1], [1, -1]),
        ([0, 1], [1, 0]),
        ([False, True], [True, False]),
        ([False, True], [1, 0]),
        (["1", "2"], ["2", "1"]),
        (["0", "1"], [1, 0]),
        ({1: "spam", 0: "ham"}, ["spam", "ham"]),
        ({"0": "ham", "1": "spam"}, [1, 0]),
    ],
)
def test_labels_are_classes_or_their_numbers(classes: Any, labels: Any) -> None:
    """Text names a class; so does a number where the classes are numbers, as in scikit-learn."""
    table = [[0.9, 0.1], [0.3, 0.7]]
    made = Predictions.from_probabilities(table, labels, class_names=classes)
    assert made.labels is not None
    assert made.labels.tolist() == [1, 0]
    logits = Predictions.from_logits(np.log(table), labels, class_names=classes)
    assert logits.labels is not None
    assert logits.labels.tolist() == [1, 0]
    names = [*classes.values()] if isinstance(classes, dict) else classes
    assert sorted(logits.classes) == sorted(made.classes) == sorted(map(str, names))


def test_labels_are_the_columns_of_a_frame() -> None:
    """By name, and where columns are numbered otherwise than from 0, by number."""
    for columns, labels in ((["ham", "spam"], ["spam", "ham"]), ([3, 7], [7, 3]), ([0, 1], [1, 0])):
        made = Predictions.from_probabilities(Frame(list(columns)), labels)
        assert made.labels is not None
        assert made.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["ham", "spam"], ["ham", "span"], "labels[1] is 'span', which is none of the classes "
         "'ham', 'spam' (did you mean 'spam'?)."),
        ([1, 2], [0, 1], "labels[0] is '0', which is none of the classes '1', '2'."),
        ({"ham": 0, "spam": 1}, [0, 1], "class_names maps the number of a class to its name, as "
         "config.id2label, or lists the names; got the key 'ham'."),
        (["ham"], ["ham", "ham"], "class_names has 1 entries for 2 columns of probabilities"),
        (["ham", "ham"], ["ham", "ham"], "class_names has one class twice; name each once."),
        (["ham", "spam"], ["ham"], "1 labels for 2 rows of probabilities; give one per row."),
        (["1", "2"], [1, 1], "the classes are called '1', '2', and labels are numbers, which may "
         "be classes or positions"),
        (["ham", "spam"], ["ham", None], "labels[1] is missing"),
        (None, ["ham", "spam"], "labels[0] is 'ham', and the classes are not known; pass them in "
         "the order of the columns, class_names=classifier.classes_."),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes(classes: Any, labels: Any, message: str) -> None:
    """Index and value, and the classes that there are."""
    with pytest.raises(PredictionsError) as caught:
        Predictions.from_probabilities([[0.9, 0.1], [0.3, 0.7]], labels, class_names=classes)
    assert message in str(caught.value)


def test_predictions_of_scikit_learn() -> None:
    """``predict_proba`` with ``classes_`` and labels as they were trained, of any type."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = np.linspace(-1, 1, 60)[:, None]
    for names in (["cat", "dog", "eel"], [10, 20, 30]):
        labels = np.array(names)[np.digitize(x[:, 0], [-0.3, 0.4])]
        classifier = linear_model.LogisticRegression(max_iter=50).fit(x, labels)
        table = classifier.predict_proba(x)
        made = Predictions.from_probabilities(table, labels, class_names=classifier.classes_)
        assert made.correct.tolist() == (classifier.predict(x) == labels).tolist()
        with pytest.raises(PredictionsError, match=r"column_stack\(\[1 - p, p\]\)"):
            Predictions.from_probabilities(table[:, 1], labels, class_names=classifier.classes_)
