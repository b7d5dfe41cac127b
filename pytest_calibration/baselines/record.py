"""One stored baseline: a summary made to be reviewed, and the items that a paired gate needs.

The YAML file has at most 60 lines. ``note``, ``tolerance`` and ``limit`` may be edited by hand; a
checksum covers everything else, because a clean merge of two branches can still mix two records.
The items (id hash, float32 confidence, outcome, group) are in an ``.npz`` file beside it. The YAML
names it by its digest, so that another file in its place is noticed. The items of the *anchor*,
from which the drift of accepted steps is counted, stay in a file of the same kind.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Final, TypeAlias

import yaml

from pytest_calibration.errors import PredictionsError, UnreadableBaseline
from pytest_calibration.gate.planning import smallest_visible_unpaired
from pytest_calibration.gate.strictness import range_error
from pytest_calibration.gate.verdict import align
from pytest_calibration.input_files import read_file
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS, bin_table, metric_named
from pytest_calibration.metrics.sharpness import Sharpness, sharpness
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.predictions.stored_items import (
    MAX_ITEMS,
    items_bytes,
    items_from,
    items_of,
    most_bytes,
)
from pytest_calibration.strict_yaml import is_text, read_mapping
from pytest_calibration.text.visible import MOST_QUOTED, quoted, visible

FORMAT: Final = 1
MAX_SUPERSEDED: Final = 3
DIGITS: Final = 6
# The numbers that a reviewer reads, of all that can be computed.
STORED_METRICS: Final = (
    *("ece", "equal_mass_ece", "mce", "brier", "nll"),
    *("accuracy", "mean_confidence", "signed_gap"),
)
# Why the first record is an anchor.
RECORDED_FIRST: Final = "recorded first"
BRIEF: Final = ("ece", "accuracy", "signed_gap")
HAND_EDITED: Final = ("note", "tolerance", "limit")
HEADER: Final = (
    "# Calibration baseline, written by pytest --calibration-record and --calibration-accept.\n"
    "# note, tolerance and limit may be edited by hand; a checksum covers the rest.\n"
)

Summary: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A baseline as it is stored.

    Attributes:
        path: the YAML file.
        probe: name of the probe.
        name: name of the baseline (``default``, or a stage such as ``sft``).
        metrics: metric name to value, of all n items.
        sharpness: how sure the model was, and which options it preferred, on all n items.
        predictions: the stored items; for token-level probes a sample of at most 4000.
        n: number of items measured.
        note: free text, hand-editable.
        tolerance: allowed worsening of this probe, hand-editable; None for the default.
        limit: ECE limit of this probe, hand-editable; None for stored ECE plus tolerance.
        anchor: summary of the record from which drift is counted: the first one, until another is
            made the anchor.
        anchor_items: its stored items; None where the record was made before they were kept.
        steps: number of records that were accepted since the anchor.
        superseded: summaries of what was replaced, newest first, each with its reason.
        data: the whole decoded file.
        state: digest of all that the file said, as :func:`stored_state` returns it.
    """

    path: Path
    probe: str
    name: str
    metrics: Mapping[str, float]
    sharpness: Sharpness
    predictions: Predictions
    n: int
    note: str = ""
    tolerance: float | None = None
    limit: float | None = None
    anchor: Mapping[str, Any] = field(default_factory=dict)
    anchor_items: Predictions | None = field(default=None, repr=False)
    steps: int = 0
    superseded: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    state: str = ""


# --- writing -------------------------------------------------------------------------------------


