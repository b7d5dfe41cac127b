"""All items of a run as JSON lines, and back.

One JSON object per item and line, each complete in itself, so that lines may be filtered, joined
and sorted by any program. The text is ASCII: every other character is written as its JSON escape,
so that it survives any encoding, ends no line and acts on no terminal. Numbers are written with as
many digits as give the same float64 again. What does not apply to an item is left out.
"""

from __future__ import annotations

import json
import math
import os
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from msgspec import Meta, Struct

from pytest_calibration.errors import PredictionsError, UsageError
from pytest_calibration.files import locked, readable_stem, replacing
from pytest_calibration.input_files import text_lines
from pytest_calibration.predictions import (
    LOG_SLACK,
    IdArray,
    IntArray,
    Predictions,
    Signature,
    digest,
)
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.reports.documents import converted, loads, shown

ENDING: Final = ".jsonl"
# Items turned into lines at a time.
CHUNK: Final = 4096
# Seconds by which the clock of a file system may differ.
_AHEAD: Final = 60.0
# Characters of a line; the prompt of an item may be long.
MOST_OF_A_LINE: Final = 1 << 26
_ENCODE: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{16}\\Z", description="16 hexadecimal digits")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number in [0, 1]")]
Shares = Annotated[list[Share], Meta(min_length=1, description="a list of numbers")]
Index = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number of at least 0")]
Logarithm = Annotated[float, Meta(le=LOG_SLACK, description="log P(correct answer), at most 0")]


class Line(Struct, kw_only=True, gc=False):
    """One item as a line of a dump."""

    probe: str
    model: str | None = None
    unit: Literal["item", "token"] | None = None
    id: Hash
    group: str | None = None
    slice: str | None = None
    confidence: Share
    correct: bool
    confidence_before: Share | None = None
    correct_before: bool | None = None
    probabilities: Shares | None = None
    label: Index | None = None
    option_mass: float | None = None
    label_logprob: Logarithm | None = None
    name: str | None = None
    prompt: str | None = None
    options: list[str] | None = None
    gold: str | None = None
    answer: str | None = None


# The same in every line.
SHARED: Final = ("probe", "model", "unit")
# In every line or in none.
COLUMNS: Final = ("group", "slice", "probabilities", "label", "option_mass", "label_logprob")
# Of the items that the baseline has too.
BEFORE: Final = ("confidence_before", "correct_before")


# --- writing -------------------------------------------------------------------------------------


def dump_lines(
    predictions: Predictions, before: Predictions | None = None, *, item_text: bool = True
) -> Iterator[str]:
    """Yield one JSON object per item, without line break, in the order of the items.

    Args:
        predictions: n items.
        before: a baseline, paired by id; an item that it lacks has no values of it.
        item_text: with the text of the items; else only with ids, names, groups and slices.

    Raises:
        PredictionsError: the baseline has none of the items.
    """
    p = predictions
    place = None if before is None else _places(p, before)
    model = {"model": _model(p)} if _model(p) else {}
    shared = {"probe": p.probe, **model, "unit": p.unit}
    arrays: dict[str, np.ndarray[Any, Any] | None] = {
        "id": p.item_ids,
        "group": p.groups,
        "slice": p.slices,
        "confidence": p.confidence,
        "correct": p.correct,
        "probabilities": p.probabilities,
        "label": p.labels,
        "option_mass": p.option_mass,
        "label_logprob": p.label_logprobs,
    }
    columns = {name: values for name, values in arrays.items() if values is not None}
    for start in range(0, p.n, CHUNK):
        parts = [values[start : start + CHUNK].tolist() for values in columns.values()]
        for i, row in enumerate(zip(*parts, strict=True), start=start):
            item = dict(zip(columns, map(_valid, row), strict=True))
            item["id"] = f"{item['id']:016x}"
            if before is not None and place is not None and (j := int(place[i])) >= 0:
                item |= zip(
                    BEFORE, (float(before.confidence[j]), bool(before.correct[j])), strict=True
                )
            text = {} if p.texts is None else _text_of(p.texts[i], item_text)
            yield _ENCODE({**shared, **item, **text})


