"""Items as files keep them: id hash, float32 confidence, outcome and group, in one ``.npz`` file.

Equal items are equal bytes at every time and on every machine, so that a digest names the content.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.predictions.arrays import coded
from pytest_calibration.predictions.predictions import Predictions, Unit
from pytest_calibration.predictions.signature import Signature

# A token-level probe stores a sample of its tokens: a stored file stays small.
MAX_TOKENS: Final = 4000
MAX_ITEMS: Final = 10_000_000
_ARRAYS: Final = {
    "ids": np.dtype(np.uint64),
    "confidence": np.dtype(np.float32),
    "correct": np.dtype(np.uint8),
    "groups": np.dtype(np.int32),
}


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
        arrays["groups"] = coded(predictions.groups)[1].astype(np.int32)
    buffer = io.BytesIO()
    # No `with`: leaving it in the middle of an entry raises an error of its own, over Ctrl-C.
    archive = zipfile.ZipFile(buffer, "w")
    for key, array in arrays.items():
        content = io.BytesIO()
        np.lib.format.write_array(content, array, allow_pickle=False)
        # Not compressed: ids and confidences do not shrink. With a fixed date and system,
        # equal items are the same bytes at every time and on every machine.
        entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        entry.create_system = 3
        archive.writestr(entry, content.getvalue())
    archive.close()
    return buffer.getvalue()


def most_bytes(count: int) -> int:
    """Return the bytes that a file of so many items may have."""
    return 64 * count + 65536


def items_from(
    payload: bytes, count: int, *, probe: str, unit: Unit, signature: Signature
) -> Predictions:
    """Return the items that a file holds.

    Args:
        payload: the content of the file, as :func:`items_bytes` encodes it.
        count: number of items that must be there.
        probe: name of their probe.
        unit: what one item is.
        signature: settings that produced them.

    Raises:
        Exception: of any kind, which crafted bytes may cause; all mean that these are no items.
    """
    arrays = _load_arrays(payload, count)
    return Predictions(
        probe=probe,
        confidence=arrays["confidence"].astype(np.float64),
        correct=arrays["correct"].astype(np.bool_),
        item_ids=arrays["ids"],
        groups=arrays.get("groups"),
        unit=unit,
        signature=signature,
    )


def _load_arrays(payload: bytes, count: int) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > most_bytes(count):
            raise ValueError("it unpacks to more than its items need")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for key, array in arrays.items():
        if key not in _ARRAYS or array.dtype != _ARRAYS[key]:
            raise ValueError(f"unexpected array {key} of {array.dtype}")
        if array.shape != (count,):
            raise ValueError(f"{key} has shape {array.shape} for {count:,} items")
    return arrays