def summarise(
    predictions: Predictions,
    name: str,
    items_file: Callable[[str], str],
    *,
    previous: Record | None = None,
    reason: str | None = None,
    anchor: str | None = None,
) -> tuple[Summary, bytes]:
    """Return the content of the YAML file, and the bytes of the items file it names.

    Args:
        predictions: what is stored.
        name: name of the baseline.
        items_file: gives the name of the items file from the first 12 digits of its digest.
        previous: the record that is replaced; its anchor, hand edits and history are kept.
        reason: why it is replaced.
        anchor: why drift is counted from these predictions on; None to count it from the same
            anchor as before.
    """
    stored = items_of(predictions)
    payload = items_bytes(stored)
    sha = hashlib.sha256(payload).hexdigest()
    measured, n = measure(predictions), len(predictions)
    metrics = {
        metric: _rounded(metric_named(metric)(predictions), metric)
        for metric in STORED_METRICS
        if metric_named(metric).applies_to(predictions)
    }
    signature = predictions.signature
    summary: Summary = {
        "format": FORMAT,
        "probe": predictions.probe,
        "name": name,
        "n": n,
        "metrics": metrics,
        "interval": {"ece": [_rounded(measured.low), _rounded(measured.high)], "level": 0.95},
        "noise_floor": _rounded(measured.noise_floor),
        "sharpness": _sharpness(predictions),
        "smallest_visible_regression": _rounded(smallest_visible_unpaired(predictions)),
        "binning": {"bins": DEFAULT_BINS, "strategy": "equal_width"},
        "bins": _bins(predictions),
        "signature": {
            "hard": dict(sorted(signature.hard.items())),
            "soft": dict(sorted(signature.soft.items())),
        },
        "items": {
            "file": items_file(sha[:12]),
            "sha256": sha,
            "count": len(stored),
            "unit": predictions.unit,
            "set": predictions.items_digest,
        },
        "anchor": {},
        "superseded": [],
        "note": "",
        "tolerance": None,
        "limit": None,
    }
    if previous is not None:
        summary |= _kept(previous, reason or "")
        if anchor is None:
            summary["anchor"] = _kept_anchor(previous, stored)
    why = anchor or reason or RECORDED_FIRST
    summary["anchor"] = summary["anchor"] or _as_anchor(summary, why)
    summary["checksum"] = checksum(summary)
    return summary, payload


def anchored_here(record: Record, reason: str) -> Summary:
    """Return the content of the YAML file of a record that is made the anchor itself."""
    summary = {key: value for key, value in record.data.items() if key != "checksum"}
    summary["anchor"] = _as_anchor(summary, reason)
    return summary | {"checksum": checksum(summary)}


def _as_anchor(summary: Summary, reason: str) -> Summary:
    """Return what is kept of a record from which drift is counted."""
    return {
        **{key: summary["metrics"][key] for key in BRIEF},
        "n": summary["n"],
        "model": summary["signature"]["soft"].get("model", ""),
        "reason": reason,
        "steps": 0,
        "items": dict(summary["items"]),
    }


def _kept_anchor(previous: Record, stored: Predictions) -> Summary:
    """Return the anchor of a record that replaces another; empty where it is an anchor itself.

    From an anchor with which these items cannot be compared, no drift can be counted.
    """
    anchor, items = previous.anchor, previous.anchor_items
    if items is None and previous.steps == 0:
        # Made before the items of an anchor were kept, and the anchor itself.
        anchor, items = _as_anchor(dict(previous.data), RECORDED_FIRST), previous.predictions
    if items is None:
        return dict(anchor)
    comparable = align(stored, items)[0] is not None
    return {**anchor, "steps": previous.steps + 1} if comparable else {}


def _kept(previous: Record, reason: str) -> Summary:
    """Return what stays in the file when a record is replaced."""
    replaced = {
        "reason": reason,
        **{key: previous.metrics.get(key) for key in BRIEF},
        "n": previous.n,
        "model": previous.predictions.signature.soft.get("model", ""),
    }
    return {
        "superseded": [replaced, *map(dict, previous.superseded)][:MAX_SUPERSEDED],
        **{key: previous.data[key] for key in HAND_EDITED},
    }


def _bins(predictions: Predictions) -> list[Summary]:
    """Return the bins that hold items."""
    table = bin_table(predictions)
    return [
        {
            "to": _rounded(float(table.upper[b])),
            "n": int(table.count[b]),
            "confidence": _rounded(float(table.confidence[b])),
            "accuracy": _rounded(float(table.accuracy[b])),
        }
        for b in range(len(table))
        if table.count[b]
    ]


def _sharpness(predictions: Predictions) -> Summary:
    """Return the numbers of sharpness that apply to these predictions."""
    numbers = vars(sharpness(predictions)).copy()
    answers = numbers.pop("answers")
    out: Summary = {k: _rounded(v, k) for k, v in numbers.items() if v is not None}
    return out | ({"answers": [_rounded(share) for share in answers]} if answers else {})


def _rounded(value: float, what: str = "a number") -> float:
    if not math.isfinite(value):
        raise PredictionsError(f"a baseline holds finite numbers only, and {what} is {value}.")
    return round(value, DIGITS)


