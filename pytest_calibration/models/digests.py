"""Digests of values, and of the code in this package that makes answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any, Final

from pytest_calibration.version import __version__

# How Python writes an object that has no text of its own.
_ADDRESS: Final = re.compile(r"\bat 0x[0-9a-fA-F]+")


class Digest:
    """Collects values, each separated from its neighbours.

    Attributes:
        stable: whether the same values give the same digest in another process.
        exact: whether all counted by value, so that other values give another digest.
    """

    def __init__(self, *values: object, size: int = 32) -> None:
        self._state = hashlib.blake2b(digest_size=size)
        self.stable = self.exact = True
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        """Add text, bytes, numbers, None, arrays, mappings, sequences and sets, by value.

        Anything else counts by its type and ``repr``; where that holds an address in memory, the
        digest is not ``stable``.
        """
        if isinstance(value, str):
            # JSON may hold half a surrogate pair, which is text too.
            self._put(b"s", value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, bytes):
            self._put(b"b", value)
        elif value is None or isinstance(value, bool | int | float):
            self._put(b"v", repr(value).encode())
        elif isinstance(value, Mapping):
            self._put(b"m", str(len(value)).encode())
            for key in sorted(value, key=repr):
                self.add(key)
                self.add(value[key])
        elif isinstance(value, Set):
            self.exact &= all(isinstance(one, str | bytes | int | float) for one in value)
            self._put(b"e", repr(sorted(map(repr, value))).encode())
        elif isinstance(value, Sequence):
            self._put(b"l", str(len(value)).encode())
            for item in value:
                self.add(item)
        elif hasattr(value, "tobytes") and hasattr(value, "tolist") and hasattr(value, "dtype"):
            # What numpy writes of a long array leaves out its middle.
            is_plain = value.dtype.kind != "O"
            self._put(b"a", f"{value.dtype.str} {value.shape}".encode())
            self.add(value.tobytes() if is_plain else value.tolist())
        else:
            self.exact = False
            text = f"{type(value).__module__}.{type(value).__qualname__} {value!r}"
            self.stable &= _ADDRESS.search(text) is None
            self._put(b"r", text.encode("utf-8", "surrogatepass"))

    def _put(self, kind: bytes, data: bytes) -> None:
        self._state.update(kind + len(data).to_bytes(8, "little"))
        self._state.update(data)

    def bytes(self) -> bytes:
        """Return the digest."""
        return self._state.digest()

    def text(self) -> str:
        """Return the digest in hexadecimal digits."""
        return self._state.hexdigest()


@cache
def code_digest(folder: Path = Path(__file__).parent) -> str:
    """Digest the code of this package's models, so that no answer of older code is used.

    A version number for it, raised by hand, would be forgotten some day.
    """
    state = hashlib.blake2b(__version__.encode(), digest_size=16)
    for file in sorted(folder.rglob("*.py")):
        state.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return state.hexdigest()
