"""Predictions from files that users already hold; no model is run.

A reader is a module of this package with two functions::

    def claims(path: Path) -> bool:               # whether it holds what this reader reads
    def read(path: Path, *, ...) -> list[Predictions]

and a row in ``READERS``, which are asked in this order: its module, and the arguments of
:func:`read_predictions` that it takes. ``claims`` looks at the name and the first lines, imports
nothing heavy, and never raises for what a file holds. What no reader claims is read as a table,
whose errors say which columns are missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import PredictionsError, UsageError, suggestion
from pytest_calibration.predictions import Predictions
from pytest_calibration.text.visible import quoted, visible


@dataclass(frozen=True)
class Reader:
    """One way to read a file.

    Attributes:
        module: its module in this package.
        takes: the arguments that it has, of those of :func:`read_predictions`.
    """

    module: str
    takes: frozenset[str] = frozenset()

    def claims(self, path: Path) -> bool:
        """Whether a file or folder holds what this reader reads."""
        return bool(self._function("claims")(path))

    def read(self, path: Path, **arguments: Any) -> list[Predictions]:
        """Return what a file holds."""
        found: list[Predictions] = self._function("read")(path, **arguments)
        return found

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(f"{__name__}.{self.module}"), name)
        return function


TABLE: Final = "table"
READERS: Final[Mapping[str, Reader]] = {
    "dump": Reader("dumps"),
    "run of lm-eval": Reader("lm_eval", frozenset({"task", "filter", "metric", "run"})),
    TABLE: Reader("tables", frozenset({"probe", "columns", "classes"})),
}


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the reader of a file or folder, a key of ``READERS``; None without one."""
    place = Path(path)
    return next((name for name, reader in READERS.items() if reader.claims(place)), None)


def read_all(
    path: str | os.PathLike[str],
    *,
    probe: str | None = None,
    model: str | None = None,
    task: str | None = None,
    filter: str | None = None,  # noqa: A002  as lm-eval calls it
    metric: str | None = None,
    run: str | None = None,
    columns: Mapping[str, Any] | None = None,
    classes: Sequence[object] | None = None,
) -> list[Predictions]:
    """Read everything that a file holds: one set of predictions for each task in it.

    The arguments are those of :func:`read_predictions`.

    Raises:
        PredictionsError: as :func:`read_predictions`.
        UsageError: an argument that does not go with this kind of file.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"the path of predictions must be text or a Path, got {quoted(path)}.")
    place = Path(path)
    # What is no table by its names may be one by those in `columns`, and has errors that say so.
    kind = next((n for n, one in READERS.items() if n != TABLE and one.claims(place)), TABLE)
    if kind == TABLE and os.path.isdir(place):
        raise PredictionsError(
            f"{place}: cannot be read (it is a folder without samples_*.jsonl of lm-eval, in it or "
            "one folder below); name a run of lm-eval, or a file."
        )
    own = {
        **{"probe": probe, "columns": columns, "classes": classes},
        **{"task": task, "filter": filter, "metric": metric, "run": run},
    }
    given = {name: value for name, value in own.items() if value is not None}
    takes = READERS[kind].takes
    for name in given:
        if name not in takes | {"probe"}:
            raise UsageError(f"{place}: {name} does not go with a {kind}; leave it out.")
    found = READERS[kind].read(place, **{k: v for k, v in given.items() if k in takes})
    if probe is not None and len(found) > 1:
        raise PredictionsError(
            f"{place}: holds {len(found)} tasks ({_names(found)}), which cannot share the name "
            f"{quoted(probe)}; choose one of them with task."
        )
    return [_named(one, place, probe, model) for one in found]


def read_predictions(
    path: str | os.PathLike[str],
    *,
    probe: str | None = None,
    model: str | None = None,
    task: str | None = None,
    filter: str | None = None,  # noqa: A002  as lm-eval calls it
    metric: str | None = None,
    run: str | None = None,
    columns: Mapping[str, Any] | None = None,
    classes: Sequence[object] | None = None,
) -> Predictions:
    """Read predictions from a file; no model is run.

    Takes CSV (comma, semicolon or tab), Parquet, JSON lines and JSON records, samples of lm-eval,
    and what ``--calibration-dump`` wrote.

    Args:
        path: the file; of lm-eval also its folder.
        probe: name under which a baseline is stored; by default that of the task or dump, else the
            name of the file without its ending.
        model: name of the model, for reports; by default what the file says, else its own name.
        task: which task of lm-eval, where there are several; a group, or a pattern (``mmlu_*``),
            is read as one set of predictions whose slices are the tasks.
        filter: which filter of lm-eval, where there are several.
        metric: ``acc`` (the default), ``acc_norm``, ``acc_bytes`` or ``acc_mutual_info``: which
            option lm-eval takes as the answer.
        run: which run of lm-eval, where a folder holds several: the begin of its date, its folder,
            or ``newest``.
        columns: what a table calls its columns, where their names are not the default:
            ``{"confidence": "score", "id": "question_id"}``; see :meth:`Predictions.from_frame`.
        classes: (k,) the classes in the order of the probabilities, where the names of the columns
            do not tell; labels are then classes.

    Raises:
        PredictionsError: no such file, or what it holds are no predictions: says row, column, the
            value, and what to do; or it holds several tasks and none is chosen.
        UsageError: an argument that does not go with this kind of file.
    """
    found = read_all(
        path,
        probe=probe,
        model=model,
        task=task,
        filter=filter,
        metric=metric,
        run=run,
        columns=columns,
        classes=classes,
    )
    if len(found) != 1:
        near = "" if task is None else suggestion(task, [one.probe for one in found])
        raise PredictionsError(
            f"{Path(path)}: holds {len(found)} tasks ({_names(found)}){near}; choose one of them "
            "with task, or take all with pytest_calibration.readers.read_all."
        )
    return found[0]


def _names(found: Sequence[Predictions]) -> str:
    return ", ".join(quoted(one.probe) for one in found)


def _named(one: Predictions, path: Path, probe: str | None, model: str | None) -> Predictions:
    """Return predictions under the names asked for."""
    named = one if probe is None else replace(one, probe=probe)
    if model is None:
        # For want of a name, reports tell two models apart by their files.
        model = named.signature.soft.get("model") or _shown_path(path)
    elif not isinstance(model, str) or not model:
        raise UsageError(f"{path}: model must be the model's name, got {quoted(model)}.")
    return named.with_signature(model=model)


def _shown_path(path: Path) -> str:
    """Return a path as every machine may know it: from the working folder, else its name alone."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return visible(whole.relative_to(here).as_posix() if whole.is_relative_to(here) else whole.name)
