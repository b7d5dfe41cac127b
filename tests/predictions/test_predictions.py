"""Predictions: validation, ids, limits, and the forms of arrays that are accepted."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import four_way

from pytest_calibration.assertions import (
    assert_accuracy_above,
    assert_ece_below,
    assert_metric_below,
    assert_no_regression,
    assert_not_overconfident,
)
from pytest_calibration.errors import CalibrationError, PredictionsError
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.verdict import compare
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import accuracy
from pytest_calibration.predictions import (
    Predictions,
    Signature,
    as_predictions,
    digest,
    hash_ids,
    positional_ids,
)
from pytest_calibration.sink import SINK


@pytest.fixture(autouse=True)
def _no_session() -> None:
    """Call the assertions as outside a test session."""
    SINK.set(None)


def small(**changes: Any) -> Predictions:
    """Three valid items, with these fields replaced."""
    base: dict[str, Any] = {
        "probe": "facts",
        "confidence": [0.9, 0.5, 0.7],
        "correct": [True, False, True],
        "item_ids": [11, 12, 13],
    }
    return Predictions(**{**base, **changes})


# --- ids ----------------------------------------------------------------------------------------


def test_positional_ids_are_splitmix64() -> None:
    """Ids by position are the output of splitmix64 from seed 0 (Steele, Lea & Flood 2014)."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert positional_ids(3).tolist() == published


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_positional_ids_are_distinct_and_nested(n: int, m: int) -> None:
    """N positions have n distinct ids, and a shorter set has the first of them."""
    ids = positional_ids(n)
    assert len(np.unique(ids)) == n
    shared = min(n, m)
    np.testing.assert_array_equal(ids[:shared], positional_ids(m)[:shared])


def test_hashed_ids_depend_on_id_and_salt_alone() -> None:
    """The same id has the same hash wherever it stands, and another one under another salt."""
    first, second = hash_ids(["a", "b", "c"], "facts"), hash_ids(["c", "a"], "facts")
    assert second.tolist() == [first[2], first[0]]
    assert not set(first.tolist()) & set(hash_ids(["a", "b", "c"], "other").tolist())


def test_ids_are_salted_with_the_probe() -> None:
    """The same ids under another probe share no hash, so that a published hash reveals nothing."""
    ids = ["a", "b", "c"]
    one, same, other = (
        Predictions.from_confidence([0.5] * 3, [True] * 3, item_ids=ids, probe=probe)
        for probe in ("facts", "facts", "other")
    )
    assert one.item_ids.tolist() == same.item_ids.tolist()
    assert not set(one.item_ids.tolist()) & set(other.item_ids.tolist())


def test_digest_keeps_parts_apart() -> None:
    """A digest tells ("ab", "c") from ("a", "bc"), and text has two digits per byte."""
    assert digest("ab", "c") != digest("a", "bc")
    assert len(digest("x", size=6)) == 12


def test_set_digest_ignores_order() -> None:
    """The digest of the item set does not depend on the order of the rows."""
    p = small()
    assert p.items_digest == p.take(np.array([2, 0, 1])).items_digest
    assert p.items_digest != p.take(np.array([0, 1])).items_digest


# --- limits -------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.data())
def test_limits_are_nested(n: int, data: st.DataObject) -> None:
    """The items of a smaller limit are a subset of those of a larger one, in the same order."""
    p = Predictions.from_confidence([0.5] * n, [True] * n)
    small_limit = data.draw(st.integers(1, n))
    large_limit = data.draw(st.integers(small_limit, n + 5))
    few, many = p.limited(small_limit), p.limited(large_limit)
    assert few.n == small_limit
    assert many.n == min(large_limit, n)
    assert set(few.item_ids.tolist()) <= set(many.item_ids.tolist())
    position = {item: i for i, item in enumerate(p.item_ids.tolist())}
    order = [position[item] for item in few.item_ids.tolist()]
    assert order == sorted(order)


