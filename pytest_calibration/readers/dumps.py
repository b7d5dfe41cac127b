"""What ``--calibration-dump`` and ``write_dump`` wrote."""

from __future__ import annotations

from pathlib import Path

from pytest_calibration.predictions import Predictions
from pytest_calibration.readers.first_line import first_object
from pytest_calibration.reports.dump import ENDING, read_dump

# In every line of a dump; a table of others has hardly all of them.
ALWAYS = frozenset({"probe", "id", "confidence", "correct"})


def claims(path: Path) -> bool:
    """Whether the first line is one of a dump."""
    if path.suffix.lower() != ENDING:
        return False
    first = first_object(path)
    if first is None or not first.keys() >= ALWAYS:
        return False
    name = first["id"]
    return isinstance(name, str) and len(name) == 16 and not set(name) - set("0123456789abcdef")


def read(path: Path) -> list[Predictions]:
    """Return the predictions of a dump.

    Raises:
        PredictionsError: as :func:`read_dump`.
    """
    return [read_dump(path)]
