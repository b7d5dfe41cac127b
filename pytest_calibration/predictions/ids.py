"""Ids that pair an item with itself in another run, and short digests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pytest_calibration.predictions.arrays import IdArray


def digest(*parts: object, size: int = 8) -> str:
    """Return a short hexadecimal digest of the parts; ("ab", "c") and ("a", "bc") differ.

    Args:
        parts: anything whose ``str`` (or bytes) identifies it.
        size: number of bytes; the text has twice as many characters.
    """
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part if isinstance(part, bytes) else _encode(part)
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def _encode(part: object) -> bytes:
    # Text from JSON may hold half a surrogate pair.
    return str(part).encode("utf-8", "surrogatepass")


def hash_ids(ids: Sequence[object], salt: str) -> IdArray:
    """Hash item ids to 64 bits each; the salt keeps a published baseline from revealing items."""
    prefix = hashlib.blake2b(_encode(salt), digest_size=8)
    out = np.empty(len(ids), dtype=np.uint64)
    for i, item in enumerate(ids):
        state = prefix.copy()
        state.update(_encode(item))
        out[i] = int.from_bytes(state.digest(), "little")
    return out


def positional_ids(n: int) -> IdArray:
    """Return n distinct, well mixed ids that depend on the position alone (splitmix64)."""
    z = (np.arange(1, n + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
