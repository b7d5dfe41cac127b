"""The columns of a table as predictions: one set of rules for files and frames of any library.

A column has a *role*. It bears the name of its role, or is named by the caller::

    confidence, correct              how sure an answer was, and whether it was right
    confidence, prediction, label    the same where the answer and the right one are given
    prob_<class> ..., label          a probability for each class, and the right class
    probabilities, label             the same in one column of lists
    logit_<class> ..., logits        in place of probabilities
    id, group, slice, text           of each item, where there are such columns

Every error names the row, the column, the value found there, and what to do.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np

from pytest_calibration.errors import PredictionsError, UsageError, suggestion
from pytest_calibration.predictions.arrays import (
    IGNORED,
    RANGE_SLACK,
    SUM_SLACK,
    BoolArray,
    FloatArray,
    IntArray,
)
from pytest_calibration.predictions.conversion import as_text, shown
from pytest_calibration.predictions.ids import digest

# How the names of columns of classes often begin.
_OF_CLASS: Final = re.compile(
    r"(p|pr|proba?|probabilit\w+?|scores?|softmax|logits?)[-_.: ]", re.IGNORECASE
)
# Role of a table of probabilities or logits to how the names of its columns begin.
TABLES: Final = {"probabilities": "prob_", "logits": "logit_"}
ONE_COLUMN: Final = (
    *("confidence", "correct", "prediction", "label"),
    *("id", "group", "slice", "text"),
)
ROLES: Final = (*TABLES, *ONE_COLUMN)
# Names of columns that an error lists.
MOST_LISTED: Final = 12
_OUTCOMES: Final[Mapping[Any, bool]] = {
    **dict.fromkeys((0, "0", "0.0", "false"), False),
    **dict.fromkeys((1, "1", "1.0", "true"), True),
}
_WHOLE: Final = re.compile(r"[+-]?\d+\.0+")
_TRUTH: Final = {"true": "1", "false": "0"}
# What R, pandas and Excel write for a missing value, and what may also be a name.
_MAYBE_MISSING: Final = frozenset({"NA", "N/A", "#N/A", "<NA>", "nan", "NaN", "NaT"})
# Rows of the less probable of two answers from which on their confidences show a rule.
_ENOUGH: Final = 5
# How numpy writes a number in a list of Python's.
_NUMPY_NUMBER: Final = re.compile(r"\bnp\.float\d+\(([^()]*)\)")

Chosen: TypeAlias = Mapping[str, Any]
"""Role to the name of its column; of ``probabilities`` and ``logits`` also a list of names, in the
order of the classes, or how they begin (``p_*``)."""


@dataclass(frozen=True)
class Table:
    """A table as a file or frame holds it.

    Attributes:
        where: what an error calls it: a file, or predictions of a probe.
        names: of all columns.
        cells: (n,) values of each column that is looked at, None where one is missing.
        place: what an error calls a row.
        decimal_comma: whether numbers may be written with a comma.
    """

    where: str
    names: Sequence[str]
    cells: Mapping[str, Sequence[Any]]
    place: Callable[[int], str]
    decimal_comma: bool = False

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(next(iter(self.cells.values()), ()))

    def fail(self, row: int, column: str, problem: str) -> NoReturn:
        """Raise PredictionsError about a cell."""
        raise PredictionsError(
            f"{self.where}, {self.place(row)}, column {shown(column)}: {problem}."
        )

    def value(self, row: int, column: str) -> str:
        """Return a cell as an error shows it."""
        return shown(self.cells[column][row])


def checked(columns: Any) -> dict[str, Any]:
    """Return what the caller calls the columns, checked.

    Raises:
        UsageError: an unknown role, or a value that is no name.
    """
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise UsageError(
            f"columns maps a role to the name of its column, "
            f'such as {{"confidence": "score"}}; got {shown(columns)}.'
        )
    for role, value in columns.items():
        if role not in ROLES:
            near = suggestion(str(role), ROLES)
            raise UsageError(
                f"columns: unknown role {shown(role)}{near}; known: {', '.join(ROLES)}."
            )
        many = role in TABLES and isinstance(value, list | tuple) and len(value) > 0
        for name in value if many else [value]:
            if not isinstance(name, str | int) or name == "":
                raise UsageError(
                    f"columns: {role} must be the name of a column, got {shown(value)}."
                )
    return {
        role: [*map(str, value)] if isinstance(value, list | tuple) else str(value)
        for role, value in columns.items()
    }


def is_wanted(columns: Any) -> Callable[[str], bool]:
    """Return which columns are looked at, by their names.

    Raises:
        UsageError: as :func:`checked`.
    """
    chosen = checked(columns)
    names: set[str] = set()
    starts: list[str] = []
    for role in ROLES:
        given = chosen.get(role, role)
        if isinstance(given, list):
            names |= {*given}
        elif role in TABLES and given.endswith("*"):
            starts.append(given[:-1])
        else:
            names.add(given)
        if role in TABLES and role not in chosen:
            starts.append(TABLES[role])
    start = tuple(starts)
    return lambda name: name in names or name.startswith(start)


def kept(where: str, names: Sequence[str], wanted: Callable[[str], bool]) -> list[str]:
    """Return the names of the columns that are looked at; no two columns may have one of them.

    Raises:
        PredictionsError: two have.
    """
    counts = Counter(names)
    for name in filter(wanted, counts):
        if counts[name] > 1:
            first, second = [i for i, one in enumerate(names, start=1) if one == name][:2]
            raise PredictionsError(
                f"{where}: columns {first} and {second} are both called {shown(name)}; "
                "give each its own name."
            )
    return [*filter(wanted, counts)]


def are_predictions(names: Sequence[str]) -> bool:
    """Whether columns of these names, their own, are predictions."""
    have = {*names}
    if {"confidence", "correct"} <= have or {"confidence", "prediction", "label"} <= have:
        return True
    table = have & {*TABLES} or [n for n in have if n.startswith(tuple(TABLES.values()))]
    return "label" in have and bool(table)


def read_columns(
    table: Table, columns: Any, classes: Any
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return the builder of predictions that fits a table, its arguments, and what they leave out.

    Args:
        table: the table.
        columns: what the caller calls the columns; None where each bears the name of its role.
        classes: (k,) the classes in the order of the probabilities; None where the names of the
            columns tell, or labels are numbers from 0.

    Returns:
        ``from_probabilities``, ``from_logits`` or ``from_confidence``, its arguments, and hard
        fields of the signature.

    Raises:
        PredictionsError: columns that are missing, or the first cell that is wrong.
        UsageError: as :func:`checked`.
    """
    return _Reading(table, checked(columns), None if classes is None else [*classes]).arguments()