def _places(predictions: Predictions, before: Predictions) -> IntArray:
    """Return (n,) the position of each item in the baseline; -1 where it is not there."""
    places = np.full(predictions.n, -1, dtype=np.int64)
    _, ours, theirs = np.intersect1d(
        predictions.item_ids, before.item_ids, assume_unique=True, return_indices=True
    )
    if not len(ours):
        raise PredictionsError(
            f"predictions of probe {predictions.probe!r}: the baseline has none of these items."
        )
    places[ours] = theirs
    return places


def _text_of(text: ItemText, whole: bool) -> dict[str, Any]:
    """Return name and text of an item, without what is empty."""
    names = ("name", "prompt", "options", "gold", "answer") if whole else ("name",)
    values = {name: _valid(getattr(text, name)) for name in names}
    return {name: value for name, value in values.items() if value}


def _model(predictions: Predictions) -> str:
    return str(_valid(predictions.signature.soft.get("model", "")))


def _valid(value: Any) -> Any:
    """Return text that every JSON reader takes: half a surrogate pair becomes U+FFFD."""
    if isinstance(value, tuple):
        return [_valid(text) for text in value]
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dump_name(predictions: Predictions) -> str:
    """Return the file name of a dump: probe, model, number of items, and 8 digits of a digest.

    For want of a model, the test that made the predictions stands in its place. The digest is that
    of probe, model, source, the settings that must agree for two runs to be comparable, and the
    items: runs that differ in one of these have different files, also on a file system
    that takes capitals and small letters for the same.
    """
    model = _model(predictions)
    source = str(_valid(predictions.source))
    named = model or source.partition("::")[2] or source
    stem = readable_stem(predictions.probe) + (f"@{readable_stem(named)}" if named else "")
    hard = str(_valid(str(sorted(predictions.signature.hard.items()))))
    parts = (predictions.probe, model, hard, *([source] if source else []))
    twice = digest(*parts, predictions.items_digest, size=4)
    return f"{stem}-{predictions.n}-{twice}{ENDING}"


