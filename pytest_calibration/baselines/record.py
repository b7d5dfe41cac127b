"""One stored baseline: a summary made to be reviewed, and the items a paired gate needs.

The YAML holds at most 60 lines. ``note``, ``tolerance`` and ``limit`` may be edited by hand; a
checksum covers everything else, because a clean merge of two branches can still mix two records.
The items (id hash, float32 confidence, outcome, group) lie in an ``.npz`` beside it that the YAML
names by digest, so that a swapped file is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError, UnreadableBaseline
from pytest_calibration.gate.planning import smallest_visible_unpaired
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS, bin_table, metric_named
from pytest_calibration.metrics.sharpness import Sharpness, sharpness
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.strict_yaml import read_mapping

FORMAT: Final = 1
# Tokens of one document say little more than a sample of them; a baseline stays small.
MAX_TOKENS: Final = 4000
MAX_ITEMS: Final = 10_000_000
MAX_SUPERSEDED: Final = 3
DIGITS: Final = 6
# A file made to be reviewed: the numbers a reviewer reads, whatever else can be computed.
STORED_METRICS: Final = (
    "ece",
    "equal_mass_ece",
    "mce",
    "brier",
    "nll",
    "accuracy",
    "mean_confidence",
    "signed_gap",
)
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
        anchor: summary of the first accepted value, against which creep shows.
        superseded: summaries of what was replaced, newest first, each with its reason.
        data: the whole decoded file.
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
    superseded: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


# --- writing -------------------------------------------------------------------------------------


def items_of(predictions: Predictions) -> Predictions:
    """Return the items that are stored: all, or a deterministic sample of a token-level probe."""
    return predictions.limited(MAX_TOKENS) if predictions.unit == "token" else predictions


def items_bytes(predictions: Predictions) -> bytes:
    """Encode the stored items: 13 bytes each, 4 more where there are groups."""
    arrays: dict[str, NDArray[Any]] = {
        "ids": predictions.item_ids,
        "confidence": predictions.confidence.astype(np.float32),
        "correct": predictions.correct.astype(np.uint8),
    }
    if predictions.groups is not None:
        arrays["groups"] = np.unique(predictions.groups, return_inverse=True)[1].astype(np.int32)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            # Not compressed: ids and confidences are noise to a compressor. With a fixed date and
            # system, equal items are the same bytes at every time and on every machine.
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def summarise(
    predictions: Predictions,
    name: str,
    items_file: Callable[[str], str],
    *,
    previous: Record | None = None,
    reason: str | None = None,
) -> tuple[Summary, bytes]:
    """Return the content of the YAML file, and the bytes of the items file it names.

    Args:
        predictions: what is stored.
        name: name of the baseline.
        items_file: gives the name of the items file from the first 12 digits of its digest.
        previous: the record that is replaced; its anchor, hand edits and history are kept.
        reason: why it is replaced.
    """
    payload = items_bytes(items_of(predictions))
    sha = hashlib.sha256(payload).hexdigest()
    measured = measure(predictions)
    table = bin_table(predictions)
    metrics = {
        metric: _rounded(metric_named(metric)(predictions), metric)
        for metric in STORED_METRICS
        if metric_named(metric).applies_to(predictions)
    }
    brief = {k: metrics[k] for k in ("ece", "accuracy", "signed_gap")} | {"n": len(predictions)}
    summary: Summary = {
        "format": FORMAT,
        "probe": predictions.probe,
        "name": name,
        "n": len(predictions),
        "metrics": metrics,
        "interval": {"ece": [_rounded(measured.low), _rounded(measured.high)], "level": 0.95},
        "noise_floor": _rounded(measured.noise_floor),
        "sharpness": _sharpness(predictions),
        "smallest_visible_regression": _rounded(smallest_visible_unpaired(predictions)),
        "binning": {"bins": DEFAULT_BINS, "strategy": "equal_width"},
        "bins": [
            {
                "to": _rounded(float(table.upper[b])),
                "n": int(table.count[b]),
                "confidence": _rounded(float(table.confidence[b])),
                "accuracy": _rounded(float(table.accuracy[b])),
            }
            for b in range(len(table))
            if table.count[b]
        ],
        "signature": {
            "hard": dict(sorted(predictions.signature.hard.items())),
            "soft": dict(sorted(predictions.signature.soft.items())),
        },
        "items": {
            "file": items_file(sha[:12]),
            "sha256": sha,
            "count": len(items_of(predictions)),
            "unit": predictions.unit,
            "set": predictions.items_digest,
        },
        "anchor": brief,
        "superseded": [],
        "note": "",
        "tolerance": None,
        "limit": None,
    }
    if previous is not None:
        old = {k: previous.metrics.get(k) for k in ("ece", "accuracy", "signed_gap")}
        entry = {
            "reason": reason or "",
            **old,
            "n": previous.n,
            "model": previous.predictions.signature.soft.get("model", ""),
        }
        summary["anchor"] = dict(previous.anchor)
        summary["superseded"] = [entry, *map(dict, previous.superseded)][:MAX_SUPERSEDED]
        for key in HAND_EDITED:
            summary[key] = previous.data.get(key, summary[key])
    summary["checksum"] = checksum(summary)
    return summary, payload


def _sharpness(predictions: Predictions) -> Summary:
    """Return what does apply, for a line of the file."""
    held = sharpness(predictions)
    numbers = {
        "share_confident": held.share_confident,
        "mean_entropy": held.mean_entropy,
        "option_mass": held.option_mass,
    }
    out: Summary = {k: _rounded(v, k) for k, v in numbers.items() if v is not None}
    if held.answers:
        out["answers"] = [_rounded(share) for share in held.answers]
    return out


def _rounded(value: float, what: str = "a number") -> float:
    if not math.isfinite(value):
        raise PredictionsError(f"a baseline holds finite numbers only, and {what} is {value}.")
    return round(value, DIGITS)


def checksum(summary: Mapping[str, Any]) -> str:
    """Digest everything but the hand-editable fields, whatever the order of the keys."""
    covered = {k: v for k, v in summary.items() if k not in (*HAND_EDITED, "checksum")}
    text = json.dumps(covered, sort_keys=True, ensure_ascii=False, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_BLOCKS: Final = ("metrics", "bins", "superseded")
# More fields than this stand in two lines, so that the file keeps to 60.
MAX_SIGNATURE_LINES: Final = 12


class _Dumper(yaml.SafeDumper):
    """Writes text with line breaks in one line, quoted and escaped."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(sign in value for sign in "\n\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)


