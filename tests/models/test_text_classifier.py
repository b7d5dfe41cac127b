"""A function from texts to probabilities as a classifier."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pytest_calibration import TextClassifier
from pytest_calibration.errors import CalibrationError, ModelError, UsageError
from pytest_calibration.models.adopted import adopted
from pytest_calibration.models.protocols import Classifier

TEXTS = ["a", "bb", "ccc"]


def halves(texts: list[str]) -> list[list[float]]:
    """Be as sure of either class."""
    return [[0.5, 0.5] for _ in texts]


class Estimator:
    """An estimator as scikit-learn has them."""

    classes_ = np.array(["no", "yes"])

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        """Be surer of long texts."""
        yes = np.array([len(text) / 4 for text in texts])
        return np.column_stack([1 - yes, yes])


class Frame(np.ndarray):
    """An array whose columns have names, as those of data frames."""

    columns: Any

    @classmethod
    def of(cls, *columns: Any) -> Frame:
        """Three rows, whose numbers tell the column."""
        made = np.tile([0.1, 0.3, 0.6], (3, 1)).view(cls)
        made.columns = np.array(columns)
        return made


@pytest.mark.parametrize(
    ("names", "columns", "order"),
    [
        (["a", "b", "c"], ["c", "a", "b"], [1, 2, 0]),
        (["a", "b", "c"], ["prob_c", "prob_a", "prob_b"], [1, 2, 0]),
        ([5, 6, 7], [7, 5, 6], [1, 2, 0]),
        (["a", "b", "c"], [0, 1, 2], [0, 1, 2]),
        (None, ["c", "a", "b"], [0, 1, 2]),
    ],
)
def test_columns_of_a_frame_are_taken_by_name(names: Any, columns: Any, order: Any) -> None:
    """Where they are named as the classes; numbers of columns are no names."""
    found = TextClassifier(lambda _: Frame.of(*columns), names).class_probabilities(TEXTS)
    np.testing.assert_array_equal(found[0], np.array([0.1, 0.3, 0.6])[order])


def test_columns_with_other_names_than_the_classes_are_refused() -> None:
    """Nobody knows which is which."""
    model = TextClassifier(lambda _: Frame.of("x", "y", "z"), ["a", "b", "c"], name="mine")
    message = r"a frame with the columns \[.*'x'.*\], and its classes are \['a', 'b', 'c'\]; name"
    with pytest.raises(ModelError, match=message):
        model.class_probabilities(TEXTS)


@pytest.mark.parametrize("depth", [0, 1])
def test_the_output_of_a_pipeline_is_refused(depth: int) -> None:
    """By default it is the most probable class alone; the pipeline itself is asked for all."""
    one: Any = {"label": "yes", "score": 0.9}
    returned = [[one] if depth else one] * 3
    model = TextClassifier(lambda _: returned, name="top")
    with pytest.raises(ModelError, match=r"'top' returned \{'label': 'yes', .*pipeline itself"):
        model.class_probabilities(TEXTS)


def no_settings() -> Mapping[str, Any]:
    """A project that says nothing of its models."""
    return {}


def taken(value: Any) -> Any:
    """Return the model that a fixture's value stands for."""
    return adopted(value, no_settings, None)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (halves, "halves"),
        (functools.partial(halves), "halves"),
        (lambda texts: [[0.5, 0.5]] * len(texts), "function"),
        (Estimator().predict_proba, "Estimator"),
        (Estimator(), "Estimator"),
    ],
)
def test_a_function_and_an_estimator_are_classifiers(value: Any, name: str) -> None:
    """Rows are those of the function, and it is named after it."""
    model = taken(value)
    assert isinstance(model, TextClassifier)
    assert isinstance(model, Classifier)
    assert model.name == name
    assert model.class_probabilities(TEXTS).shape == (3, 2)