@pytest.mark.parametrize("limit", [0, -5], ids=str)
def test_limit_below_one_is_refused(limit: int) -> None:
    """A limit of 0 or below is an error, not an empty or another subset."""
    with pytest.raises(
        PredictionsError, match=f"'facts': the limit must be at least 1, got {limit}"
    ):
        small().limited(limit)


def test_no_limit_keeps_everything() -> None:
    """None, and a limit of n or more, give the predictions as they are."""
    p = small()
    assert p.limited(None) is p
    assert p.limited(3) is p


# --- validation ---------------------------------------------------------------------------------

REFUSED = {
    "no items": (
        {"confidence": [], "correct": [], "item_ids": []},
        r"there are no items \(n = 0\); score at least one",
    ),
    "NaN": ({"confidence": [0.5, math.nan, 0.7]}, r"confidence\[1\] is nan; NaN and infinity"),
    "infinity": ({"confidence": [0.5, 0.5, -math.inf]}, r"confidence\[2\] is -inf"),
    "above one": ({"confidence": [0.5, 0.5, 1.01]}, r"confidence\[2\] is 1.01, outside \[0, 1\]"),
    "below zero": (
        {"confidence": [-0.25, 0.5, 1]},
        r"confidence\[0\] is -0.25, outside \[0, 1\]\.$",
    ),
    "per cent": (
        {"confidence": [80, 95, 50]},
        r"confidence\[0\] is 80, outside \[0, 1\]; divide percentages by 100\.$",
    ),
    "text": ({"confidence": ["a", "b", "c"]}, r"confidence must be numbers, got dtype <U1"),
    "ragged": ({"confidence": [[0.1], [0.2, 0.3], 0.4]}, r"confidence cannot be read as an array"),
    "two dimensions": (
        {"confidence": [[0.1, 0.2, 0.3]]},
        r"confidence must have shape \(n,\), got \(1, 3\)",
    ),
    "half right": ({"correct": [1, 0.5, 0]}, r"correct\[1\] is 0.5; an answer is correct \(1\) or"),
    "right as NaN": ({"correct": [1, 0, math.nan]}, r"correct\[2\] is nan"),
    "right as text": ({"correct": ["y", "n", "y"]}, r"correct must be booleans, got dtype <U1"),
    "right in a table": ({"correct": [[1, 0, 1]]}, r"correct must have shape \(n,\), got \(1, 3\)"),
    "too few outcomes": (
        {"correct": [1, 0]},
        r"correct has 2 entries for 3 confidences; give one entry per item",
    ),
    "too many ids": ({"item_ids": [1, 2, 3, 4]}, r"item_ids has 4 entries for 3 confidences"),
    "too few groups": ({"groups": ["a"]}, r"groups has 1 entries for 3 confidences"),
    "too few slices": ({"slices": ["a"]}, r"slices has 1 entries for 3 confidences"),
    "an id twice": (
        {"item_ids": [7, 8, 7]},
        r"items 0 and 2 have the same id; give each item its own id, or none at all",
    ),
    "probability": (
        {"probabilities": [[0.9, 0.1], [0.5, math.nan], [0.7, 0.3]]},
        r"probabilities\[1, 1\] is nan",
    ),
    "probability above one": (
        {"probabilities": [[0.9, 0.1], [0.5, 0.5], [7, 0.3]]},
        r"probabilities\[2, 0\] is 7, outside",
    ),
    "label": ({"labels": [0, 1.5, 0]}, r"labels must be whole numbers"),
    "infinite label": ({"labels": [0, math.inf, 0]}, r"labels must be whole numbers"),
    "log NaN": ({"label_logprobs": [-1, math.nan, -1]}, r"label_logprobs\[1\] is nan"),
    "log of nothing": ({"label_logprobs": [-1, -1, -math.inf]}, r"label_logprobs\[2\] is -inf"),
    "log infinite": ({"label_logprobs": [math.inf, -1, -1]}, r"label_logprobs\[0\] is inf"),
    "log above zero": (
        {"label_logprobs": [-1, 0.7, -1]},
        r"label_logprobs\[1\] is 0.7, above 0; give log P\(right answer\) in nats",
    ),
    "option mass": ({"option_mass": [1, math.inf, 1]}, r"option_mass\[1\] is inf"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_predictions_are_refused(changes: dict[str, Any], message: str) -> None:
    """The error names the probe, the array, the index and the value."""
    with pytest.raises(PredictionsError, match=f"^predictions of probe 'facts': .*{message}"):
        small(**changes)


def test_rounding_outside_the_range_is_clipped() -> None:
    """Values within 1e-6 of [0, 1] are float32 rounding and are clipped."""
    p = small(confidence=[1 + 9e-7, -9e-7, 0.5], label_logprobs=[1e-6, -1, -2])
    assert p.confidence.tolist() == [1.0, 0.0, 0.5]
    assert p.label_logprobs is not None
    assert p.label_logprobs.tolist() == [0.0, -1.0, -2.0]
    with pytest.raises(PredictionsError, match=r"outside \[0, 1\]"):
        small(confidence=[1 + 2e-6, 0.5, 0.5])


TABLES = {
    "outputs": ([[[0.6, 0.4]], [[0.6, 0.4]]], [0], r"of several outputs judge each by itself"),
    "one of rest": ([[0.6, 0.6]], [0], "and judge each of several labels by itself"),
    "sum": ([[0.6, 0.4], [0.6, 0.6]], [0, 1], r"row 1 of the probabilities sums to 1.2, not 1; "),
    "logits": (
        [[2.0, -1.0]],
        [0],
        r"\[0, 0\] is 2, outside \[0, 1\]; pass logits to .*from_logits",
    ),
    "per cent": ([[60, 40]], [0], r"\[0, 0\] is 60, .*; divide percentages by 100; pass logits to"),
    "label beyond": ([[0.6, 0.4]], [2], r"labels\[0\] is 2, but .* columns 0 to 1"),
    "label below": ([[0.6, 0.4]], [-1], r"labels\[0\] is -1, but"),
    "labels short": ([[0.6, 0.4], [0.5, 0.5]], [0], r"1 labels for 2 rows"),
    "labels one-hot": (
        [[0.6, 0.4]],
        [[1, 0]],
        r"labels must have shape \(n,\), got \(1, 2\); .* pass labels.argmax\(axis=1\)",
    ),
    "labels text": (
        [[0.6, 0.4]],
        ["cat"],
        r"labels\[0\] is 'cat', and the classes are not known; pass them in the order of ",
    ),
    "label NaN": ([[0.6, 0.4]] * 2, [0, math.nan], r"whole numbers, .*; labels\[1\] is nan"),
    "label missing": ([[0.6, 0.4]] * 2, [0, None], r"labels\[1\] is missing"),
    "label of 64 bits": (
        [[0.6, 0.4]],
        np.array([2**63], np.uint64),
        r"is 9223372036854775808",
    ),
    "one axis": ([0.6, 0.4], [0, 1], r"pass both columns, .* for confidences use"),
    "one column": (
        [[1.0], [1.0]],
        [0, 0],
        r"got \(2, 1\); .* pass both columns, .* for confidences",
    ),
    "empty": (np.empty((0, 2)), [], r"there are no items \(shape \(0, 2\)\)"),
    "three axes": (np.full((2, 2, 2), 0.5), [0, 1], r"must have shape \(n, k\), got \(2, 2, 2\)"),
}


@pytest.mark.parametrize(("table", "labels", "message"), TABLES.values(), ids=TABLES.keys())
def test_invalid_tables_of_probabilities_are_refused(table: Any, labels: Any, message: str) -> None:
    """The error names the row and says what to do."""
    with pytest.raises(PredictionsError, match=message):
        Predictions.from_probabilities(table, labels)


PAIRS = {
    "one column": (([[0.9], [0.2]], [1, 0]), r"for a binary classifier pass both columns"),
    "binary": (([0.9, 0.2], [1, 0]), r"for a binary classifier pass both columns, \(n, 2\)"),
    "three axes": ((np.full((2, 2, 2), 0.5), [0, 1]), r"shape \(n, k\), got \(2, 2, 2\)"),
    "scalar": ((0.9, True), r"shape \(n, k\), got \(\)"),
    "list": ([[0.9], [True]], r"expected Predictions or a pair .*, got list"),
    "triple": (([0.9], [True], [1]), r"expected Predictions or a pair .*, got tuple"),
    "nothing": (None, r"got NoneType"),
}


@pytest.mark.parametrize(("value", "message"), PAIRS.values(), ids=PAIRS.keys())
def test_ambiguous_or_foreign_values_are_refused(value: Any, message: str) -> None:
    """Values with two readings, or none, are refused; the error says what to pass instead."""
    with pytest.raises(PredictionsError, match=message):
        as_predictions(value)


# --- forms of arrays ----------------------------------------------------------------------------

FORMS = {
    "lists": lambda a: np.asarray(a).tolist(),
    "float64": np.asarray,
    "float32": lambda a: np.asarray(a).astype(np.float32) if np.ndim(a) == 2 else np.asarray(a),
    "float16": lambda a: np.asarray(a).astype(np.float16) if np.ndim(a) == 2 else np.asarray(a),
    "fortran order": np.asfortranarray,
    "read-only": lambda a: np.frombuffer(np.ascontiguousarray(a).tobytes(), np.asarray(a).dtype)
    .reshape(np.shape(a)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_arrays_are_accepted_in_any_form(form: Any) -> None:
    """Lists and arrays of any float type and layout give the same answers and outcomes."""
    table = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5]])
    p = as_predictions((form(table), form(np.array([0, 0, 2]))))
    assert p.confidence.tolist() == [0.5, 0.75, 0.5]
    assert p.correct.tolist() == [True, False, True]
    assert p.confidence.dtype == np.float64


def test_torch_tensors_are_accepted_on_the_cpu() -> None:
    """Tensors of any float type are read, with a gradient or without."""
    torch = pytest.importorskip("torch")
    table = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    p = as_predictions((table, torch.tensor([0, 1])))
    assert p.confidence.tolist() == [0.5, 0.75]
    q = as_predictions((torch.tensor([0.5, 0.75]), torch.tensor([True, False])))
    assert q.correct.tolist() == [True, False]
    logits = Predictions.from_logits(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    assert logits.confidence.tolist() == [0.5]
    for other in (table.clone().requires_grad_(), table.bfloat16(), table.to_sparse()):
        assert as_predictions((other, [0, 1])).confidence.tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    "labels", [[0, 1], [0.0, 1.0], [False, True], np.array([0, 1], np.uint8)], ids=str
)
def test_labels_may_be_any_whole_numbers(labels: Any) -> None:
    """Labels are whole numbers of any type."""
    p = Predictions.from_probabilities([[0.75, 0.25], [0.75, 0.25]], labels)
    assert p.correct.tolist() == [True, False]


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize(
    "outcomes",
    [[True, False], np.array([True, False]), np.array([True, False], object), [[True], [False]]],
    ids=["list", "array", "objects", "column"],
)
def test_booleans_are_no_class_labels(columns: int, outcomes: Any) -> None:
    """Of more than two classes, booleans say which answers are right, and never classes 0 and 1."""
    table = np.full((2, columns), 1 / columns)
    message = (
        f"labels are booleans, and the probabilities have {columns} columns; pass the index of the "
        rf"right class, 0 to {columns - 1}, .*\(probabilities.max\(axis=1\), correct\)"
    )
    for build in (as_predictions, lambda pair: Predictions.from_logits(*pair)):
        with pytest.raises(PredictionsError, match=message):
            build((table, outcomes))


def test_first_of_equal_classes_is_the_answer() -> None:
    """Among equal probabilities the first class is the answer."""
    p = Predictions.from_probabilities([[0.25, 0.25, 0.25, 0.25]] * 2, [0, 1])
    assert p.correct.tolist() == [True, False]
    assert p.confidence.tolist() == [0.25, 0.25]


def test_logits_become_softmax() -> None:
    """Logits ln 1, ln 2, ln 5 give 1/8, 2/8, 5/8; adding a constant changes nothing."""
    logits = np.log([[1.0, 2.0, 5.0]])
    p = Predictions.from_logits(logits, [1])
    np.testing.assert_allclose(p.probabilities, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)
    assert p.label_logprobs is not None
    assert p.label_logprobs[0] == pytest.approx(math.log(2 / 8))
    huge = Predictions.from_logits(logits + 1e4, [1])
    assert huge.confidence[0] == pytest.approx(5 / 8)


def test_a_logit_of_minus_infinity_is_an_option_that_is_not_there() -> None:
    """Its probability is exactly 0, and the others are as without its column."""
    masked = Predictions.from_logits([[1.0, -math.inf, 3.0], [-math.inf, 2.0, 0.0]], [2, 2])
    assert masked.probabilities is not None
    assert masked.probabilities[[0, 1], [1, 0]].tolist() == [0.0, 0.0]
    narrow = Predictions.from_logits([[1.0, 3.0], [2.0, 0.0]], [1, 1])
    np.testing.assert_array_equal(masked.confidence, narrow.confidence)
    assert masked.correct.tolist() == narrow.correct.tolist()


LOGITS = {
    "no option": ([[0.0, 1.0], [-math.inf] * 2], r"row 1 of the logits is -inf in every column"),
    "infinity": ([[0.0, 1.0], [0.0, math.inf]], r"logits\[1, 1\] is inf"),
    "NaN beside a mask": ([[0.0, -math.inf], [math.nan, 0.0]], r"logits\[1, 0\] is nan"),
    "one column": ([[0.3], [0.7]], r"one column, whose softmax is 1 whatever it holds; .* 0 and z"),
    "one axis": ([0.3, 0.7], r"logits must have shape \(n, k\), got \(2,\)"),
}


@pytest.mark.parametrize(("logits", "message"), LOGITS.values(), ids=LOGITS.keys())
def test_logits_without_a_softmax_are_refused(logits: Any, message: str) -> None:
    """Logits whose softmax is no number, or says nothing, are refused by place."""
    with pytest.raises(
        PredictionsError, match=f"^predictions of probe 'probabilities': .*{message}"
    ):
        Predictions.from_logits(logits, [0, 0])


def test_a_right_answer_of_probability_zero_stays_finite() -> None:
    """A probability of 0 for the right class gives a finite log-probability, never -inf."""
    p = Predictions.from_probabilities([[1.0, 0.0]], [1])
    assert p.label_logprobs is not None
    assert -1000 < p.label_logprobs[0] < -700


@given(
    st.lists(
        st.lists(st.integers(-80, 80), min_size=3, max_size=3, unique=True), min_size=1, max_size=30
    ),
    st.floats(0.25, 8.0),
)
def test_temperature_leaves_accuracy_unchanged(rows: list[list[int]], factor: float) -> None:
    """Multiplying logits by a positive number changes confidence and no answer."""
    logits = np.array(rows) / 8
    labels = np.arange(len(rows)) % 3
    before = Predictions.from_logits(logits, labels)
    after = Predictions.from_logits(factor * logits, labels)
    np.testing.assert_array_equal(before.correct, after.correct)
    assert accuracy(before) == accuracy(after)
    if factor > 1:
        assert (after.confidence >= before.confidence - 1e-12).all()


# --- immutability -------------------------------------------------------------------------------


def test_predictions_are_immutable_copies() -> None:
    """Changing the source arrays changes nothing, and the fields cannot be written."""
    confidence, correct = np.array([0.5, 0.75]), np.array([True, False])
    ids = np.array([1, 2], dtype=np.uint64)
    p = Predictions("facts", confidence, correct, ids)
    confidence[0], correct[0], ids[0] = 0.1, False, 9
    assert p.confidence.tolist() == [0.5, 0.75]
    assert p.correct.tolist() == [True, False]
    assert p.item_ids.tolist() == [1, 2]
    for array in (p.confidence, p.correct, p.item_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_take_picks_every_field() -> None:
    """Taking rows takes them from every array."""
    p = small(
        probabilities=[[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]],
        labels=[0, 1, 1],
        label_logprobs=[-0.1, -0.7, -0.4],
        option_mass=[1, 0.5, 0.25],
        groups=["a", "b", "a"],
        slices=["x", "y", "z"],
    )
    q = p.take(np.array([2, 0]))
    assert q.confidence.tolist() == [0.7, 0.9]
    assert q.item_ids.tolist() == [13, 11]
    assert q.probabilities is not None
    assert q.probabilities.tolist() == [[0.3, 0.7], [0.9, 0.1]]
    for name, values in (
        ("labels", [1, 0]),
        ("label_logprobs", [-0.4, -0.1]),
        ("option_mass", [0.25, 1]),
        ("groups", ["a", "a"]),
        ("slices", ["z", "x"]),
    ):
        assert getattr(q, name).tolist() == values
    assert p.take(p.confidence > 0.6).n == 2


def test_clusters_are_groups_or_items() -> None:
    """Without groups every item is a unit; with groups the units are the distinct groups."""
    assert small().n_clusters == 3
    assert small(groups=["a", "b", "a"]).n_clusters == 2


def test_an_item_without_a_group_stands_alone() -> None:
    """A missing group is a group of its own, whatever other groups are called."""
    p = Predictions.from_confidence([0.5] * 6, [True] * 6, groups=["a", None, "#1", "", "a", "##3"])
    assert p.n_clusters == 5
    assert p.groups is not None
    assert p.groups[[0, 2, 4, 5]].tolist() == ["a", "#1", "a", "##3"]
    assert p.take(np.array([1, 3, 0])).n_clusters == 3


def test_items_that_all_lack_a_group_are_independent() -> None:
    """Where no item has a group, the interval is that of items without groups."""
    correct = [True, True, False, True] * 25
    one, other = (
        Predictions.from_confidence([0.75] * 100, correct, groups=groups)
        for groups in ([None] * 100, None)
    )
    first, second = measure(one, "accuracy"), measure(other, "accuracy")
    assert (first.low, first.high) == (second.low, second.high)


@pytest.mark.parametrize("name", ["groups", "slices", "texts", "item_ids"])
def test_one_long_text_makes_no_other_longer(name: str) -> None:
    """Memory grows with the sum of the lengths of the texts, not with the longest of them."""
    n, long = 2000, "x" * 100_000
    names = [f"g{i}" for i in range(n - 1)] + [long]
    tracemalloc.start()
    p = Predictions.from_confidence([0.5] * n, [True] * n, **{name: names})
    p.take(np.arange(n - 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # As an array of fixed width: 2000 x 100,000 x 4 bytes.
    assert peak < 8_000_000


def test_texts_that_end_in_nul_are_told_apart() -> None:
    """A text keeps every character, also a NUL at its end."""
    p = Predictions.from_confidence([0.5] * 2, [True] * 2, groups=["a", "a\0"])
    assert p.n_clusters == 2


def test_gap_is_confidence_minus_correctness() -> None:
    """The gap of an item is its confidence minus 1 where it is right, minus 0 where not."""
    np.testing.assert_allclose(small().gap, [-0.1, 0.5, -0.3], atol=1e-15)


# --- signatures ---------------------------------------------------------------------------------


def test_signature_differences_name_the_field_and_both_sides() -> None:
    """A hard field differs also where one side lacks it; a soft one only where both have it."""
    here = Signature({"shots": "5", "kind": "facts"}, {"dtype": "float32", "device": "cpu"})
    there = Signature({"shots": "0"}, {"dtype": "bfloat16"})
    assert here.hard_differences(there) == [("kind", "facts", "(none)"), ("shots", "5", "0")]
    assert here.soft_differences(there) == [("dtype", "float32", "bfloat16")]
    assert str(here) == "kind:facts|shots:5|device:cpu|dtype:float32"


def test_soft_fields_are_added_without_touching_the_rest() -> None:
    """Adding the model keeps the other fields, and the two stay comparable."""
    p = small(signature=Signature({"shots": "5"}, {"dtype": "float32"}))
    q = p.with_signature(model="sft")
    assert q.signature == Signature({"shots": "5"}, {"dtype": "float32", "model": "sft"})
    assert not q.signature.hard_differences(p.signature)


@given(st.permutations(range(12)))
def test_shuffled_labels_are_not_comparable(order: list[int]) -> None:
    """Arrays pair by position, so the same rows under other labels are not comparable."""
    labels = np.arange(12) % 4
    table = np.full((12, 4), 0.25)
    before = Predictions.from_probabilities(table, labels)
    after = Predictions.from_probabilities(table, labels[list(order)])
    same = bool((labels == labels[list(order)]).all())
    verdict = compare(after, before)
    assert (verdict.state is not State.NOT_COMPARABLE) is same
    if not same:
        assert "the probe is not the same: labels is " in verdict.explain()


def test_with_ids_the_order_of_rows_is_free() -> None:
    """With item ids, shuffled rows pair by id and stay comparable."""
    logits, labels = four_way(60, 1)
    ids = [f"q{i}" for i in range(60)]
    before = Predictions.from_logits(logits, labels, item_ids=ids)
    order = np.random.default_rng(0).permutation(60)
    after = Predictions.from_logits(logits[order], labels[order], item_ids=[ids[i] for i in order])
    assert compare(after, before).state is not State.NOT_COMPARABLE


# --- NaN and infinity never pass ----------------------------------------------------------------

N = 64
BAD = st.sampled_from([math.nan, math.inf, -math.inf])
ASSERTIONS = {
    "ece": lambda p: assert_ece_below(p, 1.0),
    "debiased": lambda p: assert_ece_below(p, 1.0, debiased=True),
    "nll": lambda p: assert_metric_below(p, "nll", 1e9),
    "brier": lambda p: assert_metric_below(p, "brier", 1.0),
    "mce": lambda p: assert_metric_below(p, "mce", 1.0),
    "accuracy": lambda p: assert_accuracy_above(p, 0.0),
    "gap": lambda p: assert_not_overconfident(p, 1.0),
    "itself": lambda p: assert_no_regression(p, p, tolerance=0.9, accuracy_tolerance=None),
}


def _valid() -> dict[str, Any]:
    logits, labels = four_way(N, 3)
    p = Predictions.from_logits(logits, labels)
    assert p.probabilities is not None
    return {
        "probe": "facts",
        "confidence": p.confidence.copy(),
        "correct": p.correct.astype(np.float64),
        "item_ids": p.item_ids.copy(),
        "probabilities": p.probabilities.copy(),
        "labels": labels.astype(np.float64),
        "label_logprobs": np.array(p.label_logprobs),
        "option_mass": np.ones(N),
    }


@pytest.mark.parametrize("check", ASSERTIONS.values(), ids=ASSERTIONS.keys())
def test_valid_predictions_pass_the_widest_limits(check: Any) -> None:
    """The predictions of the property below pass without their bad values."""
    check(Predictions(**_valid()))


@given(
    st.sampled_from(
        ["confidence", "correct", "probabilities", "labels", "label_logprobs", "option_mass"]
    ),
    st.lists(st.tuples(st.integers(0, N - 1), BAD), min_size=1, max_size=5),
    st.sampled_from(sorted(ASSERTIONS)),
)
def test_no_nan_or_infinity_ever_passes(
    name: str, places: list[tuple[int, float]], check: str
) -> None:
    """A NaN or an infinity anywhere in the arrays is an error of every assertion."""
    fields = _valid()
    for row, value in places:
        fields[name][row] = value
    with pytest.raises(CalibrationError):
        ASSERTIONS[check](Predictions(**fields))


@given(st.integers(0, N - 1), st.integers(0, 3), BAD, st.booleans())
def test_no_bad_number_passes_through_the_builders(
    row: int, column: int, value: float, as_logits: bool
) -> None:
    """A NaN or an infinity among logits or probabilities is an error that names its index.

    Minus infinity is a logit: of an option that the item does not have.
    """
    assume(not (as_logits and value == -math.inf))
    logits, labels = four_way(N, 3)
    table = logits if as_logits else np.full((N, 4), 0.25)
    table[row, column] = value
    build = Predictions.from_logits if as_logits else Predictions.from_probabilities
    with pytest.raises(PredictionsError, match=rf"\[{row}, {column}\] is -?(nan|inf)"):
        assert_ece_below(build(table, labels), 1.0)


def test_replacing_a_field_validates_again() -> None:
    """Predictions made from others are checked like any."""
    with pytest.raises(PredictionsError, match=r"confidence\[0\] is nan"):
        replace(small(), confidence=np.array([math.nan, 0.5, 0.5]))


# --- slices and texts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda **k: Predictions.from_probabilities([[0.6, 0.4]] * 3, [0, 1, 0], **k),
        lambda **k: Predictions.from_logits([[0.6, 0.4]] * 3, [0, 1, 0], **k),
        lambda **k: Predictions.from_confidence([0.6] * 3, [True, False, True], **k),
    ],
    ids=["probabilities", "logits", "confidence"],
)
def test_slices_and_texts_follow_their_items(build: Any) -> None:
    """Slices and texts follow their items and change no number."""
    p = build(slices=["a", "b", "a"], texts=["x?", "y?", "z?"], item_ids=[7, 8, 9])
    assert p.slices.tolist() == ["a", "b", "a"]
    last = p.take(np.array([2]))
    assert (last.texts[0].prompt, last.texts[0].name, last.slices.tolist()) == ("z?", "9", ["a"])
    np.testing.assert_array_equal(p.confidence, build().confidence)
    with pytest.raises(PredictionsError, match="texts has 2 entries for 3 items"):
        build(texts=["x?", "y?"])
    with pytest.raises(PredictionsError, match="slices has 1 entries for 3 confidences"):
        build(slices=["a"])


def test_half_a_surrogate_pair_can_be_hashed() -> None:
    """JSON may hold one: ids and rows with it have digests, each its own."""
    p = Predictions.from_confidence([0.5, 0.6], [True, False], item_ids=["\ud800", "\ud801"])
    assert len({*p.item_ids.tolist()}) == 2
    assert digest("\ud800") != digest("\ud801")
    assert digest("é") == digest("é".encode())


# --- the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda **k: Predictions.from_probabilities([[0.6, 0.4]], [0], **k),
        lambda **k: Predictions.from_logits([[0.6, 0.4]], [0], **k),
        lambda **k: Predictions.from_confidence([0.6], [True], **k),
    ],
    ids=["probabilities", "logits", "confidence"],
)
def test_the_model_goes_into_the_signature(build: Any) -> None:
    """The model is a soft field: it is named with every number, and two models are comparable."""
    signature = Signature({"shots": "5"}, {"dtype": "float32"})
    p = build(model="runs/sft", signature=signature)
    assert dict(p.signature.soft) == {"dtype": "float32", "model": "runs/sft"}
    assert p.signature.hard["shots"] == "5"
    assert measure(p, "accuracy").model == "runs/sft"
    assert not p.signature.hard_differences(build(model="base", signature=signature).signature)
    for wrong in ("", 3, object):
        with pytest.raises(PredictionsError, match="model must be the model's name, got"):
            build(model=wrong)
