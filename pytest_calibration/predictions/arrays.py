"""Arrays as users pass them, checked and copied to the types that predictions hold.

Every function raises a ``PredictionsError`` that names the array, the first bad index and its
value. ``where`` starts the message: ``predictions of probe 'facts'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
IdArray: TypeAlias = NDArray[np.uint64]
StrArray: TypeAlias = NDArray[np.str_]

# Sums of a float32 softmax differ from 1 by a few 1e-6; a larger excess is not rounding.
RANGE_SLACK: Final = 1e-6
# Probabilities are often rounded to three decimals before they are stored.
SUM_SLACK: Final = 1e-2
# A log-probability is a difference of two float32 numbers, summed over the tokens of an answer.
LOG_SLACK: Final = 1e-3


def as_array(values: Any, name: str, where: str) -> NDArray[Any]:
    """Return anything array-like as an array of any type and shape."""
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError, ValueError) as error:
        raise PredictionsError(
            f"{where}: {name} cannot be read as an array ({error}); "
            "pass a numpy array, a list or a CPU tensor without gradient in float32."
        ) from None


def floats(values: Any, name: str, where: str, ndim: int = 1) -> FloatArray:
    """Return finite numbers of this dimension."""
    array = as_array(values, name, where)
    if array.dtype.kind not in "fiub":
        raise PredictionsError(f"{where}: {name} must be numbers, got dtype {array.dtype}.")
    if array.ndim != ndim:
        shape = "(n,)" if ndim == 1 else "(n, k)"
        raise PredictionsError(f"{where}: {name} must have shape {shape}, got {array.shape}.")
    out = np.array(array, dtype=np.float64)
    # Minimum and maximum are finite where all values are: only a bad array is searched.
    if out.size and not (np.isfinite(out.min()) and np.isfinite(out.max())):
        index, place = _first(~np.isfinite(out), name)
        raise PredictionsError(
            f"{where}: {place} is {out[index]}; NaN and infinity are no probabilities."
        )
    return out


def probabilities(values: Any, name: str, where: str, ndim: int = 1) -> FloatArray:
    """Return numbers in [0, 1]; what rounding put outside by at most 1e-6 is clipped."""
    array = floats(values, name, where, ndim)
    low, high = (array.min(), array.max()) if array.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return array
    outside = (array < -RANGE_SLACK) | (array > 1 + RANGE_SLACK)
    if outside.any():
        index, place = _first(outside, name)
        raise PredictionsError(
            f"{where}: {place} is {array[index]:.6g}, outside [0, 1]; "
            "pass logits to Predictions.from_logits."
        )
    return np.clip(array, 0.0, 1.0)


def _first(bad: BoolArray, name: str) -> tuple[tuple[int, ...], str]:
    """Return the first index where a mask holds, and the array's name with it: ``name[1, 2]``."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return index, f"{name}[{', '.join(map(str, index))}]"


def probability_table(values: Any, labels: Any, where: str) -> tuple[FloatArray, IntArray]:
    """Return an (n, k) table whose rows sum to 1, within 0.01, and the (n,) index of each label."""
    table = as_array(values, "probabilities", where)
    if table.ndim == 1:
        raise PredictionsError(
            f"{where}: probabilities must have shape (n, k), got {table.shape}; for a binary "
            "classifier pass both columns, for confidences use Predictions.from_confidence."
        )
    table = probabilities(table, "probabilities", where, 2)
    n, k = table.shape
    if n == 0 or k == 0:
        raise PredictionsError(f"{where}: there are no items (shape {table.shape}).")
    column = whole_numbers(labels, "labels", where)
    if len(column) != n:
        raise PredictionsError(
            f"{where}: {len(column)} labels for {n} rows of probabilities; give one per row."
        )
    outside = np.flatnonzero((column < 0) | (column >= k))
    if len(outside):
        raise PredictionsError(
            f"{where}: labels[{outside[0]}] is {column[outside[0]]}, but the probabilities have "
            f"columns 0 to {k - 1}."
        )
    sums = np.einsum("ij->i", table)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_SLACK)
    if len(off):
        raise PredictionsError(
            f"{where}: row {off[0]} of the probabilities sums to {sums[off[0]]:.6g}, not 1; "
            "pass logits to Predictions.from_logits."
        )
    return table, column


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
    array = as_array(values, name, where)
    if array.ndim != 1:
        raise PredictionsError(f"{where}: {name} must have shape (n,), got {array.shape}.")
    if array.dtype == np.bool_:
        return array.copy()
    if array.dtype.kind in "fiu":
        bad = np.flatnonzero((array != 0) & (array != 1))
        if not len(bad):
            return array.astype(np.bool_)
        raise PredictionsError(
            f"{where}: {name}[{bad[0]}] is {array[bad[0]]}; an answer is correct (1) or not (0)."
        )
    raise PredictionsError(f"{where}: {name} must be booleans, got dtype {array.dtype}.")


def whole_numbers(values: Any, name: str, where: str) -> IntArray:
    """Return (n,) whole numbers, of any numeric type."""
    array = as_array(values, name, where)
    if array.ndim != 1:
        raise PredictionsError(f"{where}: {name} must have shape (n,), got {array.shape}.")
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f" and bool(np.all(np.isfinite(array) & (array == np.floor(array)))):
        return array.astype(np.int64)
    raise PredictionsError(
        f"{where}: {name} must be whole numbers, the index of the right class, "
        f"got dtype {array.dtype}."
    )


def texts(values: Sequence[object], *_: str) -> StrArray:
    """Return (n,) the text of anything; nothing is refused."""
    return np.array([str(value) for value in values], dtype=np.str_)