def checksum(
    summary: Mapping[str, Any],
    left_out: Collection[str] = (*HAND_EDITED, "checksum"),
    *,
    as_spelled: bool = False,
) -> str:
    """Digest the values of all but the hand-editable fields, in any order and spelling.

    Args:
        summary: the content of the file.
        left_out: fields that are not covered.
        as_spelled: tell 1.0 from 1, as the first records did.
    """
    covered = {k: v for k, v in summary.items() if k not in left_out}
    values = covered if as_spelled else _canonical(covered)
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Return plain values in which 1.0 is 1: a formatter may have written one as the other."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_BLOCKS: Final = ("metrics", "bins", "superseded")
# More fields than this stand in two lines, so that the file keeps to 60.
MAX_SIGNATURE_LINES: Final = 12


class _Dumper(yaml.SafeDumper):
    """Writes text with line breaks or hidden characters in one line, quoted and escaped.

    What YAML 1.1 or 1.2 reads otherwise is quoted, too.
    """


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(map(_is_hidden, value)) else None if is_text(value) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _is_hidden(character: str) -> bool:
    """Whether a reader of the file cannot see a character: line breaks, bidirectional marks."""
    return character == "\n" or (not character.isascii() and visible(character) != character)


_Dumper.add_representer(str, _represent_text)