def test_names_of_the_classes_come_from_the_function_or_are_given() -> None:
    """An attribute of the function or of its object names them, an argument wins."""
    assert taken(Estimator()).class_names == ("no", "yes")
    assert taken(Estimator().predict_proba).class_names == ("no", "yes")
    assert TextClassifier(Estimator().predict_proba, ["n", "y"]).class_names == ("n", "y")
    assert TextClassifier(halves).class_names == ()

    def named(texts: list[str]) -> list[list[float]]:
        return halves(texts)

    named.class_names = [0, 1]  # type: ignore[attr-defined]
    assert taken(named).class_names == ("0", "1")
    assert taken(functools.partial(named)).class_names == ("0", "1")


def test_what_is_a_model_already_or_none_stays_as_it_is() -> None:
    """Neither a class, nor what offers something a probe asks for, is taken for a function."""

    class Model:
        name = "mine"

        def __call__(self, texts: list[str]) -> None: ...

    model = Model()
    for value in (model, Model, Estimator, None, 7):
        assert taken(value) is value


def test_a_probe_of_ones_own_may_call_it() -> None:
    """It is the function still."""
    assert TextClassifier(halves)(["a"]) == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (None, r"an object of type NoneType for 3 texts; return the probabilities of 2 classes"),
        ({"no": 0.5}, r"an object of type dict"),
        ({1, 2}, r"an object of type set"),
        ([0.1, 0.2, 0.3], r"shape \(3,\) of float64 for 3 texts; .*, for two classes the columns"),
        ([[0.1], [0.2], [0.3]], r"shape \(3, 1\) .*, for two classes the columns 1 - p and p\."),
        ([[0.5, 0.5]] * 2, r"shape \(2, 2\) .* for 3 texts; .* a row of numbers per text\."),
        ([[0.2, 0.3, 0.5]] * 3, r"shape \(3, 3\) .*probabilities of 2 classes"),
        ([["no", "yes"]] * 3, r"shape \(3, 2\) of <U3"),
        (["no", "yes", "no"], r"shape \(3,\) of <U3"),
        ([{"no": 0.5, "yes": 0.5}] * 3, r"shape \(3,\) of object"),
        (np.ones((3, 2, 2)), r"shape \(3, 2, 2\)"),
        ([[0.5, 0.5], [1.0], [0.5, 0.5]], "cannot be read as an array"),
        ([[0.5, None]] * 3, r"what the function returned\[0, 1\] is missing"),
    ],
)
def test_a_wrong_answer_is_named(returned: Any, got: str) -> None:
    """Shape and type that were returned, and what is to be returned."""
    model = TextClassifier(lambda _texts: returned, ["no", "yes"], name="mine")
    with pytest.raises(CalibrationError, match=rf"classifier 'mine'.*{got}"):
        model.class_probabilities(TEXTS)


@pytest.mark.parametrize(
    ("function", "names", "message"),
    [
        (Estimator, None, r"takes a function .*, got <class '.*Estimator'>"),
        ([[0.5, 0.5]], None, r"takes a function .*, got \[\[0\.5, 0\.5\]\]"),
        (halves, ["a", "a"], "class_names has 'a' twice"),
        (halves, "ab", "class_names must be a list of the names of the classes, .* got 'ab'"),
        (halves, {0: "a", 1: "b"}, r"in the order of the columns, got \{0: 'a', 1: 'b'\}"),
        (halves, {"a"}, r"got \{'a'\}"),
        (halves, ["a", None], r"got \['a', None\]"),
        (halves, [["a"], ["b"]], r"got \[\['a'\], \['b'\]\]"),
    ],
)
def test_what_makes_no_classifier_is_refused(function: Any, names: Any, message: str) -> None:
    """By what was given."""
    with pytest.raises(CalibrationError, match=message):
        TextClassifier(function, names)


def test_it_is_a_usage_error_where_nothing_can_be_called() -> None:
    """Its kind is that of other wrong arguments."""
    with pytest.raises(UsageError):
        TextClassifier("halves")  # type: ignore[arg-type]
