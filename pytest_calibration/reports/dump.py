"""All items of a run as JSON lines, and back: the evidence behind a number.

One JSON object per item and line, each complete in itself, so that lines may be filtered, joined
and sorted by any program. The text is ASCII: every other character is written as its JSON escape.
No encoding can spoil it, no character in it ends a line for one program and not for another, and a
terminal that shows the file obeys nothing in it. Numbers are written with as many digits as give
the same float64 again. What does not apply to an item is left out.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from pytest_calibration.errors import PredictionsError, UsageError
from pytest_calibration.files import file_stem, replacing
from pytest_calibration.predictions import (
    LOG_SLACK,
    IdArray,
    Predictions,
    Signature,
    digest,
)
from pytest_calibration.predictions.item_text import ItemText, ItemTexts

ENDING: Final = ".jsonl"
# Items turned into lines at a time.
CHUNK: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"
_ID: Final = re.compile("[0-9a-f]{16}")
_LARGEST: Final = sys.float_info.max
_ENCODE: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


# --- the keys of a line ---------------------------------------------------------------------------


def _is_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _are_texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("must be a list of texts")
    return value


def _is_unit(value: object) -> str:
    if value not in ("item", "token"):
        raise ValueError("must be 'item' or 'token'")
    return str(value)


def _is_id(value: object) -> int:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("must be 16 hexadecimal digits")
    return int(value, 16)


def _is_truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _is_whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise ValueError("must be a whole number")
    return value


def _is_number(value: object) -> float:
    # A whole number may have more digits than any float, and 1e999 reads as infinity.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ValueError("must be a number")
    return float(value)


def _is_share(value: object) -> float:
    share = _is_number(value)
    if not 0 <= share <= 1:
        raise ValueError("must lie in [0, 1]")
    return share


def _are_shares(value: object) -> list[float]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of numbers")
    return [_is_share(share) for share in value]


def _is_logarithm(value: object) -> float:
    number = _is_number(value)
    if number > LOG_SLACK:
        raise ValueError("must be log P(right answer), at most 0")
    return number


# What a line may hold, in the order in which it is checked.
CHECKS: Final[dict[str, Callable[[object], Any]]] = {
    "probe": _is_text,
    "model": _is_text,
    "unit": _is_unit,
    "id": _is_id,
    "group": _is_text,
    "slice": _is_text,
    "confidence": _is_share,
    "correct": _is_truth,
    "confidence_before": _is_share,
    "correct_before": _is_truth,
    "probabilities": _are_shares,
    "label": _is_whole,
    "option_mass": _is_number,
    "label_logprob": _is_logarithm,
    "name": _is_text,
    "prompt": _is_text,
    "options": _are_texts,
    "gold": _is_text,
    "answer": _is_text,
}
NEEDED: Final = ("probe", "id", "confidence", "correct")
# The same in every line.
SHARED: Final = ("probe", "model", "unit")
# In every line or in none, and what holds a million of them.
COLUMNS: Final[dict[str, Callable[[], Any]]] = {
    "id": lambda: array("Q"),
    "group": list,
    "slice": list,
    "confidence": lambda: array("d"),
    "correct": bytearray,
    "confidence_before": lambda: array("d"),
    "correct_before": bytearray,
    "probabilities": lambda: array("d"),
    "label": lambda: array("q"),
    "option_mass": lambda: array("d"),
    "label_logprob": lambda: array("d"),
}


# --- writing -------------------------------------------------------------------------------------


def dump_lines(
    predictions: Predictions, before: Predictions | None = None, *, words: bool = True
) -> Iterator[str]:
    """Yield one JSON object per item, without line break, in the order of the items.

    Args:
        predictions: n items.
        before: the baseline on the same items in the same order.
        words: with what the items say; else only with their ids, names, groups and slices.

    Raises:
        PredictionsError: the baseline is on other items.
    """
    p = predictions
    if before is not None and not np.array_equal(before.item_ids, p.item_ids):
        raise PredictionsError(
            f"predictions of probe {p.probe!r}: the baseline is on other items, or on the same in "
            "another order; bring both into one order with take()."
        )
    shared = {"probe": p.probe, "unit": p.unit}
    if model := _model(p):
        shared = {"probe": p.probe, "model": model, "unit": p.unit}
    for start in range(0, p.n, CHUNK):
        part = slice(start, min(start + CHUNK, p.n))
        columns = {
            "id": [f"{i:016x}" for i in p.item_ids[part].tolist()],
            "group": None if p.groups is None else _valid(p.groups[part].tolist()),
            "slice": None if p.slices is None else _valid(p.slices[part].tolist()),
            "confidence": p.confidence[part].tolist(),
            "correct": p.correct[part].tolist(),
            "confidence_before": None if before is None else before.confidence[part].tolist(),
            "correct_before": None if before is None else before.correct[part].tolist(),
            "probabilities": _listed(p.probabilities, part),
            "label": _listed(p.labels, part),
            "option_mass": _listed(p.option_mass, part),
            "label_logprob": _listed(p.label_logprobs, part),
        }
        held = {key: values for key, values in columns.items() if values is not None}
        for i, row in enumerate(zip(*held.values(), strict=True), start=part.start):
            said = {} if p.texts is None else _said(p.texts[i], words)
            yield _ENCODE({**shared, **dict(zip(held, row, strict=True)), **said})


def _listed(values: np.ndarray[Any, Any] | None, part: slice) -> list[Any] | None:
    return None if values is None else values[part].tolist()


def _said(text: ItemText, words: bool) -> dict[str, Any]:
    """Return what an item says, without what is empty."""
    said: dict[str, Any] = {"name": _text(text.name)}
    if words:
        said["prompt"] = _text(text.prompt)
        said["options"] = _valid(text.options)
        said["gold"] = _text(text.gold)
        said["answer"] = _text(text.answer)
    return {key: value for key, value in said.items() if value}


def _model(predictions: Predictions) -> str:
    return _text(predictions.signature.soft.get("model", ""))


def _valid(texts: list[str] | tuple[str, ...]) -> list[str]:
    return [_text(text) for text in texts]


def _text(text: str) -> str:
    """Return a text that every JSON reader takes: half a surrogate pair becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dump_name(predictions: Predictions) -> str:
    """Return the file name of a dump: probe, model, number of items, and 8 digits of a digest.

    The digest is that of probe, model, the settings that must agree for two runs to be comparable,
    and the items: whatever differs in one of these lies in another file, on a file system that
    tells no capitals from small letters too.
    """
    model = _model(predictions)
    stem = file_stem(predictions.probe) + (f"@{file_stem(model)}" if model else "")
    hard = sorted(predictions.signature.hard.items())
    twice = digest(predictions.probe, model, _text(str(hard)), predictions.items_digest, size=4)
    return f"{stem}-{predictions.n}-{twice}{ENDING}"


