"""Arrays as users pass them, checked and copied to the types that predictions hold.

Every function raises a ``PredictionsError`` that names the array, the first bad index and its
value. ``where`` starts the message: ``predictions of probe 'facts'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError, suggestion
from pytest_calibration.predictions.conversion import as_array, as_list, as_text, shown

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
IdArray: TypeAlias = NDArray[np.uint64]
# Texts are Python's own: in an array of numpy's fixed width, one long text makes all as long.
StrArray: TypeAlias = NDArray[np.object_]

# Sums of a float32 softmax differ from 1 by a few 1e-6; a larger excess is not rounding.
RANGE_SLACK: Final = 1e-6
# Probabilities are often rounded to three decimals before they are stored.
SUM_SLACK: Final = 1e-2
# A log-probability is a difference of two float32 numbers, summed over the tokens of an answer.
LOG_SLACK: Final = 1e-3
# Label of what does not count, as everywhere in transformers.
IGNORED: Final = -100
# Classes that a message names.
_MOST_CLASSES: Final = 12


def column(values: Any, name: str, where: str) -> NDArray[Any]:
    """Return (n,) values of any type; a table of one column counts as that column."""
    array = as_array(values, name, where)
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise PredictionsError(f"{where}: {name} must have shape (n,), got {array.shape}.")
    return array


def floats(
    values: Any, name: str, where: str, ndim: int = 1, *, masked: bool = False
) -> FloatArray:
    """Return finite numbers of this dimension; with ``masked``, minus infinity is one of them."""
    array = as_array(values, name, where) if ndim > 1 else column(values, name, where)
    if array.dtype.kind not in "fiub":
        raise _of_another_kind(array, name, where, "numbers")
    if array.ndim != ndim:
        raise PredictionsError(f"{where}: {name} must have shape (n, k), got {array.shape}.")
    out = np.array(array, dtype=np.float64)
    # Minimum and maximum are finite where all values are: only a bad array is searched.
    if out.size and not (np.isfinite(out.min()) and np.isfinite(out.max())):
        bad = ~np.isfinite(out)
        if masked:
            bad &= out != -np.inf
        if bad.any():
            index, place = _first(bad, name)
            raise PredictionsError(
                f"{where}: {place} is {out[index]}; NaN and infinity are no probabilities."
            )
    return out


def logits(values: Any, where: str) -> FloatArray:
    """Return (n, k) logits; minus infinity marks an option that an item does not have."""
    table = floats(values, "logits", where, 2, masked=True)
    if table.shape[1] == 1:
        raise PredictionsError(
            f"{where}: logits have one column, whose softmax is 1 whatever it holds; "
            "for a binary classifier with one output z, pass the columns 0 and z."
        )
    empty = np.flatnonzero(np.isneginf(table).all(axis=1))
    if len(empty):
        raise PredictionsError(
            f"{where}: row {empty[0]} of the logits is -inf in every column; "
            "an item needs one option at least."
        )
    return table


def _of_another_kind(array: NDArray[Any], name: str, where: str, what: str) -> PredictionsError:
    head = array[:1].tolist() if array.ndim == 1 else []
    first = "".join(f" ({name}[0] is {shown(value)})" for value in head)
    return PredictionsError(f"{where}: {name} must be {what}, got dtype {array.dtype}{first}.")


def probabilities(values: Any, name: str, where: str, ndim: int = 1) -> FloatArray:
    """Return numbers in [0, 1]; what rounding put outside by at most 1e-6 is clipped."""
    array = floats(values, name, where, ndim)
    low, high = (array.min(), array.max()) if array.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return array
    outside = (array < -RANGE_SLACK) | (array > 1 + RANGE_SLACK)
    if outside.any():
        index, place = _first(outside, name)
        # One logit gives no confidence; percentages have no sign.
        advice = "" if low < 0 else "; divide percentages by 100"
        advice += "" if ndim == 1 else "; pass logits to Predictions.from_logits"
        raise PredictionsError(f"{where}: {place} is {array[index]:.6g}, outside [0, 1]{advice}.")
    return np.clip(array, 0.0, 1.0)


def _first(bad: BoolArray, name: str) -> tuple[tuple[int, ...], str]:
    """Return the first index where a mask holds, and the array's name with it: ``name[1, 2]``."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return index, f"{name}[{', '.join(map(str, index))}]"


