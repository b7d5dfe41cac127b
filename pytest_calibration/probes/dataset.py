"""A public data set as a source of items, read by the library ``datasets``.

By id from the hub or its cache, or from a local copy of its repository (a folder with a README
and files of data), which goes the same way through the library. No code of a data set is ever run.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import ItemError, UsageError, suggestion
from pytest_calibration.models.backends import require
from pytest_calibration.predictions import digest
from pytest_calibration.probes.expressions import Expression, compiled
from pytest_calibration.text.visible import MOST_QUOTED, quoted, visible

EXTRA: Final = "datasets"
# What reads a file of data, by its ending.
FORMATS: Final = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}
_RESOLVED: Final = re.compile(r"@([0-9a-f]{40})/")


@dataclass
class Dataset:
    """Rows of one split of a data set.

    Attributes:
        id: its id on the hub, ``owner/name``.
        config: which of its configurations; None for its only one.
        split: which split, ``test`` or a part such as ``test[:100]``.
        revision: commit, tag or branch on the hub; None for what is there now.
        path: a local copy, a folder or a file of data, that is read in place of the hub.
        files: file of data within the repository, where the library cannot find it: in
            repositories with a loading script, which is never run.
        columns: key of an item to the expression that makes it of a row; by default the columns
            that are named as the keys are.
        where: expression that is true for the rows that are read; None for all.
        licence: under which the data are published, for readers.
    """

    id: str = ""
    config: str | None = None
    split: str = ""
    revision: str | None = None
    path: Path | None = None
    files: str | None = None
    columns: Mapping[str, Expression] = field(default_factory=dict)
    where: str | None = None
    licence: str | None = None
    _digest: str = field(default="", init=False, repr=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> Dataset:
        """Make one of the settings that a user wrote.

        Args:
            settings: attributes by name.
            where: what has them, for messages.

        Raises:
            UsageError: an unknown key, a wrong type, or no id and path, or no split.
        """
        if not isinstance(settings, Mapping):
            raise UsageError(
                f"{where}: dataset must be a mapping such as {{id: cais/mmlu, split: test}}, got "
                f"{quoted(settings)}."
            )
        known = [f.name for f in fields(cls) if f.init]
        for key, value in settings.items():
            if key not in known:
                hint = suggestion(key, known)
                raise UsageError(
                    f"{where}: dataset: unknown key {quoted(key)}{hint}; known keys: "
                    f"{', '.join(known)}."
                )
            _check_value(f"{where}: dataset.{key}", key, value)
        given = {key: value for key, value in settings.items() if value is not None}
        if not (given.get("id") or given.get("path")):
            raise UsageError(f"{where}: dataset: name an id on the hub, or the path of a copy.")
        if not given.get("split"):
            raise UsageError(f"{where}: dataset: name a split, such as split: test.")
        if "path" in given:
            given["path"] = Path(given["path"])
        return cls(**given)

    def of_split(self, split: str) -> Dataset:
        """Return the same data set with another split."""
        return replace(self, split=split)

    def __str__(self) -> str:
        parts = [p for p in (self.config, self.split) if p]
        return f"{self.id or self.path} ({', '.join(parts)})"

    def rows(self, keys: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield where each row stands, and the row: values by key.

        Args:
            keys: the keys that a row of this kind of item may have.

        Raises:
            ItemError: the data cannot be read, or an expression fails on a row.
            MissingExtra: the library is not installed.
        """
        names = list(self._table.column_names)
        wanted = self.columns or {key: key for key in keys if key in names}
        values, used = {}, set()
        for key, expression in wanted.items():
            if key not in keys:
                raise ItemError(
                    f"{self}: columns: unknown key {quoted(key)}{suggestion(key, keys)}; known "
                    f"keys: {', '.join(keys)}."
                )
            values[key], found = self._compiled(f"columns.{key}", expression, names)
            used |= found
        keep, found = self._compiled("where", True if self.where is None else self.where, names)
        table = self._table.select_columns(sorted(used | found)) if used | found else self._table
        constant = {} if "names" in names else {"names": self._class_names}
        read = []
        for i, columns in enumerate(table):
            where, row = f"{self}, row {i}", {**constant, **columns}
            if _value(where, "where", keep, row):
                made = {k: _value(where, f"columns.{k}", v, row) for k, v in values.items()}
                read.append(json.dumps(made, sort_keys=True, default=str))
                yield where, made
        self._digest = digest(*read, size=4)

    def described(self) -> dict[str, str]:
        """Return what was read, for a signature: the data set, and its commit or a digest of rows.

        The digest is the same on every machine.
        """
        version = f"revision {self._commit}" if self._commit else f"rows {self._digest}"
        name = self.id or (self.path.name if self.path else "")
        parts = [name, self.config, self.split, version]
        return {"dataset": " ".join(part for part in parts if part)}

    def commit_on_hub(self, revision: str | None) -> str:
        """Ask the hub which commit a revision is; None for what is there now.

        Raises:
            ItemError: the hub cannot be asked, or has no such data set or revision.
            MissingExtra: the library is not installed.
        """
        require("datasets", EXTRA)
        with _quiet():
            from huggingface_hub import HfApi

            try:
                sha = HfApi().dataset_info(self.id, revision=revision).sha
            except Exception as problem:  # the library lets errors of many others through
                raise ItemError(
                    f"{self.id}: the hub cannot be asked for its commit ({_first_line(problem)}); "
                    "pin where there is a network and access to it."
                ) from None
        if not sha:
            raise ItemError(f"{self.id}: the hub names no commit.")
        return str(sha)

    @property
    def fetching(self) -> str:
        """The command that fetches it where there is a network."""
        arguments = [repr(self.id)]
        if self.files:
            url = f"hf://datasets/{self.id}@{self.revision or 'main'}/{self.files}"
            arguments = [repr(_format(self.files)), f"data_files={url!r}"]
        elif self.config:
            arguments.append(repr(self.config))
        if self.revision and not self.files:
            arguments.append(f"revision={self.revision!r}")
        call = f"import datasets; datasets.load_dataset({', '.join(arguments)})"
        return f'python -c "{call}"'

    def _compiled(self, key: str, expression: Any, names: Sequence[str]) -> Any:
        try:
            return compiled(expression, names)
        except ValueError as problem:
            raise ItemError(f"{self}: {key}: {problem}.") from None

    @cached_property
    def _table(self) -> Any:
        """The rows, as the library gives them."""
        require("datasets", EXTRA)
        with _quiet():
            try:
                return self._load()
            except Exception as problem:  # the library lets errors of many others through
                raise self._problem(problem) from None

    def _load(self) -> Any:
        import datasets

        place, revision = self.id, self.revision
        if self.path is not None:
            if not self.path.exists():
                raise FileNotFoundError(f"there is no {self.path}")
            place, revision = str(self.path), None
        file = self.files
        if self.path is not None and self.path.is_file():
            place, file = str(self.path.parent), self.path.name
        if file is None:
            return datasets.load_dataset(place, self.config, split=self.split, revision=revision)
        remote = f"hf://datasets/{place}@{revision or 'main'}"
        where = f"{remote if self.path is None else place}/{file}"
        more = {"sep": "\t"} if file.endswith(".tsv") else {}
        name = self.split.partition("[")[0]
        return datasets.load_dataset(
            _format(file), data_files={name: where}, split=self.split, **more
        )

    @cached_property
    def _commit(self) -> str:
        """The commit of the hub that was read; empty where it is not known."""
        if self.path is not None:
            return ""
        sums = self._table.info.download_checksums or {}
        found = {m[1] for url in sums if (m := _RESOLVED.search(str(url)))}
        return found.pop() if len(found) == 1 else self.revision or ""

    @cached_property
    def _class_names(self) -> dict[str, list[str]]:
        features = self._table.features
        return {k: list(f.names) for k, f in features.items() if hasattr(f, "names")}

    def _problem(self, problem: Exception) -> ItemError:
        """Return what a user reads of an error of the library."""
        what = _first_line(problem)
        if self.path is not None:
            return ItemError(f"{self}: cannot be read from {self.path} ({what}).")
        if not isinstance(problem, OSError):
            return ItemError(f"{self}: cannot be read ({what}).")
        return ItemError(
            f"{self}: is not here and cannot be fetched ({what}); where there is a network, "
            f"fetch it: {self.fetching}; or name a copy of its repository: "
            "dataset: {path: FOLDER}."
        )


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0].rstrip(".") or type(problem).__name__