def _dump(value: Any, *, flow: bool) -> str:
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow,
        sort_keys=False,
        width=10**6,
        allow_unicode=True,
    )
    return text


def to_yaml(summary: Summary) -> str:
    """Write the summary with one line per thing a reviewer reads."""
    parts = [HEADER]
    for key, value in summary.items():
        if key in _BLOCKS and value:
            # One line per entry: a change shows as one changed line in a diff.
            entries = value.items() if isinstance(value, dict) else ((None, v) for v in value)
            parts.append(f"{key}:\n")
            for label, entry in entries:
                lead = f"  {label}: " if label is not None else "  - "
                parts.append(f"{lead}{_inline(entry)}\n")
        elif key == "signature":
            if sum(map(len, value.values())) <= MAX_SIGNATURE_LINES:
                parts.append(_dump({key: value}, flow=False))
            else:
                parts.append(f"{key}:\n")
                parts.extend(f"  {part}: {_inline(value[part])}\n" for part in value)
        else:
            parts.append(f"{key}: {_inline(value)}\n")
    return "".join(parts)


def _inline(value: Any) -> str:
    return _dump(value, flow=True).removesuffix("...\n").rstrip("\n")


# --- reading -------------------------------------------------------------------------------------

_NUMBER: Final = (int, float)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "format": (int,),
    "probe": (str,),
    "name": (str,),
    "n": (int,),
    "metrics": (dict,),
    "interval": (dict,),
    "noise_floor": _NUMBER,
    "sharpness": (dict,),
    "smallest_visible_regression": _NUMBER,
    "binning": (dict,),
    "bins": (list,),
    "signature": (dict,),
    "items": (dict,),
    "anchor": (dict,),
    "superseded": (list,),
    "note": (str,),
    "tolerance": (*_NUMBER, type(None)),
    "limit": (*_NUMBER, type(None)),
    "checksum": (str,),
}
_ITEMS_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "file": (str,),
    "sha256": (str,),
    "count": (int,),
    "unit": (str,),
    "set": (str,),
}
_ARRAYS: Final = {
    "ids": np.dtype(np.uint64),
    "confidence": np.dtype(np.float32),
    "correct": np.dtype(np.uint8),
    "groups": np.dtype(np.int32),
}


