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
from logging import CRITICAL
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pytest_calibration.errors import ItemError, UsageError, suggestion
from pytest_calibration.extras import require
from pytest_calibration.items.expressions import Expression, compiled
from pytest_calibration.predictions import digest
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
_ID: Final = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT: Final = re.compile(r"/snapshots/([0-9a-f]{40})/")
# What `save_to_disk` writes for one split, and for several.
SAVED: Final = "state.json"
SAVED_SPLITS: Final = "dataset_dict.json"


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
    _share: str = field(default="", init=False, repr=False)

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
        if "id" in given and not _ID.fullmatch(given["id"]):
            raise UsageError(
                f"{where}: dataset.id must be as on the hub, such as cais/mmlu, got "
                f"{quoted(given['id'])}."
            )
        if not given.get("split"):
            raise UsageError(f"{where}: dataset: name a split, such as split: test.")
        if "path" in given:
            given["path"] = Path(given["path"])
        return cls(**given)

    def of_split(self, split: str) -> Dataset:
        """Return the same data set with another split.

        Raises:
            UsageError: it is one file, which has no other.
        """
        file = self.files or (self.path is not None and self.path.is_file() and self.path.name)
        if file:
            raise UsageError(f"{self}: {file} holds one split, and not {split!r} besides.")
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
        for i, columns in enumerate(self._decoded(table)):
            where, row = f"{self}, row {i}", {**constant, **columns}
            if _value(where, "where", keep, row):
                made = {k: _value(where, f"columns.{k}", v, row) for k, v in values.items()}
                read.append(json.dumps(made, sort_keys=True, default=str))
                yield where, made
        self._digest = digest(*read, size=4)
        self._share = f", {len(read):,} of {len(table):,} rows" if self.where else ""

    def _decoded(self, table: Any) -> Iterator[Mapping[str, Any]]:
        done = 0
        try:
            for columns in table:
                yield columns
                done += 1
        except Exception as problem:  # the library decodes some rows at once, and not before
            raise ItemError(
                f"{self}: rows from {done} on cannot be read ({_told(problem)}); text in another "
                "encoding must be saved as UTF-8."
            ) from None

    def described(self) -> dict[str, str]:
        """Return what was read, for a signature: the data set, and its commit or a digest of rows.

        The digest is the same on every machine.
        """
        commit = self._loaded[1]
        version = f"revision {commit}" if commit else f"rows {self._digest}"
        name = self.id or (self.path.name if self.path else "")
        parts = [name, self.config, self.split, version]
        return {"dataset": " ".join(part for part in parts if part) + self._share}

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
                    f"{self.id}: the hub cannot be asked for its commit ({_told(problem)}); "
                    "pin where there is a network and access to it."
                ) from None
        if not sha:
            raise ItemError(f"{self.id}: the hub names no commit.")
        return str(sha)

    @property
    def fetching(self) -> str:
        """The command that fetches it where there is a network."""
        package, function = "datasets", "load_dataset"
        given = [repr(self.id)]
        if self.files:
            package, function = "huggingface_hub", "hf_hub_download"
            given += [repr(self.files), "repo_type='dataset'"]
        elif self.config:
            given.append(repr(self.config))
        if self.revision:
            given.append(f"revision={self.revision!r}")
        call = f"{package}.{function}({', '.join(given)})"
        return f'python -c "import {package}; {call}"'

    def _compiled(self, key: str, expression: Any, names: Sequence[str]) -> Any:
        try:
            return compiled(expression, names)
        except ValueError as problem:
            raise ItemError(f"{self}: {key}: {problem}.") from None

    @cached_property
    def _loaded(self) -> tuple[Any, str]:
        """The rows, as the library gives them, and the commit of the hub that they are of."""
        require("datasets", EXTRA)
        with _quiet():
            try:
                return self._local() if self.path is not None else self._of_hub()
            except Exception as problem:  # the library lets errors of many others through
                raise self._problem(problem) from None

    @property
    def _table(self) -> Any:
        return self._loaded[0]

    def _local(self) -> tuple[Any, str]:
        """Read a copy: a file of data, a saved data set, or a folder as it is on the hub."""
        import datasets

        path = Path() if self.path is None else self.path
        file = path if path.is_file() else path / self.files if self.files else None
        if not (file or path).exists():
            raise FileNotFoundError(f"there is no {file or path}")
        if file is not None:
            return self._of_file(file), ""
        if (path / SAVED).exists() or (path / SAVED_SPLITS).exists():
            saved = datasets.load_from_disk(str(path))
            one = (path / SAVED).exists()
            name = self.split.partition("[")[0]
            splits = {str(saved.split or name): saved} if one else dict(saved)
            wanted = datasets.ReadInstruction.from_spec(self.split)
            parts = wanted.to_absolute({name: len(rows) for name, rows in splits.items()})
            rows = [splits[part.splitname].select(range(part.from_, part.to)) for part in parts]
            return datasets.concatenate_datasets(rows), ""
        return self._fresh(str(path), self.config), ""

    def _of_hub(self) -> tuple[Any, str]:
        """Read from the hub, or from the caches where that has been done before."""
        import datasets
        from huggingface_hub import hf_hub_download

        if self.files is not None:
            file = hf_hub_download(
                self.id,
                self.files,
                repo_type="dataset",
                revision=self.revision,
                # What HF_DATASETS_OFFLINE says counts for the data set's files, too.
                local_files_only=bool(datasets.config.HF_DATASETS_OFFLINE),
            )
            found = _SNAPSHOT.search(Path(file).as_posix())
            return self._of_file(Path(file)), found[1] if found else ""
        if Path(self.id).exists():
            # The library would read it in place of the hub.
            raise ValueError(f"there is a folder {self.id} here; name it as path, or move it")
        # What load_dataset does, in which the commit can be seen.
        builder = datasets.load_dataset_builder(self.id, self.config, revision=self.revision)
        commit = str(builder.hash)
        if COMMIT.fullmatch(self.revision or "") and commit != self.revision:
            # Offline, the library takes what it has.
            raise FileNotFoundError(f"there is the revision {commit}, not {self.revision}")
        builder.download_and_prepare()
        return builder.as_dataset(split=self.split), commit if COMMIT.fullmatch(commit) else ""

    def _of_file(self, file: Path) -> Any:
        """Read a file of data as the split."""
        ending = file.suffix.lower()
        if ending not in FORMATS:
            raise ValueError(f"{file.name} ends in none of {', '.join(FORMATS)}")
        if not file.stat().st_size:
            raise ValueError(f"{file.name} is empty")
        # Of the cells of a table the empty ones alone are none: NA and None may be answers.
        more: dict[str, Any] = {}
        if FORMATS[ending] == "csv":
            sep = "\t" if ending == ".tsv" else ","
            more = {"keep_default_na": False, "na_values": [""], "sep": sep}
        files = {self.split.partition("[")[0]: str(file)}
        return self._fresh(FORMATS[ending], data_files=files, **more)

    def _fresh(self, place: str, config: str | None = None, **options: Any) -> Any:
        """Read the split from this disk, into memory.

        Not through the library's cache: there, a folder that was changed, or another one of the
        same name, is taken for what was read before.
        """
        import datasets

        with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            return datasets.load_dataset(
                place, config, split=self.split, cache_dir=cache, keep_in_memory=True, **options
            )

    @cached_property
    def _class_names(self) -> dict[str, list[str]]:
        features = self._table.features
        return {k: list(f.names) for k, f in features.items() if hasattr(f, "names")}

    def _problem(self, problem: Exception) -> ItemError:
        """Return what a user reads of an error of the library."""
        what = _told(problem)
        if self.path is not None:
            return ItemError(f"{self}: cannot be read from {self.path} ({what}).")
        if not isinstance(problem, OSError):
            # Where there is a loading script, the library raises this.
            script = isinstance(problem, RuntimeError)
            hint = "; name one of its files of data: dataset: {files: FILE}" if script else ""
            return ItemError(f"{self}: cannot be read ({what}){hint}.")
        return ItemError(
            f"{self}: is not here and cannot be fetched ({what}); where there is a network, "
            f"fetch it: {self.fetching}; or name a copy of its repository: "
            "dataset: {path: FOLDER}."
        )


def _told(problem: BaseException) -> str:
    """Return what an error of the library says, or, where that is nothing, what caused it."""
    if type(problem).__name__ == "DatasetGenerationError" and problem.__cause__ is not None:
        problem = problem.__cause__
    lines = str(problem).strip().splitlines()
    # Of configurations the second line names those that there are.
    count = 2 if lines and lines[0].startswith("Config name") else 1
    return " ".join(lines[:count]).rstrip(".") or type(problem).__name__


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
        from huggingface_hub import utils as hub

        # Each library has its own.
        bars = (
            (datasets.are_progress_bars_disabled(), datasets),
            (hub.are_progress_bars_disabled(), hub),
        )
        levels = [(one, one.get_verbosity()) for one in (datasets.logging, hub.logging)]
        for _, library in bars:
            library.disable_progress_bars()
        for logging, _ in levels:
            logging.set_verbosity(CRITICAL)
        try:
            yield
        finally:
            for logging, level in levels:
                logging.set_verbosity(level)
            for disabled, library in bars:
                if not disabled:
                    library.enable_progress_bars()
