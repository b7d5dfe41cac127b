"""Frames of any library as predictions: by the rules that hold for files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_calibration.errors import PredictionsError, UsageError
from pytest_calibration.predictions import Predictions
from pytest_calibration.predictions.frames import _index_names
from pytest_calibration.readers import read_predictions

DATA = {
    "id": ["a", "b", "c"],
    "prob_cat": [0.2, 0.5, 0.9],
    "prob_dog": [0.8, 0.5, 0.1],
    "label": ["dog", "dog", "cat"],
    "slice": ["x", None, "y"],
    "other": [[1], [2], [3]],
}
EXPECTED = Predictions.from_probabilities(
    np.transpose([DATA["prob_cat"], DATA["prob_dog"]]),
    [1, 1, 0],
    item_ids=["a", "b", "c"],
    slices=["x", None, "y"],
    probe="frame",
    class_names=["cat", "dog"],
)


def check(frame: Any) -> None:
    """Check that a frame of the data above gives what its arrays give."""
    made = Predictions.from_frame(frame)
    for name in ("confidence", "correct", "item_ids", "probabilities", "labels", "slices"):
        assert np.array_equal(getattr(made, name), getattr(EXPECTED, name)), name
    assert (made.classes, made.signature) == (EXPECTED.classes, EXPECTED.signature)


class FrameLike:
    """A frame with the methods of another library."""

    def __init__(self, **methods: Any) -> None:
        vars(self).update(methods)

    def __getitem__(self, name: str) -> list[Any]:
        return DATA[name]


def test_columns_and_records_of_python_are_read() -> None:
    """A mapping of columns or a list of records, with arrays, and NaN for what is missing."""
    check(DATA)
    check({name: np.array(column, dtype=object) for name, column in DATA.items()})
    records = [dict(zip(DATA, row, strict=True)) for row in zip(*DATA.values(), strict=True)]
    records[1]["slice"] = float("nan")
    check(records)
    del records[1]["slice"]
    check(records)
    check(FrameLike(column_names=[*DATA]))


def test_the_named_index_of_a_frame_is_a_column() -> None:
    """Unless a column has its name already; an index without a name is none."""
    frame = FrameLike(columns=["confidence", "id"], index=FrameLike(names=[None, "id", "group"]))
    assert _index_names(frame) == ["group"]
    assert _index_names(FrameLike(columns=["confidence"])) == []


def test_a_frame_of_pandas_is_read() -> None:
    """Of its own and of nullable types, categories, numbered columns, columns of lists."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DATA)
    check(frame)
    # Files have a named index as a column; so do groupings of several keys.
    check(frame.set_index("id"))
    check(frame.set_index(["id", "slice"]))
    check(frame.rename_axis("row"))
    check(frame.astype({"label": "category", "prob_cat": "Float64", "id": "string"}))
    check(frame.set_index(frame["prob_cat"] * 7))
    table = np.array([[0.2, 0.8], [0.5, 0.5]])
    numbered = pandas.DataFrame(np.column_stack([table, [1, 1]]))
    made = Predictions.from_frame(numbered, columns={"probabilities": [0, 1], "label": 2})
    assert np.array_equal(made.probabilities, table)
    lists = pandas.DataFrame({"p": [*table], "label": [1.0, 1.0]})
    made = Predictions.from_frame(lists, columns={"probabilities": "p"})
    assert np.array_equal(made.probabilities, table)
    with pytest.raises(PredictionsError, match="columns 4 and 7 are both called 'label'"):
        Predictions.from_frame(pandas.concat([frame, frame[["label"]]], axis=1))


def test_a_file_is_read_as_its_frame(tmp_path: Any) -> None:
    """The CSV that pandas writes of a frame gives the same predictions."""
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(DATA).to_csv(tmp_path / "f.csv")
    found = read_predictions(tmp_path / "f.csv", probe="frame")
    assert np.array_equal(found.item_ids, EXPECTED.item_ids)
    assert np.array_equal(found.probabilities, EXPECTED.probabilities)