def read_record(path: Path, probe: str, name: str) -> Record:
    """Read and check one record.

    Every way in which a stored baseline can be bad is told here, in the order in which a reader
    would look: the file, its format, its fields, its checksum, its key, its items.

    Raises:
        UnreadableBaseline: with what is wrong and what to do; nothing is written.
    """
    data = read_mapping(path, UnreadableBaseline)
    version = data.get("format")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise UnreadableBaseline(
            f"{path}: has format {version}, and this version of pytest-calibration reads format "
            f"{FORMAT}; update pytest-calibration."
        )
    _check_fields(path, data, _TYPES, "")
    if data["format"] != FORMAT:
        raise UnreadableBaseline(f"{path}: format is {data['format']}, expected {FORMAT}.")
    _check_numbers(path, data)
    if _checksum_or_none(data) != data["checksum"]:
        raise UnreadableBaseline(
            f"{path}: the checksum does not fit the values: they were edited by hand or mixed by a "
            "merge; restore the file from version control, or delete it and record again."
        )
    if (data["probe"], data["name"]) != (probe, name):
        raise UnreadableBaseline(
            f"{path}: holds the baseline {data['name']!r} of probe {data['probe']!r}, expected "
            f"{name!r} of {probe!r}; rename the file back."
        )
    return Record(
        path=path,
        probe=probe,
        name=name,
        metrics=data["metrics"],
        sharpness=_read_sharpness(path, data["sharpness"]),
        predictions=_read_items(path, data),
        n=data["n"],
        note=data["note"],
        tolerance=data["tolerance"],
        limit=data["limit"],
        anchor=data["anchor"],
        superseded=tuple(data["superseded"]),
        data=data,
    )


def _checksum_or_none(data: Mapping[str, Any]) -> str | None:
    """Return the checksum, or None for what no record can hold (a date, a list within itself)."""
    try:
        return checksum(data)
    except (TypeError, ValueError, RecursionError):
        return None


def _check_fields(
    path: Path, data: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], prefix: str
) -> None:
    for key in data:
        if key not in types:
            raise UnreadableBaseline(
                f"{path}: unknown field {prefix}{key}; known fields: {', '.join(types)}."
            )
    for key, allowed in types.items():
        if key not in data:
            raise UnreadableBaseline(f"{path}: the field {prefix}{key} is missing.")
        value = data[key]
        # bool is an int to Python, never to a reader.
        if isinstance(value, bool) or not isinstance(value, allowed):
            names = " or ".join("nothing" if t is type(None) else _WORDS[t] for t in allowed)
            raise UnreadableBaseline(f"{path}: {prefix}{key} must be {names}, got {value!r}.")


_WORDS: Final[dict[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
}


def _check_numbers(path: Path, data: Mapping[str, Any]) -> None:
    numbers = {
        "noise_floor": data["noise_floor"],
        "tolerance": data["tolerance"],
        "limit": data["limit"],
        **{f"metrics.{k}": v for k, v in data["metrics"].items()},
    }
    for key, value in numbers.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, _NUMBER) or not math.isfinite(value):
            raise UnreadableBaseline(f"{path}: {key} must be a finite number, got {value!r}.")
    if data["tolerance"] is not None and not 0 <= data["tolerance"] < 1:
        raise UnreadableBaseline(
            f"{path}: tolerance must be at least 0 and below 1, got {data['tolerance']}."
        )
    if data["limit"] is not None and not 0 <= data["limit"] <= 1:
        raise UnreadableBaseline(f"{path}: limit must lie in [0, 1], got {data['limit']}.")
    signature = data["signature"]
    for part in ("hard", "soft"):
        fields = signature.get(part)
        if not isinstance(fields, dict) or not all(
            isinstance(k, str) and isinstance(v, str) for k, v in fields.items()
        ):
            raise UnreadableBaseline(
                f"{path}: signature.{part} must map text to text, got {fields!r}."
            )
    _check_fields(path, data["items"], _ITEMS_TYPES, "items.")


