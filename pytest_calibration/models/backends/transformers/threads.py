"""How torch's threads wait for each other, decided before torch is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SPINS: Final = "GOMP_SPINCOUNT"
# A few microseconds: as fast as spinning on, on a quiet machine, and half as slow on a busy one.
FEW: Final = "1000"
# Whoever sets one of these has decided already.
_DECIDED: Final = (SPINS, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")


@contextmanager
def patient_threads() -> Iterator[None]:
    """Let the threads of a torch that is imported here sleep soon while they wait.

    Scoring is many short steps, and at the end of each the threads wait for the slowest. OpenMP
    lets them spin for milliseconds, which on a machine with other work takes the processor from the
    very thread that all are waiting for. GNU's OpenMP, which the wheels of torch bring along, reads
    the setting once, when it is loaded; what this process starts later does not inherit it.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _DECIDED):
        yield
        return
    os.environ[SPINS] = FEW
    try:
        yield
    finally:
        os.environ.pop(SPINS, None)
