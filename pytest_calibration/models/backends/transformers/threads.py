"""How torch's threads wait for each other, set before torch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SPINS: Final = "GOMP_SPINCOUNT"
# A few microseconds: as fast as spinning on an idle machine, and twice as fast on a busy one.
FEW: Final = "1000"
# The user has decided where one of these is set.
_DECIDED: Final = (SPINS, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")


@contextmanager
def patient_threads() -> Iterator[None]:
    """Let the threads of a torch that is imported in this block sleep soon while they wait.

    Scoring is many short steps, and after each the threads wait for the slowest. OpenMP lets them
    spin for milliseconds, which on a busy machine takes the processor from the thread that all wait
    for. GNU's OpenMP, which is in the wheels of torch, reads the setting once, when it is loaded;
    processes started later do not inherit it.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _DECIDED):
        yield
        return
    os.environ[SPINS] = FEW
    try:
        yield
    finally:
        os.environ.pop(SPINS, None)