def _read_sharpness(path: Path, data: Mapping[str, Any]) -> Sharpness:
    known = {f.name for f in fields(Sharpness)}
    for key, value in data.items():
        if key not in known:
            raise UnreadableBaseline(
                f"{path}: unknown field sharpness.{key}; known fields: {', '.join(sorted(known))}."
            )
        listed = value if isinstance(value, list) else [value]
        for one in listed:
            if isinstance(one, bool) or not isinstance(one, _NUMBER) or not math.isfinite(one):
                raise UnreadableBaseline(
                    f"{path}: sharpness.{key} must be finite numbers, got {value!r}."
                )
        if isinstance(value, list) is not (key == "answers"):
            what = "a list of numbers" if key == "answers" else "a number"
            raise UnreadableBaseline(f"{path}: sharpness.{key} must be {what}, got {value!r}.")
    if "share_confident" not in data:
        raise UnreadableBaseline(f"{path}: the field sharpness.share_confident is missing.")
    return Sharpness(
        share_confident=float(data["share_confident"]),
        mean_entropy=_optional(data, "mean_entropy"),
        option_mass=_optional(data, "option_mass"),
        answers=tuple(map(float, data.get("answers", ()))),
    )


def _optional(data: Mapping[str, Any], key: str) -> float | None:
    return float(data[key]) if key in data else None


def _read_items(path: Path, data: Mapping[str, Any]) -> Predictions:
    said = data["items"]
    count, unit = said["count"], said["unit"]
    if not 0 < count <= MAX_ITEMS or unit not in ("item", "token"):
        raise UnreadableBaseline(f"{path}: items.count {count} or items.unit {unit!r} cannot be.")
    if not re.fullmatch(r"[A-Za-z0-9._-]+\.npz", said["file"]):
        raise UnreadableBaseline(f"{path}: items.file {said['file']!r} must be a plain file name.")
    file = path.with_name(said["file"])
    bound = 64 * count + 65536
    try:
        if file.stat().st_size > bound:
            raise UnreadableBaseline(
                f"{file}: is larger than {count:,} items can be ({bound:,} bytes)."
            )
        payload = file.read_bytes()
    except OSError:
        raise UnreadableBaseline(
            f"{path}: its items file {said['file']} is missing; restore it from version control "
            "(both files belong together), or delete the baseline and record again."
        ) from None
    if hashlib.sha256(payload).hexdigest() != said["sha256"]:
        raise UnreadableBaseline(
            f"{file}: is not the file that {path.name} was written with (its digest differs); "
            "restore both from version control, or delete the baseline and record again."
        )
    try:
        arrays = _load_arrays(payload, count, bound)
        return Predictions(
            probe=data["probe"],
            confidence=arrays["confidence"].astype(np.float64),
            correct=arrays["correct"].astype(np.bool_),
            item_ids=arrays["ids"],
            groups=arrays["groups"].astype(np.str_) if "groups" in arrays else None,
            unit=unit,
            signature=Signature(data["signature"]["hard"], data["signature"]["soft"]),
        )
    except Exception as problem:  # crafted bytes fail in many ways, which all mean the same
        raise UnreadableBaseline(f"{file}: does not hold the items ({problem}).") from None


def _load_arrays(payload: bytes, count: int, bound: int) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > bound:
            raise ValueError("it unpacks to more than its items need")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for key, array in arrays.items():
        if key not in _ARRAYS or array.dtype != _ARRAYS[key]:
            raise ValueError(f"unexpected array {key} of {array.dtype}")
        if array.shape != (count,):
            raise ValueError(f"{key} has shape {array.shape} for {count:,} items")
    return arrays


def is_record(path: Path) -> bool:
    """Whether a YAML file has the fields of a record; one that cannot be read has not."""
    try:
        return set(read_mapping(path, UnreadableBaseline)) >= {*_TYPES}
    except UnreadableBaseline:
        return False


def stored_n(path: Path) -> int:
    """Return the n of a record without checking the rest; 0 where it says none."""
    try:
        n = read_mapping(path, UnreadableBaseline).get("n")
    except UnreadableBaseline:
        return 0
    return n if isinstance(n, int) else 0