def probability_table(
    values: Any, labels: Any, where: str, classes: Sequence[Any] = ()
) -> tuple[FloatArray, IntArray]:
    """Return an (n, k) table whose rows sum to 1, within 0.01, and the (n,) index of each label.

    Args:
        values: the table.
        labels: (n,) the index of the right class, or the class itself; see :func:`_labels`.
        where: start of an error.
        classes: the k classes, where they are known.
    """
    table = as_array(values, "probabilities", where)
    if table.ndim == 1 or (table.ndim == 2 and table.shape[1] == 1):
        raise PredictionsError(
            f"{where}: probabilities must have shape (n, k), got {table.shape}; for a binary "
            "classifier pass both columns, numpy.column_stack([1 - p, p]), for confidences use "
            "Predictions.from_confidence."
        )
    if table.ndim == 3:
        raise PredictionsError(
            f"{where}: probabilities must have shape (n, k), got {table.shape}; of several outputs "
            "judge each by itself, such as probabilities[0] with labels[:, 0]."
        )
    table = probabilities(table, "probabilities", where, 2)
    n, k = table.shape
    if n == 0 or k == 0:
        raise PredictionsError(f"{where}: there are no items (shape {table.shape}).")
    label = _labels(labels, n, k, where, classes)
    sums = np.einsum("ij->i", table)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_SLACK)
    if len(off):
        raise PredictionsError(
            f"{where}: row {off[0]} of the probabilities sums to {sums[off[0]]:.6g}, not 1; "
            "pass logits to Predictions.from_logits, divide each row by its sum if these are "
            "scores of one choice, and judge each of several labels by itself."
        )
    return table, label


def _labels(values: Any, n: int, k: int, where: str, classes: Sequence[Any] = ()) -> IntArray:
    """Return the (n,) index of the right class, each below k.

    Labels that are text are classes. So are all where the classes themselves are no texts, as those
    of scikit-learn may be (``classes_`` of [1, 2, 3]). Other labels number the columns from 0.
    """
    given = as_array(values, "labels", where)
    if classes and given.ndim == 1 and _are_classes(given, k, classes, where):
        return _index_of(given, n, classes, where)
    if given.ndim == 2 and given.shape == (n, k) and k > 1:
        raise PredictionsError(
            f"{where}: labels must have shape (n,), got {given.shape}; "
            "where each row marks the right class, pass labels.argmax(axis=1)."
        )
    if given.dtype == np.bool_ and k > 2:
        raise PredictionsError(
            f"{where}: labels are booleans, and the probabilities have {k} columns; pass the index "
            f"of the right class, 0 to {k - 1}, or, to say which answers are right, "
            "(probabilities.max(axis=1), correct)."
        )
    for first in given[:1].tolist() if given.ndim == 1 else []:
        if isinstance(first, str | bytes):
            raise PredictionsError(
                f"{where}: labels[0] is {shown(first)}, and the classes are not known; pass them "
                "in the order of the columns, class_names=classifier.classes_."
            )
    label = whole_numbers(given, "labels", where)
    if len(label) != n:
        raise PredictionsError(
            f"{where}: {len(label)} labels for {n} rows of probabilities; give one per row."
        )
    outside = np.flatnonzero((label < 0) | (label >= k))
    if len(outside):
        raise PredictionsError(
            f"{where}: labels[{outside[0]}] is {label[outside[0]]}, but the probabilities have "
            f"columns 0 to {k - 1}."
        )
    return label


def _are_classes(given: NDArray[Any], k: int, classes: Sequence[Any], where: str) -> bool:
    """Whether labels are classes, and no indices."""
    if any(isinstance(one, str | bytes) for one in given.tolist()):
        if len(classes) != k:
            raise PredictionsError(
                f"{where}: class_names has {len(classes)} entries for {k} columns of "
                "probabilities; give one name per class."
            )
        return True
    if len(classes) != k or [*classes] == [*range(k)]:
        return False
    names = [*map(as_text, classes)]
    texts = all(isinstance(one, str | bytes) for one in classes)
    if texts and all(map(str.isdecimal, names)) and names != [*map(str, range(k))]:
        some = ", ".join(map(shown, names[:_MOST_CLASSES]))
        raise PredictionsError(
            f"{where}: the classes are called {some}, and labels are numbers, which may be classes "
            "or positions; pass the classes as numbers, too, class_names=[...], or labels as text."
        )
    return not texts


def _index_of(given: NDArray[Any], n: int, classes: Sequence[Any], where: str) -> IntArray:
    """Return the column of each label, which is one of the classes."""
    place = {as_text(one): i for i, one in enumerate(classes)}
    if len(place) < len(classes):
        raise PredictionsError(f"{where}: class_names has one class twice; name each once.")
    if len(given) != n:
        raise PredictionsError(
            f"{where}: {len(given)} labels for {n} rows of probabilities; give one per row."
        )
    found = np.empty(n, dtype=np.int64)
    for i, label in enumerate(id_texts(given, "labels", where)):
        if label not in place:
            known = ", ".join(map(shown, [*place][:_MOST_CLASSES]))
            raise PredictionsError(
                f"{where}: labels[{i}] is {shown(label)}, which is none of the classes {known}"
                f"{suggestion(label, place)}."
            )
        found[i] = place[label]
    return found