@pytest.mark.torch
def test_a_mapping_of_tensors_is_read() -> None:
    """Of half precision, with a gradient."""
    torch = pytest.importorskip("torch")
    table = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).bfloat16().requires_grad_()
    made = Predictions.from_frame({"probabilities": table, "label": torch.tensor([1, 0])})
    assert np.array_equal(made.probabilities, [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.data
def test_frames_of_polars_arrow_and_datasets_are_read() -> None:
    """By their own methods, and where a frame only offers its memory, by Arrow."""
    polars = pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("datasets")
    frame, table = polars.DataFrame(DATA), pyarrow.table(DATA)
    for one in (frame, table, table.to_batches()[0], datasets.Dataset.from_dict(DATA)):
        check(one)
    check(FrameLike(__getitem__=None, __arrow_c_stream__=table.__arrow_c_stream__))
    structs = polars.DataFrame(
        {"probabilities": [{"a": 0.2, "b": 0.8}, {"a": 0.5, "b": 0.5}], "label": ["b", "a"]}
    )
    assert Predictions.from_frame(structs).classes == ("a", "b")
    with pytest.raises(
        PredictionsError, match=r"a LazyFrame holds no rows yet; pass .*collect\(\)"
    ):
        Predictions.from_frame(frame.lazy())
    with pytest.raises(PredictionsError, match=r"holds several tables \('test'\); pass one"):
        Predictions.from_frame(datasets.DatasetDict(test=datasets.Dataset.from_dict(DATA)))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (3, "expected a frame of pandas, polars or Arrow, a mapping of columns or a list of "
         "records, got int"),
        ("x.csv", "got str"),
        (np.zeros((2, 2)), "got ndarray"),
        ([], "got list"),
        ({}, "holds no predictions"),
        (FrameLike(toPandas=len), "a FrameLike holds no rows yet; pass frame.toPandas()"),
        (FrameLike(collect=len), "a FrameLike holds no rows yet; pass frame.collect()"),
        (FrameLike(compute=len), "a FrameLike holds no rows yet; pass frame.compute()"),
        ({"confidence": [], "correct": []}, "holds no rows; there must be one per item"),
        ({"confidence": [0.5], "correct": [1, 0]}, "column 'correct' has 2 entries, and column "
         "'confidence' has 1"),
        ({"confidence": 0.5, "correct": [1]}, "confidence must have one entry per item"),
        ({"confidence": [0.5, None], "correct": [1, 1]}, "predictions of probe 'frame', row 1 "
         "(from 0), column 'confidence': is missing; leave its row out, or give a value."),
        ({"confidence": [50.0], "correct": [1]}, "row 0 (from 0), column 'confidence': 50.0 lies "
         "outside [0, 1]; divide percentages by 100"),
    ],
)  # fmt: skip
def test_what_is_no_frame_of_predictions(frame: Any, message: str) -> None:
    """Row, column and value, and what to do."""
    with pytest.raises(PredictionsError) as caught:
        Predictions.from_frame(frame)
    assert message in str(caught.value)


def test_a_frame_that_only_offers_its_memory_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it."""
    monkeypatch.setattr("pytest_calibration.predictions.frames.find_spec", lambda _: None)
    with pytest.raises(PredictionsError) as caught:
        Predictions.from_frame(FrameLike(__dataframe__=len))
    assert str(caught.value).endswith(
        "a FrameLike only offers its memory, which pyarrow reads: "
        'pip install "pytest-calibration[parquet]", or pass a frame of pandas or polars.'
    )


def test_roles_are_known() -> None:
    """A misspelt role is an error with the one that was meant."""
    with pytest.raises(UsageError, match=r"unknown role 'labels' \(did you mean 'label'\?\)"):
        Predictions.from_frame(DATA, columns={"labels": "x"})


@pytest.mark.parametrize("more", [{"prediction": [*"abca"]}, {"correct": [1, 1, 0, 1]}])
@pytest.mark.parametrize("ids", [False, True])
def test_rows_in_another_order_pair_by_their_ids_alone(more: dict[str, Any], ids: bool) -> None:
    """Without ids the labels in their order are compared, as those of a table of classes are."""
    rows = {"confidence": [0.9, 0.8, 0.7, 0.6], "label": [*"abba"], **more}
    if ids:
        rows["id"] = [*range(4)]
    one = Predictions.from_frame(rows)
    again = Predictions.from_frame({key: list(values) for key, values in rows.items()})
    moved = Predictions.from_frame({key: values[1:] + values[:1] for key, values in rows.items()})
    assert not one.signature.hard_differences(again.signature)
    differ = [field for field, *_ in one.signature.hard_differences(moved.signature)]
    assert differ == ([] if ids else ["labels"])