def write_dump(folder: Path | str, predictions: Predictions, *, words: bool = True) -> Path:
    """Write all items into a file of their own, named by :func:`dump_name`.

    The same items of the same model replace what an earlier run wrote. A smaller selection of them
    (another limit) is another file, so it never takes the place of a larger one.

    Args:
        folder: where the file goes; made where there is none.
        predictions: n items.
        words: with what the items say.

    Returns:
        The file.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = Path(folder) / dump_name(predictions)
    if path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"{path.parent}: is a file, and items are dumped into a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.writelines(
                f"{line}\n".encode("ascii") for line in dump_lines(predictions, words=words)
            )
    except OSError as problem:
        raise UsageError(
            f"{path}: cannot be written ({problem.strerror or problem}); name another folder."
        ) from None
    return path


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
    """Read a dump, and the baseline on the same items where its lines hold one.

    Raises:
        PredictionsError: as :func:`read_dump`.
    """
    found = _Found(Path(path))
    try:
        with found.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(_BOM) if number == 1 else line
                if content.strip():
                    found.add(number, content)
    except FileNotFoundError:
        raise PredictionsError(f"{path}: there is no such file.") from None
    except OSError as problem:
        raise PredictionsError(f"{path}: cannot be read ({problem.strerror}).") from None
    return found.predictions()


class _Found:
    """The lines read so far, column by column.

    Attributes:
        path: the file.
        lines: number of the line of each item.
        shared: what all items have in common.
        columns: the values of each key that every item has.
        texts: what each item says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = array("q")
        self.shared: dict[str, Any] = {}
        self.columns: dict[str, Any] = {}
        self.width = 0
        self.texts: list[ItemText] = []

    def add(self, number: int, line: bytes) -> None:
        """Take one line."""
        try:
            row = _row(line)
            if self.lines:
                self._check_alike(row)
            else:
                self.shared = {key: row.get(key) for key in SHARED}
                self.columns = {key: make() for key, make in COLUMNS.items() if key in row}
                self.width = len(row.get("probabilities", ()))
            for key, column in self.columns.items():
                if key == "probabilities":
                    column.extend(row[key])
                else:
                    column.append(row[key])
        except ValueError as problem:
            raise PredictionsError(f"{self.path}, line {number}: {problem}.") from None
        self.lines.append(number)
        self.texts.append(
            ItemText(
                prompt=row.get("prompt", ""),
                gold=row.get("gold", ""),
                answer=row.get("answer", ""),
                options=tuple(row.get("options", ())),
                name=row.get("name", ""),
            )
        )

    def _check_alike(self, row: dict[str, Any]) -> None:
        first = self.lines[0]
        for key, value in self.shared.items():
            if row.get(key) != value:
                raise ValueError(
                    f"{key} is {_told(row.get(key))}, and {_told(value)} in line {first}; a dump "
                    f"holds one probe of one model: keep the lines of one {key}"
                )
        for key in COLUMNS:
            if (key in row) != (key in self.columns):
                here, there = ("has", "has not") if key in row else ("has no", "has one")
                raise ValueError(
                    f"{here} {key}, and line {first} {there}; all items have it or none"
                )
        k = len(row.get("probabilities", ()))
        if k != self.width:
            raise ValueError(
                f"has {k} probabilities, and line {first} has {self.width}; fill up with zeros"
            )

    def predictions(self) -> tuple[Predictions, Predictions | None]:
        """Put the columns together."""
        if not self.lines:
            raise PredictionsError(f"{self.path}: holds no items; a dump has one a line.")
        columns = self.columns
        ids = np.array(columns["id"], dtype=np.uint64)
        self._check_ids(ids)
        numbers = {
            key: np.array(columns[key]) if key in columns else None
            for key in ("label", "option_mass", "label_logprob")
        }
        table = None
        if "probabilities" in columns:
            table = np.array(columns["probabilities"]).reshape(len(ids), self.width)
        model = self.shared["model"]
        try:
            found = Predictions(
                probe=self.shared["probe"],
                confidence=np.array(columns["confidence"]),
                correct=np.array(columns["correct"], dtype=np.bool_),
                item_ids=ids,
                probabilities=table,
                labels=numbers["label"],
                label_logprobs=numbers["label_logprob"],
                option_mass=numbers["option_mass"],
                groups=columns.get("group"),
                slices=columns.get("slice"),
                texts=ItemTexts.from_list(self.texts) if any(map(_says, self.texts)) else None,
                unit=self.shared["unit"] or "item",
                signature=Signature(soft={"model": model} if model else {}),
            )
        except PredictionsError as problem:
            raise PredictionsError(f"{self.path}: {problem}") from None
        if "confidence_before" not in columns or "correct_before" not in columns:
            return found, None
        before = Predictions(
            probe=found.probe,
            confidence=np.array(columns["confidence_before"]),
            correct=np.array(columns["correct_before"], dtype=np.bool_),
            item_ids=ids,
            groups=found.groups,
            slices=found.slices,
            texts=found.texts,
            unit=found.unit,
        )
        return found, before

    def _check_ids(self, ids: IdArray) -> None:
        order = np.argsort(ids, kind="stable")
        same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
        if len(same):
            one, other = (self.lines[int(order[i])] for i in (same[0], same[0] + 1))
            raise PredictionsError(
                f"{self.path}, line {other}: has the id of line {one}; an item stands in one line."
            )


def _says(text: ItemText) -> bool:
    return text != ItemText()


def _row(line: bytes) -> dict[str, Any]:
    """Return the known keys of a line, checked; raise ValueError with what is wrong."""
    try:
        row = json.loads(line.decode().rstrip(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as problem:
        # Its own message counts lines too, from the start of this one.
        raise ValueError(f"is no JSON ({problem.msg}, column {problem.pos + 1})") from None
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"is no JSON ({problem})") from None
    if not isinstance(row, dict):
        raise ValueError(f"must be a JSON object, got {_told(row)}")
    out = {}
    for key, check in CHECKS.items():
        value = row.get(key)
        if value is not None:
            try:
                out[key] = check(value)
            except ValueError as problem:
                raise ValueError(f"{key} {problem}, got {_told(value)}") from None
    for key in NEEDED:
        if key not in out:
            raise ValueError(f"the key {key!r} is missing")
    label, table = out.get("label"), out.get("probabilities")
    if label is not None and table is not None and not 0 <= label < len(table):
        raise ValueError(f"label is {label}, and there are {len(table)} probabilities")
    return out


def _told(value: object) -> str:
    """Return a value as it stands in an error: short, and in one line."""
    if value is None:
        return "left out"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