def write_dump(
    folder: Path | str,
    predictions: Predictions,
    before: Predictions | None = None,
    *,
    item_text: bool = True,
    since: float = math.inf,
) -> Path:
    """Write all items into a file of their own, named by :func:`dump_name`.

    The same items of the same model replace what an earlier run wrote. A smaller selection of them
    (another limit) is another file, so it never takes the place of a larger one.

    Args:
        folder: where the file goes; made where there is none.
        predictions: n items.
        before: a baseline, as for :func:`dump_lines`.
        item_text: with the text of the items.
        since: without a baseline, a file that was written with one after this time (seconds since
            1970) stays as it is.

    Returns:
        The file.

    Raises:
        UsageError: the folder cannot be written.
    """
    predictions.check_whole("a dump holds")
    path = Path(folder) / dump_name(predictions)
    if os.path.exists(path.parent) and not path.parent.is_dir():
        raise UsageError(f"{path.parent}: is a file, and items are dumped into a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(_KeptError), ExitStack() as held, replacing(path) as file:
            lines = dump_lines(predictions, before, item_text=item_text)
            file.writelines(f"{line}\n".encode("ascii") for line in lines)
            # Only while the file takes its place: another process may be long at writing its own.
            held.enter_context(locked(path.parent))
            if before is None and _has_baseline(path, since):
                raise _KeptError
    except OSError as problem:
        raise UsageError(
            f"{path}: cannot be written ({problem.strerror or problem}); name another folder."
        ) from None
    return path


class _KeptError(Exception):
    """Raised where the file that is there stays."""


def _has_baseline(path: Path, since: float) -> bool:
    """Whether a dump was written after this time, and holds a baseline."""
    # A time to come was noted by an earlier run, before the clock was set back.
    if not path.is_file() or not since <= path.stat().st_mtime < time.time() + _AHEAD:
        return False
    with path.open("rb") as file:
        return any(b'"confidence_before":' in line for line in file)


# --- reading -------------------------------------------------------------------------------------


def read_dump(path: Path | str) -> Predictions:
    """Read the items that a dump holds, with their texts.

    Lines may have been left out or reordered, and further keys added; null counts as left out.
    Of the signature only the model is there.

    Raises:
        PredictionsError: there is no such file, or its first bad line, by file and line.
    """
    return read_both(path)[0]


def read_both(path: Path | str) -> tuple[Predictions, Predictions | None]:
    """Read a dump, and the baseline on those of its items whose lines hold one.

    Raises:
        PredictionsError: as :func:`read_dump`.
    """
    lines: list[Line] = []
    numbers = array("q")
    for number, text in text_lines(Path(path), MOST_OF_A_LINE, PredictionsError):
        numbers.append(number)
        try:
            lines.append(_line(text))
            _check_alike(lines[-1], lines[0], numbers[0])
        except ValueError as problem:
            raise PredictionsError(f"{path}, line {number}: {problem}.") from None
    if not lines:
        raise PredictionsError(f"{path}: holds no items; a dump has one a line.")
    ids = np.array([int(line.id, 16) for line in lines], dtype=np.uint64)
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(same):
        one, other = (numbers[int(i)] for i in order[same[0] :][:2])
        raise PredictionsError(
            f"{path}, line {other}: has the id of line {one}; an item stands in one line."
        )
    try:
        return _predictions(lines, ids)
    except PredictionsError as problem:
        raise PredictionsError(f"{path}: {problem}") from None


def _line(text: str) -> Line:
    """Return a line; raise ValueError with what is wrong."""
    try:
        line = converted(loads(text.rstrip()), Line, "the line")
    except json.JSONDecodeError as problem:
        # Its own message counts lines too, from the start of this one.
        raise ValueError(f"is no JSON ({problem.msg}, column {problem.pos + 1})") from None
    except RecursionError as problem:
        raise ValueError(f"is no JSON ({problem})") from None
    label, table = line.label, line.probabilities
    if (line.confidence_before is None) != (line.correct_before is None):
        raise ValueError("has one of confidence_before and correct_before; it needs both, or none")
    if label is not None and table is not None and label >= len(table):
        raise ValueError(f"label is {label}, and there are {len(table)} probabilities")
    return line


def _check_alike(line: Line, first: Line, number: int) -> None:
    """Raise ValueError where a line lacks what the first one has, or the other way round."""
    for key in SHARED:
        here, there = getattr(line, key), getattr(first, key)
        if here != there:
            raise ValueError(
                f"{key} is {shown(here)}, and {shown(there)} in line {number}; a dump holds one "
                f"probe of one model: keep the lines of one {key}"
            )
        # One text for a million lines.
        setattr(line, key, there)
    for key in COLUMNS:
        missing = getattr(line, key) is None
        if missing != (getattr(first, key) is None):
            has, had = ("has no", "has one") if missing else ("has", "has not")
            raise ValueError(f"{has} {key}, and line {number} {had}; all items have it or none")
    k, width = len(line.probabilities or ()), len(first.probabilities or ())
    if k != width:
        raise ValueError(
            f"has {k} probabilities, and line {number} has {width}; fill up with zeros"
        )


def _predictions(lines: list[Line], ids: IdArray) -> tuple[Predictions, Predictions | None]:
    """Return the predictions that these lines hold, and those of the baseline."""

    def column(name: str) -> Any:
        absent = getattr(lines[0], name) is None
        return None if absent else [getattr(line, name) for line in lines]

    def text_of(line: Line) -> ItemText:
        options = tuple(line.options or ())
        return ItemText(
            line.prompt or "", line.gold or "", line.answer or "", options, line.name or ""
        )

    texts = list(map(text_of, lines))
    model = lines[0].model
    predictions = Predictions(
        probe=lines[0].probe,
        confidence=np.array([line.confidence for line in lines]),
        correct=np.array([line.correct for line in lines]),
        item_ids=ids,
        probabilities=column("probabilities"),
        labels=column("label"),
        label_logprobs=column("label_logprob"),
        option_mass=column("option_mass"),
        groups=column("group"),
        slices=column("slice"),
        texts=ItemTexts.from_list(texts) if set(texts) != {ItemText()} else None,
        unit=lines[0].unit or "item",
        signature=Signature(soft={"model": model} if model else {}, known=False),
    )
    there = [i for i, line in enumerate(lines) if line.confidence_before is not None]
    if not there:
        return predictions, None
    before = replace(
        predictions.take(np.array(there)),
        confidence=np.array([lines[i].confidence_before for i in there]),
        correct=np.array([lines[i].correct_before for i in there]),
        probabilities=None,
        labels=None,
        label_logprobs=None,
        option_mass=None,
        signature=Signature(known=False),
    )
    return predictions, before