def _dump(value: Any, *, flow: bool = True) -> str:
    style: Any = {"sort_keys": False, "width": 10**6, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=flow, **style)
    text = text.removesuffix("...\n").rstrip("\n")
    # PyYAML writes some of these as they are. They stand in quotes, where YAML knows escapes.
    return re.sub(r"[^\x00-\x7f]", lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if not _is_hidden(character):
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_yaml(summary: Summary) -> str:
    """Write the summary with one line per thing that a reviewer reads."""
    lines = [HEADER.rstrip("\n")]
    for key, value in summary.items():
        if key in _BLOCKS and value:
            # One line per entry: a change shows as one changed line in a diff.
            lines.append(f"{key}:")
            if isinstance(value, dict):
                lines += [f"  {label}: {_dump(entry)}" for label, entry in value.items()]
            else:
                lines += [f"  - {_dump(entry)}" for entry in value]
        elif key == "signature" and sum(map(len, value.values())) <= MAX_SIGNATURE_LINES:
            lines.append(_dump({key: value}, flow=False))
        elif key == "signature":
            lines += [f"{key}:", *(f"  {part}: {_dump(value[part])}" for part in value)]
        else:
            lines.append(f"{key}: {_dump(value)}")
    return "\n".join(lines) + "\n"


# --- reading -------------------------------------------------------------------------------------

_NUMBER: Final = (int, float)
# Fields that the first records do not have; `sharpness` is then counted on the stored items.
ADDED_LATER: Final = frozenset({"sharpness"})
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "format": (int,),
    **dict.fromkeys(("probe", "name", "checksum"), (str,)),
    # An editor may leave nothing behind the key.
    "note": (str, NoneType),
    "n": (int,),
    **dict.fromkeys(("metrics", "interval", "sharpness", "binning", "signature"), (dict,)),
    **dict.fromkeys(("noise_floor", "smallest_visible_regression"), _NUMBER),
    **dict.fromkeys(("items", "anchor"), (dict,)),
    **dict.fromkeys(("bins", "superseded"), (list,)),
    **dict.fromkeys(("tolerance", "limit"), (*_NUMBER, NoneType)),
}
_ITEMS_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("file", "sha256", "unit", "set"), (str,)),
    "count": (int,),
}
_ANCHOR_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(BRIEF, _NUMBER),
    **dict.fromkeys(("n", "steps"), (int,)),
    **dict.fromkeys(("model", "reason"), (str,)),
    "items": (dict,),
}
_TYPE_NAMES: Final[dict[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
    NoneType: "nothing",
}


def read_record(path: Path, probe: str, name: str) -> Record:
    """Read and check one record; again, where another process replaces it meanwhile.

    Raises:
        UnreadableBaseline: with what is wrong and what to do; nothing is written.
    """
    while True:
        data = read_mapping(path, UnreadableBaseline)
        state = _state_of(data)
        try:
            return _record_of(data, state, path, probe, name)
        except UnreadableBaseline:
            # The items of what is replaced are removed.
            if stored_state(path) == state:
                raise


def _record_of(data: dict[str, Any], state: str, path: Path, probe: str, name: str) -> Record:
    """Return the record that a YAML file says, with its items; see :func:`read_record`."""
    for problem in _problems(data, probe, name):
        raise UnreadableBaseline(f"{path}: {problem}")
    data["note"] = data["note"] or ""
    as_stored = ("metrics", "n", "note", "tolerance", "limit", "anchor")
    anchor, predictions = data["anchor"], _read_items(path, data, data["items"])
    if "sharpness" not in data:
        data["sharpness"] = _sharpness(predictions)
    numbers: Summary = {"mean_entropy": None, "option_mass": None, "answers": ()}
    for key, value in data["sharpness"].items():
        numbers[key] = tuple(map(float, value)) if key == "answers" else float(value)
    anchor_items, steps = None, len(data["superseded"])
    if "items" in anchor:
        steps = anchor["steps"]
        same = anchor["items"] == data["items"]
        anchor_items = predictions if same else _read_items(path, data, anchor["items"])
        soft = {"model": anchor["model"]}
        signature = Signature(predictions.signature.hard, soft if anchor["model"] else {})
        anchor_items = replace(anchor_items, signature=signature)
    return Record(
        path=path,
        probe=probe,
        name=name,
        sharpness=Sharpness(**numbers),
        predictions=predictions,
        anchor_items=anchor_items,
        steps=steps,
        superseded=tuple(data["superseded"]),
        data=data,
        state=state,
        **{key: data[key] for key in as_stored},
    )


def _problems(data: Mapping[str, Any], probe: str, name: str) -> Iterator[str]:
    """Yield what is wrong with a YAML file, a sentence each; each check presumes those before it.

    In the order in which a reader would look: its format, fields, numbers, checksum, key, items.
    """
    version = data.get("format")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        yield (
            f"has format {version}, and this version of pytest-calibration reads format {FORMAT}; "
            "update pytest-calibration."
        )
    yield from _field_problems(data, _FIELDS)
    if version != FORMAT:
        yield f"format is {version}, expected {FORMAT}."
    yield from _value_problems(data)
    rules = (_checksum_or_none(data, as_spelled=spelled) for spelled in (False, True))
    if data["checksum"] not in rules:
        yield (
            "the checksum does not fit the values: they were edited by hand or mixed by a merge; "
            "restore the file from version control, or delete it and record again."
        )
    if (data["probe"], data["name"]) != (probe, name):
        yield (
            f"holds the baseline {quoted(data['name'])} of probe {quoted(data['probe'])}, expected "
            f"{quoted(name)} of {quoted(probe)}; rename the file back."
        )
    if "sharpness" in data:
        yield from _sharpness_problems(data["sharpness"])
    yield from _items_problems(data["items"], "items.")
    # Before the items of an anchor were kept, it was a summary only.
    if "items" in data["anchor"]:
        yield from _field_problems(data["anchor"], _ANCHOR_FIELDS, "anchor.")
        if data["anchor"]["steps"] < 0:
            yield f"anchor.steps must be at least 0, got {data['anchor']['steps']}."
        yield from _items_problems(data["anchor"]["items"], "anchor.items.")


def _items_problems(items: Mapping[str, Any], prefix: str) -> Iterator[str]:
    yield from _field_problems(items, _ITEMS_FIELDS, prefix)
    if not 0 < items["count"] <= MAX_ITEMS or items["unit"] not in ("item", "token"):
        count, unit = f"{prefix}count {items['count']}", f"{prefix}unit {quoted(items['unit'])}"
        yield f"{count} or {unit} cannot be."
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}\.npz", items["file"]):
        yield f"{prefix}file {quoted(items['file'])} must be a plain file name."


def _field_problems(
    data: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], prefix: str = ""
) -> Iterator[str]:
    for key in data:
        if key not in types:
            name = visible(str(key), MOST_QUOTED)
            yield f"unknown field {prefix}{name}; known fields: {', '.join(types)}."
    for key, allowed in types.items():
        if key not in data:
            if prefix or key not in ADDED_LATER:
                yield f"the field {prefix}{key} is missing."
        # bool is an int to Python, never to a reader.
        elif isinstance(data[key], bool) or not isinstance(data[key], allowed):
            names = " or ".join(_TYPE_NAMES[t] for t in allowed)
            yield f"{prefix}{key} must be {names}, got {quoted(data[key])}."


