"""A classifier made of a function from texts to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.predictions.conversion import as_array, as_list, shown

# Where functions and estimators say what their columns are; the second as scikit-learn does.
_NAMED_BY: Final = ("class_names", "classes_")
# What the columns of a frame may begin with.
PROBABILITY: Final = "prob_"


class TextClassifier:
    """A classifier made of a function from texts to probabilities.

    The fixture ``calibration_model`` may give the function itself, or a scikit-learn estimator with
    ``predict_proba``, which are made into this.

    Args:
        function: is given a list of n texts, and returns the probability of each of k classes,
            (n, k): an array or tensor, a data frame, or lists. It is called once per probe.
        class_names: (k,) the classes in the order of the columns, by which the label of an item is
            found; by default ``class_names`` or ``classes_`` of the function, or of the object that
            it is a method of. Without any, a label is the number of a column.
        multi_label: whether a text may have any number of the classes, so that rows need not sum to
            1.
        name: what reports call it; by default the name of the function.
        fingerprint: identifies weights and settings; where it changes, the function is asked again.

    Raises:
        UsageError: the function cannot be called, or a class is named twice.
    """

    def __init__(
        self,
        function: Callable[[list[str]], Any],
        class_names: Sequence[object] | None = None,
        *,
        multi_label: bool = False,
        name: str | None = None,
        fingerprint: str = "",
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise UsageError(
                "TextClassifier takes a function from a list of texts to their class "
                f"probabilities, got {shown(function)}."
            )
        self.function = function
        self.name = name or _name_of(function)
        self.fingerprint = fingerprint
        self.multi_label = multi_label
        given = _class_names_of(function) if class_names is None else class_names
        where = f"classifier {self.name!r}"
        self.class_names = () if given is None else _names(given, where)
        twice = [one for one in self.class_names if self.class_names.count(one) > 1]
        if twice:
            raise UsageError(f"{where}: class_names has {twice[0]!r} twice.")

    def __repr__(self) -> str:
        return f"TextClassifier({self.name})"

    def __call__(self, texts: list[str]) -> Any:
        """Return what the function returns: a probe of one's own may want it as it is."""
        return self.function(texts)

    def class_probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of each class, (n, k).

        Raises:
            ModelError: the function returned something else.
        """
        n, where = len(texts), f"classifier {self.name!r}"
        returned = self.function(list(texts))
        self._check_all_classes(returned)
        table = as_array(returned, "what the function returned", where)
        columns = getattr(returned, "column_names", getattr(returned, "columns", None))
        if self.class_names and columns is not None:
            table = self._in_order(table, list(columns))
        k = len(self.class_names) or max(2, table.shape[-1] if table.ndim else 0)
        if table.shape == (n, k) and table.dtype.kind in "fiub":
            return np.asarray(table, dtype=np.float64)
        got = f"an array of shape {table.shape} of {table.dtype}"
        got = got if table.ndim else f"an object of type {type(returned).__name__}"
        one = table.shape in ((n,), (n, 1))
        columns = f"{k} classes" if self.class_names else "the classes"
        raise ModelError(
            f"{where} returned {got} for {n} texts; return the probabilities of {columns}, a row "
            f"of numbers per text{', for two classes the columns 1 - p and p' if one else ''}."
        )

    def _in_order(self, table: NDArray[Any], columns: list[Any]) -> NDArray[Any]:
        """Return the columns of a frame in the order of the classes; as they are without names."""
        named = [str(column).removeprefix(PROBABILITY) for column in columns]
        if sorted(named) == sorted(self.class_names):
            return table[:, [named.index(name) for name in self.class_names]]
        if all(isinstance(column, int | np.integer) for column in columns):
            return table
        raise ModelError(
            f"classifier {self.name!r} returned a frame with the columns {shown(columns)}, and its "
            f"classes are {shown(list(self.class_names))}; name the columns as the classes, or "
            "return an array whose columns are in their order."
        )

    def _check_all_classes(self, returned: Any) -> None:
        """Refuse what a pipeline of transformers returns: the most probable class, as a rule."""
        first = returned
        while isinstance(first, list | tuple) and first:
            first = first[0]
        if isinstance(first, Mapping) and {"label", "score"} <= set(first):
            raise ModelError(
                f"classifier {self.name!r} returned {shown(first)} for a text: labels with scores, "
                "as a pipeline of transformers gives them, and by default the most probable label "
                "alone; let calibration_model return the pipeline itself, which is asked for all "
                "classes, or return a row of numbers per text, one for each class."
            )


def _name_of(function: Any) -> str:
    inner = getattr(function, "func", function)  # of functools.partial
    owner = getattr(inner, "__self__", None)  # of a bound method
    name = getattr(inner, "__name__", "") if owner is None else type(owner).__name__
    return name if name and name != "<lambda>" else type(function).__name__


def _names(given: Any, where: str) -> tuple[str, ...]:
    many = not isinstance(given, str | bytes | Mapping | set | frozenset)
    names = as_list(given, "class_names", where) if many else [None]
    if not all(isinstance(name, str | int | float) for name in names):
        raise UsageError(
            f"{where}: class_names must be a list of the names of the classes, text or numbers, in "
            f"the order of the columns, got {shown(given)}."
        )
    return tuple(map(str, names))


def _class_names_of(function: Any) -> Any:
    for owner in (function, getattr(function, "func", None), getattr(function, "__self__", None)):
        for attribute in _NAMED_BY:
            names = getattr(owner, attribute, None)
            if names is not None:
                return names
    return None
