"""Values of other libraries as those of Python and numpy.

Tensors on any device, masked and nullable arrays, frames and columns of lists are read; none of
their libraries is imported. A value that is missing (None, NaN, NA, NaT, masked) stays missing: it
is never read as a number, nor as the text ``nan``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError

_NUMBERS: Final = (int, float, Decimal, Fraction)
# What numpy makes an array of by itself, without looking inside.
_SIMPLE: Final = (int, float, complex, str, bytes, np.generic, type(None))
# Characters of a value, or of what another library says, in a message.
_MOST: Final = 160


def as_array(values: Any, name: str, where: str) -> NDArray[Any]:
    """Return anything array-like as an array of any shape, of numbers or booleans if it has them.

    Raises:
        PredictionsError: what is no array, or has a value missing.
    """
    try:
        array = np.asarray(_native(values))
        if array.ndim == 0 and not hasattr(values, "shape") and _is_column(values):
            array = np.asarray(_native(list(values)))
        if array.dtype.kind == "V" and "float" in array.dtype.name:
            # bfloat16 and its like, which are no types of numpy's own.
            array = array.astype(np.float64)
        if array.dtype == np.object_ and array.ndim:
            return _of_objects(array, name, where)
    except PredictionsError:
        raise
    except Exception as problem:  # each library raises its own
        text = str(problem).partition("\n")[0][:_MOST]
        raise PredictionsError(
            f"{where}: {name} cannot be read as an array ({text}); "
            "pass a numpy array, a tensor or a list whose rows have one length."
        ) from None
    return array


def as_list(values: Any, name: str, where: str) -> list[Any]:
    """Return a column as a list of Python's own values, None where one is missing.

    Raises:
        PredictionsError: what is no column.
    """
    if _is_column(values):
        try:
            cells = _cells(values)
            kinds = {*map(type, cells)}
            return cells if kinds <= {str, int, bool} else [_known(_python(cell)) for cell in cells]
        except (TypeError, ValueError, RuntimeError) as problem:
            found = str(problem).partition("\n")[0][:_MOST]
    else:
        found = type(values).__name__
    raise PredictionsError(f"{where}: {name} must have one entry per item, got {found}.")


def as_text(value: Any) -> str:
    """Return the text of an id or name: equal for equal values, whatever type they come in.

    ``3``, ``3.0``, ``"3"`` and a tensor of 3 are one, as are ``"a"`` and ``b"a"``: one run may read
    its ids from JSON, the other from a frame.

    Raises:
        TypeError: a value without a text of its own (it would differ between two runs).
    """
    if type(value) is str or type(value) is int:
        return str(value)
    value = _canonical(value)
    # The text of a member of a text enumeration is its value, not its name.
    return str.__str__(value) if isinstance(value, str) else str(value)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT or NA."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - as NaN and NaT do
    except TypeError:  # pandas' NA equals nothing, and differs from nothing
        return True


def shown(value: object) -> str:
    """Return a value as it may stand in a message."""
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _is_column(values: object) -> bool:
    """Whether a value has entries in an order, and is not one text."""
    many = isinstance(values, Iterable) or hasattr(values, "__array__")
    return many and not isinstance(values, str | bytes | Mapping | set | frozenset)


def _native(values: Any) -> Any:
    """Return what numpy can make an array of; masked values become None."""
    if isinstance(values, np.ma.MaskedArray):
        if not np.ma.is_masked(values):
            return values.data
        cells = values.data.astype(np.object_)
        cells[np.ma.getmaskarray(values)] = None
        return cells
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        tensor = values.detach().cpu().to_dense()
        # float64 holds every narrower type exactly, also those that numpy lacks.
        return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    if hasattr(values, "toarray"):
        return values.toarray()
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | range):
        values = values if isinstance(values, list | tuple) else list(values)
        kinds = {*map(type, values)}
        if not all(issubclass(kind, _SIMPLE) for kind in kinds):
            return [_native(value) for value in values]
    return values


def _of_objects(array: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """Return an array of objects as one of numbers or booleans, one axis longer if they are lists.

    What is neither stays as it is.
    """
    flat = [_python(value) for value in array.ravel().tolist()]
    for position, value in enumerate(flat):
        if is_missing(value):
            index = ", ".join(str(i) for i in np.unravel_index(position, array.shape))
            raise PredictionsError(
                f"{where}: {name}[{index}] is missing; leave its item out, or give a value."
            )
    if flat and all(isinstance(value, list) for value in flat):
        rows = as_array(flat, name, where)
        shape = array.shape[:1] if array.shape[1:] == (1,) else array.shape
        return rows.reshape(*shape, *rows.shape[1:])
    if all(isinstance(value, bool) for value in flat):
        return np.array(flat, dtype=np.bool_).reshape(array.shape)
    if not all(isinstance(value, _NUMBERS) for value in flat):
        return array
    whole = all(isinstance(value, int) for value in flat)
    return np.array(flat, dtype=None if whole else np.float64).reshape(array.shape)


def _cells(values: Any) -> list[Any]:
    """Return the entries of a column; the rows of a table of several columns are lists."""
    if len(getattr(values, "shape", ())) == 2:
        table = np.asarray(_native(values))
        values = table[:, 0] if table.shape[1] == 1 else table
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        return list(values)  # as numbers, days and nanoseconds would look alike
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, method):
            cells: list[Any] = getattr(values, method)()
            return cells
    return list(values)


def _python(value: Any) -> Any:
    """Return a scalar of any library as Python's own, and an array as a list."""
    if isinstance(value, str | int | float | np.datetime64 | np.timedelta64):
        # Also numpy's text and float64, which are subclasses.
        return value.item() if isinstance(value, np.generic) and value.dtype.kind in "Uf" else value
    for method in ("as_py", "tolist", "to_list"):
        if hasattr(value, method) and not isinstance(value, type):
            return getattr(value, method)()
    return value


def _known(value: Any) -> Any:
    return None if is_missing(value) else value


def _canonical(value: Any) -> Any:
    value = _python(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return int(value) if value == int(value) else value
    if isinstance(value, list | tuple):
        return tuple(map(_canonical, value))
    kind: Any = type(value)
    bare = (kind.__str__, kind.__repr__) == (object.__str__, object.__repr__)
    if bare or isinstance(value, Mapping | set | frozenset):
        raise TypeError("text, a number, or a tuple of these")
    return value
