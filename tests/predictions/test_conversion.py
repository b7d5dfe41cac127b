"""Values of other libraries: what is read as the same numbers, and what is refused."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions import Predictions, as_predictions

CONFIDENCE = [0.875, 0.75, 0.625, 0.5]
CORRECT = [True, True, False, True]
TABLE = [[c, 1 - c] for c in CONFIDENCE]
LABELS = [0, 0, 1, 0]


def cells(values: list[Any]) -> np.ndarray[Any, Any]:
    """A column of Python objects, as a frame holds them."""
    out = np.empty(len(values), dtype=np.object_)
    out[:] = values
    return out


# Each gives the same four confidences, outcomes, probabilities and labels in another form.
NUMPY: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "generator": iter,
    "deque": deque,
    "values of a dictionary": lambda values: dict(enumerate(values)).values(),
    "array": np.asarray,
    "masked array that masks nothing": lambda values: np.ma.array(values, mask=False),
    "objects": cells,
    "numpy scalars": lambda values: list(np.asarray(values)),
}
NARROW: dict[str, Callable[[list[Any]], Any]] = {
    "one column": lambda values: np.asarray(values)[:, None],
    "lists of one": lambda values: [[value] for value in values],
    "0-d arrays": lambda values: [np.asarray(value) for value in values],
    "decimals": lambda values: [
        value if isinstance(value, bool) else Decimal(value) for value in values
    ],
    "fractions": lambda values: [
        value if isinstance(value, bool) else Fraction(value) for value in values
    ],
}
WIDE: dict[str, Callable[[list[Any]], Any]] = {
    "column of lists": cells,
    "column of arrays": lambda rows: cells([np.array(row) for row in rows]),
    "frame of one column of lists": lambda rows: cells(rows)[:, None],
    "list of arrays": lambda rows: [np.array(row) for row in rows],
}


@pytest.mark.parametrize("form", [*NUMPY.values(), *NARROW.values()], ids=[*NUMPY, *NARROW])
def test_a_column_may_come_in_any_form(form: Any) -> None:
    """Confidences, outcomes and labels are read from any column, also one of shape (n, 1)."""
    for p in (
        as_predictions((form(CONFIDENCE), form(CORRECT))),
        Predictions.from_confidence(form(CONFIDENCE), form(CORRECT)),
        Predictions.from_probabilities(TABLE, form(LABELS)),
    ):
        assert p.confidence.tolist() == CONFIDENCE
        assert p.correct.tolist() == [True, True, False, True]


@pytest.mark.parametrize("form", [*NUMPY.values(), *WIDE.values()], ids=[*NUMPY, *WIDE])
def test_a_table_may_come_in_any_form(form: Any) -> None:
    """Probabilities are read from any table, also from a column of lists."""
    p = as_predictions((form(TABLE), LABELS))
    assert p.probabilities is not None
    assert p.probabilities.tolist() == TABLE


MISSING = {
    "None": lambda values, i: [None if k == i else v for k, v in enumerate(values)],
    "None among objects": lambda v, i: cells([None if k == i else x for k, x in enumerate(v)]),
    "mask": lambda values, i: np.ma.array(values, mask=np.arange(len(values)) == i),
    "masked constant": lambda v, i: [np.ma.masked if k == i else x for k, x in enumerate(v)],
    "NaN among objects": lambda v, i: cells([math.nan if k == i else x for k, x in enumerate(v)]),
}


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("without", MISSING.values(), ids=MISSING.keys())
def test_a_missing_number_is_refused_by_its_index(without: Any, index: int) -> None:
    """What is missing or masked is neither a number nor dropped in silence."""
    hole = rf"\[{index}\] is missing; leave its item out, or give a value"
    with pytest.raises(PredictionsError, match=f"probe 'confidence': confidence{hole}"):
        Predictions.from_confidence(without(CONFIDENCE, index), CORRECT)
    with pytest.raises(PredictionsError, match=f"correct{hole}"):
        Predictions.from_confidence(CONFIDENCE, without(CORRECT, index))
    with pytest.raises(PredictionsError, match=f"labels{hole}"):
        Predictions.from_probabilities(TABLE, without(LABELS, index))


@pytest.mark.parametrize(
    "table",
    [
        np.ma.array(TABLE, mask=[[0, 0], [0, 1], [0, 0], [0, 0]]),
        [np.ma.array(row, mask=[0, i == 1]) for i, row in enumerate(TABLE)],
        np.array([[0.5, 0.5], [0.5, None]], dtype=object),
    ],
    ids=["masked table", "masked rows", "objects"],
)
def test_a_missing_cell_of_a_table_is_refused_by_its_index(table: Any) -> None:
    """The error names row and column."""
    with pytest.raises(PredictionsError, match=r"probabilities\[1, 1\] is missing"):
        as_predictions((table, LABELS[: len(table)]))
    with pytest.raises(PredictionsError, match=r"probabilities\[1\] is missing"):
        as_predictions((cells([[0.5, 0.5], None]), [0, 0]))


NO_COLUMN = {
    "dictionary": dict(enumerate(CONFIDENCE)),
    "set": set(CONFIDENCE),
    "text": "0.9",
    "nothing": None,
    "number": 0.5,
}


@pytest.mark.parametrize("value", NO_COLUMN.values(), ids=NO_COLUMN.keys())
def test_what_is_no_column_is_refused(value: Any) -> None:
    """A value without entries in an order is refused, as numbers and as names."""
    with pytest.raises(PredictionsError, match=r"confidence must have shape \(n,\), got \(\)"):
        Predictions.from_confidence(value, CORRECT)
    if value is None:
        return
    for name in ("item_ids", "groups", "slices", "texts"):
        with pytest.raises(PredictionsError, match=f"{name} must have one entry per item, got"):
            Predictions.from_confidence(CONFIDENCE, CORRECT, **{name: value})


# --- ids and names --------------------------------------------------------------------------------


class Kind(enum.IntEnum):
    """Whole numbers with names."""

    ONE = 1
    TWO = 2


SAME_IDS: dict[str, Any] = {
    "text": ["1", "2"],
    "floats": [1.0, 2.0],
    "numpy integers": np.array([1, 2], np.int16),
    "numpy floats": np.array([1, 2], np.float32),
    "numpy text": np.array(["1", "2"]),
    "numpy bytes": np.array([b"1", b"2"]),
    "bytes": [b"1", bytearray(b"2")],
    "numpy scalars": [np.int64(1), np.float64(2)],
    "0-d arrays": [np.array(1), np.array(2.0)],
    "decimals": [Decimal(1), Decimal("2.0")],
    "mixed": [1, "2"],
    "one column": np.array([[1], [2]]),
    "enumeration": [Kind.ONE, Kind.TWO],
    "paths": [Path("1"), Path("2")],
    "generator": iter([1, 2]),
}


def ids_of(ids: Any) -> list[int]:
    """The hashed ids."""
    n = 2
    found: list[int] = Predictions.from_confidence(
        CONFIDENCE[:n], CORRECT[:n], item_ids=ids
    ).item_ids.tolist()
    return found


@pytest.mark.parametrize("ids", SAME_IDS.values(), ids=SAME_IDS.keys())
def test_equal_ids_have_one_hash_whatever_their_type(ids: Any) -> None:
    """A run that reads its ids from a frame pairs with one that read them from JSON."""
    assert ids_of(ids) == ids_of([1, 2])


def test_ids_of_several_parts_have_one_hash_whatever_their_type() -> None:
    """Tuples, lists, rows of an array, and parts of any type are the same."""
    plain = ids_of([("a", 1), ("a", 2)])
    assert ids_of([["a", 1], ("a", 2.0)]) == plain
    assert ids_of([(np.str_("a"), np.int64(1)), (b"a", np.float32(2))]) == plain
    assert ids_of(np.array([[3, 4], [5, 6]])) == ids_of([(3, 4), (5, 6)])


def test_ids_that_differ_have_hashes_that_differ() -> None:
    """0.5 is not 0, True is not 1, and 1e300 is not infinity."""
    assert len({ids_of([value, "x"])[0] for value in (0, 0.5, True, 1, 1e300, math.inf, "a")}) == 7
    assert ids_of([0.5, UUID(int=3)]) == ids_of(["0.5", str(UUID(int=3))])


@pytest.mark.parametrize("missing", [None, math.nan, np.ma.masked, np.datetime64("NaT", "D")])
def test_a_missing_id_is_refused(missing: Any) -> None:
    """An item without an id pairs with nothing."""
    with pytest.raises(PredictionsError, match=r"item_ids\[1\] is missing; give each item its own"):
        ids_of(["a", missing])
    with pytest.raises(PredictionsError, match=r"item_ids\[0\] is missing"):
        ids_of(np.ma.array([1, 2], mask=[1, 0]))


@pytest.mark.parametrize("value", [object(), {"a": 1}, {1, 2}], ids=["object", "dict", "set"])
def test_an_id_without_a_text_of_its_own_is_refused(value: Any) -> None:
    """An address or an order in memory is another one in the next run."""
    message = rf"item_ids\[1\] is of type {type(value).__name__}; give text, a number, or a tuple"
    with pytest.raises(PredictionsError, match=message):
        ids_of(["a", value])


def test_ids_that_mean_the_same_count_as_one() -> None:
    """3 and 3.0 are one id: two items cannot both have it."""
    with pytest.raises(PredictionsError, match="items 0 and 1 have the same id"):
        ids_of([3, 3.0])


@pytest.mark.parametrize(
    "ids",
    [["a", "b"], [-1, 2], [0.5, 2], [2**64, 1]],
    ids=["text", "negative", "half", "large"],
)
def test_unhashed_ids_are_whole_numbers(ids: Any) -> None:
    """The class itself takes hashes; the error names what takes ids of any kind."""
    with pytest.raises(PredictionsError, match=r"item_ids must be whole numbers .*from_confidence"):
        Predictions("facts", np.array([0.5, 0.5]), np.array([True, False]), ids)


def test_unhashed_ids_keep_all_their_bits() -> None:
    """A list of numbers of 64 bits loses none."""
    ids: Any = [2**64 - 1, 2]
    p = Predictions("facts", np.array([0.5, 0.5]), np.array([True, False]), ids)
    assert p.item_ids.tolist() == ids


@pytest.mark.parametrize("name", ["groups", "slices"])
def test_equal_names_are_one_whatever_their_type(name: str) -> None:
    """A group or slice given as number, text or bytes is the same."""
    p = Predictions.from_confidence(CONFIDENCE, CORRECT, **{name: [3, "3", 3.0, b"3"]})
    assert getattr(p, name).tolist() == ["3"] * 4


HOLES = {
    "None": ["a", None, "a", "b"],
    "NaN": [1.0, math.nan, 1.0, 2.0],
    "objects": cells(["a", math.nan, "a", "b"]),
    "mask": np.ma.array(["a", "?", "a", "b"], mask=[0, 1, 0, 0]),
    "NaT": np.array(["2026-01-01", "NaT", "2026-01-01", "2026-01-02"], "M8[D]"),
}


@pytest.mark.parametrize("names", HOLES.values(), ids=HOLES.keys())
def test_a_missing_name_is_no_name(names: Any) -> None:
    """A missing group is alone, and a missing slice or text is empty; none is called "nan"."""
    p = Predictions.from_confidence(CONFIDENCE, CORRECT, groups=names, slices=names, texts=names)
    assert p.groups is not None
    assert p.slices is not None
    assert p.texts is not None
    assert p.n_clusters == 3
    assert p.groups[0] == p.groups[2]
    assert p.slices[1] == p.texts[1].prompt == ""


# --- tensors --------------------------------------------------------------------------------------

TENSORS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda tensor: tensor,
    "gradient": lambda tensor: tensor.double().requires_grad_(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "float16": lambda tensor: tensor.half(),
    "float8": lambda tensor: tensor.to(__import__("torch").float8_e4m3fn),
    "one column": lambda tensor: tensor[:, None],
    "list of 0-d": lambda tensor: list(tensor.double().requires_grad_()),
    "list of 0-d bfloat16": lambda tensor: list(tensor.bfloat16()),
    "column of a data set": lambda tensor: deque(tensor.bfloat16()),
}


@pytest.mark.parametrize("form", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_are_read_in_any_form(form: Any) -> None:
    """A training loop passes what it has: with gradient, in a narrow type, item by item."""
    torch = pytest.importorskip("torch")
    p = Predictions.from_confidence(form(torch.tensor(CONFIDENCE)), torch.tensor(CORRECT))
    assert p.confidence.tolist() == CONFIDENCE
    same = ids_of([1, 2])
    assert ids_of(form(torch.tensor([1.0, 2.0]))) == same
    grouped = Predictions.from_confidence(
        [0.5] * 3, [True] * 3, groups=form(torch.tensor([1.0, 1.0, 2.0]))
    )
    assert grouped.groups is not None
    assert grouped.groups.tolist() == ["1", "1", "2"]


def test_booleans_in_a_tensor_are_no_class_labels() -> None:
    """As in any other array."""
    torch = pytest.importorskip("torch")
    table = torch.full((2, 4), 0.25).bfloat16()
    with pytest.raises(PredictionsError, match="labels are booleans"):
        as_predictions((table, torch.tensor([True, False])))


def test_a_tensor_without_values_is_refused() -> None:
    """A tensor on the meta device holds no numbers."""
    torch = pytest.importorskip("torch")
    with pytest.raises(PredictionsError, match=r"confidence cannot be read .*no data"):
        Predictions.from_confidence(torch.empty(4, device="meta"), CORRECT)


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["plain", "numpy_nullable", "pyarrow"])
def test_frames_are_read_whatever_holds_them(backend: str) -> None:
    """Columns of plain, nullable and Arrow types are the same numbers, ids and groups."""
    pandas = pytest.importorskip("pandas")
    if backend == "pyarrow":
        pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "confidence": CONFIDENCE,
            "other": [1 - c for c in CONFIDENCE],
            "correct": CORRECT,
            "label": LABELS,
            "id": [1, 2, 3, 4],
            "group": ["a", None, "a", "b"],
        }
    )
    if backend != "plain":
        frame = frame.convert_dtypes(dtype_backend=backend)
    for correct in (frame["correct"], frame[["correct"]]):
        p = as_predictions((frame["confidence"], correct))
        assert p.confidence.tolist() == CONFIDENCE
        assert p.correct.tolist() == CORRECT
    ids = Predictions.from_confidence(CONFIDENCE, CORRECT, item_ids=[1, 2, 3, 4]).item_ids
    for columns in (["id", "group"], [["id"], ["group"]]):
        names, groups = (frame[column] for column in columns)
        q = Predictions.from_probabilities(
            frame[["confidence", "other"]], frame["label"], item_ids=names, groups=groups
        )
        assert q.confidence.tolist() == CONFIDENCE
        assert q.n_clusters == 3
        salted = Predictions.from_confidence(
            CONFIDENCE, CORRECT, item_ids=names, probe="confidence"
        )
        assert salted.item_ids.tolist() == ids.tolist()


def test_missing_values_of_frames_are_refused_or_alone() -> None:
    """NA is neither True nor the text "<NA>"."""
    pandas = pytest.importorskip("pandas")
    for column in (
        pandas.array([True, None, False, True], dtype="boolean"),
        pandas.Series([True, pandas.NA, False, True]),
    ):
        with pytest.raises(PredictionsError, match=r"correct\[1\] is missing"):
            Predictions.from_confidence(CONFIDENCE, column)
    with pytest.raises(PredictionsError, match=r"item_ids\[1\] is missing"):
        ids_of(pandas.Series([1, None], dtype="Int64"))
    with pytest.raises(PredictionsError, match=r"confidence\[1\] is (nan|missing)"):
        Predictions.from_confidence(pandas.Series([0.5, None, 1, 1], dtype="Float64"), CORRECT)
    for groups in (
        pandas.Series(["a", None, "a", "b"]),
        pandas.Categorical(["a", None, "a", "b"]),
        [1, pandas.NA, 1, 2],
        [pandas.NaT, "a", "a", "b"],
    ):
        p = Predictions.from_confidence(CONFIDENCE, CORRECT, groups=groups)
        assert p.n_clusters == 3


def test_a_column_of_lists_is_a_table() -> None:
    """A frame often holds the probabilities of an item in one cell."""
    pandas = pytest.importorskip("pandas")
    for column in (pandas.Series(TABLE), pandas.DataFrame({"p": TABLE})):
        p = as_predictions((column, LABELS))
        assert p.confidence.tolist() == CONFIDENCE