class _Reading:
    """One table, read by the roles of its columns."""

    def __init__(self, table: Table, chosen: dict[str, Any], classes: list[Any] | None) -> None:
        self.table = table
        self.chosen = chosen
        self.classes = classes
        self._check_names()

    def arguments(self) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Return a builder, its arguments, and hard fields of the signature."""
        optional: dict[str, Any] = {
            "item_ids": self._ids(),
            "groups": self._groups(),
            "slices": self._texts("slice"),
            "texts": self._texts("text"),
        }
        role = self._table_role()
        if role is None:
            confidence, correct = self._answers()
            given = {"confidence": confidence, "correct": correct, **optional}
            return "from_confidence", given, self._labels_in_order(optional["item_ids"])
        values, labels, names = self._classified(role)
        # As names: numbers may be classes or positions where the classes are called 1, 2, 3.
        named = labels if names is None else [names[i] for i in labels.tolist()]
        optional |= {"labels": named, "class_names": names}
        self._check_agreement(role, values, labels, names)
        builder = "from_logits" if role == "logits" else "from_probabilities"
        return builder, {role: values, **optional}, {}

    def _labels_in_order(self, ids: list[str | None] | None) -> dict[str, str]:
        """Return a digest of the labels where items pair by position: as of a table of classes."""
        label = self._column("label")
        if label is None or ids is not None:
            return {}
        return {"labels": digest(*_keys(self.table.cells[label]), size=6)}

    # --- which columns there are ---------------------------------------------------------------

    def _check_names(self) -> None:
        """Refuse names given by the caller that no column has."""
        table, counts = self.table, Counter(self.table.names)
        for role, given in self.chosen.items():
            for name in given if isinstance(given, list) else [given]:
                pattern = role in TABLES and name.endswith("*")
                there = self._starting(name[:-1]) if pattern else name in counts
                if not there:
                    near = suggestion(name, counts)
                    raise PredictionsError(
                        f"{table.where}: no column {'like' if pattern else 'is called'} "
                        f"{shown(name)}, which columns names for {role}{near}; "
                        f"there are: {self._listed()}."
                    )

    def _starting(self, start: str) -> list[str]:
        return [name for name in self.table.names if name.startswith(start)]

    def _listed(self) -> str:
        names = [shown(name) for name in self.table.names[:MOST_LISTED]]
        more = len(self.table.names) - len(names)
        return ", ".join(names) + (f" and {more} more" if more > 0 else "")

    def _column(self, role: str) -> str | None:
        """Return the name of the column of a role; None where there is none."""
        name: str = self.chosen.get(role, role)
        return name if name in self.table.cells else None

    def _table_role(self) -> str | None:
        """Return the role of the table of probabilities that counts; None without one."""
        for role in TABLES:
            if role in self.chosen:
                return role
        if "confidence" in self.chosen or "correct" in self.chosen:
            return None
        return next((role for role in TABLES if self._columns_of(role)[0]), None)

    def _columns_of(self, role: str) -> tuple[list[str], str | None]:
        """Return the columns of a table, and how their names begin; None where that is not known.

        Without such columns the first is empty.
        """
        given = self.chosen.get(role)
        if isinstance(given, list):
            return given, None
        start = given[:-1] if given and given.endswith("*") else TABLES[role]
        if (given is None or given.endswith("*")) and (found := self._starting(start)):
            return found, start
        one = self._column(role)
        return ([] if one is None else [one]), None

    def _needed(self, role: str, beside: str) -> str:
        name = self._column(role)
        if name is not None:
            return name
        wanted = self.chosen.get(role, role)
        near = suggestion(wanted, self.table.names)
        raise PredictionsError(
            f"{self.table.where}: has {beside}, and no column {shown(wanted)}{near}; if it has "
            f'another name, say so: columns={{"{role}": "..."}} (--column {role}=...). '
            f"There are: {self._listed()}."
        )

    # --- cells ---------------------------------------------------------------------------------

    def _present(self, name: str) -> Sequence[Any]:
        """Return the cells of a column that must all be there."""
        cells = self.table.cells[name]
        for row, cell in enumerate(cells) if None in cells else ():
            if cell is None:
                self.table.fail(row, name, "is missing; leave its row out, or give a value")
        return cells

    def _numbers(self, name: str) -> FloatArray:
        """Return a column of finite numbers; of logits also minus infinity."""
        cells = self._present(name)
        try:
            return np.array([*map(float, cells)], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return np.array(
                [self._number(row, name, cell) for row, cell in enumerate(cells)], dtype=np.float64
            )

    def _number(self, row: int, name: str, cell: Any) -> float:
        comma = isinstance(cell, str) and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", cell)
        if comma and self.table.decimal_comma:
            cell = cell.replace(",", ".")
        try:
            return float(cell)
        except (TypeError, ValueError, OverflowError):
            advice = "; write the decimal point as a point" if comma else ""
            if isinstance(cell, str) and cell.rstrip().endswith("%"):
                advice = "; write 87 % as 0.87"
            self.table.fail(row, name, f"{self.table.value(row, name)} is no number{advice}")

    def _shares(self, name: str, values: FloatArray) -> None:
        """Check confidences: numbers in [0, 1]."""
        self._check(name, ~np.isfinite(values), "is no probability; leave its row out, or mend it")
        outside = (values < -RANGE_SLACK) | (values > 1 + RANGE_SLACK)
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        advice = "divide percentages by 100"
        if low < 0:
            advice = "give the probability of the answer, not its logarithm or logit"
        elif high > 100:
            advice = "give the probability of the answer"
        self._check(name, outside, f"lies outside [0, 1]; {advice}")

    def _check(self, name: str, bad: BoolArray, problem: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            self.table.fail(row, name, f"{self.table.value(row, name)} {problem}")

    def _outcomes(self, name: str) -> BoolArray:
        """Return a column that says whether each answer is right."""
        found: list[bool] = []
        for row, cell in enumerate(self._present(name)):
            key = cell.strip().lower() if isinstance(cell, str) else cell
            try:
                found.append(_OUTCOMES[key])
            except (KeyError, TypeError):
                self.table.fail(
                    row,
                    name,
                    f"{shown(cell)} does not say whether the answer is right; "
                    "write true or false, or 1 or 0",
                )
        return np.array(found, dtype=np.bool_)

    def _texts(self, role: str) -> list[str | None] | None:
        """Return an optional column of texts; None where there is none."""
        name = self._column(role)
        if name is None:
            return None
        found: list[str | None] = []
        for row, cell in enumerate(self.table.cells[name]):
            try:
                found.append(None if cell is None else as_text(cell))
            except TypeError as problem:
                self.table.fail(row, name, f"is of type {type(cell).__name__}; give {problem}")
        return found

    def _groups(self) -> list[str | None] | None:
        """Return the groups, where there are any."""
        self._check_named("group", "leave its cell empty")
        return self._texts("group")

    def _check_named(self, role: str, advice: str) -> None:
        """Refuse texts that may be names or stand for missing ones."""
        name = self._column(role)
        for row, cell in enumerate(() if name is None else self.table.cells[name]):
            if isinstance(cell, str) and cell.strip() in _MAYBE_MISSING:
                problem = f"{shown(cell)} may stand for a missing value"
                self.table.fail(row, name or role, f"{problem}; {advice}, or use another name")

    def _ids(self) -> list[str | None] | None:
        """Return the ids, which are all there and all different."""
        ids, name = self._texts("id"), self._column("id")
        if ids is None or name is None:
            return None
        self._present(name)
        first: dict[str | None, int] = {}
        for row, one in enumerate(ids):
            if first.setdefault(one, row) != row:
                self.table.fail(
                    row,
                    name,
                    f"{shown(one)} is the id of {self.table.place(first[one])}, too; give each "
                    "item an id of its own, or leave the column out: items then pair by position",
                )
        return ids

    # --- confidence and correct ------------------------------------------------------------------

    def _answers(self) -> tuple[FloatArray, BoolArray]:
        """Return confidence and correctness."""
        if self._column("confidence") is None and self._column("correct") is None:
            self._refuse()
        confidence = self._needed("confidence", "a column that says which answers are right")
        values = self._numbers(confidence)
        self._shares(confidence, values)
        answer, label = self._column("prediction"), self._column("label")
        if answer is not None:
            self._check_whose(confidence, values, answer)
        if self._column("correct") is None and answer is not None and label is not None:
            return values, self._equal(answer, label)
        beside = f"confidences (column {shown(confidence)})"
        return values, self._outcomes(self._needed("correct", beside))

    def _check_whose(self, name: str, values: FloatArray, answer: str) -> None:
        """Refuse confidences that are the probability of one of two classes, whatever the answer.

        They are at most 0.5 wherever the answer is the other class, and nowhere else.
        """
        keys = _keys(self.table.cells[answer])
        both = sorted({*keys})
        if len(both) != 2:
            return
        # Compared by Python: numpy cuts off characters of value 0 at the end of a text.
        low = np.array([key == both[0] for key in keys])
        if values[low].mean() > values[~low].mean():
            both, low = both[::-1], ~low
        if low.sum() >= _ENOUGH and values[low].max() <= 0.5 <= values[~low].min():
            row, (other, this) = int(np.flatnonzero(low)[0]), both
            self.table.fail(
                row,
                name,
                f"{self.table.value(row, name)} is no confidence in the answer {shown(other)}: the "
                f"column is at most 0.5 for all answers {shown(other)} and at least 0.5 for all "
                f"{shown(this)}, as the probability of {shown(this)} is; give the columns "
                f"prob_{other} = 1 - p and prob_{this} = p in its place",
            )

    def _equal(self, answer: str, label: str) -> BoolArray:
        """Return whether the answer of each row is its label."""
        for role in ("prediction", "label"):
            self._check_named(role, "leave its row out")
        answers, labels = _keys(self._present(answer)), _keys(self._present(label))
        if answers and not {*answers} & {*labels}:
            self.table.fail(
                0,
                answer,
                f"{self.table.value(0, answer)} is never a value of column {shown(label)} (such as "
                f"{self.table.value(0, label)}), nor is any other answer; write both columns alike,"
                " or say in a column 'correct' which answers are right",
            )
        return np.array([a == b for a, b in zip(answers, labels, strict=True)], np.bool_)

    def _refuse(self) -> NoReturn:
        role, name = self._alike() or ("confidence", "score")
        argument = f"{role}={name}"
        raise PredictionsError(
            f"{self.table.where}: holds no predictions: needs the columns confidence and correct, "
            "or confidence, prediction and label, or prob_<class> for each class and label; name "
            f'yours with columns={{"{role}": "{name}", ...}} '
            f"(--column {shlex.quote(argument)}). There are: {self._listed()}."
        )

    def _alike(self) -> tuple[str, str] | None:
        """Return role and pattern of columns that begin alike, as those of classes do."""
        begins = [found[0] for name in self.table.names if (found := _OF_CLASS.match(name))]
        begin, times = Counter(begins).most_common(1)[0] if begins else ("", 0)
        if times < 2:
            return None
        return ("logits" if "logit" in begin.lower() else "probabilities"), f"{begin}*"

    def _check_agreement(
        self, role: str, values: FloatArray, labels: IntArray, names: list[str] | None
    ) -> None:
        """Refuse a table whose other columns say something else than its classes do."""
        if role in self.chosen:
            return
        if role == "logits":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        n, k = values.shape
        largest, best = values.max(axis=1), values.argmax(axis=1)
        classes = [*map(str, range(k))] if names is None else names
        claims: list[tuple[str, BoolArray, Sequence[Any]]] = []
        if (answer := self._column("prediction")) is not None:
            place = {key: i for i, key in enumerate(_keys(classes, k))}
            given = np.array([place.get(key, -1) for key in _keys(self.table.cells[answer], k)])
            # Of classes that are equal but for rounding, each may have been the answer.
            other = (given >= 0) & (values[np.arange(n), given] < largest - SUM_SLACK)
            claims.append((answer, other, [classes[i] for i in best]))
        confidence, correct = self._column("confidence"), self._column("correct")
        if confidence is not None and correct is not None:
            # As many digits as a table is rounded to.
            other = np.abs(largest - self._numbers(confidence)) > SUM_SLACK
            claims.append((confidence, other, largest.tolist()))
            right = best == labels
            claims.append((correct, right != self._outcomes(correct), right.tolist()))
        names, start = self._columns_of(role)
        how = names[0] if start is None else f"{start}*"
        for name, other, ours in claims:
            for row in map(int, np.flatnonzero(other)[:1]):
                self.table.fail(
                    row,
                    name,
                    f"{self.table.value(row, name)} is not what the {role} say "
                    f"({shown(ours[row])}); say which counts: a column of confidences in the "
                    f'answers given, columns={{"confidence": "confidence"}}, or columns='
                    f'{{"{role}": "{how}"}} (--column ...)',
                )

    # --- classes -------------------------------------------------------------------------------

    def _classified(self, role: str) -> tuple[FloatArray, IntArray, list[str] | None]:
        """Return (n, k) values, (n,) labels, and the names of the classes where they are known."""
        names, start = self._columns_of(role)
        if not names:
            self._refuse()
        label = self._needed("label", f"{role} (column {shown(names[0])})")
        classes: list[str] | None = None
        if len(names) > 1 or start is not None:
            values = np.column_stack([self._numbers(name) for name in names])
            classes = [name.removeprefix(start or "") for name in names]
        else:
            values, classes = self._lists(names[0])
            names = names * values.shape[1]
        self._check_table(role, values, names)
        # Columns that are listed are in the order of the classes: labels may be numbers.
        listed = isinstance(self.chosen.get(role), list)
        if self.classes is not None:
            if len(self.classes) != values.shape[1]:
                raise PredictionsError(
                    f"{self.table.where}: classes names {len(self.classes)} classes, and there are "
                    f"{values.shape[1]} {role}; give one name for each."
                )
            classes, listed = [_key(one) for one in self.classes], False
        return values, self._labels(label, classes, values.shape[1], listed), classes

    def _lists(self, name: str) -> tuple[FloatArray, list[str] | None]:
        """Return (n, k) of a column of lists, and the classes of one of objects."""
        rows = [self._list(row, name, cell) for row, cell in enumerate(self._present(name))]
        first = rows[0]
        for place, given in enumerate(rows):
            if given.keys() != first.keys():
                first_row = self.table.place(0)
                found = f"has {len(given)} entries, and {first_row} has {len(first)}"
                if len(given) == len(first):
                    found = f"has other classes than {first_row}"
                advice = "give each row the same ones, with 0 for an option that it lacks"
                self.table.fail(place, name, f"{found}; {advice}")
        named = any(isinstance(key, str) for key in first)
        # Each row, and each file, may name the classes in an order of its own.
        keys = sorted(first, key=str) if named else [*first]
        values = np.array([[row[key] for key in keys] for row in rows], dtype=np.float64)
        return values, [*map(str, keys)] if named else None

    def _list(self, row: int, name: str, cell: Any) -> dict[Any, float]:
        """Return the numbers in a cell, by position or class."""
        found = _by_label(_parsed(cell))
        pairs = dict(enumerate(found)) if isinstance(found, list) else found
        if isinstance(found, dict):
            # Classes may be numbers, in any order; positions they are not.
            pairs = {_key(key): value for key, value in found.items()}
        if not isinstance(pairs, dict) or not pairs or len(pairs) != len(found):
            self.table.fail(row, name, f"{shown(cell)} is no list of numbers, such as [0.2, 0.8]")
        try:
            return {key: float(value) for key, value in pairs.items()}
        except (TypeError, ValueError, OverflowError):
            self.table.fail(
                row, name, f"{shown(cell)} holds what is no number; give one number for each class"
            )

    def _check_table(self, role: str, values: FloatArray, names: list[str]) -> None:
        """Check (n, k) probabilities or logits."""
        if values.shape[1] == 1:
            raise PredictionsError(
                f"{self.table.where}: there is one column of {role} ({shown(names[0])}), and a "
                "classifier has two classes at least: add the column of the other class"
                + (", 1 minus this one." if role == "probabilities" else ", of zeros.")
            )
        logits = role == "logits"
        bad = ~np.isfinite(values) & ~(np.isneginf(values) if logits else np.False_)
        self._check_cells(values, names, bad, "is no finite number; leave its row out, or mend it")
        if logits:
            for row in np.flatnonzero(np.isneginf(values).all(axis=1))[:1]:
                problem = "is -inf, as in every other column; an item needs one option"
                self.table.fail(int(row), names[0], problem)
            return
        sums = values.sum(axis=1)
        outside = (values < -RANGE_SLACK) | (values > 1 + RANGE_SLACK)
        several = len({*names}) > 1
        how = "prob_*" if several else names[0]
        as_logits = f'columns={{"logits": "{how}"}} (--column "logits={how}")'
        advice = f"if these are logits, say so: {as_logits}"
        if values.min() >= 0 and np.allclose(sums, 100, rtol=0, atol=100 * SUM_SLACK):
            advice = "divide percentages by 100"
        elif values.max() <= 0 and np.allclose(np.exp(values).sum(axis=1), 1, atol=SUM_SLACK):
            advice = f"log-probabilities are logits: {as_logits}"
        self._check_cells(values, names, outside, f"lies outside [0, 1]; {advice}")
        off = np.abs(sums - 1) > SUM_SLACK
        if off.any():
            place = int(np.flatnonzero(off)[0])
            self.table.fail(
                place,
                names[0],
                f"the probabilities of the row sum to {sums[place]:.6g}, not 1; divide each row by "
                f"its sum if these are scores of one choice, or, if they are logits, say so: "
                f"{as_logits}"
                + ("; list the columns of the classes if others begin alike" if several else ""),
            )

    def _check_cells(
        self, values: FloatArray, names: list[str], bad: BoolArray, problem: str
    ) -> None:
        for row, column in np.argwhere(bad)[:1]:
            self.table.fail(int(row), names[column], f"{values[row, column]:.6g} {problem}")

    def _labels(self, name: str, classes: list[str] | None, k: int, listed: bool) -> IntArray:
        """Return (n,) the column of the right class."""
        keys = _keys(self._present(name), k)
        if classes is not None:
            called = _keys(classes, k)
            known = {key: i for i, key in enumerate(called)}
            if len(known) < len(classes):
                twice = next(one for one, many in Counter(called).items() if many > 1)
                raise PredictionsError(
                    f"{self.table.where}: two classes are called {shown(twice)}; "
                    "give each its own name."
                )
            if not listed or any(key in known for key in keys):
                return self._by_name(name, keys, known)
        return self._by_number(name, keys, k)

    def _by_name(self, name: str, keys: list[str], known: Mapping[str, int]) -> IntArray:
        places = [known.get(key, -1) for key in keys]
        if -1 in places:
            row = places.index(-1)
            some = ", ".join(map(shown, [*known][:MOST_LISTED]))
            advice = suggestion(keys[row], known)
            if keys[row].isdecimal() and not any(one.isdecimal() for one in known):
                advice = (
                    "; where labels number the classes, list these columns in their order: "
                    'columns={"probabilities": ["prob_a", "prob_b"]} '
                    "(--column probabilities=prob_a,prob_b)"
                )
            self.table.fail(
                row, name, f"{self.table.value(row, name)} is none of the classes {some}{advice}"
            )
        return np.array(places, dtype=np.int64)

    def _by_number(self, name: str, keys: list[str], k: int) -> IntArray:
        numbers = {str(i): i for i in range(k)}
        found = [numbers.get(key, -1) for key in keys]
        if -1 in found:
            row = found.index(-1)
            value = self.table.value(row, name)
            if keys[row] == str(IGNORED):
                problem = f"{value} marks what does not count; leave its row out"
            elif keys[row].lstrip("+-").isdecimal():
                problem = f"{value} is none of the classes 0 to {k - 1}; count from 0"
            else:
                problem = (
                    f"{value} is no number of a class; say which classes there are, in the order "
                    "of the probabilities: classes=[...] (--classes a,b)"
                )
            self.table.fail(row, name, problem)
        return np.array(found, dtype=np.int64)


def _key(cell: Any) -> str:
    """Return the text by which a label and a class are the same: ``1``, ``1.0`` and ``"1"`` are."""
    if isinstance(cell, str):
        text = cell.strip()
        return text.partition(".")[0] if _WHOLE.fullmatch(text) else text
    try:
        return as_text(cell)
    except TypeError:
        return shown(cell)


def _keys(cells: Sequence[Any], k: int = 2) -> list[str]:
    """Return the key of each cell; of two classes or answers, false and true are 0 and 1."""
    keys = [*map(_key, cells)]
    return [_TRUTH.get(key.lower(), key) for key in keys] if k == 2 else keys


def _by_label(found: Any) -> Any:
    """Return the scores by label that a pipeline of transformers gives, else what was given."""
    scores = isinstance(found, list) and all(
        isinstance(one, Mapping) and one.keys() == {"label", "score"} for one in found
    )
    named = {str(one["label"]): one["score"] for one in found} if scores else {}
    return named if scores and len(named) == len(found) else found


def _parsed(cell: Any) -> Any:
    """Return the list or object in a cell; also its text, as JSON, Python or numpy writes it."""
    if not isinstance(cell, str):
        return [*cell] if isinstance(cell, tuple) else cell
    text = _NUMPY_NUMBER.sub(r"\1", cell.strip())
    if text.startswith("{"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        return None
    if not (text.startswith("[") and text.endswith("]")):
        return None
    return text[1:-1].replace(",", " ").split()