def _check_value(where: str, key: str, value: Any) -> None:
    """Raise UsageError for a value of another type than its key has."""
    if key == "columns":
        fits = isinstance(value, Mapping) and all(map(_is_expression, value.values()))
        words = "a mapping of keys to expressions (text, or a list of texts)"
    else:
        fits = isinstance(value, str | Path if key == "path" else str)
        words = "text"
    if value is not None and not fits:
        raise UsageError(f"{where} must be {words}, got {quoted(value)}.")


def _is_expression(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, str) for part in value)
    return isinstance(value, str | int) and not isinstance(value, bool)


def _format(file: str) -> str:
    ending = Path(file).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{file} ends in none of {', '.join(FORMATS)}")
    return FORMATS[ending]


def _value(where: str, key: str, value: Any, row: Mapping[str, Any]) -> Any:
    try:
        return value(row)
    except Exception as problem:  # an expression may call any method of a value
        what = visible(str(problem), MOST_QUOTED) or type(problem).__name__
        raise ItemError(f"{where}: {key}: {what}.") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from writing: no progress bars, log lines or warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
        from huggingface_hub.utils import logging as hub_logging

        bars = datasets.utils.logging.is_progress_bar_enabled()
        levels = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        hub_logging.set_verbosity_error()
        try:
            yield
        finally:
            datasets.logging.set_verbosity(levels[0])
            hub_logging.set_verbosity(levels[1])
            if bars:
                datasets.enable_progress_bars()