def _value_problems(data: Mapping[str, Any]) -> Iterator[str]:
    metrics = {f"metrics.{key}": value for key, value in data["metrics"].items()}
    for key, value in {"noise_floor": data["noise_floor"], **metrics}.items():
        if not _is_finite(value):
            yield f"{visible(key, MOST_QUOTED)} must be a finite number, got {quoted(value)}."
    tolerance, limit = data["tolerance"], data["limit"]
    problem = "" if tolerance is None else range_error("tolerance", tolerance)
    if problem:
        yield f"tolerance {problem}."
    if limit is not None and not 0 <= limit <= 1:
        yield f"limit must be a number in [0, 1], got {limit}."
    for part in ("hard", "soft"):
        entries = data["signature"].get(part)
        texts = [*entries.keys(), *entries.values()] if isinstance(entries, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            yield f"signature.{part} must map text to text, got {quoted(entries)}."


def _sharpness_problems(data: Mapping[str, Any]) -> Iterator[str]:
    known = sorted(f.name for f in fields(Sharpness))
    for key, value in data.items():
        if key not in known:
            name = visible(str(key), MOST_QUOTED)
            yield f"unknown field sharpness.{name}; known fields: {', '.join(known)}."
        listed = isinstance(value, list)
        if not all(map(_is_finite, value if listed else [value])):
            yield f"sharpness.{key} must be finite numbers, got {quoted(value)}."
        if listed is not (key == "answers"):
            expected = "a list of numbers" if key == "answers" else "a number"
            yield f"sharpness.{key} must be {expected}, got {quoted(value)}."
    if "share_confident" not in data:
        yield "the field sharpness.share_confident is missing."


def _is_finite(value: object) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and abs(value) < math.inf


def _checksum_or_none(
    data: Mapping[str, Any], *left_out: Collection[str], as_spelled: bool = False
) -> str | None:
    """Return the checksum, or None for what no record can hold (a date, a list within itself)."""
    try:
        return checksum(data, *left_out, as_spelled=as_spelled)
    except (TypeError, ValueError, RecursionError):
        return None


def stored_bytes(record: Record) -> bytes:
    """Return the content of the items file of a record."""
    items = record.data["items"]
    file = record.path.with_name(items["file"])
    return read_file(file, most_bytes(items["count"]), UnreadableBaseline)


def _read_items(path: Path, data: Mapping[str, Any], items: Mapping[str, Any]) -> Predictions:
    file = path.with_name(items["file"])
    if not file.exists():
        raise UnreadableBaseline(
            f"{path}: its items file {file.name} is missing; restore it from version control "
            "(both files belong together), or delete the baseline and record again."
        )
    payload = read_file(file, most_bytes(items["count"]), UnreadableBaseline)
    if hashlib.sha256(payload).hexdigest() != items["sha256"]:
        raise UnreadableBaseline(
            f"{file}: is not the file that {path.name} was written with (its digest differs); "
            "restore both from version control, or delete the baseline and record again."
        )
    try:
        signature = Signature(data["signature"]["hard"], data["signature"]["soft"])
        return items_from(
            payload, items["count"], probe=data["probe"], unit=items["unit"], signature=signature
        )
    except Exception as problem:  # crafted bytes fail in many ways, which all mean the same
        raise UnreadableBaseline(f"{file}: does not hold the items ({problem}).") from None


def read_unchecked(path: Path) -> Mapping[str, Any]:
    """Return the content of a YAML file; empty where it cannot be read."""
    try:
        return read_mapping(path, UnreadableBaseline)
    except UnreadableBaseline:
        return {}


def stored_state(path: Path) -> str:
    """Digest all that a YAML file says, hand edits too; empty where there is no file."""
    if not os.path.lexists(path):
        return ""
    # What cannot be read equals nothing that was read before.
    return _state_of(read_unchecked(path))


def _state_of(data: Mapping[str, Any]) -> str:
    # As `read_record` reads a key with nothing behind it.
    if data.get("note", "") is None:
        data = {**data, "note": ""}
    return _checksum_or_none(data, ()) or "unreadable"


def is_record(path: Path) -> bool:
    """Whether a YAML file has the fields of a record."""
    return _FIELDS.keys() - ADDED_LATER <= read_unchecked(path).keys()


def stored_n(path: Path) -> int:
    """Return the n of a record without checking the rest; 0 where there is none."""
    n = read_unchecked(path).get("n")
    return n if isinstance(n, int) else 0
