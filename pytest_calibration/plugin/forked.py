"""What child processes that a test forked conclude: it comes back through an open file.

A child of ``fork`` is a copy of the test's process, with a copy of its sink that nobody reads. The
open file is no copy: parent and children share it, and the system keeps their writes apart.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any


class Forked:
    """The way from the children of this process to itself; there is none without ``fork``."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._file = tempfile.TemporaryFile() if hasattr(os, "fork") else None  # noqa: SIM115
        self._read = 0

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def in_child(self) -> bool:
        """Whether this is a child of the process that made this object."""
        return os.getpid() != self._pid

    def send(self, message: dict[str, Any]) -> None:
        """Send what JSON can hold, from a child."""
        if self._file is not None:
            # One write, so that the lines of two children do not mix.
            os.write(self._file.fileno(), f"{json.dumps(message)}\n".encode("ascii"))

    def received(self) -> list[dict[str, Any]]:
        """Return the messages that have come in since the last call."""
        if self._file is None or self.in_child:
            return []
        handle = self._file.fileno()
        # Where the next write goes is shared too: reading must not move it.
        new = os.pread(handle, os.fstat(handle).st_size - self._read, self._read)
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