def log_probabilities(values: Any, name: str, where: str) -> FloatArray:
    """Return (n,) log-probabilities; what rounding put above 0 by at most 1e-3 becomes 0."""
    array = floats(values, name, where)
    bad = np.flatnonzero(array > LOG_SLACK)
    if len(bad):
        raise PredictionsError(
            f"{where}: {name}[{bad[0]}] is {array[bad[0]]:.6g}, above 0; "
            "give log P(right answer) in nats."
        )
    return np.minimum(array, 0.0)


def outcomes(values: Any, name: str, where: str) -> BoolArray:
    """Return (n,) booleans, given as booleans or as numbers that are 0 or 1."""
    array = column(values, name, where)
    if array.dtype == np.bool_:
        return array.copy()
    if array.dtype.kind not in "fiu":
        raise _of_another_kind(array, name, where, "booleans")
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise PredictionsError(
            f"{where}: {name}[{bad[0]}] is {array[bad[0]]}; an answer is correct (1) or not (0)."
        )
    return array.astype(np.bool_)


def whole_numbers(values: Any, name: str, where: str) -> IntArray:
    """Return (n,) whole numbers of at most 64 bits, of any numeric type."""
    what = "whole numbers, the index of the right class"
    array = column(values, name, where)
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind not in "iuf":
        raise _of_another_kind(array, name, where, what)
    # Beyond these bounds a cast gives another number, or one of another sign.
    bad = np.flatnonzero(~((array == np.floor(array)) & (abs(array.astype(np.float64)) < 2**63)))
    if len(bad):
        raise PredictionsError(
            f"{where}: {name} must be {what}; {name}[{bad[0]}] is {array[bad[0]]}."
        )
    return array.astype(np.int64)


def ids(values: Any, name: str, where: str) -> IdArray:
    """Return (n,) whole numbers in [0, 2**64)."""
    # A list of numbers of 64 bits would become floats.
    listed = isinstance(values, list | tuple) and all(type(value) is int for value in values)
    array = np.array(values, dtype=np.object_) if listed else column(values, name, where)
    whole = listed or array.dtype.kind in "iu"
    if array.size and not (whole and array.min() >= 0 and array.max() < 2**64):
        raise PredictionsError(
            f"{where}: {name} must be whole numbers of 64 bits, at least 0; Predictions.from_"
            "confidence, from_probabilities and from_logits take ids of any kind."
        )
    return np.array(array, dtype=np.uint64)


def texts(values: Any, name: str, where: str) -> StrArray:
    """Return (n,) texts; where a value is missing, it is empty."""
    listed = as_list(values, name, where)
    out: list[str] = listed if {*map(type, listed)} <= {str} else []
    for i, value in enumerate([] if out else listed):
        try:
            text = "" if value is None else as_text(value)
        except TypeError as problem:
            raise PredictionsError(
                f"{where}: {name}[{i}] is of type {type(value).__name__}; give {problem}."
            ) from None
        out.append(text)
    return _of_texts(out)


def id_texts(values: Any, name: str, where: str) -> list[str]:
    """Return the text of each id; every item has one."""
    listed = as_list(values, name, where)
    if None in listed:
        raise PredictionsError(
            f"{where}: {name}[{listed.index(None)}] is missing; give each item its own id, or none "
            "at all."
        )
    return list(texts(listed, name, where))


def group_names(values: Any, name: str, where: str) -> StrArray:
    """Return (n,) group names; an item without one (missing or empty) is alone in a group."""
    given = texts(values, name, where)
    alone = np.flatnonzero(given == "")
    if not len(alone):
        return given
    mark = "#"
    while any(text.startswith(mark) for text in given):
        mark += "#"
    given[alone] = [f"{mark}{i}" for i in alone]
    return given


def _of_texts(listed: list[str]) -> StrArray:
    out = np.empty(len(listed), dtype=np.object_)
    out[:] = listed
    return out


def coded(names: StrArray) -> tuple[list[str], IntArray]:
    """Return the distinct texts, sorted, and the position of each among them."""
    # Hashing a million short texts takes a quarter of the time that sorting them does.
    listed = names.tolist()
    distinct = sorted(set(listed))
    position = {name: i for i, name in enumerate(distinct)}
    return distinct, np.fromiter(map(position.__getitem__, listed), np.int64, len(listed))
