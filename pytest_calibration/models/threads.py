"""How torch's threads wait for each other, decided before torch is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WAIT_POLICY: Final = "OMP_WAIT_POLICY"
# Whoever sets one of these has decided already.
_DECIDED: Final = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


@contextmanager
def patient_threads() -> Iterator[None]:
    """Let the threads of a torch that is imported here sleep while they wait, not spin.

    Scoring is many short steps, and at the end of each the threads wait for the slowest. OpenMP
    lets them spin, which on a machine with other work takes the processor from the very thread that
    all are waiting for. OpenMP reads the setting once, when it is loaded; what this process starts
    later does not inherit it.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _DECIDED):
        yield
        return
    os.environ[WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        os.environ.pop(WAIT_POLICY, None)
